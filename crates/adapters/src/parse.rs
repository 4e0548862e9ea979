//! The adapter file: TOML text in, [`Adapter`] out.
//!
//! Strict on purpose. A mistyped key in a backup's rules would be found out on the day of the
//! restore, so every key must be known, every pattern must compile and every error names its line.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::adapter::{Adapter, RootSpec, Source};
use crate::error::AdapterError;
use crate::pattern;
use crate::place::{Override, Place};
use crate::rows::{self, RowAction, RowMatch, RowRule, RowTable, RowValues};
use crate::rules::Lists;

/// The version of the format that this program writes and the newest it reads.
const VERSION: u64 = 1;

const ADAPTER_KEYS: &[&str] =
    &["version", "id", "name", "homepage", "notes", "hint", "roots", "groups"];
const GROUP_KEYS: &[&str] = &["name", "members"];
const LIST_KEYS: &[&str] =
    &["include", "exclude", "secret_exclude", "sqlite", "rows", "volatile", "max_file_size"];
const ROWS_KEYS: &[&str] = &["database", "table", "where", "delete", "redact"];
/// Values that one rule compares with: SQLite limits how long a condition may be.
const VALUES_MAX: usize = 100;
const WHERE_KEYS: &[&str] = &["column", "is", "glob"];
const PLACE_KEYS: &[&str] = &["all", "linux", "macos", "windows"];
const ROOT_KEYS: &[&str] = &[
    "label",
    "env",
    "env_file",
    "all",
    "linux",
    "macos",
    "windows",
    "several",
    "marker",
    "files",
    "like",
    "include",
    "exclude",
    "secret_exclude",
    "sqlite",
    "rows",
    "volatile",
    "max_file_size",
];

pub(crate) fn adapter(text: &str, origin: &str, source: Source) -> Result<Adapter, AdapterError> {
    let file = File { text, origin };
    let document = DeTable::parse(text)
        .map_err(|error| file.error(error.span().unwrap_or(0..0), "", error.message()))?;
    let top = Table { file, keys: document.get_ref(), at: 0..0, prefix: "" };
    // The version comes first: keys of a newer one are not this user's typing errors.
    match top.number("version")? {
        Some((VERSION, _)) => {}
        Some((other, at)) => {
            let what = format!("{other} is not known here; this program reads version {VERSION}");
            return Err(file.error(at, "version", what));
        }
        None => return Err(top.missing("version", &format!("write version = {VERSION}"))),
    }
    top.only(ADAPTER_KEYS)?;
    let mut adapter = Adapter {
        id: top.name("id")?,
        name: top.required("name", "the agent's name as people write it")?,
        homepage: top.string("homepage")?,
        notes: top.strings("notes")?.into_iter().map(|(note, _)| note).collect(),
        hint: top.string("hint")?,
        source,
        text: text.to_owned(),
        roots: roots(&top)?,
    };
    groups(&top, &mut adapter.roots)?;
    Ok(adapter)
}

fn roots(top: &Table<'_>) -> Result<Vec<RootSpec>, AdapterError> {
    let (mut roots, mut labels): (Vec<RootSpec>, _) = (Vec::new(), HashSet::new());
    for table in top.tables("roots", "roots.", "must be [[roots]] tables")? {
        table.only(ROOT_KEYS)?;
        let label = table.name("label")?;
        if !labels.insert(label.clone()) {
            return Err(table.error_at("label", format!("'{label}' is used twice")));
        }
        roots.push(root(&table, label, &roots)?);
    }
    if roots.is_empty() {
        return Err(top.missing("roots", "an adapter needs at least one [[roots]] table"));
    }
    Ok(roots)
}

/// Gives each `[[groups]]` table's members to the roots they are in.
fn groups(top: &Table<'_>, roots: &mut [RootSpec]) -> Result<(), AdapterError> {
    let mut names = HashSet::new();
    for table in top.tables("groups", "groups.", "must be [[groups]] tables")? {
        table.only(GROUP_KEYS)?;
        let name = table.name("name")?;
        if !names.insert(name.clone()) {
            return Err(table.error_at("name", format!("'{name}' is used twice")));
        }
        let members = table.parsed("members", |text| member(text, roots))?;
        let Some((first, _)) = members.first() else {
            return Err(table.missing("members", "a group needs patterns such as 'home:*.db'"));
        };
        // Which of several roots would belong to the one that stands alone?
        if members.iter().any(|(root, _)| roots[*root].several != roots[*first].several) {
            let what = "the roots must all have several = true, or none of them";
            return Err(table.error_at("members", what));
        }
        for (root, pattern) in members {
            roots[root].lists.groups.push((name.clone(), pattern));
        }
    }
    Ok(())
}

/// `home:*.db`: the root of that label, by its number, and the pattern.
fn member(text: &str, roots: &[RootSpec]) -> Result<(usize, String), String> {
    let Some((label, pattern)) = text.split_once(':') else {
        return Err(format!("'{text}' must be the label of a root, ':' and a pattern"));
    };
    let Some(root) = roots.iter().position(|root| root.label == label) else {
        return Err(format!("'{text}': no root has the label '{label}'"));
    };
    pattern::check(pattern).map(|()| (root, pattern.to_owned()))
}

fn root(table: &Table<'_>, label: String, earlier: &[RootSpec]) -> Result<RootSpec, AdapterError> {
    let env_file = table.parsed("env_file", Override::parse)?;
    let env = table.parsed("env", Override::parse)?;
    let several = table.flag("several")?;
    let all = places(table, "all", several)?;
    let on = |key| -> Result<Vec<Place>, AdapterError> {
        if table.has(key) { places(table, key, several) } else { Ok(all.clone()) }
    };
    let (linux, macos, windows) = (on("linux")?, on("macos")?, on("windows")?);
    if env.is_empty() && env_file.is_empty() && !PLACE_KEYS.iter().any(|key| table.has(key)) {
        return Err(
            table.missing("all", "a root needs all, linux, macos, windows, env or env_file")
        );
    }
    if !env_file.is_empty() {
        table.not_with("env_file", &["env", "files", "include", "several", "marker"])?;
    }
    let marker = table.parsed("marker", plain_path)?.pop();
    Ok(RootSpec {
        lists: lists(table, earlier)?,
        label,
        env,
        env_file,
        linux,
        macos,
        windows,
        several,
        marker,
        compiled: OnceLock::new(),
    })
}

fn places(table: &Table<'_>, key: &str, several: bool) -> Result<Vec<Place>, AdapterError> {
    let plain = Cell::new(0_u32);
    table.parsed(key, |text| {
        let place = Place::parse(text)?;
        if place.is_wild() && !several {
            return Err(format!("'{text}' has a wildcard, which needs several = true"));
        }
        plain.set(plain.get() + u32::from(!place.is_wild()));
        if several && plain.get() > 1 {
            // Their labels would depend on which of them exist.
            return Err(format!("'{text}' is the second without a wildcard; give it its own root"));
        }
        Ok(place)
    })
}

fn lists(table: &Table<'_>, earlier: &[RootSpec]) -> Result<Lists, AdapterError> {
    if let Some(like) = table.string("like")? {
        table.not_with("like", LIST_KEYS)?;
        table.not_with("like", &["files"])?;
        let found = earlier.iter().find(|root| root.label == like);
        let what = || format!("no root above has the label '{like}'");
        return found.map(|root| root.lists.clone()).ok_or_else(|| table.error_at("like", what()));
    }
    let patterns = |key| table.parsed(key, |text| pattern::check(text).map(|()| text.to_owned()));
    let files = table.parsed("files", |text| {
        if text.contains('/') {
            return Err(format!("'{text}' must be the name of a file, without '/'"));
        }
        pattern::check(text).map(|()| text.to_owned())
    })?;
    if !files.is_empty() {
        table.not_with("files", &["include"])?;
    }
    Ok(Lists {
        include: patterns("include")?,
        exclude: patterns("exclude")?,
        secret_exclude: patterns("secret_exclude")?,
        sqlite: patterns("sqlite")?,
        rows: row_tables(table)?,
        volatile: patterns("volatile")?,
        files,
        max_file_size: table.bytes("max_file_size")?,
        groups: Vec::new(),
    })
}

fn row_tables(root: &Table<'_>) -> Result<Vec<RowTable>, AdapterError> {
    let tables = root.tables("rows", "roots.rows.", "must be [[roots.rows]] tables")?;
    tables.iter().map(row_table).collect()
}

fn row_table(table: &Table<'_>) -> Result<RowTable, AdapterError> {
    table.only(ROWS_KEYS)?;
    let checked = |key, check: fn(&str) -> Result<(), String>| {
        table.parsed(key, move |text| check(text).map(|()| text.to_owned()))
    };
    let databases = checked("database", pattern::check)?;
    if databases.is_empty() {
        return Err(table.missing("database", "a pattern for the databases with this table"));
    }
    let name = table.required("table", "the name of a table")?;
    rows::check_table(&name).map_err(|what| table.error_at("table", what))?;
    let redact = checked("redact", rows::check_name)?;
    let action = match (table.flag("delete")?, redact.is_empty()) {
        (true, true) => RowAction::Delete,
        (false, false) => RowAction::Redact(redact),
        (true, false) => return Err(table.error_at("redact", "does not go together with delete")),
        (false, true) if table.has("redact") => {
            return Err(table.error_at("redact", "must name at least one column"));
        }
        (false, true) if table.has("delete") => {
            return Err(table.error_at("delete", "must be true, or redact must name columns"));
        }
        (false, true) => {
            return Err(table.missing("delete", "write delete = true, or redact = [columns]"));
        }
    };
    let rows = table.table("where", "roots.rows.where.")?.map(|table| row_match(&table));
    let rule = RowRule { table: name, rows: rows.transpose()?, action };
    Ok(RowTable { databases, rule: Arc::new(rule) })
}

fn row_match(table: &Table<'_>) -> Result<RowMatch, AdapterError> {
    table.only(WHERE_KEYS)?;
    let column = table.required("column", "the column that rows are found by")?;
    rows::check_name(&column).map_err(|what| table.error_at("column", what))?;
    let globs = table.parsed("glob", |text| rows::check_glob(text).map(|()| text.to_owned()))?;
    let is = table.parsed("is", |text| rows::check_name(text).map(|()| text.to_owned()))?;
    for (key, values) in [("is", &is), ("glob", &globs)] {
        if values.len() > VALUES_MAX {
            let what = format!(
                "has {} values; write a second [[roots.rows]] table after {VALUES_MAX}",
                values.len()
            );
            return Err(table.error_at(key, what));
        }
    }
    let values = match (is.is_empty(), globs.is_empty()) {
        (false, true) => RowValues::Is(is),
        (true, false) => RowValues::Glob(globs),
        (false, false) => return Err(table.error_at("glob", "does not go together with is")),
        (true, true) => return Err(table.missing("is", "write is = [values] or glob = [patterns]")),
    };
    Ok(RowMatch { column, values })
}

fn plain_path(text: &str) -> Result<String, String> {
    if text.contains(['*', '?', '[', '{', '\\']) {
        return Err(format!("'{text}' must be a plain path inside the root"));
    }
    pattern::check(text).map(|()| text.to_owned())
}

#[derive(Clone, Copy)]
struct File<'a> {
    text: &'a str,
    origin: &'a str,
}

impl File<'_> {
    fn error(self, at: Range<usize>, key: &str, what: impl Into<String>) -> AdapterError {
        AdapterError::Invalid {
            origin: self.origin.to_owned(),
            line: 1 + self.text.get(..at.start).unwrap_or_default().matches('\n').count(),
            key: key.to_owned(),
            what: what.into(),
        }
    }
}

/// A table of the file, with typed access to its keys.
struct Table<'a> {
    file: File<'a>,
    keys: &'a DeTable<'a>,
    at: Range<usize>,
    prefix: &'static str,
}

type Found<T> = (T, Range<usize>);

impl<'a> Table<'a> {
    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.keys.get(key)
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn error(&self, at: Range<usize>, key: &str, what: impl Into<String>) -> AdapterError {
        self.file.error(at, &format!("{}{key}", self.prefix), what)
    }

    fn error_at(&self, key: &str, what: impl Into<String>) -> AdapterError {
        let at = self.get(key).map_or(self.at.clone(), Spanned::span);
        self.error(at, key, what)
    }

    fn missing(&self, key: &str, what: &str) -> AdapterError {
        self.error(self.at.clone(), key, format!("is missing: {what}"))
    }

    /// Refuses keys that are not known, the first in the file first.
    fn only(&self, known: &[&str]) -> Result<(), AdapterError> {
        let unknown = |key: &&Spanned<_>| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            !known.contains(&name.as_ref())
        };
        match self.keys.keys().filter(unknown).min_by_key(|key| key.span().start) {
            None => Ok(()),
            Some(key) => {
                let what = format!("unknown key; known here: {}", known.join(", "));
                Err(self.error(key.span(), key.get_ref(), what))
            }
        }
    }

    fn not_with(&self, key: &str, others: &[&str]) -> Result<(), AdapterError> {
        match others.iter().find(|other| self.has(other)) {
            None => Ok(()),
            Some(other) => Err(self.error_at(other, format!("does not go together with {key}"))),
        }
    }

    fn string(&self, key: &str) -> Result<Option<String>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.error(value.span(), key, "must be a string")),
        }
    }

    fn required(&self, key: &str, why: &str) -> Result<String, AdapterError> {
        self.string(key)?.filter(|text| !text.is_empty()).ok_or_else(|| self.missing(key, why))
    }

    /// An id or label.
    fn name(&self, key: &str) -> Result<String, AdapterError> {
        let name = self.required(key, "a short name of a-z, 0-9, '.', '_' and '-'")?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if name.starts_with(['.', '-']) || !name.chars().all(plain) {
            let what = format!(
                "'{name}' may have only a-z, 0-9, '.', '_' and '-', and no '.' or '-' first"
            );
            return Err(self.error_at(key, what));
        }
        Ok(name)
    }

    /// A list of strings; a single string is a list of one.
    fn strings(&self, key: &str) -> Result<Vec<Found<String>>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        if let Some(text) = value.get_ref().as_str() {
            return Ok(vec![(text.to_owned(), value.span())]);
        }
        let wrong = |at| self.error(at, key, "must be a string or a list of strings");
        let items = value.get_ref().as_array().ok_or_else(|| wrong(value.span()))?;
        let text = |item: &Spanned<DeValue<'_>>| match item.get_ref().as_str() {
            Some(text) => Ok((text.to_owned(), item.span())),
            None => Err(wrong(item.span())),
        };
        items.iter().map(text).collect()
    }

    fn parsed<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, AdapterError> {
        let one = |(text, at): Found<String>| parse(&text).map_err(|e| self.error(at, key, e));
        self.strings(key)?.into_iter().map(one).collect()
    }

    fn flag(&self, key: &str) -> Result<bool, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(false) };
        let wrong = || self.error(value.span(), key, "must be true or false");
        value.get_ref().as_bool().ok_or_else(wrong)
    }

    fn number(&self, key: &str) -> Result<Option<Found<u64>>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok());
        match number {
            Some(number) => Ok(Some((number, value.span()))),
            None => Err(self.error(value.span(), key, "must be a whole number")),
        }
    }

    /// A size: a number of bytes, or a string such as `"4 GiB"`.
    fn bytes(&self, key: &str) -> Result<Option<u64>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(text) = value.get_ref().as_str() else {
            return Ok(self.number(key)?.map(|(bytes, _)| bytes));
        };
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim() {
            "B" => Some(1_u64),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            "TiB" => Some(1 << 40),
            _ => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(unit).and_then(|(n, unit)| n.checked_mul(unit));
        let wrong =
            || self.error(value.span(), key, format!("'{text}' is not a size such as \"4 GiB\""));
        bytes.map(Some).ok_or_else(wrong)
    }

    fn tables(
        &self,
        key: &str,
        prefix: &'static str,
        what: &str,
    ) -> Result<Vec<Table<'a>>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let wrong = |at| self.error(at, key, what);
        let items = value.get_ref().as_array().ok_or_else(|| wrong(value.span()))?;
        let table = |item: &'a Spanned<DeValue<'a>>| {
            let keys = item.get_ref().as_table().ok_or_else(|| wrong(item.span()))?;
            Ok(Table { file: self.file, keys, at: item.span(), prefix })
        };
        items.iter().map(table).collect()
    }

    fn table(&self, key: &str, prefix: &'static str) -> Result<Option<Table<'a>>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.error(value.span(), key, "must be a table: { column = \"name\", ... }");
        let keys = value.get_ref().as_table().ok_or_else(wrong)?;
        Ok(Some(Table { file: self.file, keys, at: value.span(), prefix }))
    }
}
