//! What happened that an operator should know: a bounded ring, drained by the embedder.
//!
//! The library never calls into its embedder and writes no log file. A fallback (no direct I/O, no
//! `io_uring`), a caught panic or a failed map is pushed here; the embedder takes events out one by
//! one and gives them to its own logger. Each event is a `tracing` event too.
//!
//! Threads: every method may be called from any thread. The ring keeps the newest events; what was
//! pushed out unread is counted.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Events kept until the embedder takes them.
pub const EVENT_CAPACITY: usize = 1024;

/// Distinct keys that [`EventRing::push_once`] remembers; past that every key counts as seen.
const ONCE_KEYS_MAX: usize = 4096;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventLevel {
    /// Something worth a line in a log.
    Info,
    /// Something works less well than it could, such as a fallback in use.
    Warn,
    /// Something failed.
    Error,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How much it matters.
    pub level: EventLevel,
    /// What happened, as one line.
    pub text: String,
}

/// The bounded ring of events.
///
/// ```
/// use blocktier::events::{EventLevel, EventRing};
/// let ring = EventRing::new();
/// ring.push_once("direct:/data", EventLevel::Warn, "no direct I/O at /data");
/// ring.push_once("direct:/data", EventLevel::Warn, "no direct I/O at /data");
/// assert_eq!(ring.pop().map(|event| event.text).as_deref(), Some("no direct I/O at /data"));
/// assert_eq!(ring.pop(), None);
/// ```
#[derive(Debug, Default)]
pub struct EventRing {
    inner: Mutex<Inner>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    once_keys: HashSet<String>,
}

impl EventRing {
    /// An empty ring.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event; pushes the oldest one out when the ring is full.
    pub fn push(&self, level: EventLevel, text: impl Into<String>) {
        let text = text.into();
        match level {
            EventLevel::Info => tracing::info!("{text}"),
            EventLevel::Warn => tracing::warn!("{text}"),
            EventLevel::Error => tracing::error!("{text}"),
        }
        let mut inner = self.inner.lock();
        if inner.events.len() == EVENT_CAPACITY {
            inner.events.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        inner.events.push_back(Event { level, text });
    }

    /// Adds an event unless one with this key was added before. True if it was added.
    pub fn push_once(&self, key: &str, level: EventLevel, text: impl Into<String>) -> bool {
        {
            let mut inner = self.inner.lock();
            if inner.once_keys.contains(key) || inner.once_keys.len() >= ONCE_KEYS_MAX {
                return false;
            }
            inner.once_keys.insert(key.to_owned());
        }
        self.push(level, text);
        true
    }

    /// Takes the oldest event.
    #[must_use]
    pub fn pop(&self) -> Option<Event> {
        self.inner.lock().events.pop_front()
    }

    /// Events waiting to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().events.len()
    }

    /// True when no event waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Events that were pushed out before anybody took them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_ring_keeps_the_newest_and_counts_the_rest() {
        let ring = EventRing::new();
        for i in 0..EVENT_CAPACITY + 3 {
            ring.push(EventLevel::Info, format!("event {i}"));
        }
        assert_eq!(ring.len(), EVENT_CAPACITY);
        assert_eq!(ring.dropped(), 3);
        assert_eq!(ring.pop().unwrap().text, "event 3");
    }

    #[test]
    fn once_is_per_key_even_after_the_event_was_taken() {
        let ring = EventRing::new();
        assert!(ring.push_once("a", EventLevel::Warn, "first"));
        assert_eq!(ring.pop().unwrap().text, "first");
        assert!(!ring.push_once("a", EventLevel::Warn, "again"));
        assert!(ring.push_once("b", EventLevel::Warn, "other"));
        assert_eq!(ring.pop().unwrap().text, "other");
        assert!(ring.is_empty());
    }
}
