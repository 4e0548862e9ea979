//! The plan: what would happen to each path, before anything happens.
//!
//! In: the snapshot's entries, the options, and what is at the target. Out: one [`Item`] per entry
//! that was asked for, and one per local name that is to go. Making a plan writes nothing. Entries
//! that no honest writer makes (odd names, duplicates, links to nowhere, things below a file) become
//! refused items of their own; they never spoil another entry.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use repo::{Entry, Kind, flag, path_order};

use super::error::{Error, Result, show};
use super::fields::Written;
use super::inspect;
use super::moves::plan::MovePlan;
use super::moves::{Bound, Rename};
use super::safety::There;
use super::select::{Select, strip_path};
use super::source::Content;
use super::target::{Guard, Rel, SQLITE_SIDES, Target, is_temp_name, split_last};
use super::{Options, Placement, Problem};

/// What happens to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing is there: it is made.
    Create,
    /// Something else is there: it is replaced.
    Replace,
    /// A file is there that shares parts: only the others are fetched, into a new file.
    Patch,
    /// The content fits: only mode, time, owner or attributes are set.
    Metadata,
    /// All fits.
    Leave,
    /// The snapshot does not have it: it is removed, with all below it.
    Delete,
    /// Not restored, as it should be.
    Skip(String),
    /// Not restored, though it was asked for.
    Refuse(String),
}

impl Action {
    /// One word for a listing.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Patch => "patch",
            Self::Metadata => "metadata",
            Self::Leave => "leave",
            Self::Delete => "delete",
            Self::Skip(_) => "skip",
            Self::Refuse(_) => "refuse",
        }
    }

    /// Is something made anew?
    pub(super) fn writes(&self) -> bool {
        matches!(self, Self::Create | Self::Replace | Self::Patch)
    }
}

/// Which stretches of a file need not be fetched: the file that is there has them, in the same place.
#[derive(Debug, Clone, Default)]
pub(super) enum Keep {
    #[default]
    Nothing,
    All,
    /// In file order, apart from each other, none empty.
    Parts(Vec<Range<u64>>),
}

impl Keep {
    /// Cuts a stretch of the file where what is kept begins and ends: for each part, whether it is.
    pub(super) fn cut(&self, whole: Range<u64>, mut part: impl FnMut(Range<u64>, bool)) {
        let parts = match self {
            Self::Nothing => return part(whole, false),
            Self::All => return part(whole, true),
            Self::Parts(parts) => parts,
        };
        let mut at = whole.start;
        let first = parts.partition_point(|kept| kept.end <= whole.start);
        for kept in parts[first..].iter().take_while(|kept| kept.start < whole.end) {
            let (start, end) = (kept.start.max(at), kept.end.min(whole.end));
            if at < start {
                part(at..start, false);
            }
            part(start..end, true);
            at = end;
        }
        if at < whole.end {
            part(at..whole.end, false);
        }
    }
}

/// Where an entry goes: which base, and the path below it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) base: usize,
    pub(super) rel: Rel,
}

/// One line of the plan.
#[derive(Debug)]
pub struct Item {
    /// Path as stored, label first. Unchecked bytes: escape before showing.
    pub path: Vec<u8>,
    /// The same as it is here, where a move gives a directory above it another name.
    pub(super) here: Option<Vec<u8>>,
    /// What happens.
    pub action: Action,
    /// Bytes of content to write.
    pub bytes: u64,
    /// Bytes that must come from the repository for it: of a patch, whole blocks of which only a part
    /// may be needed.
    pub fetch: u64,
    /// The entry; `None` for what is deleted or refused.
    pub(super) entry: Option<Arc<Entry>>,
    /// Where it goes; `None` for what is refused.
    pub(super) place: Option<Place>,
    /// A hard link: the item whose file this is another name of.
    pub(super) link: Option<usize>,
    /// A file: what need not be fetched.
    pub(super) keep: Keep,
    /// A file: what of it a move rewrites.
    pub(super) bound: Option<Arc<Bound>>,
    /// A directory: set its mode and times when all is done.
    pub(super) settle: bool,
    /// Not asked for, but something below it is.
    pub(super) implied: bool,
    /// A database beside which nothing of the one that is there may stay.
    pub(super) alone: bool,
    /// What it replaces or removes, as it was when it was saved; none if nothing was saved.
    pub(super) saved: Option<Vec<There>>,
    /// A file that stays as it is and is what a move would make of the stored one: what is there.
    pub(super) as_it_is: Option<Written>,
}

impl Item {
    fn new(path: &[u8], action: Action) -> Self {
        Self {
            path: path.to_vec(),
            here: None,
            action,
            bytes: 0,
            fetch: 0,
            entry: None,
            place: None,
            link: None,
            keep: Keep::Nothing,
            bound: None,
            settle: false,
            implied: false,
            alone: false,
            saved: None,
            as_it_is: None,
        }
    }

    /// Its path as it is here, label first.
    pub(super) fn here(&self) -> &[u8] {
        self.here.as_deref().unwrap_or(&self.path)
    }

    /// Entry and place of an item that is not refused.
    pub(super) fn target(&self) -> Option<(&Entry, &Place)> {
        Some((self.entry.as_deref()?, self.place.as_ref()?))
    }

    /// Has its entry this flag, or, of a hard link, the entry of the file it is a name of?
    pub(super) fn has_flag(&self, items: &[Self], flag: u32) -> bool {
        let carrier = self.link.map_or(self, |first| &items[first]);
        carrier.entry.as_ref().is_some_and(|entry| entry.flags & flag != 0)
    }

    /// [`Item::alone`] of the file that this is a name of.
    pub(super) fn is_alone(&self, items: &[Self]) -> bool {
        self.link.map_or(self, |first| &items[first]).alone
    }

    /// Is this a text file in which a move rewrites paths?
    pub(super) fn is_rewritten_text(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| bound.tables.is_empty())
    }

    /// Is this a file whose own content is written?
    pub(super) fn writes_content(&self) -> bool {
        self.action.writes()
            && self.link.is_none()
            && self.entry.as_ref().is_some_and(|entry| entry.kind == Kind::File)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {}", self.action.word(), show(&self.path))?;
        match &self.action {
            Action::Skip(reason) | Action::Refuse(reason) => write!(f, ": {reason}"),
            Action::Patch => write!(f, " ({} bytes, {} to fetch)", self.bytes, self.fetch),
            _ if self.bytes > 0 => write!(f, " ({} bytes)", self.bytes),
            _ => Ok(()),
        }
    }
}

/// Counts of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the actions")]
pub struct Totals {
    pub create: u64,
    pub replace: u64,
    pub patch: u64,
    pub metadata: u64,
    pub leave: u64,
    pub delete: u64,
    pub skip: u64,
    pub refuse: u64,
    /// Bytes of content to write.
    pub bytes: u64,
    /// Bytes that must come from the repository.
    pub fetch: u64,
}

/// A base directory of the pull.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) path: PathBuf,
    /// As it was found; `None` if it did not exist.
    pub(super) target: Option<Target>,
}

/// What a pull would do.
#[derive(Debug)]
pub struct Plan {
    /// One per path, in tree order; deletions last.
    pub items: Vec<Item>,
    /// Counts.
    pub totals: Totals,
    pub(super) bases: Vec<Base>,
    pub(super) moves: Option<MovePlan>,
    /// Files that something is added to besides: path, label first, and place.
    pub(super) added_to: Vec<(Vec<u8>, PathBuf)>,
}

impl Plan {
    /// Makes a plan. Reads the snapshot's entries and what is at the target; writes nothing.
    pub fn make(content: &dyn Content, options: &Options, cancel: &AtomicBool) -> Result<Self> {
        let mut draft = Draft::new(options)?;
        if let Placement::Under(dir) = &options.to {
            // all of it would fail, one by one
            draft.base(dir.clone()).map_err(|e| Error::target("open", dir, e))?;
        }
        let entries = read_entries(content, cancel)?;
        if let Some(moves) = &options.moves {
            draft.moves = Some(MovePlan::make(content, &entries, moves, cancel)?);
        }
        draft.fold(&entries);
        let Draft { mut items, bases, select, mut moves, .. } = draft;
        set_alone(&mut items);
        if let Some(moves) = &mut moves {
            moves.only(items.iter().map(|item| item.path.as_slice()));
        }
        inspect::inspect(content, &mut items, &bases, options, moves.as_ref(), cancel)?;
        if options.delete {
            let mut doomed = inspect::surplus(
                &entries,
                &items,
                &bases,
                &select,
                options,
                moves.as_ref(),
                cancel,
            )?;
            items.append(&mut doomed);
        }
        let totals = count(&items);
        Ok(Self { items, totals, bases, moves, added_to: Vec::new() })
    }

    /// Directories that get another name, as a move wants it.
    pub fn renames(&self) -> &[Rename] {
        self.moves.as_ref().map_or(&[], |moves| &moves.renames)
    }

    /// Directories that keep a name which a move should change, and why.
    pub fn unmoved(&self) -> &[Problem] {
        self.moves.as_ref().map_or(&[], |moves| &moves.left)
    }

    /// Something will be added to this file, at its place, besides: a safety snapshot saves it too.
    pub fn adds_to(&mut self, path: Vec<u8>, at: PathBuf) {
        self.added_to.push((path, at));
    }

    /// Counts again, after actions changed.
    pub(super) fn recount(&mut self) {
        self.totals = count(&self.items);
    }
}

/// Device and inode of every base: what no deletion may remove.
pub(super) fn guard<'t>(targets: impl Iterator<Item = &'t Target>) -> Guard {
    targets.map(Target::id).collect()
}

/// An item that removes a local name.
pub(super) fn deletion(path: &[u8], here: Option<Vec<u8>>, place: Place) -> Item {
    Item { place: Some(place), here, ..Item::new(path, Action::Delete) }
}

pub(super) fn count(items: &[Item]) -> Totals {
    let mut totals = Totals::default();
    for item in items {
        *match item.action {
            Action::Create => &mut totals.create,
            Action::Replace => &mut totals.replace,
            Action::Patch => &mut totals.patch,
            Action::Metadata => &mut totals.metadata,
            Action::Leave => &mut totals.leave,
            Action::Delete => &mut totals.delete,
            Action::Skip(_) => &mut totals.skip,
            Action::Refuse(_) => &mut totals.refuse,
        } += 1;
        totals.bytes = totals.bytes.saturating_add(item.bytes);
        totals.fetch = totals.fetch.saturating_add(item.fetch);
    }
    totals
}

/// All entries of a snapshot by path.
pub(super) type Entries = Vec<(Vec<u8>, Arc<Entry>)>;

/// Reads all entries. Their order is not taken on trust: one entry out of place must not make
/// trouble for others.
fn read_entries(content: &dyn Content, cancel: &AtomicBool) -> Result<Entries> {
    let mut entries = Entries::new();
    content.entries(&mut |path, entry| {
        if cancel.load(Ordering::Relaxed) {
            return Err(repo::Error::Cancelled);
        }
        entries.push((path, Arc::new(entry)));
        Ok(())
    })?;
    if !entries.is_sorted_by(|a, b| order(&a.0, &b.0).is_le()) {
        entries.sort_by(|a, b| order(&a.0, &b.0));
    }
    Ok(entries)
}

/// An image of a database has all of it, and so has one that was copied as it lay, unless a log or a journal
/// comes with it.
fn set_alone(items: &mut [Item]) {
    let databases = flag::SQLITE | flag::SQLITE_RAW;
    for at in 0..items.len() {
        let Some(entry) = items[at].entry.as_ref().filter(|e| e.flags & databases != 0) else {
            continue;
        };
        let comes_with = |side: &[u8]| {
            let path = [&items[at].path, side].concat();
            items[at..].iter().any(|item| item.path == path && item.action == Action::Create)
        };
        let with_sides = entry.flags & flag::SQLITE == 0
            && SQLITE_SIDES.into_iter().filter(|side| *side != b"-shm").any(comes_with);
        items[at].alone = !with_sides;
    }
}

/// Tree order, and an order of its own among paths that tree order cannot tell apart (those with
/// NUL bytes).
fn order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    path_order(a, b).then_with(|| a.cmp(b))
}

/// Finds an entry by path.
pub(super) fn find(entries: &Entries, path: &[u8]) -> Option<usize> {
    let at = entries.partition_point(|(known, _)| order(known, path).is_lt());
    entries.get(at).is_some_and(|(known, _)| known == path).then_some(at)
}

/// An entry above the one at hand.
struct Frame {
    /// Index of the entry.
    entry: usize,
    selected: bool,
    refused: bool,
    /// It has an item already.
    emitted: bool,
}

/// A plan in the making: entries become items, in order.
struct Draft<'o> {
    options: &'o Options,
    select: Select,
    bases: Vec<Base>,
    items: Vec<Item>,
    stack: Vec<Frame>,
    /// Item that carries the content of a file entry, by the entry's index.
    carriers: HashMap<usize, usize>,
    /// Lower-case paths, where case does not tell names apart.
    folded: HashSet<String>,
    moves: Option<MovePlan>,
    /// Entries by their paths here, where a move gives directories new names.
    here: HashMap<Vec<u8>, usize>,
}

impl<'o> Draft<'o> {
    fn new(options: &'o Options) -> Result<Self> {
        Ok(Self {
            options,
            select: Select::new(&options.paths, &options.labels)?,
            bases: Vec::new(),
            items: Vec::new(),
            stack: Vec::new(),
            carriers: HashMap::new(),
            folded: HashSet::new(),
            moves: None,
            here: HashMap::new(),
        })
    }

    fn fold(&mut self, entries: &Entries) {
        for at in 0..entries.len() {
            self.take(entries, at);
        }
    }

    /// Takes one entry: pops what is not above it, checks it, and makes its item.
    fn take(&mut self, entries: &Entries, at: usize) {
        let (path, entry) = &entries[at];
        if let Err(reason) = check(path) {
            // Not on the stack: its place in the order means nothing.
            if self.select.is_empty() || self.select.matches(path) {
                self.items.push(Item::new(path, Action::Refuse(reason.into())));
            }
            return;
        }
        if at > 0 && entries[at - 1].0 == *path {
            // The first of the name stays on the stack: what follows lies below it.
            if self.stack.last().is_some_and(|first| first.selected) {
                let reason = "the snapshot has this path twice".into();
                self.items.push(Item::new(path, Action::Refuse(reason)));
            }
            return;
        }
        let above = |frame: &Frame| {
            strip_path(path, &entries[frame.entry].0).is_some_and(|rest| !rest.is_empty())
        };
        while self.stack.last().is_some_and(|frame| !above(frame)) {
            self.stack.pop();
        }
        let parent = self.stack.last();
        let selected = self.select.is_empty()
            || parent.is_some_and(|frame| frame.selected)
            || self.select.matches(path);
        let wrong = self.wrong(entries, at);
        if let Some(reason) = &wrong
            && selected
        {
            self.items.push(Item::new(path, Action::Refuse((*reason).into())));
        }
        let refused = wrong.is_some();
        if selected && !refused {
            self.imply(entries);
            self.emit(entries, at, entry, false);
        }
        self.stack.push(Frame { entry: at, selected, refused, emitted: selected });
    }

    /// What is wrong with an entry, if anything is.
    fn wrong(&mut self, entries: &Entries, at: usize) -> Option<&'static str> {
        let (path, entry) = &entries[at];
        if let Some(parent) = self.stack.last() {
            if entries[parent.entry].1.kind != Kind::Dir {
                return Some("it lies below something that is no directory");
            }
            if parent.refused {
                return Some("its directory is refused");
            }
        }
        let here = self.moves.as_ref().filter(|moves| moves.renames_any());
        let here = here.map(|moves| moves.local(path));
        let first = here.as_ref().and_then(|here| self.here.insert(here.clone(), at));
        if let Some(first) = first {
            // two directories may become one
            let dir = |at: usize| entries[at].1.kind == Kind::Dir;
            return (!dir(first) || !dir(at))
                .then_some("another entry goes to the same place, as the paths are mapped");
        }
        let path = here.as_ref().unwrap_or(path);
        if self.options.fold_case
            && !self.folded.insert(String::from_utf8_lossy(path).to_lowercase())
        {
            return Some("it differs only in case from another entry");
        }
        match entry.kind {
            Kind::Symlink if entry.target.as_ref().is_none_or(Vec::is_empty) => {
                Some("a symbolic link without a target")
            }
            Kind::File => wrong_link(entries, at),
            _ if entry.link.is_some() => Some("a hard link that is no file"),
            _ => None,
        }
    }

    /// Makes items of the directories above that were not asked for.
    fn imply(&mut self, entries: &Entries) {
        for at in 0..self.stack.len() {
            if !self.stack[at].emitted {
                self.stack[at].emitted = true;
                let index = self.stack[at].entry;
                self.emit(entries, index, &entries[index].1, true);
            }
        }
    }

    fn emit(&mut self, entries: &Entries, at: usize, entry: &Arc<Entry>, implied: bool) {
        let path = &entries[at].0;
        let here = self.moves.as_ref().map(|moves| moves.local(path)).filter(|here| here != path);
        let mut item = Item { here, implied, ..Item::new(path, Action::Create) };
        match self.locate(path, entry.kind) {
            Ok(place) => item.place = Some(place),
            Err(reason) => {
                item.action = Action::Refuse(reason.into());
                self.items.push(item);
                return;
            }
        }
        item.entry = Some(Arc::clone(entry));
        item.bound = self.moves.as_ref().and_then(|moves| moves.bound(path, entry));
        let name = split_last(path).map_or(&[][..], |(_, name)| name);
        item.action = match entry.kind {
            Kind::Socket => Action::Skip("a socket: made by the program that listens".into()),
            Kind::Device => Action::Skip("a device: never restored".into()),
            _ if is_temp_name(name) => Action::Skip("a temporary file of a pull".into()),
            _ => Action::Create,
        };
        let index = self.items.len();
        if let Some(first) = entry.link.as_ref().and_then(|first| find(entries, first)) {
            if let Some(carrier) = self.carriers.get(&first) {
                item.link = Some(*carrier);
            } else {
                // The name that carries the content was not asked for: this one carries it.
                item.entry = Some(Arc::clone(&entries[first].1));
                self.carriers.insert(first, index);
            }
        } else if entry.kind == Kind::File && item.action == Action::Create {
            self.carriers.insert(at, index);
        }
        self.items.push(item);
    }

    /// Where a path goes.
    fn locate(&mut self, path: &[u8], kind: Kind) -> std::result::Result<Place, &'static str> {
        let here = self.moves.as_ref().map(|moves| moves.local(path));
        let path = here.as_deref().unwrap_or(path);
        let (dir, rel) = match &self.options.to {
            Placement::Under(dir) => (dir.clone(), Rel::check(path)?),
            Placement::Each(map) => {
                let fits = |(label, dir): &'o (Vec<u8>, PathBuf)| {
                    let rest: &[u8] = strip_path(path, label)?;
                    Some((rest, dir))
                };
                let (rest, dir) = map
                    .iter()
                    .filter_map(fits)
                    .min_by_key(|(rest, _)| rest.len())
                    .ok_or("no place is given for this root")?;
                if rest.is_empty() && kind != Kind::Dir {
                    single(dir)?
                } else {
                    (dir.clone(), Rel::check(rest)?)
                }
            }
        };
        let base = self.base(dir).map_err(|_| "its target cannot be opened")?;
        Ok(Place { base, rel })
    }

    /// The number of a base directory.
    fn base(&mut self, dir: PathBuf) -> io::Result<usize> {
        if let Some(known) = self.bases.iter().position(|base| base.path == dir) {
            return Ok(known);
        }
        let target = Target::open(&dir, false)?;
        self.bases.push(Base { path: dir, target });
        Ok(self.bases.len() - 1)
    }
}

/// A hard link may only name an earlier file of the same snapshot.
fn wrong_link(entries: &Entries, at: usize) -> Option<&'static str> {
    let first = entries[at].1.link.as_ref()?;
    let Some(found) = find(entries, first) else {
        return Some("a hard link to something that the snapshot does not have");
    };
    let entry = &entries[found].1;
    let is_file = entry.kind == Kind::File && entry.link.is_none();
    if found >= at {
        Some("a hard link to an entry that does not come before it")
    } else if !is_file || check(first).is_err() {
        Some("a hard link to something that is no file of its own")
    } else {
        None
    }
}

/// Is this a path that could be below a target?
fn check(path: &[u8]) -> std::result::Result<(), &'static str> {
    if path.is_empty() { Err("the path is empty") } else { Rel::check(path).map(drop) }
}

/// A root that is one file: its directory is the base.
fn single(path: &Path) -> std::result::Result<(PathBuf, Rel), &'static str> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = path.file_name().ok_or("its target has no name")?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let rel = Rel::default().join(name.as_bytes())?;
    Ok((dir.unwrap_or(Path::new(".")).to_owned(), rel))
}

/// Ends with [`Error::Cancelled`] if `cancel` is set.
pub(super) fn go_on(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
}
