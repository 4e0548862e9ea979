//! JSON, JSONC, JSON5, JSON Lines.

use redact::{Format, MARKER, Path, redact};

use crate::{check, hide, refused};

fn json(rules: &[&str], text: &str, wanted: &str) {
    check(Format::Json, rules, text, wanted);
}

#[test]
fn a_named_value_goes_and_every_other_byte_stays() {
    json(
        &["mcpServers.*.env.*"],
        "{\r\n\t\"mcpServers\" : { // keep: KEY\r\n  \"a\":{\"env\":{\"KEY\" :\"SECRET\",\"B\": \"x\\\"y\"},\
         \"args\":[ \"KEY\",1 ]}, \"b\":{}\r\n} } /* end */\r\n\r\n",
        "{\r\n\t\"mcpServers\" : { // keep: KEY\r\n  \"a\":{\"env\":{\"KEY\" :@,\"B\": @},\
         \"args\":[ \"KEY\",1 ]}, \"b\":{}\r\n} } /* end */\r\n\r\n",
    );
}

#[test]
fn json5_is_read() {
    json(&["**.t"], "\u{feff}{t: 'it''s'}".replace("''", "\\'").as_str(), "\u{feff}{t: @}");
    json(
        &["**.t"],
        "// c\n{$a_1: {t: 0xDEADbeef}, 'b': [{t: +.5}, {t: -Infinity}, {\"t\": NaN,}, {t: 5.e1},],\n\
         c: {t: 'two \\\nlines'}, /* t: 1 */ d: {\u{e4}: 1, t\u{a0}: \"\\x41\\v\"},}",
        "// c\n{$a_1: {t: @}, 'b': [{t: @}, {t: @}, {\"t\": @,}, {t: @},],\n\
         c: {t: @}, /* t: 1 */ d: {\u{e4}: 1, t\u{a0}: @},}",
    );
}

#[test]
fn a_key_is_compared_as_it_reads_and_not_as_it_is_written() {
    json(&["apiKey"], r#"{"api\u004bey": "SECRET"}"#, r#"{"api\u004bey": @}"#);
    json(&["\u{e4}\u{1f600}"], r#"{"\u00e4\ud83d\ude00": 1}"#, r#"{"\u00e4\ud83d\ude00": @}"#);
    json(&[r"a\.b"], r#"{"a.b": 1, "a": {"b": 2}}"#, r#"{"a.b": @, "a": {"b": 2}}"#);
}

#[test]
fn a_key_that_stands_twice_is_hidden_twice() {
    json(
        &["a.k"],
        r#"{"a": {"k": "SECRET1", "k": null, "k": "SECRET2"}, "a": {"k": 3}}"#,
        r#"{"a": {"k": @, "k": null, "k": @}, "a": {"k": @}}"#,
    );
}

#[test]
fn whole_values_of_any_kind_become_one_marker() {
    json(
        &["a", "b", "c", "d"],
        r#"{"a":{"x":"SECRET"},"b":[1,["SECRET"]],"c":true,"d":-1.5e3,"e":1}"#,
        r#"{"a":@,"b":@,"c":@,"d":@,"e":1}"#,
    );
    json(&["**"], "  [\"SECRET\"] // c", "  @ // c");
    json(&["a", "a.b", "**.b"], r#"{"a":{"b":1},"c":{"b":2}}"#, r#"{"a":@,"c":{"b":@}}"#);
}

#[test]
fn what_hides_nothing_stays() {
    let text = r#"{"a": null, "b": "", "c": {}, "d": [], "e": [null, "", {}]}"#;
    json(&["a", "b", "c", "d", "e.*"], text, text);
    for empty in ["", " \n", "// c\n", "\u{feff}"] {
        json(&["**"], empty, empty);
    }
}

#[test]
fn stars_stand_for_what_they_are_said_to() {
    json(&["*.k"], r#"{"k":1,"a":{"k":2,"b":{"k":3}}}"#, r#"{"k":1,"a":{"k":@,"b":{"k":3}}}"#);
    json(&["**.k"], r#"{"k":1,"a":{"k":2,"b":[{"k":3}]}}"#, r#"{"k":@,"a":{"k":@,"b":[{"k":@}]}}"#);
    json(&["a.**.k"], r#"{"k":1,"a":{"k":2,"b":{"k":3}}}"#, r#"{"k":1,"a":{"k":@,"b":{"k":@}}}"#);
    json(
        &["**.a.**.k"],
        r#"{"k":1,"b":{"a":{"c":{"k":2}}}}"#,
        r#"{"k":1,"b":{"a":{"c":{"k":@}}}}"#,
    );
    json(&["a.1"], r#"{"a":[1,2,3]}"#, r#"{"a":[1,@,3]}"#);
    json(&["a.*"], r#"{"a":[1,[2],null]}"#, r#"{"a":[@,@,null]}"#);
    json(
        &["*token*", "*.x-*-key"],
        r#"{"AccessToken":1,"tok":2,"h":{"X-Api-Key":3,"x-key":4}}"#,
        r#"{"AccessToken":@,"tok":2,"h":{"X-Api-Key":@,"x-key":4}}"#,
    );
    json(&["apikey"], r#"{"apiKey":1}"#, r#"{"apiKey":1}"#);
}

#[test]
fn fields_are_told_by_their_places() {
    let rules: Vec<Path> = ["**.k", "l.*"].iter().map(|rule| rule.parse().unwrap()).collect();
    let text = br#"{"a.b": {"k": 1}, "l": [{"x": 1}, null], "*": [{"k": 2}], "k": ""}"#;
    let redacted = redact(Format::Json, text, &rules).unwrap();
    assert_eq!(redacted.fields, [r"a\.b.k", "l.0", r"\*.0.k"]);
    let lines = b"{\"k\": 1}\n\n{\"a\": {\"k\": 2}}\n";
    let redacted = redact(Format::JsonLines, lines, &rules).unwrap();
    assert_eq!(redacted.fields, ["line 1: k", "line 3: a.k"]);
}

#[test]
fn json_lines_are_documents_each() {
    check(
        Format::JsonLines,
        &["**.token"],
        "{\"id\":1,\"token\":\"SECRET\"}\r\n\n  {\"id\":2,\"a\":[{\"token\":2}]}  \n\"token\"\n3",
        "{\"id\":1,\"token\":@}\r\n\n  {\"id\":2,\"a\":[{\"token\":@}]}  \n\"token\"\n3",
    );
    refused(Format::JsonLines, &["k"], "{\"k\":\"SECRET\"}\n{\"k\":\"SECR");
    refused(Format::JsonLines, &["k"], "{\"k\":\n\"SECRET\"}\n");
}

#[test]
fn the_marker_inside_another_string_or_as_a_key_is_no_marker() {
    let text = format!("{{\"k\": \"SECRET {MARKER}\", \"{MARKER}\": 1, \"l\": 2}}");
    let out = hide(Format::Json, &text, &["k"]);
    assert!(!out.contains("SECRET"), "{out}");
    assert!(out.ends_with(&format!("\"{MARKER}\": 1, \"l\": 2}}")), "{out}");
}

#[test]
fn what_does_not_parse_is_refused() {
    for text in [
        "{\"k\": \"SECRET\"",
        "{\"k\": \"SECRET}",
        "{\"k\" \"SECRET\"}",
        "{\"k\": \"SECRET\" \"b\": 1}",
        "{\"k\": \"SECRET\"} {}",
        "{\"k\": \"SECRET\"}}",
        "{\"k\": SECRET}",
        "k: SECRET",
        "{\"k\": \"\\ud800SECRET\"}",
        "/* {\"k\": \"SECRET\"}",
        "{\"a\": 1 // \u{2028} \"k\": \"SECRET\"\n}",
    ] {
        refused(Format::Json, &["k"], text);
    }
}
