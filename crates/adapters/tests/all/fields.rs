//! Field rules and binds: what adapter files may say, which paths they are for, and what mistakes are told.

use adapters::{Adapter, Bind, BindFormat, Encoding, FieldFormat, Rules};

/// The rules of a root with these tables below it.
fn rules(tables: &str) -> std::sync::Arc<Rules> {
    let text = format!(
        "version = 1\nid = \"x\"\nname = \"X\"\n[[roots]]\nlabel = \"a\"\nall = '~/x'\n{tables}\n"
    );
    Adapter::parse(&text, "my.toml").expect("valid").rules("x/a").expect("a root")
}

fn error(tables: &str) -> String {
    let text = format!(
        "version = 1\nid = \"x\"\nname = \"X\"\n[[roots]]\nlabel = \"a\"\nall = '~/x'\n{tables}\n"
    );
    Adapter::parse(&text, "my.toml").expect_err(tables).to_string()
}

#[test]
fn the_fields_of_a_file_are_those_of_all_tables_that_name_it() {
    let rules = rules(
        "[[roots.fields]]\nfile = ['settings.json', '**/mcp.json', 'a.yaml']\nredact = ['env.*', '**.apiKey']\n\
         [[roots.fields]]\nfile = 'settings.json'\nredact = ['**.apiKey', 'token']\n\
         [[roots.fields]]\nfile = 'rc'\nformat = 'toml'\nredact = 'key'",
    );
    let of = |path: &str| rules.fields(path.as_bytes());
    let settings = of("settings.json").expect("rules");
    assert_eq!(settings.format, FieldFormat::Json);
    assert_eq!(settings.redact, ["env.*", "**.apiKey", "token"]);
    assert_eq!(of("deep/er/mcp.json").expect("rules").redact, ["env.*", "**.apiKey"]);
    assert_eq!(of("a.yaml").expect("rules").format, FieldFormat::Yaml);
    assert_eq!(of("rc").expect("rules").format, FieldFormat::Toml);
    assert_eq!(of("other.json"), None);
    assert_eq!(of("deep/settings.json"), None);
    // on some systems it is the same file
    assert_eq!(of("Settings.JSON"), Some(settings.clone()));
    let fewer = rules.with_excludes(&["*.iso".to_owned()]).expect("a pattern");
    assert_eq!(
        fewer.fields(b"settings.json"),
        Some(settings.clone()),
        "excludes of one run keep them"
    );
    assert_ne!(of("a.yaml").expect("rules").fingerprint(), settings.fingerprint());
}

#[test]
fn the_format_is_told_by_the_name() {
    for (name, format) in [
        ("a.json", FieldFormat::Json),
        ("a.jsonc", FieldFormat::Json),
        ("**/*.json5", FieldFormat::Json),
        ("settings*.json", FieldFormat::Json),
        ("A.TOML", FieldFormat::Toml),
        ("x/a.yml", FieldFormat::Yaml),
        ("a.yaml", FieldFormat::Yaml),
        (".env", FieldFormat::Env),
        ("**/.env.*", FieldFormat::Env),
        ("*.env", FieldFormat::Env),
    ] {
        let rules = rules(&format!("[[roots.fields]]\nfile = '{name}'\nredact = 'k'"));
        let path = name.replace("**/", "").replace('*', "x");
        assert_eq!(rules.fields(path.as_bytes()).expect(name).format, format, "{name}");
    }
}

#[test]
fn a_root_like_another_has_its_fields_and_binds() {
    let text = "version = 1\nid = 'x'\nname = 'X'\n[[roots]]\nlabel = 'a'\nall = '~/a'\n\
                [[roots.fields]]\nfile = 'a.json'\nredact = 'k'\n\
                [[roots.binds]]\ndirectory = 'p/*'\nencoding = 'pi'\n\
                [[roots]]\nlabel = 'b'\nseveral = true\nall = '~/b*'\nlike = 'a'\n";
    let adapter = Adapter::parse(text, "x.toml").expect("valid");
    let rules = adapter.rules("x/b/b-1").expect("the rules of a root that is not here");
    assert!(rules.fields(b"a.json").is_some());
    assert_eq!(rules.binds(b"p/x", true).len(), 1);
    for label in ["x/a/b", "x/c", "y/a", "x", "xx/a"] {
        assert!(adapter.rules(label).is_none(), "{label}");
    }
}

#[test]
fn binds_say_where_paths_stand() {
    let rules = rules(
        "[[roots.binds]]\ndirectory = 'projects/*'\nencoding = 'claude-code'\n\
         [[roots.binds]]\nfile = ['a.json', 'b/*.json']\nkeys = ['projects']\npaths = ['a.b', '*.cwd']\n\
         [[roots.binds]]\nfile = '*.jsonl'\npaths = 'cwd'\ntranscript = true\n\
         [[roots.binds]]\nfile = '.root'\nformat = 'text'\n\
         [[roots.binds]]\ndatabase = '*.db'\ntable = 'threads'\ncolumns = ['cwd', 'path']",
    );
    let one = |path: &str, is_dir| {
        let binds = rules.binds(path.as_bytes(), is_dir);
        assert!(binds.len() < 2, "{path}");
        binds.first().map(|bind| (**bind).clone())
    };
    assert_eq!(one("projects/-a", true), Some(Bind::Directory(Encoding::ClaudeCode)));
    assert_eq!(one("projects/-a", false), None, "a file has no encoded name");
    assert_eq!(one("projects/-a/b", true), None);
    let Some(Bind::File(file)) = one("b/x.json", false) else { panic!("a file") };
    assert_eq!((file.format, file.transcript), (BindFormat::Json, false));
    assert_eq!(
        (file.paths, file.keys),
        (vec!["a.b".into(), "*.cwd".into()], vec!["projects".into()])
    );
    let Some(Bind::File(file)) = one("s.jsonl", false) else { panic!("a file") };
    assert_eq!((file.format, file.transcript), (BindFormat::Jsonl, true));
    let Some(Bind::File(file)) = one(".root", false) else { panic!("a file") };
    assert_eq!(file.format, BindFormat::Text);
    let database =
        Bind::Database { table: "threads".into(), columns: vec!["cwd".into(), "path".into()] };
    assert_eq!(one("x.db", false), Some(database));
}

/// Lines of a table that begins in line 7, and what is said of them.
const MISTAKES: &[(&str, &str)] = &[
    (
        "[[roots.fields]]\nfiles = 'a.json'",
        "my.toml:8: roots.fields.files: unknown key; known here: file, format, redact",
    ),
    (
        "[[roots.fields]]\nredact = 'k'",
        "my.toml:7: roots.fields.file: is missing: a pattern for the files with these fields",
    ),
    (
        "[[roots.fields]]\nfile = 'a.json'",
        "my.toml:7: roots.fields.redact: is missing: dotted paths such as 'mcpServers.*.env.*'",
    ),
    (
        "[[roots.fields]]\nfile = '../a.json'\nredact = 'k'",
        "my.toml:8: roots.fields.file: '../a.json' must not contain '..'",
    ),
    (
        "[[roots.fields]]\nfile = ['a.json', 'rc']\nredact = 'k'",
        "my.toml:8: roots.fields.file: 'rc': its name does not tell the format; write format, one of json, toml, yaml, env",
    ),
    (
        "[[roots.fields]]\nfile = 'a.jsonl'\nredact = 'k'",
        "my.toml:8: roots.fields.file: 'a.jsonl': its name does not tell the format; write format, one of json, toml, yaml, env",
    ),
    (
        "[[roots.fields]]\nfile = 'a'\nformat = 'ini'\nredact = 'k'",
        "my.toml:9: roots.fields.format: 'ini' is not one of json, toml, yaml, env",
    ),
    (
        "[[roots.fields]]\nfile = 'a.json'\nredact = [\n'a',\n'a..b',\n]",
        "my.toml:11: roots.fields.redact: 'a..b' has an empty segment; write 'a.b', and '\\.' for a dot in a key",
    ),
    (
        "[[roots.fields]]\nfile = 'a.json'\nredact = 'a.**b'",
        "my.toml:9: roots.fields.redact: 'a.**b': '**' must be a whole segment",
    ),
    (
        "[[roots.fields]]\nfile = 'a.json'\nredact = 'a\\b'",
        "my.toml:9: roots.fields.redact: 'a\\b': '\\b' is no escape; known are '\\.', '\\*' and '\\\\'",
    ),
    (
        "[[roots.fields]]\nfile = 'a.json'\nredact = 'a\\'",
        "my.toml:9: roots.fields.redact: 'a\\' ends in '\\'; a backslash itself is '\\\\'",
    ),
    ("fields = 'a'", "my.toml:7: roots.fields: must be [[roots.fields]] tables"),
    (
        "[[roots.binds]]\nencoding = 'pi'",
        "my.toml:7: roots.binds.directory: is missing: a bind needs one of directory, file and database",
    ),
    (
        "[[roots.binds]]\ndirectory = 'a/*'",
        "my.toml:7: roots.binds.encoding: is missing: one of claude-code, pi, dashes, percent, base64, md5, sha256, sha256-32",
    ),
    (
        "[[roots.binds]]\ndirectory = 'a/*'\nencoding = 'rot13'",
        "my.toml:9: roots.binds.encoding: 'rot13' is not one of claude-code, pi, dashes, percent, base64, md5, sha256, sha256-32",
    ),
    (
        "[[roots.binds]]\ndirectory = 'a/*'\nencoding = 'pi'\npaths = 'x'",
        "my.toml:10: roots.binds.paths: does not go together with directory",
    ),
    (
        "[[roots.binds]]\ndirectory = []\nencoding = 'pi'",
        "my.toml:8: roots.binds.directory: must have at least one pattern",
    ),
    (
        "[[roots.binds]]\ndirectory = 'a/*'\nfile = 'a.json'",
        "my.toml:9: roots.binds.file: does not go together with directory; write two tables",
    ),
    (
        "[[roots.binds]]\ndirectory = 'a/*'\ndatabase = 'a.db'",
        "my.toml:9: roots.binds.database: does not go together with the others; write two tables",
    ),
    (
        "[[roots.binds]]\nfile = 'a.json'",
        "my.toml:7: roots.binds.paths: is missing: dotted paths of values that are paths, or keys of tables whose keys are",
    ),
    (
        "[[roots.binds]]\nfile = ['a.json', 'a.toml']\npaths = 'x'",
        "my.toml:8: roots.binds.file: must be of one format; write two tables",
    ),
    (
        "[[roots.binds]]\nfile = 'a'\npaths = 'x'",
        "my.toml:8: roots.binds.file: 'a': its name does not tell the format; write format, one of json, jsonl, toml, yaml, text",
    ),
    (
        "[[roots.binds]]\nfile = 'a'\nformat = 'text'\npaths = 'x'",
        "my.toml:10: roots.binds.paths: does not go together with format = \"text\"",
    ),
    (
        "[[roots.binds]]\ndatabase = 'a.db'\ncolumns = 'x'",
        "my.toml:7: roots.binds.table: is missing: the name of a table",
    ),
    (
        "[[roots.binds]]\ndatabase = 'a.db'\ntable = 't'",
        "my.toml:7: roots.binds.columns: is missing: the columns whose values are paths",
    ),
    (
        "[[roots]]\nlabel = 'b'\nall = '~/y'\nlike = 'a'\n[[roots.fields]]\nfile = 'x.json'\nredact = 'k'",
        "my.toml:11: roots.fields: does not go together with like",
    ),
];

#[test]
fn mistakes_in_fields_and_binds_are_named_with_line_and_key() {
    for (tables, expected) in MISTAKES {
        assert_eq!(error(tables), *expected, "{tables}");
    }
}
