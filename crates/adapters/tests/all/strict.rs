//! Mistakes in adapter files: each is refused, with the line, the key, and what to do.

use std::fs;

use adapters::{Adapter, Source, builtin, load};

/// A valid file whose sixth and last line is the one under test.
fn with_line(line: &str) -> String {
    format!("version = 1\nid = \"x\"\nname = \"X\"\n[[roots]]\nlabel = \"a\"\n{line}\n")
}

fn error(text: &str) -> String {
    Adapter::parse(text, "my.toml").expect_err(text).to_string()
}

/// Lines of a root, and what is said of them.
const IN_ROOTS: &[(&str, &str)] = &[
    (
        "all = '~/x'\ninclud = ['a']",
        "my.toml:7: roots.includ: unknown key; known here: label, env, env_file, all, linux, \
             macos, windows, several, marker, files, like, include, exclude, secret_exclude, \
             sqlite, rows, fields, binds, sessions, volatile, max_file_size",
    ),
    (
        "all = '~/x'\ninclude = [\n 'fine',\n '/etc',\n]",
        "my.toml:9: roots.include: '/etc' is absolute; patterns start inside the root",
    ),
    (
        "all = '~/x'\nexclude = ['C:/x']",
        "my.toml:7: roots.exclude: 'C:/x' is absolute; patterns start inside the root",
    ),
    (
        "all = '~/x'\nsecret_exclude = ['a/../b']",
        "my.toml:7: roots.secret_exclude: 'a/../b' must not contain '..'",
    ),
    ("all = '~/x'\nsqlite = ['./b']", "my.toml:7: roots.sqlite: './b' must not contain '.'"),
    (
        "all = '~/x'\nvolatile = ['a/']",
        "my.toml:7: roots.volatile: 'a/' has an empty segment; a directory is named without a final '/'",
    ),
    ("all = '~/x'\ninclude = ['']", "my.toml:7: roots.include: is empty"),
    (
        "all = '~/x'\ninclude = ['a**']",
        "my.toml:7: roots.include: 'a**': '**' must be a whole segment",
    ),
    (
        "all = '~/x'\ninclude = ['[a']",
        "my.toml:7: roots.include: '[a': unclosed character class; missing ']'",
    ),
    (
        "all = '~/x'\ninclude = ['{a/b,c}']",
        "my.toml:7: roots.include: '{a/b,c}' has a '/' inside '{}'; write one pattern for each alternative",
    ),
    ("all = '~/x'\ninclude = 7", "my.toml:7: roots.include: must be a string or a list of strings"),
    (
        "all = '~/x'\ninclude = ['a', 7]",
        "my.toml:7: roots.include: must be a string or a list of strings",
    ),
    (
        "all = '~/x'\nmax_file_size = '4 GB'",
        "my.toml:7: roots.max_file_size: '4 GB' is not a size such as \"4 GiB\"",
    ),
    ("all = '~/x'\nmax_file_size = -1", "my.toml:7: roots.max_file_size: must be a whole number"),
    ("all = '~/x'\nseveral = 'yes'", "my.toml:7: roots.several: must be true or false"),
    (
        "all = '~/x'\nfiles = ['a/b']",
        "my.toml:7: roots.files: 'a/b' must be the name of a file, without '/'",
    ),
    (
        "all = '~/x'\nfiles = ['a']\ninclude = ['a']",
        "my.toml:8: roots.include: does not go together with files",
    ),
    ("all = '~/x'\nlike = 'b'", "my.toml:7: roots.like: no root above has the label 'b'"),
    ("all = '~/x'\nlike = 'a'", "my.toml:7: roots.like: no root above has the label 'a'"),
    (
        "all = '~/x'\nlike = 'b'\nexclude = ['c']",
        "my.toml:8: roots.exclude: does not go together with like",
    ),
    (
        "all = '~/x'\nmarker = 'p*'",
        "my.toml:7: roots.marker: 'p*' must be a plain path inside the root",
    ),
    (
        "all = '~/x'\n[[roots]]\nlabel = 'a'\nall = '~/y'",
        "my.toml:8: roots.label: 'a' is used twice",
    ),
    (
        "all = '~/x'\n[[roots]]\nall = '~/y'",
        "my.toml:7: roots.label: is missing: a short name of a-z, 0-9, '.', '_' and '-'",
    ),
    (
        "",
        "my.toml:4: roots.all: is missing: a root needs all, linux, macos, windows, env or env_file",
    ),
    (
        "all = 'x'",
        "my.toml:6: roots.all: 'x' must start with '~', '${NAME}' or be absolute, with '/' between",
    ),
    ("all = '~bob/x'", "my.toml:6: roots.all: '~bob/x': homes of other users are not supported"),
    (
        "all = '$HOME/x'",
        "my.toml:6: roots.all: '$HOME/x': write a variable as ${NAME} or ${NAME:-default}",
    ),
    ("all = '${HOME'", "my.toml:6: roots.all: '${HOME' lacks a '}'"),
    ("all = '${HO ME}'", "my.toml:6: roots.all: 'HO ME' is not the name of a variable"),
    ("all = '${A}b'", "my.toml:6: roots.all: '${A}b': a '/' must follow the variable"),
    (
        "all = '${A:-x}/b'",
        "my.toml:6: roots.all: 'x' must start with '~', '${NAME}' or be absolute, with '/' between",
    ),
    ("all = '~/${A}'", "my.toml:6: roots.all: '~/${A}': a variable stands only at the beginning"),
    ("all = '~/x/../y'", "my.toml:6: roots.all: '~/x/../y' must not contain '..'"),
    ("all = '~/x/'", "my.toml:6: roots.all: '~/x/' has an empty segment"),
    (
        "windows = 'C:\\x'",
        "my.toml:6: roots.windows: 'C:\\x' must start with '~', '${NAME}' or be absolute, with '/' between",
    ),
    (
        "windows = '~/x\\y'",
        "my.toml:6: roots.windows: '~/x\\y': write '/' between segments, on Windows too",
    ),
    ("all = '~/x*'", "my.toml:6: roots.all: '~/x*' has a wildcard, which needs several = true"),
    (
        "several = true\nall = '~/*'",
        "my.toml:7: roots.all: '~/*' would look at everything in the home directory",
    ),
    (
        "several = true\nall = '~/.*/x'",
        "my.toml:7: roots.all: '~/.*/x' would look at everything in the home directory",
    ),
    ("several = true\nall = '~/x/**'", "my.toml:7: roots.all: '~/x/**' must not contain '**'"),
    (
        "several = true\nall = ['~/x', '~/y']",
        "my.toml:7: roots.all: '~/y' is the second without a wildcard; give it its own root",
    ),
    ("env = 'A B'", "my.toml:6: roots.env: 'A B' is not the name of a variable"),
    (
        "env = 'A/../b'",
        "my.toml:6: roots.env: 'A/../b': after the name come plain segments, NAME/below/it",
    ),
    ("env_file = 'A'\nenv = 'B'", "my.toml:7: roots.env: does not go together with env_file"),
    ("all = '~/x'\nall = '~/y'", "my.toml:7: duplicate key"),
];

/// Lines of a group that begins in line 7, and what is said of them.
const IN_GROUPS: &[(&str, &str)] = &[
    (
        "name = 'g'\nmember = 'a:x'",
        "my.toml:9: groups.member: unknown key; known here: name, members",
    ),
    (
        "members = 'a:x'",
        "my.toml:7: groups.name: is missing: a short name of a-z, 0-9, '.', '_' and '-'",
    ),
    (
        "name = 'g'",
        "my.toml:7: groups.members: is missing: a group needs patterns such as 'home:*.db'",
    ),
    (
        "name = 'g'\nmembers = []",
        "my.toml:7: groups.members: is missing: a group needs patterns such as 'home:*.db'",
    ),
    (
        "name = 'g'\nmembers = [\n 'a:x',\n 'x',\n]",
        "my.toml:11: groups.members: 'x' must be the label of a root, ':' and a pattern",
    ),
    ("name = 'g'\nmembers = 'b:x'", "my.toml:9: groups.members: 'b:x': no root has the label 'b'"),
    (
        "name = 'g'\nmembers = 'a:/x'",
        "my.toml:9: groups.members: '/x' is absolute; patterns start inside the root",
    ),
    ("name = 'g'\nmembers = 'a:'", "my.toml:9: groups.members: is empty"),
    (
        "name = 'g'\nmembers = 'a:x'\n[[groups]]\nname = 'g'\nmembers = 'a:y'",
        "my.toml:11: groups.name: 'g' is used twice",
    ),
    (
        "name = 'g'\nmembers = ['a:x', 's:x']\n[[roots]]\nlabel = 's'\nseveral = true\nall = '~/x*'",
        "my.toml:9: groups.members: the roots must all have several = true, or none of them",
    ),
];

#[test]
fn mistakes_in_a_group_are_named_with_line_and_key() {
    for (lines, expected) in IN_GROUPS {
        let text = with_line(&format!("all = '~/x'\n[[groups]]\n{lines}"));
        assert_eq!(error(&text), *expected, "{lines}");
    }
    assert_eq!(
        error(
            "version = 1\nid = \"x\"\nname = \"X\"\ngroups = 1\n[[roots]]\nlabel = \"a\"\nall = '~/x'"
        ),
        "my.toml:4: groups: must be [[groups]] tables"
    );
}

#[test]
fn mistakes_in_a_root_are_named_with_line_and_key() {
    for (line, expected) in IN_ROOTS {
        assert_eq!(error(&with_line(line)), *expected, "{line}");
    }
}

/// Lines of a `[[roots.rows]]` table that begins in line 7, and what is said of them.
const IN_ROWS: &[(&str, &str)] = &[
    (
        "databse = 'a'",
        "my.toml:8: roots.rows.databse: unknown key; known here: database, table, where, delete, redact",
    ),
    (
        "table = 't'\ndelete = true",
        "my.toml:7: roots.rows.database: is missing: a pattern for the databases with this table",
    ),
    (
        "database = '/a'\ntable = 't'\ndelete = true",
        "my.toml:8: roots.rows.database: '/a' is absolute; patterns start inside the root",
    ),
    (
        "database = 'a'\ndelete = true",
        "my.toml:7: roots.rows.table: is missing: the name of a table",
    ),
    (
        "database = 'a'\ntable = 'SQLite_schema'\ndelete = true",
        "my.toml:9: roots.rows.table: 'SQLite_schema' is one of SQLite's own tables",
    ),
    (
        "database = 'a'\ntable = ['t']\ndelete = true",
        "my.toml:9: roots.rows.table: must be a string",
    ),
    (
        "database = 'a'\ntable = 't'",
        "my.toml:7: roots.rows.delete: is missing: write delete = true, or redact = [columns]",
    ),
    (
        "database = 'a'\ntable = 't'\ndelete = false",
        "my.toml:10: roots.rows.delete: must be true, or redact must name columns",
    ),
    (
        "database = 'a'\ntable = 't'\ndelete = 'key = 1'",
        "my.toml:10: roots.rows.delete: must be true or false",
    ),
    (
        "database = 'a'\ntable = 't'\ndelete = true\nredact = ['c']",
        "my.toml:11: roots.rows.redact: does not go together with delete",
    ),
    (
        "database = 'a'\ntable = 't'\nredact = []",
        "my.toml:10: roots.rows.redact: must name at least one column",
    ),
    ("database = 'a'\ntable = 't'\nredact = ['c', '']", "my.toml:10: roots.rows.redact: is empty"),
    (
        "database = 'a'\ntable = 't'\ndelete = true\nwhere = 'key = 1'",
        "my.toml:11: roots.rows.where: must be a table: { column = \"name\", ... }",
    ),
    (
        "database = 'a'\ntable = 't'\ndelete = true\nwhere = { colum = 'c', is = 'x' }",
        "my.toml:11: roots.rows.where.colum: unknown key; known here: column, is, glob",
    ),
    (
        "database = 'a'\ntable = 't'\ndelete = true\nwhere = { is = 'x' }",
        "my.toml:11: roots.rows.where.column: is missing: the column that rows are found by",
    ),
    (
        "database = 'a'\ntable = 't'\ndelete = true\nwhere = { column = 'c' }",
        "my.toml:11: roots.rows.where.is: is missing: write is = [values] or glob = [patterns]",
    ),
    (
        "database = 'a'\ntable = 't'\ndelete = true\nwhere = { column = 'c', is = 'x', glob = 'y' }",
        "my.toml:11: roots.rows.where.glob: does not go together with is",
    ),
    (
        "database = 'a'\ntable = 't'\ndelete = true\nwhere = { column = 'c', glob = ['[]x]', 'a[^]b'] }",
        "my.toml:11: roots.rows.where.glob: 'a[^]b' lacks a ']'",
    ),
    (
        "database = 'a'\ntable = 't'\ndelete = true\nwhere = { column = \"c\\u0000\", is = 'x' }",
        "my.toml:11: roots.rows.where.column: must not contain a NUL",
    ),
];

/// Lines of a session table, and what is said of them.
const IN_SESSIONS: &[(&str, &str)] = &[
    (
        "file = 'a.jsonl'",
        "my.toml:7: roots.sessions.id: is missing: where the session's id stands, such as '@name'",
    ),
    (
        "id = '@name'",
        "my.toml:7: roots.sessions.file: is missing: sessions are in a file or in a database",
    ),
    (
        "file = 'a.txt'\nid = '@name'",
        "my.toml:8: roots.sessions.file: 'a.txt': its name does not tell the format; write format, json or jsonl",
    ),
    (
        "file = 'a.jsonl'\nid = '@stem'",
        "my.toml:9: roots.sessions.id: '@stem' is not one of @name, @directory, @uuid, @record",
    ),
    ("file = 'a.jsonl'\nid = 'a..b'", "my.toml:9: roots.sessions.id: 'a..b' has an empty key"),
    (
        "file = 'a.jsonl'\nid = 'type a'",
        "my.toml:9: roots.sessions.id: 'type a': what stands before the blank must be PATH=VALUE",
    ),
    (
        "file = 'a.jsonl'\nid = 'a'\ncompanions = '/{id}'",
        "my.toml:10: roots.sessions.companions: '/x' is absolute; patterns start inside the root",
    ),
    (
        "file = 'a.jsonl'\nid = 'a'\ntable = 't'",
        "my.toml:10: roots.sessions.table: does not go together with file",
    ),
    (
        "database = 'a.db'\nid = 'a'\ntable = 'sqlite_x'",
        "my.toml:10: roots.sessions.table: 'sqlite_x' is one of SQLite's own tables",
    ),
    (
        "file = 'a.jsonl'\nid = 'a'\n[[roots.sessions.catalogue]]\nfile = 'x.jsonl'",
        "my.toml:10: roots.sessions.catalogue.key: is missing: where the session's id stands in an entry",
    ),
    (
        "file = 'a.jsonl'\nid = 'a'\n[[roots.sessions.catalogue]]\nroot = 'b'\nfile = 'x.jsonl'\nkey = 'id'",
        "my.toml:4: roots: a catalogue names 'b', which is no root's label",
    ),
];

#[test]
fn mistakes_in_session_rules_are_named_with_line_and_key() {
    for (lines, said) in IN_SESSIONS {
        let text = with_line(&format!("all = '~/x'\n[[roots.sessions]]\n{lines}"));
        assert_eq!(error(&text), *said, "{lines}");
    }
}

#[test]
fn mistakes_in_row_rules_are_named_with_line_and_key() {
    for (lines, expected) in IN_ROWS {
        let text = with_line(&format!("all = '~/x'\n[[roots.rows]]\n{lines}"));
        assert_eq!(error(&text), *expected, "{lines}");
    }
    let many = vec!["'v'"; 101].join(",");
    let rows = format!(
        "[[roots.rows]]\ndatabase='a'\ntable='t'\ndelete=true\nwhere={{column='c',is=[{many}]}}"
    );
    assert_eq!(
        error(&with_line(&format!("all = '~/x'\n{rows}"))),
        "my.toml:11: roots.rows.where.is: has 101 values; write a second [[roots.rows]] table after 100"
    );
    assert_eq!(
        error(&with_line("all = '~/x'\nrows = 'DELETE FROM t'")),
        "my.toml:7: roots.rows: must be [[roots.rows]] tables"
    );
    let like =
        "all = '~/x'\n[[roots]]\nlabel = 'b'\nall = '~/y'\nlike = 'a'\n[[roots.rows]]\ntable = 't'";
    assert_eq!(error(&with_line(like)), "my.toml:11: roots.rows: does not go together with like");
}

#[test]
fn mistakes_above_the_roots_are_named_too() {
    let root = "[[roots]]\nlabel = 'a'\nall = '~/x'\n";
    for (head, expected) in [
        ("id = 'x'\nname = 'X'\n", "my.toml:1: version: is missing: write version = 1"),
        (
            "version = 2\nnew_key = 1\n",
            "my.toml:1: version: 2 is not known here; this program reads version 1",
        ),
        ("version = '1'\n", "my.toml:1: version: must be a whole number"),
        (
            "version = 1\nname = 'X'\n",
            "my.toml:1: id: is missing: a short name of a-z, 0-9, '.', '_' and '-'",
        ),
        (
            "version = 1\nid = 'My Agent'\nname = 'X'\n",
            "my.toml:2: id: 'My Agent' may have only a-z, 0-9, '.', '_' and '-', and no '.' or '-' first",
        ),
        (
            "version = 1\nid = 'x'\n",
            "my.toml:1: name: is missing: the agent's name as people write it",
        ),
        (
            "version = 1\nid = 'x'\nname = 'X'\nroot = 1\nredact = 2\n",
            "my.toml:4: root: unknown key; known here: version, id, name, homepage, notes, portability, running, hint, roots, groups",
        ),
        (
            "version = 1\nid = 'x'\nname = 'X'\nnotes = 1\n",
            "my.toml:4: notes: must be a string or a list of strings",
        ),
        (
            "version = 1\nid = 'x'\nname = 'X'\nportability = ['a', ' ']\n",
            "my.toml:4: portability: is empty",
        ),
        (
            "version = 1\nid = 'x'\nname = 'X'\nrunning = '/usr/bin/x'\n",
            "my.toml:4: running: '/usr/bin/x' must be the name of a program, without its directory",
        ),
    ] {
        assert_eq!(error(&format!("{head}{root}")), expected, "{head}");
    }
    let no_roots = "version = 1\nid = 'x'\nname = 'X'\n";
    assert_eq!(
        error(no_roots),
        "my.toml:1: roots: is missing: an adapter needs at least one [[roots]] table"
    );
    assert_eq!(
        error(&format!("{no_roots}roots = 1")),
        "my.toml:4: roots: must be [[roots]] tables"
    );
    assert!(error(&format!("{no_roots}x = [")).starts_with("my.toml:4: "), "not TOML");
}

#[test]
fn a_users_file_takes_the_place_of_an_embedded_one_and_others_join() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mine =
        "version = 1\nid = 'codex'\nname = 'My Codex'\n[[roots]]\nlabel = 'a'\nall = '~/c'\n";
    fs::write(dir.path().join("mine.toml"), mine).expect("file");
    fs::write(dir.path().join("new.toml"), mine.replace("'codex'", "'abc'")).expect("file");
    fs::write(dir.path().join("notes.txt"), "not an adapter").expect("file");
    let all = load(Some(dir.path())).expect("valid");
    assert_eq!(all.len(), builtin().len() + 1);
    assert!(all.is_sorted_by_key(Adapter::id));
    assert_eq!(all[0].id(), "abc");
    let codex = all.iter().find(|adapter| adapter.id() == "codex").expect("codex");
    assert_eq!(codex.name(), "My Codex");
    assert_eq!(codex.source(), &Source::File(dir.path().join("mine.toml")));

    fs::write(dir.path().join("zwei.toml"), mine).expect("file");
    let path = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(
        load(Some(dir.path())).expect_err("two of one id").to_string(),
        format!("{}:1: id: 'codex' is also the id in {}", path("zwei.toml"), path("mine.toml"))
    );
    fs::write(dir.path().join("zwei.toml"), "version = 1\nid = 3").expect("file");
    assert_eq!(
        load(Some(dir.path())).expect_err("bad").to_string(),
        format!("{}:2: id: must be a string", path("zwei.toml"))
    );
}

#[test]
fn a_directory_of_adapters_that_is_not_there_is_empty() {
    let dir = tempfile::tempdir().expect("tempdir");
    assert_eq!(load(Some(&dir.path().join("none"))).expect("fine").len(), builtin().len());
    assert_eq!(load(None).expect("fine").len(), builtin().len());
    fs::write(dir.path().join("file"), "x").expect("file");
    let error = load(Some(&dir.path().join("file"))).expect_err("a file").to_string();
    assert!(error.starts_with("cannot read "), "{error}");
}
