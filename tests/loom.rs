//! The lock of a shard under a model checker: every interleaving of a few threads, with what the
//! memory model allows each load to see.
//!
//! The module under test is the library's own file, on loom's atomics.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;

#[path = "../src/index/version_lock.rs"]
mod version_lock;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

    pub(super) fn pause(_rounds: &mut u32) {
        loom::thread::yield_now();
    }
}

use version_lock::VersionLock;

/// Tries all interleavings with up to three preemptions, which finds nearly every bug and ends.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

#[test]
fn one_writer_at_a_time() {
    model(|| {
        let shared = Arc::new((VersionLock::default(), AtomicU64::new(0)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let _lock = shared.0.lock();
                    // Lost if two threads are in here at once, or if the second does not see what
                    // the first wrote.
                    shared.1.store(shared.1.load(Relaxed) + 1, Relaxed);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let _lock = shared.0.lock();
        assert_eq!(shared.1.load(Relaxed), 2);
    });
}

/// Two words that writers change together, as slot and subtree index are.
#[derive(Default)]
struct Entry {
    lock: VersionLock,
    words: [AtomicU64; 2],
}

impl Entry {
    fn write(&self, value: u64) {
        let _lock = self.lock.lock();
        let _section = self.lock.begin_write();
        self.words.iter().for_each(|word| word.store(value, Relaxed));
    }

    /// One try of a reader; none when a writer came between.
    fn try_read(&self) -> Option<[u64; 2]> {
        let version = self.lock.version_before_read();
        let seen = [self.words[0].load(Relaxed), self.words[1].load(Relaxed)];
        self.lock.is_still(version).then_some(seen)
    }
}

#[test]
fn a_reader_sees_all_of_a_write_or_none() {
    model(|| {
        let entry = Arc::new(Entry::default());
        let writer = {
            let entry = Arc::clone(&entry);
            thread::spawn(move || {
                entry.write(1);
                entry.write(2);
            })
        };
        for _ in 0..2 {
            if let Some([first, second]) = entry.try_read() {
                assert_eq!(first, second, "a torn read was accepted");
            }
        }
        writer.join().unwrap();
        assert_eq!(entry.try_read(), Some([2, 2]));
    });
}

#[test]
fn a_reader_sees_all_of_two_writers_or_none() {
    model(|| {
        let entry = Arc::new(Entry::default());
        let writers: Vec<_> = (1..=2)
            .map(|value| {
                let entry = Arc::clone(&entry);
                thread::spawn(move || entry.write(value))
            })
            .collect();
        if let Some([first, second]) = entry.try_read() {
            assert_eq!(first, second, "a torn read was accepted");
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let seen = entry.try_read();
        assert!(matches!(seen, Some([1, 1] | [2, 2])), "{seen:?}");
    });
}

/// What a confirm relies on: a word that was changed and changed back in between is not taken for
/// one that stayed, since the version never comes back.
#[test]
fn a_value_that_came_back_is_noticed() {
    model(|| {
        let entry = Arc::new(Entry::default());
        let version = entry.lock.version_before_read();
        let writer = {
            let entry = Arc::clone(&entry);
            thread::spawn(move || {
                entry.write(1);
                entry.write(0);
            })
        };
        // Under the lock the version tells whether anything happened since.
        let (unchanged, word) = {
            let _lock = entry.lock.lock();
            (entry.lock.version_under_lock() == version, entry.words[0].load(Relaxed))
        };
        assert!(!unchanged || word == 0);
        writer.join().unwrap();
        let _lock = entry.lock.lock();
        assert_ne!(entry.lock.version_under_lock(), version);
        assert!(!entry.lock.is_still(version));
    });
}
