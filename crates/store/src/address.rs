//! Where a repository is, as a user writes it, and how to open the store there.
//!
//! ```text
//! /path  ./path  path                                 a directory
//! file:///path                                        a directory
//! s3:https://host[:port]/bucket[/prefix]              any S3 endpoint
//! s3://bucket[/prefix]                                Amazon S3, or the endpoint of the settings
//! b2:bucket[/prefix]  b2://bucket[/prefix]            Backblaze B2
//! ```
//!
//! An address never holds a secret: one with a key in it is refused, and the refusal does not repeat it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::endpoint::check_url;
use crate::{
    Cancel, Endpoint, Error, Foreign, LocalStore, Result, Retry, S3Config, S3Store, Secret, Store,
};

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A directory.
    Local(PathBuf),
    /// A bucket of an S3 endpoint; `None` is Amazon's, unless the settings name another.
    S3 {
        /// `https://host[:port]`.
        endpoint: Option<String>,
        /// The bucket.
        bucket: String,
        /// Keys start with this; empty or without slashes at its ends.
        prefix: String,
    },
    /// A bucket of Backblaze B2.
    B2 {
        /// The bucket.
        bucket: String,
        /// Keys start with this; empty or without slashes at its ends.
        prefix: String,
    },
}

/// A storage key.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The public half: access key id, B2's keyID.
    pub key_id: String,
    /// The secret half.
    pub secret: Secret,
}

/// What opening a store needs beside its address.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The storage key; a directory needs none.
    pub credentials: Option<Credentials>,
    /// An S3 endpoint for addresses that name none, B2's too; a bare host means `https`.
    pub endpoint: Option<String>,
    /// The region, where it is known.
    pub region: Option<String>,
    /// Uploads together are no faster than this.
    pub upload_bytes_per_second: Option<u64>,
    /// How long to try again.
    pub retry: Retry,
    /// Ends waiting calls.
    pub cancel: Cancel,
    /// Makes a missing directory; a bucket is never made.
    pub create: bool,
}

impl Address {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("s3:") {
            return parse_s3(rest);
        }
        if let Some(rest) = text.strip_prefix("b2:") {
            let (bucket, prefix) = split_bucket(rest.strip_prefix("//").unwrap_or(rest))?;
            return Ok(Self::B2 { bucket, prefix });
        }
        if text.starts_with("file:") {
            let url = text.starts_with("file:///").then(|| Url::parse(text).ok()).flatten();
            let path = url.and_then(|url| url.to_file_path().ok());
            let path = path.ok_or_else(|| bad("write file:///absolute/path"))?;
            return Ok(Self::Local(path));
        }
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        let is_path = text.starts_with(['/', '.']) || !text.contains(':');
        if is_path && !text.contains('\0') {
            return Ok(Self::Local(PathBuf::from(text)));
        }
        // The text is not repeated: it may hold a key, as in https://id:secret@host.
        Err(bad(
            "write a path, s3:https://host/bucket/prefix, s3://bucket/prefix or b2:bucket/prefix",
        ))
    }

    /// Opens the store. Nothing is sent yet: a bucket is looked at by the first call.
    pub fn open(&self, options: Options) -> Result<Arc<dyn Store>> {
        match self {
            Self::Local(path) if options.create => Ok(Arc::new(LocalStore::create(path)?)),
            Self::Local(path) => Ok(Arc::new(LocalStore::open(path)?)),
            Self::S3 { .. } | Self::B2 { .. } => Ok(Arc::new(self.bucket(options)?)),
        }
    }

    /// Opens what another program keeps there, to be read. A directory is never made.
    pub fn open_foreign(&self, options: Options) -> Result<Arc<dyn Foreign>> {
        match self {
            Self::Local(path) => Ok(Arc::new(LocalStore::open(path)?)),
            Self::S3 { .. } | Self::B2 { .. } => Ok(Arc::new(self.bucket(options)?)),
        }
    }

    fn bucket(&self, options: Options) -> Result<S3Store> {
        let given = options.endpoint.map(|endpoint| {
            if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") }
        });
        let (endpoint, bucket, prefix) = match self {
            Self::Local(path) => {
                return Err(Error::BadAddress(format!("{}: it is no bucket", path.display())));
            }
            Self::S3 { endpoint, bucket, prefix } => {
                let endpoint = endpoint.clone().or(given);
                (endpoint.map_or(Endpoint::Aws, Endpoint::Url), bucket, prefix)
            }
            Self::B2 { bucket, prefix } => {
                (given.map_or_else(Endpoint::b2, Endpoint::Url), bucket, prefix)
            }
        };
        let key = options.credentials.ok_or_else(|| {
            Error::BadAddress(format!("{self}: the storage needs a key id and a secret"))
        })?;
        S3Store::open(S3Config {
            endpoint,
            bucket: bucket.clone(),
            prefix: prefix.clone(),
            region: options.region,
            key_id: key.key_id,
            secret: key.secret,
            upload_bytes_per_second: options.upload_bytes_per_second,
            retry: options.retry,
            cancel: options.cancel,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bucket, prefix) = match self {
            Self::Local(path) => return write!(f, "{}", path.display()),
            Self::S3 { endpoint: Some(endpoint), bucket, prefix } => {
                write!(f, "s3:{endpoint}/")?;
                (bucket, prefix)
            }
            Self::S3 { endpoint: None, bucket, prefix } => {
                f.write_str("s3://")?;
                (bucket, prefix)
            }
            Self::B2 { bucket, prefix } => {
                f.write_str("b2:")?;
                (bucket, prefix)
            }
        };
        let slash = if prefix.is_empty() { "" } else { "/" };
        write!(f, "{bucket}{slash}{prefix}")
    }
}

/// Opens the store at `address`; see [`Address::open`].
pub fn open(address: &Address, options: Options) -> Result<Arc<dyn Store>> {
    address.open(options)
}

fn parse_s3(rest: &str) -> Result<Address> {
    if let Some(rest) = rest.strip_prefix("//") {
        let (bucket, prefix) = split_bucket(rest)?;
        return Ok(Address::S3 { endpoint: None, bucket, prefix });
    }
    let Some((scheme, host)) = rest.split_once("://") else {
        return Err(bad("write s3:https://host/bucket/prefix or s3://bucket/prefix"));
    };
    let (host, path) = host.split_once('/').ok_or_else(|| bad("the bucket is missing"))?;
    let endpoint = format!("{scheme}://{host}");
    check_url(&endpoint)?;
    let (bucket, prefix) = split_bucket(path)?;
    Ok(Address::S3 { endpoint: Some(endpoint), bucket, prefix })
}

fn split_bucket(rest: &str) -> Result<(String, String)> {
    if rest.contains(['@', '?', '#', ':']) {
        return Err(bad("a bucket and prefix hold none of @ ? # :, and no key"));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(bad("the bucket is missing"));
    }
    Ok((bucket.to_owned(), prefix.trim_matches('/').to_owned()))
}

fn bad(why: &str) -> Error {
    Error::BadAddress(format!("cannot use this repository address: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Address::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
    }

    #[test]
    fn every_form_is_understood_and_shown_in_one_form() {
        for same in
            ["/srv/backup", "./backup", "../backup", "backup", "s3://bucket/a/b", "b2:bucket"]
        {
            assert_eq!(shown(same), same);
        }
        assert_eq!(shown("file:///srv/my%20backup"), "/srv/my backup");
        assert_eq!(shown("b2://bucket/a/"), "b2:bucket/a");
        assert_eq!(shown("s3:https://h.example/bucket/"), "s3:https://h.example/bucket");
        assert_eq!(shown("s3:http://127.0.0.1:9000/bucket/p"), "s3:http://127.0.0.1:9000/bucket/p");
        assert_eq!(shown("./s3:x"), "./s3:x");
    }

    #[test]
    fn a_wrong_address_says_how_to_write_one() {
        for (text, hint) in [
            ("", "empty"),
            ("sftp:host:/path", "write a path"),
            ("https://host/bucket", "s3:https://host/bucket"),
            ("s3:host/bucket", "s3:https://host/bucket"),
            ("s3:https://host", "bucket is missing"),
            ("s3:https://host/", "bucket is missing"),
            ("s3:http://example.org/bucket", "https"),
            ("b2:", "bucket is missing"),
            ("file:relative", "file:///"),
        ] {
            let e = Address::parse(text).expect_err(text).to_string();
            assert!(e.contains(hint), "{text}: {e}");
        }
    }

    #[test]
    fn a_key_in_an_address_is_refused_and_not_repeated() {
        for text in [
            "s3:https://id:hunter2@host/bucket",
            "s3://id:hunter2@bucket/x",
            "b2:id:hunter2@bucket",
            "https://id:hunter2@host/",
        ] {
            let e = Address::parse(text).expect_err(text);
            assert!(!format!("{e} {e:?}").contains("hunter2"), "{e:?}");
        }
    }

    #[test]
    fn a_bucket_needs_a_key_and_a_directory_must_exist() {
        let no_key = Address::parse("b2:bucket").unwrap().open(Options::default());
        assert!(matches!(no_key, Err(Error::BadAddress(text)) if text.contains("key id")));
        let host = Options {
            credentials: Some(Credentials {
                key_id: "id".to_owned(),
                secret: Secret::new("secret".to_owned()),
            }),
            endpoint: Some("s3.us-west-004.backblazeb2.com".to_owned()),
            ..Options::default()
        };
        let seeds = Address::parse("b2:bucket").unwrap().open(host).unwrap();
        assert_eq!(seeds.address(), "s3:https://s3.us-west-004.backblazeb2.com/bucket");
        let missing = Address::parse("/nonexistent/backup").unwrap().open(Options::default());
        assert!(matches!(missing, Err(Error::NoSuchStore { .. })));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2hunter2".to_owned());
        let credentials = Some(Credentials { key_id: "id".to_owned(), secret });
        let options = Options { credentials, ..Options::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
        let store = Address::parse("b2:bucket").unwrap().open(options).unwrap();
        assert!(!format!("{store:?} {}", store.address()).contains("hunter2"));
    }
}
