//! `sessions show`: a transcript for people, or its records for programs.

use ::sessions::{Block, Message, Shown};
use anyhow::{Error, Result};
use engine::sessions::{self, Found};

use super::SessionRecord;
use engine::DamagedSnapshot;

use crate::args::ShowSession;
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::commands::{damaged, named};
use crate::exit::{Exit, Stop};
use crate::ui::{Screen, json, sanitize, time};

/// Characters of what a tool gets, in one line.
const CALL_CHARS: usize = 200;
/// Lines of what a tool gave.
const RESULT_LINES: usize = 8;
/// Characters of each of these lines.
const LINE_CHARS: usize = 200;

pub(super) fn run(args: &ShowSession, context: &Context<'_>) -> Result<Exit> {
    let connection = context.open()?;
    let session = &connection.session;
    let adapters = context.settings.adapters()?;
    named::check(&args.agent, session, &context.settings)?;
    let cancel = context.signals.graceful();
    let all = sessions::find(session, &adapters, cancel)?;
    let screen = context.screen;
    // one of them may have it, or more of it
    let not_all = damaged::tell(&all.damaged, screen, Exit::Done);
    let found = all.select(&args.id, args.agent.as_deref(), args.host.as_deref())?;
    if screen.json() {
        return records(found, &all.damaged, context, session);
    }
    head(found, screen)?;
    let mut failed: Option<Error> = None;
    let mut say = |message: Message| match message_lines(&message, args.full, screen) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    };
    let can = sessions::show(session, found, &mut Shown::Messages(&mut say), cancel)?;
    if let Some(error) = failed {
        return Err(error);
    }
    if can { Ok(not_all) } else { Err(no_words(found)) }
}

/// Some sessions are only listed: what was said is written in a way that is not known.
fn no_words(found: &Found) -> Error {
    let agent = sanitize::text(&found.agent);
    let what = format!("what was said in this session of {agent} cannot be read here");
    let hint = "agent-backup sessions --json names its files, agent-backup cat prints them";
    Stop::new(Exit::Failed, what, hint).into()
}

fn records(
    found: &Found,
    damaged: &[DamagedSnapshot],
    context: &Context<'_>,
    session: &engine::Session,
) -> Result<Exit> {
    let screen = context.screen;
    let record = json::text(&SessionRecord::from(found))?;
    screen.bytes(format!("{{\"v\":1,\"session\":{record},\"records\":[").as_bytes())?;
    let (mut first, mut failed) = (true, None);
    let mut say = |record: serde_json::Value| {
        let written = json::text(&record).and_then(|text| {
            let comma = if std::mem::take(&mut first) { "" } else { "," };
            screen.bytes(format!("{comma}{text}").as_bytes())
        });
        failed = written.err();
        failed.is_none()
    };
    let cancel = context.signals.graceful();
    let done = sessions::show(session, found, &mut Shown::Records(&mut say), cancel);
    if let Some(error) = failed {
        return Err(error);
    }
    // the document has begun: it ends whole, and says what is missing
    let (mut end, mut exit) = match done {
        Ok(_) => (String::new(), Exit::Done),
        Err(error) => {
            let why = json::text(&error.to_string())?;
            (format!(",\"incomplete\":{why}"), Exit::Damage)
        }
    };
    if !damaged.is_empty() {
        end += ",\"damaged_snapshots\":";
        end += &json::text(&damaged::records(damaged))?;
        exit = Exit::Damage;
    }
    screen.bytes(format!("]{end}}}\n").as_bytes())?;
    Ok(exit)
}

fn head(found: &Found, screen: &Screen) -> Result<()> {
    let agent = sanitize::text(&found.agent);
    screen.line(format_args!("{agent} session {}", sanitize::text(&found.id)))?;
    if let Some(title) = &found.title {
        screen.line(format_args!("title    {}", sanitize::text(title)))?;
    }
    if let Some(project) = &found.project {
        screen.line(format_args!("project  {}", sanitize::text(project)))?;
    }
    if let (Some(first), Some(last)) = (found.first_ms, found.last_ms) {
        let (first, last) = (time::show_millis(first), time::show_millis(last));
        screen.line(format_args!("time     {first} to {last}"))?;
    }
    let state = if found.here { "still here" } else { "gone from its agent" };
    screen.line(format_args!("newest   snapshot {}, {state}", short_id(&found.newest)))?;
    if let Some((longer, _)) = found.longer {
        screen.line(format_args!("more     snapshot {} has more of it", short_id(&longer)))?;
    }
    Ok(())
}

/// A message with what tools get and give shortened, unless `full`.
fn message_lines(message: &Message, full: bool, screen: &Screen) -> Result<()> {
    let time = message.time_ms.map(|ms| format!("  {}", time::show_millis(ms)));
    screen.line("")?;
    screen.line(format_args!(
        "== {}{}",
        sanitize::text(&message.role),
        time.unwrap_or_default()
    ))?;
    for block in &message.blocks {
        match block {
            Block::Text(text) => lines(text, "", usize::MAX, usize::MAX, screen)?,
            Block::Thought(text) => lines(text, "(thought) ", usize::MAX, usize::MAX, screen)?,
            Block::Call { name, input } => {
                let chars = if full { usize::MAX } else { CALL_CHARS };
                let input = cut(input, chars);
                let (name, input) = (sanitize::text(name), sanitize::text(&input));
                screen.line(format_args!("-> {name} {input}"))?;
            }
            Block::Result(text) if full => lines(text, "<- ", usize::MAX, usize::MAX, screen)?,
            Block::Result(text) => lines(text, "<- ", RESULT_LINES, LINE_CHARS, screen)?,
            Block::Other(what) => screen.line(format_args!("[{}]", sanitize::text(what)))?,
        }
    }
    Ok(())
}

/// Text line by line, each safe for a terminal.
fn lines(text: &str, head: &str, count: usize, chars: usize, screen: &Screen) -> Result<()> {
    let all = text.trim_end().lines().count();
    for line in text.trim_end().lines().take(count) {
        // a tab is only space, and safe
        let line = cut(&line.replace('\t', "    "), chars);
        screen.line(format_args!("{head}{}", sanitize::text(&line)))?;
    }
    if all > count {
        screen.line(format_args!("{head}... {} more lines", all - count))?;
    }
    Ok(())
}

fn cut(text: &str, chars: usize) -> String {
    let kept: String = text.chars().take(chars).collect();
    let more = if kept.len() < text.len() { "..." } else { "" };
    kept + more
}
