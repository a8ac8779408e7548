//! A map's own subdirectory on one disk: locked while the map lives, gone with it, swept if its
//! owner died.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use super::space::Space;
use crate::Result;
use crate::events::EventLevel;
use crate::runtime::{Disk, Runtime};
use crate::settings::{Durability, TxMapSettings};
use crate::storage::{DirGate, DirLock, Storage, check_directory, explain};

/// What the names of our subdirectories start with.
const PREFIX: &str = "blocktier-map-";
/// The same for durable maps, which nobody sweeps.
const PREFIX_DURABLE: &str = "blocktier-store-";
const PURPOSE: &str = "transaction map";
const SWEEPING: &str = "sweeping";
const EEXIST: i32 = rustix::io::Errno::EXIST.raw_os_error();

/// See the module's text.
#[derive(Debug)]
pub(crate) struct MapDirectory {
    path: PathBuf,
    disk: Arc<Disk>,
    storage: Arc<dyn Storage>,
    space: Arc<Space>,
    lock: Option<DirLock>,
    /// The content outlives the map.
    durable: bool,
}

impl MapDirectory {
    /// The directory of a map with these settings.
    pub(crate) fn open(
        runtime: &Runtime,
        parent: &Path,
        settings: &TxMapSettings,
        store_id: u64,
        space: Arc<Space>,
    ) -> Result<Self> {
        let name = settings.name.as_deref();
        match (settings.durability, name) {
            (Durability::Ephemeral, _) => Self::create(runtime, parent, name, store_id, space),
            (_, Some(name)) => Self::keep(runtime, parent, name, space),
            (_, None) => Err(settings.name_missing()),
        }
    }

    /// Locks the subdirectory of a durable map; makes it if it is missing. Its name tells it from
    /// those that are swept.
    fn keep(runtime: &Runtime, parent: &Path, name: &str, space: Arc<Space>) -> Result<Self> {
        let disk = runtime.disk(parent)?;
        let storage = Arc::clone(runtime.storage());
        let _gate = DirGate::enter(disk.dir());
        let path = disk.dir().join(format!("{PREFIX_DURABLE}{name}"));
        let lock = make_and_lock(storage.as_ref(), disk.dir(), &path)?;
        let directory = Self { path, disk, storage, space, lock: Some(lock), durable: true };
        directory.storage.sync_dir(directory.disk.dir())?;
        Ok(directory)
    }

    /// Makes and locks a fresh subdirectory of `parent`, named `name` or else after the store;
    /// first sweeps what maps of dead processes left there.
    pub(crate) fn create(
        runtime: &Runtime,
        parent: &Path,
        name: Option<&str>,
        store_id: u64,
        space: Arc<Space>,
    ) -> Result<Self> {
        let disk = runtime.disk(parent)?;
        let storage = Arc::clone(runtime.storage());
        // Between a subdirectory and its lock nobody else sweeps or removes it, and nobody is
        // taken for its owner who only looks whether it has one.
        let _gate = DirGate::enter(disk.dir());
        sweep(runtime, disk.dir());
        let name = name.map_or_else(|| format!("{store_id:016x}"), str::to_owned);
        let path = disk.dir().join(format!("{PREFIX}{name}"));
        let lock = make_and_lock(storage.as_ref(), disk.dir(), &path)?;
        Ok(Self { path, disk, storage, space, lock: Some(lock), durable: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn space(&self) -> &Arc<Space> {
        &self.space
    }

    pub(crate) const fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }
}

impl Drop for MapDirectory {
    fn drop(&mut self) {
        let (storage, path, lock) =
            (Arc::clone(&self.storage), self.path.clone(), self.lock.take());
        let durable = self.durable;
        let (done, wait) = mpsc::channel();
        // Behind the segments' own removals, which were queued before.
        self.disk.submit(Box::new(move || {
            if durable {
                let _gate = path.parent().map(DirGate::enter);
                drop(lock);
                // Only if the map was never made.
                let _ = storage.remove_dir(&path);
            } else if let Err(error) = remove_contents(storage.as_ref(), &path) {
                tracing::warn!(%error, "a map's files are left for the next map to sweep");
                if let Some(lock) = lock {
                    lock.abandon();
                }
            } else {
                let _gate = path.parent().map(DirGate::enter);
                drop(lock);
                let _ = storage.remove_dir(&path);
            }
            let _ = done.send(());
        }));
        let _ = wait.recv();
    }
}

/// Makes the subdirectory `path` of `parent` unless it is there, and locks it.
fn make_and_lock(storage: &dyn Storage, parent: &Path, path: &Path) -> Result<DirLock> {
    storage.create_dir_all(path).map_err(|error| match error.os_errno() {
        EEXIST => check_directory(path).err().unwrap_or(error),
        _ => explain(parent, error),
    })?;
    DirLock::acquire(path, PURPOSE).inspect_err(|_| {
        // Refused while anything is in it, such as somebody's lock file.
        let _ = storage.remove_dir(path);
    })
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
        match &swept {
            Ok(()) => drop(lock),
            // With its lock file gone nobody would look at it again.
            Err(_) => lock.abandon(),
        }
        match swept.and_then(|()| storage.remove_dir(&path)) {
            Ok(()) => tracing::info!(path = %path.display(), "swept the files of a dead map"),
            Err(error) => {
                let text = format!("the files of a dead map could not be swept: {error}");
                runtime.events().push(EventLevel::Warn, text);
            }
        }
    }
}
