//! A storage that misbehaves on demand: for tests of this crate and of its embedders.
//!
//! [`FaultStorage`] wraps any storage and is a handle: keep a clone, give the other to a runtime,
//! and make it fail from the test.
//!
//! ```text
//! rules      the nth write (sync, read, create, ...) of matching files: errno, short or torn
//!            write, flipped bits in what a read returns
//! capacity   a disk of so many bytes, files counted with what they reserved or wrote
//! limit      so many more bytes may be written
//! rate       bytes per second, for each directory by itself
//! gates      operations wait until the test lets them go on
//! counts     how often each operation was called and how often it was made to fail
//! ```
//!
//! Threads: everything may be used from any thread. An operation passes its gate first, then the
//! rules, then capacity and limit, then the rate.

mod file;
mod gate;
mod limits;
mod rule;
#[cfg(test)]
mod tests;
mod unsynced;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;

pub use gate::Gate;
pub use rule::{Access, Fault, FaultOp, FaultRule};

use self::file::FaultFile;
use self::gate::Gates;
use self::limits::Limits;
use self::unsynced::Unsynced;
use super::{CreateOptions, Storage, StorageFile};
use crate::events::EventRing;
use crate::{Error, Result};

/// A storage with faults.
///
/// ```
/// use blocktier::settings::RuntimeSettings;
/// use blocktier::storage::fault::FaultOp;
/// use blocktier::storage::{CreateOptions, FaultStorage, RealStorage, Storage};
/// use std::sync::Arc;
/// # let dir = tempfile::tempdir()?;
/// let real = RealStorage::new(&RuntimeSettings::default());
/// let faults = FaultStorage::new(Arc::new(real));
/// faults.fail_nth(FaultOp::Create, 2, 5);
/// let create = |name| faults.create(&dir.path().join(name), &CreateOptions::default());
/// assert!(create("first").is_ok());
/// assert_eq!(create("second").unwrap_err().os_errno(), 5);
/// assert!(create("third").is_ok());
/// assert_eq!((faults.calls(FaultOp::Create), faults.faults(FaultOp::Create)), (3, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaultStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Storage>,
    rules: Mutex<Vec<FaultRule>>,
    gates: Arc<Gates>,
    limits: Limits,
    unsynced: Unsynced,
    calls: [AtomicU64; FaultOp::COUNT],
    faults: [AtomicU64; FaultOp::COUNT],
}

impl FaultStorage {
    /// A storage that does what `inner` does, until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        let shared = Shared {
            inner,
            rules: Mutex::default(),
            gates: Arc::default(),
            limits: Limits::default(),
            unsynced: Unsynced::default(),
            calls: Default::default(),
            faults: Default::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Adds a rule. The first rule that matches an operation decides about it.
    pub fn add(&self, rule: FaultRule) {
        self.shared.rules.lock().push(rule);
    }

    /// Makes the `nth` operation from now fail with `errno`; 1 is the next one.
    pub fn fail_nth(&self, op: FaultOp, nth: u64, errno: i32) {
        self.add(FaultRule::new(op, Fault::Errno(errno)).skip(nth.saturating_sub(1)).times(1));
    }

    /// Makes every such operation from now on fail with `errno`.
    pub fn fail_all(&self, op: FaultOp, errno: i32) {
        self.add(FaultRule::new(op, Fault::Errno(errno)));
    }

    /// Drops all rules. Capacity, limit, rate and gates stay.
    pub fn clear_rules(&self) {
        self.shared.rules.lock().clear();
    }

    /// From now on the disk has `bytes` for the files made through this storage; `None` lifts it.
    /// A file takes what it reserved or what was written to it, whichever reaches further; removing
    /// or cutting it gives that back.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.limits.set_capacity(bytes);
    }

    /// After `bytes` more bytes, writes fail for want of space, also into reserved space; `None`
    /// lifts it.
    pub fn set_write_limit(&self, bytes: Option<u64>) {
        self.shared.limits.set_write_limit(bytes);
    }

    /// Each directory reads and writes this many bytes a second together; `None` lifts it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a rate of 0.
    pub fn set_bytes_per_second(&self, rate: Option<u64>) -> Result<()> {
        if rate == Some(0) {
            let text = "a rate of 0 bytes per second; close a gate instead".to_owned();
            return Err(Error::InvalidArgument(text));
        }
        self.shared.limits.set_rate(rate);
        Ok(())
    }

    /// Remembers from now on what writes replace, for [`FaultStorage::lose_unsynced`].
    pub fn remember_unsynced(&self) {
        self.shared.unsynced.remember();
    }

    /// What a power cut does: every byte written since its file's last sync goes back to what it
    /// was, if `lost` says so of the write (path, offset). Call it when nothing is under way.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lose_unsynced(&self, lost: impl FnMut(&Path, u64) -> bool) -> Result<()> {
        self.shared.unsynced.lose(lost)
    }

    /// Makes every such operation wait until the gate is opened or dropped.
    #[must_use]
    pub fn close_gate(&self, op: FaultOp) -> Gate {
        Gate::close(Arc::clone(&self.shared.gates), op)
    }

    /// How often the operation was called.
    #[must_use]
    pub fn calls(&self, op: FaultOp) -> u64 {
        self.shared.calls[op as usize].load(Ordering::Relaxed)
    }

    /// How often a rule, capacity or limit changed the operation's outcome.
    #[must_use]
    pub fn faults(&self, op: FaultOp) -> u64 {
        self.shared.faults[op as usize].load(Ordering::Relaxed)
    }

    fn simple(&self, op: FaultOp, path: &Path) -> Result<()> {
        self.shared.admit(&Access { op, path, offset: 0, len: 0 })
    }
}

impl Shared {
    /// Counts the operation, lets it through its gate and asks the rules.
    fn enter(&self, access: &Access<'_>) -> Option<Fault> {
        self.calls[access.op as usize].fetch_add(1, Ordering::Relaxed);
        self.gates.pass(access.op);
        let fault = self.rules.lock().iter_mut().find_map(|rule| rule.decide(access));
        if fault.is_some() {
            self.count_fault(access.op);
        }
        fault
    }

    fn count_fault(&self, op: FaultOp) {
        self.faults[op as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// [`Shared::enter`] for operations that either fail or happen.
    fn admit(&self, access: &Access<'_>) -> Result<()> {
        match self.enter(access) {
            Some(Fault::Errno(errno) | Fault::ShortWrite { errno, .. }) => {
                Err(error(access, errno))
            }
            Some(Fault::TornWrite { .. } | Fault::FlipBits { .. }) | None => Ok(()),
        }
    }
}

/// The error that real storage would give.
fn error(access: &Access<'_>, errno: i32) -> Error {
    let source = std::io::Error::from_raw_os_error(errno);
    let path = access.path.to_owned();
    let is_full = [Errno::NOSPC, Errno::DQUOT].iter().any(|full| full.raw_os_error() == errno);
    if is_full {
        return Error::DiskFull { path, needed: access.len, source };
    }
    let offset = matches!(access.op, FaultOp::Write | FaultOp::Read).then_some(access.offset);
    Error::Io { op: access.op.verb(), path, offset, source }
}

impl Storage for FaultStorage {
    fn create(&self, path: &Path, options: &CreateOptions) -> Result<Box<dyn StorageFile>> {
        let shared = &self.shared;
        self.simple(FaultOp::Create, path)?;
        let len = options.allocate_bytes;
        let access = Access { op: FaultOp::Allocate, path, offset: 0, len };
        if len > 0 {
            shared.admit(&access)?;
        }
        if !shared.limits.take_space(path, len) {
            shared.count_fault(FaultOp::Allocate);
            return Err(error(&access, Errno::NOSPC.raw_os_error()));
        }
        let file = shared.inner.create(path, options).inspect_err(|_| {
            shared.limits.cut_space(path, 0);
        })?;
        Ok(Box::new(FaultFile { inner: file, shared: Arc::clone(shared) }))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn StorageFile>> {
        self.simple(FaultOp::Open, path)?;
        let inner = self.shared.inner.open_read(path)?;
        Ok(Box::new(FaultFile { inner, shared: Arc::clone(&self.shared) }))
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn StorageFile>> {
        self.simple(FaultOp::Open, path)?;
        let inner = self.shared.inner.open_write(path)?;
        Ok(Box::new(FaultFile { inner, shared: Arc::clone(&self.shared) }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.simple(FaultOp::CreateDir, path)?;
        self.shared.inner.create_dir_all(path)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.simple(FaultOp::RemoveFile, path)?;
        self.shared.inner.remove_file(path)?;
        self.shared.limits.cut_space(path, 0);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.simple(FaultOp::Rename, from)?;
        self.shared.inner.rename(from, to)?;
        self.shared.limits.rename(from, to);
        self.shared.unsynced.renamed(from, to);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.simple(FaultOp::RemoveDir, path)?;
        self.shared.inner.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<PathBuf>> {
        self.simple(FaultOp::ReadDir, path)?;
        self.shared.inner.read_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.simple(FaultOp::SyncDir, path)?;
        self.shared.inner.sync_dir(path)
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        let real = self.shared.inner.free_space(path)?;
        Ok(self.shared.limits.free().map_or(real, |free| free.min(real)))
    }

    fn report_to(&self, events: &Arc<EventRing>) {
        self.shared.inner.report_to(events);
    }
}
