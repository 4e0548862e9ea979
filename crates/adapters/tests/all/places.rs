//! Where agents' roots are: environment overrides, the candidates of each system, several roots,
//! overlaps, and the way back from a label to a directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use adapters::{Adapter, Decision, Env, Os, Root, builtin};

fn adapter(id: &str) -> Adapter {
    builtin().into_iter().find(|adapter| adapter.id() == id).expect("embedded")
}

fn env(os: Os, home: &Path, vars: &[(&str, String)]) -> Env {
    let vars: BTreeMap<_, _> = vars.iter().map(|(k, v)| ((*k).into(), v.into())).collect();
    Env { home: home.into(), vars, os }
}

/// Creates directories (a final `/`) and files below `home`.
fn make(home: &Path, paths: &[&str]) {
    for path in paths {
        let path = if let Some(dir) = path.strip_suffix('/') {
            home.join(dir).join("kept")
        } else {
            home.join(path)
        };
        fs::create_dir_all(path.parent().expect("parent")).expect("directories");
        fs::write(path, "x").expect("file");
    }
}

/// `label=dir` with the home cut off, sorted.
fn shown(roots: &[Root], home: &Path) -> Vec<String> {
    let rel = |root: &Root| root.dir.strip_prefix(home).expect("in home").display().to_string();
    let mut shown: Vec<_> =
        roots.iter().map(|root| format!("{}={}", root.label, rel(root))).collect();
    shown.sort();
    shown
}

struct Case {
    id: &'static str,
    /// Relative to the home, which is put before them.
    vars: &'static [(&'static str, &'static str)],
    there: &'static [&'static str],
    roots: &'static [&'static str],
}

const MOVED: &[Case] = &[
    Case {
        id: "claude-code",
        vars: &[("CLAUDE_CONFIG_DIR", "elsewhere")],
        there: &[
            "elsewhere/.claude.json",
            "elsewhere/history.jsonl",
            ".claude/projects/",
            ".claude.json",
        ],
        // What is in the usual place is kept too: another shell may use it.
        roots: &[
            "claude-code/accounts/claude=.claude",
            "claude-code/dot=elsewhere",
            "claude-code/home=elsewhere",
        ],
    },
    Case {
        id: "claude-code",
        vars: &[("CLAUDE_CONFIG_DIR", "elsewhere")],
        there: &["elsewhere/history.jsonl", ".claude.json"],
        roots: &["claude-code/dot=", "claude-code/home=elsewhere"],
    },
    Case {
        id: "codex",
        vars: &[("CODEX_HOME", "cx")],
        there: &["cx/state_5.sqlite", ".codex/"],
        roots: &["codex/home=cx"],
    },
    Case {
        id: "codex",
        vars: &[("CODEX_SQLITE_HOME", "fast")],
        there: &["fast/state_5.sqlite", ".codex/"],
        roots: &["codex/home=.codex", "codex/sqlite=fast"],
    },
    Case {
        id: "cursor",
        vars: &[("XDG_CONFIG_HOME", "cfg")],
        there: &["cfg/Cursor/User/", "cfg/cursor/cli-config.json", ".config/Cursor/User/"],
        roots: &["cursor/cli=cfg/cursor", "cursor/user=cfg/Cursor/User"],
    },
    Case {
        id: "opencode",
        vars: &[("XDG_DATA_HOME", "d"), ("XDG_CONFIG_HOME", "c"), ("XDG_STATE_HOME", "s")],
        there: &["d/opencode/", "c/opencode/", "s/opencode/", ".local/share/opencode/"],
        roots: &[
            "opencode/config=c/opencode",
            "opencode/data=d/opencode",
            "opencode/state=s/opencode",
        ],
    },
    Case {
        id: "opencode",
        vars: &[
            ("OPENCODE_DATA_DIR", "data"),
            ("OPENCODE_CONFIG_DIR", "extra"),
            ("OPENCODE_DB", "fast/mine.db"),
            ("OPENCODE_CONFIG", "work/opencode.json"),
        ],
        there: &[
            "data/",
            ".local/share/opencode/",
            "extra/",
            "fast/mine.db",
            "work/opencode.json",
            ".config/opencode/",
        ],
        roots: &[
            "opencode/config-dir=extra",
            "opencode/config-file=work",
            "opencode/config=.config/opencode",
            "opencode/data-dir/data=data",
            "opencode/data=.local/share/opencode",
            "opencode/db=fast",
        ],
    },
    Case {
        id: "goose",
        vars: &[("GOOSE_PATH_ROOT", "g"), ("XDG_DATA_HOME", "ignored")],
        there: &["g/config/", "g/data/", "g/state/", "g/.agents/skills/", "ignored/goose/"],
        roots: &[
            "goose/agents=g/.agents",
            "goose/config=g/config",
            "goose/data=g/data",
            "goose/state=g/state",
        ],
    },
    Case {
        id: "gemini-cli",
        vars: &[("GEMINI_CLI_HOME", "work")],
        there: &["work/.gemini/", ".gemini/"],
        roots: &["gemini-cli/home=work/.gemini"],
    },
    Case {
        id: "cline",
        vars: &[("CLINE_DIR", "cl")],
        there: &["cl/data/db/", "cl/data/sessions/", "cl/rules/", ".cline/data/"],
        roots: &[
            "cline/data=cl/data",
            "cline/db=cl/data/db",
            "cline/home=cl",
            "cline/sessions=cl/data/sessions",
        ],
    },
    Case {
        id: "cline",
        vars: &[
            ("CLINE_DIR", "cl"),
            ("CLINE_DATA_DIR", "data"),
            ("CLINE_SESSION_DATA_DIR", "s"),
            ("CLINE_DB_DATA_DIR", "d"),
            ("CLINE_TEAM_DATA_DIR", "t"),
            ("CLINE_CONNECTOR_DATA_DIR", "k"),
            ("CLINE_MCP_SETTINGS_PATH", "m/mcp.json"),
        ],
        there: &["cl/rules/", "data/", "s/", "d/", "t/", "k/", "m/mcp.json"],
        roots: &[
            "cline/connectors=k",
            "cline/data=data",
            "cline/db=d",
            "cline/home=cl",
            "cline/mcp-settings=m",
            "cline/sessions=s",
            "cline/teams=t",
        ],
    },
    Case {
        id: "aider",
        vars: &[("AIDER_PROJECTS", "My App (2)")],
        there: &["My App (2)/.aider.conf.yml"],
        roots: &["aider/project/my-app-2=My App (2)"],
    },
];

#[test]
fn variables_move_the_roots_of_each_agent() {
    for case in MOVED {
        let home = tempfile::tempdir().expect("tempdir");
        make(home.path(), case.there);
        let vars: Vec<_> = case
            .vars
            .iter()
            .map(|(name, rel)| (*name, home.path().join(rel).display().to_string()))
            .collect();
        let env = env(Os::Linux, home.path(), &vars);
        let survey = adapter(case.id).survey(&env);
        assert_eq!(survey.refused, [], "{} {:?}", case.id, case.vars);
        assert_eq!(shown(&survey.roots, home.path()), case.roots, "{} {:?}", case.id, case.vars);
    }
}

#[test]
fn a_file_of_keys_that_a_variable_moved_is_still_a_secret() {
    let home = tempfile::tempdir().expect("tempdir");
    make(home.path(), &[".cline/data/globalState.json", ".cline/data/mine.json"]);
    let path = home.path().join(".cline/data/mine.json").display().to_string();
    let env = env(Os::Linux, home.path(), &[("CLINE_PROVIDER_SETTINGS_PATH", path)]);
    for root in adapter("cline").resolve(&env) {
        assert!(!root.rules.decide(b"mine.json", false).is_included(), "{}", root.label);
    }
}

#[test]
fn a_file_that_a_variable_names_is_that_file_and_no_other() {
    let home = tempfile::tempdir().expect("tempdir");
    make(home.path(), &["d/[a]*{1,2}.db", "d/a1.db", "d/a1,2.db"]);
    let path = home.path().join("d/[a]*{1,2}.db").display().to_string();
    let roots = adapter("opencode").resolve(&env(Os::Linux, home.path(), &[("OPENCODE_DB", path)]));
    let [root] = roots.as_slice() else { panic!("{roots:?}") };
    assert_eq!(root.rules.decide(b"[a]*{1,2}.db", false), Decision::IncludeSqlite);
    assert_eq!(root.rules.decide(b"a1.db", false), Decision::Exclude);
    assert_eq!(root.rules.decide(b"a1,2.db", false), Decision::Exclude);
}

#[test]
fn empty_and_relative_variables_count_as_not_set() {
    let home = tempfile::tempdir().expect("tempdir");
    make(home.path(), &[".codex/", ".local/share/opencode/"]);
    let vars = [("CODEX_HOME", String::new()), ("XDG_DATA_HOME", "relative/dir".to_owned())];
    let env = env(Os::Linux, home.path(), &vars);
    assert_eq!(shown(&adapter("codex").resolve(&env), home.path()), ["codex/home=.codex"]);
    assert_eq!(
        shown(&adapter("opencode").resolve(&env), home.path()),
        ["opencode/data=.local/share/opencode"]
    );
}

#[test]
fn a_variable_that_names_nothing_does_not_bring_back_the_usual_place() {
    let home = tempfile::tempdir().expect("tempdir");
    make(home.path(), &[".codex/"]);
    let gone = home.path().join("gone").display().to_string();
    let env = env(Os::Linux, home.path(), &[("CODEX_HOME", gone)]);
    assert!(adapter("codex").resolve(&env).is_empty());
    assert_eq!(adapter("codex").candidates(&env), [home.path().join("gone")]);
}

fn candidates(id: &str, os: Os, home: &str, vars: &[(&str, &str)]) -> Vec<String> {
    let vars: Vec<_> = vars.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    let paths = adapter(id).candidates(&env(os, Path::new(home), &vars));
    paths.iter().map(|path| path.to_str().expect("text").to_owned()).collect()
}

#[test]
fn macos_candidates_are_those_of_macos() {
    let on_mac = |id| candidates(id, Os::Macos, "/Users/a", &[]);
    assert!(on_mac("claude-code").contains(&"/Users/a/Library/Application Support/Claude".into()));
    assert!(on_mac("cursor").contains(&"/Users/a/Library/Application Support/Cursor/User".into()));
    assert_eq!(
        on_mac("goose"),
        [
            "/Users/a/.config/goose",
            "/Users/a/.local/share/goose",
            "/Users/a/Library/Application Support/Block/goose",
            "/Users/a/.local/state/goose"
        ]
    );
    assert_eq!(
        on_mac("opencode"),
        [
            "/Users/a/.local/share/opencode",
            "/Users/a/.config/opencode",
            "/Users/a/.local/state/opencode"
        ]
    );
    assert_eq!(on_mac("codex"), ["/Users/a/.codex"]);
    assert_eq!(on_mac("gemini-cli"), ["/Users/a/.gemini"]);
    let editors =
        "/Users/a/Library/Application Support/*/User/globalStorage/saoudrizwan.claude-dev";
    assert!(on_mac("cline").contains(&editors.into()));
    assert!(on_mac("aider").contains(&"/Users/a/.aider.conf.yml".into()));
}

#[test]
fn windows_candidates_use_its_variables_or_the_usual_places() {
    let roaming = "C:/Users/a/AppData/Roaming";
    let vars = [("APPDATA", "D:\\Roaming"), ("LOCALAPPDATA", "D:\\Local")];
    let on_windows = |id| candidates(id, Os::Windows, "C:/Users/a", &[]);
    let with_vars = |id| candidates(id, Os::Windows, "C:/Users/a", &vars);

    let claude = on_windows("claude-code");
    assert!(claude.contains(&"C:/Users/a/.claude".into()));
    assert!(claude.contains(&"C:/Users/a/.claude.json".into()));
    assert!(claude.contains(&format!("{roaming}/Claude")));
    let store = "Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude";
    assert!(claude.contains(&format!("C:/Users/a/AppData/Local/{store}")));
    assert!(with_vars("claude-code").contains(&format!("D:\\Local/{store}")));

    assert!(on_windows("cursor").contains(&format!("{roaming}/Cursor/User")));
    assert!(with_vars("cursor").contains(&"D:\\Roaming/Cursor/User".into()));
    assert_eq!(
        with_vars("goose"),
        ["D:\\Roaming/Block/goose/config", "D:\\Roaming/Block/goose/data"]
    );
    assert!(on_windows("opencode").contains(&"C:/Users/a/.local/share/opencode".into()));
    assert_eq!(on_windows("codex"), ["C:/Users/a/.codex"]);
    assert_eq!(on_windows("gemini-cli"), ["C:/Users/a/.gemini"]);
    let editors = "User/globalStorage/saoudrizwan.claude-dev";
    assert!(on_windows("cline").contains(&format!("{roaming}/*/{editors}")));
    assert!(!on_windows("cline").iter().any(|path| path.contains(".config")));

    // A list on Windows is not cut at the colon of a drive.
    let projects = [("AIDER_PROJECTS", "C:\\work\\app;D:\\lib")];
    let aider = candidates("aider", Os::Windows, "C:/Users/a", &projects);
    assert_eq!(aider[..2], ["C:\\work\\app", "D:\\lib"]);
}

#[test]
fn a_systems_own_candidates_replace_those_for_all() {
    let text = "version = 1\nid = \"x\"\nname = \"X\"\n[[roots]]\nlabel = \"x\"\n\
                all = \"~/a\"\nmacos = [\"~/b\", \"/c\"]\nwindows = \"C:/d\"";
    let adapter = Adapter::parse(text, "x.toml").expect("valid");
    for (os, expected) in
        [(Os::Linux, &["/h/a"][..]), (Os::Macos, &["/h/b", "/c"]), (Os::Windows, &["C:/d"])]
    {
        let paths = adapter.candidates(&env(os, Path::new("/h"), &[]));
        assert_eq!(paths, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{os:?}");
    }
}

#[test]
fn labels_of_several_roots_come_from_names_in_any_script() {
    let home = tempfile::tempdir().expect("tempdir");
    make(home.path(), &["\u{43f}\u{440}/", "\u{9879}/", "A  b!/", "a-b/", "---/"]);
    let list = "~/\u{43f}\u{440},~/\u{9879},~/A  b!,~/a-b,~/---".to_owned();
    let roots = adapter("aider").resolve(&env(Os::Linux, home.path(), &[("AIDER_PROJECTS", list)]));
    let labels: Vec<_> =
        roots.iter().map(|root| root.label.strip_prefix("aider/project/")).collect();
    assert_eq!(labels, ["43f440", "9879", "a-b", "a-b-2", "root"].map(Some));
}

#[test]
fn the_home_directory_is_never_a_root_however_it_is_named() {
    let home = tempfile::tempdir().expect("tempdir");
    make(home.path(), &["notes.txt", ".claude.json"]);
    let above = home.path().parent().expect("parent").display().to_string();
    let here = home.path().display().to_string();
    std::os::unix::fs::symlink(home.path(), home.path().join("loop")).expect("link");
    for value in [here.clone(), "~".to_owned(), "~/loop".to_owned(), above, "/".to_owned()] {
        let env = env(Os::Linux, home.path(), &[("CODEX_HOME", value.clone())]);
        let survey = adapter("codex").survey(&env);
        assert!(survey.roots.is_empty(), "{value}");
        assert_eq!(survey.refused[0].label, "codex/home", "{value}");
        assert!(survey.refused[0].why.contains("--path"), "{value}");
    }
    // Nor is it when the home is known by another name.
    let link = tempfile::tempdir().expect("tempdir");
    let by_link = link.path().join("home");
    std::os::unix::fs::symlink(home.path(), &by_link).expect("link");
    let survey =
        adapter("codex").survey(&env(Os::Linux, &by_link, &[("CODEX_HOME", here.clone())]));
    assert!(survey.roots.is_empty() && survey.refused.len() == 1);
    // Single files of the home are another matter: nothing below it is entered.
    let env = env(Os::Linux, home.path(), &[("CLAUDE_CONFIG_DIR", here)]);
    let survey = adapter("claude-code").survey(&env);
    assert_eq!(shown(&survey.roots, home.path()), ["claude-code/dot="]);
    assert!(!survey.roots[0].rules.decide(b"notes.txt", false).is_included());
    assert!(!survey.roots[0].rules.decide(b"work", true).is_entered());
}

#[test]
fn two_names_of_one_directory_are_one_root() {
    let home = tempfile::tempdir().expect("tempdir");
    make(home.path(), &[".claude/projects/"]);
    std::os::unix::fs::symlink(home.path().join(".claude"), home.path().join(".claude-work"))
        .expect("link");
    let roots = adapter("claude-code").resolve(&env(Os::Linux, home.path(), &[]));
    assert_eq!(shown(&roots, home.path()), ["claude-code/home=.claude"]);
}

#[test]
fn a_root_reached_through_a_link_is_found() {
    let home = tempfile::tempdir().expect("tempdir");
    make(home.path(), &["dotfiles/codex/config.toml"]);
    std::os::unix::fs::symlink(home.path().join("dotfiles/codex"), home.path().join(".codex"))
        .expect("link");
    let roots = adapter("codex").resolve(&env(Os::Linux, home.path(), &[]));
    assert_eq!(shown(&roots, home.path()), ["codex/home=.codex"]);
}

#[test]
fn a_file_belongs_to_the_innermost_root() {
    let text = r#"
version = 1
id = "x"
name = "X"
[[roots]]
label = "outer"
all = "~/x"
[[roots]]
label = "inner"
all = "~/x/deep/inner"
include = ["a"]
[[roots]]
label = "files"
all = "~/x/deep"
files = ["one", "[star]*"]
"#;
    let home = tempfile::tempdir().expect("tempdir");
    make(home.path(), &["x/deep/inner/a", "x/deep/inner/b", "x/deep/one", "x/deep/other"]);
    let roots =
        Adapter::parse(text, "x.toml").expect("valid").resolve(&env(Os::Linux, home.path(), &[]));
    let [outer, inner, files] = roots.as_slice() else { panic!("{roots:?}") };
    assert!(outer.rules.decide(b"deep", true).is_entered());
    assert!(!outer.rules.decide(b"deep/inner", true).is_entered());
    assert!(!outer.rules.decide(b"deep/inner/a", false).is_included());
    assert!(outer.rules.decide(b"deep/inner2", true).is_entered());
    assert!(!outer.rules.decide(b"deep/one", false).is_included());
    assert!(outer.rules.decide(b"deep/one", true).is_entered());
    assert!(outer.rules.decide(b"deep/one/x", false).is_included());
    assert!(outer.rules.decide(b"deep/other", false).is_included());
    assert!(outer.rules.decide(b"one", false).is_included());
    assert!(inner.rules.decide(b"a", false).is_included());
    assert!(!inner.rules.decide(b"b", false).is_included());
    assert!(files.rules.decide(b"one", false).is_included());
    // Excludes from the command line do not give a carved piece back.
    let fewer = outer.rules.with_excludes(&["other".into()]).expect("valid");
    assert!(!fewer.decide(b"deep/one", false).is_included());
    assert!(!fewer.decide(b"deep/other", false).is_included());
}

#[test]
fn what_a_wildcard_found_elsewhere_has_its_place_where_nothing_is_yet() {
    let home = tempfile::tempdir().expect("tempdir");
    let empty = env(Os::Linux, home.path(), &[]);
    let at = |id: &str, label: &str, recorded: &str, env: &Env| -> Option<PathBuf> {
        let path = adapter(id).locate_as(label, Path::new(recorded), env)?;
        Some(path.strip_prefix(home.path()).map_or(path.clone(), Path::to_path_buf))
    };
    let storage = "User/globalStorage/saoudrizwan.claude-dev";
    let there = format!("/home/other/.config/Code - Insiders/{storage}");
    let here = Some(PathBuf::from(format!(".config/Code - Insiders/{storage}")));
    let label = "cline/editor/code-insiders";
    assert_eq!(at("cline", label, &there, &empty), here);
    // of another system, and one of two that had the same name there
    let mac = format!("/Users/other/Library/Application Support/Code - Insiders/{storage}");
    assert_eq!(at("cline", label, &mac, &empty), here);
    assert_eq!(at("cline", &format!("{label}-2"), &there, &empty), here);
    // what does not fit the adapter has none, whatever a snapshot says
    for (label, recorded) in [
        ("cline/editor/code", &*there),
        ("cline/editor/code-insiders-x", &there),
        ("cline/editor/code-insiders", "/home/other/.ssh"),
        ("cline/editor/code-insiders", storage),
        ("cline/editor/..", &format!("/home/other/.config/../{storage}")),
        ("roo/editor/code-insiders", &there),
    ] {
        assert_eq!(at("cline", label, recorded, &empty), None, "{label} {recorded}");
    }
    // two projects with one name
    let projects = [("AIDER_PROJECTS", "/a/App,/b/app".into())];
    let projects = env(Os::Linux, home.path(), &projects);
    assert_eq!(at("aider", "aider/project/app-2", "/x", &projects), Some("/b/app".into()));
}

#[test]
fn a_label_finds_its_directory_on_a_machine_where_nothing_is_yet() {
    let home = tempfile::tempdir().expect("tempdir");
    let empty = env(Os::Linux, home.path(), &[]);
    let at = |id: &str, label: &str, env: &Env| -> Option<PathBuf> {
        let path = adapter(id).locate(label, env)?;
        Some(path.strip_prefix(home.path()).map_or(path.clone(), Path::to_path_buf))
    };
    assert_eq!(at("codex", "codex/home", &empty), Some(".codex".into()));
    assert_eq!(at("codex", "codex/sqlite", &empty), Some(".codex".into()));
    assert_eq!(at("claude-code", "claude-code/dot", &empty), Some("".into()));
    assert_eq!(at("cline", "cline/sessions", &empty), Some(".cline/data/sessions".into()));
    assert_eq!(at("opencode", "opencode/db", &empty), Some(".local/share/opencode".into()));
    assert_eq!(at("opencode", "opencode/other", &empty), None);
    assert_eq!(at("opencode", "codex/home", &empty), None);
    // An editor is found by its name once it is there, even without the extension's storage.
    assert_eq!(at("cline", "cline/editor/code", &empty), None);
    make(home.path(), &[".config/Code/User/settings.json", ".config/codium"]);
    assert_eq!(at("cline", "cline/editor/codium", &empty), None);
    let storage = ".config/Code/User/globalStorage/saoudrizwan.claude-dev";
    assert_eq!(at("cline", "cline/editor/code", &empty), Some(storage.into()));
    // The variables of this machine count, not those of the one that was backed up.
    let moved = env(Os::Linux, home.path(), &[("CODEX_HOME", "/srv/codex".into())]);
    assert_eq!(at("codex", "codex/home", &moved), Some("/srv/codex".into()));
    let projects = env(Os::Linux, home.path(), &[("AIDER_PROJECTS", "/src/App,/src/lib".into())]);
    assert_eq!(at("aider", "aider/project/app", &projects), Some("/src/App".into()));
}
