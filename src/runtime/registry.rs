//! The process's disks, by canonical directory.
//!
//! The one global of the crate: two runtimes (or two copies of a setting that name one directory by
//! different paths) must not have two threads that write to one disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use super::disk::{Disk, Queue};
use crate::events::EventRing;
use crate::storage::check_directory;
use crate::{Error, Result};

struct Entry {
    queue: Arc<Queue>,
    disk: Weak<Disk>,
}

static DISKS: LazyLock<Mutex<HashMap<PathBuf, Entry>>> = LazyLock::new(Mutex::default);

/// The disk of `dir`: the one in use, or the ending one brought back, or a new one.
pub(super) fn disk(dir: &Path, events: &Arc<EventRing>) -> Result<Arc<Disk>> {
    check_directory(dir)?;
    let canonical = std::fs::canonicalize(dir)
        .map_err(|error| Error::io("resolve directory", dir, None, error))?;
    let mut disks = DISKS.lock();
    let queue = match disks.get(&canonical) {
        Some(entry) => {
            if let Some(disk) = entry.disk.upgrade() {
                disk.add_listener(events);
                return Ok(disk);
            }
            Arc::clone(&entry.queue)
        }
        None => Queue::start(canonical.clone())
            .map_err(|error| Error::io("start the writer thread of", dir, None, error))?,
    };
    let disk = Arc::new(Disk::attach(Arc::clone(&queue)));
    disks.insert(canonical, Entry { queue, disk: Arc::downgrade(&disk) });
    drop(disks);
    disk.add_listener(events);
    Ok(disk)
}

/// Removes `queue` from the registry if `unused` says so under the registry's lock.
pub(super) fn remove_if(dir: &Path, queue: &Arc<Queue>, unused: impl FnOnce() -> bool) -> bool {
    let mut disks = DISKS.lock();
    if !unused() {
        return false;
    }
    if disks.get(dir).is_some_and(|entry| Arc::ptr_eq(&entry.queue, queue)) {
        disks.remove(dir);
    }
    true
}

/// True while `dir` has a writer thread.
#[cfg(test)]
pub(super) fn is_known(dir: &Path) -> bool {
    DISKS.lock().contains_key(dir)
}

/// True while somebody holds the disk of `dir`.
#[cfg(test)]
pub(super) fn handle_is_alive(dir: &Path) -> bool {
    DISKS.lock().get(dir).is_some_and(|entry| entry.disk.strong_count() > 0)
}
