//! What `restore` puts where: live values at the same place, and never at another.

use redact::{Error, Format, MARKER, restore};

use crate::paths;

/// Restores with `@` for the marker in `stored` and in what comes out; kept and missing by place.
fn back(format: Format, stored: &str, live: &str) -> (String, Vec<String>, Vec<String>) {
    let marker = format!("\"{MARKER}\"");
    let stored = stored.replace('@', &marker);
    let live = live.replace('@', &marker);
    let restored = restore(format, stored.as_bytes(), Some(live.as_bytes())).unwrap();
    assert_eq!(restored.live_error, None);
    let text = String::from_utf8(restored.bytes).unwrap();
    (text.replace(&marker, "@"), restored.kept, restored.missing)
}

fn gives(format: Format, stored: &str, live: &str, wanted: &str) {
    let (text, kept, missing) = back(format, stored, live);
    assert_eq!(text, wanted, "kept {kept:?}, missing {missing:?}");
    assert_eq!(missing.len(), wanted.matches('@').count());
    assert_eq!(kept.len(), stored.matches('@').count() - missing.len());
}

#[test]
fn a_live_value_goes_to_its_place_and_the_rest_is_as_stored() {
    gives(
        Format::Json,
        "{\"a\": {\"k\": @}, // stored\n \"b\": 1, \"l\": @, \"m\": @}",
        "{ b: 2, a: { k: 'SECRET', x: 1 }, l: [1, // c\n 2] }",
        "{\"a\": {\"k\": 'SECRET'}, // stored\n \"b\": 1, \"l\": [1, // c\n 2], \"m\": @}",
    );
    gives(
        Format::Toml,
        "# stored\nk = @ # c\n[a]\nt = @\nn = @\n",
        "a.t = '''x\ny'''\na.n = {b = [1, 2]}\nk = 0x10\n",
        "# stored\nk = 0x10 # c\n[a]\nt = '''x\ny'''\nn = {b = [1, 2]}\n",
    );
    gives(
        Format::Env,
        "A=@ # c\nB = @\nC=@\n",
        "B='x\ny'\nA=z # d\n",
        "A=z # c\nB = 'x\ny'\nC=@\n",
    );
    gives(
        Format::JsonLines,
        "{\"id\":1,\"k\":@}\n{\"id\":2,\"k\":@}\n",
        "{\"id\":2,\"k\":\"two\"}\n{\"id\":3,\"k\":\"three\"}\n",
        "{\"id\":1,\"k\":@}\n{\"id\":2,\"k\":\"two\"}\n",
    );
}

#[test]
fn what_is_no_value_is_not_kept() {
    for live in [
        "{k: @}",
        "{k: {a: 1, b: [{c: 2, d: @}]}}",
        "{k: null}",
        "{k: ''}",
        "{k: {}}",
        "{k: [@]}",
        "{}",
        "{j: 1}",
        "[1]",
        "",
        "1",
    ] {
        gives(Format::Json, "{\"k\": @}", live, "{\"k\": @}");
    }
    // a table has no place of its own to copy
    gives(Format::Toml, "k = @\n", "[k]\na = 1\n", "k = @\n");
}

#[test]
fn one_account_never_gets_the_token_of_another() {
    let json = |stored, live, wanted| gives(Format::Json, stored, live, wanted);
    // by identity, wherever it stands
    json(
        r#"[{"id": "a", "t": @}, {"id": "b", "t": @}]"#,
        r#"[{"id": "b", "t": "TB"}, {"id": "c", "t": "TC"}, {"id": "a", "t": "TA"}]"#,
        r#"[{"id": "a", "t": "TA"}, {"id": "b", "t": "TB"}]"#,
    );
    json(
        r#"[{"name": "a", "t": @}]"#,
        r#"[{"name": "b", "t": "TB"}]"#,
        r#"[{"name": "a", "t": @}]"#,
    );
    // an identity that two have is none
    json(
        r#"[{"id": 1, "t": @}, {"id": 1, "t": @}]"#,
        r#"[{"id": 1, "t": "T1"}, {"id": 1, "t": "T2"}]"#,
        r#"[{"id": 1, "t": @}, {"id": 1, "t": @}]"#,
    );
    json(
        r#"[{"id": 1, "t": @}]"#,
        r#"[{"id": 1, "t": "T1"}, {"id": 1, "t": "T2"}]"#,
        r#"[{"id": 1, "t": @}]"#,
    );
    // with no identity all else must be the same
    json(
        r#"[{"mail": "a", "t": @}]"#,
        r#"[{"mail": "a", "t": "TA"}]"#,
        r#"[{"mail": "a", "t": "TA"}]"#,
    );
    json(
        r#"[{"mail": "a", "t": @}]"#,
        r#"[{"mail": "b", "t": "TB"}]"#,
        r#"[{"mail": "a", "t": @}]"#,
    );
    json(
        r#"[{"who": {"mail": "a"}, "t": @}]"#,
        r#"[{"who": {"mail": "b"}, "t": "TB"}]"#,
        r#"[{"who": {"mail": "a"}, "t": @}]"#,
    );
    json(r#"[{"t": @}]"#, r#"[{"t": "T", "mail": "b"}]"#, r#"[{"t": @}]"#);
    // an index alone is a place only in a list of the same length
    json(r#"{"l": [@, "b"]}"#, r#"{"l": ["A", "b"]}"#, r#"{"l": ["A", "b"]}"#);
    json(r#"{"l": [@]}"#, r#"{"l": ["A", "b"]}"#, r#"{"l": [@]}"#);
    // the identity itself is redacted
    json(r#"[{"id": @, "x": 1}]"#, r#"[{"id": "a", "x": 1}]"#, r#"[{"id": "a", "x": 1}]"#);
    json(r#"[{"id": @, "x": 1}]"#, r#"[{"id": "a", "x": 2}]"#, r#"[{"id": @, "x": 1}]"#);
    gives(
        Format::Toml,
        "[[a]]\nname = 'x'\nt = @\n",
        "[[a]]\nname = 'y'\nt = 'TY'\n[[a]]\nt = 'TX'\nname = \"x\"\n",
        "[[a]]\nname = 'x'\nt = 'TX'\n",
    );
    gives(Format::Yaml, "- name: x\n  t: @\n", "- name: y\n  t: TY\n", "- name: x\n  t: @\n");
}

#[test]
fn keys_that_stand_twice_come_back_only_as_often() {
    gives(Format::Env, "A=@\nA=@\n", "A=1\nA=2\n", "A=1\nA=2\n");
    gives(Format::Env, "A=@\nA=@\n", "A=1\n", "A=@\nA=@\n");
    gives(Format::Json, "{\"a\": @}", "{a: 1, a: 2}", "{\"a\": @}");
}

#[test]
fn yaml_values_come_back_under_another_indent() {
    let yaml = |stored, live, wanted| gives(Format::Yaml, stored, live, wanted);
    yaml("a: @ # c\n", "a: SECRET\n", "a: SECRET # c\n");
    yaml("a: @\n", "a: |\n  SECRET\n  x\n", "a: |\n  SECRET\n  x\n");
    yaml("a:\n    b: @\n", "a:\n  b: |\n   x\n   y\n", "a:\n    b: \"x\\ny\\n\"\n");
    yaml("a:\n  b: @\n", "a:\n      b: |\n       x\n", "a:\n  b: |\n       x\n");
    yaml("{a: @}\n", "a: |+\n  x\n\n", "{a: \"x\\n\\n\"}\n");
    yaml("{a: @}\n", "a: x, y # z\n", "{a: \"x, y\"}\n");
    yaml("{a: @, b: 1}\n", "a: 5\nb: 1\n", "{a: 5, b: 1}\n");
    yaml("a: @\n", "s: &x SECRET\na: *x\n", "a: SECRET\n");
    yaml("a: {b: @}\n", "s: &x {b: SECRET}\na: *x\n", "a: {b: SECRET}\n");
    yaml("a: @\n", "a: !!str 5\n", "a: \"5\"\n");
    yaml("a: !!str @\n", "a: !!str 5\n", "a: !!str 5\n");
    yaml("a: !!str @\n", "a: 5\n", "a: !!str @\n");
    yaml("a: @\n", "a: !x 5\n", "a: @\n");
    yaml("a: @\n", "a: \"\\e\\u2028\\\\\\\"\"\n", "a: \"\\e\\u2028\\\\\\\"\"\n");
    yaml("a: &y @\nb: *y\n", "a: SECRET\n", "a: &y SECRET\nb: *y\n");
}

#[test]
fn yaml_collections_come_back_where_they_fit() {
    let yaml = |stored, live, wanted| gives(Format::Yaml, stored, live, wanted);
    yaml(
        "a:\n  @\nb: 1\n",
        "a:\n  k: 1 # c\n  l:\n  - x # d\nb: 2\n",
        "a:\n  k: 1 # c\n  l:\n  - x\nb: 1\n",
    );
    yaml("a:\n @\nb: 1\n", "a:\n- k\n- l\n", "a:\n- k\n- l\nb: 1\n");
    yaml("a: @\nb: 1\n", "a:\n- k\n- l\n", "a: @\nb: 1\n");
    yaml("a: @\nb: 1\n", "a: [k,\n  l]\n", "a: [k,\n  l]\nb: 1\n");
    yaml("- @\n", "- a: 1\n  b: 2\n", "- a: 1\n  b: 2\n");
    yaml("-   @\n", "- a: 1\n  b: 2\n", "-   @\n");
    yaml(
        "x:\n    a:\n      @\n    b: 1\n",
        "x:\n  a:\n    k: 1\n",
        "x:\n    a:\n      @\n    b: 1\n",
    );
}

/// One that does not fit must not take the others with it.
#[test]
fn values_that_fit_come_back_though_others_do_not() {
    gives(
        Format::Yaml,
        "a: @\nb: @\nc:\n    d: @\n",
        "a: A\nb:\n- 1\nc:\n  d: |\n   D\n",
        "a: A\nb: @\nc:\n    d: \"D\\n\"\n",
    );
    gives(Format::Env, "A = @\nB=@\n", "A=#x\nB=#y\n", "A = @\nB=#y\n");
}

#[test]
fn without_a_live_file_that_can_be_read_all_is_missing() {
    let stored = format!("{{\"a\": \"{MARKER}\", \"b\": [\"{MARKER}\"]}}");
    let none = restore(Format::Json, stored.as_bytes(), None).unwrap();
    assert_eq!(none.missing, ["a", "b.0"]);
    assert_eq!((none.bytes.as_slice(), none.live_error), (stored.as_bytes(), None));
    for bad in [b"{\"a\": \"SECRET\"".as_slice(), b"\xff"] {
        let restored = restore(Format::Json, stored.as_bytes(), Some(bad)).unwrap();
        assert_eq!(restored.bytes, stored.as_bytes());
        assert_eq!(restored.missing, ["a", "b.0"]);
        assert!(restored.live_error.is_some());
    }
    let bad = restore(Format::Json, b"{", Some(b"{}")).unwrap_err();
    assert_eq!(bad, Error::Syntax { format: Format::Json, line: 1, column: 1 });
}

/// What may be stored can be restored, though a list is too long to be compared with another.
#[test]
fn a_list_that_is_too_long_to_be_compared_keeps_its_markers() {
    let items = 60_000;
    let item = format!("{{\"a\":1,\"b\":2,\"c\":3,\"t\":\"{MARKER}\"}}");
    let stored = format!("[{}]", vec![item; items].join(","));
    let alone = restore(Format::Json, stored.as_bytes(), None).unwrap();
    assert_eq!((alone.missing.len(), alone.missing[1].as_str()), (items, "1.t"));
    let live = stored.replace(MARKER, "SECRET");
    let over = restore(Format::Json, stored.as_bytes(), Some(live.as_bytes())).unwrap();
    assert!(matches!(over.live_error, Some(Error::TooLarge { .. })), "{:?}", over.live_error);
    assert!(over.bytes == stored.as_bytes() && over.missing == alone.missing);
}

#[test]
fn a_byte_order_mark_is_the_stored_one() {
    gives(Format::Json, "\u{feff}{\"a\": @}", "{\"a\": 1}", "\u{feff}{\"a\": 1}");
    gives(Format::Json, "{\"a\": @}", "\u{feff}{\"a\": 1}", "{\"a\": 1}");
    gives(Format::Env, "A=@", "\u{feff}A=1", "A=1");
}

#[test]
fn a_live_value_that_is_nowhere_in_the_new_file_is_named() {
    let lost = |format, new: &str, live: &str| {
        redact::lost(format, &new.as_bytes(), &live.as_bytes(), &paths(&["k", "s.*.t"]))
    };
    let live = r#"{"k": "A", "s": {"x.y": {"t": "B"}, "z": {"t": ""}}, "other": "C"}"#;
    for (new, named) in [
        (live, &[][..]),
        (r#"{"k": "A", "s": [{"t": "B"}]}"#, &[]),
        (r#"{"k": "A", "other": "B"}"#, &[r"s.x\.y.t"]),
        (r#"{"k": "[left out by agent-backup]"}"#, &["k", r"s.x\.y.t"]),
        ("no json", &["k", r"s.x\.y.t"]),
        ("", &["k", r"s.x\.y.t"]),
    ] {
        assert_eq!(lost(Format::Json, new, live).unwrap(), named, "{new}");
    }
    // written in another way it is the same value
    assert!(lost(Format::Yaml, "k: \"A\"\n", "k: A\n").unwrap().is_empty());
    assert!(lost(Format::Json, "{}", "{").is_err(), "nobody knows what it has");
    assert!(lost(Format::Json, "{", "{}").unwrap().is_empty());
}
