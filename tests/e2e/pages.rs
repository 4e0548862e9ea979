//! Manual pages and completions: made from the texts of the program, so they must know every command and
//! every flag of it, and be what `man` and the shells take.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use crate::desk::Desk;

/// Every command that `--help` lists.
pub(crate) fn commands(desk: &Desk) -> Vec<String> {
    let help = desk.ok(&["--help"]);
    let lines = help.text().lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<String> = lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    assert!(commands.len() >= 20, "{commands:?}");
    commands
}

/// Every long flag that a help text describes: lines that begin with flags.
fn flags(help: &str) -> BTreeSet<String> {
    let described = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = described.flat_map(|line| line.split([' ', ',']));
    // `-v, --verbose...` may be given again and again
    let words = words.map(|word| word.trim_end_matches("..."));
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

/// Runs a program over `input`; none if it is not here.
fn through(program: &str, args: &[&str], input: &str) -> Option<(bool, String)> {
    use std::io::Write as _;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&told).into_owned()))
}

#[test]
fn every_command_has_a_manual_page_with_all_its_flags() {
    let desk = Desk::new();
    let top = desk.ok(&["man"]);
    for name in commands(&desk) {
        assert!(top.text().contains(&name), "the program's page lacks {name}");
        let page = desk.ok(&["man", &name]);
        let page = page.text();
        for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
            assert!(page.lines().any(|line| line.starts_with(part)), "man {name} lacks {part}");
        }
        let plain = page.replace("\\-", "-");
        for flag in flags(desk.ok(&[&name, "--help"]).text()) {
            assert!(plain.contains(&flag), "man {name} lacks {flag}");
        }
        // the formatter of man itself, where there is one, has nothing to complain about
        if let Some((ok, told)) = through("groff", &["-man", "-Tutf8", "-ww", "-z"], page) {
            assert!(ok && told.trim().is_empty(), "man {name}: {told}");
        }
    }
    desk.fails(2, "usage", &["man", "nothing"], &["there is no command 'nothing'"]);
}

#[test]
fn completions_know_every_command_and_are_what_each_shell_takes() {
    let desk = Desk::new();
    let commands = commands(&desk);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = desk.ok(&["completions", shell]);
        let script = script.text();
        for name in &commands {
            assert!(script.contains(name.as_str()), "{shell}: {name}");
        }
        for flag in ["keep-daily", "no-safety-snapshot", "password-file"] {
            assert!(script.contains(flag), "{shell}: --{flag}");
        }
        if !["elvish", "powershell"].contains(&shell)
            && let Some((ok, told)) = through(shell, &["-n"], script)
        {
            assert!(ok && told.is_empty(), "{shell}: {told}");
        }
    }
    desk.ends(2, &["completions", "cmd.exe"]);
}

#[test]
fn bash_completes_commands_and_flags() {
    let desk = Desk::new();
    let script = desk.beside("completion.bash");
    fs::write(&script, &desk.ok(&["completions", "bash"]).out).unwrap();
    let complete = |words: &[&str]| -> Option<BTreeSet<String>> {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let code = format!(
            "source '{}'; COMP_WORDS=({}); COMP_CWORD={}; \
             \"$(complete -p agent-backup | sed 's/.*-F \\([^ ]*\\).*/\\1/')\" agent-backup '{last}' '{before}'; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            quoted.join(" "),
            words.len() - 1,
        );
        let (ok, told) = through("bash", &["--norc", "-c", &code], "")?;
        assert!(ok, "{told}");
        Some(told.lines().map(str::to_owned).collect())
    };
    let Some(found) = complete(&["agent-backup", "pu"]) else { return };
    assert_eq!(found, BTreeSet::from(["pull".to_owned(), "push".to_owned()]));
    let found = complete(&["agent-backup", "pull", "--no-s"]).unwrap();
    assert_eq!(found, BTreeSet::from(["--no-safety-snapshot".to_owned()]));
}
