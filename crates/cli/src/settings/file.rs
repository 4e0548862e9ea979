//! `config.toml`: strict, so that a misspelt key is an error with its line and not a setting that
//! has no effect.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::suspects::Ignored;
use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use super::daemon::{self, Daemon};
use super::error::{Error, Result};
use super::secret;
use crate::args::ScanSecrets;
use crate::ui::{size, time};

/// Largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why `encrypt = false` is refused.
const UNENCRYPTED: &str = "every repository is encrypted, because transcripts hold secrets and whoever reads the \
                           storage would have them; a machine key makes that cost nothing in daily use";

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    repo: Option<Spanned<String>>,
    password_file: Option<Spanned<String>>,
    password_command: Option<Spanned<String>>,
    password_keyring: Option<Spanned<String>>,
    state_dir: Option<Spanned<String>>,
    cache_dir: Option<Spanned<String>>,
    host: Option<String>,
    /// Known, so that whoever asks for no encryption is told why there is none to be had.
    encrypt: Option<Spanned<bool>>,
    #[serde(default)]
    push: RawPush,
    #[serde(default)]
    gone: RawGone,
    #[serde(default)]
    storage: RawStorage,
    #[serde(default)]
    secrets: RawSecrets,
    #[serde(default)]
    daemon: daemon::Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSecrets {
    #[serde(default)]
    ignore: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGone {
    keep_for: Option<Spanned<String>>,
    keep_bytes: Option<Spanned<String>>,
    #[serde(default)]
    paths: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPush {
    #[serde(default)]
    agents: Vec<String>,
    #[serde(default)]
    paths: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    exclude: Vec<String>,
    exclude_larger_than: Option<Spanned<String>>,
    limit_upload: Option<Spanned<String>>,
    #[serde(default)]
    one_file_system: bool,
    #[serde(default)]
    scan_secrets: ScanSecrets,
    #[serde(default)]
    redact_secrets: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStorage {
    key_id: Option<Spanned<String>>,
    secret_key: Option<Spanned<String>>,
    secret_key_file: Option<Spanned<String>>,
    secret_key_command: Option<Spanned<String>>,
    secret_key_keyring: Option<Spanned<String>>,
    region: Option<String>,
    endpoint: Option<String>,
    retry_secs: Option<u32>,
}

// by hand, because it may hold a secret
impl std::fmt::Debug for RawStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawStorage").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// What is kept of files that vanish from their source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    /// For so long; none: for ever.
    pub(crate) keep_for: Option<Duration>,
    /// So much of it; none: all.
    pub(crate) keep_bytes: Option<u64>,
    /// Labels of directories of which all is kept.
    pub(crate) paths: Vec<String>,
}

/// The file, understood. Paths are as written; `~/` is opened later.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    pub(crate) repo: Option<String>,
    pub(crate) password: Option<secret::Source>,
    pub(crate) state_dir: Option<String>,
    pub(crate) cache_dir: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) agents: Vec<String>,
    pub(crate) paths: BTreeMap<String, String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) exclude_larger_than: Option<u64>,
    pub(crate) limit_upload: Option<u64>,
    pub(crate) one_file_system: bool,
    pub(crate) scan_secrets: ScanSecrets,
    pub(crate) redact_secrets: bool,
    /// Findings that are not told.
    pub(crate) secrets_ignored: Vec<String>,
    pub(crate) gone: Gone,
    pub(crate) key_id: Option<String>,
    pub(crate) secret_key: Option<secret::Source>,
    /// What is wrong if no credential of a service brings the secret half of `key_id`.
    pub(crate) key_alone: Option<Error>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) retry_secs: Option<u32>,
    pub(crate) daemon: Daemon,
}

impl ConfigFile {
    /// Reads the file; none if it is not there.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let io = |source| Error::ConfigRead { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        let mut text = Zeroizing::new(String::new());
        (&file).take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
        let (config, holds_secret) = Self::parse(&text, path)?;
        if holds_secret {
            secret::check_private(path, &file)?;
        }
        Ok(Some(config))
    }

    /// What a tool brings for as long as there is no file.
    pub(crate) fn brought(text: &str, name: &str) -> Result<Self> {
        let (config, holds_secret) = Self::parse(text, Path::new(name))?;
        if holds_secret {
            let what = "it holds a secret, which everybody can read in the program".to_owned();
            return Err(Error::Value { name: format!("the configuration of {name}"), what });
        }
        Ok(config)
    }

    /// Parses the text of the file; also whether a secret stands in it.
    pub(super) fn parse(text: &str, path: &Path) -> Result<(Self, bool)> {
        let at = At { text, path };
        let raw: Raw = toml::from_str(text).map_err(|e| at.toml(&e))?;
        let password = at.secret([
            ("password_file", raw.password_file),
            ("password_command", raw.password_command),
            ("password_keyring", raw.password_keyring),
        ])?;
        if let Some(encrypt) = raw.encrypt.filter(|encrypt| !encrypt.get_ref()) {
            return Err(at.wrong(&encrypt.span(), UNENCRYPTED));
        }
        let storage = raw.storage;
        let daemon = Daemon::parse(raw.daemon, &at)?;
        let holds_secret = storage.secret_key.is_some() || daemon.holds_secret();
        let secret_key = at.secret([
            ("secret_key", storage.secret_key),
            ("secret_key_file", storage.secret_key_file),
            ("secret_key_command", storage.secret_key_command),
            ("secret_key_keyring", storage.secret_key_keyring),
        ])?;
        let key_alone = storage.key_id.as_ref().filter(|_| secret_key.is_none()).map(|id| {
            at.wrong(&id.span(), "the key needs secret_key_file or secret_key_command too")
        });
        let sized = |value: Option<Spanned<String>>,
                     parse: fn(&str) -> std::result::Result<u64, String>| {
            value
                .map(|v| parse(v.get_ref()).map_err(|e: String| at.wrong(&v.span(), &e)))
                .transpose()
        };
        let path_of = |value: Option<Spanned<String>>| value.map(|v| at.path(v)).transpose();
        let mut paths = BTreeMap::new();
        for (label, dir) in raw.push.paths {
            paths.insert(label, at.path(dir)?);
        }
        let ignored = |entry: Spanned<String>| match Ignored::check(entry.get_ref()) {
            Ok(()) => Ok(entry.into_inner()),
            Err(what) => Err(at.wrong(&entry.span(), &what)),
        };
        let config = Self {
            secrets_ignored: raw.secrets.ignore.into_iter().map(ignored).collect::<Result<_>>()?,
            repo: raw.repo.map(|repo| at.address(repo)).transpose()?,
            password,
            state_dir: path_of(raw.state_dir)?,
            cache_dir: path_of(raw.cache_dir)?,
            host: raw.host,
            agents: raw.push.agents,
            paths,
            exclude: raw.push.exclude,
            exclude_larger_than: sized(raw.push.exclude_larger_than, size::parse)?,
            limit_upload: sized(raw.push.limit_upload, size::parse_rate)?,
            one_file_system: raw.push.one_file_system,
            scan_secrets: raw.push.scan_secrets,
            redact_secrets: raw.push.redact_secrets,
            gone: at.gone(raw.gone)?,
            key_id: storage.key_id.map(Spanned::into_inner),
            secret_key,
            key_alone,
            region: storage.region,
            endpoint: storage.endpoint,
            retry_secs: storage.retry_secs,
            daemon,
        };
        Ok((config, holds_secret))
    }
}

/// Reads a list of findings to ignore: an entry a line, `#` begins a comment; none if it is not there.
pub(crate) fn read_ignored(path: &Path) -> Result<Vec<String>> {
    let io = |source| Error::ConfigRead { path: path.to_owned(), source };
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io(e)),
    };
    let mut entries = Vec::new();
    for (n, line) in text.lines().enumerate() {
        // a glob may hold `#`: only what follows a space is a comment
        let line = line.split_once(" #").map_or(line, |(entry, _)| entry).trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        Ignored::check(line).map_err(|what| Error::Config {
            file: path.to_owned(),
            line: n + 1,
            key: String::new(),
            what,
        })?;
        entries.push(line.to_owned());
    }
    Ok(entries)
}

/// Names places in the file.
pub(super) struct At<'a> {
    pub(super) text: &'a str,
    pub(super) path: &'a Path,
}

impl At<'_> {
    fn toml(&self, error: &toml::de::Error) -> Error {
        self.wrong(&error.span().unwrap_or(0..0), error.message())
    }

    /// The key is what stands before `=` on the line.
    pub(super) fn wrong(&self, span: &Range<usize>, what: &str) -> Error {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.bytes().filter(|b| *b == b'\n').count();
        let text = self.text.lines().nth(line).unwrap_or_default();
        let key = text.split_once('=').map_or("", |(key, _)| key.trim());
        // serde quotes nothing but keys; a value (it may be a secret) is never repeated
        let what = what.lines().next().unwrap_or_default();
        Error::Config {
            file: self.path.to_owned(),
            line: line + 1,
            key: key.chars().take(64).collect(),
            what: what.to_owned(),
        }
    }

    fn gone(&self, raw: RawGone) -> Result<Gone> {
        let said = |value: Spanned<String>| (value.span(), value.into_inner());
        let keep_for = raw
            .keep_for
            .map(said)
            .map(|(span, text)| time::parse_span(&text).map_err(|e| self.wrong(&span, &e)));
        let keep_bytes = raw
            .keep_bytes
            .map(said)
            .map(|(span, text)| size::parse(&text).map_err(|e| self.wrong(&span, &e)));
        let label = |(span, label): (Range<usize>, String)| {
            // what is gone is in the tree behind all that can vanish
            if label.is_empty() || label.as_bytes() >= repo::gone::NAME {
                let what = "a label that begins with one of a-z, A-Z, 0-9, . _ -";
                return Err(self.wrong(&span, what));
            }
            Ok(label)
        };
        Ok(Gone {
            keep_for: keep_for.transpose()?,
            keep_bytes: keep_bytes.transpose()?,
            paths: raw.paths.into_iter().map(said).map(label).collect::<Result<_>>()?,
        })
    }

    /// The one of these keys that says where a secret is.
    fn secret<const N: usize>(
        &self,
        keys: [(&str, Option<Spanned<String>>); N],
    ) -> Result<Option<secret::Source>> {
        let mut given = keys.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let Some((name, value)) = given.next() else { return Ok(None) };
        if let Some((second, value)) = given.next() {
            return Err(self.wrong(&value.span(), &format!("give {name} or {second}")));
        }
        let how = if name.ends_with("_file") {
            secret::How::File(PathBuf::from(self.path(value)?))
        } else if name.ends_with("_command") {
            secret::How::Command(self.filled(value)?)
        } else if !name.ends_with("_keyring") {
            secret::How::Value(value.into_inner().into())
        } else if secret::HAS_KEYRING {
            secret::How::Keyring(self.filled(value)?)
        } else {
            return Err(self.wrong(&value.span(), secret::NO_KEYRING));
        };
        Ok(Some(secret::Source::new(name, how)))
    }

    pub(super) fn filled(&self, value: Spanned<String>) -> Result<String> {
        if value.get_ref().trim().is_empty() {
            return Err(self.wrong(&value.span(), "it is empty"));
        }
        Ok(value.into_inner())
    }

    fn address(&self, value: Spanned<String>) -> Result<String> {
        let text = value.get_ref();
        let address =
            store::Address::parse(text).map_err(|e| self.wrong(&value.span(), &e.to_string()))?;
        if matches!(address, store::Address::Local(_)) && !text.starts_with("file:") {
            return self.path(value);
        }
        self.filled(value)
    }

    /// Relative paths would mean something else in every directory.
    pub(super) fn path(&self, value: Spanned<String>) -> Result<String> {
        let text = value.get_ref();
        if text.starts_with('/') || text.starts_with("~/") || text == "~" {
            return Ok(value.into_inner());
        }
        Err(self.wrong(&value.span(), "write an absolute path, or one that begins with ~/"))
    }
}

/// What `init` writes where there is no configuration file yet.
pub(crate) fn template(repo: Option<&str>) -> String {
    let repo = match repo {
        Some(address) => format!("repo = {}", toml::Value::String(address.to_owned())),
        None => "#repo = \"b2:bucket/agents\"".to_owned(),
    };
    TEMPLATE.replace("@REPO@", &repo) + daemon::TEMPLATE
}

const TEMPLATE: &str = r#"# Configuration of agent-backup. Flags win over environment variables, and these over this file.
# Every key is described in docs/cli.md; a key that is not known is an error.

# Where the repository is: a directory, b2:bucket/prefix, s3://bucket/prefix or
# s3:https://host/bucket/prefix. Without it: a repository in the data directory of this user.
@REPO@

# Used when this machine has no key of its own for the repository.
#password_file = "~/.agent-backup-pass"
#password_command = "pass show agent-backup"

#host = "laptop"
#state_dir = "~/.local/state/agent-backup"
#cache_dir = "~/.cache/agent-backup"

[push]
# Agents to back up; none named: all that are found here (`agent-backup agents`).
#agents = ["claude-code", "codex"]
#exclude = ["*.iso"]
#exclude_larger_than = "2GiB"
#limit_upload = "2MiB"
#one_file_system = true
# Warn of what looks like a secret: in new data up to 16 MiB a push ("new"), in all of it ("all"), never ("none").
#scan_secrets = "new"

# More directories: a label, and where it is.
[push.paths]
#notes = "~/notes"

# Files that an agent deletes by itself stay in the snapshots that come: for ever, unless a limit says
# otherwise, in days or in bytes of content (the oldest go first). `paths`: labels of [push.paths] of
# which everything that vanishes is kept.
[gone]
#keep_for = "730d"
#keep_bytes = "20GiB"
#paths = ["notes"]

# Findings that are not to be told: a rule, a glob of paths, or what `agent-backup scan` shows behind one. The file
# secrets-ignore beside this one holds more, one a line.
[secrets]
#ignore = ["rule:jwt", "path:**/fixtures/**", "0123456789abcdef"]

# The storage key of a bucket. B2_KEY_ID and B2_APPLICATION_KEY do the same.
[storage]
#key_id = "004..."
#secret_key_file = "~/.config/agent-backup/storage.key"
#secret_key_command = "pass show b2"
#region = "eu-central-003"
#endpoint = "https://s3.example.org"
#retry_secs = 300
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        ConfigFile::parse(text, Path::new("/c/config.toml")).unwrap_err().to_string()
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_file_line_and_key() {
        let said = wrong("repo = \"/srv\"\n\n[push]\nexlude = [\"*.iso\"]\n");
        assert!(said.starts_with("/c/config.toml:4: exlude: unknown field `exlude`"), "{said}");
        let said = wrong("[storge]\nkey_id = \"x\"\n");
        assert!(said.starts_with("/c/config.toml:1: unknown field `storge`"), "{said}");
    }

    #[test]
    fn a_value_that_cannot_be_used_is_an_error_with_its_line() {
        for (text, begins) in [
            ("repo = 7\n", "/c/config.toml:1: repo: "),
            ("\nrepo = \"\"\n", "/c/config.toml:2: repo: cannot use this repository address"),
            ("repo = \"backup\"\n", "/c/config.toml:1: repo: write an absolute path"),
            ("password_command = \" \"", "/c/config.toml:1: password_command: it is empty"),
            ("repo = \"/a\"\nrepo = \"/b\"\n", "/c/config.toml:2: "),
            ("repo = \n", "/c/config.toml:1: "),
            ("[push]\nlimit_upload = \"fast\"\n", "/c/config.toml:2: limit_upload: 'fast'"),
            ("[push]\nexclude_larger_than = \"1X\"", "/c/config.toml:2: exclude_larger_than: "),
            ("[push.paths]\nnotes = \"notes\"\n", "/c/config.toml:2: notes: write an absolute"),
            ("[gone]\nkeep_for = \"long\"\n", "/c/config.toml:2: keep_for: 'long' is not a time"),
            ("[gone]\npaths = [\"\u{e9}t\u{e9}\"]\n", "/c/config.toml:2: paths: a label that"),
            ("password_file = \"p\"\n", "/c/config.toml:1: password_file: write an absolute"),
            #[cfg(not(feature = "keyring"))]
            ("password_keyring = \"me\"\n", "/c/config.toml:1: password_keyring: this program was"),
            ("encrypt = false\n", "/c/config.toml:1: encrypt: every repository is encrypted"),
            (
                "[storage]\nsecret_key_command = \"\"\n",
                "/c/config.toml:2: secret_key_command: it is",
            ),
            ("[secrets]\nignore = [\"jwt\"]\n", "/c/config.toml:2: ignore: write rule:ID"),
            (
                "password_file = \"/p\"\npassword_command = \"c\"\n",
                "/c/config.toml:2: password_command: ",
            ),
            (
                "[storage]\nsecret_key_file = \"/k\"\nsecret_key_command = \"c\"\n",
                "/c/config.toml:3: secret_key_command: give secret_key_file or secret_key_command",
            ),
        ] {
            let said = wrong(text);
            assert!(said.starts_with(begins), "{text:?} gave {said:?}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn a_list_of_findings_to_ignore_has_comments_and_names_a_bad_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets-ignore");
        assert!(read_ignored(&path).unwrap().is_empty());
        let text = "# looked at\n\n0123456789abcdef # in a test\npath:a#b/*.md\nrule:jwt\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(read_ignored(&path).unwrap(), ["0123456789abcdef", "path:a#b/*.md", "rule:jwt"]);
        std::fs::write(&path, "rule:jwt\njwt\n").unwrap();
        let said = read_ignored(&path).unwrap_err().to_string();
        assert!(
            said.ends_with(
                "secrets-ignore:2: write rule:ID, path:GLOB or the 16 digits that scan shows"
            ),
            "{said}"
        );
    }

    #[test]
    fn a_secret_in_the_file_is_in_no_message() {
        let text =
            "[storage]\nkey_id = \"k\"\nsecret_key = \"hunter2\"\nsecret_key_file = \"/f\"\n";
        assert!(!wrong(text).contains("hunter2"));
        let text = "[storage]\nkey_id = \"k\"\nsecret_key = [\"hunter2\"]\n";
        assert!(!wrong(text).contains("hunter2"), "{}", wrong(text));
        let text = "[storage]\nkey_id = \"k\"\nsecret_key = \"hunter2\"\n";
        let (config, holds_secret) = ConfigFile::parse(text, Path::new("c")).unwrap();
        assert!(holds_secret);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn what_init_writes_is_read_back_and_means_only_the_repository() {
        let odd = "/srv/a \"quoted\" \\ dir";
        let (config, _) = ConfigFile::parse(&template(Some(odd)), Path::new("c")).unwrap();
        assert_eq!(config.repo.as_deref(), Some(odd));
        assert!(config.agents.is_empty() && config.paths.is_empty() && config.key_id.is_none());
        assert!(!config.daemon.push_is_scheduled && config.daemon.heartbeat.is_none());
        let (config, _) = ConfigFile::parse(&template(None), Path::new("c")).unwrap();
        assert_eq!(config.repo, None);
    }

    #[test]
    fn every_line_that_the_template_offers_is_a_valid_one() {
        let text = template(Some("/srv"))
            .lines()
            .filter(|line| !line.contains("_command = \"pass"))
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
                _ => line.to_owned(),
            })
            .collect::<Vec<_>>()
            .join("\n");
        let (config, _) = ConfigFile::parse(&text, Path::new("c")).unwrap();
        assert_eq!(config.limit_upload, Some(2 << 20));
        assert_eq!(config.paths["notes"], "~/notes");
        assert_eq!(config.gone.keep_for, Some(Duration::from_secs(730 * 86_400)));
        assert_eq!(
            (config.gone.keep_bytes, config.gone.paths),
            (Some(20 << 30), vec!["notes".into()])
        );
        assert_eq!((config.daemon.timetables.len(), config.daemon.keep.weekly), (5, 5));
    }
}
