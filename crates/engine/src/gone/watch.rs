//! What a run sees of the sources, and what follows from it for what is kept.
//!
//! In: entries of the new tree in path order, and what earlier snapshots say.
//! Out: [`Settled`]: what is kept from now on. A file is *gone* if an earlier snapshot has it, the new
//! tree has no file of its name, and looking for it at the source finds nothing. One that is there and
//! was left out by a rule is not gone: somebody wanted it out. One whose place cannot be looked at may
//! be gone, so it is kept as unseen until somebody can look. One whose content turned up under another
//! name of the same root was moved.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use repo::limits::PATH_BYTES_MAX;
use repo::{BlockId, Entry, Kind, OpId, RootRecord, Snapshot, gone, path_order};

use super::alarm::{self, Vanished};
use super::earlier::{Earlier, Tell, is_damage, reached, unread};
use super::kept::{self, Kept, same_content};
use super::memo::{LabelMemo, PathHash, path_hash};
use super::{Options, Since};
use crate::error::Result;
use crate::leftover::is_temp_name;
use crate::monitor::Problem;
use crate::pull::strip_path;
use crate::push::PushRoot;
use crate::scan::{Filter, SourceRoot, Verdict};
use crate::session::Session;

/// Suffixes of files that belong to a database as it lay: they come and go with it.
const SIDE_FILES: [&[u8]; 3] = [b"-wal", b"-shm", b"-journal"];

/// What is put before a path when it is gone.
const SINCE_BYTES: usize = "~gone/20260102T030405Z/".len();

/// What a file's name ends with after its agent compressed it in place.
const COMPRESSED: [&[u8]; 2] = [b".zst", b".gz"];

/// What is known of a file that the new tree does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Gone,
    Unseen,
    /// It is there, or was excluded: left out because somebody wants it so.
    LeftOut,
}

/// A root of which vanished files are kept.
struct Root {
    record: RootRecord,
    filter: Arc<dyn Filter>,
    files: Option<Vec<Vec<u8>>>,
    /// Everything of it is kept, not only what its agent deletes by itself.
    all: bool,
    dir: PathBuf,
    /// The directory, if it can be opened.
    source: Option<SourceRoot>,
    /// The push covers it; false: it is not on this machine any more.
    covered: bool,
    /// Paths of the new tree that are kept when they vanish.
    live: Vec<PathHash>,
    /// Files and links of the snapshot before that are kept when they vanish.
    count_before: u64,
    /// How many vanished now.
    count_gone: u64,
    /// The newest snapshot that has it as a root.
    base: Option<Snapshot>,
}

impl Root {
    fn label(&self) -> &[u8] {
        self.record.label.as_bytes()
    }

    fn rel<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        path.strip_prefix(self.label())?.strip_prefix(b"/")
    }

    /// Is this kept when it vanishes?
    fn keeps(&self, path: &[u8], entry: &Entry) -> bool {
        matches!(entry.kind, Kind::File | Kind::Symlink)
            && self.rel(path).is_some_and(|rel| self.all || self.filter.volatile(rel))
    }

    /// Does a rule leave it out now?
    fn excludes(&self, rel: &[u8]) -> bool {
        // one that was pushed by mistake, before a walk passed these over
        if rel.rsplit(|byte| *byte == b'/').next().is_some_and(is_temp_name) {
            return true;
        }
        if let Some(files) = &self.files {
            return !files.iter().any(|name| name == rel);
        }
        let out = |rel: &[u8], is_dir| match self.filter.decide(rel, is_dir) {
            Verdict::Skip => true,
            Verdict::Walk => !is_dir,
            Verdict::Include | Verdict::Sqlite => false,
        };
        let dirs = rel.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &rel[..at]);
        out(rel, false) || dirs.into_iter().any(|dir| out(dir, true))
    }

    /// What became of a file that the new tree does not have. One that is there, and that no rule leaves
    /// out, could not be stored, or came and went while it was looked for.
    fn fate(&self, path: &[u8], ignore_file: &str) -> Fate {
        let Some(rel) = self.rel(path) else { return Fate::LeftOut };
        if self.excludes(rel) {
            return Fate::LeftOut;
        }
        let Some(source) = &self.source else {
            return match std::fs::symlink_metadata(&self.dir) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Fate::Gone,
                _ => Fate::Unseen,
            };
        };
        match source.has(rel) {
            Ok(_) if self.files.is_none() && source.ignores(ignore_file, rel) => Fate::LeftOut,
            Ok(false) => Fate::Gone,
            Ok(true) | Err(_) => Fate::Unseen,
        }
    }
}

/// What is kept from now on.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Sorted as in the tree.
    pub(crate) kept: Vec<Kept>,
    /// Roots of what is kept, as far as this push does not cover them.
    pub(crate) roots: Vec<RootRecord>,
    /// Agents of which much vanished at once.
    pub(crate) alarms: Vec<Vanished>,
    /// Snapshots that have what is lost otherwise.
    pub(crate) pins: Vec<OpId>,
    /// The count of the newest snapshot of this machine.
    pub(crate) counter: u64,
    /// What to remember of covered labels: their paths.
    live: Vec<(String, Vec<PathHash>)>,
    /// What to remember of the others.
    labels: BTreeMap<String, LabelMemo>,
}

impl Settled {
    /// What to remember once the snapshot of this id is there.
    pub(crate) fn memo(self, snapshot: OpId) -> super::memo::Memo {
        let mut labels = self.labels;
        for (label, live) in self.live {
            labels.insert(label, LabelMemo::new(snapshot, &live));
        }
        super::memo::Memo { snapshot: Some(snapshot), kept: self.kept, labels }
    }
}

/// Watches a run.
pub(crate) struct Watch<'a> {
    earlier: Earlier<'a>,
    session: &'a Session,
    options: &'a Options,
    op: OpId,
    ignore_file: &'a str,
    tell: Tell<'a>,
    roots: Vec<Root>,
    /// The root that the entry before belonged to.
    at: usize,
    kept: Vec<Kept>,
    by_path: HashMap<Vec<u8>, Vec<usize>>,
    /// Kept entries that are at the source again.
    back: HashSet<usize>,
    /// Files and links of the new tree.
    present: HashSet<PathHash>,
    /// Everything else in it: no file of such a name is there any more.
    others: HashSet<PathHash>,
    /// Files that were read and are kept when they vanish, by root and content: where a moved one turns
    /// up. One that moved to where nobody keeps it may go from there unseen.
    appeared: HashMap<(usize, [u8; 32]), Vec<Vec<u8>>>,
    nodes: HashSet<BlockId>,
}

impl<'a> Watch<'a> {
    /// `previous`: see [`Earlier::new`].
    pub(crate) fn new(
        session: &'a Session,
        op: OpId,
        previous: Option<OpId>,
        pushed: &[PushRoot],
        options: &'a Options,
        ignore_file: &'a str,
        tell: Tell<'a>,
    ) -> Result<Self> {
        let mut earlier = Earlier::new(session, previous)?;
        let kept = earlier.take_kept(tell)?;
        let mut roots = Vec::new();
        for PushRoot { scan, agent } in pushed {
            let mut all = agent.is_none() && options.labels.contains(&scan.label);
            if all && path_order(scan.label.as_bytes(), gone::NAME).is_gt() {
                // what is gone is in the tree behind all that can vanish
                let what = "what vanishes from it cannot be kept: choose a label that begins with \
                            one of a-z, A-Z, 0-9, . _ -";
                let (path, what) = (scan.label.clone().into_bytes(), what.to_owned());
                tell(Problem { path, what, notice: false });
                all = false;
            }
            if agent.is_none() && !all {
                continue;
            }
            let dir = scan.dir.as_os_str().as_encoded_bytes().to_vec();
            let record = RootRecord { label: scan.label.clone(), agent: agent.clone(), dir };
            let root = Root::new(record, Arc::clone(&scan.filter));
            roots.push(Root { files: scan.files.clone(), all, covered: true, ..root });
        }
        if let Some(rules) = &options.missing {
            let covered = pushed.iter().map(|root| root.scan.label.as_str()).collect();
            for record in earlier.roots_but(&covered, &kept)? {
                let agent = record.agent.as_deref().unwrap_or_default();
                if let Some(filter) = rules.filter(agent, &record.label) {
                    roots.push(Root::new(record, filter));
                }
            }
        }
        roots.sort_by(|a, b| path_order(a.label(), b.label()));
        let mut by_path = HashMap::<Vec<u8>, Vec<usize>>::new();
        for (at, one) in kept.iter().enumerate().filter(|(_, one)| !one.is_dir()) {
            by_path.entry(one.path.clone()).or_default().push(at);
        }
        Ok(Self {
            earlier,
            session,
            options,
            op,
            ignore_file,
            tell,
            roots,
            at: 0,
            kept,
            by_path,
            back: HashSet::new(),
            present: HashSet::new(),
            others: HashSet::new(),
            appeared: HashMap::new(),
            nodes: HashSet::new(),
        })
    }

    /// An entry goes into the tree. `read`: its content was read in this run.
    pub(crate) fn entry(&mut self, path: &[u8], entry: &Entry, read: bool) {
        for at in self.by_path.get(path).into_iter().flatten() {
            if same_content(&self.kept[*at].entry, entry) {
                self.back.insert(*at);
            }
        }
        let below = |root: &Root| strip_path(path, root.label()).is_some();
        if !self.roots.get(self.at).is_some_and(below) {
            let Some(at) = self.roots.iter().position(below) else { return };
            self.at = at;
        }
        let hash = path_hash(path);
        let is_file = matches!(entry.kind, Kind::File | Kind::Symlink);
        let known = if is_file { &mut self.present } else { &mut self.others };
        known.insert(hash);
        let root = &mut self.roots[self.at];
        if !root.keeps(path, entry) {
            return;
        }
        root.live.push(hash);
        if read && entry.size > 0 && root.base_is_possible(&self.earlier) {
            let files = self.appeared.entry((self.at, entry.hash)).or_default();
            files.push(path.to_vec());
        }
    }

    /// A node of the new tree: what it holds is there.
    pub(crate) fn node(&mut self, id: BlockId) {
        self.nodes.insert(id);
    }

    /// Decides, once the roots were seen to their end. `carry` gives blocks that nobody may rely on where
    /// they lie a new place, and names those that are nowhere; `usable` says which need that.
    pub(crate) fn settle(
        mut self,
        usable: &dyn Fn(&BlockId) -> bool,
        carry: &mut dyn FnMut(&BTreeSet<BlockId>) -> Result<Vec<BlockId>>,
    ) -> Result<Settled> {
        let mut now = self.session.clock.now_secs();
        let mut fresh = Vec::new();
        for base in self.bases()? {
            now = now.max(base.0.finished_nanos.div_euclid(1_000_000_000));
            fresh.extend(self.vanished(base)?);
        }
        if let Some(newest) = self.earlier.newest() {
            now = now.max(newest.finished_nanos.div_euclid(1_000_000_000));
        }
        // a path has one entry for each time
        let taken: HashSet<Since> = self.kept.iter().map(|one| one.since).collect();
        while taken.contains(&Since::At(now)) {
            now += 1;
        }
        let mut settled = Settled { pins: self.earlier.unread.clone(), ..Settled::default() };
        settled.counter = self.earlier.newest().map_or(0, Snapshot::count);
        let mut kept = self.kept_still(now);
        for mut one in fresh {
            if one.since != Since::Unseen {
                one.since = Since::At(now);
            }
            let same = |k: &Kept| k.path == one.path && same_content(&k.entry, &one.entry);
            let known = |at: &usize| !self.back.contains(at) && same(&self.kept[*at]);
            let is_known = self.by_path.get(&one.path).is_some_and(|all| all.iter().any(known));
            if one.is_dir() || !is_known {
                kept.push(one);
            }
        }
        kept::part(&mut kept, now);
        kept::tidy(&mut kept);
        self.count(&kept, now);
        self.hold(&mut kept, usable, carry, &mut settled.pins)?;
        let oldest = self.oldest(&kept)?;
        let went = kept::limit(&mut kept, oldest, self.options.bytes_max);
        if went > 0 {
            let files = if went == 1 { "file" } else { "files" };
            let what =
                format!("{went} {files} that were gone are kept no longer: the limits say so");
            (self.tell)(Problem { path: gone::NAME.to_vec(), what, notice: true });
        }
        settled.alarms = self.alarms();
        settled.roots = self.gone_roots(&kept);
        settled.kept = kept;
        self.remember(&mut settled);
        Ok(settled)
    }

    /// For each snapshot that something may have vanished from, the roots to compare with it.
    fn bases(&mut self) -> Result<Vec<(Snapshot, Vec<usize>)>> {
        let mut bases: Vec<(Snapshot, Vec<usize>)> = Vec::new();
        for at in 0..self.roots.len() {
            let Some(base) = self.earlier.holder(&self.roots[at].record.label)? else { continue };
            let root = &mut self.roots[at];
            root.base = Some(base.clone());
            if let Some(memo) = self.earlier.memo(&root.record.label, &base.id) {
                root.count_before = memo.hashes().count() as u64;
                if memo.hashes().all(|hash| self.present.contains(&hash)) {
                    continue;
                }
            }
            match bases.iter_mut().find(|(known, _)| known.id == base.id) {
                Some((_, roots)) => roots.push(at),
                None => bases.push((base, vec![at])),
            }
        }
        Ok(bases)
    }

    /// What vanished from a snapshot; for each root of one that does not read, an older one is taken. It
    /// alone may have what came after that and vanished, so it is pinned.
    fn vanished(&mut self, (base, roots): (Snapshot, Vec<usize>)) -> Result<Vec<Kept>> {
        let error = match self.compare(&base, &roots) {
            Err(error) if is_damage(&error) => error,
            other => return other,
        };
        (self.tell)(unread(&base, "what vanished since", &error));
        self.earlier.unread.push(base.id);
        let mut out = Vec::new();
        for at in roots {
            let label = self.roots[at].record.label.clone();
            if let Some(next) = self.earlier.older_holder(&label, &base.id)? {
                out.extend(self.vanished((next, vec![at]))?);
            }
        }
        Ok(out)
    }

    fn compare(&mut self, base: &Snapshot, roots: &[usize]) -> Result<Vec<Kept>> {
        let reader = self.earlier.reader()?;
        // without a memo all files of the label are counted, so all are looked at
        let counted =
            |at: &usize| self.earlier.memo(&self.roots[*at].record.label, &base.id).is_some();
        let (quick, whole): (Vec<usize>, Vec<usize>) = roots.iter().partition(|at| counted(at));
        let mut missing: Vec<(usize, Vec<u8>, Entry)> = Vec::new();
        let mut counts = vec![0_u64; self.roots.len()];
        for (roots, skip) in [(quick, true), (whole, false)] {
            if roots.is_empty() {
                continue;
            }
            let wanted = |piece: repo::Piece<'_>| {
                let reaches = |at: &usize| piece.reaches_below(self.roots[*at].label());
                !(skip && self.nodes.contains(piece.node)) && roots.iter().any(reaches)
            };
            reader.walk_where(&base.tree, &wanted, &mut |path, entry| {
                let root =
                    roots.iter().find(|at| strip_path(&path, self.roots[**at].label()).is_some());
                let Some(at) = root else { return Ok(()) };
                let keeps = self.roots[*at].keeps(&path, &entry);
                counts[*at] += u64::from(keeps && !skip);
                let is_dir = entry.kind == Kind::Dir;
                let there = if is_dir { &self.others } else { &self.present };
                if (keeps || is_dir) && !there.contains(&path_hash(&path)) {
                    missing.push((*at, path, entry));
                }
                Ok(())
            })?;
        }
        for (root, count) in self.roots.iter_mut().zip(counts) {
            root.count_before = root.count_before.max(count);
        }
        self.judge(base, missing)
    }

    /// What became of a file. One whose name something else has by now is gone, though its name is there.
    fn fate(&self, root: &Root, path: &[u8]) -> Fate {
        match root.fate(path, self.ignore_file) {
            Fate::Unseen if self.others.contains(&path_hash(path)) => Fate::Gone,
            fate => fate,
        }
    }

    /// Makes kept entries of what is missing.
    fn judge(
        &mut self,
        base: &Snapshot,
        missing: Vec<(usize, Vec<u8>, Entry)>,
    ) -> Result<Vec<Kept>> {
        let mut out = Vec::new();
        let mut dirs = Vec::new();
        for (at, path, mut entry) in missing {
            let root = &self.roots[at];
            if entry.kind == Kind::Dir {
                dirs.push((path, entry));
                continue;
            }
            let is_side_file = self.is_side_file(root, &path);
            let was_compressed = self.was_compressed(root, base, &path, &entry)?;
            let fate = self.fate(root, &path);
            if path.len() + SINCE_BYTES > PATH_BYTES_MAX && fate != Fate::LeftOut {
                let what = "it vanished, and its path is too long for it to be kept".to_owned();
                (self.tell)(Problem { path, what, notice: false });
                continue;
            }
            if is_side_file || was_compressed || fate == Fate::LeftOut {
                continue;
            }
            if let Some(first) = entry.link.take() {
                // what it is another name of may stay or leave: it gets the content itself
                let Some(carrier) = self.earlier.reader()?.entry_at(&base.tree, &first)? else {
                    continue; // no honest snapshot has such a link
                };
                entry = carrier;
            }
            if fate == Fate::Gone && self.was_moved(at, base, &entry)? {
                continue;
            }
            let since = if fate == Fate::Gone { Since::At(0) } else { Since::Unseen };
            let mut kept = Kept { since, path, entry, blocks: Vec::new() };
            kept.blocks = reached(self.earlier.reader()?, &kept)?;
            out.push(kept);
        }
        // tidying leaves those that something is below
        for (path, entry) in dirs {
            for since in [Since::At(0), Since::Unseen] {
                let (path, entry) = (path.clone(), entry.clone());
                out.push(Kept { since, path, entry, blocks: Vec::new() });
            }
        }
        Ok(out)
    }

    /// Does it belong to a database that is there?
    fn is_side_file(&self, root: &Root, path: &[u8]) -> bool {
        SIDE_FILES.iter().any(|suffix| {
            let Some(database) = path.strip_suffix(*suffix) else { return false };
            // other files have such a name too
            let is_database = *suffix != b"-journal"
                || root
                    .rel(database)
                    .is_some_and(|rel| root.filter.decide(rel, false) == Verdict::Sqlite);
            is_database && self.present.contains(&path_hash(database))
        })
    }

    /// Is it there under the name of a compressed file that was not there before? One that was is that of an
    /// older file: logs are rotated so.
    fn was_compressed(
        &self,
        root: &Root,
        base: &Snapshot,
        path: &[u8],
        entry: &Entry,
    ) -> Result<bool> {
        for suffix in COMPRESSED {
            let name = [path, suffix].concat();
            if self.present.contains(&path_hash(&name))
                && root.keeps(&name, entry)
                && self.earlier.reader()?.entry_at(&base.tree, &name)?.is_none()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Did this content turn up under another name of the root? Each such name stands for one file.
    fn was_moved(&mut self, at: usize, base: &Snapshot, entry: &Entry) -> Result<bool> {
        let Some(names) = self.appeared.get(&(at, entry.hash)).filter(|_| entry.size > 0) else {
            return Ok(false);
        };
        for (n, name) in names.iter().enumerate() {
            let before = self.earlier.reader()?.entry_at(&base.tree, name)?;
            if before.is_none_or(|before| !same_content(&before, entry)) {
                let names = self.appeared.get_mut(&(at, entry.hash)).expect("it was just there");
                names.swap_remove(n);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What of the kept entries stays kept: not what is back; what could not be looked at and can be now
    /// is gone, or was there all the time.
    fn kept_still(&self, now: i64) -> Vec<Kept> {
        let mut out = Vec::new();
        for (at, one) in self.kept.iter().enumerate() {
            if self.back.contains(&at) {
                continue;
            }
            let mut one = one.clone();
            let root = self.roots.iter().find(|root| strip_path(&one.path, root.label()).is_some());
            if let Some(root) = root.filter(|_| one.since == Since::Unseen) {
                if one.is_dir() {
                    out.push(Kept { since: Since::At(now), ..one.clone() });
                } else if self.present.contains(&path_hash(&one.path)) {
                    continue;
                } else {
                    match self.fate(root, &one.path) {
                        Fate::Gone => one.since = Since::At(now),
                        Fate::Unseen => {}
                        Fate::LeftOut => continue,
                    }
                }
            }
            out.push(one);
        }
        out
    }

    /// Counts for each root what vanished now.
    fn count(&mut self, kept: &[Kept], now: i64) {
        let is_new = |one: &&Kept| one.since == Since::At(now) && !one.is_dir();
        let new: Vec<&Kept> = kept.iter().filter(is_new).collect();
        for root in &mut self.roots {
            let mine = new
                .iter()
                .filter(|one| strip_path(&one.path, root.record.label.as_bytes()).is_some());
            root.count_gone = mine.count() as u64;
        }
    }

    /// Sees to it that this push may rely on what is kept; what is lost in the repository is told, and
    /// the snapshots that had it are pinned, so that they stay until somebody looked.
    fn hold(
        &self,
        kept: &mut Vec<Kept>,
        usable: &dyn Fn(&BlockId) -> bool,
        carry: &mut dyn FnMut(&BTreeSet<BlockId>) -> Result<Vec<BlockId>>,
        pins: &mut Vec<OpId>,
    ) -> Result<()> {
        let needs = |one: &Kept| one.needs().unwrap_or_default();
        let unusable: BTreeSet<BlockId> =
            kept.iter().flat_map(needs).filter(|id| !usable(id)).collect();
        let lost: HashSet<BlockId> = if unusable.is_empty() {
            HashSet::new()
        } else {
            carry(&unusable)?.into_iter().collect()
        };
        let mut any = false;
        kept.retain(|one| {
            let has_all = one.needs().is_some_and(|needs| needs.iter().all(|id| !lost.contains(id)));
            if !has_all {
                any = true;
                let what = "it is gone from its source, and the repository has lost content of it: \
                            it is kept no longer; 'agent-backup verify' says what is damaged, and the \
                            snapshots that had it are pinned";
                let (path, what) = (one.path.clone(), what.to_owned());
                (self.tell)(Problem { path, what, notice: false });
            }
            has_all
        });
        if any {
            pins.extend(self.earlier.newest().map(|s| s.id));
            pins.extend(self.roots.iter().filter_map(|root| root.base.as_ref()).map(|s| s.id));
            pins.sort_unstable();
            pins.dedup();
            kept::tidy(kept);
        }
        Ok(())
    }

    /// What is gone since before this time goes. The local clock is believed only as far as the store
    /// does not contradict: one that runs ahead must not let everything go. A directory's times are those
    /// of the same clock, so more than two days since the push before count at the next push only.
    fn oldest(&self, kept: &[Kept]) -> Result<Option<i64>> {
        let Some(age) = self.options.age_max else { return Ok(None) };
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let oldest = |now: i64| now.saturating_sub(age);
        let now = self.session.clock.now_secs();
        let goes = |one: &Kept| matches!(one.since, Since::At(secs) if secs < oldest(now));
        if !kept.iter().any(goes) {
            return Ok(None);
        }
        let name = format!("op/{}", self.op);
        let listed = self.session.repo.store().list(&name)?;
        let Some(modified) = listed.first().map(|item| item.modified) else { return Ok(None) };
        let stored = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let stored = i64::try_from(stored).unwrap_or(i64::MAX).saturating_add(LATE_SECS_MAX);
        let before = self.earlier.newest().map(|s| s.finished_nanos.div_euclid(1_000_000_000));
        let known = before.map_or(i64::MAX, |before| before.saturating_add(AWAY_SECS_MAX));
        Ok(Some(oldest(now.min(stored).min(known))))
    }

    fn alarms(&self) -> Vec<Vanished> {
        let counted = self.roots.iter().filter_map(|root| {
            let before = root.base.as_ref()?;
            Some((root.record.agent.as_deref()?, root.count_gone, root.count_before, before))
        });
        alarm::judge(counted)
    }

    /// Roots of what is kept that the push does not cover.
    fn gone_roots(&self, kept: &[Kept]) -> Vec<RootRecord> {
        let covers = |root: &&RootRecord| {
            let is_covered = self.roots.iter().any(|r| r.covered && r.record.label == root.label);
            !is_covered
                && kept.iter().any(|one| strip_path(&one.path, root.label.as_bytes()).is_some())
        };
        let mut roots = BTreeMap::<String, RootRecord>::new();
        let newest = self.earlier.newest();
        let known = newest.into_iter().flat_map(|s| s.gone_roots.iter().chain(&s.roots));
        let absent = self.roots.iter().filter(|root| !root.covered).map(|root| &root.record);
        for root in known.chain(absent).filter(covers) {
            roots.insert(root.label.clone(), root.clone());
        }
        roots.into_values().collect()
    }

    fn remember(self, settled: &mut Settled) {
        for (label, memo) in self.earlier.memos() {
            settled.labels.insert(label.clone(), memo.clone());
        }
        for root in self.roots {
            let label = root.record.label;
            match root.base {
                _ if root.covered => settled.live.push((label, root.live)),
                // all that was there is kept now, or left out
                Some(base) => drop(settled.labels.insert(label, LabelMemo::new(base.id, &[]))),
                None => {}
            }
        }
    }
}

/// How much later than the store's a local clock may be.
const LATE_SECS_MAX: i64 = 300;
/// How much time one push may let pass for what is kept.
const AWAY_SECS_MAX: i64 = 48 * 3600;

impl Root {
    fn new(record: RootRecord, filter: Arc<dyn Filter>) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = PathBuf::from(std::ffi::OsStr::from_bytes(&record.dir));
        Self {
            source: SourceRoot::open_dir(&dir).ok(),
            dir,
            record,
            filter,
            files: None,
            all: false,
            covered: false,
            live: Vec::new(),
            count_before: 0,
            count_gone: 0,
            base: None,
        }
    }

    /// Can something have vanished from it?
    fn base_is_possible(&self, earlier: &Earlier<'_>) -> bool {
        self.covered && earlier.newest().is_some()
    }
}
