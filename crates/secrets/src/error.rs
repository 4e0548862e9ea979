//! What can be wrong with a file of rules.

/// A file of rules that cannot be used. Nothing of such a file is skipped.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not TOML, or with a key that we do not know.
    #[error("the rules are not a gitleaks configuration: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// A pattern that cannot be read.
    #[error("rule {rule}: a pattern cannot be read: {source}")]
    Pattern {
        /// The id of the rule, or what the pattern belongs to.
        rule: String,
        /// What is wrong with it.
        source: Box<regex_syntax::Error>,
    },
    /// A pattern that is too large.
    #[error("rule {rule}: a pattern cannot be compiled: {source}")]
    Compile {
        /// The id of the rule, or what the pattern belongs to.
        rule: String,
        /// What is wrong with it.
        source: Box<regex_automata::meta::BuildError>,
    },
    /// Something that gitleaks does and we do not.
    #[error("rule {rule}: {what}")]
    Unsupported {
        /// The id of the rule, or what else it is about.
        rule: String,
        /// What is not supported.
        what: String,
    },
}
