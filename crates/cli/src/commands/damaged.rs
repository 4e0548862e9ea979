//! Snapshots that are damaged, where the others are looked at all the same.

use engine::DamagedSnapshot;
use serde::Serialize;

use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::ui::{Screen, sanitize};

/// One in documents.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DamagedRecord {
    id: String,
    what: String,
}

pub(crate) fn records(damaged: &[DamagedSnapshot]) -> Vec<DamagedRecord> {
    damaged.iter().map(|one| DamagedRecord { id: one.id.hex(), what: one.what.clone() }).collect()
}

/// Tells of them; how the run ends that would have ended with `exit`.
pub(crate) fn tell(damaged: &[DamagedSnapshot], screen: &Screen, exit: Exit) -> Exit {
    for one in damaged {
        let what = sanitize::text(&one.what);
        screen.warn(format_args!("snapshot {} is passed over: {what}", short_id(&one.id)));
    }
    if damaged.is_empty() {
        return exit;
    }
    screen.note(
        "agent-backup verify says which files that touches, agent-backup repair --help what can be done",
    );
    Exit::Damage
}
