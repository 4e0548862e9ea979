//! `.env` files.

use redact::{Format, redact};

use crate::{check, paths, refused};

fn env(rules: &[&str], text: &str, wanted: &str) {
    check(Format::Env, rules, text, wanted);
}

#[test]
fn a_named_value_goes_and_every_other_byte_stays() {
    env(
        &["A", "*_KEY"],
        "\u{feff}# A=comment\r\nA=SECRET\r\n\r\n  export\tB_KEY = SECRET WORDS \t# why\r\nC=keep # A=1\r\n\
         D_KEY='SEC RET'   # x\r\nE_key=\"S\\\"E # CRET\"\r\nexport A\r\nA=",
        "\u{feff}# A=comment\r\nA=@\r\n\r\n  export\tB_KEY = @ \t# why\r\nC=keep # A=1\r\n\
         D_KEY=@   # x\r\nE_key=@\r\nexport A\r\nA=",
    );
}

#[test]
fn quoted_values_go_over_lines() {
    env(
        &["*"],
        "A='-----BEGIN\nB=SECRET\n\n-----END' # c\nC=\"x\\\\\"\nD=`it's\n\"SECRET\"`\nE=\"a\\\"\nb\"\n",
        "A=@ # c\nC=@\nD=@\nE=@\n",
    );
}

#[test]
fn a_hash_begins_a_comment_only_behind_a_space() {
    env(
        &["*"],
        "A=SEC#RET\nB=#SECRET\nC=a #b#c\nD= # c\nE=\t#c\n",
        "A=@\nB=@\nC=@ #b#c\nD= # c\nE=\t#c\n",
    );
    // with quotes in it nobody knows: all of it goes
    env(&["*"], "A={\"a\": \"SECRET #1\"}\nB=a\"b #SECRET\"\n", "A=@\nB=@\n");
}

#[test]
fn what_hides_nothing_stays() {
    let text = "A=\nB=''\nC=\"\"\nD=  \t\nexport E\nexport F # x\n\n   \n#G=1";
    env(&["*"], text, text);
    env(&["*"], "", "");
}

#[test]
fn keys_may_stand_twice_and_have_dots() {
    env(&["A", r"b\.c-d"], "A=1\nA='2'\nb.c-d=3\nexport=4\n", "A=@\nA=@\nb.c-d=@\nexport=4\n");
    env(&["**"], "A=1\nexport=2\n", "A=@\nexport=@\n");
    let fields = redact(Format::Env, b"A=1\na.b=2\n", &paths(&["*"])).unwrap().fields;
    assert_eq!(fields, ["A", r"a\.b"]);
}

#[test]
fn what_programs_read_differently_is_refused() {
    for text in [
        "K='SECRET",
        "K=\"SECRET\\\"\n",
        "K='a'SECRET\n",
        "K=\"a\"#SECRET\n",
        "K='a\\' # SECRET'\n",
        "K=a\"b\nSECRET=x\"\n",
        "K=it's SECRET\n",
        "K=a\\\nSECRET=b\n",
        "K=a\\ # SECRET\n",
        "# c\rK=SECRET\n",
        "K=a\rL=SECRET\n",
        "K='a\rSECRET'\n",
        "K=-----BEGIN KEY-----\nSECRET\n-----END KEY-----\n",
        "K: SECRET\n",
        "SECRET\n",
        "export K SECRET\n",
        "export K#SECRET\n",
        "=SECRET\n",
        "K SECRET=1\n",
    ] {
        refused(Format::Env, &["K"], text);
    }
}
