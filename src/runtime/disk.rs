//! One directory's writer thread and its queue.
//!
//! Jobs run one after another in the order of submission, so one thread per directory writes large
//! blocks in a row whatever number of maps feeds it. The queue has no bound of its own: who submits
//! is bounded by the buffers a job carries.
//!
//! Life: a [`Disk`] is a handle on a queue. When the last handle goes, the thread runs what is
//! queued and ends, and the drop waits for that (unless it happens on a writer thread). A
//! directory that is asked for while its old thread is still ending gets that thread back, so there
//! are never two.
//!
//! Locks: the registry's, then a queue's; never the other way round, and none while a job runs.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::registry;
use super::stats::DiskStats;
use crate::events::{EventLevel, EventRing};

/// Longest time between two ticks while no job runs.
pub const TICK_INTERVAL: Duration = Duration::from_millis(100);

thread_local! {
    /// True on writer threads.
    static ON_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// Work for a writer thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// Something that wants to look at the clock from time to time, such as a flush by age.
pub trait Tick: Send + Sync {
    /// Called on the writer thread between jobs, at least every [`TICK_INTERVAL`] while no job
    /// takes longer. May submit jobs; must not wait for them.
    fn tick(&self, now: Instant);
}

/// A directory with its writer thread. One per directory and process, made by
/// [`super::Runtime::disk`].
#[derive(Debug)]
pub struct Disk {
    queue: Arc<Queue>,
}

/// What handles and thread share.
#[derive(Debug)]
pub(super) struct Queue {
    dir: PathBuf,
    stats: DiskStats,
    state: Mutex<State>,
    /// Signalled on every change that somebody may wait for.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    tickers: Vec<Weak<dyn Tick>>,
    /// Where panics are reported: the rings of the runtimes that use this disk.
    listeners: Vec<Weak<EventRing>>,
    handles: usize,
    exited: bool,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("jobs", &self.jobs.len())
            .field("tickers", &self.tickers.len())
            .field("handles", &self.handles)
            .field("exited", &self.exited)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// A handle on a queue whose thread runs. The registry's lock must be held.
    pub(super) fn attach(queue: Arc<Queue>) -> Self {
        queue.state.lock().handles += 1;
        // A drop of the handle before may be waiting for the thread's end.
        queue.changed.notify_all();
        Self { queue }
    }

    /// The directory, in canonical form.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.queue.dir
    }

    /// Queues a job behind those already queued; never waits. A job that panics is counted and
    /// reported as an event, and the thread goes on with the next.
    pub fn submit(&self, job: Job) {
        self.queue.stats.add_queued();
        self.queue.state.lock().jobs.push_back(job);
        self.queue.changed.notify_all();
    }

    /// Jobs that wait, without the one that runs.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.queue.state.lock().jobs.len()
    }

    /// The disk's counters.
    #[must_use]
    pub fn stats(&self) -> &DiskStats {
        &self.queue.stats
    }

    /// Calls `ticker` from now on, until it is dropped. One that panics is not called again.
    pub fn register_ticker(&self, ticker: Weak<dyn Tick>) {
        self.queue.state.lock().tickers.push(ticker);
        self.queue.changed.notify_all();
    }

    pub(super) fn add_listener(&self, events: &Arc<EventRing>) {
        let mut state = self.queue.state.lock();
        state.listeners.retain(|listener| listener.strong_count() > 0);
        if !state.listeners.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(events))) {
            state.listeners.push(Arc::downgrade(events));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.handles -= 1;
        self.queue.changed.notify_all();
        if ON_WRITER.get() {
            // Dropped by a job or a tick, of this disk or of another: a writer never waits for a
            // writer. The thread ends by itself.
            return;
        }
        while state.handles == 0 && !state.exited {
            self.queue.changed.wait(&mut state);
        }
        if state.exited
            && let Some(thread) = state.thread.take()
        {
            drop(state);
            // The thread catches its jobs' panics; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Starts the writer thread of `dir`. The registry's lock must be held.
    pub(super) fn start(dir: PathBuf) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            dir,
            stats: DiskStats::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut state = queue.state.lock();
        let runner = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("blocktier-disk".to_owned())
            .spawn(move || runner.run())?;
        state.thread = Some(thread);
        drop(state);
        Ok(queue)
    }

    /// The writer thread.
    fn run(self: &Arc<Self>) {
        ON_WRITER.set(true);
        let mut last_tick = Instant::now();
        loop {
            if let Some(job) = self.next_job(last_tick) {
                let started = Instant::now();
                self.guarded("a job", job);
                self.stats.add_busy(started.elapsed());
            }
            if last_tick.elapsed() >= TICK_INTERVAL / 2 {
                self.tick_all();
                last_tick = Instant::now();
            }
            if self.end_if_unused() {
                return;
            }
        }
    }

    /// Waits for a job, but only until the next tick is due or nobody needs the thread.
    fn next_job(&self, last_tick: Instant) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                self.stats.remove_queued();
                return Some(job);
            }
            if state.handles == 0 {
                return None;
            }
            if state.tickers.is_empty() {
                self.changed.wait(&mut state);
            } else if self.changed.wait_until(&mut state, last_tick + TICK_INTERVAL / 2).timed_out()
            {
                return state.jobs.pop_front().inspect(|_| self.stats.remove_queued());
            }
        }
    }

    fn tick_all(&self) {
        let tickers: Vec<_> = {
            let mut state = self.state.lock();
            state.tickers.retain(|ticker| ticker.strong_count() > 0);
            state.tickers.clone()
        };
        for weak in tickers {
            // Dropped outside of the lock: this may be the last reference, and its drop may well
            // drop the last handle of this disk.
            let Some(ticker) = weak.upgrade() else { continue };
            let now = Instant::now();
            if !self.guarded("a timer", || ticker.tick(now)) {
                self.state.lock().tickers.retain(|other| !Weak::ptr_eq(other, &weak));
            }
            self.guarded("dropping a timer's owner", || drop(ticker));
        }
    }

    /// Runs `work`; false if it panicked, which is counted and reported.
    fn guarded(&self, what: &str, work: impl FnOnce()) -> bool {
        let Err(payload) = catch_unwind(AssertUnwindSafe(work)) else { return true };
        self.stats.add_panic();
        let reason = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let text = format!("{what} of the writer of {} panicked: {reason}", self.dir.display());
        let listeners: Vec<_> =
            self.state.lock().listeners.iter().filter_map(Weak::upgrade).collect();
        for events in listeners {
            events.push(EventLevel::Error, text.clone());
        }
        false
    }

    /// Ends the thread's registration if no handle is left and no job queued. Done under the
    /// registry's lock, so that nobody can be given this queue in between.
    fn end_if_unused(self: &Arc<Self>) -> bool {
        {
            let state = self.state.lock();
            if state.handles > 0 || !state.jobs.is_empty() {
                return false;
            }
        }
        registry::remove_if(&self.dir, self, || {
            let mut state = self.state.lock();
            state.exited = state.handles == 0 && state.jobs.is_empty();
            self.changed.notify_all();
            state.exited
        })
    }
}
