//! Session rules: where an agent keeps its conversations, how their data is read, and what belongs to
//! each.
//!
//! In: the `[[roots.sessions]]` tables of a root. Out: for each path the [`SessionRule`]s that apply to
//! it. A rule only names places: dotted paths in records, tables, columns, patterns. Nothing here
//! reads a transcript. Templates (`file-history/{id}`) become patterns or values with [`Values`].

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::{Candidate, GlobSet, GlobSetBuilder};

use crate::error::AdapterError;
use crate::pattern::{self, Case, Cover};
use crate::rows::RowMatch;

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pick {
    /// In a record of the file, or a column of a row and what is in it.
    Field {
        /// Only in records that have this value there.
        when: Option<(Vec<String>, String)>,
        /// Keys, or numbers of list items, one by one. Empty: the record itself.
        path: Vec<String>,
    },
    /// It is the file's name without its extension.
    Name,
    /// It is the name of the directory that the file is in.
    Directory,
    /// It is the UUID at the end of the file's name.
    Uuid,
}

/// How a file of records is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordFormat {
    /// One JSON value in each line.
    Lines,
    /// One JSON value: a list of records, an object that has one, or a single record.
    Document,
}

impl RecordFormat {
    /// The words that stand for formats in adapter files.
    pub(crate) const WORDS: [(&'static str, Self); 2] =
        [("jsonl", Self::Lines), ("json", Self::Document)];
}

/// What holds sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SessionSource {
    /// A file is one session.
    File {
        /// How it is written.
        format: RecordFormat,
        /// Of a document: the key of the list of records.
        records: Option<String>,
    },
    /// A row of a database is one session.
    Rows {
        /// The table.
        table: String,
        /// Which rows; none is every row.
        rows: Option<RowMatch>,
    },
}

/// A table with the messages of a session that is a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageTable {
    /// The table.
    pub table: String,
    /// Its rows that belong to the session.
    pub rows: RowTemplate,
    /// Columns that they are sorted by.
    pub order: Vec<String>,
    /// Who speaks.
    pub role: Vec<Pick>,
    /// What is said. A table without it only says who speaks and when.
    pub content: Vec<Pick>,
    /// When.
    pub time: Vec<Pick>,
    /// What the row is called by others.
    pub name: Vec<Pick>,
    /// The name of the message that it is a part of.
    pub part_of: Vec<Pick>,
}

/// Rows by the value of a column, in which the session's id stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowTemplate {
    /// The column.
    pub column: String,
    /// Templates of values.
    pub is: Vec<String>,
    /// Templates of SQLite's GLOB patterns.
    pub glob: Vec<String>,
}

/// Where an agent lists its sessions, beside what holds them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Catalogue {
    /// The label of the root, as the adapter has it; none: the root of the session.
    pub root: Option<String>,
    /// Templates of patterns.
    pub files: Vec<String>,
    /// What of them belongs to a session.
    pub entries: CatalogueEntries,
    /// The title that an entry gives its session.
    pub title: Vec<Pick>,
    /// The project that an entry gives its session.
    pub project: Vec<Pick>,
}

/// What of a catalogue belongs to a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CatalogueEntries {
    /// Lines of JSON that have its id there.
    Lines {
        /// Where the id stands.
        key: Pick,
    },
    /// Items of a list in a JSON document.
    List {
        /// Keys that lead to the list; none: the document is it.
        list: Vec<String>,
        /// Where the id stands in an item.
        key: Pick,
    },
    /// Members of an object in a JSON document.
    Members {
        /// Keys that lead to the object.
        members: Vec<String>,
        /// Template of the value that a member must have.
        value: String,
    },
    /// Rows of a database.
    Rows {
        /// The table.
        table: String,
        /// Which rows.
        rows: RowTemplate,
        /// A column that only counts: a row that is put into another database gets its next number.
        number: Option<String>,
    },
    /// Items of a list in JSON that is one value of a row.
    RowList {
        /// The table.
        table: String,
        /// The row: a column and its value.
        row: (String, String),
        /// The column with the JSON.
        json: String,
        /// Keys that lead to the list.
        list: Vec<String>,
        /// Where the id stands in an item.
        key: Pick,
    },
}

/// One kind of session: where it is and how it is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionRule {
    /// What holds it.
    pub source: SessionSource,
    /// Its id: the first of these that has a value; so for the others too, but see `title`.
    pub id: Vec<Pick>,
    /// Its title: of each of these the last value in the file, and of those the first.
    pub title: Vec<Pick>,
    /// The directory it is about.
    pub project: Vec<Pick>,
    /// The session it was forked from, or is a sub-agent of.
    pub parent: Vec<Pick>,
    /// When a record was made.
    pub time: Vec<Pick>,
    /// When the session began, where no record tells.
    pub first: Vec<Pick>,
    /// When it was last used, where no record tells.
    pub last: Vec<Pick>,
    /// Who speaks in a record.
    pub role: Vec<Pick>,
    /// Words for roles: as written, as meant.
    pub roles: Vec<(String, String)>,
    /// What is said: all of these, in order.
    pub content: Vec<Pick>,
    /// What a record is called; a later one of the same name takes its place.
    pub name: Vec<Pick>,
    /// A record that has `true` at one of these is not shown.
    pub hidden: Vec<Pick>,
    /// Beginnings of texts that are no prompt of the user's and give no title.
    pub not_title: Vec<String>,
    /// It is the work of a sub-agent: listed only when asked for.
    pub sub_agent: bool,
    /// Templates of patterns: further files that belong to it. What is in a directory belongs too.
    pub companions: Vec<String>,
    /// Where it is listed.
    pub catalogue: Vec<Catalogue>,
    /// Of a row: the order of its messages, as a list of records with their names.
    pub sequence: Option<(Pick, String)>,
    /// Of a row: the tables with its messages.
    pub messages: Vec<MessageTable>,
}

/// A rule and what it is for, as written.
#[derive(Debug, Clone)]
pub(crate) struct SessionTable {
    pub(crate) patterns: Vec<String>,
    pub(crate) rule: Arc<SessionRule>,
}

/// The compiled session rules of a root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions(Vec<(GlobSet, Arc<SessionRule>)>);

impl Sessions {
    pub(crate) fn compile(tables: &[SessionTable]) -> Result<Self, globset::Error> {
        let compile = |table: &SessionTable| {
            let mut set = GlobSetBuilder::new();
            for pattern in &table.patterns {
                set.add(pattern::glob(pattern, Case::Exact)?);
            }
            Ok((set.build()?, Arc::clone(&table.rule)))
        };
        tables.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// All rules.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<SessionRule>> {
        self.0.iter().map(|(_, rule)| rule)
    }

    /// The rules of a file: the first that matches, and of databases all.
    pub(crate) fn of(&self, rel: &[u8]) -> Vec<Arc<SessionRule>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let path = Candidate::from_bytes(rel);
        let mut found: Vec<Arc<SessionRule>> = Vec::new();
        for (_, rule) in self.0.iter().filter(|(set, _)| set.is_match_candidate(&path)) {
            found.push(Arc::clone(rule));
            if matches!(rule.source, SessionSource::File { .. }) {
                break;
            }
        }
        found
    }
}

/// What stands for the names in templates: `{id}`, `{name}` (of the file, without extension),
/// `{directory}` (its directory's name), `{1}` (the first segment of its path), `{row.column}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    values: BTreeMap<String, String>,
}

/// How a value is written where it is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Plain,
    Pattern,
    Glob,
}

impl Values {
    /// Of a session and the path of its file in its root.
    pub fn new(id: &str, rel: &str) -> Self {
        let mut values = BTreeMap::from([("id".to_owned(), id.to_owned())]);
        values.insert("name".to_owned(), stem(rel).to_owned());
        let segments: Vec<&str> = rel.split('/').collect();
        if let [.., directory, _] = segments.as_slice() {
            values.insert("directory".to_owned(), (*directory).to_owned());
        }
        for (number, segment) in segments.iter().enumerate().take(9) {
            values.insert((number + 1).to_string(), (*segment).to_owned());
        }
        Self { values }
    }

    /// A column of the session's row.
    pub fn set_column(&mut self, column: &str, value: String) {
        self.values.insert(format!("row.{column}"), value);
    }

    /// The template with the values in it; none if one is not known.
    pub fn text(&self, template: &str) -> Option<String> {
        self.fill(template, Written::Plain)
    }

    /// The template as a SQLite GLOB pattern.
    pub fn glob(&self, template: &str) -> Option<String> {
        self.fill(template, Written::Glob)
    }

    /// Compiles templates of patterns. Those with a value that is not known match nothing.
    pub fn patterns(&self, templates: &[String]) -> Result<Matcher, AdapterError> {
        let patterns: Vec<String> =
            templates.iter().filter_map(|text| self.fill(text, Written::Pattern)).collect();
        let cover = Cover::compile(&patterns, Case::Exact).map_err(|error| {
            AdapterError::Pattern { pattern: patterns.join(" "), what: error.to_string() }
        })?;
        Ok(Matcher(cover))
    }

    fn fill(&self, template: &str, written: Written) -> Option<String> {
        let mut out = String::new();
        for part in parts(template) {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => {
                    let value = self.values.get(name)?;
                    match written {
                        Written::Plain => out.push_str(value),
                        Written::Pattern => out.push_str(&pattern::escape(value)),
                        Written::Glob => out.push_str(&glob_escape(value)),
                    }
                }
            }
        }
        Some(out)
    }
}

/// The template as a SQLite GLOB pattern that fits every session; none if every row fits.
pub fn any_session(template: &str) -> Option<String> {
    let mut out = String::new();
    for part in parts(template) {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Name(_) => out.push('*'),
        }
    }
    (out != "*").then_some(out)
}

/// Compiles templates of patterns so that they fit every session.
pub fn any_patterns(templates: &[String]) -> Result<Matcher, AdapterError> {
    let patterns: Vec<String> = templates
        .iter()
        .map(|template| {
            let part = |part| match part {
                Part::Text(text) => text,
                Part::Name(_) => "*",
            };
            parts(template).into_iter().map(part).collect()
        })
        .collect();
    let cover = Cover::compile(&patterns, Case::Exact).map_err(|error| AdapterError::Pattern {
        pattern: patterns.join(" "),
        what: error.to_string(),
    })?;
    Ok(Matcher(cover))
}

/// Patterns that were compiled.
#[derive(Debug, Clone)]
pub struct Matcher(Cover);

impl Matcher {
    /// Does a pattern name this path, or a directory above it?
    pub fn has(&self, rel: &[u8], is_dir: bool) -> bool {
        self.0.has(&Candidate::from_bytes(rel), is_dir)
    }
}

/// The name of a file without its extension; of `.jsonl.zst` both go.
pub fn stem(rel: &str) -> &str {
    let name = rel.rsplit('/').next().unwrap_or(rel);
    let name = name.strip_suffix(".zst").unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem })
}

enum Part<'t> {
    Text(&'t str),
    Name(&'t str),
}

/// Cuts a template at its names. Braces around anything else are text: patterns have alternatives.
fn parts(template: &str) -> Vec<Part<'_>> {
    let mut out = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let end = rest[at..].find('}').map(|end| at + end);
        let Some(end) = end.filter(|end| is_name(&rest[at + 1..*end])) else {
            out.push(Part::Text(&rest[..=at]));
            rest = &rest[at + 1..];
            continue;
        };
        out.push(Part::Text(&rest[..at]));
        out.push(Part::Name(&rest[at + 1..end]));
        rest = &rest[end + 1..];
    }
    out.push(Part::Text(rest));
    out
}

fn is_name(name: &str) -> bool {
    let digit = matches!(name.as_bytes(), [b'1'..=b'9']);
    digit || ["id", "name", "directory"].contains(&name) || name.starts_with("row.")
}

/// Says what is wrong with a template of a pattern, if anything is.
pub(crate) fn check_template(template: &str) -> Result<(), String> {
    let mut sample = String::new();
    for part in parts(template) {
        sample.push_str(match part {
            Part::Text(text) => text,
            Part::Name(_) => "x",
        });
    }
    pattern::check(&sample)
}

/// Reads `path`, `when=value path`, or a word about the file.
pub(crate) fn pick(text: &str) -> Result<Pick, String> {
    match text {
        "@name" => return Ok(Pick::Name),
        "@directory" => return Ok(Pick::Directory),
        "@uuid" => return Ok(Pick::Uuid),
        "@record" => return Ok(Pick::Field { when: None, path: Vec::new() }),
        _ if text.starts_with('@') => {
            return Err(format!("'{text}' is not one of @name, @directory, @uuid, @record"));
        }
        _ => {}
    }
    let (when, path) = match text.split_once(' ') {
        None => (None, text),
        Some((when, path)) => {
            let Some((at, value)) = when.split_once('=') else {
                return Err(format!("'{text}': what stands before the blank must be PATH=VALUE"));
            };
            (Some((keys(at)?, value.to_owned())), path)
        }
    };
    Ok(Pick::Field { when, path: keys(path)? })
}

/// The keys of a dotted path, one by one; `\` takes the next character as it is.
pub(crate) fn keys(dotted: &str) -> Result<Vec<String>, String> {
    let mut keys = vec![String::new()];
    let mut chars = dotted.chars();
    while let Some(c) = chars.next() {
        let last = keys.last_mut().ok_or("is empty")?;
        match c {
            '.' => keys.push(String::new()),
            '\\' => last.push(chars.next().ok_or_else(|| format!("'{dotted}' ends with '\\'"))?),
            '*' => return Err(format!("'{dotted}': no '*' here, the path leads to one value")),
            c => last.push(c),
        }
    }
    if keys.iter().any(String::is_empty) {
        return Err(format!("'{dotted}' has an empty key"));
    }
    Ok(keys)
}

/// A value in which nothing is a wildcard of SQLite's GLOB.
fn glob_escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '*' | '?' | '[') {
            out.extend(['[', c, ']']);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_wildcards_names_itself_alone() {
        let values = Values::new("a*[b]", "projects/-x/a.jsonl");
        let matcher = values.patterns(&["projects/{2}/{id}".to_owned()]).expect("compiles");
        assert!(matcher.has(b"projects/-x/a*[b]", true));
        assert!(matcher.has(b"projects/-x/a*[b]/subagents/1.jsonl", false));
        assert!(!matcher.has(b"projects/-x/aXb", true));
        assert!(!matcher.has(b"projects/-y/a*[b]", true));
        assert_eq!(values.glob("k:{id}:*").as_deref(), Some("k:a[*][[]b]:*"));
        assert_eq!(values.text("k:{row.none}"), None);
    }

    #[test]
    fn a_template_for_all_sessions_names_no_other_row() {
        assert_eq!(any_session("bubbleId:{id}:*").as_deref(), Some("bubbleId:*:*"));
        assert_eq!(any_session("{id}"), None);
    }

    #[test]
    fn the_two_forms_of_a_rollout_have_one_stem() {
        assert_eq!(stem("sessions/rollout-1.jsonl"), "rollout-1");
        assert_eq!(stem("sessions/rollout-1.jsonl.zst"), "rollout-1");
        assert_eq!(stem("a/.hidden"), ".hidden");
    }

    #[test]
    fn a_pick_may_ask_for_a_kind_of_record() {
        let when = Some((vec!["type".to_owned()], "session_meta".to_owned()));
        let path = vec!["payload".to_owned(), "id".to_owned()];
        assert_eq!(pick("type=session_meta payload.id"), Ok(Pick::Field { when, path }));
        for bad in ["", "a..b", "@what", "type payload", "a.*", "a\\"] {
            assert!(pick(bad).is_err(), "{bad}");
        }
    }
}
