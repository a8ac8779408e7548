//! Counters of one disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What was done on one disk since it was first used. Whoever does the I/O adds to it; relaxed
/// atomics, so that figures are exact but not of one instant.
#[derive(Debug, Default)]
pub struct DiskStats {
    bytes_written: AtomicU64,
    bytes_read: AtomicU64,
    writes: AtomicU64,
    reads: AtomicU64,
    write_errors: AtomicU64,
    queued_jobs: AtomicU64,
    job_panics: AtomicU64,
    busy_nanos: AtomicU64,
}

/// [`DiskStats`] at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStatsSnapshot {
    /// Bytes given to the file system.
    pub bytes_written: u64,
    /// Bytes taken from the file system.
    pub bytes_read: u64,
    /// Write calls that succeeded.
    pub writes: u64,
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Jobs that wait for the writer thread, without the one it runs.
    pub queued_jobs: u64,
    /// Jobs and ticks that panicked.
    pub job_panics: u64,
    /// Time the writer thread spent in jobs, in nanoseconds.
    pub busy_nanos: u64,
}

impl DiskStats {
    /// Counts one write of `bytes`.
    pub fn add_write(&self, bytes: u64) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts one read of `bytes`.
    pub fn add_read(&self, bytes: u64) {
        self.add_reads(1, bytes);
    }

    /// Counts `reads` reads of `bytes` together.
    pub fn add_reads(&self, reads: u64, bytes: u64) {
        self.reads.fetch_add(reads, Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts one write that failed.
    pub fn add_write_error(&self) {
        self.write_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_queued(&self) {
        self.queued_jobs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_queued(&self) {
        self.queued_jobs.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn add_panic(&self) {
        self.job_panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_busy(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The figures now.
    #[must_use]
    pub fn snapshot(&self) -> DiskStatsSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskStatsSnapshot {
            bytes_written: get(&self.bytes_written),
            bytes_read: get(&self.bytes_read),
            writes: get(&self.writes),
            reads: get(&self.reads),
            write_errors: get(&self.write_errors),
            queued_jobs: get(&self.queued_jobs),
            job_panics: get(&self.job_panics),
            busy_nanos: get(&self.busy_nanos),
        }
    }
}
