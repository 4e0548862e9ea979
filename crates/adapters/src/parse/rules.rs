//! The tables below a root: rows, fields and binds. TOML in, rules out.

use std::sync::Arc;

use crate::binds::{Bind, BindFormat, BindTable, Encoding, FileBind};
use crate::error::AdapterError;
use crate::fields::{self, FieldFormat, FieldTable};
use crate::parse::table::Table;
use crate::pattern;
use crate::rows::{self, RowAction, RowMatch, RowRule, RowTable, RowValues};

const ROWS_KEYS: &[&str] = &["database", "table", "where", "delete", "redact"];
const WHERE_KEYS: &[&str] = &["column", "is", "glob"];
const FIELDS_KEYS: &[&str] = &["file", "format", "redact"];
const BINDS_KEYS: &[&str] = &[
    "directory",
    "encoding",
    "file",
    "format",
    "paths",
    "keys",
    "transcript",
    "database",
    "table",
    "columns",
];
/// Values that one rule compares with: SQLite limits how long a condition may be.
const VALUES_MAX: usize = 100;

pub(super) fn row_tables(root: &Table<'_>) -> Result<Vec<RowTable>, AdapterError> {
    let tables = root.tables("rows", "roots.rows.", "must be [[roots.rows]] tables")?;
    tables.iter().map(row_table).collect()
}

pub(super) fn field_tables(root: &Table<'_>) -> Result<Vec<FieldTable>, AdapterError> {
    let tables = root.tables("fields", "roots.fields.", "must be [[roots.fields]] tables")?;
    tables.iter().map(field_table).collect()
}

pub(super) fn bind_tables(root: &Table<'_>) -> Result<Vec<BindTable>, AdapterError> {
    let tables = root.tables("binds", "roots.binds.", "must be [[roots.binds]] tables")?;
    tables.iter().map(bind_table).collect()
}

fn field_table(table: &Table<'_>) -> Result<FieldTable, AdapterError> {
    table.only(FIELDS_KEYS)?;
    let files = formatted(table, &FieldFormat::WORDS)?;
    if files.is_empty() {
        return Err(table.missing("file", "a pattern for the files with these fields"));
    }
    let redact = dotted(table, "redact")?;
    if redact.is_empty() {
        return Err(table.missing("redact", "dotted paths such as 'mcpServers.*.env.*'"));
    }
    Ok(FieldTable { files, redact })
}

/// The patterns in `file`, each with its format: as `format` says, or as its name tells.
fn formatted<T: Copy>(
    table: &Table<'_>,
    words: &[(&'static str, T)],
) -> Result<Vec<(String, T)>, AdapterError> {
    let said = table.word("format", words)?;
    let known = |word: &str| words.iter().find(|(known, _)| *known == word).map(|(_, t)| *t);
    table.parsed("file", |text| {
        pattern::check(text)?;
        let format = said.or_else(|| fields::format_word(text).and_then(known));
        let list = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let what = || {
            format!("'{text}': its name does not tell the format; write format, one of {}", list())
        };
        Ok((text.to_owned(), format.ok_or_else(what)?))
    })
}

fn dotted(table: &Table<'_>, key: &str) -> Result<Vec<String>, AdapterError> {
    table.parsed(key, |text| fields::check_path(text).map(|()| text.to_owned()))
}

fn bind_table(table: &Table<'_>) -> Result<BindTable, AdapterError> {
    table.only(BINDS_KEYS)?;
    let (directory, file) = (table.has("directory"), table.has("file"));
    match (directory, file, table.has("database")) {
        (true, false, false) => bound_directory(table),
        (false, true, false) => bound_file(table),
        (false, false, true) => bound_database(table),
        (false, false, false) => {
            Err(table.missing("directory", "a bind needs one of directory, file and database"))
        }
        _ => {
            let (key, other) =
                if directory && file { ("file", "directory") } else { ("database", "the others") };
            Err(table.error_at(key, format!("does not go together with {other}; write two tables")))
        }
    }
}

fn bound_directory(table: &Table<'_>) -> Result<BindTable, AdapterError> {
    table.not_with("directory", &["format", "paths", "keys", "transcript", "table", "columns"])?;
    let patterns = patterns(table, "directory")?;
    let encoding = table.word("encoding", &Encoding::WORDS)?.ok_or_else(|| {
        let words: Vec<&str> = Encoding::WORDS.iter().map(|(word, _)| *word).collect();
        table.missing("encoding", &format!("one of {}", words.join(", ")))
    })?;
    Ok(BindTable { patterns, bind: Arc::new(Bind::Directory(encoding)) })
}

fn bound_file(table: &Table<'_>) -> Result<BindTable, AdapterError> {
    table.not_with("file", &["encoding", "table", "columns"])?;
    let files = formatted(table, &BindFormat::WORDS)?;
    let Some(&(_, format)) = files.first() else {
        return Err(table.missing("file", "a pattern for the files that name paths"));
    };
    if files.iter().any(|(_, other)| *other != format) {
        return Err(table.error_at("file", "must be of one format; write two tables"));
    }
    let (paths, keys) = (dotted(table, "paths")?, dotted(table, "keys")?);
    if format == BindFormat::Text {
        table.not_with("format = \"text\"", &["paths", "keys"])?;
    } else if paths.is_empty() && keys.is_empty() {
        let what = "dotted paths of values that are paths, or keys of tables whose keys are";
        return Err(table.missing("paths", what));
    }
    let transcript = table.flag("transcript")?;
    let bind = Bind::File(FileBind { format, paths, keys, transcript });
    let patterns = files.into_iter().map(|(pattern, _)| pattern).collect();
    Ok(BindTable { patterns, bind: Arc::new(bind) })
}

fn bound_database(table: &Table<'_>) -> Result<BindTable, AdapterError> {
    table.not_with("database", &["encoding", "format", "paths", "keys", "transcript"])?;
    let patterns = patterns(table, "database")?;
    let name = table.required("table", "the name of a table")?;
    rows::check_table(&name).map_err(|what| table.error_at("table", what))?;
    let columns =
        table.parsed("columns", |text| rows::check_name(text).map(|()| text.to_owned()))?;
    if columns.is_empty() {
        return Err(table.missing("columns", "the columns whose values are paths"));
    }
    Ok(BindTable { patterns, bind: Arc::new(Bind::Database { table: name, columns }) })
}

pub(super) fn patterns(table: &Table<'_>, key: &str) -> Result<Vec<String>, AdapterError> {
    let found = table.parsed(key, |text| pattern::check(text).map(|()| text.to_owned()))?;
    if found.is_empty() {
        return Err(table.error_at(key, "must have at least one pattern"));
    }
    Ok(found)
}

/// Texts that pass a check.
pub(super) fn checked(
    table: &Table<'_>,
    key: &str,
    check: fn(&str) -> Result<(), String>,
) -> Result<Vec<String>, AdapterError> {
    table.parsed(key, |text| check(text).map(|()| text.to_owned()))
}

fn row_table(table: &Table<'_>) -> Result<RowTable, AdapterError> {
    table.only(ROWS_KEYS)?;
    let databases = checked(table, "database", pattern::check)?;
    if databases.is_empty() {
        return Err(table.missing("database", "a pattern for the databases with this table"));
    }
    let name = table.required("table", "the name of a table")?;
    rows::check_table(&name).map_err(|what| table.error_at("table", what))?;
    let redact = checked(table, "redact", rows::check_name)?;
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

pub(super) fn row_match(table: &Table<'_>) -> Result<RowMatch, AdapterError> {
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
