//! `doctor`: what is wrong with the backups of this machine, and the command that mends it.
//!
//! In: whatever settings there are, also such as no other command would take. Out: findings. Nothing
//! is changed; `--probe` writes, beside the repository, and removes what it wrote.

mod service;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adapters::Adapter;
use anyhow::Result;
use engine::doctor::{self, About, Finding, Level, quote, quote_path};
use engine::{Clock as _, SystemClock};
use serde::Serialize;
use store::{Address, Store};

use crate::args::{Doctor, Global};
use crate::connect::{self, Wanted};
use crate::exit::{self, Exit};
use crate::settings::secret::How;
use crate::settings::{self, Environment, Settings, Which};
use crate::signals::Signals;
use crate::ui::{Screen, count, sanitize};

/// A newest push that is older is a fault, if nobody says another time.
const PUSH_AGE_MAX: Duration = Duration::from_secs(2 * 86_400);

#[derive(Serialize)]
struct Document {
    faults: usize,
    advice: usize,
    unchecked: usize,
    findings: Vec<Record>,
}

#[derive(Serialize)]
struct Record {
    check: &'static str,
    level: &'static str,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

pub(crate) fn run(
    args: &Doctor,
    flags: &Global,
    env: &Environment,
    screen: &Screen,
) -> Result<Exit> {
    let signals = Signals::install()?;
    let mut found = match Settings::resolve(flags, env) {
        Ok(settings) => {
            let case = Case { args, settings, env, signals, screen };
            case.examine()
        }
        Err(error) => vec![of_settings(&error, env)],
    };
    let flags = said_again(flags);
    for finding in &mut found {
        let ours = finding.mend.as_ref().and_then(|mend| mend.strip_prefix("agent-backup "));
        if let Some(rest) = ours {
            finding.mend = Some(format!("agent-backup {flags}{rest}"));
        }
    }
    found.sort_by_key(|finding| finding.level);
    tell(found, screen)
}

/// Flags without which a command would mean another repository.
fn said_again(flags: &Global) -> String {
    let mut out = String::new();
    if let Some(repo) = &flags.repo {
        out = format!("-r {} ", quote(repo));
    }
    for (flag, path) in [("--config", &flags.config), ("--cache-dir", &flags.cache_dir)] {
        if let Some(path) = path.as_ref().and_then(|path| path.to_str()) {
            out = format!("{out}{flag} {} ", quote(path));
        }
    }
    out
}

fn tell(found: Vec<Finding>, screen: &Screen) -> Result<Exit> {
    let of = |level: Level| found.iter().filter(|one| one.level == level).count();
    let (faults, advice, unchecked) = (of(Level::Fault), of(Level::Advice), of(Level::Unchecked));
    let exit = if faults > 0 { Exit::Failed } else { Exit::Done };
    if screen.json() {
        let record = |one: Finding| Record {
            check: one.check,
            level: one.level.name(),
            what: one.what,
            mend: one.mend,
            hint: one.hint,
        };
        let findings = found.into_iter().map(record).collect();
        screen.document(&Document { faults, advice, unchecked, findings })?;
        return Ok(exit);
    }
    for one in &found {
        if one.level == Level::Fine && screen.verbose() == 0 {
            continue;
        }
        screen.line(format_args!("{:<10} {}", one.level.name(), sanitize::text(&one.what)))?;
        for (word, text) in [("mend", &one.mend), ("hint", &one.hint)] {
            if let Some(text) = text {
                screen.line(format_args!("           {word}: {}", sanitize::text(text)))?;
            }
        }
    }
    let fine = of(Level::Fine);
    screen.line(match faults {
        0 => format!("nothing has to be mended; {fine} checks are fine"),
        _ => format!(
            "{} to be mended; {fine} checks are fine",
            count(faults as u64, "thing has", "things have")
        ),
    })?;
    Ok(exit)
}

/// Settings that no command can use.
fn of_settings(error: &settings::Error, env: &Environment) -> Finding {
    use settings::Error as E;
    let finding = Finding::fault("configuration", error.to_string());
    let first = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let unset = |finding: Finding, name: &str| {
        if env.vars.contains_key(name) { finding.mend(format!("unset {name}")) } else { finding }
    };
    match error {
        E::Config { file, line, .. } => match doctor::comment_out(file, *line) {
            Some(command) => finding.mend(command).hint("or correct that line; a copy is kept"),
            None => finding.hint("correct that line"),
        },
        E::Exposed { path } => match quote_path(path) {
            Some(path) => finding.mend(format!("chmod 600 {path}")),
            None => finding.hint("chmod 600"),
        },
        E::ConfigRead { path, source } => {
            let by_variable = env.path("AGENT_BACKUP_CONFIG").is_some_and(|named| named == *path);
            if by_variable && source.kind() == std::io::ErrorKind::NotFound {
                unset(finding, "AGENT_BACKUP_CONFIG")
            } else {
                finding.hint("check the path and its permissions")
            }
        }
        E::Value { name, .. } => unset(finding, &first(name)),
        E::Unencrypted => unset(finding, "B2_ENCRYPT"),
        E::Credentials { what } => unset(finding, &first(what)),
        E::Secret { .. } | E::NoSecret => finding.hint("check where the secret comes from"),
        E::NoHome => finding.hint("set HOME to a directory"),
    }
}

/// One look at everything.
struct Case<'a> {
    args: &'a Doctor,
    settings: Settings,
    env: &'a Environment,
    signals: Signals,
    screen: &'a Screen,
}

impl Case<'_> {
    fn examine(&self) -> Vec<Finding> {
        let mut found = self.configuration();
        let (known, more) = self.adapters();
        found.extend(more);
        let env = &self.settings.adapters_env;
        let here: Vec<String> = known
            .iter()
            .filter(|adapter| !adapter.survey(env).roots.is_empty())
            .map(|adapter| adapter.id().to_owned())
            .collect();
        found.extend(self.chosen(&known, &here));
        found.extend(doctor::retention(&known, env));
        let settings = &self.settings;
        let (state, cache) = (settings.state_dir.clone(), settings.cache_dir.clone());
        found.extend(doctor::local(&engine::Dirs { state, cache }));
        found.extend(self.unattended());
        let address = settings.which.address();
        if let Address::Local(path) = &address {
            found.extend(self.disk(path));
        }
        match self.bucket(&address) {
            Ok(more) => {
                found.extend(more);
                found.extend(self.repository(&address, &here));
                if self.args.probe {
                    found.extend(self.probe(&address));
                }
            }
            Err(finding) => found.push(*finding),
        }
        found
    }

    fn wanted(&self, create: bool) -> Wanted {
        Wanted { create, cancel: self.signals.flag(), ..Wanted::default() }
    }

    /// Settings that work, and secrets that lie open.
    fn configuration(&self) -> Vec<Finding> {
        let settings = &self.settings;
        let mut found = Vec::new();
        if let Some(password) = &settings.password
            && let How::File(path) = &password.source.how
        {
            found.extend(self.secret_file("password-file", path, &password.source.from));
        }
        if let Some((path, from)) = settings.storage_key_file() {
            found.extend(self.secret_file("storage-key-file", path, from));
        }
        found.push(if settings.config_found {
            Finding::fine("configuration", format!("{} is right", settings.config_path.display()))
        } else {
            Finding::fine("configuration", "there is no configuration file, and none is needed")
        });
        found
    }

    fn secret_file(&self, check: &'static str, path: &Path, from: &str) -> Option<Finding> {
        if path.exists() {
            return doctor::private(check, path);
        }
        let what = format!("{} is not there, and {from} names it", path.display());
        let finding = Finding::fault(check, what);
        let line = self.config_line(|line| key_of(line) == Some(from));
        let mend = line.and_then(|line| doctor::comment_out(&self.settings.config_path, line));
        Some(match mend {
            Some(command) => finding.mend(command),
            None if self.env.vars.contains_key(from) => finding.mend(format!("unset {from}")),
            None => finding.hint("write that file, readable by you alone"),
        })
    }

    /// The first line of the configuration file that fits, counted from 1.
    fn config_line(&self, fits: impl Fn(&str) -> bool) -> Option<usize> {
        let text = std::fs::read_to_string(&self.settings.config_path).ok()?;
        text.lines().position(fits).map(|n| n + 1)
    }

    /// Adapters, those of the user's that are right; each file that is not.
    fn adapters(&self) -> (Vec<Adapter>, Vec<Finding>) {
        let dir = Some(&self.settings.adapters_dir).filter(|_| !self.env.tool.is_for_one());
        let mut found = Vec::new();
        let off = |path: &Path, what: String| {
            let finding = Finding::fault("adapter", what);
            match quote_path(path) {
                Some(word) => finding.mend(format!("mv {word} {word}.off")),
                None => finding.hint("correct it, or move it away"),
            }
        };
        let mut files: Vec<PathBuf> = dir
            .and_then(|dir| std::fs::read_dir(dir).ok())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
            .collect();
        files.sort();
        for path in files {
            let parsed = match std::fs::read_to_string(&path) {
                Ok(text) => Adapter::parse(&text, &path.display().to_string()).map(drop),
                Err(source) => Err(adapters::AdapterError::Io { path: path.clone(), source }),
            };
            if let Err(error) = parsed {
                found.push(off(&path, format!("{error}; no push works until that is right")));
            }
        }
        match self.settings.adapters() {
            Ok(known) => (known, found),
            Err(error) => {
                // two files with one id: each parses
                if found.is_empty() {
                    found.push(match &error {
                        adapters::AdapterError::Invalid { origin, .. } if dir.is_some() => {
                            off(Path::new(origin), error.to_string())
                        }
                        _ => Finding::fault("adapter", error.to_string()),
                    });
                }
                (dir.map(|_| adapters::builtin()).unwrap_or_default(), found)
            }
        }
    }

    /// What the configuration says to back up, and is not there.
    fn chosen(&self, known: &[Adapter], here: &[String]) -> Vec<Finding> {
        let settings = &self.settings;
        let mut found = Vec::new();
        for id in &settings.push.agents {
            let is_known = known.iter().any(|adapter| adapter.id() == id);
            if is_known && here.contains(id) {
                continue;
            }
            let finding = if is_known {
                let what = format!("push.agents names {id}, which is not on this machine");
                Finding::advice("agent-absent", what)
            } else {
                Finding::fault(
                    "agent-unknown",
                    format!("push.agents names {id}, which nobody knows"),
                )
            };
            let word = format!("\"{id}\"");
            let line =
                self.config_line(|line| line.contains(&word) && !line.trim().starts_with('#'));
            // an id is letters, digits and dashes where it is known; another one is not edited away
            let plain = id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            let file = settings.config_path.canonicalize().ok().and_then(|path| quote_path(&path));
            found.push(match (line, file) {
                (Some(line), Some(file)) if plain => {
                    finding.mend(format!("sed -i.bak '{line}s/{word}[, ]*//' {file}"))
                }
                _ => finding.hint("agent-backup agents --all lists those that are known"),
            });
        }
        for (label, dir) in &settings.push.paths {
            if dir.exists() {
                continue;
            }
            let what = format!("push.paths.{label}: {} is not there", dir.display());
            let finding = Finding::fault("path-gone", what);
            let line = self.config_line(|line| key_of(line) == Some(label));
            let mend = line.and_then(|line| doctor::comment_out(&settings.config_path, line));
            found.push(match mend {
                // making it would back up an empty directory in place of a disk that is not mounted
                Some(command) => finding.mend(command).hint("or mount it, or put it back"),
                None => finding.hint("mount it, put it back, or take it out of the configuration"),
            });
        }
        if here.is_empty() && settings.push.paths.is_empty() {
            let what = "no agent that is known is on this machine, and no directory is configured";
            found.push(
                Finding::advice("agents", what)
                    .hint("agent-backup agents --all says where it looks"),
            );
        } else {
            found.push(Finding::fine("agents", format!("here: {}", here.join(", "))));
        }
        found
    }

    /// A repository in a directory: its room, and whether it would die with what it protects.
    fn disk(&self, path: &Path) -> Vec<Finding> {
        let mut found = vec![doctor::room("repository-room", "repository", path)];
        let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
        let home = device(&self.settings.machine.home);
        if home.is_some() && home == device(path) {
            found.push(
                Finding::advice(
                    "same-disk",
                    "the repository is on the disk of what it protects: if that disk fails, both are gone",
                )
                .hint("agent-backup copy --to ADDRESS copies it to another disk or a bucket"),
            );
        }
        found
    }

    /// What a bucket says of itself; an error ends the look at the repository.
    fn bucket(&self, address: &Address) -> Result<Vec<Finding>, Box<Finding>> {
        let (bucket, prefix) = match address {
            Address::Local(_) => return Ok(Vec::new()),
            Address::S3 { bucket, prefix, .. } | Address::B2 { bucket, prefix } => (bucket, prefix),
        };
        let told = self.store(&self.settings, false).and_then(|store| Ok(store.inquire()?));
        let told = match told {
            Ok(told) => told,
            Err(error) => return Err(Box::new(unreachable("storage", &error))),
        };
        let Some(told) = told else { return Ok(Vec::new()) };
        let now = SystemClock.now_secs();
        let keys = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let b2 =
            matches!(address, Address::B2 { .. }) || told.endpoint.contains(".backblazeb2.com");
        Ok(doctor::bucket(&told, now, (bucket, &keys), b2, |region| self.set_region(region)))
    }

    /// Where the region of the settings comes from decides how it is set right.
    fn set_region(&self, region: &str) -> Option<String> {
        for name in ["AGENT_BACKUP_REGION", "B2_REGION"] {
            if self.env.vars.contains_key(name) {
                return Some(format!("export {name}={}", quote(region)));
            }
        }
        let line = self.config_line(|line| key_of(line) == Some("region"))?;
        let file = quote_path(&self.settings.config_path.canonicalize().ok()?)?;
        let plain = region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        plain.then(|| format!("sed -i.bak '{line}s/=.*/= \"{region}\"/' {file}"))
    }

    fn store(&self, settings: &Settings, create: bool) -> Result<std::sync::Arc<dyn Store>> {
        connect::store(settings, self.wanted(create), self.screen)
    }

    fn repository(&self, address: &Address, here: &[String]) -> Vec<Finding> {
        let settings = &self.settings;
        let connection = match connect::open(settings, self.wanted(false), self.screen) {
            Ok(connection) => connection,
            Err(error) => {
                let finding = unreachable("repository", &error);
                let none = exit::explain(&error).is_some_and(|f| f.exit == Exit::NoRepository);
                return vec![match settings.which {
                    Which::Embedded(_) if none => finding.mend("agent-backup push"),
                    Which::Named(_) if none => finding.mend("agent-backup init"),
                    _ => finding,
                }];
            }
        };
        let local = match address {
            Address::Local(path) => Some(path.as_path()),
            _ => None,
        };
        let about = About {
            dirs: &connection.dirs,
            local,
            agents_here: here,
            push_age_max: self.args.max_age.unwrap_or(PUSH_AGE_MAX),
        };
        match doctor::repository(&connection.session, about) {
            Ok(found) => found,
            Err(error) => vec![unreachable("repository", &error.into())],
        }
    }

    /// Tries the storage out, beside the repository.
    fn probe(&self, address: &Address) -> Vec<Finding> {
        let now_secs = SystemClock.now_secs();
        let suffix = format!("doctor-{}-{now_secs}", std::process::id());
        let Some(scratch) = beside(address, &suffix) else {
            let what =
                "the repository is the whole bucket or disk: there is no place beside it to try";
            return vec![Finding::unchecked("probe", what)];
        };
        let mut settings = self.settings.clone();
        settings.which = Which::Named(scratch.clone());
        let done = self.store(&settings, true).map(|store| doctor::probe(store.as_ref()));
        self.screen.set_place(&address.to_string());
        let mut found = match done {
            Ok(probe) => {
                let mut found = probe.findings;
                if !probe.left.is_empty() {
                    let what = format!("{} stays at {scratch}", probe.left.join(" and "));
                    found.push(
                        Finding::advice("probe-left", what)
                            .hint("remove it with a key that may delete"),
                    );
                }
                found
            }
            Err(error) => vec![unreachable("probe", &error)],
        };
        if let Address::Local(path) = &scratch
            && path.exists()
            && let Err(e) = std::fs::remove_dir_all(path)
        {
            found.push(Finding::advice("probe-left", format!("{}: {e}", path.display())));
        }
        found
    }
}

/// An address that is not the repository's and does not lie in it.
fn beside(address: &Address, suffix: &str) -> Option<Address> {
    let longer = |prefix: &String| (!prefix.is_empty()).then(|| format!("{prefix}-{suffix}"));
    Some(match address {
        Address::Local(path) => {
            let name = path.file_name()?.to_str()?;
            Address::Local(path.with_file_name(format!("{name}.{suffix}")))
        }
        Address::S3 { endpoint, bucket, prefix } => Address::S3 {
            endpoint: endpoint.clone(),
            bucket: bucket.clone(),
            prefix: longer(prefix)?,
        },
        Address::B2 { bucket, prefix } => {
            Address::B2 { bucket: bucket.clone(), prefix: longer(prefix)? }
        }
    })
}

/// What other commands would say and end with.
fn unreachable(check: &'static str, error: &anyhow::Error) -> Finding {
    let refused = error.chain().find_map(|cause| cause.downcast_ref::<store::Error>());
    if let Some(finding) = refused.and_then(doctor::key_refused) {
        return finding;
    }
    match exit::explain(error) {
        Some(failure) => {
            let finding = Finding::fault(check, failure.message);
            match failure.hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            }
        }
        None => Finding::fault(check, error.to_string()),
    }
}

/// The key of a line of TOML; none of a comment.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    Some(key.trim().trim_matches('"')).filter(|key| !key.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_never_lies_in_the_repository() {
        let shown = |text: &str| {
            beside(&Address::parse(text).unwrap(), "doctor-1").map(|address| address.to_string())
        };
        assert_eq!(shown("/srv/backup").as_deref(), Some("/srv/backup.doctor-1"));
        assert_eq!(shown("b2:bucket/a/b").as_deref(), Some("b2:bucket/a/b-doctor-1"));
        assert_eq!(
            shown("s3:https://h.example/bucket/p").as_deref(),
            Some("s3:https://h.example/bucket/p-doctor-1")
        );
        assert_eq!(shown("b2:bucket"), None);
        assert_eq!(shown("/"), None);
    }

    #[test]
    fn a_commented_key_is_no_key() {
        assert_eq!(key_of("  password_file = \"~/p\""), Some("password_file"));
        assert_eq!(key_of("\"my notes\" = \"~/n\""), Some("my notes"));
        assert_eq!(key_of("#password_file = \"~/p\""), None);
        assert_eq!(key_of("[push.paths]"), None);
    }
}
