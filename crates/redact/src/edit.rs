//! Redaction: the nodes that the rules name, replaced by the marker, and the proof that this worked.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::MARKER;
use crate::choose::choose;
use crate::error::Error;
use crate::format::Format;
use crate::path::Path;
use crate::read::{decode, read};
use crate::tree::{Id, Swap, Tree, agree};

/// A redacted file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    /// The file, with [`MARKER`] in the place of every named value.
    pub bytes: Vec<u8>,
    /// Where a value was replaced, in the order of the file: keys and indexes joined by dots, dots in
    /// keys escaped, behind `document 2: ` or `line 7: ` where a file has more than one value. Places
    /// that held the marker already are not among them. The text is from the file: it can hold any
    /// character that a key can.
    pub fields: Vec<String>,
}

/// Puts [`MARKER`] in the place of every value in `bytes` that one of `paths` names.
///
/// Errors if the file cannot be read as `format` or not be redacted safely; nothing of it may be sent
/// then. An empty file has nothing to redact and comes back as it is.
pub fn redact(format: Format, bytes: &[u8], paths: &[Path]) -> Result<Redacted, Error> {
    let (mark, text) = decode(format, bytes)?;
    let tree = read(format, text)?;
    let chosen = choose(&tree, text, paths)?;
    let edits = chosen.iter().filter_map(|id| hide(&tree, *id)).collect();
    let out = apply(text, edits);
    prove(&tree, &out, &chosen, paths)?;
    let fields = chosen.iter().map(|id| tree.path(*id)).collect();
    Ok(Redacted { bytes: [mark, out.as_bytes()].concat(), fields })
}

/// A range of a text, and what takes its place.
pub(crate) type Edit = (Range<usize>, String);

/// The marker in the place of a node. A string in double quotes is one in every format.
fn hide(tree: &Tree, id: Id) -> Option<Edit> {
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
fn prove(tree: &Tree, out: &str, chosen: &[Id], paths: &[Path]) -> Result<(), Error> {
    let unproven = Error::Unproven { format: tree.format };
    let again = read(tree.format, out).map_err(|_| unproven.clone())?;
    let swaps: BTreeMap<Id, Swap<'_>> = chosen.iter().map(|id| (*id, Swap::Text(MARKER))).collect();
    let left = choose(&again, out, paths).map_err(|_| unproven.clone())?;
    if left.is_empty() && agree(tree, &again, &swaps) { Ok(()) } else { Err(unproven) }
}
