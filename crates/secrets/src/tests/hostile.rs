//! No text makes a scan cost more than a bounded number of passes over it.

use crate::Rules;
use crate::tests::scan_pieces;

const BYTES: usize = 1 << 20;

#[test]
fn work_is_linear_whatever_the_text() {
    let key = ["-----BEGIN PRIV", "ATE KEY-----\n"].concat();
    let texts = [
        "AKIA",
        "AKIA ",
        "twitter",
        "twitter ",
        "twitter=",
        "curl ",
        "curl -u a:bcd ",
        "curl\n",
        "curl \n-H ",
        "-----BEGIN ",
        key.as_str(),
        "-----begin private key ",
        "sourcegraph ",
        "sgp_",
        "ey",
        "eyJhbGciOiJIUzI1NiJ9.",
        "\\",
        "\\\\n",
        "\\u00",
        "kind: secret\n",
        "data: ",
        "data: \n a: ",
        "[REDACTED:",
        "s.a",
        "s.abcdefghijklmnopqrstuvwx ",
        "xoxb-1",
        "xoxb-1234567890-1234567890-",
        "facebook ",
        "0",
        "a",
        "A",
        "0123456789abcdef",
        "fm2_",
        "api-",
        "sk-",
        "yandex=t1.",
        "yandex ",
        "hooks.slack.com/",
        "\n",
        " ",
        "\"",
        "aB3+",
        "EAAM",
        "ops_eyJ",
        "1|",
        "discord: ",
    ];
    let rules = Rules::pinned();
    let mut wrong = Vec::new();
    for text in texts {
        let hostile = text.repeat(BYTES / text.len());
        let (_, work) = scan_pieces(rules, "a.yaml", &[hostile.as_bytes()]);
        let bytes = hostile.len() as u64;
        // 4.2 bytes for each at most, by five rules that share a keyword
        let bound = work.searched_bytes <= 8 * bytes && work.searches <= bytes / 8;
        if !bound || work.bytes > bytes {
            wrong.push(format!("{text:?}: {work:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
