//! A repository that is open: its store, its configuration and its keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use store::Store;

use crate::cache::Cache;
use crate::config::{Config, Params};
use crate::error::{Error, Result};
use crate::id::{BlockId, OpId, RepoId};
use crate::index::{self, Index, IndexObject};
use crate::keys::{BlockKind, Keyring, Keys};
use crate::limits::OBJECT_BYTES_MAX;
use crate::object::{self, ObjectKind};
use crate::snapshot::Snapshot;

/// The index is listed again this often when objects vanish while they are read.
const INDEX_LOOKS_MAX: usize = 4;

/// An index object as it was found.
#[derive(Debug)]
pub(crate) struct ListedIndex {
    pub(crate) name: String,
    pub(crate) level: u8,
    /// Bytes of the object.
    pub(crate) bytes: u64,
    pub(crate) object: IndexObject,
}

/// Times that something is read before it is called damaged.
pub(crate) const READS_MAX: usize = 3;

/// What is done about an object that does not open: an error ends the run.
pub(crate) type Damaged<'d> = dyn FnMut(&str, Error) -> Result<()> + 'd;

/// For readers and pushes: what an index object named cannot be found without it, and a push stores
/// it again. Nothing is believed because of it, so nothing is harmed.
#[expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "as `stop`, which needs both"
)]
pub(crate) fn pass_over(_: &str, error: Error) -> Result<()> {
    tracing::warn!("{error}; going on without it: agent-backup repair index makes it anew");
    Ok(())
}

/// For collectors: what does not open may name what lives.
pub(crate) fn stop(_: &str, error: Error) -> Result<()> {
    Err(error)
}

/// An open repository.
#[derive(Debug, Clone)]
pub struct Repository {
    store: Arc<dyn Store>,
    config: Config,
    keys: Keys,
}

impl Repository {
    /// Makes a new repository with a random keyring; no key slot is in it yet. The caller adds
    /// slots ([`keys::slots`](crate::keys)) and then writes `config` with
    /// [`Repository::publish`]: a repository exists from then on.
    pub fn create(store: Arc<dyn Store>, params: Params, created_secs: u64) -> Result<Self> {
        if !store.list("config")?.is_empty() {
            return Err(Error::AlreadyExists { address: store.address() });
        }
        refuse_without_config(&*store)?;
        let config = Config::new(RepoId(crate::random::bytes()), params, created_secs)?;
        Ok(Self { store, config, keys: Keys::new(Keyring::random()) })
    }

    /// Like [`Repository::create`], with the keyring and sizes of another repository: blocks have the
    /// same ids in both, so that each can mend the other.
    pub fn create_like(store: Arc<dyn Store>, other: &Self, created_secs: u64) -> Result<Self> {
        let made = Self::create(store, other.config.params, created_secs)?;
        Ok(Self { keys: Keys::new(other.keys.keyring().clone()), ..made })
    }

    /// Writes `config`, the last object of a new repository.
    pub fn publish(&self) -> Result<()> {
        let bytes = self.config.encode(self.keys.keyring());
        Ok(self.store.put("config", vec![bytes.into()])?)
    }

    /// Reads the configuration of the repository in a store, before any key is known.
    pub fn read_config(store: &dyn Store) -> Result<Config> {
        match store.get("config") {
            Ok(bytes) => Config::parse(&bytes),
            Err(store::Error::NotFound { .. }) => {
                refuse_without_config(store)?;
                Err(Error::NoRepository { address: store.address() })
            }
            Err(store::Error::NoSuchStore { .. }) => {
                Err(Error::NoRepository { address: store.address() })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Opens the repository whose `config` was read, with a keyring that a slot gave.
    pub fn open(store: Arc<dyn Store>, config: Config, keyring: Keyring) -> Result<Self> {
        config.verify(&keyring)?;
        Ok(Self { store, config, keys: Keys::new(keyring) })
    }

    /// Its id.
    pub fn id(&self) -> &RepoId {
        &self.config.repo
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Its store.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Every index table there is, also of condemned packs: for reading. An object that does not
    /// open is passed over: what no other one names is missing then, and told as that.
    pub fn load_index(&self, cache: Option<&Cache>, with_chunks: bool) -> Result<Index> {
        let mut index = Index::default();
        self.each_index_object(cache, &mut pass_over, &mut |listed| {
            listed.object.packs.iter().try_for_each(|table| index.add(table, with_chunks))
        })?;
        index.sort();
        Ok(index)
    }

    /// Lengths of the chunks of every data block, coded as in its row.
    pub fn chunk_lengths(&self, cache: Option<&Cache>) -> Result<HashMap<BlockId, Vec<u8>>> {
        let mut lengths = HashMap::new();
        self.each_index_object(cache, &mut pass_over, &mut |listed| {
            for row in listed.object.packs.into_iter().flat_map(|table| table.blocks) {
                if row.kind == BlockKind::Data {
                    lengths.entry(row.id).or_insert(row.chunk_lens);
                }
            }
            Ok(())
        })?;
        Ok(lengths)
    }

    /// Lists and reads the index objects, one at a time; those the cache has are not fetched again.
    /// What is to be said of one that does not open, however often it is read, decides `damaged`: a
    /// collector must stop there, a reader need not. Returns how many there were.
    pub(crate) fn each_index_object(
        &self,
        cache: Option<&Cache>,
        damaged: &mut Damaged<'_>,
        visit: &mut dyn FnMut(ListedIndex) -> Result<()>,
    ) -> Result<usize> {
        let (mut visited, mut looks) = (HashSet::new(), 0);
        let listed = loop {
            let listed = self.store.list("index/")?;
            let mut vanished = false;
            for item in &listed {
                let Some((level, _, _)) = index::parse_name(&item.name) else {
                    let what = "its name is not that of an index object";
                    return Err(Error::corrupt(&item.name, what));
                };
                if visited.contains(&item.name) {
                    continue;
                }
                let object = match self.index_object(cache, &item.name, item.size) {
                    Ok(Some(object)) => object,
                    Ok(None) => {
                        vanished = true;
                        continue;
                    }
                    Err(error @ Error::Corrupt { .. }) => {
                        visited.insert(item.name.clone());
                        damaged(&item.name, error)?;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                visited.insert(item.name.clone());
                visit(ListedIndex { name: item.name.clone(), level, bytes: item.size, object })?;
            }
            looks += 1;
            // merged between LIST and GET: its rows are in an object that another listing shows
            if !vanished || looks >= INDEX_LOOKS_MAX {
                break listed;
            }
        };
        if let Some(cache) = cache {
            let names: HashSet<&str> = listed.iter().map(|item| item.name.as_str()).collect();
            cache.retain_objects("index/", &names);
        }
        Ok(listed.len())
    }

    /// Reads one index object of this length; `None` if it is gone.
    pub(crate) fn index_object(
        &self,
        cache: Option<&Cache>,
        name: &str,
        size: u64,
    ) -> Result<Option<IndexObject>> {
        if size > OBJECT_BYTES_MAX {
            return Err(Error::corrupt(name, "larger than any object of its kind"));
        }
        let read = |bytes: &[u8]| {
            object::open_record(&self.keys, self.id(), ObjectKind::Index, name, bytes)
        };
        // another length in the store is another object, damaged or not: it is read again
        if let Some(bytes) = cache.and_then(|c| c.object(name))
            && bytes.len() as u64 == size
            && let Ok(object) = read(&bytes)
        {
            return Ok(Some(object));
        }
        let Some((object, bytes)) = self.read_thrice(name, read)? else { return Ok(None) };
        if let Some(cache) = cache {
            cache.put_object(name, &bytes);
        }
        Ok(Some(object))
    }

    /// Reads and opens an object; `None` if it is not there. One that does not open is read again,
    /// over new connections: a bad read is more common than a bad object.
    pub(crate) fn read_thrice<T>(
        &self,
        name: &str,
        open: impl Fn(&[u8]) -> Result<T>,
    ) -> Result<Option<(T, bytes::Bytes)>> {
        let mut reads = 0;
        loop {
            let bytes = match self.store.get(name) {
                Err(store::Error::NotFound { .. }) => return Ok(None),
                other => other?,
            };
            reads += 1;
            match open(&bytes) {
                Ok(object) => return Ok(Some((object, bytes))),
                Err(Error::Corrupt { .. }) if reads < READS_MAX => self.store.renew_connections(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Ids of all snapshots in the store, those of dead operations left out.
    pub fn snapshot_ids(&self) -> Result<Vec<OpId>> {
        let ids = self.ids_under("snap/")?;
        let dead: HashSet<OpId> = self.ids_under("dead/")?.into_iter().collect();
        Ok(ids.into_iter().filter(|id| !dead.contains(id)).collect())
    }

    /// Operation ids of the objects under a prefix such as `dead/`.
    pub(crate) fn ids_under(&self, prefix: &str) -> Result<Vec<OpId>> {
        let dir = prefix.split_inclusive('/').next().expect("a prefix names a directory");
        self.store
            .list(prefix)?
            .iter()
            .map(|item| {
                item.name
                    .strip_prefix(dir)
                    .and_then(OpId::from_hex)
                    .ok_or_else(|| Error::corrupt(&item.name, "its name holds no operation id"))
            })
            .collect()
    }

    /// [`Error::WrongKey`] if there are blocks of a later epoch than the keys that are open here.
    pub fn refuse_old_keys(&self, cache: Option<&Cache>) -> Result<()> {
        let index = self.load_index(cache, false)?;
        let newest = index.blocks().iter().map(|at| at.row.epoch).max().unwrap_or_default();
        if newest > self.keys.epoch_now() {
            return Err(self.keys.epoch_unknown(newest));
        }
        Ok(())
    }

    /// Reads one snapshot; also the BLAKE3 of its sealed object.
    pub fn snapshot(&self, cache: Option<&Cache>, id: &OpId) -> Result<(Snapshot, [u8; 32])> {
        let name = Snapshot::object_name(id);
        let read = |bytes: &[u8]| -> Result<(Snapshot, [u8; 32])> {
            let snapshot: Snapshot =
                object::open_record(&self.keys, self.id(), ObjectKind::Snapshot, &name, bytes)?;
            if snapshot.id != *id {
                return Err(Error::corrupt(&name, "it is another snapshot"));
            }
            Ok((snapshot, *blake3::hash(bytes).as_bytes()))
        };
        if let Some(bytes) = cache.and_then(|c| c.object(&name))
            && let Ok(found) = read(&bytes)
        {
            return Ok(found);
        }
        let Some((found, bytes)) = self.read_thrice(&name, read)? else {
            return Err(Error::Missing { object: name });
        };
        if let Some(cache) = cache {
            cache.put_object(&name, &bytes);
        }
        Ok(found)
    }

    /// Every snapshot, oldest first. A snapshot that does not open is an error: it is damage.
    pub fn snapshots(&self, cache: Option<&Cache>) -> Result<Vec<Snapshot>> {
        let mut listed = self.snapshots_listed(cache)?;
        if listed.damaged.is_empty() {
            return Ok(listed.snapshots);
        }
        Err(listed.damaged.swap_remove(0).1)
    }

    /// Every snapshot, those that do not open apart: for whoever does more good with the others than
    /// with none, and tells of the damage.
    pub fn snapshots_listed(&self, cache: Option<&Cache>) -> Result<Listed> {
        let mut listed = Listed::default();
        for id in self.snapshot_ids()? {
            match self.snapshot(cache, &id) {
                Ok((snapshot, _)) => listed.snapshots.push(snapshot),
                Err(Error::Missing { .. }) => {} // forgotten between LIST and GET
                Err(error @ Error::Corrupt { .. }) => listed.damaged.push((id, error)),
                Err(e) => return Err(e),
            }
        }
        listed.snapshots.sort_by_key(|s| (s.finished_nanos, s.id));
        Ok(listed)
    }
}

/// The snapshots of a repository, as far as they open.
#[derive(Debug, Default)]
pub struct Listed {
    /// Those that do, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Those that do not, and why. When one was made and of what is not known: it may be the newest.
    pub damaged: Vec<(OpId, Error)>,
}

/// A store with snapshots and without `config` is a damaged repository and no place for a new one.
fn refuse_without_config(store: &dyn Store) -> Result<()> {
    if store.list("snap/")?.is_empty() {
        return Ok(());
    }
    Err(Error::Missing { object: "config".into() })
}
