//! Counters of an index.

use std::sync::atomic::Ordering::Relaxed;

use super::Index;
use super::shard::Header;

/// What an index holds and has done so far. Exact while nobody writes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Entries.
    pub entries: u64,
    /// Pages in use.
    pub pages: u64,
    /// Pages that were split in two.
    pub splits: u64,
    /// Growing pages that were rebuilt larger.
    pub rebuilds: u64,
    /// Base pages that were built anew from their keys.
    pub rehashes: u64,
    /// Entries in the shards' stashes.
    pub stash_entries: u64,
    /// Memory taken, in bytes; see [`Index::memory_bytes`].
    pub memory_bytes: u64,
    /// The most tag bits that splits have used in any page.
    pub split_depth_max: u32,
}

impl Index {
    /// Entries. Sums up 4096 counters: exact while nobody writes, and not for every operation.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.headers.iter().map(Header::entries).sum()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.iter().all(|header| header.entries() == 0)
    }

    /// Memory taken from the account, in bytes: mapped chunks, touched or not, headers and
    /// directory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.arena.reserved_bytes()
    }

    /// The part of the memory that subtree indexes take, in bytes.
    #[must_use]
    pub fn subtree_index_bytes(&self) -> u64 {
        self.subtree_bytes.load(Relaxed)
    }

    /// All counters.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        let zero = IndexStats { memory_bytes: self.memory_bytes(), ..IndexStats::default() };
        self.headers.iter().fold(zero, |sum, header| IndexStats {
            entries: sum.entries + header.entries(),
            pages: sum.pages + u64::from(header.pages.load(Relaxed)),
            splits: sum.splits + u64::from(header.splits.load(Relaxed)),
            rebuilds: sum.rebuilds + u64::from(header.rebuilds.load(Relaxed)),
            rehashes: sum.rehashes + u64::from(header.rehashes.load(Relaxed)),
            stash_entries: sum.stash_entries + header.stash_entries() as u64,
            memory_bytes: sum.memory_bytes,
            split_depth_max: sum.split_depth_max.max(header.depth_max.load(Relaxed)),
        })
    }
}
