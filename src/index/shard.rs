//! The header of a shard: lock, version, counters, stash.
//!
//! Readers take no lock. They note the version, read, and accept what they read when the version is
//! even and still the same (a sequence lock). Writers hold the lock and make the version odd only
//! while they store, not while they search, so that readers wait as little as can be.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
use std::time::Duration;

use super::packed::Packed;

/// One per shard, one cache line.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Header {
    version: AtomicU64,
    locked: AtomicBool,
    /// Buckets of a full page; constant.
    frame_buckets: AtomicU32,
    entries: AtomicU64,
    stash: AtomicU64,
    stash_entries: AtomicU32,
    pub pages: AtomicU32,
    pub splits: AtomicU32,
    pub rebuilds: AtomicU32,
    pub depth_max: AtomicU32,
}

const _: () = assert!(size_of::<Header>() == 64);

/// Adds to a counter that only the lock's holder writes.
pub(super) fn bump(counter: &AtomicU32) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

impl Header {
    pub fn new(frame_buckets: usize) -> Self {
        // At most 256.
        Self { frame_buckets: AtomicU32::new(frame_buckets as u32), ..Self::default() }
    }

    pub fn frame_buckets(&self) -> usize {
        self.frame_buckets.load(Relaxed) as usize
    }

    pub fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    pub fn set_entries(&self, entries: u64) {
        self.entries.store(entries, Relaxed);
    }

    /// The stash's memory; `NONE` when there never was an entry.
    #[inline(always)]
    pub fn stash(&self) -> Packed {
        Packed::from_raw(self.stash.load(Acquire))
    }

    pub fn set_stash(&self, stash: Packed) {
        self.stash.store(stash.raw(), Release);
    }

    #[inline(always)]
    pub fn stash_entries(&self) -> usize {
        self.stash_entries.load(Relaxed) as usize
    }

    pub fn set_stash_entries(&self, entries: usize) {
        // A stash is far smaller: each entry is 16 bytes, and it is searched linearly.
        self.stash_entries.store(entries as u32, Relaxed);
    }

    /// The version before a read: even. Waits while a writer stores.
    #[inline(always)]
    pub fn version_before_read(&self) -> u64 {
        let version = self.version.load(Acquire);
        if version & 1 == 0 { version } else { self.wait_for_even() }
    }

    #[cold]
    fn wait_for_even(&self) -> u64 {
        let mut patience = Patience::default();
        loop {
            patience.wait();
            let version = self.version.load(Acquire);
            if version & 1 == 0 {
                return version;
            }
        }
    }

    /// Whether all that was read since `version` is one state of the shard.
    #[inline(always)]
    pub fn is_still(&self, version: u64) -> bool {
        fence(Acquire);
        self.version.load(Relaxed) == version
    }

    /// The version, for the holder of the lock.
    #[inline(always)]
    pub fn version_under_lock(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// Readers' views end here; they can start again when the section is dropped. For the holder
    /// of the lock.
    #[inline(always)]
    pub fn begin_write(&self) -> WriteSection<'_> {
        let version = self.version.load(Relaxed);
        debug_assert!(version & 1 == 0 && self.locked.load(Relaxed));
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);
        WriteSection { header: self, version }
    }

    /// Takes the shard's lock: spins a little, then yields, then sleeps.
    #[inline(always)]
    pub fn lock(&self) -> Locked<'_> {
        if self.locked.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
            self.lock_contended();
        }
        Locked { header: self }
    }

    #[cold]
    fn lock_contended(&self) {
        let mut patience = Patience::default();
        loop {
            if !self.locked.load(Relaxed)
                && self.locked.compare_exchange_weak(false, true, Acquire, Relaxed).is_ok()
            {
                return;
            }
            patience.wait();
        }
    }
}

/// The version is odd while this lives.
pub(super) struct WriteSection<'a> {
    header: &'a Header,
    version: u64,
}

impl Drop for WriteSection<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.header.version.store(self.version.wrapping_add(2), Release);
    }
}

/// The lock is held while this lives. (A flag and a plain store to release it: half the cost of a
/// lock that knows its waiters, and nobody holds it for more than the time of a split.)
pub(super) struct Locked<'a> {
    header: &'a Header,
}

impl Drop for Locked<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.header.locked.store(false, Release);
    }
}

/// How to wait for something short that another thread does, which may have lost its processor.
#[derive(Default)]
struct Patience {
    rounds: u32,
}

impl Patience {
    const SPINS: u32 = 64;
    const YIELDS: u32 = 64;
    const SLEEP: Duration = Duration::from_micros(50);

    fn wait(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds <= Self::SPINS {
            std::hint::spin_loop();
        } else if self.rounds <= Self::SPINS + Self::YIELDS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Self::SLEEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_ends_the_views_that_began_before() {
        let header = Header::new(128);
        let version = header.version_before_read();
        assert!(header.is_still(version));
        let lock = header.lock();
        assert!(header.is_still(version), "the lock alone changes nothing");
        let section = header.begin_write();
        assert!(!header.is_still(version));
        drop(section);
        drop(lock);
        assert!(!header.is_still(version));
        assert!(header.is_still(header.version_before_read()));
    }

    #[test]
    fn one_holder_at_a_time() {
        let header = Header::new(128);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let _lock = header.lock();
                        // A lost update would show.
                        header.set_entries(header.entries() + 1);
                    }
                });
            }
        });
        assert_eq!(header.entries(), 80_000);
    }

    #[test]
    fn readers_see_both_words_of_a_write_or_none() {
        let header = Header::new(128);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 1..=100_000u64 {
                    let _lock = header.lock();
                    let _section = header.begin_write();
                    header.set_entries(i);
                    header.pages.store(i as u32, Relaxed);
                }
                done.store(true, Release);
            });
            while !done.load(Acquire) {
                let version = header.version_before_read();
                let seen = (header.entries(), u64::from(header.pages.load(Relaxed)));
                if header.is_still(version) {
                    assert_eq!(seen.0, seen.1);
                }
            }
        });
    }
}
