//! The memory that everything of a runtime shares, and how much a process may have at all.
//!
//! The budget is an account, not an allocator: tails and indexes reserve before they map and
//! release after they unmap. A reservation that doesn't fit fails at once and takes nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::MemoryReserve;
use crate::{Error, Result};

/// An account of bytes with a limit.
///
/// ```
/// use blocktier::runtime::{MemoryBudget, MemoryReserve};
/// let budget = MemoryBudget::new(100);
/// budget.reserve("tail", 60)?;
/// assert!(budget.reserve("index", 41).is_err());
/// budget.release(60);
/// assert_eq!(budget.used(), 0);
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryBudget {
    limit: u64,
    used: AtomicU64,
}

impl MemoryBudget {
    /// An account of `limit` bytes.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Bytes that may be reserved in all.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are reserved.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl MemoryReserve for MemoryBudget {
    fn reserve(&self, what: &'static str, bytes: u64) -> Result<()> {
        let grant = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grant)
            .map(|_| ())
            .map_err(|used| Error::OutOfMemory { what, bytes, available: self.limit - used })
    }

    fn release(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "released {bytes} of {before} reserved bytes");
    }
}

/// Bytes of memory this process may have: RAM, or the limit of its cgroup or of one above it.
#[must_use]
pub fn memory_limit() -> u64 {
    let info = rustix::system::sysinfo();
    let ram = u64::from(info.mem_unit).saturating_mul(info.totalram);
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroup_limit(&own, Path::new("/sys/fs/cgroup")).map_or(ram, |limit| limit.min(ram))
}

/// The lowest memory limit on the way from the process's groups up to the mount's root. `own` is
/// the text of `/proc/self/cgroup`: lines `id:controllers:path`; version 2 has no controllers.
fn cgroup_limit(own: &str, mount: &Path) -> Option<u64> {
    let mut lowest = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            (mount.to_owned(), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        for dir in ancestors_within(&root, path) {
            // The word "max" and a directory that this namespace doesn't show both mean no limit.
            let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
            if let Ok(limit) = text.trim().parse::<u64>() {
                lowest = Some(lowest.map_or(limit, |other: u64| other.min(limit)));
            }
        }
    }
    lowest
}

/// `root/a/b`, `root/a`, `root` for the path `/a/b`.
fn ancestors_within(root: &Path, path: &str) -> Vec<PathBuf> {
    let full = root.join(path.trim_start_matches('/'));
    full.ancestors().take_while(|dir| dir.starts_with(root)).map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn reserving_past_the_limit_takes_nothing_and_says_what_is_left() {
        let budget = MemoryBudget::new(1000);
        budget.reserve("tail", 400).unwrap();
        let error = budget.reserve("index", 601).unwrap_err();
        assert!(
            matches!(error, Error::OutOfMemory { what: "index", bytes: 601, available: 600 }),
            "{error:?}"
        );
        assert!(error.to_string().contains("raise memoryBudget"));
        assert!(budget.reserve("overflow", u64::MAX).is_err());
        assert_eq!(budget.used(), 400);
        budget.reserve("index", 600).unwrap();
        budget.release(1000);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn concurrent_reservations_never_exceed_the_limit() {
        let budget = MemoryBudget::new(100);
        let granted: u64 = std::thread::scope(|scope| {
            let reserve = || (0..1000).filter(|_| budget.reserve("test", 1).is_ok()).count() as u64;
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(reserve)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((granted, budget.used()), (100, 100));
    }

    #[test]
    fn the_lowest_cgroup_limit_on_the_way_up_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("node/pod/memory.max", "max\n");
        write("node/memory.max", "5000\n");
        assert_eq!(cgroup_limit("0::/node/pod\n", mount.path()), Some(5000));
        write("node/pod/memory.max", "3000\n");
        assert_eq!(cgroup_limit("0::/node/pod\n", mount.path()), Some(3000));
        assert_eq!(cgroup_limit("0::/\n", mount.path()), None);
        assert_eq!(cgroup_limit("0::/elsewhere\n", mount.path()), None);
        assert_eq!(cgroup_limit("nonsense\n", mount.path()), None);
        write("memory/job/memory.limit_in_bytes", "2000\n");
        let v1 = "4:cpu,cpuacct:/job\n3:memory:/job\n0::/\n";
        assert_eq!(cgroup_limit(v1, mount.path()), Some(2000));
    }

    #[test]
    fn this_process_has_a_limit() {
        assert!(memory_limit() > 64 << 20, "{}", memory_limit());
    }
}
