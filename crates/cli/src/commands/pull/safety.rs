//! The safety snapshot of a restore: made, told, or a reason to stop before anything is replaced.

use anyhow::Result;
use engine::pull::safety::{self, LiveRoot, Saved};
use engine::pull::{Overwrite, Plan};
use engine::{Problem, Session};
use repo::Snapshot;

use crate::commands::Context;
use crate::commands::push;
use crate::commands::snapshots::short_id;
use crate::exit::{self, Exit, Stop};
use crate::ui::count;
use crate::ui::progress::{Meter, Told};

/// How one goes on without it.
const WITHOUT: &str = "pull --no-safety-snapshot replaces what is there unsaved";

/// What a restore does first.
#[derive(Default)]
pub(super) struct Done {
    /// The snapshot that has what was there; none if there was nothing to save.
    pub(super) snapshot: Option<Snapshot>,
    /// What was told of single files.
    pub(super) told: Vec<Told>,
    /// Files that nothing may be added to, as they are not saved.
    pub(super) closed: Vec<Problem>,
}

/// Saves what the plan replaces, and says how to go back to it.
pub(super) fn save(
    plan: &mut Plan,
    roots: &[LiveRoot],
    overwrite: Overwrite,
    session: &Session,
    context: &Context<'_>,
) -> Result<Done> {
    let screen = context.screen;
    let meter = Meter::new(screen);
    let options = push::options(&context.settings)?;
    let cancel = context.signals.graceful();
    let saved = safety::save(session, plan, roots, overwrite, &options, &meter, cancel);
    let suspects = meter.suspects();
    let saved = saved.map_err(|error| stopped(error.into()));
    for one in saved.iter().flat_map(|saved| &saved.unsaved) {
        meter.tell(&one.path, &one.what, true);
    }
    let told = meter.finish();
    let Saved { pushed, unsaved, closed } = saved?;
    push::warn_of_secrets(&suspects, screen);
    if !unsaved.is_empty() {
        let items = count(unsaved.len() as u64, "item that is", "items that are");
        screen.note(format_args!("{items} replaced cannot be saved; -v names each"));
    }
    let snapshot = pushed.map(|pushed| pushed.snapshot().clone());
    if let Some(snapshot) = &snapshot {
        let id = short_id(&snapshot.id);
        screen.note(format_args!(
            "what is there now is in snapshot {id}; to go back: agent-backup pull {id}"
        ));
    }
    Ok(Done { snapshot, told, closed })
}

/// Nothing was saved, so nothing is replaced.
fn stopped(error: anyhow::Error) -> anyhow::Error {
    let error = error.context("nothing was restored, as what is there could not be saved first");
    let Some(failure) = exit::explain(&error) else { return error };
    if matches!(failure.exit, Exit::Interrupted | Exit::Terminated) {
        return error;
    }
    let hint = failure.hint.map_or_else(|| WITHOUT.to_owned(), |hint| format!("{hint}; {WITHOUT}"));
    Stop::new(failure.exit, failure.message, hint).into()
}
