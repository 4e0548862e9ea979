//! Secrets outside the store: the machine key file and the code on paper.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use repo::keys::{MachineKey, RecoveryCode};
use repo::{Error, RepoId};

const REPO: RepoId = RepoId([7; 16]);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn rewrite(path: &Path, change: impl Fn(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, change(text)).unwrap();
}

#[test]
fn a_machine_key_comes_back_from_its_private_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state/keys/7.key");
    let key = MachineKey::random(REPO);
    key.write(&path).unwrap();
    assert_eq!(MachineKey::read(&path, &REPO).unwrap(), key);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&home.path().join("state")), 0o700);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert!(fs::read_to_string(&path).unwrap().starts_with("# agent-backup machine key."));
    // a second one replaces it and leaves nothing beside it
    let newer = MachineKey::random(REPO);
    newer.write(&path).unwrap();
    assert_eq!(MachineKey::read(&path, &REPO).unwrap(), newer);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_failed_write_leaves_no_secret_behind() {
    let home = tempfile::tempdir().unwrap();
    // a directory in the place of the file: the rename fails
    let path = home.path().join("taken");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("x"), "").unwrap();
    let error = MachineKey::random(REPO).write(&path).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_command_that_helps() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("7.key");
    MachineKey::random(REPO).write(&path).unwrap();
    for open in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        let error = MachineKey::read(&path, &REPO).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{open:o}: {error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    MachineKey::read(&path, &REPO).unwrap();
}

#[test]
fn a_key_of_another_repository_is_named_as_such() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("7.key");
    MachineKey::random(REPO).write(&path).unwrap();
    let error = MachineKey::read(&path, &RepoId([8; 16])).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }));
    let shown = error.to_string();
    assert!(shown.contains(&REPO.hex()) && shown.contains(&RepoId([8; 16]).hex()), "{shown}");
}

#[test]
fn a_key_file_that_is_not_there_or_not_a_file_says_so() {
    let home = tempfile::tempdir().unwrap();
    let error = MachineKey::read(&home.path().join("none"), &REPO).unwrap_err();
    let missing = matches!(
        error,
        Error::Io { ref source, .. } if source.kind() == std::io::ErrorKind::NotFound
    );
    assert!(missing, "{error}");
    assert!(matches!(MachineKey::read(home.path(), &REPO), Err(Error::Refused { .. })));
}

#[test]
fn a_damaged_key_file_is_damage_and_its_secret_stays_out_of_the_message() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("7.key");
    let key = MachineKey::random(REPO);
    key.write(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let secret = text.lines().last().unwrap().strip_prefix("secret ").unwrap().to_owned();
    let changes: [fn(String) -> String; 8] = [
        |_| String::new(),
        |t| t.replace("version 1", "version x"),
        |t| t.replace("slot ", "slot 0"),
        |t| t.replace("secret ", "secret"),
        |t| t[..t.len() - 2].to_owned(),
        |t| t.clone() + &t,
        |t| t + "more\n",
        |t| t + &"#".repeat(5_000),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        fs::write(&path, &text).unwrap();
        rewrite(&path, change);
        let error = MachineKey::read(&path, &REPO).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "change {at}: {error}");
        assert!(!error.to_string().contains(&secret[..16]), "change {at}: {error}");
    }
    fs::write(&path, text.replace("version 1", "version 2")).unwrap();
    assert!(matches!(MachineKey::read(&path, &REPO), Err(Error::TooNew { .. })));
    // comments and blank lines are for people
    fs::write(&path, format!("\n{}\n# mine\n", text.replace('\n', "\r\n"))).unwrap();
    assert_eq!(MachineKey::read(&path, &REPO).unwrap(), key);
}

#[test]
fn a_recovery_code_survives_handwriting() {
    for _ in 0..200 {
        let code = RecoveryCode::random();
        let shown = code.reveal();
        assert_eq!(shown.len(), 9 * 4 + 8);
        assert!(shown.chars().all(|c| c == '-' || c.is_ascii_digit() || !"ILOU".contains(c)));
        assert_eq!(RecoveryCode::parse(&shown).unwrap(), code);
        let sloppy = shown.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(RecoveryCode::parse(&format!(" {sloppy}\n")).unwrap(), code);
        let sloppy = shown.replace('-', "").replace('0', "O").replace('1', "I");
        assert_eq!(RecoveryCode::parse(&sloppy).unwrap(), code);
    }
}

#[test]
fn a_typo_in_a_recovery_code_is_found_before_any_slot_is_tried() {
    // fixed, because a check of 20 bits misses one typo in a million; the golden vector's code
    let shown = "144G-J289-144G-J289-144G-J289-144G-J289-0Z13";
    RecoveryCode::parse(shown).unwrap();
    let good: Vec<char> = shown.chars().collect();
    for at in (0..good.len()).filter(|at| good[*at] != '-') {
        let mut typo = good.clone();
        typo[at] = if typo[at] == '7' { '8' } else { '7' };
        let error = RecoveryCode::parse(&typo.iter().collect::<String>()).unwrap_err();
        assert!(error.to_string().contains("typo"), "character {at}: {error}");
        if at > 0 && good[at - 1] != '-' && good[at - 1] != good[at] {
            let mut swapped = good.clone();
            swapped.swap(at, at - 1);
            assert!(RecoveryCode::parse(&swapped.iter().collect::<String>()).is_err());
        }
    }
    for (typed, says) in [
        ("", "has 0"),
        (&shown[..20], "36 characters"),
        ("0123-U567", "character 5"),
        ("\u{e9}", "character 1"),
    ] {
        let error = RecoveryCode::parse(typed).unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }));
        assert!(error.to_string().contains(says), "{typed:?}: {error}");
    }
}
