//! The `[[roots.sessions]]` tables and what stands below them. TOML in, rules out.

use std::sync::Arc;

use crate::error::AdapterError;
use crate::parse::rules::{checked, patterns, row_match};
use crate::parse::table::Table;
use crate::rows;
use crate::sessions::{
    Catalogue, CatalogueEntries, MessageTable, Pick, RecordFormat, RowTemplate, SessionRule,
    SessionSource, SessionTable, check_template, keys, pick,
};

const SESSIONS_KEYS: &[&str] = &[
    "file",
    "format",
    "records",
    "database",
    "table",
    "where",
    "id",
    "title",
    "project",
    "parent",
    "time",
    "first",
    "last",
    "role",
    "content",
    "roles",
    "name",
    "hidden",
    "not_title",
    "sub_agent",
    "companions",
    "sequence",
    "messages",
    "catalogue",
];
const MESSAGES_KEYS: &[&str] =
    &["table", "column", "is", "glob", "order", "role", "content", "time", "name", "part_of"];
const CATALOGUE_KEYS: &[&str] = &[
    "root", "file", "list", "key", "members", "value", "title", "project", "database", "table",
    "column", "is", "glob", "number", "json",
];

pub(super) fn session_tables(root: &Table<'_>) -> Result<Vec<SessionTable>, AdapterError> {
    let tables = root.tables("sessions", "roots.sessions.", "must be [[roots.sessions]] tables")?;
    tables.iter().map(session_table).collect()
}

fn session_table(table: &Table<'_>) -> Result<SessionTable, AdapterError> {
    table.only(SESSIONS_KEYS)?;
    let (place, source) = match (table.has("file"), table.has("database")) {
        (true, false) => {
            table.not_with("file", &["table", "where", "sequence", "messages"])?;
            (patterns(table, "file")?, file_source(table)?)
        }
        (false, true) => {
            table.not_with("database", &["format", "records", "role", "content", "name"])?;
            let rows =
                table.table("where", "roots.sessions.where.")?.map(|table| row_match(&table));
            let source = SessionSource::Rows { table: name(table)?, rows: rows.transpose()? };
            (patterns(table, "database")?, source)
        }
        (true, true) => {
            let what = "does not go together with file; write two tables";
            return Err(table.error_at("database", what));
        }
        (false, false) => {
            return Err(table.missing("file", "sessions are in a file or in a database"));
        }
    };
    let id = picks(table, "id")?;
    if id.is_empty() {
        return Err(table.missing("id", "where the session's id stands, such as '@name'"));
    }
    let word = |text: &str| match text.split_once('=') {
        Some((written, meant)) => Ok((written.to_owned(), meant.to_owned())),
        None => Err(format!("'{text}' must be WRITTEN=MEANT")),
    };
    let messages = table.tables("messages", "roots.sessions.messages.", "must be tables")?;
    let catalogue = table.tables("catalogue", "roots.sessions.catalogue.", "must be tables")?;
    let own = if table.has("database") { place.clone() } else { Vec::new() };
    let rule = SessionRule {
        source,
        id,
        title: picks(table, "title")?,
        project: picks(table, "project")?,
        parent: picks(table, "parent")?,
        time: picks(table, "time")?,
        first: picks(table, "first")?,
        last: picks(table, "last")?,
        role: picks(table, "role")?,
        roles: table.parsed("roles", word)?,
        content: picks(table, "content")?,
        name: picks(table, "name")?,
        hidden: picks(table, "hidden")?,
        not_title: table.parsed("not_title", |text| Ok(text.to_owned()))?,
        sub_agent: table.flag("sub_agent")?,
        companions: templates(table, "companions")?,
        sequence: sequence(table)?,
        messages: messages.iter().map(message_table).collect::<Result<_, _>>()?,
        catalogue: catalogue
            .iter()
            .map(|table| one_catalogue(table, &own))
            .collect::<Result<_, _>>()?,
    };
    Ok(SessionTable { patterns: place, rule: Arc::new(rule) })
}

fn file_source(table: &Table<'_>) -> Result<SessionSource, AdapterError> {
    let said = table.word("format", &RecordFormat::WORDS)?;
    let written = |text: &str| -> Result<RecordFormat, String> {
        let plain = text.strip_suffix(".zst").unwrap_or(text);
        let by_name = match plain.rsplit_once('.') {
            Some((_, "jsonl")) => Some(RecordFormat::Lines),
            Some((_, "json")) => Some(RecordFormat::Document),
            _ => None,
        };
        said.or(by_name).ok_or_else(|| {
            format!("'{text}': its name does not tell the format; write format, json or jsonl")
        })
    };
    let formats = table.parsed("file", written)?;
    let Some(&format) = formats.first() else {
        return Err(table.missing("file", "a pattern for the files that are sessions"));
    };
    if formats.iter().any(|other| *other != format) {
        return Err(table.error_at("file", "must be of one format; write two tables"));
    }
    if format == RecordFormat::Lines {
        table.not_with("format = \"jsonl\"", &["records"])?;
    }
    Ok(SessionSource::File { format, records: table.string("records")? })
}

fn sequence(table: &Table<'_>) -> Result<Option<(Pick, String)>, AdapterError> {
    let found = table.parsed("sequence", |text| {
        let Some((list, key)) = text.rsplit_once('.') else {
            return Err(format!("'{text}' must be the path of a list, '.' and a key of its items"));
        };
        Ok((pick(list)?, key.to_owned()))
    })?;
    Ok(found.into_iter().next())
}

fn message_table(table: &Table<'_>) -> Result<MessageTable, AdapterError> {
    table.only(MESSAGES_KEYS)?;
    Ok(MessageTable {
        table: name(table)?,
        rows: row_template(table)?,
        order: checked(table, "order", rows::check_name)?,
        role: picks(table, "role")?,
        content: picks(table, "content")?,
        time: picks(table, "time")?,
        name: picks(table, "name")?,
        part_of: picks(table, "part_of")?,
    })
}

fn one_catalogue(table: &Table<'_>, own: &[String]) -> Result<Catalogue, AdapterError> {
    table.only(CATALOGUE_KEYS)?;
    let mut files = templates(table, "file")?;
    let entries = if table.has("table") {
        table.not_with("table", &["file", "members", "value", "title", "project"])?;
        files = templates(table, "database")?;
        if files.is_empty() {
            files = own.to_vec();
        }
        in_database(table)?
    } else {
        table.not_with("file", &["database", "column", "is", "glob", "number", "json"])?;
        in_file(table, &files)?
    };
    if files.is_empty() {
        return Err(table.missing("file", "a catalogue is a file or a database"));
    }
    Ok(Catalogue {
        root: table.string("root")?,
        files,
        entries,
        title: picks(table, "title")?,
        project: picks(table, "project")?,
    })
}

fn in_file(table: &Table<'_>, files: &[String]) -> Result<CatalogueEntries, AdapterError> {
    if table.has("members") {
        table.not_with("members", &["list", "key"])?;
        let value = table.required("value", "the value that a member of the session has")?;
        return Ok(CatalogueEntries::Members { members: path(table, "members")?, value });
    }
    let key = key(table)?;
    let is_lines = |file: &String| file.rsplit_once('.').is_some_and(|(_, end)| end == "jsonl");
    let lines = files.iter().all(is_lines);
    if lines && !table.has("list") {
        return Ok(CatalogueEntries::Lines { key });
    }
    if files.iter().any(is_lines) {
        return Err(table.error_at("list", "is for JSON documents; write two tables"));
    }
    Ok(CatalogueEntries::List { list: path(table, "list")?, key })
}

fn in_database(table: &Table<'_>) -> Result<CatalogueEntries, AdapterError> {
    let rows = row_template(table)?;
    if !table.has("json") {
        table.not_with("table", &["list", "key"])?;
        let number = table.string("number")?;
        return Ok(CatalogueEntries::Rows { table: name(table)?, rows, number });
    }
    table.not_with("json", &["glob", "number"])?;
    let [value] = rows.is.as_slice() else {
        return Err(table.error_at("is", "must be the one value of the row with the list"));
    };
    Ok(CatalogueEntries::RowList {
        table: name(table)?,
        row: (rows.column, value.clone()),
        json: table.required("json", "the column with the list")?,
        list: path(table, "list")?,
        key: key(table)?,
    })
}

fn row_template(table: &Table<'_>) -> Result<RowTemplate, AdapterError> {
    let column = table.required("column", "the column in which the session's id stands")?;
    rows::check_name(&column).map_err(|what| table.error_at("column", what))?;
    let mut is = checked(table, "is", rows::check_name)?;
    let glob = checked(table, "glob", rows::check_name)?;
    if is.is_empty() && glob.is_empty() {
        is.push("{id}".to_owned());
    }
    Ok(RowTemplate { column, is, glob })
}

fn name(table: &Table<'_>) -> Result<String, AdapterError> {
    let name = table.required("table", "the name of a table")?;
    rows::check_table(&name).map_err(|what| table.error_at("table", what))?;
    Ok(name)
}

fn key(table: &Table<'_>) -> Result<Pick, AdapterError> {
    let found = picks(table, "key")?.into_iter().next();
    found.ok_or_else(|| table.missing("key", "where the session's id stands in an entry"))
}

fn path(table: &Table<'_>, key: &str) -> Result<Vec<String>, AdapterError> {
    Ok(table.parsed(key, keys)?.into_iter().next().unwrap_or_default())
}

fn picks(table: &Table<'_>, key: &str) -> Result<Vec<Pick>, AdapterError> {
    table.parsed(key, pick)
}

fn templates(table: &Table<'_>, key: &str) -> Result<Vec<String>, AdapterError> {
    table.parsed(key, |text| check_template(text).map(|()| text.to_owned()))
}
