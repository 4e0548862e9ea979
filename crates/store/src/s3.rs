//! A bucket as a store: any S3 endpoint, Backblaze B2 first of all.
//!
//! In: object names under the bucket's prefix, and bytes. Out: requests of `object_store`, set up for what B2
//! does not have: no conditional PUT (501), no bulk delete, no tags, no checksum headers; path style;
//! payloads signed, which B2 checks. Nothing is read from the environment: somebody's `AWS_*` must
//! not send a backup elsewhere.
//!
//! Invariants: one PUT is one object; at most [`IN_FLIGHT_MAX`] requests run; a call ends with the
//! storage's final word or when the retry budget is spent. All async stays in here, on a small runtime that the
//! first call builds. Call from plain threads only: inside of an async runtime a call panics.

mod foreign;

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ::http::Method;
use ::http::header::{CONTENT_LENGTH, DATE, IF_NONE_MATCH};
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, S3ConditionalPut};
use object_store::client::{HttpRequestBody, HttpService};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use url::form_urlencoded;

use crate::answer::{Answer, Asked, Verdict, judge, short};
use crate::endpoint::{self, Endpoint, Place};
use crate::http::{self, Counters, SEEN, Seen, Usage, Wire, root_cause};
use crate::inquiry::{self, Told};
use crate::retry::{self, Failure};
use crate::versions::{self, Page};
use crate::{Cancel, Error, Inquiry, Item, Listing, Result, Retry, Secret, Store, Version, name};

/// Requests of one store at a time (Backblaze counts requests per second).
const IN_FLIGHT_MAX: usize = 16;
/// How often a call looks whether its run was cancelled.
const CANCEL_LOOK: Duration = Duration::from_millis(50);

/// Everything that is needed to use a bucket.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// Which storage.
    pub endpoint: Endpoint,
    /// The bucket's name.
    pub bucket: String,
    /// What every object's key starts with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The region to sign for; known or found where it is `None`.
    pub region: Option<String>,
    /// The key's public half.
    pub key_id: String,
    /// The key's secret half.
    pub secret: Secret,
    /// Uploads together are no faster than this.
    pub upload_bytes_per_second: Option<u64>,
    /// How long to try again.
    pub retry: Retry,
    /// Ends waiting calls.
    pub cancel: Cancel,
}

/// A bucket.
#[derive(Debug)]
pub struct S3Store {
    config: S3Config,
    address: String,
    local: bool,
    counters: Arc<Counters>,
    runtime: OnceLock<Runtime>,
    /// The clients, once the bucket's place is known.
    bucket: tokio::sync::Mutex<Option<Bucket>>,
    in_flight: Semaphore,
}

#[derive(Debug, Clone)]
struct Bucket {
    wire: Wire,
    place: Place,
    s3: Arc<AmazonS3>,
}

impl S3Store {
    /// Checks the configuration. Nothing is sent before the first call.
    pub fn open(config: S3Config) -> Result<Self> {
        let local = config.endpoint.is_local()?;
        endpoint::known(&config.endpoint, config.region.as_deref())?;
        check_bucket(&config.bucket)?;
        if Path::parse(&config.prefix).map_or(true, |path| path.as_ref() != config.prefix) {
            return Err(Error::BadAddress(format!("{:?} is not a prefix of keys", config.prefix)));
        }
        if config.key_id.is_empty() || config.secret.expose().is_empty() {
            return Err(Error::BadAddress("the storage needs a key id and a secret".to_owned()));
        }
        Ok(Self {
            address: address(&config),
            local,
            counters: Arc::default(),
            runtime: OnceLock::new(),
            bucket: tokio::sync::Mutex::new(None),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            config,
        })
    }

    /// Runs a call on the runtime until it ends or the run is cancelled.
    fn block<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let cancelled = async {
            while !self.config.cancel.is_set() {
                tokio::time::sleep(CANCEL_LOOK).await;
            }
        };
        self.runtime()?.block_on(async {
            tokio::select! {
                done = call => done,
                () = cancelled => Err(Error::Cancelled),
            }
        })
    }

    fn runtime(&self) -> Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let built = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(|source| Error::Io { op: "open", name: self.address.clone(), source })?;
        // Another thread may have been faster; then ours ends here.
        Ok(self.runtime.get_or_init(|| built))
    }

    /// Sends requests until one did what was asked.
    async fn run<T, F>(&self, asked: Asked<'_>, send: impl Fn(Arc<AmazonS3>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Sent>>,
    {
        let retry = &self.config.retry;
        let attempt = || self.attempt(asked, &send);
        retry::run(retry, &self.config.cancel, asked.op, asked.name, attempt).await
    }

    /// One try; two if the first one taught us the bucket's region.
    async fn attempt<T, F>(
        &self,
        asked: Asked<'_>,
        send: &impl Fn(Arc<AmazonS3>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Sent>>,
    {
        let permit = self.in_flight.acquire().await;
        let _permit = permit.map_err(|_| Failure::Final(Error::Cancelled))?;
        let mut bucket = self.bucket().await?;
        for _ in 0..2 {
            let seen = Arc::default();
            let sent = SEEN.scope(Arc::clone(&seen), send(Arc::clone(&bucket.s3))).await;
            let verdict = match sent {
                Ok(value) => return Ok(value),
                Err(Sent::Failed(failure)) => return Err(failure),
                Err(Sent::Refused(e)) => verdict(&e, take(&seen), asked),
            };
            match verdict {
                Verdict::Failed(failure) => return Err(failure),
                Verdict::WrongRegion(region) if region != bucket.place.region => {
                    bucket = self.move_to(&bucket, &region).await?;
                }
                Verdict::WrongRegion(_) => break,
            }
        }
        let region = &bucket.place.region;
        let text = format!("{}: the endpoint refers to region {region}", self.address);
        Err(Failure::Final(Error::BadAddress(text)))
    }

    /// The clients; the first call finds out where the bucket is.
    async fn bucket(&self) -> Result<Bucket, Failure> {
        let mut slot = self.bucket.lock().await;
        if let Some(bucket) = &*slot {
            return Ok(bucket.clone());
        }
        let config = &self.config;
        let limit = config.upload_bytes_per_second;
        let wire = Wire::new(Arc::clone(&self.counters), limit, self.local)
            .map_err(|e| Failure::Final(Error::BadAddress(root_cause(&e))))?;
        let known = endpoint::known(&config.endpoint, config.region.as_deref());
        let place = if let Some(place) = known.map_err(Failure::Final)? {
            place
        } else {
            let key = (config.key_id.as_str(), &config.secret);
            endpoint::discover(&wire, &config.endpoint, &config.bucket, key).await?
        };
        let bucket = self.connect(wire, place)?;
        *slot = Some(bucket.clone());
        Ok(bucket)
    }

    /// Follows the storage's word that the bucket is in another region.
    async fn move_to(&self, from: &Bucket, region: &str) -> Result<Bucket, Failure> {
        tracing::debug!(from = from.place.region, to = region, "the bucket is in another region");
        let place = Place::moved(&self.config.endpoint, &from.place, region);
        let bucket = self.connect(from.wire.clone(), place)?;
        *self.bucket.lock().await = Some(bucket.clone());
        Ok(bucket)
    }

    fn connect(&self, wire: Wire, place: Place) -> Result<Bucket, Failure> {
        let config = &self.config;
        let no_retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let s3 = AmazonS3Builder::new()
            .with_endpoint(&place.url)
            .with_region(&place.region)
            .with_bucket_name(&config.bucket)
            .with_access_key_id(&config.key_id)
            .with_secret_access_key(config.secret.expose())
            .with_virtual_hosted_style_request(false)
            .with_conditional_put(S3ConditionalPut::Disabled)
            .with_disable_bulk_delete(true)
            .with_disable_tagging(true)
            .with_allow_http(self.local)
            // Our own policy tries again: it knows Retry-After and what is final.
            .with_retry(no_retry)
            .with_http_connector(wire.clone())
            .build()
            .map_err(|e| Failure::Final(Error::BadAddress(root_cause(&e))))?;
        Ok(Bucket { wire, place, s3: Arc::new(s3) })
    }

    fn key(&self, name: &str) -> String {
        match self.config.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    fn asked<'a>(&'a self, op: &'static str, name: &'a str, end: Option<u64>) -> Asked<'a> {
        Asked { op, name, end, address: &self.address }
    }

    /// The bytes `range` of the object at `path`, which errors call `name`.
    async fn ranged(&self, name: &str, path: Path, range: Range<u64>) -> Result<Bytes> {
        let asked = self.asked("get", name, Some(range.end));
        self.run(asked, |s3| {
            let (path, range) = (path.clone(), range.clone());
            let bounded = Some(GetRange::Bounded(range.clone()));
            let options = GetOptions { range: bounded, ..Default::default() };
            async move {
                let got = s3.get_opts(&path, options).await?;
                if got.meta.size < range.end {
                    return Err(Sent::Failed(Failure::Final(short(asked))));
                }
                let bytes = got.bytes().await?;
                if bytes.len() as u64 != range.end - range.start {
                    let detail = "the answer holds another range than asked for".to_owned();
                    return Err(Sent::Failed(Failure::Again { after: None, detail }));
                }
                Ok(bytes)
            }
        })
        .await
    }

    /// All objects under a prefix, page by page; each page is tried again on its own.
    async fn pages(&self, prefix: &str) -> Result<Vec<Item>> {
        let asked = self.asked("list", prefix, None);
        let key_prefix = self.key(prefix);
        let root_len = self.key("").len();
        let mut items = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let page = self.run(asked, |s3| {
                let options =
                    PaginatedListOptions { page_token: token.clone(), ..Default::default() };
                let prefix = (!key_prefix.is_empty()).then_some(key_prefix.as_str());
                async move { Ok(s3.list_paginated(prefix, options).await?) }
            });
            let page = page.await?;
            for object in page.result.objects {
                let Some(name) = object.location.as_ref().get(root_len..) else { continue };
                // Others may keep files beside ours; they have no object name.
                if name.starts_with(prefix) && name::check(name).is_ok() {
                    let modified = object.last_modified.into();
                    items.push(Item { name: name.to_owned(), size: object.size, modified });
                }
            }
            if page.page_token.is_none() {
                break;
            }
            if page.page_token == token {
                let detail = "the listing goes in circles".to_owned();
                return Err(Error::Unavailable { op: "list", name: prefix.to_owned(), detail });
            }
            token = page.page_token;
        }
        items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        items.dedup_by(|a, b| a.name == b.name);
        Ok(items)
    }

    /// All versions under a prefix that are not the current ones, page by page.
    async fn old_pages(&self, prefix: &str) -> Result<Vec<Version>> {
        let asked = self.asked("list", prefix, None);
        let key_prefix = self.key(prefix);
        let root_len = self.key("").len();
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let query = versions::query(&key_prefix, from.as_ref());
            let page = self.run(asked, |s3| {
                let query = query.clone();
                async move { self.old_page(&s3, &query).await }
            });
            let page = page.await?;
            let next = page.next();
            for version in page.versions.into_iter().filter(|version| !version.is_latest) {
                let Some(name) = version.key.get(root_len..) else { continue };
                if name.starts_with(prefix) && name::check(name).is_ok() {
                    let (name, id, size) = (name.to_owned(), version.version_id, version.size);
                    found.push(Version { name, id, size });
                }
            }
            if next.is_none() {
                break;
            }
            if next == from {
                let detail = "the listing goes in circles".to_owned();
                return Err(Error::Unavailable { op: "list", name: prefix.to_owned(), detail });
            }
            from = next;
        }
        // of one name they come newest first, and stay so
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// One page of old versions.
    async fn old_page(&self, s3: &AmazonS3, query: &str) -> Result<Page, Sent> {
        let text = self.ask(s3, query).await?;
        Page::parse(&text).map_err(|detail| Sent::Failed(Failure::Again { after: None, detail }))
    }

    /// Asks the bucket: a request of our own, signed and sent as `object_store` does it.
    async fn ask(&self, s3: &AmazonS3, query: &str) -> Result<String, Sent> {
        let failed = |source| object_store::Error::Generic { store: "S3", source };
        let Bucket { wire, place, .. } = self.bucket().await.map_err(Sent::Failed)?;
        let mut request =
            ::http::Request::get(format!("{}/{}?{query}", place.url, self.config.bucket))
                .body(HttpRequestBody::empty())
                .map_err(|e| failed(Box::new(e)))?;
        let credential = s3.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &place.region).try_authorize(&mut request, None)?;
        let response = wire.call(request).await.map_err(|e| failed(Box::new(e)))?;
        if !response.status().is_success() {
            // what the wire saw says why
            return Err(failed(response.status().to_string().into()).into());
        }
        Ok(http::text_of(response).await.map_err(|e| failed(Box::new(e)))?)
    }
}

/// Questions, which `object_store` does not know.
impl S3Store {
    /// Sends one, signed, and gives the answer with its date, whatever it is.
    async fn question(
        &self,
        s3: &AmazonS3,
        question: &Question<'_>,
    ) -> Result<(Answer, Option<String>), Sent> {
        let failed = |source| object_store::Error::Generic { store: "S3", source };
        let Bucket { wire, place, .. } = self.bucket().await.map_err(Sent::Failed)?;
        let url = format!("{}/{}{}", place.url, self.config.bucket, question.rest);
        let mut request = ::http::Request::builder().method(question.method.clone()).uri(url);
        if !question.body.is_empty() {
            request = request.header(CONTENT_LENGTH, question.body.len());
        }
        if question.if_none_match {
            request = request.header(IF_NONE_MATCH, "*");
        }
        let body = HttpRequestBody::from(Bytes::from_static(question.body));
        let mut request = request.body(body).map_err(|e| failed(Box::new(e)))?;
        let credential = s3.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &place.region).try_authorize(&mut request, None)?;
        let response = wire.call(request).await.map_err(|e| failed(Box::new(e)))?;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.map(str::to_owned);
        let answer = http::answer_of(response).await.map_err(|e| failed(Box::new(e)))?;
        Ok((answer, date))
    }

    /// The same; what is no success is the storage's final word or another try, as for every call.
    async fn demand(
        &self,
        s3: &AmazonS3,
        question: &Question<'_>,
    ) -> Result<(Answer, Option<String>), Sent> {
        let (answer, date) = self.question(s3, question).await?;
        if (200..300).contains(&answer.status) {
            return Ok((answer, date));
        }
        // what the wire saw says why
        let source = answer.status.to_string().into();
        Err(object_store::Error::Generic { store: "S3", source }.into())
    }

    async fn look_at_bucket(&self) -> Result<Inquiry> {
        // a listing that works tells that bucket, key and region are right, and teaches the region
        let key_prefix = self.key("");
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("list-type", "2")
            .append_pair("max-keys", "1")
            .append_pair("prefix", &key_prefix)
            .finish()
            .replace('+', "%20");
        let listing = format!("?{query}");
        let (_, date) = self
            .run(self.asked("list", "", None), |s3| {
                let listing = &listing;
                async move { self.demand(&s3, &Question::get(listing)).await }
            })
            .await?;
        let lifecycle = self.ask_of_bucket("?lifecycle=").await?;
        let object_lock = self.ask_of_bucket("?object-lock=").await?;
        let versioning = self.ask_of_bucket("?versioning=").await?;
        let Ok(Bucket { wire, place, .. }) = self.bucket().await else {
            return Err(Error::Cancelled);
        };
        let key = (self.config.key_id.as_str(), &self.config.secret);
        let capabilities = endpoint::capabilities(&wire, &self.config.endpoint, key).await;
        Ok(Inquiry {
            endpoint: place.url,
            region: place.region,
            region_set: self.config.region.clone(),
            date,
            lifecycle,
            object_lock,
            versioning,
            capabilities,
        })
    }

    /// A question to which no is an answer too; only being cancelled ends the rest.
    async fn ask_of_bucket(&self, rest: &str) -> Result<Told> {
        let asked = self.run(self.asked("look at", rest, None), |s3| async move {
            match self.question(&s3, &Question::get(rest)).await {
                // too busy, or not there: again, as every call
                Ok((answer, _)) if matches!(answer.status, 429 | 500 | 502..=599) => {
                    let (after, detail) = (answer.retry_after, answer.detail());
                    Err(Sent::Failed(Failure::Again { after, detail }))
                }
                Ok((answer, _)) => Ok(inquiry::told(&answer)),
                Err(sent) => Err(sent),
            }
        });
        match asked.await {
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(error) => Ok(Told::Unknown(error.to_string())),
            told => told,
        }
    }
}

impl Store for S3Store {
    fn inquire(&self) -> Result<Option<Inquiry>> {
        self.block(self.look_at_bucket()).map(Some)
    }

    fn honours_if_none_match(&self, name: &str) -> Result<Option<bool>> {
        name::check(name)?;
        let rest = format!("/{}", self.key(name));
        let put = self.run(self.asked("put", name, None), |s3| {
            let rest = &rest;
            async move {
                let method = Method::PUT;
                let question = Question { method, rest, if_none_match: true, body: b"again" };
                let (answer, _) = self.question(&s3, &question).await?;
                Ok(answer.status == 412)
            }
        });
        self.block(put).map(Some)
    }

    fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        name::check(name)?;
        let payload: PutPayload = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let path = Path::from(self.key(name));
        let put = self.run(self.asked("put", name, None), |s3| {
            let (path, payload) = (path.clone(), payload.clone());
            async move { Ok(s3.put(&path, payload).await.map(|_| ())?) }
        });
        self.block(put)
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        name::check(name)?;
        let path = Path::from(self.key(name));
        let get = self.run(self.asked("get", name, None), |s3| {
            let path = path.clone();
            async move { Ok(s3.get(&path).await?.bytes().await?) }
        });
        self.block(get)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        name::check(name)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.block(self.ranged(name, Path::from(self.key(name)), range))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        if !name::can_start(prefix) {
            return Ok(Vec::new());
        }
        self.block(self.pages(prefix))
    }

    fn delete(&self, name: &str) -> Result<()> {
        name::check(name)?;
        let path = Path::from(self.key(name));
        let delete = self.run(self.asked("delete", name, None), |s3| {
            let path = path.clone();
            async move {
                match s3.delete(&path).await {
                    // What is gone already is deleted; a bucket that is gone is another matter.
                    Err(object_store::Error::NotFound { .. }) if !bucket_is_missing() => Ok(()),
                    done => Ok(done?),
                }
            }
        });
        self.block(delete)
    }

    fn old_versions(&self, prefix: &str) -> Result<Option<Vec<Version>>> {
        if !name::can_start(prefix) {
            return Ok(Some(Vec::new()));
        }
        self.block(self.old_pages(prefix)).map(Some)
    }

    fn get_version(&self, version: &Version) -> Result<Bytes> {
        name::check(&version.name)?;
        let path = Path::from(self.key(&version.name));
        let get = self.run(self.asked("get", &version.name, None), |s3| {
            let options = GetOptions { version: Some(version.id.clone()), ..Default::default() };
            let path = path.clone();
            async move { Ok(s3.get_opts(&path, options).await?.bytes().await?) }
        });
        self.block(get)
    }

    fn listing(&self) -> Listing {
        self.config.endpoint.listing()
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn usage(&self) -> Usage {
        self.counters.usage()
    }

    fn renew_connections(&self) {
        let Ok(runtime) = self.runtime() else { return };
        runtime.block_on(async {
            let mut slot = self.bucket.lock().await;
            let Some(bucket) = &*slot else { return };
            // what cannot be made anew stays as it is: the next call says what is wrong
            let renewed = bucket.wire.renewed(self.local);
            if let Ok(Ok(new)) = renewed.map(|wire| self.connect(wire, bucket.place.clone())) {
                *slot = Some(new);
            }
        });
    }
}

impl Drop for S3Store {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Idle connections need no farewell, and a drop must not wait.
            runtime.shutdown_background();
        }
    }
}

/// A request about a bucket or one of its objects.
struct Question<'a> {
    method: Method,
    /// What follows the bucket in the address: `/key`, `?query`.
    rest: &'a str,
    if_none_match: bool,
    body: &'static [u8],
}

impl<'a> Question<'a> {
    fn get(rest: &'a str) -> Self {
        Self { method: Method::GET, rest, if_none_match: false, body: b"" }
    }
}

/// How a request that was sent did not work out.
enum Sent {
    Failed(Failure),
    Refused(object_store::Error),
}

impl From<object_store::Error> for Sent {
    fn from(e: object_store::Error) -> Self {
        Self::Refused(e)
    }
}

/// Judges a failure by what the wire saw, or else by what `object_store` says.
fn verdict(e: &object_store::Error, seen: Option<Seen>, asked: Asked<'_>) -> Verdict {
    let (detail, lasting) = match seen {
        Some(Seen::Answer(answer)) => return judge(&answer, asked),
        Some(Seen::Broken { detail, lasting }) => (detail, lasting),
        None => (root_cause(e), false),
    };
    if lasting {
        let (op, name) = (asked.op, asked.name.to_owned());
        return Verdict::Failed(Failure::Final(Error::Unavailable { op, name, detail }));
    }
    Verdict::Failed(Failure::Again { after: None, detail })
}

fn take(seen: &Mutex<Option<Seen>>) -> Option<Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Whether the answer of the running call says that there is no such bucket.
fn bucket_is_missing() -> bool {
    SEEN.with(|slot| match &*slot.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(Seen::Answer(answer)) => answer.web_page || answer.code() == Some("NoSuchBucket"),
        _ => true,
    })
}

/// S3's own rules are stricter; this keeps what goes into a URL harmless.
fn check_bucket(bucket: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if (3..=63).contains(&bucket.len()) && bucket.bytes().all(fine) && !bucket.contains("..") {
        Ok(())
    } else {
        Err(Error::BadAddress(format!("{bucket:?} is not a bucket's name")))
    }
}

fn address(config: &S3Config) -> String {
    let base = match &config.endpoint {
        Endpoint::Url(url) => format!("s3:{}/", url.trim_end_matches('/')),
        Endpoint::Aws => "s3://".to_owned(),
        Endpoint::B2 { .. } => "b2:".to_owned(),
    };
    let slash = if config.prefix.is_empty() { "" } else { "/" };
    format!("{base}{}{slash}{}", config.bucket, config.prefix)
}
