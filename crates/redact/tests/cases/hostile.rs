//! Files made to break a reader: deep, wide, long, not text. They end in an error or in time.

use std::io::{self, Read};

use redact::{Error, Format, Path, redact, restore};

use crate::paths;

const ALL: [Format; 5] = [Format::Json, Format::JsonLines, Format::Toml, Format::Yaml, Format::Env];

/// What `each` makes of the numbers below `count`, in a row.
fn many(count: usize, each: impl Fn(usize) -> String) -> String {
    (0..count).map(each).collect::<Vec<_>>().concat()
}

fn run(format: Format, text: &str) -> Result<(), Error> {
    let rules: Vec<Path> = paths(&["**.k", "**.*token*", "a.*.**.b.*"]);
    redact(format, text.as_bytes(), &rules).map(drop)
}

fn too_deep(format: Format, text: &str) {
    let error = run(format, text).unwrap_err();
    assert!(matches!(error, Error::Syntax { .. }), "{error}");
    assert!(error.to_string().contains("nests too deep"), "{error}");
    let error = restore(format, text.as_bytes(), None).unwrap_err();
    assert!(matches!(error, Error::Syntax { .. }), "{error}");
}

#[test]
fn what_nests_a_hundred_thousand_deep_is_an_error_and_no_overflow() {
    const DEEP: usize = 100_000;
    let nest = |open: &str, close: &str| open.repeat(DEEP) + &close.repeat(DEEP);
    for format in [Format::Json, Format::JsonLines] {
        too_deep(format, &"[".repeat(DEEP));
        too_deep(format, &nest("[", "]"));
        too_deep(format, &nest("{\"a\":", "}").replace(":}", ":1}"));
    }
    too_deep(Format::Toml, &format!("a = {}", nest("[", "]")));
    too_deep(Format::Toml, &format!("a = {}", nest("{a = ", "}").replace("= }", "= 1}")));
    too_deep(Format::Yaml, &nest("[", "]"));
    too_deep(Format::Yaml, &"[".repeat(DEEP));
    too_deep(Format::Yaml, &"- ".repeat(DEEP));
    assert!(run(Format::Yaml, &"? ".repeat(DEEP)).is_err());
}

/// Dotted keys and headers nest tables without a bracket.
#[test]
fn toml_keys_of_many_parts_are_an_error_or_read() {
    let key = vec!["a"; 20_000].join(".");
    for text in [format!("{key} = 1"), format!("[{key}]\nk = 1"), format!("x = {{{key} = 1}}")] {
        match run(Format::Toml, &text) {
            Ok(()) => {}
            Err(error) => assert!(matches!(error, Error::Syntax { .. }), "{error}"),
        }
    }
}

#[test]
fn the_deepest_files_that_are_read_are_redacted() {
    for (format, open, close, depth) in [
        (Format::Json, "{\"a\": ", "}", 250),
        (Format::Yaml, "{a: ", "}", 250),
        (Format::Toml, "{a = ", "}", 70),
    ] {
        let text = open.repeat(depth) + "'SECRET'" + &close.repeat(depth);
        let text = if format == Format::Toml { format!("a = {text}") } else { text };
        let key = if format == Format::Toml { "a.".repeat(depth) } else { "a.".repeat(depth - 1) };
        // a rule is at most 64 segments long, but ** has no end
        let rule = if depth < 60 { format!("{key}a") } else { "a.**.a".to_owned() };
        let redacted = redact(format, text.as_bytes(), &paths(&[&rule])).unwrap();
        assert!(!String::from_utf8(redacted.bytes).unwrap().contains("SECRET"));
    }
}

/// So many of them.
struct Spaces(u64);

impl redact::Source for Spaces {
    fn read_from(&self, at: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(io::repeat(b' ').take(self.0 - at)))
    }
}

#[test]
fn what_is_longer_than_is_read_is_an_error() {
    for format in ALL {
        let spaces = Spaces(format.bytes_max() as u64 + 1);
        let done = redact::hide(format, &spaces, &paths(&["**.k"]));
        assert!(matches!(done, Err(Error::TooLarge { .. })), "{format}");
    }
    // what no rule names does not count, however much it is
    let text = format!("[{}{{\"k\": 1}}]", "1,".repeat(2_000_000));
    assert_eq!(run(Format::Json, &text), Ok(()));
    let text = format!("[{}1]", "{\"k\":1},".repeat(250_000));
    assert!(matches!(run(Format::Json, &text), Err(Error::TooLarge { .. })));
    let text = format!("a = [{}1]", "1,".repeat(2_000_000));
    assert!(matches!(run(Format::Toml, &text), Err(Error::TooLarge { .. })));
}

#[test]
fn what_is_no_utf8_is_an_error_that_names_the_line() {
    for format in ALL {
        for bad in [b"\n\xff".as_slice(), b"\n\xe4\n", b"\xef\xbb\xbf\n\xed\xa0\x80"] {
            let error = redact(format, bad, &[]).unwrap_err();
            assert_eq!(error, Error::Encoding { format, line: 2 });
        }
        // UTF-16, as some editors write it
        let wide: Vec<u8> = "k = 'SECRET'".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let with_mark = [b"\xff\xfe".as_slice(), &wide].concat();
        assert!(redact(format, &with_mark, &paths(&["k"])).is_err());
        assert!(redact(format, &wide, &paths(&["k"])).is_err(), "{format}");
    }
}

/// Ten aliases of ten aliases of ...: followed one by one that would take years.
#[test]
fn aliases_of_aliases_take_no_more_time_than_they_are_long() {
    let line = |n: usize| format!("a{}: &a{} [{}]\n", n + 1, n + 1, format!("*a{n}, ").repeat(10));
    let text = format!("a0: &a0 {{k: SECRET}}\n{}top: *a59\n", many(59, line));
    for rule in ["top.**.k", "**.k", "top", "**.0.**.1.**.k"] {
        let redacted = redact(Format::Yaml, text.as_bytes(), &paths(&[rule])).unwrap();
        let out = String::from_utf8(redacted.bytes).unwrap();
        assert!(!out.contains("SECRET"), "{rule}");
    }
}

#[test]
fn long_chains_of_aliases_do_not_overflow() {
    let line = |n: usize| format!("a{}: &a{} {{x: *a{n}}}\n", n + 1, n + 1);
    let text = format!("a0: &a0 {{k: SECRET}}\n{}", many(29_999, line));
    for rule in ["a29999.**.k", "a29999"] {
        let redacted = redact(Format::Yaml, text.as_bytes(), &paths(&[rule])).unwrap();
        assert!(!String::from_utf8(redacted.bytes).unwrap().contains("SECRET"), "{rule}");
    }
}

#[test]
fn wide_files_are_redacted_in_time() {
    let items = 50_000;
    let json = many(items, |n| format!("{{\"id\":{n},\"token\":\"s{n}\"}},"));
    let json = format!("[{json}]");
    let yaml = many(items, |n| format!("- id: {n}\n  token: s{n} # c\n"));
    let toml = many(items / 5, |n| format!("[[a]]\nid = {n}\ntoken = 's{n}'\n"));
    let env = many(items, |n| format!("A{n}_TOKEN=s{n}\n"));
    for (format, text) in
        [(Format::Json, json), (Format::Yaml, yaml), (Format::Toml, toml), (Format::Env, env)]
    {
        let redacted = redact(format, text.as_bytes(), &paths(&["**.*token*"])).unwrap();
        assert!(redacted.fields.len() >= items / 5);
        let back = restore(format, &redacted.bytes, Some(text.as_bytes())).unwrap();
        assert!(back.bytes == text.as_bytes(), "{format}");
    }
}

/// Every prefix, and every byte changed: no panic, and never a secret in what comes out.
#[test]
fn damaged_files_are_refused_or_redacted() {
    let files = [
        (
            Format::Json,
            "{\"a\": [{\"k\": \"SECRET\", b: 'x\\'y'}], // c\n \"k\": {\"c\": -1.5e3},}",
        ),
        (
            Format::Toml,
            "k = \"SECRET\"\n[a.\"b\"]\nk = ['SECRET', 1]\n[[c]]\nd.k = \"\"\"SECRET\"\"\"\n",
        ),
        (
            Format::Yaml,
            "k: SECRET\na: &x {k: \"SECRET\", b: [1]}\nl:\n- k: |\n    SECRET\n- *x # c\n",
        ),
        (Format::Env, "k=SECRET\nexport A='x # y' # z\nk=\"SECRET \\\" x\"\n# c\nB=1 # 2\n"),
    ];
    for (format, text) in files {
        let rules = paths(&["**.k"]);
        for end in 0..text.len() {
            let _ = redact(format, &text.as_bytes()[..end], &rules);
        }
        for at in 0..text.len() {
            for with in *b"\"'\\{}[]:,#\n\r\t -&*|>!=.\x00\x7f\xffk1" {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = with;
                if let Ok(redacted) = redact(format, &bytes, &rules) {
                    let again = redact(format, &redacted.bytes, &rules).unwrap();
                    assert_eq!(again.bytes, redacted.bytes);
                    let back = restore(format, &redacted.bytes, Some(&bytes)).unwrap();
                    assert_eq!(back.kept.len() + back.missing.len(), redacted.fields.len());
                }
            }
        }
    }
}
