//! Agents that delete what they wrote: how long each keeps it, by its own settings.
//!
//! A backup keeps what a push saw. A session that its agent deletes before the next push is in no
//! snapshot; and whoever restores one wants the agent not to delete it again.

use std::path::Path;

use adapters::{Adapter, Env};
use serde_json::{Value, json};

use super::edit::set_in_json;
use super::{Finding, about};

/// What agents should keep at least; below it there is an advice.
const KEEP_DAYS_MIN: u64 = 365;
/// What the mend sets.
const KEEP_DAYS: u64 = 3650;
/// What both agents do without a setting.
const KEEP_DAYS_DEFAULT: u64 = 30;

/// Looks at the settings of the agents that are here.
pub fn retention(known: &[Adapter], env: &Env) -> Vec<Finding> {
    let dir = |id: &str, label: &str| {
        known
            .iter()
            .find(|adapter| adapter.id() == id)?
            .locate(label, env)
            .filter(|dir| dir.is_dir())
    };
    let mut found = Vec::new();
    if let Some(dir) = dir("claude-code", "claude-code/home") {
        found.push(claude_code(&dir.join("settings.json")));
    }
    if let Some(dir) = dir("gemini-cli", "gemini-cli/home") {
        found.push(gemini_cli(&dir.join("settings.json")));
    }
    found
}

/// The settings as text and as JSON; `Err` for a file that is there and cannot be used.
fn read(path: &Path) -> Result<(Option<String>, Value), String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok((Some(text), json!({}))),
        Ok(text) => match serde_json::from_str(&text) {
            Ok(value) => Ok((Some(text), value)),
            Err(e) => Err(e.to_string()),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok((None, json!({}))),
        Err(e) => Err(e.to_string()),
    }
}

fn claude_code(path: &Path) -> Finding {
    let check = "claude-code-retention";
    let (text, settings) = match read(path) {
        Ok(read) => read,
        Err(e) => return Finding::unchecked(check, format!("{}: {e}", path.display())),
    };
    let set = settings.get("cleanupPeriodDays").and_then(Value::as_u64);
    let days = set.unwrap_or(KEEP_DAYS_DEFAULT);
    judge(
        check,
        "Claude Code",
        path,
        text.as_deref(),
        days,
        &["cleanupPeriodDays"],
        &json!(KEEP_DAYS),
    )
}

fn gemini_cli(path: &Path) -> Finding {
    let check = "gemini-cli-retention";
    let (text, settings) = match read(path) {
        Ok(read) => read,
        Err(e) => return Finding::unchecked(check, format!("{}: {e}", path.display())),
    };
    let retention = settings.pointer("/general/sessionRetention");
    if retention.and_then(|r| r.get("enabled")) == Some(&json!(false)) {
        return Finding::fine(check, "Gemini CLI keeps its sessions");
    }
    let set = retention.and_then(|r| r.get("maxAge")).and_then(Value::as_str);
    let days = set.map_or(Some(KEEP_DAYS_DEFAULT), days_of);
    let Some(days) = days else {
        return Finding::unchecked(check, format!("{}: maxAge is no time", path.display()));
    };
    let keys = ["general", "sessionRetention", "maxAge"];
    let keep = json!(format!("{KEEP_DAYS}d"));
    judge(check, "Gemini CLI", path, text.as_deref(), days, &keys, &keep)
}

fn judge(
    check: &'static str,
    name: &str,
    path: &Path,
    text: Option<&str>,
    days: u64,
    keys: &[&str],
    keep: &Value,
) -> Finding {
    if days >= KEEP_DAYS_MIN {
        return Finding::fine(check, format!("{name} keeps its sessions for {days} days"));
    }
    let what = format!(
        "{name} deletes sessions after {days} days; what is deleted before a push is in no backup"
    );
    let finding = Finding::advice(check, what);
    match set_in_json(path, text, keys, keep) {
        Some(command) => about(finding, path, |_| command.clone()),
        None => finding.hint(format!("set {} to {keep} in {}", keys.join("."), path.display())),
    }
}

/// `30d`, `24h`, `2w`, `6m` (months), in whole days.
fn days_of(text: &str) -> Option<u64> {
    let unit = text.trim().chars().last()?;
    let number: u64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
    Some(match unit {
        'h' => number / 24,
        'd' => number,
        'w' => number.checked_mul(7)?,
        'm' => number.checked_mul(30)?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn an_agent_that_keeps_its_sessions_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.json");
        for (text, level) in [
            (r#"{"cleanupPeriodDays": 400}"#, Level::Fine),
            (r#"{"cleanupPeriodDays": 20}"#, Level::Advice),
            (r"{}", Level::Advice),
            ("not json", Level::Unchecked),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(claude_code(&path).level, level, "{text}");
        }
        for (text, level) in [
            (r#"{"general": {"sessionRetention": {"enabled": false}}}"#, Level::Fine),
            (r#"{"general": {"sessionRetention": {"maxAge": "104w"}}}"#, Level::Fine),
            (r#"{"general": {"sessionRetention": {"maxAge": "720h"}}}"#, Level::Advice),
            (r#"{"general": {"sessionRetention": {"maxAge": "soon"}}}"#, Level::Unchecked),
            (r"{}", Level::Advice),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(gemini_cli(&path).level, level, "{text}");
        }
    }
}
