//! A storage that says in a file what a process is doing, so that whoever killed the process can
//! look where that hit; and that can stop at a place in a phase, so that a kill hits it for sure.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use blocktier::Result;
use blocktier::events::EventRing;
use blocktier::storage::{CreateOptions, RealStorage, Storage, StorageFile};

/// What a process can be doing, several at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A segment's file is written.
    Write,
    /// A segment has got full: the file of the next one is made, or the summary of one.
    Seal,
    Rename,
    /// From a merge's first read to its end.
    Merge,
    Clear,
    Sync,
    Recovery,
}

pub const PHASES: [Phase; 7] = [
    Phase::Write,
    Phase::Seal,
    Phase::Rename,
    Phase::Merge,
    Phase::Clear,
    Phase::Sync,
    Phase::Recovery,
];

/// Where to stop.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    pub phase: Phase,
    /// The first, second, ... time that the phase is entered.
    pub nth: u64,
    /// In a phase of several operations on the disk: the first, second, ... of them; its end if
    /// there are fewer.
    pub operation: u64,
    /// Before the operation (0), when it is half done (1) or done (2).
    pub part: u64,
}

impl Aim {
    pub fn to_text(self) -> String {
        format!("{} {} {} {}", self.phase as u64, self.nth, self.operation, self.part)
    }

    pub fn from_text(text: &str) -> Self {
        let mut numbers = text.split(' ').map(|number| number.parse::<u64>().unwrap());
        let mut next = || numbers.next().unwrap();
        Self { phase: PHASES[next() as usize], nth: next(), operation: next(), part: next() }
    }
}

#[derive(Debug)]
struct Watch {
    file: File,
    /// Threads that are in each phase; the file has the same.
    inside: Mutex<[u64; PHASES.len()]>,
    aim: Option<Aim>,
    /// How often the phase that is aimed at was entered, and operations since it was `nth`.
    entered: AtomicU64,
    operations: AtomicU64,
}

thread_local! {
    static COMPACTS: Cell<bool> = const { Cell::new(false) };
    static MERGES: Cell<bool> = const { Cell::new(false) };
}

/// The phases in which the process was that said so in this file: what there is when it is dead.
pub fn phases_in(path: &Path) -> Vec<Phase> {
    let bytes = std::fs::read(path).unwrap();
    let inside = |phase: &Phase| bytes.get(*phase as usize * 8).is_some_and(|count| *count > 0);
    PHASES.into_iter().filter(inside).collect()
}

impl Watch {
    fn change(&self, phase: Phase, change: impl Fn(u64) -> u64) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside[phase as usize] = change(inside[phase as usize]);
        let bytes: Vec<u8> = inside.iter().flat_map(|count| count.to_le_bytes()).collect();
        self.file.write_all_at(&bytes, 0).unwrap();
    }

    /// True if it is the time that is aimed at.
    fn enter(&self, phase: Phase) -> bool {
        self.change(phase, |count| count + 1);
        self.aim.is_some_and(|aim| {
            aim.phase == phase && self.entered.fetch_add(1, Ordering::SeqCst) + 1 == aim.nth
        })
    }

    fn leave(&self, phase: Phase) {
        self.change(phase, |count| count - 1);
    }

    /// Waits for the kill.
    fn stop(&self) -> ! {
        println!("\nstopped");
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    /// Whether to stop in an operation on the disk because of the phase around it.
    fn is_aimed_inside(&self) -> bool {
        let Some(aim) = self.aim else { return false };
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside[aim.phase as usize] > 0
            && self.entered.load(Ordering::SeqCst) >= aim.nth
            && self.operations.fetch_add(1, Ordering::SeqCst) + 1 == aim.operation
    }

    fn operation<R>(
        &self,
        phase: Option<Phase>,
        half: impl FnOnce(),
        whole: impl FnOnce() -> R,
    ) -> R {
        let is_aimed = phase.is_some_and(|phase| self.enter(phase)) || self.is_aimed_inside();
        match self.aim.filter(|_| is_aimed).map(|aim| aim.part) {
            None => {}
            Some(part) => {
                match part {
                    0 => {}
                    1 => half(),
                    _ => drop(whole()),
                }
                self.stop();
            }
        }
        let done = whole();
        if let Some(phase) = phase {
            self.leave(phase);
        }
        done
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct WatchedStorage {
    inner: Arc<RealStorage>,
    watch: Arc<Watch>,
}

impl WatchedStorage {
    pub fn new(inner: RealStorage, path: &Path, aim: Option<Aim>) -> Self {
        let watch = Watch {
            file: File::create(path).unwrap(),
            inside: Mutex::default(),
            aim,
            entered: AtomicU64::new(0),
            operations: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner), watch: Arc::new(watch) }
    }

    /// `work` is the phase.
    pub fn during<R>(&self, phase: Phase, work: impl FnOnce() -> R) -> R {
        self.watch.enter(phase);
        let done = work();
        self.leave(phase);
        done
    }

    /// `work` compacts on this thread. The phase begins if it finds something to merge.
    pub fn during_merges<R>(&self, work: impl FnOnce() -> R) -> R {
        COMPACTS.set(true);
        let done = work();
        COMPACTS.set(false);
        if MERGES.replace(false) {
            self.leave(Phase::Merge);
        }
        done
    }

    /// What is aimed at is not left any more.
    fn leave(&self, phase: Phase) {
        let watch = &self.watch;
        let is_aimed =
            |aim: Aim| aim.phase == phase && watch.entered.load(Ordering::SeqCst) >= aim.nth;
        if watch.aim.is_some_and(is_aimed) {
            watch.stop();
        }
        watch.leave(phase);
    }
}

fn ends_in(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

impl Storage for WatchedStorage {
    fn create(&self, path: &Path, options: &CreateOptions) -> Result<Box<dyn StorageFile>> {
        let seals = ends_in(path, "seg") || ends_in(path, "sum");
        let create = || self.inner.create(path, options);
        let inner = self.watch.operation(seals.then_some(Phase::Seal), || (), create)?;
        Ok(Box::new(WatchedFile { inner, watch: Arc::clone(&self.watch) }))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn StorageFile>> {
        let inner = self.watch.operation(None, || (), || self.inner.open_read(path))?;
        Ok(Box::new(WatchedFile { inner, watch: Arc::clone(&self.watch) }))
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn StorageFile>> {
        let inner = self.watch.operation(None, || (), || self.inner.open_write(path))?;
        Ok(Box::new(WatchedFile { inner, watch: Arc::clone(&self.watch) }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.inner.create_dir_all(path)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.watch.operation(None, || (), || self.inner.remove_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.watch.operation(Some(Phase::Rename), || (), || self.inner.rename(from, to))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.inner.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<PathBuf>> {
        self.inner.read_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.watch.operation(None, || (), || self.inner.sync_dir(path))
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        self.inner.free_space(path)
    }

    fn report_to(&self, events: &Arc<EventRing>) {
        self.inner.report_to(events);
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Box<dyn StorageFile>,
    watch: Arc<Watch>,
}

impl StorageFile for WatchedFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn alignment(&self) -> usize {
        self.inner.alignment()
    }

    fn is_direct(&self) -> bool {
        self.inner.is_direct()
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let phase = match self.path() {
            path if ends_in(path, "seg") => Some(Phase::Write),
            path if ends_in(path, "sum") => Some(Phase::Seal),
            _ => None,
        };
        let half = bytes.len() / 2 / 4096 * 4096;
        let write_half = || self.inner.write_all_at(&bytes[..half], offset).unwrap();
        self.watch.operation(phase, write_half, || self.inner.write_all_at(bytes, offset))
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        if COMPACTS.get() && !MERGES.replace(true) {
            self.watch.enter(Phase::Merge);
        }
        self.watch.operation(None, || (), || self.inner.read_exact_at(bytes, offset))
    }

    fn sync_data(&self) -> Result<()> {
        self.watch.operation(None, || (), || self.inner.sync_data())
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.inner.set_len(len_bytes)
    }

    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
}
