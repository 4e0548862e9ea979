//! What earlier snapshots of this machine say: what is kept already, and what was there last.
//!
//! Every snapshot of a machine carries all that is kept of the machine, whichever roots it covers: so
//! the newest one has it all. What was there last is another matter: for each label it is in the newest
//! snapshot that has the label as a root, which may be an older one. Both come from the memo where
//! that fits, else from the snapshots. A snapshot that does not read is told and passed over for an
//! older one.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use repo::{OpId, Reader, RootRecord, Snapshot, gone};

use super::Since;
use super::kept::{Kept, tidy};
use super::memo::{LabelMemo, Memo};
use crate::error::Result;
use crate::monitor::Problem;
use crate::pull::strip_path;
use crate::session::Session;

/// Who is told of what does not read.
pub(crate) type Tell<'a> = &'a (dyn Fn(Problem) + Sync);

/// Earlier snapshots.
pub(crate) struct Earlier<'a> {
    session: &'a Session,
    memo: Memo,
    /// The newest one.
    newest: Option<Snapshot>,
    /// Snapshots whose part of what is kept is not carried on as a whole, because one does not read.
    pub(crate) unread: Vec<OpId>,
    /// All of this machine, newest first; listed when they are needed.
    all: OnceCell<Vec<Snapshot>>,
    reader: OnceCell<Reader<'a>>,
}

impl<'a> Earlier<'a> {
    /// `previous` is this machine's newest snapshot, if it is known to count.
    pub(crate) fn new(session: &'a Session, previous: Option<OpId>) -> Result<Self> {
        let (all, reader) = (OnceCell::new(), OnceCell::new());
        let memo = Memo::load(session);
        let (newest, unread) = (None, Vec::new());
        let mut earlier = Self { session, memo, newest, unread, all, reader };
        let known = previous.and_then(|id| session.snapshot(&id).ok());
        let known = known.filter(|s| counts(s) && s.machine == session.machine_id);
        earlier.newest = match known {
            Some(known) => Some(known),
            None => earlier.all()?.first().cloned(),
        };
        Ok(earlier)
    }

    pub(crate) fn newest(&self) -> Option<&Snapshot> {
        self.newest.as_ref()
    }

    /// All of this machine, newest first. One that does not open is for `verify` to tell of.
    fn all(&self) -> Result<&[Snapshot]> {
        if let Some(all) = self.all.get() {
            return Ok(all);
        }
        let mut all = Vec::new();
        for id in self.session.repo.snapshot_ids()? {
            match self.session.snapshot(&id) {
                Ok(snapshot) => all.push(snapshot),
                Err(error) if is_damage(&error) => {
                    tracing::warn!(%error, "a snapshot does not open");
                }
                Err(error) => return Err(error),
            }
        }
        all.retain(|s| s.machine == self.session.machine_id && counts(s));
        all.sort_by_key(|s| std::cmp::Reverse(s.order()));
        Ok(self.all.get_or_init(|| all))
    }

    pub(crate) fn reader(&self) -> Result<&Reader<'a>> {
        if self.reader.get().is_none() {
            let reader = Reader::open(&self.session.repo, self.session.cache.as_ref())?;
            drop(self.reader.set(reader));
        }
        Ok(self.reader.get().expect("it was just set"))
    }

    /// The newest snapshot that has a label as a root.
    pub(crate) fn holder(&self, label: &str) -> Result<Option<Snapshot>> {
        let has = |s: &&Snapshot| s.roots.iter().any(|root| root.label == label);
        match &self.newest {
            Some(newest) if has(&newest) => Ok(Some(newest.clone())),
            _ => Ok(self.all()?.iter().find(has).cloned()),
        }
    }

    /// The holder that comes after this one, which does not read.
    pub(crate) fn older_holder(&self, label: &str, than: &OpId) -> Result<Option<Snapshot>> {
        let has = |s: &&Snapshot| s.roots.iter().any(|root| root.label == label);
        let mut holders = self.all()?.iter().filter(has).skip_while(|s| s.id != *than);
        holders.next();
        Ok(holders.next().cloned())
    }

    /// What is remembered of a label, if it is of this snapshot.
    pub(crate) fn memo(&self, label: &str, base: &OpId) -> Option<&LabelMemo> {
        self.memo.labels.get(label).filter(|memo| memo.base == *base)
    }

    /// What is remembered of all labels.
    pub(crate) fn memos(&self) -> impl Iterator<Item = (&String, &LabelMemo)> {
        self.memo.labels.iter()
    }

    /// Roots of agents that this machine had and that are not among these labels: each as its newest
    /// snapshot has it. Of one from which nothing can have vanished since, the memo says so; but what of
    /// it could not be looked at is looked for again.
    pub(crate) fn roots_but(
        &self,
        labels: &BTreeSet<&str>,
        kept: &[Kept],
    ) -> Result<Vec<RootRecord>> {
        let Some(newest) = &self.newest else { return Ok(Vec::new()) };
        let is_other = |label: &str| !labels.contains(label);
        let is_unseen = |one: &Kept| {
            let below = |label: &&str| strip_path(&one.path, label.as_bytes()).is_some();
            one.since == Since::Unseen && !labels.iter().any(below)
        };
        let is_live = |(label, memo): (&String, &LabelMemo)| {
            is_other(label.as_str()) && !memo.live.is_empty()
        };
        let is_all_known = self.memo.snapshot == Some(newest.id);
        if is_all_known && !self.memos().any(is_live) && !kept.iter().any(is_unseen) {
            return Ok(Vec::new());
        }
        let mut roots = BTreeMap::<String, RootRecord>::new();
        for root in self.all()?.iter().flat_map(|snapshot| &snapshot.roots) {
            if root.agent.is_some() && is_other(&root.label) {
                roots.entry(root.label.clone()).or_insert_with(|| root.clone());
            }
        }
        Ok(roots.into_values().collect())
    }

    /// Takes what is kept already.
    pub(crate) fn take_kept(&mut self, tell: Tell<'_>) -> Result<Vec<Kept>> {
        let Some(newest) = self.newest.clone() else { return Ok(Vec::new()) };
        if self.memo.snapshot == Some(newest.id) {
            return Ok(std::mem::take(&mut self.memo.kept));
        }
        match read(self.reader()?, &newest) {
            Ok(kept) => return Ok(kept),
            Err(error) if is_damage(&error) => tell(unread(&newest, "what it keeps", &error)),
            Err(error) => return Err(error),
        }
        let older: Vec<Snapshot> =
            self.all()?.iter().filter(|s| s.id != newest.id).cloned().collect();
        // what vanished between the two is here and there, and nowhere from now on
        self.unread.push(newest.id);
        for snapshot in older {
            match read(self.reader()?, &snapshot) {
                Ok(kept) => {
                    self.unread.push(snapshot.id);
                    return Ok(kept);
                }
                Err(error) if is_damage(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }
}

/// A safety snapshot keeps nothing, and may hold a part of a root.
fn counts(snapshot: &Snapshot) -> bool {
    !snapshot.is_safety()
}

/// Reads what a snapshot keeps; of its tree, that part alone.
pub(crate) fn read(reader: &Reader<'_>, snapshot: &Snapshot) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    if snapshot.stats.gone_entries == 0 {
        return Ok(kept);
    }
    reader.walk_where(
        &snapshot.tree,
        &|piece| piece.reaches_below(gone::NAME),
        &mut |path, entry| {
            let Some((name, path)) = gone::split(&path) else { return Ok(()) };
            let Some(since) = Since::parse(name) else { return Ok(()) };
            kept.push(Kept { since, path: path.to_vec(), entry, blocks: Vec::new() });
            Ok(())
        },
    )?;
    for one in &mut kept {
        one.blocks = reached(reader, one)?;
    }
    tidy(&mut kept);
    Ok(kept)
}

/// What an entry's content map reaches, if that is not in the entry. Of a map that does not read, the
/// map itself: it is looked for among what is lost later, and spoils no other entry here.
pub(crate) fn reached(reader: &Reader<'_>, kept: &Kept) -> Result<Vec<repo::BlockId>> {
    let map = &kept.entry.map;
    if map.base.is_none() {
        return Ok(Vec::new());
    }
    let mut blocks: Vec<_> = match reader.extents(map).map_err(crate::Error::from) {
        Ok(extents) => extents.iter().map(|extent| extent.block).collect(),
        Err(error) if is_damage(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    blocks.extend(map.own_blocks().copied());
    blocks.sort_unstable();
    blocks.dedup();
    Ok(blocks)
}

/// What a snapshot that does not read means for whoever looks for what vanished.
pub(crate) fn unread(snapshot: &Snapshot, what: &str, error: &crate::Error) -> Problem {
    let what = format!(
        "{what} cannot be read in snapshot {} ({error}); an older one is taken: \
         'agent-backup verify' says what is damaged",
        &snapshot.id.hex()[..8]
    );
    Problem { path: gone::NAME.to_vec(), what, notice: false }
}

/// Damage, not trouble with the store.
pub(crate) fn is_damage(error: &crate::Error) -> bool {
    use repo::Error::{Corrupt, Missing, NoSuchSnapshot, WrongKey};
    matches!(
        error,
        crate::Error::Repo(Corrupt { .. } | Missing { .. } | WrongKey { .. } | NoSuchSnapshot(_))
    )
}
