//! Groups: which files an adapter wants from one moment, and under which name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use adapters::{Adapter, Env, Os, Root, builtin};

fn roots(adapter: &Adapter, home: &Path, vars: &[(&str, &Path)]) -> Vec<Root> {
    let vars: BTreeMap<_, _> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    adapter.resolve(&Env { home: home.into(), vars, os: Os::Linux })
}

fn root<'a>(roots: &'a [Root], label: &str) -> &'a Root {
    roots.iter().find(|root| root.label == label).unwrap_or_else(|| panic!("{label}"))
}

fn embedded(id: &str) -> Adapter {
    builtin().into_iter().find(|adapter| adapter.id() == id).expect("embedded")
}

const QUILL: &str = r#"
version = 1
id = "quill"
name = "Quill"
[[roots]]
label = "home"
all = "~/quill"
exclude = ["talks/junk"]
[[roots]]
label = "copy"
all = "~/copy"
like = "home"
[[roots]]
label = "editor"
several = true
all = "~/x/*/quill"
[[groups]]
name = "talks"
members = ["home:*.db", "home:talks/**"]
[[groups]]
name = "rest"
members = ["home:talks/a.jsonl", "home:deep/**/b"]
[[groups]]
name = "tasks"
members = ["editor:state.db", "editor:tasks"]
"#;

#[test]
fn a_file_is_in_the_first_group_that_names_it_and_only_ways_to_members_are_walked() {
    let home = tempfile::tempdir().expect("tempdir");
    for dir in ["quill", "copy", "x/One/quill", "x/Two/quill"] {
        fs::create_dir_all(home.path().join(dir)).expect("directory");
    }
    let adapter = Adapter::parse(QUILL, "quill.toml").expect("valid");
    let roots = roots(&adapter, home.path(), &[]);
    let rules = &root(&roots, "quill/home").rules;
    for (path, group) in [
        ("a.db", Some("quill/talks")),
        ("deeper/a.db", None),
        ("talks/a.jsonl", Some("quill/talks")),
        ("deep/x/y/b", Some("quill/rest")),
        ("deep/c", None),
    ] {
        assert_eq!(rules.group(path.as_bytes()), group, "{path}");
    }
    for (dir, leads) in
        [("", true), ("talks", true), ("talks/x/y", true), ("deep/x", true), ("other", false)]
    {
        assert_eq!(rules.leads_to_group(dir.as_bytes()), leads, "{dir}");
    }
    // excludes of the command line keep the groups
    let fewer = rules.with_excludes(&["*.tmp".to_owned()]).expect("a pattern");
    assert_eq!(fewer.group(b"a.db"), Some("quill/talks"));
    // rules are copied to another root, groups are not
    assert!(!root(&roots, "quill/copy").rules.leads_to_group(b""));
    // each editor has its own
    assert_eq!(root(&roots, "quill/editor/one").rules.group(b"tasks/1"), Some("quill/tasks/one"));
    assert_eq!(root(&roots, "quill/editor/two").rules.group(b"state.db"), Some("quill/tasks/two"));
}

#[test]
fn the_catalogue_of_codex_is_one_with_its_rollouts_wherever_it_was_moved() {
    let home = tempfile::tempdir().expect("tempdir");
    let moved = home.path().join("moved");
    for dir in [&home.path().join(".codex/sessions"), &moved] {
        fs::create_dir_all(dir).expect("directory");
    }
    let roots = roots(&embedded("codex"), home.path(), &[("CODEX_SQLITE_HOME", &moved)]);
    let in_home = &root(&roots, "codex/home").rules;
    for path in
        ["state_5.sqlite", "sqlite/state_5.sqlite", "sessions/2026/01/02/rollout-x.jsonl.zst"]
    {
        assert_eq!(in_home.group(path.as_bytes()), Some("codex/sessions"), "{path}");
    }
    assert_eq!(in_home.group(b"history.jsonl"), None);
    let moved = &root(&roots, "codex/sqlite").rules;
    assert_eq!(moved.group(b"state_5.sqlite"), Some("codex/sessions"));
}

#[test]
fn the_databases_of_cursor_are_one_group() {
    let home = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(home.path().join(".config/Cursor/User")).expect("directory");
    let roots = roots(&embedded("cursor"), home.path(), &[]);
    let rules = &root(&roots, "cursor/user").rules;
    for path in ["globalStorage/state.vscdb", "workspaceStorage/0a1b/state.vscdb"] {
        assert_eq!(rules.group(path.as_bytes()), Some("cursor/chats"), "{path}");
    }
    assert!(!rules.leads_to_group(b"profiles"));
}

#[test]
fn the_sessions_of_cline_are_one_with_the_database_that_points_to_them() {
    let home = tempfile::tempdir().expect("tempdir");
    for dir in ["sessions", "db"] {
        fs::create_dir_all(home.path().join(".cline/data").join(dir)).expect("directory");
    }
    let roots = roots(&embedded("cline"), home.path(), &[]);
    assert_eq!(root(&roots, "cline/db").rules.group(b"sessions.db"), Some("cline/sessions"));
    assert_eq!(root(&roots, "cline/sessions").rules.group(b"a/b.json"), Some("cline/sessions"));
}
