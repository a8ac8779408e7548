//! From full blocks in the tail to the files: which blocks wait, which are with a writer, and what
//! failed.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::record::UNIT_BYTES;
use super::segment::Segment;
use super::tail::Tail;
use crate::runtime::background::Bell;
use crate::{Error, Result};

/// A range of a block whose bytes are all committed.
#[derive(Debug)]
pub(crate) struct BlockWrite {
    pub(crate) segment: Arc<Segment>,
    pub(crate) buffer: u32,
    /// Offset of the block in the segment.
    pub(crate) block_offset_bytes: u64,
    /// Which bytes of the block; aligned for direct I/O.
    pub(crate) range: Range<usize>,
    /// The block is closed: with this write done its buffer may be reused.
    pub(crate) last: bool,
}

/// The first error of a map, which stops it from taking more writes.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    failed: AtomicBool,
    error: OnceLock<Arc<Error>>,
}

impl Failure {
    pub(crate) fn set(&self, error: Error) {
        let _ = self.error.set(Arc::new(error));
        self.failed.store(true, Ordering::Release);
    }

    /// The error every write returns once the map has failed.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(self.error.get().map_or(Error::Closed("map"), |error| Error::Failed(Arc::clone(error))))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

#[derive(Debug, Default)]
struct Jobs {
    next: u64,
    pending: BTreeSet<u64>,
}

/// What the lanes of a map share: the tail, the writes under way, the failure.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) tail: Tail,
    pub(crate) failure: Failure,
    /// Blocks may wait unwritten up to this many bytes.
    pub(crate) flush_bytes: u64,
    jobs: Mutex<Jobs>,
    job_done: Condvar,
    /// Bytes of all blocks that wait for `flush_bytes` to be exceeded.
    waiting_bytes: AtomicU64,
    /// Segments are synced when they are complete (setting txMapSyncOnSeal).
    pub(crate) sync_on_seal: bool,
    /// Rung when there may be something to compact.
    bell: OnceLock<Arc<Bell>>,
    /// The map is closing: blocks that are not yet written need not be.
    discard: AtomicBool,
}

impl Shared {
    pub(crate) fn new(tail: Tail, flush_bytes: u64) -> Self {
        Self {
            tail,
            failure: Failure::default(),
            flush_bytes,
            jobs: Mutex::default(),
            job_done: Condvar::new(),
            waiting_bytes: AtomicU64::new(0),
            sync_on_seal: false,
            bell: OnceLock::new(),
            discard: AtomicBool::new(false),
        }
    }

    /// To be rung from now on; the first one given stays.
    pub(crate) fn set_bell(&self, bell: Arc<Bell>) {
        let _ = self.bell.set(bell);
    }

    /// Records have died, more than a few.
    pub(crate) fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// A segment is complete; only of interest where records have died before.
    pub(crate) fn ring_again(&self) {
        if let Some(bell) = self.bell.get()
            && bell.rings() > 0
        {
            bell.ring();
        }
    }

    /// Hands a write to its directory's writer thread.
    fn submit(self: &Arc<Self>, write: BlockWrite) {
        let ticket = {
            let mut jobs = self.jobs.lock();
            let ticket = jobs.next;
            jobs.next += 1;
            jobs.pending.insert(ticket);
            ticket
        };
        let shared = Arc::clone(self);
        let disk = Arc::clone(write.segment.disk());
        disk.submit(Box::new(move || {
            let done = JobDone { shared: &shared, ticket };
            shared.write(&write);
            drop(done);
        }));
    }

    /// Writes a block; on failure its buffer is kept for ever, so that its records stay readable.
    fn write(self: &Arc<Self>, write: &BlockWrite) {
        if self.failure.is_set() {
            return;
        }
        let wanted = !write.segment.is_dead() && !self.discard.load(Ordering::Acquire);
        if wanted && let Err(error) = self.write_to_file(write) {
            tracing::error!(%error, "a block could not be written; the map takes no more writes");
            self.failure.set(error);
            self.tail.halt();
            return;
        }
        if write.last {
            if wanted && let Some(table) = self.tail.table() {
                table.written(write.buffer);
            }
            if wanted && write.segment.block_written() {
                self.completed(&write.segment);
            }
            self.tail.give_back(write.buffer);
        }
    }

    /// A segment was sealed and all of it written, in either order.
    pub(crate) fn completed(self: &Arc<Self>, segment: &Arc<Segment>) {
        self.ring_again();
        if !self.sync_on_seal {
            return;
        }
        let (shared, segment) = (Arc::clone(self), Arc::clone(segment));
        let disk = Arc::clone(segment.disk());
        disk.submit(Box::new(move || {
            if segment.is_dead() || shared.failure.is_set() {
                return;
            }
            if let Err(error) = segment.sync_complete() {
                tracing::error!(%error, "a segment could not be synced; the map takes no writes");
                shared.failure.set(error);
                shared.tail.halt();
            }
        }));
    }

    fn write_to_file(&self, write: &BlockWrite) -> Result<()> {
        let file = write.segment.file_for_write()?;
        let bytes = self.tail.committed_bytes(write.buffer, write.range.clone());
        let offset = write.block_offset_bytes + write.range.start as u64;
        let outcome = file.write_all_at(bytes, offset);
        match &outcome {
            Ok(()) => {
                write.segment.mark_unsynced();
                write.segment.disk().stats().add_write(bytes.len() as u64);
            }
            Err(_) => write.segment.disk().stats().add_write_error(),
        }
        outcome
    }

    /// The ticket after every write handed over so far.
    pub(crate) fn ticket(&self) -> u64 {
        self.jobs.lock().next
    }

    /// Waits until every write before `ticket` is done. `deadline` none: do not wait.
    pub(crate) fn wait_for_writes(&self, ticket: u64, deadline: Option<Instant>) -> Result<()> {
        let started = Instant::now();
        let mut jobs = self.jobs.lock();
        while jobs.pending.first().is_some_and(|first| *first < ticket) {
            let Some(deadline) = deadline else {
                drop(jobs);
                self.failure.check()?;
                return Err(Error::WouldBlock("writes under way"));
            };
            if self.job_done.wait_until(&mut jobs, deadline).timed_out() {
                let waited_ms = started.elapsed().as_millis() as u64;
                return Err(Error::TimedOut { what: "writes under way", waited_ms });
            }
        }
        drop(jobs);
        self.failure.check()
    }

    /// From now on waiting blocks are dropped instead of written.
    pub(crate) fn discard_waiting(&self) {
        self.discard.store(true, Ordering::Release);
    }
}

/// Marks a write as done, also when it panics: then the map fails.
struct JobDone<'a> {
    shared: &'a Shared,
    ticket: u64,
}

impl Drop for JobDone<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.failure.set(Error::Panic("a writer thread panicked".to_owned()));
            self.shared.tail.halt();
        }
        self.shared.jobs.lock().pending.remove(&self.ticket);
        self.shared.job_done.notify_all();
    }
}

/// The committed blocks of one generation that are not with a writer yet, oldest first.
#[derive(Debug)]
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    queue: Mutex<VecDeque<BlockWrite>>,
    /// When the ticker first saw the queue filled.
    filled_since: Mutex<Option<Instant>>,
}

impl Waiting {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, queue: Mutex::default(), filled_since: Mutex::default() }
    }

    /// Adds a committed range; what exceeds the map's `flush_bytes` goes to the writers, and all of
    /// it while somebody waits for space.
    pub(crate) fn push(&self, write: BlockWrite) {
        let bytes = write.range.len() as u64;
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.queue.lock().push_back(write);
        if self.shared.tail.has_waiters() {
            self.submit_all();
        } else if waiting > self.shared.flush_bytes {
            self.submit_while(|shared| {
                shared.waiting_bytes.load(Ordering::Relaxed) > shared.flush_bytes
            });
        }
    }

    /// Hands over everything.
    pub(crate) fn submit_all(&self) {
        self.submit_while(|_| true);
    }

    /// Hands over everything if the queue has not been empty since before `age`.
    pub(crate) fn submit_if_older(&self, now: Instant, age: Duration) {
        let mut since = self.filled_since.lock();
        if self.queue.lock().is_empty() {
            *since = None;
        } else if now.saturating_duration_since(*since.get_or_insert(now)) >= age {
            *since = None;
            self.submit_all();
        }
    }

    fn submit_while(&self, condition: impl Fn(&Shared) -> bool) {
        // The queue's lock is held over the hand-over, so that the writes of a segment start in
        // order.
        let mut queue = self.queue.lock();
        while condition(&self.shared) {
            let Some(write) = queue.pop_front() else { return };
            self.shared.waiting_bytes.fetch_sub(write.range.len() as u64, Ordering::Relaxed);
            self.shared.submit(write);
        }
    }
}

impl Drop for Waiting {
    /// The generation is gone: nobody reads these blocks any more.
    fn drop(&mut self) {
        for write in self.queue.get_mut().drain(..) {
            self.shared.waiting_bytes.fetch_sub(write.range.len() as u64, Ordering::Relaxed);
            if write.last {
                self.shared.tail.give_back(write.buffer);
            }
        }
    }
}

/// Units rounded up to whole `alignment` bytes.
pub(crate) const fn align_units(units: u32, alignment: usize) -> u32 {
    units.next_multiple_of((alignment / UNIT_BYTES) as u32)
}
