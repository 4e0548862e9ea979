//! The house's rules that a compiler does not know: layers, sizes, first lines, documents that agree with
//! the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::desk::Desk;

/// No file is longer; most are near 400.
const LINES_MAX: usize = 700;

/// What each crate of ours may build on. A crate that is not here is a mistake.
const LAYERS: [(&str, &[&str]); 14] = [
    ("chunker", &[]),
    ("store", &[]),
    ("adapters", &[]),
    ("redact", &[]),
    ("secrets", &[]),
    ("schedule", &[]),
    ("sessions", &["adapters"]),
    ("repo", &["store"]),
    ("import", &["store"]),
    (
        "engine",
        &[
            "adapters", "chunker", "import", "redact", "repo", "schedule", "secrets", "sessions",
            "store",
        ],
    ),
    ("cli", &["adapters", "engine", "repo", "schedule", "sessions", "store"]),
    ("testkit", &["store"]),
    ("model", &[]),
    ("benches", &["adapters", "chunker", "engine", "repo", "secrets", "store", "testkit"]),
];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// `cli` for `agent-backup`, `repo` for `agent-backup-repo`; none for what is not ours.
fn short(package: &str) -> Option<&str> {
    match package.strip_prefix("agent-backup")? {
        "" => Some("cli"),
        rest => rest.strip_prefix('-'),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn layers_only_look_down() {
    let args = ["metadata", "--offline", "--no-deps", "--format-version", "1"];
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers: BTreeMap<&str, &[&str]> = LAYERS.into_iter().collect();
    let mut met = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = short(text(package, "name")).expect("all packages are named alike");
        let allowed = layers.get(name).unwrap_or_else(|| panic!("{name} has no layer"));
        met.insert(name);
        for edge in package["dependencies"].as_array().unwrap() {
            let (to, kind) = (text(edge, "name"), text(edge, "kind"));
            if to == "object_store" {
                assert_eq!(name, "store", "{name} knows object_store");
            }
            let Some(to) = short(to) else { continue };
            let ok = allowed.contains(&to) || (kind == "dev" && to == "testkit");
            assert!(ok, "{name} depends on {to} ({kind})");
        }
    }
    assert_eq!(met, layers.keys().copied().collect(), "crates and layers");
}

/// Every Rust file of ours, by its path below the root.
pub(crate) fn sources() -> Vec<(PathBuf, String)> {
    fn gather(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(path);
            }
        }
    }
    let root = root();
    let mut paths = Vec::new();
    for dir in ["crates", "benches", "tests"] {
        gather(&root.join(dir), &mut paths);
    }
    assert!(paths.len() > 100, "the sources are elsewhere");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_source_file_opens_with_what_it_is_and_is_short_enough_to_read() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // the manifests say `test = false` of programs
        let program = path.ends_with("src/main.rs") || path.parent().unwrap().ends_with("src/bin");
        let path = path.display();
        if program && text.contains(concat!("#[te", "st]")) {
            wrong.push(format!("{path}: a test that never runs; it belongs into the library"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{path}: does not open with //!"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{path}: {lines} lines"));
        }
        for (n, line) in text.lines().enumerate() {
            if !line.is_ascii() {
                wrong.push(format!("{path}:{}: not ASCII", n + 1));
            }
            // in pieces, or this file would find itself
            for word in
                [concat!("to", "do!("), concat!("db", "g!("), concat!("unimpl", "emented!(")]
            {
                if line.contains(word) {
                    wrong.push(format!("{path}:{}: {word}", n + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    let tests: Vec<&str> = ci.lines().filter(|line| line.contains("cargo test")).collect();
    let [line] = tests.as_slice() else { panic!("one test command: {tests:?}") };
    let command = line.trim().trim_start_matches("step ").replace(" --locked", "");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().any(|line| line.trim() == command), "README.md lacks: {command}");
}

#[test]
fn every_command_and_every_exit_code_stands_in_the_documents() {
    let desk = Desk::new();
    let help = desk.ok(&["--help"]);
    let commands: Vec<&str> = help
        .text()
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 13, "{commands:?}");
    for document in ["docs/cli.md", "docs/json.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        for command in &commands {
            let (whole, with_more) = (format!("`{command}`"), format!("`{command} "));
            let told = rows.iter().any(|row| row.contains(&whole) || row.contains(&with_more));
            assert!(told, "{document} has no row for {command}");
        }
    }
    let cli = fs::read_to_string(root().join("docs/cli.md")).unwrap();
    for code in [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 70] {
        assert!(cli.contains(&format!("| {code} | `")), "docs/cli.md does not tell code {code}");
    }
}
