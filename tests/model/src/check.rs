//! Walking a configuration to its end, or to a bound.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model as _, Path};

use crate::milestone::Milestone;
use crate::model::{Action, Protocol, State};
use crate::setup::Setup;

/// Threads of a check.
const THREADS: usize = 2;

/// Most states that a check of the normal test run generates.
pub const GENERATED_MAX: usize = 40_000_000;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Different states.
    pub states: usize,
    /// True if there are no others.
    pub exhausted: bool,
    /// Broken promises, each with how it came to that.
    pub broken: Vec<(&'static str, String)>,
    /// What happened somewhere.
    pub reached: Vec<Milestone>,
    /// How long it took.
    pub took: Duration,
}

impl Verdict {
    /// True if no promise was broken.
    pub fn is_safe(&self) -> bool {
        self.broken.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extent = if self.exhausted { "all" } else { "not all" };
        let secs = self.took.as_secs_f32();
        write!(f, "{} states ({extent}), {secs:.1} s, reached {:?}", self.states, self.reached)?;
        for (promise, story) in &self.broken {
            write!(f, "\nBROKEN: {promise}\n{story}")?;
        }
        Ok(())
    }
}

fn story(path: Path<State, Action>) -> String {
    let mut out = String::new();
    for (state, action) in path.into_vec() {
        if let Some(action) = action {
            let step = match action {
                Action::Go(n, _) | Action::Crash(n) => {
                    let client = state.clients[usize::from(n)];
                    format!(" at {}: {:?}", client.op, client.step)
                }
                Action::Land(n) => format!(": {:?}", state.clients[usize::from(n)].late),
                _ => String::new(),
            };
            let _ = writeln!(out, "  {action:?}{step}");
        } else {
            let _ = writeln!(out, "  {:?}, acknowledged {:?}", state.store, state.acked);
        }
    }
    out
}

/// Walks until a promise is broken, until there are no more states, or until `generated_max` were
/// generated, those that were known included. What takes few steps comes first.
pub fn check(setup: Setup, generated_max: usize) -> Verdict {
    let began = Instant::now();
    verdict(&walk(setup, generated_max).spawn_bfs().join(), generated_max, began)
}

/// The same, with long stories first: where a bound is met long before the end, the short ones
/// alone would never come to a deletion.
pub fn check_deep(setup: Setup, generated_max: usize) -> Verdict {
    let began = Instant::now();
    verdict(&walk(setup, generated_max).spawn_dfs().join(), generated_max, began)
}

fn walk(setup: Setup, generated_max: usize) -> CheckerBuilder<Protocol> {
    let builder = Protocol::new(setup).checker().threads(THREADS);
    builder.finish_when(HasDiscoveries::AnyFailures).target_state_count(generated_max)
}

fn verdict(checker: &impl Checker<Protocol>, generated_max: usize, began: Instant) -> Verdict {
    let discoveries = checker.discoveries();
    let mut broken: Vec<_> =
        discoveries.into_iter().map(|(promise, path)| (promise, story(path))).collect();
    broken.sort_by_key(|(_, story)| story.len());
    Verdict {
        states: checker.unique_state_count(),
        exhausted: broken.is_empty() && checker.state_count() < generated_max,
        broken,
        reached: checker.model().reached(),
        took: began.elapsed(),
    }
}
