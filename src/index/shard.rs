//! The header of a shard: lock and version, counters, stash.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use super::packed::Packed;
use super::version_lock::VersionLock;

/// One per shard, one cache line.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Header {
    lock: VersionLock,
    /// Buckets of a full page; constant.
    frame_buckets: AtomicU32,
    /// Changes are noted for a rehash.
    recording: AtomicBool,
    entries: AtomicU64,
    stash: AtomicU64,
    stash_entries: AtomicU32,
    pub pages: AtomicU32,
    pub splits: AtomicU32,
    pub rebuilds: AtomicU32,
    pub depth_max: AtomicU32,
    pub rehashes: AtomicU32,
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

    #[inline(always)]
    pub fn is_recording(&self) -> bool {
        self.recording.load(Relaxed)
    }

    /// Under the lock.
    pub fn set_recording(&self, recording: bool) {
        self.recording.store(recording, Relaxed);
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
}

impl std::ops::Deref for Header {
    type Target = VersionLock;

    #[inline(always)]
    fn deref(&self) -> &VersionLock {
        &self.lock
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
