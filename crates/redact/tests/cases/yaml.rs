//! YAML.

use redact::{Error, Format, redact};

use crate::{check, paths, refused};

fn yaml(rules: &[&str], text: &str, wanted: &str) {
    check(Format::Yaml, rules, text, wanted);
}

#[test]
fn a_named_value_goes_and_every_other_byte_stays() {
    yaml(
        &["env.*", "**.key"],
        "\u{feff}# top\r\nenv:   # e\r\n  A: SECRET # c\r\n  'B' : \"SEC\\\"RET\"\r\n  C: 'it''s'   \r\nlist:\r\n- key: two\r\n    words # d\r\n  other: 1\r\n\
         -   key  :    5\r\nflow: {a: [1, {key: SECRET}], key: \"x\" } # f\r\n",
        "\u{feff}# top\r\nenv:   # e\r\n  A: @ # c\r\n  'B' : @\r\n  C: @   \r\nlist:\r\n- key: @ # d\r\n  other: 1\r\n\
         -   key  :    @\r\nflow: {a: [1, {key: @}], key: @ } # f\r\n",
    );
}

#[test]
fn block_scalars_go_whole_and_the_comments_behind_them_stay() {
    yaml(
        &["*"],
        "a: |\n  SECRET\n    more\n\n# c\nb: >-  # h\n  SECRET\n\n  more\n  # text\nc: |2+\n   SECRET\n\n\nd: |\n e\n",
        "a: @\n\n# c\nb: @\nc: @\n\n\nd: @\n",
    );
    yaml(
        &["a.*"],
        "a:\n  - |\n    SECRET\n  - >+\n\n    x\n\n  # c\n  - y",
        "a:\n  - @\n  - @\n\n  # c\n  - @",
    );
    yaml(&["a"], "a: |\n  \u{e4}\u{1f600} SECRET\nb: 1\n", "a: @\nb: 1\n");
}

#[test]
fn a_block_collection_becomes_one_marker() {
    yaml(
        &["a", "c"],
        "a:\n  # c\n  b: SECRET # x\n  l:\n  - 1\n  # d\n# e\nc:   # f\n- SECRET\n-\nd: 1\n",
        "a:\n  # c\n  @\n  # d\n# e\nc:   # f\n @\nd: 1\n",
    );
    yaml(&["l.*"], "l:\n- a: SECRET\n  b: 1\n# c\n- - x\n  - SECRET\n", "l:\n- @\n# c\n- @\n");
    yaml(&["a.b"], "a:\n   b:\n   - SECRET\n   c: 1\n", "a:\n   b:\n    @\n   c: 1\n");
    yaml(&["**"], "# c\na: SECRET\nb: 1\n# d\n", "# c\n@\n# d\n");
    yaml(&["a"], "a: &x\n  b: SECRET\nc: *x\n", "a: &x\n  @\nc: *x\n");
    yaml(&["a"], "? a\n: b: SECRET\n  c: 1\n", "? a\n: @\n");
}

#[test]
fn what_hides_nothing_stays() {
    let text = "a:\nb: ~\nc: ''\nd: null\ne: {}\nf: []\ng: \"\"\nh: !!null x\ni: &x\nj: *x\n";
    yaml(&["a", "b", "c", "d", "e", "f", "g", "i", "j"], text, text);
    for empty in ["", "# c\n", "---\n", "---\n...\n"] {
        yaml(&["**"], empty, empty);
    }
}

#[test]
fn flow_collections_and_pairs_in_them() {
    yaml(&["a"], "a: { b: SECRET,\n  c: [1] } # c\nd: 1\n", "a: @ # c\nd: 1\n");
    yaml(
        &["*.k"],
        "[k: SECRET, {k: 2}, ? k : SECRET, \"k\":3, k]",
        "[k: @, {k: @}, ? k : @, \"k\":@, k]",
    );
    yaml(&["0"], "[k: SECRET, 2]", "[@, 2]");
    yaml(&["k"], "{\"k\":SECRET,l: 1}", "{\"k\":@,l: 1}");
    yaml(&["**.k"], "{\"a\": {\"k\": \"SECRET\"}}", "{\"a\": {\"k\": @}}");
}

#[test]
fn an_alias_leads_to_what_it_stands_for() {
    yaml(&["t"], "s: &a SECRET\nt: *a\n", "s: &a @\nt: *a\n");
    yaml(&["t.k"], "s: &a\n  k: SECRET\n  l: 1\nt: *a\n", "s: &a\n  k: @\n  l: 1\nt: *a\n");
    yaml(&["t"], "s: &a SECRET\nt: {x: *a}\n", "s: &a @\nt: @\n");
    yaml(&["t"], "r: &b SECRET\ns: &a [*b]\nt: {x: *a}\n", "r: &b @\ns: &a @\nt: @\n");
    yaml(&["t.*.k"], "s: &a {k: SECRET}\nt: [*a, *a]\n", "s: &a {k: @}\nt: [*a, *a]\n");
    yaml(&["x", "w"], "x: {y: &q {k: SECRET}}\nw: {z: *q}\n", "x: @\nw: @\n");
    yaml(&["t"], "t: &a SECRET\nu: *a\n", "t: &a @\nu: *a\n");
    // the name is used again: each alias is the last one before it
    yaml(&["t"], "r: &a SECRET\nt: *a\ns: &a keep\nu: *a\n", "r: &a @\nt: *a\ns: &a keep\nu: *a\n");
    let fields = redact(Format::Yaml, b"s: &a SECRET\nt: *a\n", &paths(&["t"])).unwrap().fields;
    assert_eq!(fields, ["s"]);
}

#[test]
fn a_merge_key_leads_to_what_is_merged() {
    yaml(
        &["srv.*.token"],
        "base: &b\n  token: SECRET\n  url: x\nsrv:\n  a:\n    <<: *b\n    url: y\n",
        "base: &b\n  token: @\n  url: x\nsrv:\n  a:\n    <<: *b\n    url: y\n",
    );
    yaml(
        &["srv.token"],
        "a: &a {token: SECRET1}\nb: &b {<<: *a, token: SECRET2}\nsrv: {<<: [*b, {token: SECRET3}], x: 1}\n",
        "a: &a {token: @}\nb: &b {<<: *a, token: @}\nsrv: {<<: [*b, {token: @}], x: 1}\n",
    );
    yaml(&["srv"], "a: &a {token: SECRET}\nsrv: {<<: *a}\n", "a: &a @\nsrv: @\n");
    // a key of two characters in quotes merges nothing
    yaml(&["s.k"], "s: {\"<<\": {k: 1}}\n", "s: {\"<<\": {k: 1}}\n");
}

#[test]
fn what_would_not_load_any_more_is_refused() {
    for (rule, text) in [
        ("a", "a: {b: &x SECRET}\nc: *x\n"),
        ("a", "a: &x {k: SECRET}\nb: {<<: *x}\n"),
        ("a", "a: &x {k: SECRET}\nb: {<<: [{}, *x]}\n"),
        ("b.<<", "a: &x {k: SECRET}\nb: {<<: *x}\n"),
        ("a", "a: !!int 5\n"),
        ("a", "a: !!binary U0VDUkVU\n"),
        ("a", "a: !vault |\n  SECRET\n"),
        ("a", "a: !!map {b: SECRET}\n"),
        ("a", "{[a]: SECRET}\n"),
        ("a", "? {b: c}\n: SECRET\n"),
        ("a", "b: &x a\n*x : SECRET\n"),
        ("a", "&x b: 1\na: *x\n"),
    ] {
        let error = refused(Format::Yaml, &[rule], text);
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
    // a tag that says text fits the marker, and elsewhere any tag stays
    yaml(
        &["a", "b"],
        "a: !!str SECRET\nb: ! SECRET\nc: !!int 5\n",
        "a: !!str @\nb: ! @\nc: !!int 5\n",
    );
    yaml(&["a", "b"], "a: &x !!str SECRET\nb: !!str &y 'S'\n", "a: &x !!str @\nb: !!str &y @\n");
}

#[test]
fn rings_of_aliases_end() {
    yaml(&["**.k"], "a: &a [{k: SECRET}, *a]\n", "a: &a [{k: @}, *a]\n");
    yaml(&["a.**.k"], "a: &a {b: *a, k: SECRET}\n", "a: &a {b: *a, k: @}\n");
    yaml(&["a"], "a: &a {b: *a, k: SECRET}\n", "a: &a @\n");
    yaml(&["a.b.b.k"], "a: &a {b: *a, k: SECRET}\n", "a: &a {b: *a, k: @}\n");
    yaml(&["a.k"], "a: &a {<<: *a, k: SECRET}\n", "a: &a {<<: *a, k: @}\n");
}

#[test]
fn each_document_is_looked_at() {
    yaml(
        &["k"],
        "%YAML 1.2\n---\nk: SECRET\n--- # two\nid: 1\nk: 'SECRET'\n...\n---\n- k\n",
        "%YAML 1.2\n---\nk: @\n--- # two\nid: 1\nk: @\n...\n---\n- k\n",
    );
    let text = b"k: 1\n---\na: {k: 2}\n";
    let fields = redact(Format::Yaml, text, &paths(&["**.k"])).unwrap().fields;
    assert_eq!(fields, ["document 1: k", "document 2: a.k"]);
}

#[test]
fn keys_are_compared_as_they_read() {
    yaml(&["key"], "\"k\\u0065y\": SECRET\n", "\"k\\u0065y\": @\n");
    yaml(&["1", "true", "~"], "1: a\ntrue: b\n~: c\n", "1: @\ntrue: @\n~: @\n");
    yaml(&["k"], "k: 1\nk: 2\n", "k: @\nk: @\n");
    yaml(&[r"a\.b"], "a.b: 1\na: {b: 2}\n", "a.b: @\na: {b: 2}\n");
}

#[test]
fn what_does_not_parse_is_refused() {
    for text in [
        "k: 'SECRET",
        "k: \"SECRET",
        "k: {a: SECRET",
        "k: SECRET\n  l: 1\n",
        "k: *SECRET\n",
        "k: SECRET: x\n",
        "k:\n\t- SECRET\n",
        "k: @SECRET\n",
        "k: \"\\qSECRET\"\n",
        "a: b\n- k: SECRET\n",
    ] {
        refused(Format::Yaml, &["k"], text);
    }
}
