//! One page of `ListObjectVersions`, which `object_store` does not know.
//!
//! In: the answer of a bucket. Out: the versions with bytes that are not the current ones. Delete markers
//! are passed over: a bucket such as B2's writes one where an object is deleted, and keeps the version
//! under it.

use serde::Deserialize;
use url::form_urlencoded::Serializer;

/// Keys on one page.
const PAGE_KEYS: &str = "1000";

/// Where a page begins: after this version of this key.
pub(crate) type Marker = (String, Option<String>);

/// A page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Page {
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
    #[serde(default, rename = "Version")]
    pub(crate) versions: Vec<Listed>,
}

/// A version as it is listed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) version_id: String,
    pub(crate) is_latest: bool,
    pub(crate) size: u64,
}

impl Page {
    /// Reads a page; `Err` says what is wrong with it.
    pub(crate) fn parse(body: &str) -> Result<Self, String> {
        quick_xml::de::from_str(body).map_err(|e| format!("the listing does not parse: {e}"))
    }

    /// Where the next page begins, if there is one.
    pub(crate) fn next(&self) -> Option<Marker> {
        let key = self.next_key_marker.clone().filter(|_| self.is_truncated)?;
        Some((key, self.next_version_id_marker.clone()))
    }
}

/// The query that asks for a page.
pub(crate) fn query(prefix: &str, from: Option<&Marker>) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("max-keys", PAGE_KEYS).append_pair("prefix", prefix);
    if let Some((key, version)) = from {
        query.append_pair("key-marker", key);
        if let Some(version) = version {
            query.append_pair("version-id-marker", version);
        }
    }
    // a signature takes a plus for itself, and a space for %20
    query.append_pair("versions", "").finish().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_markers_come_in_any_order() {
        let version = |key: &str, id: &str, latest: bool| {
            format!(
                "<Version><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest>\
                 <LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>7</Size></Version>"
            )
        };
        let marker = "<DeleteMarker><Key>a</Key><VersionId>m</VersionId><IsLatest>true</IsLatest>\
                      </DeleteMarker>";
        let page = |goes_on: bool, rest: &str| {
            format!(
                "<?xml version=\"1.0\"?><ListVersionsResult xmlns=\"x\"><Prefix/>\
                 <IsTruncated>{goes_on}</IsTruncated>{rest}</ListVersionsResult>"
            )
        };
        let rest = [marker, &version("a", "1", false), marker, &version("b", "2", true)].concat();
        let parsed = Page::parse(&page(false, &rest)).unwrap();
        let found: Vec<_> =
            parsed.versions.iter().map(|v| (v.key.as_str(), v.version_id.as_str())).collect();
        assert_eq!(found, [("a", "1"), ("b", "2")]);
        assert!(!parsed.versions[0].is_latest && parsed.versions[1].is_latest);
        assert!(parsed.next().is_none());
        let next = "<NextKeyMarker>b</NextKeyMarker><NextVersionIdMarker>2</NextVersionIdMarker>";
        let parsed = Page::parse(&page(true, next)).unwrap();
        assert_eq!(parsed.next(), Some(("b".to_owned(), Some("2".to_owned()))));
        assert!(Page::parse("<html>").is_err());
    }

    #[test]
    fn a_query_has_no_plus() {
        let from = ("a b".to_owned(), Some("v+1".to_owned()));
        assert_eq!(
            query("x/y", Some(&from)),
            "max-keys=1000&prefix=x%2Fy&key-marker=a%20b&version-id-marker=v%2B1&versions="
        );
    }
}
