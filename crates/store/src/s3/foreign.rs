//! A bucket with objects of another program. Its keys are any text, which `object_store` would not list, so
//! listings are requests of our own.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use super::{S3Store, Sent};
use crate::foreign::is_path;
use crate::retry::Failure;
use crate::{Error, Foreign, Object, Result};

/// Keys on one page.
const PAGE_KEYS: &str = "1000";

/// One page of `ListObjectsV2`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    is_truncated: bool,
    next_continuation_token: Option<String>,
    #[serde(default)]
    contents: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
    size: u64,
}

/// The query that asks for a page.
fn query(prefix: &str, token: Option<&str>) -> String {
    let mut query = Serializer::new(String::new());
    if let Some(token) = token {
        query.append_pair("continuation-token", token);
    }
    query.append_pair("list-type", "2").append_pair("max-keys", PAGE_KEYS);
    // a signature takes a plus for itself, and a space for %20
    query.append_pair("prefix", prefix).finish().replace('+', "%20")
}

impl S3Store {
    async fn foreign_pages(&self) -> Result<Vec<Object>> {
        let asked = self.asked("list", "", None);
        let prefix = self.key("");
        let (mut objects, mut token): (Vec<Object>, Option<String>) = (Vec::new(), None);
        loop {
            let query = query(&prefix, token.as_deref());
            let page = self.run(asked, |s3| {
                let query = query.clone();
                async move {
                    let text = self.ask(&s3, &query).await?;
                    quick_xml::de::from_str::<Page>(&text).map_err(|e| {
                        let detail = format!("the listing does not parse: {e}");
                        Sent::Failed(Failure::Again { after: None, detail })
                    })
                }
            });
            let page = page.await?;
            for Listed { key, size } in page.contents {
                let Some(key) = key.strip_prefix(&prefix) else { continue };
                objects.push(Object { key: key.to_owned(), size });
            }
            let next = page.next_continuation_token.filter(|_| page.is_truncated);
            if next.is_none() {
                break;
            }
            if next == token {
                let detail = "the listing goes in circles".to_owned();
                return Err(Error::Unavailable { op: "list", name: String::new(), detail });
            }
            token = next;
        }
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        objects.dedup_by(|a, b| a.key == b.key);
        Ok(objects)
    }
}

impl Foreign for S3Store {
    fn objects(&self) -> Result<Vec<Object>> {
        self.block(self.foreign_pages())
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let path = Path::parse(self.key(key)).ok().filter(|_| is_path(key));
        let path = path.ok_or_else(|| Error::NotFound { name: key.to_owned() })?;
        self.block(self.ranged(key, path, range))
    }

    fn place(&self) -> String {
        self.address.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_keys_of_any_form() {
        let contents = |key: &str| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <Size>7</Size></Contents>"
            )
        };
        let text = format!(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><Prefix/>\
             <IsTruncated>true</IsTruncated>{}<NextContinuationToken>t</NextContinuationToken>{}\
             </ListBucketResult>",
            contents("p//a &amp; b"),
            contents("p/../c")
        );
        let page: Page = quick_xml::de::from_str(&text).unwrap();
        let keys: Vec<_> = page.contents.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["p//a & b", "p/../c"]);
        assert_eq!((page.is_truncated, page.next_continuation_token), (true, Some("t".into())));
        assert_eq!(
            query("a b/", Some("t+1")),
            "continuation-token=t%2B1&list-type=2&max-keys=1000&prefix=a%20b%2F"
        );
    }
}
