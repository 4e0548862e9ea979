//! TOML.

use redact::{Format, redact};

use crate::{check, paths, refused};

fn toml(rules: &[&str], text: &str, wanted: &str) {
    check(Format::Toml, rules, text, wanted);
}

#[test]
fn a_named_value_goes_and_every_other_byte_stays() {
    toml(
        &["mcp_servers.*.env.*", "key"],
        "\u{feff}# top\r\nkey='SECRET' # c\r\nother = 1\r\n\r\n[ mcp_servers . \"a.b\" ]\r\ncommand = \"x\"\r\n  [mcp_servers.\"a.b\".env] # d\r\n\
         \tA   =   \"SEC\\\"RET\"\r\nB=1979-05-27T07:32:00Z # e\r\n",
        "\u{feff}# top\r\nkey=@ # c\r\nother = 1\r\n\r\n[ mcp_servers . \"a.b\" ]\r\ncommand = \"x\"\r\n  [mcp_servers.\"a.b\".env] # d\r\n\
         \tA   =   @\r\nB=@ # e\r\n",
    );
}

#[test]
fn strings_over_lines_and_all_other_values_go_whole() {
    toml(
        &["*"],
        "a = \"\"\"\nSECRET # no comment\n\\\"\"\" \n\"\"\" # c\nb = '''SECRET''''\nc = 0xFF\nd = [ # x\n 1,\n 'SECRET', # y\n]\n\
         e = {a = 1, b.c = 'SECRET'}\nf = true\ng = -inf\nh = \"\"\ni = []\nj = {}\n",
        "a = @ # c\nb = @\nc = @\nd = @\ne = @\nf = @\ng = @\nh = \"\"\ni = []\nj = {}\n",
    );
}

#[test]
fn dotted_keys_lead_where_headers_do() {
    toml(
        &["a.b.k"],
        "a.b.k = 1\na.b.c = 2\n\"a\" . k = 3\n",
        "a.b.k = @\na.b.c = 2\n\"a\" . k = 3\n",
    );
    toml(&["a.b.k"], "a = { b.k = 1, b.c = 2, k = 3 }", "a = { b.k = @, b.c = 2, k = 3 }");
    toml(&["a.b.k"], "[a.b]\nk = 1\n[a.c]\nk = 2\n", "[a.b]\nk = @\n[a.c]\nk = 2\n");
    toml(&["a.b.k"], "[a]\nb.k = 1\n[a.c]\nk = 2\n", "[a]\nb.k = @\n[a.c]\nk = 2\n");
    toml(&["a.*.k"], "[[a]]\nk = 1\n[[a]]\nk = 2\nl = 3\n", "[[a]]\nk = @\n[[a]]\nk = @\nl = 3\n");
    toml(
        &["**.k"],
        "k = 1\n[a]\nb = [{k = 2}, {c = {k = 3}}]\n[[d]]\n[d.e]\nk = 4\n",
        "k = @\n[a]\nb = [{k = @}, {c = {k = @}}]\n[[d]]\n[d.e]\nk = @\n",
    );
}

#[test]
fn a_table_without_a_place_of_its_own_loses_each_value() {
    toml(
        &["env"],
        "x = 1\nenv.a = 'SECRET'\nenv.b.c = [1, 'SECRET']\nenv.d = ''\nenv.e = {f = 1}\n",
        "x = 1\nenv.a = @\nenv.b.c = @\nenv.d = ''\nenv.e = @\n",
    );
    toml(
        &["env"],
        "[env]\na = 'SECRET'\n[env.b]\nc = 'SECRET'\n[[env.d]]\ne = 'SECRET'\n[other]\na = 1\n",
        "[env]\na = @\n[env.b]\nc = @\n[[env.d]]\ne = @\n[other]\na = 1\n",
    );
    toml(&["**"], "a = 'SECRET'\n[b]\nc = 2\n", "a = @\n[b]\nc = @\n");
    let text = b"[env]\na = 'SECRET'\n[env.b]\nc = 'SECRET'\n";
    let fields = redact(Format::Toml, text, &paths(&["env"])).unwrap().fields;
    assert_eq!(fields, ["env.a", "env.b.c"]);
}

#[test]
fn a_key_is_compared_as_it_reads_and_not_as_it_is_written() {
    toml(&["key"], "\"k\\u0065y\" = 'SECRET'\n", "\"k\\u0065y\" = @\n");
    toml(&[r"a\.b"], "'a.b' = 1\na.b = 2\n", "'a.b' = @\na.b = 2\n");
}

#[test]
fn what_does_not_parse_is_refused() {
    for text in [
        "k = 'SECRET",
        "k = SECRET",
        "k = 'SECRET'\nk = 1",
        "[a]\nk = 'SECRET'\n[a]\n",
        "k = \"\"\"SECRET",
        "{\"k\": \"SECRET\"}",
        "k = 'SECRET' l = 1",
        "k = 1\rl = 'SECRET'",
    ] {
        refused(Format::Toml, &["k"], text);
    }
}
