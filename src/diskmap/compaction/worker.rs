//! A map's compaction: choosing, and turns on the runtime's background thread.
//!
//! Locks: `running`, held for one step (by `compact` for all of its own), under which the log's and
//! the index's are taken. Nobody who holds one of those waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use super::backpressure::Backpressure;
use super::merge::{HashKey, Merge, Moved, Step};
use super::strategy::CompactionStrategy;
use super::survey::Survey;
use super::tuning::Tuning;
use crate::diskmap::generation::Generation;
use crate::diskmap::log::lane::Lane;
use crate::diskmap::log::writeback::Shared;
use crate::diskmap::stats::MapStats;
use crate::events::{EventLevel, EventRing};
use crate::runtime::background::{Bell, Next, Work};
use crate::settings::CompactionSettings;
use crate::storage::Storage;
use crate::{Error, Result};

/// How long a step on the shared thread waits for room in the tail.
const STEP_PATIENCE: Duration = Duration::from_millis(10);
/// So many blocked steps in a row, and the next one waits longer: a long value needs several blocks
/// at once, and others take each that is free.
const BLOCKED_MAX: u32 = 50;
const LONG_PATIENCE: Duration = Duration::from_secs(2);
/// A writer that is stopped looks again at least this often.
const STOPPED_INTERVAL: Duration = Duration::from_millis(20);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Worker {
    generation: Arc<ArcSwap<Generation>>,
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    events: Arc<EventRing>,
    bell: Arc<Bell>,
    tuning: Tuning,
    /// Whether the bell leads here.
    attached: AtomicBool,
    hash_key: HashKey,
    running: Mutex<Running>,
    closed: AtomicBool,
    counters: Counters,
    /// Pending bytes, the generation and the count of the bell's rings that they were computed at.
    pending: Mutex<Option<(u64, usize, u64)>>,
    pending_changed: Condvar,
    /// When the last write that may not wait was let through while writers are delayed, in
    /// nanoseconds from `born`; 0 while they are not.
    let_through: AtomicU64,
    born: Instant,
}

#[derive(Debug, Default)]
struct Running {
    merge: Option<Merge>,
    /// The rate allows no step before this.
    not_before: Option<Instant>,
    blocked: u32,
}

#[derive(Debug, Default)]
struct Counters {
    merges: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    damaged_segments: AtomicU64,
}

/// What [`Worker::advance`] did.
enum Progress {
    Nothing,
    Some,
    Blocked(Error),
    Failed(Error),
}

/// What a worker is made from.
pub(crate) struct Parts {
    pub(crate) generation: Arc<ArcSwap<Generation>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) events: Arc<EventRing>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) hash_key: HashKey,
    /// The embedder's; otherwise the settings say what it is.
    pub(crate) strategy: Option<Arc<dyn CompactionStrategy>>,
}

impl Worker {
    pub(crate) fn new(parts: Parts, settings: &CompactionSettings) -> Arc<Self> {
        let tuning = Tuning::new(*settings, parts.strategy, &parts.events);
        let worker = Arc::new(Self {
            generation: parts.generation,
            shared: parts.shared,
            storage: parts.storage,
            events: parts.events,
            bell: parts.bell,
            tuning,
            attached: AtomicBool::new(false),
            hash_key: parts.hash_key,
            running: Mutex::default(),
            closed: AtomicBool::new(false),
            counters: Counters::default(),
            pending: Mutex::new(None),
            pending_changed: Condvar::new(),
            let_through: AtomicU64::new(0),
            born: Instant::now(),
        });
        if settings.enabled {
            worker.attach();
            let generation = worker.generation.load();
            if generation.is_durable() && !generation.index.is_empty() {
                // What an earlier process left to do.
                worker.bell.ring();
            }
        }
        worker
    }

    fn attach(self: &Arc<Self>) {
        if !self.attached.swap(true, Ordering::AcqRel) {
            let work: Arc<dyn Work> = Arc::clone(self) as _;
            self.bell.attach(Arc::downgrade(&work));
            self.shared.set_bell(Arc::clone(&self.bell));
        }
    }

    /// Ends what is under way, and waits for that: a step at most.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bell.detach();
        self.running.lock().merge = None;
    }

    /// The map has another generation now: what is under way for the old one is to end.
    pub(crate) fn generation_changed(&self) {
        self.shared.ring_again();
    }

    /// What to merge next, if anything. `before` limits each lane's segments by incarnation; it is
    /// empty for the background.
    fn choose(&self, before: &[u64]) -> Result<Option<Merge>> {
        let generation = self.generation.load_full();
        let strategy = self.tuning.strategy();
        for (number, lane) in generation.lanes.iter().enumerate() {
            let survey = Survey::new(lane, before.get(number).copied().unwrap_or(u64::MAX));
            if before.is_empty() && survey.waits_for_sync(strategy.as_ref()) {
                continue;
            }
            let Some(plan) = survey.plan(strategy.as_ref())? else { continue };
            tracing::debug!(lane = number, segments = plan.segments.len(), "merging segments");
            let generation = Arc::clone(&generation);
            return Ok(Some(Merge::new(generation, number, plan, self.hash_key)));
        }
        Ok(None)
    }

    /// Ends what is under way for a generation that is not the map's any more.
    fn drop_stale(&self, running: &mut Running) {
        let current = self.generation.load();
        running.merge.take_if(|merge| !Arc::ptr_eq(&merge.generation, &current));
    }

    /// Does one step of what is under way, or begins something.
    fn advance(&self, running: &mut Running, before: &[u64], patience: Duration) -> Progress {
        if let Err(error) = self.shared.failure.check() {
            running.merge = None;
            return Progress::Failed(error);
        }
        self.drop_stale(running);
        if running.merge.is_none() {
            match self.choose(before) {
                Ok(merge) => running.merge = merge,
                Err(error) => {
                    let text = error.to_string();
                    self.events.push_once(&text, EventLevel::Error, text.clone());
                    return Progress::Failed(error);
                }
            }
        }
        let Some(merge) = &mut running.merge else { return Progress::Nothing };
        let mut moved = Moved::default();
        let outcome = merge.step(self.storage.as_ref(), patience, &mut moved);
        self.count(running, moved);
        match outcome {
            Ok(Step::More) => Progress::Some,
            Ok(Step::Blocked(error)) => {
                running.blocked += 1;
                Progress::Blocked(error)
            }
            Ok(Step::Done) => {
                running.merge = None;
                self.counters.merges.fetch_add(1, Ordering::Relaxed);
                Progress::Some
            }
            Ok(Step::Skipped { error, for_good }) => {
                self.report_unreadable(&error, for_good);
                if for_good { Progress::Failed(error) } else { Progress::Some }
            }
            Ok(Step::NoRoom(error)) => {
                running.merge = None;
                let text = format!("compaction has no room: {error}");
                self.events.push_once(&text, EventLevel::Warn, text.clone());
                Progress::Failed(error)
            }
            Err(error) => {
                running.merge = None;
                tracing::warn!(%error, "a merge ends early");
                Progress::Failed(error)
            }
        }
    }

    fn count(&self, running: &mut Running, moved: Moved) {
        self.counters.read_bytes.fetch_add(moved.read_bytes, Ordering::Relaxed);
        self.counters.written_bytes.fetch_add(moved.written_bytes, Ordering::Relaxed);
        let bytes = moved.read_bytes + moved.written_bytes;
        if bytes > 0 {
            running.blocked = 0;
        }
        let rate_bytes = self.tuning.rate_bytes();
        if rate_bytes > 0 {
            let wait = Duration::from_secs_f64(bytes as f64 / rate_bytes as f64);
            running.not_before = Some(Instant::now() + wait);
        }
        *self.pending.lock() = None;
        self.pending_changed.notify_all();
    }

    fn report_unreadable(&self, error: &Error, for_good: bool) {
        let what = if for_good {
            self.counters.damaged_segments.fetch_add(1, Ordering::Relaxed);
            "it is left alone from now on"
        } else {
            "it will be tried again"
        };
        let text = format!("a segment could not be read for compaction, {what}: {error}");
        self.events.push(EventLevel::Error, text);
    }

    /// Merges on the caller's thread until nothing is left to do that there was at the call.
    pub(crate) fn compact(&self, timeout: Duration) -> Result<()> {
        let outcome = self.compact_alone(timeout);
        // A turn that came meanwhile was passed over.
        self.shared.ring_again();
        outcome
    }

    fn compact_alone(&self, timeout: Duration) -> Result<()> {
        let mut running = self.running.lock();
        let before: Vec<u64> = {
            let generation = self.generation.load();
            let newest = |lane: &Lane| {
                lane.table().segments().map(|(_, segment)| segment.incarnation + 1).max()
            };
            generation.lanes.iter().map(|lane| newest(lane).unwrap_or(0)).collect()
        };
        let mut first_error = None;
        // A damaged segment ends nothing, but is what the caller is told in the end.
        loop {
            match self.advance(&mut running, &before, timeout) {
                Progress::Some => {}
                Progress::Nothing => return first_error.map_or(Ok(()), Err),
                Progress::Failed(error @ (Error::Corrupt { .. } | Error::Io { .. })) => {
                    first_error.get_or_insert(error);
                }
                Progress::Failed(error) | Progress::Blocked(error) => return Err(error),
            }
        }
    }

    /// Bytes of dead records above what is allowed that a merge could free now.
    fn pending_bytes_now(&self, generation: &Generation) -> u64 {
        if !self.tuning.is_enabled() {
            return 0;
        }
        let strategy = self.tuning.strategy();
        let pending = |lane| Survey::new(lane, u64::MAX).pending_bytes(strategy.as_ref());
        // A strategy may say anything.
        generation.lanes.iter().map(pending).fold(0, u64::saturating_add)
    }

    /// The same, as of the last time that enough has changed.
    fn pending_bytes(&self) -> u64 {
        let generation = self.generation.load();
        let place = Arc::as_ptr(&generation) as usize;
        let rings = self.bell.rings();
        let mut known = self.pending.lock();
        if let Some((at, of, bytes)) = *known
            && (at, of) == (rings, place)
        {
            return bytes;
        }
        let bytes = self.pending_bytes_now(&generation);
        *known = Some((rings, place, bytes));
        bytes
    }

    pub(crate) fn settings(&self) -> CompactionSettings {
        self.tuning.settings()
    }

    /// From the next choice on; what is under way goes on, unless it is switched off.
    pub(crate) fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&CompactionSettings) -> Result<CompactionSettings>,
    ) -> Result<()> {
        self.tuning.change(change)?;
        self.retuned();
        Ok(())
    }

    /// From the next choice on. None: what the settings say.
    pub(crate) fn set_strategy(self: &Arc<Self>, own: Option<Arc<dyn CompactionStrategy>>) {
        self.tuning.set_strategy(own, &self.events);
        self.retuned();
    }

    /// What is pending is to be computed anew, and there may be something to do now.
    fn retuned(self: &Arc<Self>) {
        *self.pending.lock() = None;
        self.pending_changed.notify_all();
        if self.tuning.is_enabled() {
            self.attach();
        }
        // Switched off: the next step ends what is under way.
        self.bell.ring();
    }

    /// What a writer is to do now.
    pub(crate) fn backpressure(&self) -> Backpressure {
        if self.tuning.is_thresholds_off() {
            return Backpressure::None;
        }
        self.tuning.thresholds().compute(self.pending_bytes())
    }

    /// Holds a writer up as backpressure says; without `timeout` it never waits.
    pub(crate) fn admit(&self, timeout: Option<Duration>) -> Result<()> {
        if self.tuning.is_thresholds_off() {
            return Ok(());
        }
        let refused = Err(Error::WouldBlock("compaction is behind"));
        match (self.backpressure(), timeout) {
            (Backpressure::None, _) => {
                self.let_through.store(0, Ordering::Relaxed);
                Ok(())
            }
            (Backpressure::Slowdown(delay), _) if delay.is_zero() => Ok(()),
            (Backpressure::Slowdown(delay), None) => {
                if self.let_one_through(delay) {
                    Ok(())
                } else {
                    refused
                }
            }
            (Backpressure::Slowdown(delay), Some(timeout)) => {
                std::thread::sleep(delay.min(timeout));
                Ok(())
            }
            (Backpressure::Stop, None) => refused,
            (Backpressure::Stop, Some(timeout)) => self.wait_while_stopped(timeout),
        }
    }

    /// Whether a write that may not wait goes on: one does in each `delay`.
    fn let_one_through(&self, delay: Duration) -> bool {
        let now = self.born.elapsed().as_nanos() as u64 + 1;
        let last = self.let_through.load(Ordering::Relaxed);
        let due = last != 0 && u128::from(now.saturating_sub(last)) >= delay.as_nanos();
        let swap = |to| {
            let order = Ordering::Relaxed;
            self.let_through.compare_exchange(last, to, order, order).is_ok()
        };
        if last == 0 {
            swap(now);
        }
        due && swap(now)
    }

    fn wait_while_stopped(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while self.backpressure() == Backpressure::Stop {
            self.shared.failure.check()?;
            // Whatever became of earlier turns, this is one more reason.
            self.bell.ring();
            let now = Instant::now();
            if now >= deadline {
                let waited_ms = timeout.as_millis() as u64;
                return Err(Error::TimedOut {
                    what: "compaction (txMapCompactionStop)",
                    waited_ms,
                });
            }
            let mut pending = self.pending.lock();
            self.pending_changed.wait_until(&mut pending, deadline.min(now + STOPPED_INTERVAL));
        }
        Ok(())
    }

    pub(crate) fn add_stats(&self, generation: &Generation, stats: &mut MapStats) {
        let counters = &self.counters;
        stats.compactions = counters.merges.load(Ordering::Relaxed);
        stats.compaction_bytes_read = counters.read_bytes.load(Ordering::Relaxed);
        stats.compaction_bytes_written = counters.written_bytes.load(Ordering::Relaxed);
        stats.damaged_segments = counters.damaged_segments.load(Ordering::Relaxed);
        stats.pending_compaction_bytes = self.pending_bytes_now(generation);
    }
}

impl Work for Worker {
    fn step(&self) -> Next {
        // `compact` has its turn, and rings when it is done.
        let Some(mut running) = self.running.try_lock() else { return Next::Idle };
        if self.closed.load(Ordering::Acquire) || !self.tuning.is_enabled() {
            running.merge = None;
            return Next::Idle;
        }
        self.drop_stale(&mut running);
        let now = Instant::now();
        if let Some(time) = running.not_before.filter(|time| *time > now) {
            return Next::At(time);
        }
        let patience = if running.blocked > BLOCKED_MAX { LONG_PATIENCE } else { STEP_PATIENCE };
        match self.advance(&mut running, &[], patience) {
            Progress::Some => Next::At(running.not_before.unwrap_or(now)),
            // A segment that could not be read; the merge goes on with the next one.
            Progress::Failed(_) if running.merge.is_some() => Next::At(now),
            Progress::Failed(_) | Progress::Nothing => Next::Idle,
            Progress::Blocked(_) => Next::At(Instant::now() + STEP_PATIENCE),
        }
    }

    fn panicked(&self, reason: &str) {
        self.shared.failure.set(Error::Panic(format!("compaction: {reason}")));
        self.shared.tail.halt();
        self.pending_changed.notify_all();
    }
}
