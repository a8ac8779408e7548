//! The runtime's one background thread: work that is nobody's call, such as compaction.
//!
//! Work is registered once and asks for its turn by ringing its [`Bell`]; a turn is one short step,
//! and the one that has waited longest comes next. The thread is started by the first bell that
//! rings, sleeps without work, and ends with the runtime.
//!
//! Locks: one, never held while a step runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::events::{EventLevel, EventRing};

/// Something to do in the background.
pub(crate) trait Work: Send + Sync {
    /// One short step. Must not keep the runtime alive: the runtime's end waits for it.
    fn step(&self) -> Next;

    /// A step has panicked; there will be no other.
    fn panicked(&self, reason: &str);
}

/// When the next step is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// When the bell rings.
    Idle,
    /// At this time, or when the bell rings.
    At(Instant),
}

/// What a runtime holds; its drop ends the thread.
#[derive(Debug)]
pub(crate) struct Background {
    hub: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    events: Arc<EventRing>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    next_id: u64,
    thread: Option<JoinHandle<()>>,
    /// Whose step runs.
    current: Option<u64>,
    stopped: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("entries", &self.entries.len())
            .field("started", &self.thread.is_some())
            .finish_non_exhaustive()
    }
}

struct Entry {
    id: u64,
    work: Weak<dyn Work>,
    due: Option<Instant>,
    rung: Arc<AtomicBool>,
}

/// Asks for a turn. Cheap to ring again while the turn has not come.
#[derive(Debug)]
pub(crate) struct Bell {
    hub: Arc<Hub>,
    id: u64,
    rung: Arc<AtomicBool>,
    rings: AtomicU64,
}

impl Background {
    pub(crate) fn new(events: Arc<EventRing>) -> Self {
        let hub = Hub { events, state: Mutex::default(), changed: Condvar::new() };
        Self { hub: Arc::new(hub) }
    }

    /// A bell without work yet.
    pub(crate) fn bell(&self) -> Arc<Bell> {
        let mut state = self.hub.state.lock();
        state.next_id += 1;
        let (hub, id) = (Arc::clone(&self.hub), state.next_id);
        Arc::new(Bell { hub, id, rung: Arc::default(), rings: AtomicU64::new(0) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let thread = {
            let mut state = self.hub.state.lock();
            state.stopped = true;
            state.thread.take()
        };
        self.hub.changed.notify_all();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // Panics of steps are caught; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

impl Bell {
    /// Gives the bell its work; forgotten when the work is dropped.
    pub(crate) fn attach(&self, work: Weak<dyn Work>) {
        let entry = Entry { id: self.id, work, due: None, rung: Arc::clone(&self.rung) };
        let mut state = self.hub.state.lock();
        state.entries.retain(|entry| entry.work.strong_count() > 0);
        state.entries.push(entry);
    }

    /// Takes the work away. When this returns, no step of it runs and nobody holds it here. Not to
    /// be called by a step.
    pub(crate) fn detach(&self) {
        let mut state = self.hub.state.lock();
        state.entries.retain(|entry| entry.id != self.id);
        while state.current == Some(self.id) {
            self.hub.changed.wait(&mut state);
        }
    }

    /// Asks for a turn.
    pub(crate) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::AcqRel);
        if !self.rung.swap(true, Ordering::AcqRel) && !self.hub.wake(self.id) {
            // Nobody heard it: the next one is to be heard.
            self.rung.store(false, Ordering::Release);
        }
    }

    /// How often it was rung: what was computed at the same count is still current, as far as
    /// whoever rings it tells.
    pub(crate) fn rings(&self) -> u64 {
        self.rings.load(Ordering::Acquire)
    }
}

impl Hub {
    /// False if there is no work to wake.
    fn wake(self: &Arc<Self>, id: u64) -> bool {
        let mut state = self.state.lock();
        if state.stopped {
            return false;
        }
        let entry = state.entries.iter_mut().find(|entry| entry.id == id);
        let Some(entry) = entry else { return false };
        entry.due = Some(Instant::now());
        if state.thread.is_none() {
            let hub = Arc::clone(self);
            let started = std::thread::Builder::new()
                .name("blocktier-back".to_owned())
                .spawn(move || hub.run());
            match started {
                Ok(thread) => state.thread = Some(thread),
                Err(error) => {
                    drop(state);
                    let text =
                        format!("no background thread, so no compaction and no rehashing: {error}");
                    self.events.push_once("background", EventLevel::Error, text);
                    return false;
                }
            }
        }
        drop(state);
        self.changed.notify_all();
        true
    }

    fn run(&self) {
        while let Some((id, work)) = self.next() {
            let due = work.upgrade().and_then(|work| self.step(work.as_ref()));
            let mut state = self.state.lock();
            state.current = None;
            match (due, state.entries.iter().position(|entry| entry.id == id)) {
                (Some(Next::At(time)), Some(place)) => {
                    let due = &mut state.entries[place].due;
                    *due = Some(due.map_or(time, |due| due.min(time)));
                }
                (None, Some(place)) => drop(state.entries.swap_remove(place)),
                (Some(Next::Idle), _) | (_, None) => {}
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Runs one step; `None` if it panicked.
    fn step(&self, work: &dyn Work) -> Option<Next> {
        let payload = match catch_unwind(AssertUnwindSafe(|| work.step())) {
            Ok(next) => return Some(next),
            Err(payload) => payload,
        };
        let reason = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        self.events.push(EventLevel::Error, format!("background work panicked: {reason}"));
        work.panicked(&reason);
        None
    }

    /// Waits for the work that is due first; `None` when the runtime ends.
    fn next(&self) -> Option<(u64, Weak<dyn Work>)> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let first = state
                .entries
                .iter_mut()
                .filter_map(|entry| entry.due.map(|due| (due, entry)))
                .min_by_key(|(due, _)| *due);
            match first {
                Some((due, entry)) if due <= Instant::now() => {
                    entry.due = None;
                    // Before the step looks at anything: what rings from now on is a new turn.
                    entry.rung.store(false, Ordering::Release);
                    let next = (entry.id, Weak::clone(&entry.work));
                    state.current = Some(next.0);
                    return Some(next);
                }
                Some((due, _)) => {
                    self.changed.wait_until(&mut state, due);
                }
                None => self.changed.wait(&mut state),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use super::*;

    #[derive(Debug)]
    struct Steps {
        done: Mutex<Sender<&'static str>>,
        left: Mutex<u32>,
        name: &'static str,
    }

    impl Work for Steps {
        fn step(&self) -> Next {
            let mut left = self.left.lock();
            assert!(*left > 0, "too many steps");
            *left -= 1;
            self.done.lock().send(self.name).unwrap();
            if *left == 0 { Next::Idle } else { Next::At(Instant::now()) }
        }

        fn panicked(&self, reason: &str) {
            assert_eq!(reason, "too many steps");
            self.done.lock().send("panicked").unwrap();
        }
    }

    #[test]
    fn bells_get_their_turns_a_panic_ends_one_and_the_runtime_ends_all() {
        let events = Arc::new(EventRing::new());
        let background = Background::new(Arc::clone(&events));
        let (sender, done) = channel();
        let start = |name, steps| {
            let bell = background.bell();
            let (done, left) = (Mutex::new(sender.clone()), Mutex::new(steps));
            let work: Arc<dyn Work> = Arc::new(Steps { done, left, name });
            bell.attach(Arc::downgrade(&work));
            (bell, work)
        };
        let (first, first_work) = start("first", 2);
        let (second, second_work) = start("second", 1);
        assert!(background.hub.state.lock().thread.is_none(), "not before the first bell");
        let next = || done.recv_timeout(Duration::from_secs(60)).unwrap();
        first.ring();
        assert_eq!((next(), next()), ("first", "first"));
        second.ring();
        assert_eq!((next(), second.rings()), ("second", 1));
        first.ring();
        assert_eq!(next(), "panicked");
        assert!(events.pop().unwrap().text.contains("too many steps"));
        first.ring();
        drop((first_work, second_work));
        drop(background);
        second.ring();
        assert!(done.try_recv().is_err());
    }
}
