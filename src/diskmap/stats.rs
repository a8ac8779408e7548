//! Figures of a map.

use std::sync::atomic::AtomicU64;

/// Counters of rare events.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Reads of files, merged ones counted once.
    pub(super) file_reads: AtomicU64,
    /// Tags that matched another key.
    pub(super) false_matches: AtomicU64,
    /// Confirms that lost so many races that they took `slow_mu`.
    pub(super) slow_confirms: AtomicU64,
}

/// A snapshot of a map's counters and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct MapStats {
    /// Keys in the map.
    pub entries: u64,
    /// RAM of the index, subtree indexes included.
    pub index_bytes: u64,
    /// RAM of the subtree indexes.
    pub subtree_index_bytes: u64,
    /// RAM of the tail.
    pub tail_bytes: u64,
    /// Bytes of live records, in tail and files; one that is being moved or replaced counts twice.
    pub live_bytes: u64,
    /// Segments in use.
    pub segments: u64,
    /// Reads of files.
    pub file_reads: u64,
    /// Tags that matched another key.
    pub false_matches: u64,
    /// Confirms that went through the slow path's lock.
    pub slow_confirms: u64,
    /// Times a writer waited for room in the tail.
    pub waits: u64,
    /// Page splits of the index.
    pub splits: u64,
    /// Base pages of the index that were built anew from their keys.
    pub rehashes: u64,
    /// Of those that were begun, the ones that were given up for an error; the event says which.
    pub rehash_failures: u64,
    /// 1 if the map has failed and takes no more writes.
    pub failed: u64,
    /// Merges of segments that were completed.
    pub compactions: u64,
    /// Bytes that merges have read.
    pub compaction_bytes_read: u64,
    /// Bytes of records that merges have moved.
    pub compaction_bytes_written: u64,
    /// Bytes of dead records and padding, in tail and files.
    pub dead_bytes: u64,
    /// Of those, what compaction is behind by.
    pub pending_compaction_bytes: u64,
    /// Segments that compaction found damaged and leaves alone.
    pub damaged_segments: u64,
}
