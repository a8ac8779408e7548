//! How a map's directories are used: their shares of the shards, and how much of each may be taken.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::storage::Storage;
use crate::{Error, Result};

/// Which lane each of `shards` shards belongs to: to each its share of `weights`, to within one
/// shard, and spread evenly, so that neighbours go to different disks.
///
/// Each shard goes to the lane that is furthest behind its share (the divisor method of Webster and
/// Sainte-Laguë, as for seats in a parliament).
pub(super) fn lanes_of_shards(shards: usize, weights: &[u64]) -> Box<[u16]> {
    let mut taken = vec![0u64; weights.len()];
    (0..shards)
        .map(|_| {
            // weight / (2 * taken + 1) at its largest, compared without fractions.
            let ahead = |a: usize, b: usize| {
                let left = u128::from(weights[a]) * u128::from(2 * taken[b] + 1);
                left > u128::from(weights[b]) * u128::from(2 * taken[a] + 1)
            };
            let next = (1..weights.len()).fold(
                0,
                |best, lane| {
                    if ahead(lane, best) { lane } else { best }
                },
            );
            taken[next] += 1;
            // At most a few directories: `SlotTable` and the tail hold far fewer than 65,536.
            next as u16
        })
        .collect()
}

/// The files of a map in one directory: how many bytes they take, will take, and may take. All
/// generations of the map draw on it.
#[derive(Debug)]
pub(crate) struct Space {
    /// 0 for no limit.
    quota_bytes: u64,
    floor_bytes: u64,
    taken_bytes: AtomicU64,
    /// Of files that are not made yet, although what they will hold was acknowledged.
    expected_bytes: AtomicU64,
}

impl Space {
    pub(super) fn new(quota_bytes: u64, floor_bytes: u64) -> Arc<Self> {
        let (taken_bytes, expected_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { quota_bytes, floor_bytes, taken_bytes, expected_bytes })
    }

    /// The space of a file of so many bytes, none of which it has yet.
    pub(crate) fn of_file(self: &Arc<Self>, bytes: u64) -> FileSpace {
        FileSpace { space: Arc::clone(self), bytes, state: Mutex::new(State::Absent) }
    }

    fn admit(
        &self,
        before: u64,
        bytes: u64,
        directory: &Path,
        storage: &dyn Storage,
    ) -> Result<()> {
        if self.quota_bytes != 0 && before.saturating_add(bytes) > self.quota_bytes {
            let quota = self.quota_bytes;
            let reason = format!("txMapDirQuotas allows {quota} bytes, {before} are in use");
            return Err(full(directory, bytes, std::io::Error::other(reason)));
        }
        if self.floor_bytes != 0 {
            let free = storage.free_space(directory)?;
            if free.saturating_sub(bytes) < self.floor_bytes {
                let floor = self.floor_bytes;
                let reason = format!("txMapDirFloors keeps {floor} bytes free of {free}");
                return Err(full(directory, bytes, std::io::Error::other(reason)));
            }
        }
        Ok(())
    }

    /// Whether there is room for `bytes` beside everything that is there or expected; takes
    /// nothing.
    ///
    /// # Errors
    /// `DiskFull` if that would be more than the quota or than the disk has, or leave less than the
    /// floor.
    pub(crate) fn check(&self, bytes: u64, directory: &Path, storage: &dyn Storage) -> Result<()> {
        // In this order: a file that is made meanwhile counts twice, not never.
        let expected = self.expected_bytes.load(Ordering::SeqCst);
        let taken = self.taken_bytes.load(Ordering::SeqCst);
        let needed = bytes.saturating_add(expected);
        self.admit(taken, needed, directory, storage)?;
        if storage.free_space(directory)? >= needed {
            return Ok(());
        }
        let no_space = rustix::io::Errno::NOSPC.raw_os_error();
        Err(full(directory, needed, std::io::Error::from_raw_os_error(no_space)))
    }
}

fn full(directory: &Path, needed: u64, source: std::io::Error) -> Error {
    Error::DiskFull { path: directory.to_owned(), needed, source }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Expected,
    Taken,
}

/// What one file takes of a [`Space`]; given back on drop, which is for when the file is gone.
#[derive(Debug)]
pub(crate) struct FileSpace {
    space: Arc<Space>,
    bytes: u64,
    state: Mutex<State>,
}

impl FileSpace {
    /// The file will be made, limits or not: [`Space::check`] counts it.
    pub(crate) fn expect(&self) {
        let mut state = self.state.lock();
        if *state == State::Absent {
            self.space.expected_bytes.fetch_add(self.bytes, Ordering::SeqCst);
            *state = State::Expected;
        }
    }

    /// Takes the space of the file, which is to be made in `directory`.
    ///
    /// # Errors
    /// `DiskFull` if that would be more than the quota, or leave less than the floor.
    pub(crate) fn take(&self, directory: &Path, storage: &dyn Storage) -> Result<()> {
        let space = &self.space;
        let before = space.taken_bytes.fetch_add(self.bytes, Ordering::SeqCst);
        if let Err(error) = space.admit(before, self.bytes, directory, storage) {
            space.taken_bytes.fetch_sub(self.bytes, Ordering::SeqCst);
            return Err(error);
        }
        self.enter(State::Taken);
        Ok(())
    }

    /// Counts the file, which is there already, whatever the limits.
    pub(crate) fn occupied(&self) {
        self.space.taken_bytes.fetch_add(self.bytes, Ordering::SeqCst);
        self.enter(State::Taken);
    }

    /// What this was, in a value of its own; nothing is given back here any more.
    pub(crate) fn leave(&mut self) -> Self {
        let state = std::mem::replace(self.state.get_mut(), State::Absent);
        Self { space: Arc::clone(&self.space), bytes: self.bytes, state: Mutex::new(state) }
    }

    /// Gives back what was counted before. For [`State::Taken`] the caller has counted anew.
    fn enter(&self, next: State) {
        let counter = match std::mem::replace(&mut *self.state.lock(), next) {
            State::Absent => return,
            State::Expected => &self.space.expected_bytes,
            State::Taken => &self.space.taken_bytes,
        };
        counter.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

impl Drop for FileSpace {
    fn drop(&mut self) {
        self.enter(State::Absent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RuntimeSettings;
    use crate::storage::RealStorage;

    fn counts(lanes: &[u16], of: usize) -> Vec<usize> {
        (0..of).map(|lane| lanes.iter().filter(|&&it| usize::from(it) == lane).count()).collect()
    }

    #[test]
    fn shares_follow_the_weights_within_a_shard() {
        for directories in [1, 2, 3, 5, 7, 64] {
            let counts = counts(&lanes_of_shards(4096, &vec![1; directories]), directories);
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(max - min <= 1, "{directories} equal directories: {counts:?}");
        }
        for weights in [vec![3, 1], vec![1, 1000], vec![7, 5, 2, 1], vec![1000; 3]] {
            let sum: u64 = weights.iter().sum();
            let counts = counts(&lanes_of_shards(4096, &weights), weights.len());
            for (weight, count) in weights.iter().zip(&counts) {
                let share = 4096.0 * *weight as f64 / sum as f64;
                assert!((share - *count as f64).abs() <= 1.0, "{weights:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn neighbours_go_to_different_lanes() {
        let lanes = lanes_of_shards(4096, &[1, 1, 1]);
        assert!(lanes.windows(3).all(|three| three[0] != three[1] && three[1] != three[2]));
        let lanes = lanes_of_shards(4096, &[3, 1]);
        assert!(lanes.chunks(4).all(|four| four.iter().filter(|&&lane| lane == 1).count() == 1));
    }

    #[test]
    fn a_quota_counts_what_is_in_use_and_a_floor_what_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let storage = RealStorage::new(&RuntimeSettings::default());
        let space = Space::new(100, 0);
        let file = |bytes| space.of_file(bytes);
        let take = |file: &FileSpace| file.take(dir.path(), &storage);
        let check = |bytes| space.check(bytes, dir.path(), &storage);
        let (mut first, second) = (file(60), file(40));
        take(&first).unwrap();
        let refused = take(&file(41)).unwrap_err();
        assert!(matches!(refused, Error::DiskFull { needed: 41, .. }));
        assert!(refused.to_string().contains("allows 100 bytes, 60 are in use"), "{refused}");
        assert!(check(41).is_err(), "a refusal takes nothing, and gives nothing back");
        check(40).unwrap();
        take(&second).unwrap();
        assert!(check(1).is_err());
        let moved = first.leave();
        drop(first);
        assert!(check(1).is_err(), "whoever it was given to has it");
        drop(moved);
        check(60).unwrap();
        drop(second);
        check(100).unwrap();
        let there = file(200);
        there.occupied();
        assert!(check(1).is_err());
        drop(there);
        let space = Space::new(0, u64::MAX - 1);
        let refused = space.of_file(1).take(dir.path(), &storage).unwrap_err();
        assert!(refused.to_string().contains("txMapDirFloors keeps"), "{refused}");
        assert!(Space::new(0, 1).of_file(1).take(dir.path(), &storage).is_ok());
        let refused = Space::new(0, 0).check(u64::MAX, dir.path(), &storage).unwrap_err();
        assert!(refused.to_string().contains("os error 28"), "{refused}");
    }

    #[test]
    fn files_that_are_still_to_be_made_count_where_room_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let storage = RealStorage::new(&RuntimeSettings::default());
        let space = Space::new(100, 0);
        let check = |bytes| space.check(bytes, dir.path(), &storage);
        let (file, unmade) = (space.of_file(70), space.of_file(20));
        file.expect();
        file.expect();
        unmade.expect();
        check(10).unwrap();
        assert!(check(11).is_err());
        // Once, before and after it is made.
        file.take(dir.path(), &storage).unwrap();
        check(10).unwrap();
        assert!(check(11).is_err());
        drop(unmade);
        check(30).unwrap();
        assert!(check(31).is_err());
        drop(file);
        // Nothing is refused while it is expected, but when it is made.
        let large = space.of_file(101);
        large.expect();
        assert!(check(0).is_err() && large.take(dir.path(), &storage).is_err());
        drop(large);
        check(100).unwrap();
    }
}
