//! What a bucket says of itself: its rules, its clock, and what the key may do.
//!
//! In: answers of a storage. Out: an [`Inquiry`], for whoever looks after a repository. Nothing a backup does
//! depends on it: a storage that does not answer such questions is a good storage all the same, and so is
//! a key that may not ask.

use serde::Deserialize;

use crate::answer::Answer;

/// An answer about a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The document that came back.
    Text(String),
    /// Nothing of that kind is set.
    Nothing,
    /// Not told: the key may not ask, or the storage does not know the question. In its words.
    Unknown(String),
}

/// What a bucket says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// Where requests go.
    pub endpoint: String,
    /// The region they are signed for.
    pub region: String,
    /// The region of the settings.
    pub region_set: Option<String>,
    /// The storage's clock, as its `Date` header has it (RFC 9110).
    pub date: Option<String>,
    /// `GetBucketLifecycleConfiguration`.
    pub lifecycle: Told,
    /// `GetObjectLockConfiguration`.
    pub object_lock: Told,
    /// `GetBucketVersioning`.
    pub versioning: Told,
    /// What the key may do, where the storage tells: `b2_authorize_account` of Backblaze.
    pub capabilities: Option<Vec<String>>,
}

/// One rule of a bucket's lifecycle, as far as it touches a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
    /// Its name.
    pub id: String,
    /// It is in force.
    pub enabled: bool,
    /// Keys that begin so.
    pub prefix: String,
    /// It deletes current versions when they are old enough.
    pub expires: bool,
    /// It removes versions so many days after they were hidden or written over.
    pub old_versions_days: Option<u32>,
    /// Storage classes to which it moves objects.
    pub moves_to: Vec<String>,
}

impl LifecycleRule {
    /// Reads a document of `GetBucketLifecycleConfiguration`.
    pub fn parse(xml: &str) -> Result<Vec<Self>, String> {
        let document: Document = quick_xml::de::from_str(xml).map_err(|e| e.to_string())?;
        Ok(document.rules.into_iter().map(Rule::meant).collect())
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(default, rename = "Rule")]
    rules: Vec<Rule>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Rule {
    #[serde(rename = "ID")]
    id: Option<String>,
    status: Option<String>,
    prefix: Option<String>,
    filter: Option<Filter>,
    expiration: Option<Expiration>,
    noncurrent_version_expiration: Option<OldVersions>,
    #[serde(rename = "Transition")]
    transitions: Vec<Transition>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Filter {
    prefix: Option<String>,
    and: Option<And>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct And {
    prefix: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Expiration {
    days: Option<u32>,
    date: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct OldVersions {
    noncurrent_days: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Transition {
    storage_class: Option<String>,
}

impl Rule {
    fn meant(self) -> LifecycleRule {
        let filter = self.filter.unwrap_or_default();
        let prefix = self.prefix.or(filter.prefix).or(filter.and.and_then(|and| and.prefix));
        LifecycleRule {
            id: self.id.unwrap_or_default(),
            enabled: self.status.as_deref() == Some("Enabled"),
            prefix: prefix.unwrap_or_default(),
            // the third form of an expiration removes delete markers only
            expires: self.expiration.is_some_and(|e| e.days.is_some() || e.date.is_some()),
            old_versions_days: self.noncurrent_version_expiration.and_then(|o| o.noncurrent_days),
            moves_to: self.transitions.into_iter().filter_map(|t| t.storage_class).collect(),
        }
    }
}

/// What an answer to one of the questions means. 404 is no fault here: S3 says it where nothing is set.
pub(crate) fn told(answer: &Answer) -> Told {
    match answer.status {
        200..=299 if !answer.web_page => Told::Text(answer.body.clone()),
        404 if answer.code() != Some("NoSuchBucket") => Told::Nothing,
        _ => Told::Unknown(answer.detail()),
    }
}

/// The capabilities in an answer of `b2_authorize_account`, versions 2 to 4.
pub(crate) fn capabilities(body: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    let places = [
        "/apiInfo/storageApi/allowed/capabilities",
        "/apiInfo/storageApi/capabilities",
        "/allowed/capabilities",
    ];
    let list = places.iter().find_map(|place| json.pointer(place)?.as_array())?;
    Some(list.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_the_key_may_not_ask_is_not_an_answer() {
        let answer =
            |status, body: &str| Answer { status, body: body.to_owned(), ..Answer::default() };
        let coded = |code: &str| format!("<Error><Code>{code}</Code></Error>");
        assert_eq!(told(&answer(200, "<x/>")), Told::Text("<x/>".to_owned()));
        assert_eq!(told(&answer(404, &coded("NoSuchLifecycleConfiguration"))), Told::Nothing);
        for (status, code) in
            [(403, "AccessDenied"), (404, "NoSuchBucket"), (501, "NotImplemented")]
        {
            assert!(matches!(told(&answer(status, &coded(code))), Told::Unknown(_)), "{code}");
        }
        let portal = Answer { web_page: true, ..answer(200, "<html>") };
        assert!(matches!(told(&portal), Told::Unknown(_)));
    }

    #[test]
    fn capabilities_are_found_where_each_version_has_them() {
        for body in [
            r#"{"allowed":{"capabilities":["listFiles"]}}"#,
            r#"{"apiInfo":{"storageApi":{"capabilities":["listFiles"]}}}"#,
            r#"{"apiInfo":{"storageApi":{"allowed":{"capabilities":["listFiles"]}}}}"#,
        ] {
            assert_eq!(capabilities(body), Some(vec!["listFiles".to_owned()]), "{body}");
        }
        assert_eq!(capabilities("{}"), None);
    }
}
