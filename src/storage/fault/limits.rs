//! A disk that is small or slow.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Space and speed of one storage.
#[derive(Debug, Default)]
pub(super) struct Limits {
    space: Mutex<Space>,
    rate: Mutex<Rate>,
}

#[derive(Debug, Default)]
struct Space {
    capacity: Option<u64>,
    /// Bytes that may still be written.
    write_limit: Option<u64>,
    /// How far each file reaches, by reservation or by writing.
    files: HashMap<PathBuf, u64>,
    used: u64,
}

#[derive(Debug, Default)]
struct Rate {
    bytes_per_second: Option<u64>,
    /// When each directory has done what was asked of it.
    done_at: HashMap<PathBuf, Instant>,
}

impl Limits {
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.space.lock().capacity = bytes;
    }

    pub fn set_write_limit(&self, bytes: Option<u64>) {
        self.space.lock().write_limit = bytes;
    }

    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        *self.rate.lock() = Rate { bytes_per_second, done_at: HashMap::new() };
    }

    /// Bytes left, if there is a capacity.
    pub fn free(&self) -> Option<u64> {
        let space = self.space.lock();
        space.capacity.map(|capacity| capacity.saturating_sub(space.used))
    }

    /// Lets the file reach to `end`; false if the disk is too small for that.
    pub fn take_space(&self, path: &Path, end: u64) -> bool {
        self.space.lock().reach(path, end) == end
    }

    /// How many of `len` bytes at `offset` can be written; counts them.
    pub fn take_write(&self, path: &Path, offset: u64, len: u64, alignment: u64) -> u64 {
        let mut space = self.space.lock();
        let end = space.reach(path, offset + len);
        let fits = end.saturating_sub(offset).min(space.write_limit.unwrap_or(u64::MAX));
        let fits = if fits < len { fits - fits % alignment } else { len };
        if let Some(limit) = &mut space.write_limit {
            *limit -= fits;
        }
        fits
    }

    /// The file reaches to `end` at most.
    pub fn cut_space(&self, path: &Path, end: u64) {
        let mut space = self.space.lock();
        let space = &mut *space;
        if let Some(reach) = space.files.get_mut(path) {
            space.used -= reach.saturating_sub(end);
            *reach = end.min(*reach);
        }
    }

    /// The file has another name now.
    pub fn rename(&self, from: &Path, to: &Path) {
        let mut space = self.space.lock();
        let space = &mut *space;
        if let Some(reach) = space.files.remove(from) {
            space.used -= space.files.insert(to.to_owned(), reach).unwrap_or(0);
        }
    }

    /// Waits as long as the directory's disk takes for `bytes`.
    pub fn throttle(&self, path: &Path, bytes: u64) {
        let now = Instant::now();
        if let Some(done_at) = self.done_at(path, bytes, now) {
            std::thread::sleep(done_at.saturating_duration_since(now));
        }
    }

    /// When the directory's disk, asked `now`, has done with `bytes` more; `None` without a rate.
    fn done_at(&self, path: &Path, bytes: u64, now: Instant) -> Option<Instant> {
        let mut rate = self.rate.lock();
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.bytes_per_second?);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let dir = path.parent().unwrap_or(path).to_owned();
        let done_at = rate.done_at.entry(dir).or_insert(now);
        *done_at = (*done_at).max(now) + time;
        Some(*done_at)
    }
}

impl Space {
    /// Lets the file reach towards `end`; how far it may.
    fn reach(&mut self, path: &Path, end: u64) -> u64 {
        let before = self.files.get(path).copied().unwrap_or(0);
        let wanted = end.saturating_sub(before);
        let free = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used));
        if wanted > free {
            return before;
        }
        self.used += wanted;
        self.files.insert(path.to_owned(), before.max(end));
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_has_the_rate_for_itself() {
        let limits = Limits::default();
        let now = Instant::now();
        let after = |path: &str, bytes, now: Instant| {
            limits.done_at(Path::new(path), bytes, now).map(|done_at| done_at - now)
        };
        assert_eq!(after("/a/1", 1000, now), None);
        limits.set_rate(Some(1000));
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(after("/a/1", 2000, now), seconds(2));
        assert_eq!(after("/a/2", 1000, now), seconds(3));
        assert_eq!(after("/b/1", 1000, now), seconds(1));
        // A disk that was idle meanwhile owes nothing.
        let later = now + Duration::from_secs(10);
        assert_eq!(after("/a/1", 1000, later), seconds(1));
        limits.set_rate(None);
        assert_eq!(after("/a/1", 1000, later), None);
    }
}
