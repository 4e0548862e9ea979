//! Small edits of settings files as commands: one line, one replacement, by `sed`.
//!
//! In: a file's text, and what should be there. Out: a command. Invariant: an edit of JSON is only
//! given if, done here on the text, it changes that one value and nothing else.

use std::path::Path;

use serde_json::Value;

use super::{quote, quote_path};

/// One replacement in one line, counted from 1.
#[derive(Debug)]
struct Substitution {
    line: usize,
    from: String,
    to: String,
}

impl Substitution {
    /// Replaces the piece of `text` that begins at `at`, if no equal piece stands before it in its line.
    fn at(text: &str, at: usize, from: &str, to: String) -> Option<Self> {
        let start = text[..at].rfind('\n').map_or(0, |n| n + 1);
        let line = text[..start].matches('\n').count() + 1;
        let fits = !from.contains('\n') && text[start..].find(from)? + start == at;
        fits.then(|| Self { line, from: from.to_owned(), to })
    }

    fn apply(&self, text: &str) -> String {
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        if let Some(line) = lines.get_mut(self.line - 1) {
            *line = line.replacen(&self.from, &self.to, 1);
        }
        lines.join("\n")
    }

    fn command(&self, path: &Path) -> Option<String> {
        let escaped = |text: &str, special: &str| {
            text.chars().fold(String::new(), |mut out, c| {
                if special.contains(c) {
                    out.push('\\');
                }
                out.push(c);
                out
            })
        };
        let (from, to) = (escaped(&self.from, r"\.*[]^$/"), escaped(&self.to, r"\&/"));
        sed(path, &format!("{}s/{from}/{to}/", self.line))
    }
}

/// Edits in place; a link is followed, so that it stays one. Every `sed` takes `-i` with a suffix; the copy that this
/// makes goes, as a push would take it, and settings hold secrets.
fn sed(path: &Path, script: &str) -> Option<String> {
    let real = quote_path(&path.canonicalize().ok()?)?;
    Some(format!("sed -i.bak {} {real} && rm {real}.bak", quote(script)))
}

/// Makes a line of a file with `#` comments a comment.
pub fn comment_out(path: &Path, line: usize) -> Option<String> {
    sed(path, &format!("{line}s/^/#/"))
}

/// The command that sets one value in a JSON file; none where that takes more than one line's edit, or
/// the file is no JSON.
pub(super) fn set_in_json(
    path: &Path,
    text: Option<&str>,
    keys: &[&str],
    value: &Value,
) -> Option<String> {
    let nested = |keys: &[&str]| {
        keys.iter().rev().fold(value.clone(), |inner, key| serde_json::json!({ *key: inner }))
    };
    let text = text.unwrap_or_default();
    let now: Value = if text.trim().is_empty() {
        serde_json::json!({})
    } else {
        serde_json::from_str(text).ok()?
    };
    if now.as_object()?.is_empty() {
        let document = quote(&nested(keys).to_string());
        return Some(format!("printf '%s\\n' {document} > {}", quote_path(path)?));
    }
    let mut wanted = now.clone();
    let mut depth = 0;
    let mut here = &now;
    while let Some(next) = keys.get(depth).and_then(|key| here.get(key)) {
        (here, depth) = (next, depth + 1);
    }
    let mut place = &mut wanted;
    for key in &keys[..depth] {
        place = place.get_mut(key)?;
    }
    let edits = if depth == keys.len() {
        *place = value.clone();
        replacements(text, keys.last()?, value)
    } else {
        place.as_object_mut()?.insert(keys[depth].to_owned(), nested(&keys[depth + 1..]));
        let comma = if here.as_object()?.is_empty() { "" } else { "," };
        let piece = format!(" \"{}\": {}{comma}", keys[depth], nested(&keys[depth + 1..]));
        insertions(text, depth.checked_sub(1).map(|n| keys[n]), &piece)
    };
    let right = |edit: &Substitution| {
        serde_json::from_str::<Value>(&edit.apply(text)).is_ok_and(|made| made == wanted)
    };
    edits.iter().find(|edit| right(edit))?.command(path)
}

/// Every place where `"key": scalar` stands, with another scalar.
fn replacements(text: &str, key: &str, value: &Value) -> Vec<Substitution> {
    let name = format!("\"{key}\"");
    let edit = |(at, _): (usize, &str)| {
        let rest = &text[at + name.len()..];
        let colon = rest.len() - rest.trim_start().len() + 1;
        let after = rest.trim_start().strip_prefix(':')?;
        let space = after.len() - after.trim_start().len();
        let scalar = after.trim_start().split([',', '}', '\n', '\r']).next()?.trim_end();
        let from = &text[at..at + name.len() + colon + space + scalar.len()];
        Substitution::at(text, at, from, format!("{name}: {value}"))
    };
    text.match_indices(&name).filter_map(edit).collect()
}

/// Every place where an object called `key` opens (or the outermost one), with a piece put in.
fn insertions(text: &str, key: Option<&str>, piece: &str) -> Vec<Substitution> {
    let Some(key) = key else {
        let first =
            text.find('{').and_then(|at| Substitution::at(text, at, "{", format!("{{{piece}")));
        return first.into_iter().collect();
    };
    let name = format!("\"{key}\"");
    let edit = |(at, _): (usize, &str)| {
        let open = at + text[at..].find('{')?;
        let from = &text[at..=open];
        let between = from[name.len()..from.len() - 1].trim();
        (between == ":").then(|| Substitution::at(text, at, from, format!("{from}{piece}")))?
    };
    text.match_indices(&name).filter_map(edit).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::json;

    use super::*;

    /// Runs the command; what the file holds then.
    fn set(text: Option<&str>, keys: &[&str], value: &Value) -> Option<Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's settings.json");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let command = set_in_json(&path, text, keys, value)?;
        let status = Command::new("/bin/sh").arg("-c").arg(&command).status().unwrap();
        assert!(status.success(), "{command}");
        Some(serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap())
    }

    #[test]
    fn one_value_changes_and_nothing_else_does() {
        let keys = ["general", "keep"];
        let value = json!("3650d");
        for (text, made) in [
            (None, json!({"general": {"keep": "3650d"}})),
            (Some(" {}\n"), json!({"general": {"keep": "3650d"}})),
            (Some("{\n  \"a\": [1]\n}\n"), json!({"a": [1], "general": {"keep": "3650d"}})),
            (Some("{\"a\":{},\"general\":{}}"), json!({"a": {}, "general": {"keep": "3650d"}})),
            (
                Some("{\n \"general\" : {\n  \"b\": 1}, \"c\": 2}"),
                json!({"general": {"b": 1, "keep": "3650d"}, "c": 2}),
            ),
            (
                Some("{\"x\": {\"keep\": \"1d\"},\n\"general\": {\n\"keep\" : \"30d\",\"b\":1}}"),
                json!({"x": {"keep": "1d"}, "general": {"keep": "3650d", "b": 1}}),
            ),
        ] {
            assert_eq!(set(text, &keys, &value), Some(made), "{text:?}");
        }
    }

    #[test]
    fn what_one_edit_cannot_do_is_left_to_the_user() {
        let value = json!(1);
        // the brace of the object is on the next line
        assert_eq!(set(Some("{\"a\":\n{\"b\":2}}"), &["a", "c"], &value), None);
        assert_eq!(set(Some("{ // a comment\n \"a\": 1}"), &["b"], &value), None);
        assert_eq!(set(Some("[1]"), &["b"], &value), None);
        assert_eq!(set(Some("{\"a\": 3}"), &["a", "b"], &value), None);
    }
}
