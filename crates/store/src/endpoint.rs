//! Where a bucket is: the endpoint's URL and the region that requests are signed for.
//!
//! In: what the user gave. Out: a [`Place`]. Backblaze's region stands in the endpoint's name; a key
//! without either is looked up by the native `b2_authorize_account`. For others the region is
//! given, or asked of the bucket without signing, or the default.

use data_encoding::BASE64;
use http::Method;
use url::{Host, Url};

use crate::answer::{Answer, Asked, Verdict, is_region, judge};
use crate::http::Wire;
use crate::retry::Failure;
use crate::{Error, Listing, Result, Secret};

/// Backblaze's native API, which knows the S3 endpoint of a key.
const B2_API: &str = "https://api.backblazeb2.com";
const REGION_DEFAULT: &str = "us-east-1";

/// Which storage a bucket is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An S3 endpoint: `https://host[:port]`, or `http://` to this machine.
    Url(String),
    /// Amazon's own.
    Aws,
    /// Backblaze B2; `api` is the base of the native API, asked where no region is given.
    B2 {
        /// `https://api.backblazeb2.com`, or a test's server on this machine.
        api: String,
    },
}

impl Endpoint {
    /// Backblaze B2.
    pub fn b2() -> Self {
        Self::B2 { api: B2_API.to_owned() }
    }

    /// What its operator promises of listings: Amazon S3 and Google Cloud Storage document that they
    /// are strongly consistent; of Backblaze B2 no statement was found.
    pub(crate) fn listing(&self) -> Listing {
        match self {
            Self::Aws => Listing::Documented,
            Self::B2 { .. } => Listing::Unpublished,
            Self::Url(base) => {
                let host = check_url(base).ok().and_then(|url| url.host_str().map(str::to_owned));
                let promised = |host: String| {
                    host.ends_with(".amazonaws.com") || host == "storage.googleapis.com"
                };
                if host.is_some_and(promised) { Listing::Documented } else { Listing::Unpublished }
            }
        }
    }

    /// Whether everything about this endpoint stays on this machine.
    pub(crate) fn is_local(&self) -> Result<bool> {
        let base = match self {
            Self::Url(base) | Self::B2 { api: base } => base,
            Self::Aws => return Ok(false),
        };
        Ok(check_url(base)?.scheme() == "http")
    }
}

/// An endpoint and its region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) region: String,
}

impl Place {
    /// The same endpoint in the region the storage named.
    pub(crate) fn moved(endpoint: &Endpoint, place: &Self, region: &str) -> Self {
        let url = match endpoint {
            Endpoint::Aws => aws_url(region),
            _ => place.url.clone(),
        };
        Self { url, region: region.to_owned() }
    }
}

/// The place, as far as it is known without asking anybody.
pub(crate) fn known(endpoint: &Endpoint, region: Option<&str>) -> Result<Option<Place>> {
    if let Some(region) = region
        && !is_region(region)
    {
        return Err(Error::BadAddress(format!("{region:?} is not a region")));
    }
    let region = region.map(str::to_owned);
    Ok(match endpoint {
        Endpoint::Url(base) => {
            let url = check_url(base)?;
            let region = region.or_else(|| region_of(&url));
            let url = url.as_str().trim_end_matches('/').to_owned();
            region.map(|region| Place { url, region })
        }
        Endpoint::Aws => region.map(|region| Place { url: aws_url(&region), region }),
        Endpoint::B2 { .. } => region
            .map(|region| Place { url: format!("https://s3.{region}.backblazeb2.com"), region }),
    })
}

/// Asks where the bucket is.
pub(crate) async fn discover(
    wire: &Wire,
    endpoint: &Endpoint,
    bucket: &str,
    key: (&str, &Secret),
) -> Result<Place, Failure> {
    match endpoint {
        Endpoint::B2 { api } => authorize(wire, api, key).await,
        Endpoint::Aws => {
            let region = ask_bucket(wire, &aws_url(REGION_DEFAULT), bucket).await?;
            Ok(Place { url: aws_url(&region), region })
        }
        Endpoint::Url(base) => {
            let url = base.trim_end_matches('/').to_owned();
            let region = ask_bucket(wire, &url, bucket).await?;
            Ok(Place { url, region })
        }
    }
}

/// An unsigned HEAD of the bucket: whoever may not see it still learns its region.
async fn ask_bucket(wire: &Wire, url: &str, bucket: &str) -> Result<String, Failure> {
    let head = wire.ask(Method::HEAD, &format!("{url}/{bucket}"), None).await;
    let answer = head.map_err(|detail| Failure::Again { after: None, detail })?;
    match answer.status {
        500..=599 if answer.status != 501 => {
            Err(Failure::Again { after: answer.retry_after, detail: answer.detail() })
        }
        _ => Ok(answer.region().unwrap_or_else(|| REGION_DEFAULT.to_owned())),
    }
}

/// `b2_authorize_account`: which S3 endpoint a key belongs to.
async fn authorize(
    wire: &Wire,
    api: &str,
    (key_id, secret): (&str, &Secret),
) -> Result<Place, Failure> {
    let asked = ask_native(wire, api, (key_id, secret)).await;
    let answer = asked.map_err(|detail| Failure::Again { after: None, detail })?;
    if answer.status != 200 || answer.web_page {
        let asked =
            Asked { op: "authorize", name: "b2_authorize_account", end: None, address: api };
        return Err(match judge(&answer, asked) {
            Verdict::Failed(failure) => failure,
            Verdict::WrongRegion(_) => Failure::Again { after: None, detail: answer.detail() },
        });
    }
    let local = check_url(api).is_ok_and(|url| url.scheme() == "http");
    s3_place(&answer, local).ok_or_else(|| {
        let detail = "b2_authorize_account did not name an S3 endpoint".to_owned();
        Failure::Again { after: None, detail }
    })
}

async fn ask_native(
    wire: &Wire,
    api: &str,
    (key_id, secret): (&str, &Secret),
) -> Result<Answer, String> {
    let url = format!("{}/b2api/v3/b2_authorize_account", api.trim_end_matches('/'));
    let pair = zeroize::Zeroizing::new(format!("{key_id}:{}", secret.expose()));
    let basic = zeroize::Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
    wire.ask(Method::GET, &url, Some(&basic)).await
}

/// What a key of Backblaze may do; none for others, and where Backblaze does not say.
pub(crate) async fn capabilities(
    wire: &Wire,
    endpoint: &Endpoint,
    key: (&str, &Secret),
) -> Option<Vec<String>> {
    let api = match endpoint {
        Endpoint::B2 { api } => api.as_str(),
        Endpoint::Url(base) => {
            let url = check_url(base).ok()?;
            url.host_str()?.ends_with(".backblazeb2.com").then_some(B2_API)?
        }
        Endpoint::Aws => return None,
    };
    let answer = ask_native(wire, api, key).await.ok()?;
    crate::inquiry::capabilities(&answer.body).filter(|_| answer.status == 200)
}

/// Reads the S3 endpoint out of the answer. It must be Backblaze's, as the key is used there.
fn s3_place(answer: &Answer, local: bool) -> Option<Place> {
    let json: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
    let url = json.pointer("/apiInfo/storageApi/s3ApiUrl")?.as_str()?;
    let url = check_url(url).ok()?;
    let region = region_of(&url).filter(|_| url.as_str().ends_with(".backblazeb2.com/"));
    if local && url.scheme() == "http" {
        let url = url.as_str().trim_end_matches('/').to_owned();
        return Some(Place { url, region: region.unwrap_or_else(|| REGION_DEFAULT.to_owned()) });
    }
    let url = url.as_str().trim_end_matches('/').to_owned();
    region.map(|region| Place { url, region })
}

/// The region in the name of an endpoint whose names we know.
fn region_of(url: &Url) -> Option<String> {
    let Some(Host::Domain(host)) = url.host() else { return None };
    let label = |domain: &str| host.strip_prefix("s3.")?.strip_suffix(domain);
    let region = label(".backblazeb2.com").or_else(|| label(".amazonaws.com"))?;
    is_region(region).then(|| region.to_owned())
}

fn aws_url(region: &str) -> String {
    format!("https://s3.{region}.amazonaws.com")
}

/// An endpoint is `https://host[:port]`; plain HTTP only if it cannot leave this machine.
pub(crate) fn check_url(text: &str) -> Result<Url> {
    let bad = |why: &str| Err(Error::BadAddress(format!("endpoint: {why}")));
    let Ok(url) = Url::parse(text) else {
        return bad("not a URL like https://s3.example.org");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return bad("a key does not belong in the address");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return bad("nothing may follow the host");
    }
    let loopback = match url.host() {
        Some(Host::Domain(host)) => host == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return bad("no host"),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        "http" => bad("http is for this machine only; use https"),
        _ => bad("only https is known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(url: &str) -> Option<String> {
        known(&Endpoint::Url(url.to_owned()), None).unwrap().map(|place| place.region)
    }

    #[test]
    fn the_region_stands_in_the_endpoints_name() {
        assert_eq!(
            region("https://s3.us-west-004.backblazeb2.com").as_deref(),
            Some("us-west-004")
        );
        assert_eq!(region("https://s3.eu-west-1.amazonaws.com/").as_deref(), Some("eu-west-1"));
        assert_eq!(region("https://s3.amazonaws.com"), None);
        assert_eq!(region("https://minio.example.org:9000"), None);
        assert_eq!(region("https://s3.a.b.backblazeb2.com"), None);
        let b2 = known(&Endpoint::b2(), Some("us-east-005")).unwrap().unwrap();
        assert_eq!(b2.url, "https://s3.us-east-005.backblazeb2.com");
        assert!(known(&Endpoint::b2(), Some("evil.example/")).is_err());
    }

    #[test]
    fn a_key_never_travels_in_plain_http_beyond_this_machine() {
        for good in ["http://127.0.0.1:9000", "http://localhost:1", "http://[::1]:1", "https://x.y"]
        {
            assert!(check_url(good).is_ok(), "{good}");
        }
        let bad = ["http://10.0.0.1", "http://s3.example.org", "ftp://x", "https://x/bucket", "x"];
        for bad in bad {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        let e = check_url("https://id:hunter2@x.y").unwrap_err().to_string();
        assert!(!e.contains("hunter2"), "{e}");
    }

    #[test]
    fn a_false_native_api_cannot_send_the_key_elsewhere() {
        let answer = |url: &str| Answer {
            status: 200,
            body: format!(r#"{{"apiInfo":{{"storageApi":{{"s3ApiUrl":"{url}"}}}}}}"#),
            ..Answer::default()
        };
        let good = s3_place(&answer("https://s3.us-west-004.backblazeb2.com"), false).unwrap();
        assert_eq!(good.region, "us-west-004");
        for bad in ["https://s3.evil.example", "http://127.0.0.1:1", "", "https://evil"] {
            assert_eq!(s3_place(&answer(bad), false), None, "{bad}");
        }
    }
}
