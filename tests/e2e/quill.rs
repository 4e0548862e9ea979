//! A new agent is one TOML file in the configuration directory: the one that `docs/adapters.md` teaches
//! with is backed up without its secrets, and restored with them.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::desk::Desk;
use crate::state::files_with;

const GUIDE: &str = include_str!("../../docs/adapters.md");
/// In every secret of Quill's.
const CANARY: &[u8] = b"CANARY";

/// The file as it stands in the guide.
fn taught() -> &'static str {
    let start = GUIDE.find("```toml\n").unwrap() + "```toml\n".len();
    let length = GUIDE[start..].find("```").unwrap();
    &GUIDE[start..start + length]
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What Quill has, at this model.
fn quill(home: &Path, model: &str) {
    let settings = format!(
        "{{\n  // mine\n  \"model\": \"{model}\",\n  \"apiKey\": \"CANARY-key\",\n  \"mcpServers\": \
         {{\"x\": {{\"env\": {{\"T\": \"CANARY-env\"}}}}}}\n}}\n"
    );
    write(&home.join("settings.json"), &settings);
    write(&home.join("conversations/a.jsonl"), &format!("{{\"model\": \"{model}\"}}\n"));
    write(&home.join("auth.json"), "CANARY-file");
    write(&home.join("cache/c"), "CANARY of no use");
    write(&home.join("../../../.quillrc"), "color = 1\n");
    let db = Connection::open(home.join("quill.db")).unwrap();
    db.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS login(user TEXT PRIMARY KEY, token TEXT);
         CREATE TABLE IF NOT EXISTS conversation(id INTEGER PRIMARY KEY, model TEXT);
         INSERT OR REPLACE INTO login VALUES('me', 'CANARY-{model}');
         INSERT OR REPLACE INTO conversation VALUES(1, '{model}')"
    ))
    .unwrap();
}

/// User, token and model of the database.
fn rows(home: &Path) -> String {
    let db = Connection::open(home.join("quill.db")).unwrap();
    let query = "SELECT user || ' ' || token || ' ' || model FROM login, conversation";
    db.query_row(query, [], |row| row.get(0)).unwrap()
}

#[test]
fn the_file_of_the_guide_backs_up_redacts_and_restores() {
    let desk = Desk::new();
    let home: PathBuf = desk.home().join(".local/share/quill");
    let file = desk.home().join(".config/agent-backup/agents/quill.toml");
    write(&file, taught());
    let path = file.to_str().unwrap();
    desk.ok(&["agents", "check", path]);
    quill(&home, "old");
    let found = desk.json(&["agents", "quill"]);
    assert_eq!(
        (&found["agents"][0]["id"], &found["agents"][0]["found"]),
        (&"quill".into(), &true.into())
    );

    // backed up, without what stays at home
    desk.ok(&["push", "quill"]);
    assert_eq!(files_with(&desk.embedded(), CANARY), Vec::<PathBuf>::new());
    let elsewhere = desk.beside("elsewhere");
    let document = desk.json(&["pull", "--to", elsewhere.to_str().unwrap()]);
    assert_eq!(files_with(&elsewhere, CANARY), Vec::<PathBuf>::new());
    let mut blanks: Vec<&str> = document["blanks"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|blank| blank["fields"].as_array().unwrap())
        .map(|field| field.as_str().unwrap())
        .collect();
    blanks.sort_unstable();
    assert_eq!(blanks, ["apiKey", "login.token", "mcpServers.x.env.T"], "{document}");
    let names: Vec<String> = ["settings.json", "conversations/a.jsonl", "quill.db"]
        .iter()
        .map(|name| format!("quill/home/{name}"))
        .chain(["quill/settings/.quillrc".to_owned()])
        .collect();
    for name in &names {
        assert!(elsewhere.join(name).exists(), "{name}");
    }
    assert!(!elsewhere.join("quill/home/cache").exists());

    // restored over what came later, with the secrets of today
    quill(&home, "new");
    fs::remove_file(home.join("conversations/a.jsonl")).unwrap();
    let document = desk.json(&["pull", "--agent", "quill", "--yes"]);
    assert_eq!(document["blanks"].as_array().map(Vec::len), Some(0), "{document}");
    assert_eq!(rows(&home), "me CANARY-new old");
    let settings = fs::read_to_string(home.join("settings.json")).unwrap();
    assert!(settings.contains("\"model\": \"old\"") && settings.contains("// mine"), "{settings}");
    assert!(settings.contains("CANARY-key") && settings.contains("CANARY-env"), "{settings}");
    let conversation = fs::read_to_string(home.join("conversations/a.jsonl")).unwrap();
    assert_eq!(conversation, "{\"model\": \"old\"}\n");
    assert_eq!(fs::read_to_string(home.join("auth.json")).unwrap(), "CANARY-file");
    // and back
    desk.ok(&["pull", document["safety_snapshot"].as_str().unwrap(), "--yes"]);
    assert_eq!(rows(&home), "me CANARY-new new");
    assert_eq!(files_with(&desk.embedded(), CANARY), Vec::<PathBuf>::new());
}
