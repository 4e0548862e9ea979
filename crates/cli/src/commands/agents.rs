//! `agents`: which agents are known, and what of them is on this machine.

use adapters::{Adapter, Source};
use anyhow::Result;
use serde::Serialize;

use crate::args::Agents;
use crate::commands::{Context, roots};
use crate::exit::{Exit, Usage};
use crate::ui::{json, sanitize};

#[derive(Serialize)]
struct Document {
    agents: Vec<AgentRecord>,
}

#[derive(Serialize)]
struct AgentRecord {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    builtin: bool,
    roots: Vec<RootRecord>,
    refused: Vec<json::Problem>,
    candidates: Vec<json::Path>,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<String>,
}

#[derive(Serialize)]
struct RootRecord {
    label: String,
    #[serde(flatten)]
    dir: json::Path,
}

pub(crate) fn run(args: &Agents, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let known = adapters::load(Some(&context.settings.adapters_dir))?;
    for name in &args.agents {
        if !known.iter().any(|adapter| adapter.id() == name) {
            return Err(Usage(format!("no agent is called '{}'", sanitize::text(name))).into());
        }
    }
    let wanted = |a: &&Adapter| args.agents.is_empty() || args.agents.iter().any(|n| n == a.id());
    let adapters: Vec<&Adapter> = known.iter().filter(wanted).collect();
    if screen.json() {
        let record = |adapter: &&Adapter| record(adapter, args.show, context);
        screen.document(&Document { agents: adapters.iter().map(record).collect() })?;
        return Ok(Exit::Done);
    }
    for adapter in adapters {
        if args.show {
            screen.bytes(adapter.text().as_bytes())?;
        } else {
            show(adapter, screen.verbose() > 0 || !args.agents.is_empty(), context)?;
        }
    }
    Ok(Exit::Done)
}

fn show(adapter: &Adapter, all: bool, context: &Context<'_>) -> Result<()> {
    let (screen, env) = (context.screen, &context.settings.adapters_env);
    let survey = adapter.survey(env);
    let found = if survey.roots.is_empty() { "not here" } else { "found" };
    let (id, name) = (sanitize::text(adapter.id()), sanitize::text(adapter.name()));
    screen.line(format_args!("{id:<12} {found:<9} {name}"))?;
    for root in &survey.roots {
        let dir = roots::shorten(&root.dir, &env.home);
        screen.line(format_args!("    {:<28} {dir}", sanitize::text(&root.label)))?;
    }
    for refused in &survey.refused {
        let path = roots::shorten(&refused.path, &env.home);
        screen.line(format_args!("    not taken: {path} {}", sanitize::text(&refused.why)))?;
    }
    if !all {
        return Ok(());
    }
    for path in adapter.candidates(env) {
        screen.line(format_args!("    looks in {}", roots::shorten(&path, &env.home)))?;
    }
    let hint = if survey.roots.is_empty() { adapter.hint() } else { None };
    for note in adapter.notes().iter().map(String::as_str).chain(hint) {
        screen.line(format_args!("    {}", sanitize::text(note)))?;
    }
    Ok(())
}

fn record(adapter: &Adapter, show: bool, context: &Context<'_>) -> AgentRecord {
    let env = &context.settings.adapters_env;
    let survey = adapter.survey(env);
    let path = |path: &std::path::Path| json::Path::new(path.as_os_str().as_encoded_bytes());
    AgentRecord {
        id: adapter.id().to_owned(),
        name: adapter.name().to_owned(),
        homepage: adapter.homepage().map(str::to_owned),
        builtin: matches!(adapter.source(), Source::Builtin),
        roots: survey
            .roots
            .iter()
            .map(|root| RootRecord { label: root.label.clone(), dir: path(&root.dir) })
            .collect(),
        refused: survey
            .refused
            .iter()
            .map(|one| json::Problem { path: path(&one.path), what: one.why.clone() })
            .collect(),
        candidates: adapter.candidates(env).iter().map(|p| path(p)).collect(),
        notes: adapter.notes().to_vec(),
        hint: adapter.hint().map(str::to_owned),
        adapter: show.then(|| adapter.text().to_owned()),
    }
}
