//! The model: every client and everybody else may do its next request at any time.
//!
//! A client that is never scheduled again is one that crashed for good, so a crash is an action only
//! where the client begins again. Strangers ask operations to stop, forget snapshots and tidy up.

use std::sync::atomic::{AtomicU32, Ordering};

use stateright::{Model, Property};

use crate::ids::Ids;
use crate::milestone::Milestone;
use crate::plan::{CLIENTS, FIRST_OP, Plan};
use crate::setup::{Flaw, Role, Setup};
use crate::step::{Client, Step};
use crate::store::{Objects, Store};
use crate::turn::{Choice, Turn};

/// A stranger that ends an operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stranger {
    /// Does nothing.
    Idle,
    /// K1 is done.
    Asked(u8),
    /// K2 found no snapshot.
    FoundNone(u8),
}

/// Store and clients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    /// What is stored.
    pub(crate) store: Store,
    /// The clients; those that there are not are done.
    pub(crate) clients: [Client; CLIENTS],
    /// Snapshots that somebody was told are safe, and did not forget.
    pub(crate) acked: Ids,
    /// Snapshots that somebody was told are pinned, and did not unpin.
    pub(crate) held: Ids,
    /// Forgotten snapshots for which somebody saw no pin after the record: they may be deleted
    /// at any time.
    pub(crate) unpinned: Ids,
    /// A stranger that asks operations to stop.
    pub(crate) stranger: Stranger,
    /// How many more it asks.
    pub(crate) kills: u8,
}

/// What happens next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A client does its next request.
    Go(u8, Choice),
    /// A client crashes and begins again.
    Crash(u8),
    /// A request of a client that crashed lands.
    Land(u8),
    /// K1 by a stranger.
    AskToStop(u8),
    /// K2 by a stranger.
    LookForSnapshot,
    /// K3 by a stranger.
    DeclareDead,
    /// PUT `forgot/`.
    Forget(u8),
    /// LIST `pin/` by who forgets, or by a collector that tidies up after one.
    LookForPins(u8),
    /// DELETE `snap/`.
    DropForgotten(u8),
    /// DELETE every pin of a snapshot.
    Unpin(u8),
    /// DELETE `op/` of an ended operation.
    TidyOp(u8),
    /// DELETE `end/` where there is no `op/`.
    TidyEnd(u8),
}

/// A configuration as the checker walks it.
#[derive(Debug)]
pub(crate) struct Protocol {
    plan: Plan,
    reached: AtomicU32,
}

impl Protocol {
    /// What `setup` describes.
    pub(crate) fn new(setup: Setup) -> Self {
        Self { plan: Plan::new(setup), reached: AtomicU32::new(0) }
    }

    /// The milestones that were met so far.
    pub(crate) fn reached(&self) -> Vec<Milestone> {
        let bits = self.reached.load(Ordering::Relaxed);
        Milestone::ALL.into_iter().filter(|milestone| bits & milestone.bit() != 0).collect()
    }

    /// Counted by hand: the checker keeps a path for every state in which something happens that
    /// ought to happen sometimes, and that is most of them.
    fn note(&self, state: &State) {
        let before = self.reached.load(Ordering::Relaxed);
        let missing = Milestone::ALL.into_iter().filter(|milestone| before & milestone.bit() == 0);
        for milestone in missing {
            if milestone.met(&self.plan, state) {
                self.reached.fetch_or(milestone.bit(), Ordering::Relaxed);
            }
        }
    }

    fn strangers(&self, state: &State, out: &mut Vec<Action>) {
        let (setup, store) = (&self.plan.setup, &state.store);
        match state.stranger {
            Stranger::Idle if state.kills > 0 => {
                let mut running = store.ops - store.ended();
                if setup.pins() {
                    // who listed a moment ago does not see a snapshot that may be pinned by now
                    running |= store.ops & store.valid();
                }
                out.extend(running.iter().map(Action::AskToStop));
            }
            Stranger::Idle => {}
            Stranger::Asked(_) => out.push(Action::LookForSnapshot),
            Stranger::FoundNone(_) => out.push(Action::DeclareDead),
        }
        let old = setup.forgets & Ids::of(&[0, 1]);
        let new = if setup.forgets_new { state.acked } else { Ids::NONE };
        let forgettable = (old | new) & (store.snaps - store.forgots);
        out.extend(forgettable.iter().map(Action::Forget));
        let forgotten = store.snaps & store.forgots;
        if setup.pins() && setup.flaw != Some(Flaw::NoLookForPins) {
            let looks = forgotten - self.plan.pinned(store) - state.unpinned;
            out.extend(looks.iter().map(Action::LookForPins));
            out.extend((forgotten & state.unpinned).iter().map(Action::DropForgotten));
        } else {
            out.extend(forgotten.iter().map(Action::DropForgotten));
        }
        if setup.unpins {
            out.extend(self.plan.pinned(store).iter().map(Action::Unpin));
        }
        if setup.tidies {
            out.extend((store.ops & store.ended()).iter().map(Action::TidyOp));
            out.extend((store.ends - store.ops).iter().map(Action::TidyEnd));
        }
    }

    fn may_crash(&self, n: usize, client: &Client, acked: Ids) -> bool {
        let (first, end) = self.plan.ops[n];
        let begun = client.step != self.plan.first_step(n) || client.op > first;
        let running = client.step.is_running() && !client.step.is_restart();
        // the answer was there and the client could not write it down
        let answered = client.step == Step::Done && acked.has(client.op);
        self.plan.setup.crashes && begun && (running || answered) && client.op + 1 < end
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let world = &self.plan.setup.world;
        let mut store = Store {
            snaps: world.snaps,
            deads: world.deads,
            packs: world.packs,
            holds: world.holds,
            index: Objects { plain: world.index, merged: Ids::NONE },
            ..Store::default()
        };
        if !world.merged.is_empty() {
            store.merged[0] = world.merged;
            store.index.merged = Ids::one(0);
        }
        if !world.condemned.is_empty() {
            store.condemned[0] = world.condemned;
            store.covers[0] = Ids::one(0);
        }
        let client = |n: usize| Client {
            op: self.plan.ops[n].0,
            step: self.plan.first_step(n),
            doubtful: Ids::NONE,
            late: None,
        };
        vec![State {
            store,
            clients: std::array::from_fn(client),
            acked: Ids::NONE,
            held: Ids::NONE,
            unpinned: Ids::NONE,
            stranger: Stranger::Idle,
            kills: self.plan.setup.kills,
        }]
    }

    fn actions(&self, state: &State, out: &mut Vec<Action>) {
        self.note(state);
        let mut choices = Vec::new();
        for (name, (n, client)) in (0u8..).zip(state.clients.iter().enumerate()) {
            if client.late.is_some() {
                out.push(Action::Land(name));
            }
            let waits = client.step == self.plan.first_step(n)
                && match self.plan.roles[n] {
                    Some(Role::Undelete) => state.store.snaps.has(0),
                    // nobody pins what he has not seen
                    Some(Role::Pin(snap)) => !(state.store.snaps | state.store.forgots).has(snap),
                    _ => false,
                };
            if client.step.is_running() && !waits {
                choices.clear();
                self.plan.choices(&state.store, client.step, &mut choices);
                out.extend(choices.iter().map(|choice| Action::Go(name, *choice)));
            }
            if self.may_crash(n, client, state.acked) {
                out.push(Action::Crash(name));
            }
        }
        self.strangers(state, out);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        let store = &mut next.store;
        match action {
            Action::Go(n, choice) => {
                let n = usize::from(n);
                let (acked, held) = (&mut next.acked, &mut next.held);
                let mut turn = Turn { plan: &self.plan, store, acked, held };
                if next.clients[n].step == Step::Withdraw
                    && self.plan.is(Flaw::WithdrawnThoughPinned)
                {
                    next.unpinned |= next.clients[n].doubtful & turn.store.snaps;
                }
                turn.take(n, &mut next.clients[n], choice);
            }
            Action::Crash(n) => {
                let n = usize::from(n);
                let client = &mut next.clients[n];
                let sends = self.plan.write(&mut store.clone(), client.op, client.step);
                if self.plan.setup.late && sends && client.late.is_none() {
                    client.late = Some((client.op, client.step));
                }
                if client.step.is_of_pin() {
                    // whoever pins again uses another name, and has nothing to end
                    client.op += 1;
                    client.step = self.plan.first_step(n);
                } else {
                    client.step = self.plan.restart_step(n);
                }
                client.doubtful = Ids::NONE;
            }
            Action::Land(n) => {
                let (op, step) = next.clients[usize::from(n)].late.take()?;
                self.plan.write(store, op, step);
            }
            Action::AskToStop(op) => {
                store.kills |= Ids::one(op);
                next.kills -= 1;
                next.stranger = Stranger::Asked(op);
            }
            Action::LookForSnapshot => {
                next.stranger = match state.stranger {
                    Stranger::Asked(op) if !store.valid().has(op) => Stranger::FoundNone(op),
                    _ => Stranger::Idle,
                };
            }
            Action::DeclareDead => {
                if let Stranger::FoundNone(op) = state.stranger {
                    store.deads |= Ids::one(op);
                }
                next.stranger = Stranger::Idle;
            }
            Action::Forget(snap) => {
                store.forgots |= Ids::one(snap);
                next.acked -= Ids::one(snap);
            }
            Action::LookForPins(snap) => next.unpinned |= Ids::one(snap),
            Action::DropForgotten(snap) => {
                store.snaps -= Ids::one(snap);
                next.unpinned -= Ids::one(snap);
            }
            Action::Unpin(snap) => {
                store.pins -= self.plan.pinners(Ids::one(snap));
                next.held -= Ids::one(snap);
            }
            Action::TidyOp(op) => store.ops -= Ids::one(op),
            Action::TidyEnd(op) => store.ends -= Ids::one(op),
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "an acknowledged snapshot can be restored",
                |model: &Self, state: &State| {
                    let old = model.plan.setup.world.snaps - state.store.forgots;
                    let restorable = |op: u8| model.plan.restorable(&state.store, op);
                    (old | state.acked).iter().all(restorable)
                },
            ),
            Property::always("an acknowledged snapshot stays one", |_: &Self, state: &State| {
                (state.store.valid() - state.store.forgots).holds(state.acked)
            }),
            Property::always(
                "every snapshot that counts can be restored",
                |model: &Self, state: &State| {
                    let restorable = |op: u8| model.plan.restorable(&state.store, op);
                    let mut counts = state.store.valid();
                    if model.plan.setup.pins() {
                        counts -= state.store.forgots;
                    }
                    counts.iter().all(restorable)
                },
            ),
            Property::always(
                "a pinned snapshot is there and can be restored",
                |model: &Self, state: &State| {
                    let restorable = |op: u8| model.plan.restorable(&state.store, op);
                    state.store.valid().holds(state.held) && state.held.iter().all(restorable)
                },
            ),
        ]
    }
}

impl State {
    /// Snapshots of clients that were acknowledged.
    pub(crate) fn acked_by_clients(&self) -> Ids {
        self.acked.iter().filter(|op| *op >= FIRST_OP).collect()
    }

    /// Clients of a role, with their operations.
    pub(crate) fn at<'a>(
        &'a self,
        plan: &'a Plan,
        wanted: impl Fn(Role) -> bool + 'a,
    ) -> impl Iterator<Item = (usize, &'a Client)> {
        let of_role = move |(n, _): &(usize, &Client)| plan.roles[*n].is_some_and(&wanted);
        self.clients.iter().enumerate().filter(of_role)
    }

    /// True if some client stands at a step.
    pub(crate) fn any(&self, test: impl Fn(&Client, Step) -> bool) -> bool {
        self.clients.iter().any(|client| test(client, client.step))
    }
}
