//! Rules of a user: what gitleaks reads is read, and what we cannot do is an error.

use crate::tests::scan;
use crate::{Rules, RulesError};

const RULE: &str =
    "[[rules]]\nid = \"mine\"\nregex = '''tok-([a-z]{8})'''\nkeywords = [\"tok-\"]\n";

fn ids(rules: &Rules, path: &str, text: &str) -> Vec<String> {
    scan(rules, path, text.as_bytes()).iter().map(|finding| finding.rule.to_owned()).collect()
}

#[test]
fn a_users_rules_replace_the_pinned_ones_or_add_to_them() {
    let token = ["ghp", "_0aZ9bY8cX7dW6eV5fU4gT3hS2iR1jQ0kP9lO"].concat();
    let text = format!("tok-abcdefgh {token}\n");
    let alone = Rules::from_toml(RULE).unwrap();
    assert_eq!(ids(&alone, "a", &text), ["mine"]);
    let both = Rules::from_toml(&format!("[extend]\nuseDefault = true\n{RULE}")).unwrap();
    assert_eq!(ids(&both, "a", &text), ["mine", "github-pat"]);
    let less = "[extend]\nuseDefault = true\ndisabledRules = [\"github-pat\"]\n";
    let less = Rules::from_toml(&format!("{less}{RULE}")).unwrap();
    assert_eq!(ids(&less, "a", &text), ["mine"]);
}

#[test]
fn a_rule_without_keyword_or_literal_is_asked_everywhere() {
    let rules =
        Rules::from_toml("[[rules]]\nid = \"mine\"\nregex = '''\\b[a-f]{9}[0-9]{9}\\b'''\n");
    let rules = rules.unwrap();
    let text = format!("{} abcdefabc123456789 {}", "word ".repeat(20_000), "word ".repeat(20_000));
    assert_eq!(ids(&rules, "a", &text), ["mine"]);
}

#[test]
fn allowlists_of_all_kinds_allow() {
    let cases = [
        ("regexes = ['''^abcd''']", "tok-abcdefgh", "tok-zbcdefgh"),
        ("stopwords = [\"EXAMP\"]", "tok-examples", "tok-zbcdefgh"),
        ("regexTarget = \"match\"\nregexes = ['''^tok-a''']", "tok-abcdefgh", "tok-zbcdefgh"),
        (
            "regexTarget = \"line\"\nregexes = ['''sample''']",
            "a sample tok-abcdefgh",
            "tok-abcdefgh",
        ),
        (
            "condition = \"AND\"\npaths = ['''\\.md$''']\nregexes = ['''abc''']",
            "tok-abcdefgh",
            "tok-zbxdefgh",
        ),
    ];
    for (list, allowed, found) in cases {
        for place in ["[[rules.allowlists]]", "[[allowlists]]"] {
            let rules = Rules::from_toml(&format!("{RULE}{place}\n{list}\n")).unwrap();
            assert_eq!(ids(&rules, "a.md", allowed), [""; 0], "{place} {list}");
            assert_eq!(ids(&rules, "a.md", found), ["mine"], "{place} {list}");
        }
    }
    let and = "condition = \"AND\"\npaths = ['''\\.md$''']\nregexes = ['''abc''']";
    let rules = Rules::from_toml(&format!("{RULE}[[rules.allowlists]]\n{and}\n")).unwrap();
    assert_eq!(ids(&rules, "a.txt", "tok-abcdefgh"), ["mine"]);
    let rules = format!("{RULE}[[allowlists]]\ntargetRules = [\"other\"]\nregexes = ['''abc''']\n");
    assert_eq!(ids(&Rules::from_toml(&rules).unwrap(), "a", "tok-abcdefgh"), ["mine"]);
}

#[test]
fn path_entropy_and_group_are_kept_to() {
    let rule = "[[rules]]\nid = \"mine\"\nregex = '''(tok)-([a-z]{8})'''\nkeywords = [\"tok-\"]\nsecretGroup = 2\nentropy = 2.5\npath = '''\\.env$'''\n";
    let rules = Rules::from_toml(rule).unwrap();
    assert_eq!(ids(&rules, "a.env", "tok-abcdefgh"), ["mine"]);
    assert_eq!(ids(&rules, "a.txt", "tok-abcdefgh"), [""; 0]);
    assert_eq!(ids(&rules, "a.env", "tok-aaaabbbb"), [""; 0]);
    let found = scan(&rules, "a.env", b"tok-abcdefgh");
    assert_eq!(found[0].range, 4..12);
}

#[test]
fn what_cannot_be_done_is_an_error_that_names_the_rule() {
    let unsupported = [
        "[extend]\npath = \"other.toml\"\n",
        "[[rules]]\nid = \"mine\"\n",
        "[[rules]]\nid = \"bad id]\"\nregex = '''a'''\n",
        "[[rules]]\nid = \"mine\"\nregex = '''abcd'''\n[[rules.required]]\nid = \"x\"\n",
        "[[rules]]\nid = \"mine\"\nregex = '''abcd'''\n[[rules.allowlists]]\nregexTarget = \"page\"\n",
        "[[rules]]\nid = \"mine\"\nregex = '''abcd'''\n[[rules]]\nid = \"mine\"\nregex = '''abcd'''\n",
    ];
    for text in unsupported {
        let error = Rules::from_toml(text).unwrap_err();
        assert!(matches!(error, RulesError::Unsupported { .. }), "{text}: {error}");
    }
    let error = Rules::from_toml("[[rules]]\nid = \"mine\"\nregex = '''(a'''\n").unwrap_err();
    assert!(matches!(&error, RulesError::Pattern { rule, .. } if rule == "mine"), "{error}");
    let large = "[[rules]]\nid = \"mine\"\nregex = '''(?:[ab]c?){1000}{1000}'''\n";
    let error = Rules::from_toml(large).unwrap_err();
    assert!(matches!(&error, RulesError::Compile { rule, .. } if rule == "mine"), "{error}");
    let error = Rules::from_toml("[[rules]]\nid = \"mine\"\nregex = '''a'''\nfilter = \"x\"\n");
    assert!(matches!(error.unwrap_err(), RulesError::Syntax(_)));
}
