//! Which commit each live long record of a durable map has, and which segments hold records that
//! are not their key's newest any more.
//!
//! A commit counts as live as long as its long record is, so that no segment is given up whose
//! commit is needed. What was superseded is marked before what superseded it is committed, under
//! the lock of the shard (docs/design.md, C8 and C9). The lock here is held for a look alone; a
//! shard's lock may be held when it is taken, never the other way round.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::lane::Lane;
use crate::diskmap::write::COMMIT_BYTES;

/// Places in units.
#[derive(Debug, Default)]
pub(super) struct Commits(Mutex<Both>);

#[derive(Debug, Default)]
struct Both {
    commit_of: HashMap<u64, u64>,
    long_of: HashMap<u64, u64>,
}

impl Both {
    fn set(&mut self, long: u64, commit: u64) {
        if let Some(old) = self.commit_of.insert(long, commit) {
            self.long_of.remove(&old);
        }
        self.long_of.insert(commit, long);
    }

    fn remove(&mut self, long: u64) -> Option<u64> {
        let commit = self.commit_of.remove(&long)?;
        self.long_of.remove(&commit);
        Some(commit)
    }
}

impl Lane {
    /// The long record at `long` is about to be published by the commit at `commit`, or is from now
    /// on, in place of the commit that it had.
    pub(crate) fn set_commit(&self, long: u64, commit: u64) {
        self.commits.0.lock().set(long, commit);
    }

    /// It was not published after all.
    pub(crate) fn forget_commit(&self, long: u64) {
        self.commits.0.lock().remove(long);
    }

    /// The long record that counts by the commit at this place.
    pub(crate) fn long_of_commit(&self, commit: u64) -> Option<u64> {
        self.commits.0.lock().long_of.get(&commit).copied()
    }

    /// Units of a commit.
    pub(crate) const fn commit_units(&self) -> u32 {
        super::record::record_units(self.factory.key_bytes as usize, COMMIT_BYTES)
    }

    /// In a durable map, says of the segment of a published record, and of that of its commit, that
    /// something newer is about to take its place. For the holder of the lock of the key's shard.
    pub(crate) fn mark_superseded(&self, units_at: u64, units: u32) {
        if !self.factory.durable {
            return;
        }
        self.mark_segment_superseded(units_at);
        if units > self.short_units_max()
            && let Some(commit) = self.commits.0.lock().commit_of.get(&units_at).copied()
        {
            self.mark_segment_superseded(commit);
        }
    }

    /// The same of one place.
    pub(crate) fn mark_segment_superseded(&self, units_at: u64) {
        let slot = self.table.place_of_units(units_at).slot;
        if let Some(entry) = self.table.entry(slot)
            && let Some(segment) = entry.segment.load().as_ref()
        {
            segment.mark_superseded();
        }
    }

    /// A published record is not wanted any more; nor is the commit that it may have.
    pub(crate) fn value_died(&self, units_at: u64, units: u32) {
        if self.factory.durable && units > self.short_units_max() {
            let commit = self.commits.0.lock().remove(units_at);
            if let Some(commit) = commit {
                self.record_died(commit, self.commit_units());
            }
        }
        self.record_died(units_at, units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_anew_takes_the_place_of_the_old_one() {
        let commits = Commits::default();
        let mut both = commits.0.lock();
        both.set(100, 200);
        both.set(100, 300);
        both.set(101, 301);
        assert_eq!((both.long_of.get(&200), both.long_of.get(&300)), (None, Some(&100)));
        assert_eq!((both.remove(100), both.remove(100)), (Some(300), None));
        assert_eq!((both.long_of.len(), both.commit_of.len()), (1, 1));
    }
}
