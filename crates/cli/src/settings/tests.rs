//! Who wins, and what is refused.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;

struct Desk {
    dir: tempfile::TempDir,
    env: Environment,
    flags: Global,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut env =
            Environment { host: "box".into(), user: "me".into(), ..Environment::default() };
        env.vars.insert("HOME".into(), dir.path().into());
        Self { dir, env, flags: Global::default() }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.env.vars.insert(name.into(), OsString::from(value));
        self
    }

    fn config(self, text: &str) -> Self {
        self.config_mode(text, 0o600)
    }

    fn config_mode(self, text: &str, mode: u32) -> Self {
        let dir = self.dir.path().join(".config/agent-backup");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("config.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn flags(mut self, change: impl FnOnce(&mut Global)) -> Self {
        change(&mut self.flags);
        self
    }

    fn resolve(&self) -> Result<Settings> {
        Settings::resolve(&self.flags, &self.env)
    }

    fn address(&self) -> String {
        self.resolve().unwrap().which.address().to_string()
    }

    fn password(&self) -> (String, bool) {
        let password = self.resolve().unwrap().password.unwrap();
        (password.source.from, password.explicit)
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let desk = Desk::new().config("repo = \"/from-file\"\n");
    assert_eq!(desk.address(), "/from-file");
    let desk = desk.set("B2_BUCKET", "old-bucket");
    assert_eq!(desk.address(), "b2:old-bucket/agent-backup");
    let desk = desk.set("B2_PREFIX", "goose-backup");
    assert_eq!(desk.address(), "b2:old-bucket/goose-backup");
    let desk = desk.set("AGENT_BACKUP_REPO", "/from-environment");
    assert_eq!(desk.address(), "/from-environment");
    let desk = desk.flags(|flags| flags.repo = Some("/from-flag".into()));
    assert_eq!(desk.address(), "/from-flag");
}

#[test]
fn with_nothing_set_the_repository_is_in_the_data_directory() {
    let desk = Desk::new();
    let settings = desk.resolve().unwrap();
    let home = desk.dir.path();
    let path = home.join(".local/share/agent-backup/repository");
    assert_eq!(settings.which, Which::Embedded(path));
    assert_eq!(settings.state_dir, home.join(".local/state/agent-backup"));
    assert_eq!(settings.cache_dir, home.join(".cache/agent-backup"));
    assert_eq!(settings.config_path, home.join(".config/agent-backup/config.toml"));
    assert!(!settings.config_found);
}

#[test]
fn an_empty_or_relative_home_is_not_a_home() {
    for home in ["", "relative/home"] {
        let mut desk = Desk::new();
        if home.is_empty() {
            desk.env.vars.remove("HOME"); // empty variables are dropped when they are taken
        } else {
            desk = desk.set("HOME", home);
        }
        assert!(matches!(desk.resolve().unwrap_err(), Error::NoHome));
        desk.env.passwd_home = Some("/home/me".into());
        assert_eq!(
            desk.resolve().unwrap().state_dir,
            Path::new("/home/me/.local/state/agent-backup")
        );
    }
}

#[test]
fn directories_can_be_moved_by_xdg_variables_and_by_ours() {
    let desk = Desk::new().set("XDG_STATE_HOME", "/s").set("XDG_CACHE_HOME", "relative");
    let settings = desk.resolve().unwrap();
    assert_eq!(settings.state_dir, Path::new("/s/agent-backup"));
    assert_eq!(settings.cache_dir, desk.dir.path().join(".cache/agent-backup"));
    let desk = desk.config("state_dir = \"~/state\"\ncache_dir = \"/file\"\n");
    assert_eq!(desk.resolve().unwrap().state_dir, desk.dir.path().join("state"));
    let desk = desk.set("AGENT_BACKUP_STATE_DIR", "/ours").set("AGENT_BACKUP_CACHE_DIR", "/cache");
    let settings = desk.resolve().unwrap();
    assert_eq!((settings.state_dir, settings.cache_dir), ("/ours".into(), "/cache".into()));
    let desk = desk.flags(|flags| flags.cache_dir = Some("/flag".into()));
    assert_eq!(desk.resolve().unwrap().cache_dir, PathBuf::from("/flag"));
}

#[test]
fn the_passphrase_comes_from_the_nearest_place_and_never_from_the_storage_key() {
    let desk = Desk::new().set("B2_KEY_ID", "id").set("B2_APPLICATION_KEY", "hunter2");
    assert!(desk.resolve().unwrap().password.is_none(), "the storage key is no passphrase");
    let desk = desk.config("password_file = \"~/pass\"\n");
    assert_eq!(desk.password(), ("password_file".into(), false));
    for name in [
        "B2_ENCRYPTION_KEY",
        "AGENT_BACKUP_PASSWORD_COMMAND",
        "AGENT_BACKUP_PASSWORD_FILE",
        "AGENT_BACKUP_PASSWORD",
    ] {
        let desk = Desk::new().config("password_file = \"~/pass\"\n").set(name, "x");
        assert_eq!(desk.password(), (name.into(), true));
    }
    let desk = desk.set("AGENT_BACKUP_PASSWORD", "x").set("B2_ENCRYPTION_KEY", "y");
    assert_eq!(desk.password().0, "AGENT_BACKUP_PASSWORD");
    let desk = desk.flags(|flags| flags.password_command = Some("pass".into()));
    assert_eq!(desk.password().0, "--password-command");
}

#[test]
fn the_two_halves_of_a_storage_key_come_from_one_place() {
    let file = "[storage]\nkey_id = \"file-id\"\nsecret_key = \"file-secret\"\n";
    let desk = Desk::new().config(file);
    assert_eq!(desk.resolve().unwrap().credentials().unwrap().unwrap().key_id, "file-id");
    let desk = desk.set("B2_KEY_ID", "b2-id");
    let error = desk.resolve().unwrap_err();
    assert!(error.to_string().contains("B2_APPLICATION_KEY is not"), "{error}");
    let desk = desk.set("B2_APPLICATION_KEY", "b2-secret");
    assert_eq!(desk.resolve().unwrap().credentials().unwrap().unwrap().key_id, "b2-id");
    let desk = desk.set("AGENT_BACKUP_KEY_ID", "id").set("AGENT_BACKUP_SECRET_KEY", "secret");
    assert_eq!(desk.resolve().unwrap().credentials().unwrap().unwrap().key_id, "id");
    let shown =
        format!("{:?} {:?}", desk.resolve().unwrap(), desk.resolve().unwrap().credentials());
    for secret in ["file-secret", "b2-secret", "Value(\"secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn the_secret_half_of_a_storage_key_comes_from_a_file_a_command_or_a_service() {
    let alone = "[storage]\nkey_id = \"id\"\n";
    let secret = |desk: &Desk| {
        let credentials = desk.resolve().unwrap().credentials().unwrap().unwrap();
        assert_eq!(credentials.key_id, "id");
        let source = desk.resolve().unwrap().storage_secret().unwrap().unwrap();
        source.to_string()
    };
    let error = Desk::new().config(alone).resolve().unwrap_err().to_string();
    assert!(error.contains("config.toml:2: key_id: the key needs secret_key_file"), "{error}");
    let command = format!("{alone}secret_key_command = \"echo by-command; echo more\"\n");
    let desk = Desk::new().config(&command);
    assert_eq!(secret(&desk), "by-command");
    // variables, ours: each beside the id
    let desk = desk.set("AGENT_BACKUP_KEY_ID", "id");
    let desk = desk.set("AGENT_BACKUP_SECRET_KEY_COMMAND", "echo by-variable");
    assert_eq!(secret(&desk), "by-variable");
    let path = desk.dir.path().join("key");
    std::fs::write(&path, "by-file\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let desk = desk.set("AGENT_BACKUP_SECRET_KEY_FILE", path.to_str().unwrap());
    assert_eq!(secret(&desk), "by-file");
    let desk = desk.set("AGENT_BACKUP_SECRET_KEY", "by-value");
    assert_eq!(secret(&desk), "by-value");
    let mut desk = desk;
    desk.env.vars.remove("AGENT_BACKUP_KEY_ID");
    let error = desk.resolve().unwrap_err().to_string();
    assert!(error.starts_with("AGENT_BACKUP_SECRET_KEY is set and AGENT_BACKUP_KEY_ID"), "{error}");
    // what a service manager hands over, whoever else could read it
    let handed = tempfile::tempdir().unwrap();
    std::fs::write(handed.path().join("agent-backup-storage-key"), "by-service\n").unwrap();
    std::fs::write(handed.path().join("agent-backup-password"), "word\n").unwrap();
    for (config, id) in [(alone, None), (&command, None), ("", Some("B2_KEY_ID"))] {
        let mut desk = Desk::new()
            .config(config)
            .set("CREDENTIALS_DIRECTORY", handed.path().to_str().unwrap());
        if let Some(id) = id {
            desk = desk.set(id, "id");
        }
        assert_eq!(secret(&desk), "by-service");
        assert_eq!(desk.password(), ("agent-backup-password".into(), false));
        assert_eq!(*desk.resolve().unwrap().password.unwrap().source.read().unwrap(), "word");
    }
    // without an id it is the key of nothing
    let desk = Desk::new().set("CREDENTIALS_DIRECTORY", handed.path().to_str().unwrap());
    assert!(desk.resolve().unwrap().credentials().unwrap().is_none());
    // what somebody gives for this run still counts first
    let desk = desk.set("AGENT_BACKUP_PASSWORD", "mine");
    assert_eq!(desk.password(), ("AGENT_BACKUP_PASSWORD".into(), true));
}

#[test]
fn a_config_file_with_a_secret_in_it_must_be_private() {
    let text = "[storage]\nkey_id = \"id\"\nsecret_key = \"hunter2\"\n";
    let desk = Desk::new().config_mode(text, 0o644);
    assert!(matches!(desk.resolve().unwrap_err(), Error::Exposed { .. }));
    assert!(Desk::new().config_mode("repo = \"/srv\"\n", 0o644).resolve().is_ok());
}

#[test]
fn a_config_file_that_was_named_must_exist() {
    let desk = Desk::new().flags(|flags| flags.config = Some("/nonexistent/c.toml".into()));
    assert!(matches!(desk.resolve().unwrap_err(), Error::ConfigRead { .. }));
    let desk = Desk::new().set("AGENT_BACKUP_CONFIG", "/nonexistent/c.toml");
    assert!(matches!(desk.resolve().unwrap_err(), Error::ConfigRead { .. }));
}

#[test]
fn an_unencrypted_repository_is_refused_and_dead_variables_are_explained() {
    for no in ["false", "0", "No", "OFF"] {
        let error = Desk::new().set("B2_ENCRYPT", no).resolve().unwrap_err();
        assert!(matches!(error, Error::Unencrypted), "{no}");
    }
    let desk = Desk::new().set("B2_ENCRYPT", "true").set("B2_KEEP_SNAPSHOTS", "10");
    let notes = desk.set("B2_SCHEDULE", "daily").resolve().unwrap().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("B2_KEEP_SNAPSHOTS has no effect: "));
}

#[test]
fn the_region_of_b2_is_not_given_to_another_storage() {
    let desk = Desk::new().set("B2_REGION", "us-west-004");
    let at = |desk: Desk, repo: &str| {
        desk.flags(|flags| flags.repo = Some(repo.into())).resolve().unwrap().region
    };
    assert_eq!(at(desk, "b2:bucket").as_deref(), Some("us-west-004"));
    let desk = Desk::new().set("B2_REGION", "us-west-004");
    assert_eq!(at(desk, "s3://bucket"), None);
}

#[test]
fn the_variables_of_the_openclaw_plugin_work_too() {
    let desk = Desk::new()
        .set("B2_APPLICATION_KEY_ID", "their-id")
        .set("B2_APPLICATION_KEY", "their-secret")
        .set("B2_BUCKET_NAME", "their-bucket")
        .set("B2_PREFIX", "their/prefix")
        .set("B2_ENDPOINT", "https://s3.us-west-004.backblazeb2.com");
    let settings = desk.resolve().unwrap();
    assert_eq!(settings.which.address().to_string(), "b2:their-bucket/their/prefix");
    assert_eq!(settings.credentials().unwrap().unwrap().key_id, "their-id");
    assert_eq!(settings.endpoint.as_deref(), Some("https://s3.us-west-004.backblazeb2.com"));
    // the shorter names win, and an endpoint of B2 is not given to another storage
    let desk = desk.set("B2_KEY_ID", "id").set("B2_BUCKET", "bucket");
    let settings = desk.resolve().unwrap();
    assert_eq!(settings.which.address().to_string(), "b2:bucket/their/prefix");
    assert_eq!(settings.credentials().unwrap().unwrap().key_id, "id");
    let desk = desk.flags(|flags| flags.repo = Some("s3://bucket".into()));
    assert_eq!(desk.resolve().unwrap().endpoint, None);
}

#[test]
fn the_time_to_try_again_is_a_number_whoever_says_it() {
    let desk = Desk::new().config("[storage]\nretry_secs = 7\n");
    assert_eq!(desk.resolve().unwrap().retry_secs, Some(7));
    let desk = desk.set("AGENT_BACKUP_RETRY", "0");
    assert_eq!(desk.resolve().unwrap().retry_secs, Some(0));
    let desk = desk.flags(|flags| flags.retry = Some(3));
    assert_eq!(desk.resolve().unwrap().retry_secs, Some(3));
    let error = Desk::new().set("AGENT_BACKUP_RETRY", "long").resolve().unwrap_err();
    assert!(error.to_string().starts_with("AGENT_BACKUP_RETRY: "), "{error}");
}

#[test]
fn an_address_that_makes_no_sense_says_who_gave_it() {
    let desk = Desk::new().set("AGENT_BACKUP_REPO", "https://id:hunter2@host/bucket");
    let error = desk.resolve().unwrap_err().to_string();
    assert!(error.starts_with("AGENT_BACKUP_REPO: ") && !error.contains("hunter2"), "{error}");
}
