//! Every agent's home: what its list of sessions says, and what was said in one of them.

use std::sync::atomic::AtomicBool;

use engine::sessions::show;
use sessions::{Block, Message, Shown};

use super::{Case, one};

/// 2026-10-31 10:00:00 UTC.
const TEN: i64 = 1_793_440_800_000;

/// Agent, id, title, project, first, last: seconds after ten.
type Row = (&'static str, &'static str, &'static str, &'static str, i64, i64);

const ROWS: [Row; 9] = [
    ("claude-code", "0b8f2c1e", "Fix the build", "/home/a/work", -1, 9),
    ("claude-code", "7e1b3c52", "Another way", "/home/a/work", 0, 0),
    ("codex", "019a3b10", "Green tests", "/home/a/work", 0, 60),
    ("opencode", "ses_1", "Fix the build", "/home/a/work", 0, 60),
    ("goose", "20261031_1", "Fix the build", "/home/a/work", 0, 60),
    ("gemini-cli", "3f0c9a7e", "Fix the build", "/home/a/code/shop", 0, 120),
    ("cursor", "a1b2c3d4", "Fix the build", "/home/a/work", 0, 60),
    ("cursor", "4f1e", "In the terminal", "/home/a", 0, 60),
    ("cline", "abc", "Fix the build", "/home/a/work", 0, 60),
];

#[test]
fn each_agents_sessions_are_listed_with_title_project_and_times() {
    let mut last = None;
    for (agent, id, title, project, first, end) in ROWS {
        if last.as_ref().is_none_or(|(of, _): &(&str, _)| *of != agent) {
            let case = Case::of(agent);
            case.push();
            last = Some((agent, case.sessions()));
        }
        let all = &last.as_ref().unwrap().1;
        assert!(all.unread.is_empty(), "{agent}: {:?}", all.unread);
        let found = if id.len() < 4 {
            all.all.iter().find(|found| found.id == id).unwrap()
        } else {
            one(all, id)
        };
        assert_eq!(found.title.as_deref(), Some(title), "{agent} {id}");
        assert_eq!(found.project.as_deref(), Some(project), "{agent} {id}");
        assert_eq!(found.first_ms, Some(TEN + first * 1000), "{agent} {id}");
        assert_eq!(found.last_ms, Some(TEN + end * 1000), "{agent} {id}");
        assert!(found.here, "{agent} {id}");
    }
}

#[test]
fn a_task_of_the_editor_has_the_title_that_its_editor_shows() {
    let case = Case::of("cline");
    case.push();
    let all = case.sessions();
    let task = all.all.iter().find(|found| found.id == "1").unwrap();
    assert_eq!(task.title.as_deref(), Some("fix the build"));
    assert_eq!(task.project.as_deref(), Some("/home/a/work"));
    assert_eq!((task.first_ms, task.last_ms), (Some(TEN), Some(TEN + 60_000)));
    assert_eq!(task.places.len(), 2, "one session, though two files tell of it");
}

#[test]
fn forks_and_sub_agents_are_of_the_family_and_no_other_session_is() {
    let family = |agent: &str, id: &str| {
        let case = Case::of(agent);
        case.push();
        let all = case.sessions();
        let mut ids: Vec<String> = all
            .family(one(&all, id))
            .into_iter()
            .map(|found| found.id.chars().take(8).collect())
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(family("claude-code", "0b8f2c1e"), ["0b8f2c1e", "7e1b3c52"]);
    assert_eq!(family("codex", "019a3b10"), ["019a3b10", "019a3b11"]);
    assert_eq!(family("opencode", "ses_1"), ["ses_1", "ses_2"]);
    assert_eq!(family("opencode", "ses_2"), ["ses_2"], "not its parent");
}

/// Who says it, and what: text, `-> name input` or `<- result`.
fn told(message: &Message) -> Vec<(String, String)> {
    let line = |block: &Block| match block {
        Block::Text(text) => text.clone(),
        Block::Thought(text) => format!("({text})"),
        Block::Call { name, input } => format!("-> {name} {input}"),
        Block::Result(text) => format!("<- {text}"),
        Block::Other(what) => format!("[{what}]"),
    };
    message.blocks.iter().map(|block| (message.role.clone(), line(block))).collect()
}

fn transcript(agent: &str, id: &str) -> Vec<(String, String)> {
    let case = Case::of(agent);
    case.push();
    let all = case.sessions();
    let session = case.bench.open().unwrap();
    let mut lines = Vec::new();
    let mut say = |message: Message| {
        lines.extend(told(&message));
        true
    };
    let found = all.all.iter().find(|found| found.id.starts_with(id)).unwrap();
    let mut shown = Shown::Messages(&mut say);
    assert!(show(&session, found, &mut shown, &AtomicBool::new(false)).unwrap(), "{agent}");
    let mut records = 0;
    let mut count = |_| {
        records += 1;
        true
    };
    show(&session, found, &mut Shown::Records(&mut count), &AtomicBool::new(false)).unwrap();
    assert!(records > 0, "{agent}");
    lines
}

#[test]
fn each_agents_transcript_reads_as_it_was_said() {
    let check = |agent: &str, id: &str, expected: &[(&str, &str)]| {
        let lines = transcript(agent, id);
        let lines: Vec<(&str, &str)> =
            lines.iter().map(|(role, text)| (role.as_str(), text.as_str())).collect();
        assert_eq!(lines, expected, "{agent}");
    };
    let (user, assistant) = ("user", "assistant");
    let begin = [(user, "fix the build"), (assistant, "I look at it.")];
    let claude = [
        (user, "fix the build"),
        (assistant, "(cargo first)"),
        (assistant, "I look at it."),
        (assistant, r#"-> Bash {"command":"cargo check"}"#),
        (user, "<- error: no such file"),
    ];
    check("claude-code", "0b8f2c1e", &claude);
    let codex = [
        (user, "<environment_context>...</environment_context>"),
        (user, "fix the tests"),
        ("tool", r#"-> shell {"command":["ls"]}"#),
        ("tool", "<- src"),
        (assistant, "Done."),
    ];
    check("codex", "019a3b10", &codex);
    let call = |text| [&begin[..], &[(assistant, text), (assistant, "<- ok")]].concat();
    check("opencode", "ses_1", &call(r#"-> bash {"command":"make"}"#));
    check("gemini-cli", "3f0c9a7e", &call(r#"-> run_shell_command {"command":"make"}"#));
    let cursor = [
        &begin[..],
        &[
            (assistant, r#"-> run_terminal_cmd {"command":"make"}"#),
            (assistant, r#"<- {"output":"ok"}"#),
        ],
    ];
    check("cursor", "a1b2c3d4", &cursor.concat());
    let goose = [(user, "fix the build"), (assistant, r#"-> shell {"command":"make"}"#)];
    check("goose", "20261031_1", &goose);
    check("goose", "20250101", &[(user, "hello")]);
    check("cline", "abc", &[(user, "fix the build"), (assistant, "Done.")]);
    check("cline", "1", &[(user, "<task>fix the build</task>"), (assistant, "Done.")]);
}
