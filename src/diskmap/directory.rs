//! A map's own subdirectory on one disk: locked while the map lives, gone with it, swept if its
//! owner died.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use crate::events::EventLevel;
use crate::runtime::{Disk, Runtime};
use crate::storage::{DirLock, Storage};
use crate::{Error, Result};

/// What the names of our subdirectories start with.
const PREFIX: &str = "blocktier-map-";
const PURPOSE: &str = "transaction map";
const SWEEPING: &str = "sweeping";

/// See the module's text.
#[derive(Debug)]
pub(crate) struct MapDirectory {
    path: PathBuf,
    disk: Arc<Disk>,
    storage: Arc<dyn Storage>,
    lock: Option<DirLock>,
}

impl MapDirectory {
    /// Makes and locks a fresh subdirectory of `parent`, named `name` or else after the store;
    /// first sweeps what maps of dead processes left there.
    pub(crate) fn create(
        runtime: &Runtime,
        parent: &Path,
        name: Option<&str>,
        store_id: u64,
    ) -> Result<Self> {
        let disk = runtime.disk(parent)?;
        let storage = Arc::clone(runtime.storage());
        sweep(runtime, disk.dir());
        let name = name.map_or_else(|| format!("{store_id:016x}"), str::to_owned);
        let path = disk.dir().join(format!("{PREFIX}{name}"));
        storage.create_dir_all(&path)?;
        let lock = acquire(&path).inspect_err(|_| {
            // Refused while somebody's lock file is in it.
            let _ = storage.remove_dir(&path);
        })?;
        Ok(Self { path, disk, storage, lock: Some(lock) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }
}

impl Drop for MapDirectory {
    fn drop(&mut self) {
        let (storage, path, lock) =
            (Arc::clone(&self.storage), self.path.clone(), self.lock.take());
        let (done, wait) = mpsc::channel();
        // Behind the segments' own removals, which were queued before.
        self.disk.submit(Box::new(move || {
            if let Err(error) = remove_contents(storage.as_ref(), &path) {
                tracing::warn!(%error, "a map's files are left for the next map to sweep");
                if let Some(lock) = lock {
                    lock.abandon();
                }
            } else {
                drop(lock);
                let _ = storage.remove_dir(&path);
            }
            let _ = done.send(());
        }));
        let _ = wait.recv();
    }
}

/// Locks the directory. Another map that opens may look into it for a moment, to see whether its
/// owner is dead; that is not an owner, even before it has written who it is.
fn acquire(path: &Path) -> Result<DirLock> {
    for attempt in 0..100 {
        match DirLock::acquire(path, PURPOSE) {
            Err(Error::Locked { owner, .. }) if attempt < 5 || owner.starts_with(SWEEPING) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
    DirLock::acquire(path, PURPOSE)
}

fn remove_contents(storage: &dyn Storage, path: &Path) -> Result<()> {
    for file in storage.read_dir(path)? {
        // The lock file goes with the lock.
        if file.extension().is_some_and(|extension| extension == "seg") {
            storage.remove_file(&file)?;
        }
    }
    Ok(())
}

/// Removes the subdirectories of maps whose process is gone. One that is locked has a living owner
/// and stays; one that cannot be removed is reported and does not keep a new map from opening.
fn sweep(runtime: &Runtime, parent: &Path) {
    let storage = runtime.storage().as_ref();
    for path in storage.read_dir(parent).unwrap_or_default() {
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if !ours || !path.join("LOCK").exists() {
            continue;
        }
        let Ok(lock) = DirLock::acquire(&path, SWEEPING) else { continue };
        // Without the text of an owner it may be one that is being made just now, between its
        // directory and its lock.
        if lock.previous_owner().is_none() {
            continue;
        }
        let swept = remove_contents(storage, &path);
        drop(lock);
        match swept.and_then(|()| storage.remove_dir(&path)) {
            Ok(()) => tracing::info!(path = %path.display(), "swept the files of a dead map"),
            Err(error) => {
                let text = format!("the files of a dead map could not be swept: {error}");
                runtime.events().push(EventLevel::Warn, text);
            }
        }
    }
}
