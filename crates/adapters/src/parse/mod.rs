//! The adapter file: TOML text in, [`Adapter`] out.
//!
//! Strict on purpose. A mistyped key in a backup's rules would be found out on the day of the
//! restore, so every key must be known, every pattern must compile and every error names its line.

mod rules;
mod sessions;
mod table;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::OnceLock;

use toml::de::DeTable;

use crate::adapter::{Adapter, RootSpec, Source};
use crate::error::AdapterError;
use crate::parse::table::{File, Table};
use crate::pattern;
use crate::place::{Override, Place};
use crate::rules::Lists;

/// The version of the format that this program writes and the newest it reads.
const VERSION: u64 = 1;

const ADAPTER_KEYS: &[&str] = &[
    "version",
    "id",
    "name",
    "homepage",
    "notes",
    "portability",
    "running",
    "hint",
    "roots",
    "groups",
];
const GROUP_KEYS: &[&str] = &["name", "members"];
const LIST_KEYS: &[&str] = &[
    "include",
    "exclude",
    "secret_exclude",
    "sqlite",
    "rows",
    "fields",
    "binds",
    "sessions",
    "volatile",
    "max_file_size",
];
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
    "fields",
    "binds",
    "sessions",
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
        portability: top.parsed("portability", sentence)?,
        running: top.parsed("running", process_name)?,
        hint: top.string("hint")?,
        source,
        text: text.to_owned(),
        roots: roots(&top)?,
    };
    groups(&top, &mut adapter.roots)?;
    catalogue_roots(&top, &adapter.roots)?;
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

/// A catalogue may lie in another root, which must be there, once.
fn catalogue_roots(top: &Table<'_>, roots: &[RootSpec]) -> Result<(), AdapterError> {
    let rules = roots.iter().flat_map(|root| &root.lists.sessions);
    let named = rules.flat_map(|table| &table.rule.catalogue).filter_map(|one| one.root.as_ref());
    for label in named {
        let found = roots.iter().find(|root| root.label == *label);
        let what = match found {
            None => format!("a catalogue names '{label}', which is no root's label"),
            Some(root) if root.several => {
                format!("a catalogue names '{label}', of which there may be several")
            }
            Some(_) => continue,
        };
        return Err(top.error_at("roots", what));
    }
    Ok(())
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
        rows: rules::row_tables(table)?,
        fields: rules::field_tables(table)?,
        binds: rules::bind_tables(table)?,
        sessions: sessions::session_tables(table)?,
        volatile: patterns("volatile")?,
        files,
        max_file_size: table.bytes("max_file_size")?,
        groups: Vec::new(),
    })
}

fn sentence(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A process is found by the name of its program, without a directory.
fn process_name(text: &str) -> Result<String, String> {
    if text.contains(['/', '\\']) {
        return Err(format!("'{text}' must be the name of a program, without its directory"));
    }
    sentence(text)
}

fn plain_path(text: &str) -> Result<String, String> {
    if text.contains(['*', '?', '[', '{', '\\']) {
        return Err(format!("'{text}' must be a plain path inside the root"));
    }
    pattern::check(text).map(|()| text.to_owned())
}
