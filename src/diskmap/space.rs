//! How a map's directories are used: their shares of the shards, and how much of each may be taken.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// The files of a map in one directory: how many bytes they take, and may take. All generations of
/// the map draw on it.
#[derive(Debug)]
pub(crate) struct Space {
    /// 0 for no limit.
    quota_bytes: u64,
    floor_bytes: u64,
    taken_bytes: AtomicU64,
}

impl Space {
    pub(super) fn new(quota_bytes: u64, floor_bytes: u64) -> Arc<Self> {
        Arc::new(Self { quota_bytes, floor_bytes, taken_bytes: AtomicU64::new(0) })
    }

    /// Takes `bytes` for a file in `directory`; given back when the result is dropped, which is
    /// for when the file is gone.
    ///
    /// # Errors
    /// `DiskFull` if that would be more than the quota, or leave less than the floor.
    pub(crate) fn take(
        self: &Arc<Self>,
        bytes: u64,
        directory: &Path,
        storage: &dyn Storage,
    ) -> Result<Taken> {
        let taken = Taken { space: Arc::clone(self), bytes };
        let before = self.taken_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.admit(before, bytes, directory, storage).map(|()| taken)
    }

    fn admit(
        &self,
        before: u64,
        bytes: u64,
        directory: &Path,
        storage: &dyn Storage,
    ) -> Result<()> {
        let refuse = |reason: String| {
            let path = directory.to_owned();
            Err(Error::DiskFull { path, needed: bytes, source: std::io::Error::other(reason) })
        };
        if self.quota_bytes != 0 && before.saturating_add(bytes) > self.quota_bytes {
            let quota = self.quota_bytes;
            return refuse(format!("txMapDirQuotas allows {quota} bytes, {before} are in use"));
        }
        if self.floor_bytes != 0 {
            let free = storage.free_space(directory)?;
            if free.saturating_sub(bytes) < self.floor_bytes {
                let floor = self.floor_bytes;
                return refuse(format!("txMapDirFloors keeps {floor} bytes free of {free}"));
            }
        }
        Ok(())
    }

    /// Whether `bytes` more would be granted now; takes nothing.
    ///
    /// # Errors
    /// As for [`Space::take`].
    pub(crate) fn check(&self, bytes: u64, directory: &Path, storage: &dyn Storage) -> Result<()> {
        self.admit(self.taken_bytes.load(Ordering::Acquire), bytes, directory, storage)
    }

    /// Counts `bytes` of a file that is there already, whatever the limits.
    pub(crate) fn occupied(self: &Arc<Self>, bytes: u64) -> Taken {
        self.taken_bytes.fetch_add(bytes, Ordering::AcqRel);
        Taken { space: Arc::clone(self), bytes }
    }

    #[cfg(test)]
    fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Acquire)
    }
}

/// Bytes of a [`Space`] in use.
#[derive(Debug)]
pub(crate) struct Taken {
    space: Arc<Space>,
    bytes: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.space.taken_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
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
        let first = space.take(60, dir.path(), &storage).unwrap();
        let refused = space.take(41, dir.path(), &storage).unwrap_err();
        assert!(matches!(refused, Error::DiskFull { needed: 41, .. }));
        assert!(refused.to_string().contains("allows 100 bytes, 60 are in use"), "{refused}");
        assert_eq!(space.taken_bytes(), 60, "a refusal takes nothing");
        assert!(space.check(41, dir.path(), &storage).is_err());
        space.check(40, dir.path(), &storage).unwrap();
        let second = space.take(40, dir.path(), &storage).unwrap();
        drop(first);
        assert_eq!(space.taken_bytes(), 40);
        drop(second);
        let space = Space::new(0, u64::MAX - 1);
        let refused = space.take(1, dir.path(), &storage).unwrap_err();
        assert!(refused.to_string().contains("txMapDirFloors keeps"), "{refused}");
        assert!(Space::new(0, 1).take(1, dir.path(), &storage).is_ok());
    }
}
