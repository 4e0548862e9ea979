//! Redaction: the nodes that the rules name, replaced by the marker, and the proof that this worked.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::MARKER;
use crate::choose::choose;
use crate::error::Error;
use crate::format::Format;
use crate::guide::Named;
use crate::path::Path;
use crate::read::events::What;
use crate::read::json::{self, Builder};
use crate::read::{decode, read};
use crate::source::{Source, Text};
use crate::splice::{New, Patch, Splice};
use crate::tree::{Id, Swap, Tree, agree};

/// A redacted file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    /// The file, with [`MARKER`] in the place of every named value.
    pub bytes: Vec<u8>,
    /// [`Hidden::fields`].
    pub fields: Vec<String>,
}

/// What of a file is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// Puts [`MARKER`] in the place of every named value.
    pub splice: Splice,
    /// Where a value is replaced, in the order of the file: keys and indexes joined by dots, dots in
    /// keys escaped, behind `document 2: ` or `line 7: ` where a file has more than one value. Places
    /// that hold the marker already are not among them. The text is from the file: it can hold any
    /// character that a key can.
    pub fields: Vec<String>,
    /// Is a value of the result the marker, replaced now or before?
    pub marked: bool,
}

/// Puts [`MARKER`] in the place of every value in `bytes` that one of `paths` names.
///
/// Errors as [`hide`].
pub fn redact(format: Format, bytes: &[u8], paths: &[Path]) -> Result<Redacted, Error> {
    let Hidden { splice, fields, .. } = hide(format, &bytes, paths)?;
    Ok(Redacted { bytes: splice.bytes(bytes, None)?, fields })
}

/// What of a file is to be replaced by [`MARKER`]: every value that one of `paths` names. JSON is read
/// in pieces, twice; what has another format is kept in memory.
///
/// Errors if the file cannot be read as `format` or not be redacted safely; nothing of it may be sent
/// then. An empty file has nothing to redact and comes out as it is.
pub fn hide(format: Format, source: &dyn Source, paths: &[Path]) -> Result<Hidden, Error> {
    let text = Text::of(source)?;
    if !format.is_json() {
        return hide_short(format, &text, paths);
    }
    let guide = Named { paths, whole: false };
    let tree = json::read(format, &text, &guide)?;
    let chosen = choose(&tree, "", paths)?;
    let splice = splice(&tree, &text, &chosen);
    let (mut marked, mut builder) = (false, Builder::new(format, &guide));
    let holds = splice.holds(format, &text, None, &mut |event| {
        marked |= event.what == What::Text(MARKER);
        builder.take(event)
    })?;
    if !holds || !choose(&builder.finish(), "", paths)?.is_empty() {
        return Err(Error::Unproven { format });
    }
    let fields = chosen.iter().map(|id| tree.path(*id)).collect();
    Ok(Hidden { splice, fields, marked })
}

fn hide_short(format: Format, text: &Text<'_>, paths: &[Path]) -> Result<Hidden, Error> {
    let bytes = text.whole(format)?;
    let (_, whole) = decode(format, &bytes)?;
    let tree = read(format, whole)?;
    let chosen = choose(&tree, whole, paths)?;
    let edits = chosen.iter().filter_map(|id| marker(&tree, *id)).collect();
    let again = prove(&tree, &apply(whole, edits), &chosen, paths)?;
    let fields = chosen.iter().map(|id| tree.path(*id)).collect();
    let marked = (0..again.nodes.len()).any(|id| again.is_marker(id));
    Ok(Hidden { splice: splice(&tree, text, &chosen), fields, marked })
}

fn splice(tree: &Tree, text: &Text<'_>, chosen: &[Id]) -> Splice {
    let patch = |(range, new)| Patch { range, new: New::Text(new) };
    let patches = chosen.iter().filter_map(|id| marker(tree, *id)).map(patch);
    Splice::new(text, None, patches.collect())
}

/// A range of a text, and what takes its place.
pub(crate) type Edit = (Range<usize>, String);

/// The marker in the place of a node. A string in double quotes is one in every format.
fn marker(tree: &Tree, id: Id) -> Option<Edit> {
    let node = &tree.nodes[id];
    let lead = " ".repeat(node.lead.unwrap_or(0));
    Some((node.slot.clone()?, format!("{lead}\"{MARKER}\"")))
}

/// `text` with the edits made. If they overlap, which they should not, what comes out is no such file,
/// and the proof that follows every use of this fails.
pub(crate) fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_unstable_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (range, new) in edits {
        out.push_str(text.get(at..range.start).unwrap_or_default());
        out.push_str(&new);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

/// The result parses, holds what it held but for markers, and leaves the rules nothing to find.
fn prove(tree: &Tree, out: &str, chosen: &[Id], paths: &[Path]) -> Result<Tree, Error> {
    let unproven = Error::Unproven { format: tree.format };
    let again = read(tree.format, out).map_err(|_| unproven.clone())?;
    let swaps: BTreeMap<Id, Swap<'_>> = chosen.iter().map(|id| (*id, Swap::Text(MARKER))).collect();
    let left = choose(&again, out, paths).map_err(|_| unproven.clone())?;
    if left.is_empty() && agree(tree, &again, &swaps) { Ok(again) } else { Err(unproven) }
}
