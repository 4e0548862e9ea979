//! Which nodes of a tree the rules name: a tree and paths in, node numbers out, none inside another.
//!
//! All rules are followed at once from the top down. A state is a rule and how many of its segments
//! are behind; a node is visited with the states that lead there. What an alias or a merge key stands
//! for is visited with the states of the place where it stands, each state once, so that neither a
//! ring of aliases nor aliases of aliases take more time than nodes times states.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, refused};
use crate::path::{Path, Segment};
use crate::tree::{Id, Step, Tag, Tree, Value};

/// Rule, and how many of its segments are behind.
pub(crate) type State = (usize, usize);

/// The nodes to replace, in the order of the file. `text` is what the tree was read from.
pub(crate) fn choose(tree: &Tree, text: &str, paths: &[Path]) -> Result<Vec<Id>, Error> {
    let named = named(tree, paths);
    let (chosen, covered) = settle(tree, named);
    refuse(tree, text, &chosen, &covered)?;
    Ok(tree.in_order(chosen))
}

/// The nodes at which a rule ends, aliases resolved.
pub(crate) fn named(tree: &Tree, paths: &[Path]) -> Vec<Id> {
    let start: Vec<State> = (0..paths.len()).map(|rule| (rule, 0)).collect();
    let mut open: Vec<(Id, Vec<State>)> =
        tree.roots.iter().map(|id| (*id, start.clone())).collect();
    // states with which a node was entered other than from its parent
    let mut entered: BTreeMap<Id, BTreeSet<State>> = BTreeMap::new();
    let mut named = Vec::new();
    while let Some((id, states)) = open.pop() {
        let states = close(paths, states);
        if states.iter().any(|(rule, at)| *at == paths[*rule].segments().len()) {
            named.push(tree.resolve(id));
            // rules that end deeper would only find what goes with this node
            continue;
        }
        let mut enter = |id: Id, states: &[State]| {
            let seen = entered.entry(id).or_default();
            let fresh: Vec<State> = states.iter().copied().filter(|s| seen.insert(*s)).collect();
            if !fresh.is_empty() {
                open.push((id, fresh));
            }
        };
        if let Value::Alias(target) = tree.value(id) {
            enter(*target, &states);
            continue;
        }
        let mut steps = Vec::new();
        for child in tree.children(id) {
            let node = &tree.nodes[*child];
            if node.merged {
                let merged = tree.resolve(*child);
                enter(merged, &states);
                if let Value::List(several) = tree.value(merged) {
                    for one in several {
                        enter(tree.resolve(*one), &states);
                    }
                }
            }
            let next = match &node.step {
                Step::Key(key) => follow(paths, &states, key),
                Step::Index(index) => follow(paths, &states, &index.to_string()),
                Step::Document(_) => Vec::new(),
            };
            if !next.is_empty() {
                steps.push((*child, next));
            }
        }
        open.extend(steps);
    }
    named
}

/// The states with those that `**` reaches by standing for nothing.
pub(crate) fn close<P: Borrow<Path>>(paths: &[P], mut states: Vec<State>) -> Vec<State> {
    let mut at = 0;
    while let Some((rule, done)) = states.get(at).copied() {
        let next = (rule, done + 1);
        if paths[rule].borrow().segments().get(done) == Some(&Segment::Deep)
            && !states.contains(&next)
        {
            states.push(next);
        }
        at += 1;
    }
    states
}

/// The states after a step with this key or index.
pub(crate) fn follow<P: Borrow<Path>>(paths: &[P], states: &[State], step: &str) -> Vec<State> {
    let mut next = Vec::new();
    for (rule, done) in states {
        match paths[*rule].borrow().segments().get(*done) {
            Some(Segment::Deep) => next.push((*rule, *done)),
            Some(segment) if segment.takes(step) => next.push((*rule, *done + 1)),
            Some(_) | None => {}
        }
    }
    next.sort_unstable();
    next.dedup();
    next
}

/// Of the named nodes: those to replace, and all nodes that go with them because they lie inside.
fn settle(tree: &Tree, mut named: Vec<Id>) -> (BTreeSet<Id>, BTreeSet<Id>) {
    let mut chosen = BTreeSet::new();
    let mut covered = BTreeSet::new();
    // nodes whose values were all taken one by one
    let mut spread = BTreeSet::new();
    while let Some(id) = named.pop() {
        let id = tree.resolve(id);
        if tree.hides_nothing(id) || chosen.contains(&id) || covered.contains(&id) {
            continue;
        }
        if tree.nodes[id].slot.is_none() {
            if spread.insert(id) {
                named.extend(tree.children(id));
            }
            continue;
        }
        chosen.insert(id);
        for inner in tree.below(id).skip(1) {
            covered.insert(inner);
            if let Value::Alias(target) = tree.value(inner) {
                named.push(*target);
            }
        }
    }
    chosen.retain(|id| !covered.contains(id));
    (chosen, covered)
}

/// Refuses what could not be loaded any more, or would be read as something else than the marker.
fn refuse(
    tree: &Tree,
    text: &str,
    chosen: &BTreeSet<Id>,
    covered: &BTreeSet<Id>,
) -> Result<(), Error> {
    let at = |id: Id| tree.nodes[id].slot.as_ref().map_or(0, |slot| slot.start);
    for id in chosen {
        if tree.nodes[*id].tag == Tag::Other {
            let reason = "a value that is to be left out has a tag, and its text would not fit it";
            return Err(refused(text, at(*id), reason));
        }
    }
    for id in 0..tree.nodes.len() {
        if covered.contains(&id) || chosen.contains(&id) {
            continue;
        }
        if let Value::Alias(target) = tree.value(id)
            && covered.contains(target)
        {
            let reason = "an alias to an anchor inside a value that is to be left out";
            return Err(refused(text, at(id), reason));
        }
        if tree.nodes[id].merged {
            let merged = tree.resolve(id);
            let gone = |id: &Id| chosen.contains(&tree.resolve(*id));
            let several = matches!(tree.value(merged), Value::List(_));
            if gone(&merged) || (several && tree.children(merged).iter().any(gone)) {
                let reason = "what is merged here is to be left out as a whole; \
                              name the values in it instead";
                return Err(refused(text, at(id), reason));
            }
        }
    }
    Ok(())
}
