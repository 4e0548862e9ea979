//! What of a root is backed up: the pattern dialect, precedence, pruning, databases.

use std::collections::BTreeMap;
use std::sync::Arc;

use adapters::Decision::{Exclude, ExcludeSecret, Include, IncludeSqlite, PruneDir, Walk};
use adapters::{Adapter, Env, Os, RowAction, RowMatch, RowRule, RowValues, Rules};

/// The rules of a root that is given by the keys of its table.
fn rules(keys: &str) -> Arc<Rules> {
    let home = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(home.path().join("x")).expect("directory");
    let text = format!(
        "version = 1\nid = \"x\"\nname = \"X\"\n[[roots]]\nlabel = \"x\"\nall = \"~/x\"\n{keys}"
    );
    let env = Env { home: home.path().into(), vars: BTreeMap::new(), os: Os::Linux };
    let roots = Adapter::parse(&text, "x.toml").expect("valid").resolve(&env);
    Arc::clone(&roots.first().expect("a root").rules)
}

#[test]
fn secrets_beat_includes_and_excludes_and_excludes_beat_includes() {
    let rules = rules(
        r#"
include = ["**", "auth.json", "keys/**", "junk/kept"]
exclude = ["junk", "auth.json"]
secret_exclude = ["auth.json", "keys", "**/.env"]
"#,
    );
    assert_eq!(rules.decide(b"auth.json", false), ExcludeSecret);
    assert_eq!(rules.decide(b"keys", true), ExcludeSecret);
    assert_eq!(rules.decide(b"keys/a", false), ExcludeSecret);
    assert_eq!(rules.decide(b"deep/er/.env", false), ExcludeSecret);
    assert_eq!(rules.decide(b"junk", true), PruneDir);
    assert_eq!(rules.decide(b"junk/kept", false), Exclude);
    assert_eq!(rules.decide(b"other", false), Include);
}

#[test]
fn case_matters_except_for_secrets() {
    let rules = rules("exclude = [\"log\"]\nsecret_exclude = [\"auth.json\"]");
    assert_eq!(rules.decide(b"log", true), PruneDir);
    assert_eq!(rules.decide(b"Log", true), Include);
    assert_eq!(rules.decide(b"Auth.JSON", false), ExcludeSecret);
}

#[test]
fn a_copy_of_a_file_with_secrets_is_a_secret_unless_it_has_rules_of_its_own() {
    let rules = rules(
        r#"
secret_exclude = ["auth.json"]
[[roots.fields]]
file = "settings.json"
redact = ["env.*"]
[[roots.fields]]
file = "settings.json.orig"
format = "json"
redact = ["env.*"]
[[roots.rows]]
database = "state.db"
table = "kv"
where = { column = "key", glob = ["token*"] }
delete = true
"#,
    );
    for copy in
        ["auth.json.bak", "auth.json~", "settings.json.bak", ".settings.json.swp", "state.db.old"]
    {
        assert_eq!(rules.decide(copy.as_bytes(), false), ExcludeSecret, "{copy}");
    }
    assert_eq!(rules.decide(b"settings.json.orig", false), Include);
    assert!(rules.fields(b"settings.json.orig").is_some());
    for other in ["notes.md.bak", "deep/auth.json.bak", "settings.json.tmpl"] {
        assert_eq!(rules.decide(other.as_bytes(), false), Include, "{other}");
    }
    assert_eq!(rules.decide(b"auth.json.bak", true), Include, "a directory is no copy of a file");
}

#[test]
fn directories_are_entered_only_if_something_in_them_can_be_included() {
    let rules = rules(
        r#"
include = ["a/b*/c/*.json", "deep/**/x.md", "whole/**", "named"]
exclude = ["deep/skip/**"]
"#,
    );
    for (dir, expected) in [
        ("a", Walk),
        ("a/b1", Walk),
        ("a/b1/c", Walk),
        ("a/b1/c/d", PruneDir),
        ("a/z", PruneDir),
        ("deep", Walk),
        ("deep/any/where", Walk),
        ("deep/skip", PruneDir),
        ("deep/skip/below", PruneDir),
        ("whole", Include),
        ("whole/any", Include),
        ("named", Include),
        ("named/any", Include),
        ("other", PruneDir),
    ] {
        assert_eq!(rules.decide(dir.as_bytes(), true), expected, "{dir}");
        assert_eq!(expected.is_entered(), expected != PruneDir);
    }
    for (file, expected) in [
        ("a/b1/c/x.json", Include),
        ("a/b1/c/d/x.json", Exclude),
        ("deep/x.md", Include),
        ("deep/1/2/x.md", Include),
        ("deep/skip/x.md", Exclude),
        ("whole", Exclude),
        ("whole/1/2", Include),
        ("named/1/2", Include),
        ("other", Exclude),
    ] {
        assert_eq!(rules.decide(file.as_bytes(), false), expected, "{file}");
    }
    assert_eq!(rules.decide(b"", true), Walk);
}

#[test]
fn a_file_is_not_taken_for_the_directory_that_a_pattern_empties() {
    let rules = rules("exclude = [\"cache/**\", \"tmp\"]");
    assert_eq!(rules.decide(b"cache", true), PruneDir);
    assert_eq!(rules.decide(b"cache", false), Include);
    assert_eq!(rules.decide(b"cache/x", false), Exclude);
    assert_eq!(rules.decide(b"tmp", false), Exclude);
    assert_eq!(rules.decide(b"", true), Include);
}

#[test]
fn the_dialect_is_anchored_and_stars_stop_at_slashes() {
    for (pattern, path, matches) in [
        ("x", "x", true),
        ("x", "a/x", false),
        ("*", "a", true),
        ("*.md", "a.md", true),
        ("*.md", "d/a.md", false),
        ("**/*.md", "a.md", true),
        ("**/*.md", "d/e/a.md", true),
        ("a/**/z", "a/z", true),
        ("a/**/z", "a/b/c/z", true),
        ("a/**", "a/.hidden", true),
        ("?", "ab", false),
        ("a?c", "a/c", false),
        ("[ab]c", "bc", true),
        ("[!ab]c", "bc", false),
        ("f{,.bak}", "f.bak", true),
        ("f{,.bak}", "f", true),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("*.lock", ".lock", true),
        ("a b", "a b", true),
        ("[a-c]", "b", true),
        ("?", "\u{fc}", false),
        ("??", "\u{fc}", true),
    ] {
        let rules = rules(&format!("include = ['{pattern}']"));
        assert_eq!(rules.decide(path.as_bytes(), false) == Include, matches, "{pattern} {path}");
    }
}

#[test]
fn names_that_are_not_utf8_or_hold_newlines_are_decided_like_others() {
    let rules = rules("include = [\"d/**\", \"*.jsonl\"]\nsecret_exclude = [\"**/*.key\"]");
    assert_eq!(rules.decide(b"caf\xe9\xff.jsonl", false), Include);
    assert_eq!(rules.decide(b"d/\xff\xfe/x", false), Include);
    assert_eq!(rules.decide(b"d/\xff.key", false), ExcludeSecret);
    assert_eq!(rules.decide(b"d/a\nb.key", false), ExcludeSecret);
    assert_eq!(rules.decide(b"a\nb.jsonl", false), Include);
    assert_eq!(rules.decide("d/\u{fc}ber".as_bytes(), true), Include);
}

#[test]
fn databases_come_without_their_side_files() {
    let rules = rules("sqlite = [\"*.db\", \"s/**/*.sqlite\"]\nexclude = [\"old.db\"]");
    assert_eq!(rules.decide(b"x.db", false), IncludeSqlite);
    assert_eq!(rules.decide(b"x.db", true), Include);
    assert_eq!(rules.decide(b"s/1/2/y.sqlite", false), IncludeSqlite);
    assert_eq!(rules.decide(b"old.db", false), Exclude);
    for side in ["x.db-wal", "x.db-shm", "x.db-journal", "s/y.sqlite-wal", "old.db-wal"] {
        assert_eq!(rules.decide(side.as_bytes(), false), Exclude, "{side}");
    }
    // Not beside a database: an ordinary name.
    assert_eq!(rules.decide(b"great-wal", false), Include);
    assert_eq!(rules.decide(b"d/x.db-wal", false), Include);
    assert_eq!(rules.decide(b"x.db-backup", false), Include);
    assert_eq!(rules.decide(b"x.db-wal", true), Include);
}

#[test]
fn a_root_of_single_files_takes_them_alone_and_enters_nothing() {
    let home = tempfile::tempdir().expect("tempdir");
    std::fs::write(home.path().join(".x.json"), "x").expect("file");
    let text = "version = 1\nid = \"x\"\nname = \"X\"\n[[roots]]\nlabel = \"x\"\nall = \"~\"\n\
                files = [\".x.json\", \".x.json.*\"]\nsecret_exclude = [\"*.key\"]";
    let env = Env { home: home.path().into(), vars: BTreeMap::new(), os: Os::Linux };
    let roots = Adapter::parse(text, "x.toml").expect("valid").resolve(&env);
    let rules = &roots.first().expect("a root").rules;
    assert_eq!(rules.decide(b"", true), Walk);
    assert_eq!(rules.decide(b".x.json", false), Include);
    assert_eq!(rules.decide(b".x.json.1", false), Include);
    assert_eq!(rules.decide(b".x.json.key", false), ExcludeSecret);
    assert_eq!(rules.decide(b"notes", false), Exclude);
    assert_eq!(rules.decide(b"work", true), PruneDir);
    assert_eq!(rules.decide(b".x.json", true), PruneDir);
    assert_eq!(rules.decide(b"work/.x.json", false), Exclude);
}

#[test]
fn excludes_of_the_command_line_are_added_and_secrets_stay_secret() {
    let rules = rules(
        "exclude = [\"log\"]\nsecret_exclude = [\"auth.json\"]\nsqlite = [\"*.db\"]\nvolatile = [\"s\"]\nmax_file_size = \"2 KiB\"",
    );
    let given = ["node_modules/", "*.iso", "/top", "a/b"].map(str::to_owned);
    let fewer = rules.with_excludes(&given).expect("valid");
    assert_eq!(fewer.decide(b"deep/node_modules", true), PruneDir);
    assert_eq!(fewer.decide(b"x.iso", false), Exclude);
    assert_eq!(fewer.decide(b"deep/x.iso", false), Exclude);
    assert_eq!(fewer.decide(b"top", true), PruneDir);
    assert_eq!(fewer.decide(b"deep/top", true), Include);
    assert_eq!(fewer.decide(b"a/b", true), PruneDir);
    assert_eq!(fewer.decide(b"c/a/b", true), Include);
    // What was said before still holds.
    assert_eq!(fewer.decide(b"log", true), PruneDir);
    assert_eq!(fewer.decide(b"auth.json", false), ExcludeSecret);
    assert_eq!(fewer.decide(b"x.db", false), IncludeSqlite);
    assert!(fewer.volatile(b"s/1") && !fewer.volatile(b"t"));
    assert_eq!(fewer.max_file_size(), Some(2048));
    // And the rules that it came from are as they were.
    assert_eq!(rules.decide(b"x.iso", false), Include);

    for (bad, message) in [
        ("../x", "pattern '../x': '../x' must not contain '..'"),
        (
            "a{b",
            "pattern 'a{b': '**/a{b': unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
        ),
        ("/", "pattern '/': is empty"),
    ] {
        let error = rules.with_excludes(&[bad.to_owned()]).expect_err(bad);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_directory_without_adapter_is_taken_whole_with_its_databases() {
    let rules = Rules::everything();
    assert_eq!(rules.decide(b"", true), Include);
    assert_eq!(rules.decide(b".git/HEAD", false), Include);
    assert_eq!(rules.decide(b"a/b.sqlite3", false), IncludeSqlite);
    assert_eq!(rules.decide(b"state.vscdb", false), IncludeSqlite);
    assert_eq!(rules.decide(b"state.vscdb-wal", false), Exclude);
    let fewer = rules.with_excludes(&["*.db".to_owned()]).expect("valid");
    assert_eq!(fewer.decide(b"a/b.db", false), Exclude);
}

#[test]
fn row_rules_come_in_the_order_of_the_file_and_make_a_database_of_what_they_name() {
    let rules = rules(
        "[[roots.rows]]\ndatabase = ['**/state.db', 'odd']\ntable = 'kv'\n\
         where = { column = 'key', glob = 'auth/*' }\ndelete = true\n\
         [[roots.rows]]\ndatabase = 'a/*.db'\ntable = 'account'\nredact = ['token', 'refresh']\n\
         where = { column = 'kind', is = ['oauth', 'key'] }",
    );
    let of = |path: &str| rules.rows(path.as_bytes());
    let delete = RowRule {
        table: "kv".into(),
        rows: Some(RowMatch {
            column: "key".into(),
            values: RowValues::Glob(vec!["auth/*".into()]),
        }),
        action: RowAction::Delete,
    };
    let redact = RowRule {
        table: "account".into(),
        rows: Some(RowMatch {
            column: "kind".into(),
            values: RowValues::Is(vec!["oauth".into(), "key".into()]),
        }),
        action: RowAction::Redact(vec!["token".into(), "refresh".into()]),
    };
    let both: Vec<RowRule> = of("a/state.db").iter().map(|rule| (**rule).clone()).collect();
    assert_eq!(both, [delete.clone(), redact]);
    assert_eq!(of("odd").len(), 1);
    assert_eq!(*of("b/c/state.db")[0], delete);
    assert!(of("b/other.db").is_empty() && of("a/b/other.db").is_empty());
    // no pattern in sqlite names it, and still its log is never stored by itself
    assert_eq!(rules.decide(b"odd", false), IncludeSqlite);
    assert_eq!(rules.decide(b"odd-wal", false), Exclude);
    let fewer = rules.with_excludes(&["*.iso".to_owned()]).expect("a pattern");
    assert_eq!(fewer.rows(b"a/state.db").len(), 2, "excludes of one run keep them");
}

#[test]
fn a_root_like_another_has_its_row_rules() {
    let text = "version = 1\nid = 'x'\nname = 'X'\n[[roots]]\nlabel = 'a'\nall = '~/a'\n\
                [[roots.rows]]\ndatabase = '*.db'\ntable = 't'\ndelete = true\n\
                [[roots]]\nlabel = 'b'\nall = '~/b'\nlike = 'a'\n";
    let home = tempfile::tempdir().expect("tempdir");
    for dir in ["a", "b"] {
        std::fs::create_dir(home.path().join(dir)).expect("directory");
    }
    let env = Env { home: home.path().into(), vars: BTreeMap::new(), os: Os::Linux };
    let roots = Adapter::parse(text, "x.toml").expect("valid").resolve(&env);
    let rules: Vec<usize> = roots.iter().map(|root| root.rules.rows(b"a.db").len()).collect();
    assert_eq!(rules, [1, 1]);
}
