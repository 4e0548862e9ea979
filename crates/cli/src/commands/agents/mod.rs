//! `agents`: which agents are here and what of them is backed up; their adapter files; a check of one's own.

mod look;

use std::path::Path;

use adapters::{Adapter, AdapterError, Source};
use anyhow::Result;
use serde::Serialize;

use crate::args::{Agents, AgentsCommand};
use crate::commands::{Context, roots};
use crate::exit::{Exit, Usage};
use crate::ui::{json, sanitize, size};
use look::Look;

/// Names in one line before it says how many more there are; `-v` shows all.
const NAMES_MAX: usize = 6;

#[derive(Serialize)]
struct Document {
    /// The file that was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_base64: Option<String>,
    agents: Vec<AgentRecord>,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    adapter: &'a str,
}

#[derive(Serialize)]
struct AgentRecord {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    builtin: bool,
    found: bool,
    roots: Vec<look::RootRecord>,
    refused: Vec<json::Problem>,
    problems: Vec<json::Problem>,
    candidates: Vec<json::Path>,
    notes: Vec<String>,
    portability: Vec<String>,
    running: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

pub(crate) fn run(args: &Agents, context: &Context<'_>) -> Result<Exit> {
    match &args.command {
        Some(_) if args.all || !args.only.is_empty() => {
            Err(Usage("agents show ID and agents check FILE take nothing else".to_owned()).into())
        }
        Some(AgentsCommand::Show { id }) => show(id, context),
        Some(AgentsCommand::Check { file }) => check(file, context),
        None => list(args, context),
    }
}

fn list(args: &Agents, context: &Context<'_>) -> Result<Exit> {
    let known = context.settings.adapters()?;
    let mut looks = Vec::new();
    if args.only.is_empty() {
        for adapter in &known {
            let look = Look::at(adapter, context)?;
            if args.all || look.found_something() {
                looks.push(look);
            }
        }
    }
    for id in &args.only {
        looks.push(Look::at(named(&known, id)?, context)?);
    }
    if context.screen.json() {
        let agents = looks.iter().map(|look| record(look, context)).collect();
        context.screen.document(&Document { file: None, file_base64: None, agents })?;
        return Ok(Exit::Done);
    }
    for look in &looks {
        print(look, !args.only.is_empty(), context)?;
    }
    if looks.is_empty() {
        context.screen.line("no agent that is known is on this machine")?;
    }
    if args.only.is_empty() && !args.all {
        let more = known.len() - looks.len();
        context
            .screen
            .note(format_args!("{more} more are known and not here: agent-backup agents --all"));
    }
    Ok(Exit::Done)
}

fn named<'a>(known: &'a [Adapter], id: &str) -> Result<&'a Adapter> {
    let found = known.iter().find(|adapter| adapter.id() == id);
    found.ok_or_else(|| Usage(format!("no agent is called '{}'", sanitize::text(id))).into())
}

fn show(id: &str, context: &Context<'_>) -> Result<Exit> {
    let known = context.settings.adapters()?;
    let adapter = named(&known, id)?;
    if context.screen.json() {
        context.screen.document(&Shown { id: adapter.id(), adapter: adapter.text() })?;
    } else {
        context.screen.bytes(adapter.text().as_bytes())?;
    }
    Ok(Exit::Done)
}

/// A file that is wrong is an error with its line (code 19); of one that is right, what it takes here.
fn check(file: &Path, context: &Context<'_>) -> Result<Exit> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| AdapterError::Io { path: file.to_owned(), source })?;
    let adapter = Adapter::parse(&text, &file.display().to_string())?;
    let look = Look::at(&adapter, context)?;
    if context.screen.json() {
        let (file, file_base64) = json::name(file.as_os_str().as_encoded_bytes());
        let agents = vec![record(&look, context)];
        context.screen.document(&Document { file: Some(file), file_base64, agents })?;
        return Ok(Exit::Done);
    }
    context.screen.line(format_args!("{} is a valid adapter", sanitize::path(file)))?;
    print(&look, true, context)?;
    if adapters::builtin().iter().any(|known| known.id() == adapter.id()) {
        context.screen.note(
            "in the directory of your adapters it takes the place of the one that is brought along",
        );
    }
    Ok(Exit::Done)
}

fn print(look: &Look<'_>, all: bool, context: &Context<'_>) -> Result<()> {
    let (screen, env, adapter) = (context.screen, &context.settings.adapters_env, look.adapter);
    let all = all || screen.verbose() > 0;
    let found = if look.roots.is_empty() { "not here" } else { "found" };
    let (id, name) = (sanitize::text(adapter.id()), sanitize::text(adapter.name()));
    screen.line(format_args!("{id:<17} {found:<9} {name}"))?;
    for root in &look.roots {
        let dir = roots::shorten(&root.dir, &env.home);
        screen.line(format_args!("    {:<28} {dir}", sanitize::text(&root.label)))?;
        let databases = if root.databases == 1 { "database" } else { "databases" };
        screen.line(format_args!(
            "        {} files, {}, {} {databases}",
            root.files,
            size::show(root.bytes),
            root.databases
        ))?;
        for (what, names) in [
            ("secrets left out", &root.secrets),
            ("without the keys in it", &root.fields),
            ("without the logins in it", &root.rows),
            ("too large, left out", &root.too_large),
            ("left out", &root.left_out),
        ] {
            if !names.is_empty() {
                screen
                    .line(format_args!("        {what}: {}", some(names, screen.verbose() > 0)))?;
            }
        }
    }
    for (path, what) in &look.problems {
        screen.line(format_args!("    {}: {}", sanitize::bytes(path), sanitize::text(what)))?;
    }
    for refused in &look.refused {
        let path = roots::shorten(&refused.path, &env.home);
        screen.line(format_args!("    not taken: {path} {}", sanitize::text(&refused.why)))?;
    }
    if !all {
        return Ok(());
    }
    for path in adapter.candidates(env) {
        screen.line(format_args!("    looks in {}", roots::shorten(&path, &env.home)))?;
    }
    let hint = if look.roots.is_empty() { adapter.hint() } else { None };
    let texts = adapter.notes().iter().chain(adapter.portability()).map(String::as_str);
    for text in texts.chain(hint) {
        screen.line(format_args!("    {}", sanitize::text(text)))?;
    }
    Ok(())
}

/// A few names, and how many more there are.
fn some(names: &[Vec<u8>], all: bool) -> String {
    let count = if all { names.len() } else { names.len().min(NAMES_MAX) };
    let shown: Vec<String> = names[..count].iter().map(|name| sanitize::bytes(name)).collect();
    match names.len() - count {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn record(look: &Look<'_>, context: &Context<'_>) -> AgentRecord {
    let (env, adapter) = (&context.settings.adapters_env, look.adapter);
    let path = |path: &Path| json::Path::new(path.as_os_str().as_encoded_bytes());
    let refused = look.refused.iter();
    let problems = look.problems.iter();
    AgentRecord {
        id: adapter.id().to_owned(),
        name: adapter.name().to_owned(),
        homepage: adapter.homepage().map(str::to_owned),
        builtin: matches!(adapter.source(), Source::Builtin),
        found: !look.roots.is_empty(),
        roots: look.roots.iter().map(look::RootLook::record).collect(),
        refused: refused
            .map(|one| json::Problem { path: path(&one.path), what: one.why.clone() })
            .collect(),
        problems: problems
            .map(|(path, what)| json::Problem { path: json::Path::new(path), what: what.clone() })
            .collect(),
        candidates: adapter.candidates(env).iter().map(|one| path(one)).collect(),
        notes: adapter.notes().to_vec(),
        portability: adapter.portability().to_vec(),
        running: adapter.running().to_vec(),
        hint: adapter.hint().map(str::to_owned),
    }
}
