//! Is a history of one key linearizable? A search in the manner of Wing and Gong: find an order of
//! the operations that keeps to real time and in which each outcome is the right one.

use std::collections::HashSet;

/// A value's number and its subtree index.
pub type Entry = (u32, u16);
pub type State = Option<Entry>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Insert(Entry),
    Set(Entry),
    Delete,
    Get,
    Exists,
    Update(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of an insert: what was there before, if it is known.
    Inserted,
    There(Option<Entry>),
    /// Of a set: whether a value was replaced; of a delete, exists, update: whether the key was
    /// there.
    Was(bool),
    Found(State),
}

/// One call: when it began and ended, by a counter that all threads share.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub start: u64,
    pub end: u64,
    pub op: Op,
    pub outcome: Outcome,
}

/// The state after the event, or `None` if it cannot have had this outcome.
fn apply(state: State, event: &Event) -> Option<State> {
    let present = state.is_some();
    match (event.op, event.outcome) {
        (Op::Insert(entry), Outcome::Inserted) => (!present).then_some(Some(entry)),
        (Op::Insert(_), Outcome::There(None)) => present.then_some(state),
        (Op::Insert(_), Outcome::There(seen)) => (seen == state).then_some(state),
        (Op::Set(entry), Outcome::Was(was)) => (was == present).then_some(Some(entry)),
        (Op::Delete, Outcome::Was(was)) => (was == present).then_some(None),
        (Op::Exists, Outcome::Was(was)) => (was == present).then_some(state),
        (Op::Get, Outcome::Found(seen)) => (seen == state).then_some(state),
        (Op::Update(index), Outcome::Was(was)) => {
            (was == present).then_some(state.map(|(value, _)| (value, index)))
        }
        _ => None,
    }
}

/// The states in which the key can be after the events (at most 64); empty if they have no order.
pub fn final_states(initial: State, events: &[Event]) -> HashSet<State> {
    assert!(events.len() <= 64, "{} events are too many for the search", events.len());
    let all = if events.len() == 64 { u64::MAX } else { (1 << events.len()) - 1 };
    let (mut seen, mut stack) = (HashSet::new(), vec![(0u64, initial)]);
    let mut results = HashSet::new();
    while let Some((done, state)) = stack.pop() {
        if !seen.insert((done, state)) {
            continue;
        }
        if done == all {
            results.insert(state);
            continue;
        }
        let open = || events.iter().enumerate().filter(|(i, _)| done >> i & 1 == 0);
        let first_end = open().map(|(_, event)| event.end).min().unwrap_or(u64::MAX);
        for (i, event) in open().filter(|(_, event)| event.start < first_end) {
            if let Some(next) = apply(state, event) {
                stack.push((done | 1 << i, next));
            }
        }
    }
    results
}
