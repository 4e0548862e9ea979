//! An open repository on this machine: store, keys, local state, cache and clock together.

use std::path::PathBuf;
use std::sync::Arc;

use repo::config::{Config, Params};
use repo::keys::{self, Kdf, MachineKey, Note, RecoveryCode, SecretInput};
use repo::{Cache, Listed, MachineId, OpId, Repository, SlotId, Snapshot};
use store::Store;

use crate::clock::Clock;
use crate::damaged::DamagedSnapshot;
use crate::error::{Error, Result};
use crate::state::{self, Lock, StateDir};

/// Directories of our own.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// State: machine id, machine keys, what was seen. Losing it loses protection.
    pub state: PathBuf,
    /// Cache: may be deleted at any time.
    pub cache: PathBuf,
}

/// Who runs this.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Name of the machine.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Home directory.
    pub home: PathBuf,
    /// Operating system: `linux`, `macos`, `windows`.
    pub os: String,
}

/// Sizes of a new repository: see `docs/decisions/0002-chunk-and-block-sizes.md`.
pub const PARAMS: Params = Params {
    chunk_bytes_min: chunker::Sizes::DEFAULT.min,
    chunk_bytes_avg: chunker::Sizes::DEFAULT.avg,
    chunk_bytes_max: chunker::Sizes::DEFAULT.max,
    block_bytes_data: 2 << 20,
    block_bytes_pages: 2 << 20,
    zstd_level: 3,
};

/// What `init` makes.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// A passphrase slot is made if there is one.
    pub passphrase: Option<SecretInput>,
    /// Label of the machine slot.
    pub label: String,
    /// Cost of passphrase and recovery slots.
    pub kdf: Kdf,
    /// Take the keyring and the sizes of this repository.
    pub keys_of: Option<Repository>,
}

/// An open repository on this machine.
#[derive(Debug)]
pub struct Session {
    pub(crate) repo: Repository,
    pub(crate) cache: Option<Cache>,
    pub(crate) state: StateDir,
    pub(crate) machine_id: MachineId,
    pub(crate) machine: Machine,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Session {
    /// Makes a repository and gives its recovery code, which the caller shows once.
    pub fn init(
        store: Arc<dyn Store>,
        options: &InitOptions,
        dirs: &Dirs,
        machine: Machine,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, RecoveryCode)> {
        let mut shown = None;
        let show = |code: &RecoveryCode| {
            shown = Some(code.clone());
            Ok(())
        };
        let session = Self::init_showing(store, options, dirs, machine, clock, show)?;
        Ok((session, shown.expect("init shows a code before it succeeds")))
    }

    /// Makes a repository: machine slot (its key file 0600 in the state directory), recovery slot,
    /// passphrase slot; `config` last. `show` is called with the recovery code before that: a
    /// crash may leave a code without a repository, never a repository whose code nobody saw.
    pub fn init_showing(
        store: Arc<dyn Store>,
        options: &InitOptions,
        dirs: &Dirs,
        machine: Machine,
        clock: Arc<dyn Clock>,
        show: impl FnOnce(&RecoveryCode) -> Result<()>,
    ) -> Result<Self> {
        let now = u64::try_from(clock.now_secs()).unwrap_or_default();
        let repo = match &options.keys_of {
            Some(other) => Repository::create_like(store, other, now)?,
            None => Repository::create(store, PARAMS, now)?,
        };
        let note = |label: &str| Note { label: label.to_owned(), created_secs: now };
        let add = |secret: &SecretInput, label: &str| {
            let keyring = repo.keys().keyring();
            keys::add(repo.store(), repo.id(), keyring, secret, &note(label), options.kdf)
        };
        let code = RecoveryCode::random();
        add(&SecretInput::Recovery(code.clone()), "recovery code")?;
        if let Some(passphrase) = &options.passphrase {
            add(passphrase, "passphrase")?;
        }
        let key = MachineKey::random(*repo.id());
        add(&SecretInput::Machine(key.clone()), &options.label)?;
        let state = StateDir::open(&dirs.state, repo.id())?;
        key.write(&StateDir::machine_key(&dirs.state, repo.id()))?;
        show(&code)?;
        repo.publish()?;
        Self::assemble(repo, state, dirs, machine, clock)
    }

    /// Opens a repository. The machine key is used if this machine has one; otherwise `secret` is
    /// asked for one of the others.
    pub fn open(
        store: Arc<dyn Store>,
        secret: impl FnOnce(&Config) -> Result<Option<SecretInput>>,
        dirs: &Dirs,
        machine: Machine,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let config = Repository::read_config(store.as_ref())?;
        let secret = if let Some(secret) = secret(&config)? {
            secret
        } else {
            let path = StateDir::machine_key(&dirs.state, &config.repo);
            SecretInput::Machine(MachineKey::read(&path, &config.repo)?)
        };
        let (keyring, _) = keys::open_any(store.as_ref(), &config.repo, &secret)?;
        let repo = Repository::open(store, config, keyring)?;
        let state = StateDir::open(&dirs.state, repo.id())?;
        Self::assemble(repo, state, dirs, machine, clock)
    }

    /// True if this machine has a key of its own for the repository.
    pub fn has_machine_key(dirs: &Dirs, config: &Config) -> bool {
        StateDir::machine_key(&dirs.state, &config.repo).exists()
    }

    /// The slot that this machine's own key opens, if it has one.
    pub fn own_slot(&self, dirs: &Dirs) -> Option<SlotId> {
        let path = StateDir::machine_key(&dirs.state, self.repo.id());
        MachineKey::read(&path, self.repo.id()).ok().map(|key| key.slot)
    }

    /// [`repo::Error::WrongKey`] if there are later keys than those that are open here: blocks say so, or
    /// this machine's own key, which a rotation replaces at once.
    pub fn refuse_old_keys(&self, dirs: &Dirs) -> Result<()> {
        self.repo.refuse_old_keys(self.cache.as_ref())?;
        let path = StateDir::machine_key(&dirs.state, self.repo.id());
        let Ok(own) = MachineKey::read(&path, self.repo.id()) else { return Ok(()) };
        let secret = SecretInput::Machine(own);
        match keys::open_any(self.repo.store(), self.repo.id(), &secret) {
            Ok((own, _)) => Ok(self.repo.keys().refuse_older_than(&own)?),
            Err(_) => Ok(()), // it opens nothing, and knows nothing
        }
    }

    /// Gives this machine a key of its own, so that later runs need no passphrase, in the place of the one
    /// that it has. The new slot, and the one that it took the place of. [`repo::Error::WrongKey`] if the
    /// keys were rotated since the secret was made that opened the repository.
    pub fn enroll(&self, dirs: &Dirs, label: &str) -> Result<(SlotId, Option<SlotId>)> {
        let _lock = self.state.lock()?;
        self.refuse_old_keys(dirs)?;
        let old = self.own_slot(dirs);
        let now = u64::try_from(self.clock.now_secs()).unwrap_or_default();
        let key = MachineKey::random(*self.repo.id());
        let note = Note { label: label.to_owned(), created_secs: now };
        keys::add(
            self.repo.store(),
            self.repo.id(),
            self.repo.keys().keyring(),
            &SecretInput::Machine(key.clone()),
            &note,
            Kdf::DEFAULT,
        )?;
        key.write(&StateDir::machine_key(&dirs.state, self.repo.id()))?;
        let replaced = match old {
            Some(old) => match keys::remove(self.repo.store(), old) {
                Ok(()) => Some(old),
                Err(repo::Error::Missing { .. }) => None, // somebody removed it before
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        Ok((key.slot, replaced))
    }

    fn assemble(
        repo: Repository,
        state: StateDir,
        dirs: &Dirs,
        machine: Machine,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let machine_id = state::machine_id(&dirs.state)?;
        let dir = dirs.cache.join(repo.id().hex());
        let cache = state::private_dir(&dir)
            .and_then(|()| Ok(Cache::open(&dir.join("cache.db"))?))
            .inspect_err(|e| tracing::warn!("no local cache: {e}"))
            .ok();
        Ok(Self { repo, cache, state, machine_id, machine, clock })
    }

    /// The repository.
    pub fn repo(&self) -> &Repository {
        &self.repo
    }

    /// The local cache, if it works.
    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// This machine's id.
    pub fn machine_id(&self) -> &MachineId {
        &self.machine_id
    }

    /// Keeps pushes of this machine to this repository away until it is dropped, also by a crash. Nothing
    /// waits for it: [`Error::Busy`] names who has it. Verbs that write take it themselves.
    pub fn lock(&self) -> Result<Lock> {
        self.state.lock()
    }

    /// Every snapshot, oldest first.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        Ok(self.repo.snapshots(self.cache.as_ref())?)
    }

    /// Every snapshot, those that do not open apart.
    pub fn snapshots_listed(&self) -> Result<(Vec<Snapshot>, Vec<DamagedSnapshot>)> {
        let Listed { snapshots, damaged } = self.repo.snapshots_listed(self.cache.as_ref())?;
        Ok((snapshots, damaged.into_iter().map(DamagedSnapshot::new).collect()))
    }

    /// One snapshot by its full id.
    pub fn snapshot(&self, id: &OpId) -> Result<Snapshot> {
        Ok(self.repo.snapshot(self.cache.as_ref(), id)?.0)
    }

    /// Picks a snapshot: `latest`, `latest~N`, an id or a unique beginning of one (at least four
    /// digits). `latest` and what it counts back from are no safety snapshots;
    /// [`Error::MayBeNewest`] if one does not open. `agent` narrows `latest` to snapshots that hold the agent, `host` to a machine.
    pub fn select(&self, spec: &str, agent: Option<&str>, host: Option<&str>) -> Result<Snapshot> {
        let fits = |s: &Snapshot| {
            agent.is_none_or(|a| s.agents().contains(&a)) && host.is_none_or(|h| s.host == h)
        };
        let none = |why: String| Error::Repo(repo::Error::NoSuchSnapshot(why));
        if let Some(back) = spec.strip_prefix("latest") {
            let back: usize = match back.strip_prefix('~') {
                None if back.is_empty() => 0,
                Some(n) => {
                    n.parse().map_err(|_| none(format!("{spec}: N of latest~N is a number")))?
                }
                None => return Err(none(format!("{spec}: no snapshot has this name"))),
            };
            let Listed { snapshots, damaged } = self.repo.snapshots_listed(self.cache.as_ref())?;
            let fitting: Vec<Snapshot> =
                snapshots.into_iter().filter(|s| fits(s) && !s.is_safety()).collect();
            let count = fitting.len();
            let found = fitting.into_iter().rev().nth(back);
            if let Some((_, damage)) = damaged.into_iter().next() {
                return Err(Error::MayBeNewest { damage, other: found.map(|s| s.id) });
            }
            return found.ok_or_else(|| {
                none(format!(
                    "{spec}: there are {count} snapshots that fit; see `agent-backup snapshots`"
                ))
            });
        }
        if spec.len() < 4 || !spec.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(none(format!(
                "{spec}: a snapshot is `latest`, `latest~N` or at least four digits of its id"
            )));
        }
        let spec = spec.to_ascii_lowercase();
        let ids: Vec<OpId> = self
            .repo
            .snapshot_ids()?
            .into_iter()
            .filter(|id| id.hex().starts_with(&spec))
            .collect();
        match ids.as_slice() {
            [id] => self.snapshot(id),
            [] => Err(none(format!("{spec}: no snapshot has an id that begins so"))),
            _ => Err(none(format!("{spec}: {} snapshots have ids that begin so", ids.len()))),
        }
    }
}
