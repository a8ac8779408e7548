//! The lock of a shard and the version that readers go by.
//!
//! Readers take no lock. They note the version, read, and accept what they read when the version is
//! even and still the same (a sequence lock). Writers hold the lock and make the version odd only
//! while they store, not while they search, so that readers wait as little as can be.
//!
//! `sync` has the atomics: those of the standard library, or in `tests/loom.rs`, which includes
//! this file, those of a model checker that tries every interleaving.

use super::sync::Ordering::{Acquire, Relaxed, Release};
use super::sync::{AtomicBool, AtomicU64, fence, pause};

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct VersionLock {
    version: AtomicU64,
    locked: AtomicBool,
}

impl VersionLock {
    /// The version before a read: even. Waits while a writer stores.
    #[inline(always)]
    pub fn version_before_read(&self) -> u64 {
        let version = self.version.load(Acquire);
        if version & 1 == 0 { version } else { self.wait_for_even() }
    }

    #[cold]
    fn wait_for_even(&self) -> u64 {
        let mut rounds = 0;
        loop {
            pause(&mut rounds);
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
        WriteSection { lock: self, version }
    }

    /// Takes the lock: spins a little, then yields, then sleeps.
    #[inline(always)]
    pub fn lock(&self) -> Locked<'_> {
        if self.locked.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
            self.lock_contended();
        }
        Locked { lock: self }
    }

    #[cold]
    fn lock_contended(&self) {
        let mut rounds = 0;
        loop {
            if !self.locked.load(Relaxed)
                && self.locked.compare_exchange_weak(false, true, Acquire, Relaxed).is_ok()
            {
                return;
            }
            pause(&mut rounds);
        }
    }
}

/// The version is odd while this lives.
pub(super) struct WriteSection<'a> {
    lock: &'a VersionLock,
    version: u64,
}

impl Drop for WriteSection<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.version.store(self.version.wrapping_add(2), Release);
    }
}

/// The lock is held while this lives. (A flag and a plain store to release it: half the cost of a
/// lock that knows its waiters, and nobody holds it for more than the time of a split.)
pub(super) struct Locked<'a> {
    lock: &'a VersionLock,
}

impl Drop for Locked<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.locked.store(false, Release);
    }
}
