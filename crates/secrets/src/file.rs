//! The file format of rules: that of gitleaks, version 8.
//!
//! In: TOML. Out: its tables as they stand, for `rules.rs` to make sense of. Keys that change
//! nothing here (titles, tags, commits) are read and left; a key that we do not know is an error,
//! because a rule that silently does less is worse than none.

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct File {
    #[serde(rename = "title")]
    _title: Option<IgnoredAny>,
    #[serde(rename = "description")]
    _description: Option<IgnoredAny>,
    #[serde(rename = "minVersion")]
    _min_version: Option<IgnoredAny>,
    pub(crate) extend: Option<Extend>,
    pub(crate) allowlist: Option<AllowTable>,
    #[serde(default)]
    pub(crate) allowlists: Vec<AllowTable>,
    #[serde(default)]
    pub(crate) rules: Vec<RuleTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Extend {
    #[serde(default)]
    pub(crate) use_default: bool,
    #[serde(default)]
    pub(crate) disabled_rules: Vec<String>,
    pub(crate) path: Option<String>,
    pub(crate) url: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RuleTable {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) description: String,
    pub(crate) regex: Option<String>,
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) secret_group: usize,
    pub(crate) entropy: Option<f64>,
    #[serde(default)]
    pub(crate) keywords: Vec<String>,
    pub(crate) allowlist: Option<AllowTable>,
    #[serde(default)]
    pub(crate) allowlists: Vec<AllowTable>,
    #[serde(rename = "tags")]
    _tags: Option<IgnoredAny>,
    #[serde(rename = "skipReport")]
    pub(crate) skip_report: Option<IgnoredAny>,
    pub(crate) required: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct AllowTable {
    #[serde(rename = "description")]
    _description: Option<IgnoredAny>,
    pub(crate) condition: Option<String>,
    #[serde(rename = "commits")]
    _commits: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) paths: Vec<String>,
    pub(crate) regex_target: Option<String>,
    #[serde(default)]
    pub(crate) regexes: Vec<String>,
    #[serde(default)]
    pub(crate) stopwords: Vec<String>,
    #[serde(default)]
    pub(crate) target_rules: Vec<String>,
}

/// What we make of the pinned rules: `rules/ours.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ours {
    pub(crate) drop: Vec<String>,
    pub(crate) report_only: Vec<String>,
    pub(crate) longest_bytes: std::collections::BTreeMap<String, usize>,
    pub(crate) secret_group: std::collections::BTreeMap<String, usize>,
    pub(crate) rules: Vec<RuleTable>,
}
