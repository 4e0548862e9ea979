//! Help texts are part of the interface: each stands in `tests/help` and changes only on purpose
//! (`UPDATE_HELP=1 cargo test -p agent-backup` writes them again).

use std::path::Path;

use clap::{Command as ClapCommand, CommandFactory as _, Parser as _};

use super::*;

#[test]
fn the_arguments_make_sense_to_clap() {
    Args::command().debug_assert();
}

#[test]
fn every_help_text_is_as_recorded() {
    let mut program = Args::command().term_width(100).version("VERSION");
    program.build();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let mut expected = Vec::new();
    check(&mut program, &dir, &mut expected);
    let mut there: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    expected.sort();
    assert_eq!(there, expected, "a help text without a command, or the other way round");
}

fn check(command: &mut ClapCommand, dir: &Path, expected: &mut Vec<String>) {
    #[allow(clippy::disallowed_methods, reason = "a switch of this test")]
    let update = std::env::var_os("UPDATE_HELP").is_some();
    let name = command.get_display_name().unwrap_or("agent-backup").to_owned();
    let file = format!("{name}.txt");
    let text = command.render_long_help().to_string();
    let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
    let path = dir.join(&file);
    if update {
        std::fs::write(&path, &text).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(recorded == text, "{file} differs; UPDATE_HELP=1 writes it again. Now:\n{text}");
    expected.push(file);
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        check(sub, dir, expected);
    }
}

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(line.split_whitespace())
}

#[test]
fn every_command_shows_an_example() {
    for command in Args::command().get_subcommands() {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let example = format!("agent-backup {}", command.get_name());
        assert!(after.contains("Examples:") || after.contains("Example:"), "{example}");
        assert!(after.contains(&example), "{example}");
    }
}

#[test]
fn words_that_people_know_from_other_tools_work() {
    assert!(matches!(parse("agent-backup backup").unwrap().command, Command::Push(_)));
    assert!(matches!(parse("agent-backup restore").unwrap().command, Command::Pull(_)));
    let args = parse("agent-backup -r /srv push -n --tag a --tag b codex --json -vv").unwrap();
    assert_eq!(args.global.repo.as_deref(), Some("/srv"));
    assert_eq!((args.global.json, args.global.verbose), (true, 2));
    let Command::Push(push) = args.command else { panic!("push") };
    assert_eq!((push.tags, push.agents), (vec!["a".into(), "b".into()], vec!["codex".into()]));
    assert!(push.dry_run);
    assert!(matches!(parse("agent-backup prune").unwrap().command, Command::Gc(_)));
    let line = "agent-backup forget --keep-last unlimited --keep-daily 7 --group-by host,tags";
    let Command::Forget(forget) = parse(line).unwrap().command else { panic!("forget") };
    assert_eq!((forget.keep.last, forget.keep.daily), (Some(usize::MAX), Some(7)));
    let by = forget.group_by;
    assert_eq!((by.machine, by.roots, by.tags), (true, false, true));
    let args = parse("agent-backup pull -n --overwrite if-newer").unwrap();
    let Command::Pull(pull) = args.command else { panic!("pull") };
    assert_eq!((pull.snapshot.as_str(), pull.overwrite), ("latest", Overwrite::IfNewer));
}

#[test]
fn what_could_destroy_something_by_accident_is_wrong_usage() {
    for line in [
        "agent-backup pull --delete",
        "agent-backup push -q -v",
        "agent-backup --password-file a --password-command b push",
        "agent-backup push --limit-upload 0",
        "agent-backup push --exclude-larger-than lots",
        "agent-backup cat",
        "agent-backup find",
        "agent-backup pul",
        "agent-backup forget 3f2a --keep-last 1",
        "agent-backup forget --keep-daily -3",
        "agent-backup gc --max-repack-bytes some",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn no_flag_takes_a_secret_as_its_value() {
    fn flags(command: &ClapCommand, all: &mut Vec<String>) {
        all.extend(command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned));
        command.get_subcommands().for_each(|sub| flags(sub, all));
    }
    let mut all = Vec::new();
    flags(&Args::command(), &mut all);
    for flag in all.iter().filter(|flag| flag.contains("pass") || flag.contains("key")) {
        let harmless = flag.ends_with("-file") || flag.ends_with("-command");
        assert!(harmless || flag == "no-passphrase", "--{flag}");
    }
}
