//! `quill-backup`: backs up an agent called Quill, and nothing else.

const ADAPTER: &str = r#"
version = 1
id = "quill"
name = "Quill"
[[roots]]
label = "home"
env = "QUILL_HOME"
all = "~/.quill"
exclude = ["cache"]
secret_exclude = ["auth.json"]
sqlite = ["*.db"]
"#;

fn main() -> std::process::ExitCode {
    let tool = agent_backup::Tool::new("quill-backup", env!("CARGO_PKG_VERSION"), ADAPTER);
    agent_backup::run_cli(&tool.with_config("push.exclude_larger_than = '1GiB'"))
}
