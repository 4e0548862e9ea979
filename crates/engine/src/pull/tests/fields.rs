//! Text files with values that never left their machine: the live ones stay, whatever goes wrong.

use std::sync::Arc;

use adapters::Adapter;
use repo::TextFormat;

use super::*;

const STORED: &[u8] = b"{\"model\": \"new\", \"key\": \"[left out by agent-backup]\"}\n";
const LIVE: &[u8] = b"{\"model\": \"old\", \"key\": \"CANARY\"}\n";
const BOTH: &[u8] = b"{\"model\": \"new\", \"key\": \"CANARY\"}\n";

/// A snapshot with such a file and a plain one, and what is at the target.
fn ground(live: &[u8]) -> (Memory, Ground) {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/a.json", STORED).redacted = Some(TextFormat::Json);
    m.file("r/plain", b"plain");
    let g = Ground::new();
    fs::create_dir_all(g.path("r")).unwrap();
    fs::write(g.path("r/a.json"), live).unwrap();
    (m, g)
}

#[test]
fn the_live_value_is_kept_and_what_fits_is_left() {
    let (m, g) = ground(LIVE);
    let report = restore(&m, &Options { verify: true, ..g.options() });
    assert_eq!((g.read("r/a.json").as_slice(), report.blanks.len()), (BOTH, 0));
    assert_eq!((report.replaced, report.verified), (1, 2));
    let report = restore(&m, &Options { verify: true, ..g.options() });
    assert_eq!((report.replaced, report.created, report.verified), (0, 0, 2));
}

#[test]
fn damage_in_one_stops_no_other_and_leaves_what_is_there() {
    for how in [Damage::Flip, Damage::Short, Damage::Corrupt, Damage::Gone] {
        // what the double lost it can still read: then the file that fits is left, and rightly
        let fitting = (!matches!(how, Damage::Gone)).then_some(BOTH);
        for live in std::iter::once(LIVE).chain(fitting) {
            let (mut m, g) = ground(live);
            m.damage(STORED, how);
            let report = run(&m, &g.options()).unwrap();
            assert_eq!(problems(&report), ["r/a.json"], "{how:?}");
            assert_eq!(
                (g.read("r/a.json").as_slice(), g.read("r/plain").as_slice()),
                (live, &b"plain"[..])
            );
            g.check();
        }
    }
}

#[test]
fn a_live_file_that_cannot_be_read_as_such_keeps_its_values_unless_it_is_told_to_go() {
    for (live, size) in [
        (&b"{\"key\": \"CANARY\""[..], 16),
        (b"\xff\xfe not text", 11),
        // longer than is read, and a hole but for its beginning
        (b"{\"key\": \"CANARY\"}", (256 << 20) + 1),
    ] {
        let (m, g) = ground(live);
        let file = fs::File::options().write(true).open(g.path("r/a.json")).unwrap();
        file.set_len(size).unwrap();
        let report = run(&m, &g.options()).unwrap();
        assert_eq!(problems(&report), ["r/a.json"]);
        assert!(report.problems[0].reason.contains("move it away"), "{:?}", report.problems);
        assert_eq!(fs::metadata(g.path("r/a.json")).unwrap().len(), size);
        assert!(size > 20 || g.read("r/a.json") == live);
        g.check();
        let report = restore(&m, &g.with(Overwrite::Always));
        assert_eq!(g.read("r/a.json"), STORED);
        assert_eq!(report.blanks[0].fields, ["key"]);
    }
}

#[test]
fn another_name_of_such_a_file_has_the_values_too() {
    let (mut m, g) = ground(LIVE);
    m.hard_link("r/b.json", "r/a.json");
    for _ in 0..2 {
        restore(&m, &Options { verify: true, ..g.options() });
        assert_eq!((g.read("r/a.json").as_slice(), g.read("r/b.json").as_slice()), (BOTH, BOTH));
    }
}

/// Options under rules that leave `key` and the tokens of servers at home.
fn ruled(g: &Ground, overwrite: Overwrite) -> Options {
    let text = r#"
        version = 1
        id = "quill"
        name = "Quill"
        [[roots]]
        label = "home"
        all = "~/.quill"
        [[roots.fields]]
        file = "*.json"
        format = "json"
        redact = ["key", "servers.*.token"]
    "#;
    let rules = Adapter::parse(text, "quill.toml").unwrap().rules("quill/home").unwrap();
    let rules: Arc<dyn crate::scan::Filter> = rules;
    Options { filters: [(b"r".to_vec(), rules)].into_iter().collect(), ..g.with(overwrite) }
}

/// Of what is stored and what is there: what is lost, or what comes out.
fn over(stored: &[u8], live: &[u8]) -> std::result::Result<String, String> {
    let (mut m, g) = (Memory::default(), Ground::new());
    m.dir("r");
    let entry = m.file("r/a.json", stored);
    let marked = stored.windows(9).any(|part| part == b"[left out");
    entry.redacted = marked.then_some(TextFormat::Json);
    fs::create_dir_all(g.path("r")).unwrap();
    fs::write(g.path("r/a.json"), live).unwrap();
    let report = run(&m, &ruled(&g, Overwrite::IfChanged)).unwrap();
    g.check();
    let now = String::from_utf8(g.read("r/a.json")).unwrap();
    match report.problems.as_slice() {
        [] => Ok(now),
        [one] => {
            assert_eq!(now.as_bytes(), live, "it stays as it is");
            assert!(one.reason.contains("--overwrite always"), "{}", one.reason);
            let report = restore(&m, &ruled(&g, Overwrite::Always));
            assert_eq!((report.replaced, report.notices.len()), (1, 1), "{report:?}");
            Err(one.reason.clone())
        }
        more => panic!("{more:?}"),
    }
}

#[test]
fn a_live_value_that_has_no_place_in_what_is_stored_is_not_replaced() {
    let lost = [
        // the file had no key when it was stored
        (&br#"{"model": "new"}"#[..], &br#"{"model": "old", "key": "CANARY"}"#[..], "key"),
        // nor this server
        (
            br#"{"key": "[left out by agent-backup]", "servers": {}}"#,
            br#"{"key": "1", "servers": {"b": {"token": "CANARY"}}}"#,
            "servers.b.token",
        ),
        // it was stored when there was no such rule
        (br#"{"key": "stored"}"#, br#"{"key": "CANARY"}"#, "key"),
        // what is stored is no JSON
        (b"{\"key\": \"x\"", br#"{"key": "CANARY"}"#, "key"),
    ];
    for (stored, live, place) in lost {
        let why = over(stored, live).unwrap_err();
        assert!(
            why.contains(&format!("no place for {place};")) && !why.contains("CANARY"),
            "{why}"
        );
    }
    let kept = [
        (r#"{"model": "new"}"#, r#"{"model": "old", "key": ""}"#, r#"{"model": "new"}"#),
        (r#"{"key": "same", "n": 1}"#, r#"{"key": "same"}"#, r#"{"key": "same", "n": 1}"#),
        (
            r#"{"servers": {"a": {"token": "[left out by agent-backup]"}}}"#,
            r#"{"servers": {"a": {"token": "T", "more": 1}}}"#,
            r#"{"servers": {"a": {"token": "T"}}}"#,
        ),
        (r#"{"n": 1}"#, r#"{"key": "[left out by agent-backup]", "n": 2}"#, r#"{"n": 1}"#),
    ];
    for (stored, live, out) in kept {
        assert_eq!(over(stored.as_bytes(), live.as_bytes()).as_deref(), Ok(out), "{live}");
    }
    let why = over(br#"{"n": 1}"#, br#"{"key": "CANARY""#).unwrap_err();
    assert!(why.contains("values that nobody else has"), "{why}");
}
