//! Where a secret comes from, and how it is read: files and commands, never flags.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use repo::keys::{RecoveryCode, SecretInput};
use zeroize::Zeroizing;

use super::environment::{Environment, hide_our_own};
use super::error::{Error, Result};
use crate::ui::sanitize;

/// Longest secret that is read, in bytes.
const SECRET_BYTES_MAX: u64 = 4 << 10;

/// How to get at a secret.
#[derive(Clone)]
pub(crate) enum How {
    /// It is here.
    Value(Zeroizing<String>),
    /// First line of a file.
    File(PathBuf),
    /// First line of a file that a service manager hands over, with rights of its own.
    Credential(PathBuf),
    /// First line of what a shell command prints.
    Command(String),
    /// In the keyring of the system, under this name.
    Keyring(String),
}

/// Whether this program can ask the keyring of the system.
pub(crate) const HAS_KEYRING: bool = cfg!(feature = "keyring");

/// The passphrase, as systemd's `LoadCredential` names it.
pub(crate) const CREDENTIAL_PASSWORD: &str = "agent-backup-password";
/// The secret half of the storage key.
pub(crate) const CREDENTIAL_STORAGE: &str = "agent-backup-storage-key";

/// A credential that a service manager handed over to this process.
pub(super) fn credential(env: &Environment, name: &str) -> Option<How> {
    let path = env.path("CREDENTIALS_DIRECTORY")?.join(name);
    path.is_file().then_some(How::Credential(path))
}

/// What a program that was built without it says.
pub(crate) const NO_KEYRING: &str = "this program was built without the feature `keyring`";
/// The service under which keyrings have our secrets.
#[cfg(feature = "keyring")]
const KEYRING_SERVICE: &str = "agent-backup";

/// A secret that was named in the settings.
#[derive(Clone)]
pub(crate) struct Source {
    /// What named it: a flag, a variable, a key of the configuration file.
    pub(crate) from: String,
    /// How to get at it.
    pub(crate) how: How,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({}, ..)", self.from)
    }
}

impl Source {
    pub(crate) fn new(from: impl Into<String>, how: How) -> Self {
        Self { from: from.into(), how }
    }

    /// Reads it.
    pub(crate) fn read(&self) -> Result<Zeroizing<String>> {
        let secret = match &self.how {
            How::Value(value) => value.clone(),
            How::File(path) => read_file(path)?,
            // root's, and ours by an access list: the mode alone does not tell
            How::Credential(path) => read_line(path, File::open(path))?,
            How::Command(command) => self.run(command)?,
            How::Keyring(name) => from_keyring(name).map_err(|what| self.failed(what))?,
        };
        if secret.is_empty() { Err(self.failed("it is empty")) } else { Ok(secret) }
    }

    fn run(&self, command: &str) -> Result<Zeroizing<String>> {
        let mut child =
            shell(command).spawn().map_err(|e| self.failed(format!("cannot start: {e}")))?;
        let stdout = child.stdout.take().expect("it is piped");
        let read = read_limited(stdout);
        let status = child.wait().map_err(|e| self.failed(e.to_string()))?;
        if !status.success() {
            return Err(self.failed(format!("the command failed ({status})")));
        }
        first_line(&read.map_err(|e| self.failed(e.to_string()))?)
            .ok_or_else(|| self.failed("what it printed is not UTF-8"))
    }

    fn failed(&self, what: impl Into<String>) -> Error {
        Error::Secret { from: self.from.clone(), what: what.into() }
    }
}

#[cfg(feature = "keyring")]
fn from_keyring(name: &str) -> std::result::Result<Zeroizing<String>, String> {
    use keyring::v1::Entry;
    // which service answers is not told when an entry is asked for
    if let Err(error) = Entry::store_status() {
        return Err(format!("no keyring: {error}"));
    }
    let entry = Entry::new(KEYRING_SERVICE, name).map_err(|error| error.to_string())?;
    let secret =
        entry.get_password().map_err(|error| format!("'{name}' in the keyring: {error}"))?;
    Ok(Zeroizing::new(secret))
}

#[cfg(not(feature = "keyring"))]
fn from_keyring(_: &str) -> std::result::Result<Zeroizing<String>, String> {
    Err(NO_KEYRING.to_owned())
}

/// A shell that sees none of our secrets.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdout(Stdio::piped());
    hide_our_own(&mut shell);
    shell
}

/// First line of a private file.
pub(crate) fn read_file(path: &Path) -> Result<Zeroizing<String>> {
    let io = |source| Error::ConfigRead { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    check_private(path, &file)?;
    read_line(path, Ok(file))
}

fn read_line(path: &Path, file: std::io::Result<File>) -> Result<Zeroizing<String>> {
    let io = |source| Error::ConfigRead { path: path.to_owned(), source };
    let bytes = read_limited(file.map_err(io)?).map_err(io)?;
    first_line(&bytes).ok_or_else(|| Error::Secret {
        from: sanitize::path(path),
        what: "it is not UTF-8".to_owned(),
    })
}

/// Refuses a regular file that others can read; a pipe (`<(...)`) is nobody's file.
pub(crate) fn check_private(path: &Path, file: &File) -> Result<()> {
    let meta =
        file.metadata().map_err(|source| Error::ConfigRead { path: path.to_owned(), source })?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned() });
    }
    Ok(())
}

fn read_limited(from: impl std::io::Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // sized first: a buffer that grows leaves copies behind
    let size = usize::try_from(SECRET_BYTES_MAX).expect("a small number") + 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    from.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "longer than any secret"));
    }
    Ok(bytes)
}

fn first_line(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Some(Zeroizing::new(std::str::from_utf8(line).ok()?.to_owned()))
}

/// What somebody gave as a secret: a recovery code if it is one (its check says so), else a
/// passphrase.
pub(crate) fn as_input(secret: Zeroizing<String>) -> SecretInput {
    match RecoveryCode::parse(&secret) {
        Ok(code) => SecretInput::Recovery(code),
        Err(_) => SecretInput::Passphrase(secret),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(mode: u32, content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_password_file_is_its_first_line_without_the_line_end() {
        for content in [&b"hunter 2"[..], b"hunter 2\n", b"hunter 2\r\nsecond line\n"] {
            let file = file(0o600, content);
            assert_eq!(*read_file(file.path()).unwrap(), "hunter 2");
        }
    }

    #[test]
    fn a_password_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o644] {
            let file = file(mode, b"hunter2");
            let error = read_file(file.path()).unwrap_err();
            assert!(matches!(&error, Error::Exposed { .. }), "{mode:o}: {error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_password_command_gives_its_first_line_and_says_when_it_fails() {
        let source =
            |command: &str| Source::new("--password-command", How::Command(command.into()));
        assert_eq!(*source("printf 'hunter2\\nmore'").read().unwrap(), "hunter2");
        let error = source("echo hunter2; exit 3").read().unwrap_err().to_string();
        assert!(error.contains("--password-command") && error.contains('3'), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert!(source("true").read().unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn a_password_command_does_not_see_the_secrets_in_our_environment() {
        let shell = shell("true");
        let removed: Vec<_> = shell.get_envs().filter(|(_, value)| value.is_none()).collect();
        for name in ["AGENT_BACKUP_PASSWORD", "B2_APPLICATION_KEY", "B2_ENCRYPTION_KEY"] {
            assert!(removed.iter().any(|(gone, _)| *gone == name), "{name}");
        }
    }

    #[cfg(feature = "keyring")]
    #[test]
    fn a_keyring_that_has_no_such_secret_says_so() {
        let name = "a name that nobody has";
        let source = Source::new("password_keyring", How::Keyring(name.into()));
        let error = source.read().unwrap_err().to_string();
        assert!(error.starts_with("no secret from password_keyring: "), "{error}");
        // without a session there is no keyring either
        assert!(error.contains(name) || error.contains("no keyring: "), "{error}");
    }

    #[cfg(not(feature = "keyring"))]
    #[test]
    fn without_the_feature_nobody_asks_a_keyring() {
        let source = Source::new("password_keyring", How::Keyring("me".into()));
        let error = source.read().unwrap_err().to_string();
        assert!(error.contains("built without the feature `keyring`"), "{error}");
    }

    #[test]
    fn an_endless_secret_does_not_fill_the_memory() {
        let source = Source::new("x", How::Command("yes | tr -d '\\n'".into()));
        let _ = source.read().unwrap_err();
    }

    #[test]
    fn a_secret_is_not_in_debug_output() {
        let source = Source::new("AGENT_BACKUP_PASSWORD", How::Value("hunter2".to_owned().into()));
        assert!(!format!("{source:?}").contains("hunter2"));
    }

    #[test]
    fn a_recovery_code_is_known_from_a_passphrase_by_its_check() {
        let code = RecoveryCode::random().reveal();
        assert!(matches!(as_input(code.clone()), SecretInput::Recovery(_)));
        let mut typo = code.to_string();
        let last = if typo.ends_with('A') { "B" } else { "A" };
        typo.replace_range(typo.len() - 1.., last);
        assert!(matches!(as_input(typo.into()), SecretInput::Passphrase(_)));
        assert!(matches!(as_input("hunter2".to_owned().into()), SecretInput::Passphrase(_)));
    }
}
