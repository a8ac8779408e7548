//! What the process holds: descriptors and writer threads.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static ALONE: Mutex<()> = Mutex::new(());

/// Lets the tests of one file run one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Open descriptors and writer threads.
#[derive(Debug, PartialEq, Eq)]
pub struct Footprint {
    descriptors: usize,
    writers: usize,
}

impl Footprint {
    pub fn now() -> Self {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let writers = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(Result::ok)
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .filter(|name| name.trim() == "blocktier-disk")
            .count();
        Self { descriptors, writers }
    }

    /// Nothing is left of what was made since. A writer thread whose last user was a job or tick of
    /// its own ends a moment later.
    #[track_caller]
    pub fn check(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while &Self::now() != self && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(&Self::now(), self);
    }
}

/// The entries of a directory, sorted.
pub fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
