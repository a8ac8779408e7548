//! A disk that is small: a tmpfs, mounted for the test.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

/// Between fork and exec a child holds the test's files open, and a small disk does not get the
/// space of a removed one back until then. Mounting starts one, so one disk waits for the other.
static FORKS: Mutex<()> = Mutex::new(());

/// A mounted tmpfs, unmounted on drop. One at a time in a process.
pub struct SmallDisk {
    dir: TempDir,
    _no_forks: MutexGuard<'static, ()>,
}

impl SmallDisk {
    /// Mounts a tmpfs with these options. `None`, and a word on standard error, where mounting is
    /// not permitted.
    pub fn mount(options: &str) -> Option<Self> {
        // A test that failed with it has nothing to leave behind.
        let no_forks = FORKS.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "blocktier-test"])
            .arg(dir.path())
            .output();
        let reason = match mounted {
            Ok(output) if output.status.success() => {
                return Some(Self { dir, _no_forks: no_forks });
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("skipped: no small tmpfs here, mount says: {reason}");
        None
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl AsRef<Path> for SmallDisk {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.dir.path()).status();
        let done = unmounted.is_ok_and(|status| status.success());
        assert!(done || std::thread::panicking(), "umount failed: files are in use");
    }
}
