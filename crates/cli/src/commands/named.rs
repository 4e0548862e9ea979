//! Names of agents that somebody typed to narrow what is looked at: a mistyped one would find nothing, and
//! say so as if there were nothing.

use std::collections::BTreeSet;

use anyhow::Result;
use engine::Session;

use crate::exit::Usage;
use crate::settings::Settings;
use crate::ui::sanitize;

/// Refuses what neither an adapter here nor a snapshot calls an agent.
pub(crate) fn check<'n>(
    names: impl IntoIterator<Item = &'n String>,
    session: &Session,
    settings: &Settings,
) -> Result<()> {
    let names: Vec<&String> = names.into_iter().collect();
    if names.is_empty() {
        return Ok(());
    }
    let adapters = settings.adapters()?;
    let unknown = |name: &&&String| !adapters.iter().any(|adapter| adapter.id() == name.as_str());
    let Some(_) = names.iter().find(unknown) else { return Ok(()) };
    let (snapshots, _) = session.snapshots_listed()?;
    let held: BTreeSet<&str> = snapshots.iter().flat_map(|s| s.agents()).collect();
    match names.iter().filter(unknown).find(|name| !held.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let held: Vec<&str> = held.into_iter().collect();
            let held = match held.as_slice() {
                [] => "no snapshot here holds an agent".to_owned(),
                held => format!("snapshots here hold {}", held.join(", ")),
            };
            let name = sanitize::text(name);
            Err(Usage(format!("no agent is called '{name}'; {}", sanitize::text(&held))).into())
        }
    }
}
