//! Handing the index the keys of a base page that it builds anew.
//!
//! A turn on the runtime's background thread reads some of the page's records, in the order of the
//! log as an iteration does, and puts their keys into the new pages; the lane is pinned meanwhile,
//! so that each place leads to the key that it stood for. Turns take half of the time at most, so
//! that the disk is there for others.
//!
//! Locks: `running`, held for one step, under which those of the log and the index are taken.
//! Nobody who holds one of those waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::batch::cold::RunReader;
use super::compaction::merge::HashKey;
use super::generation::Generation;
use super::log::lane::Lane;
use super::log::writeback::Shared;
use super::places::{Reading, SLICE_ITEMS_MAX, read_places, slice};
use super::plan::Plan;
use crate::events::{EventLevel, EventRing};
use crate::index::{Fit, Index, Noted, Rehash, Ring, Wanted};
use crate::memory::MemoryReserve;
use crate::runtime::Runtime;
use crate::runtime::background::{Bell, Next, Work};
use crate::storage::Storage;
use crate::{Error, Result};

/// After an error nothing is begun for so long.
const AFTER_ERROR: Duration = Duration::from_secs(60);
/// So often a page is begun again with twice the pages before it is left alone.
const MORE_MAX: u32 = 3;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Rehasher {
    generation: Arc<ArcSwap<Generation>>,
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    events: Arc<EventRing>,
    reserve: Option<Arc<dyn MemoryReserve>>,
    bell: Arc<Bell>,
    hash_key: HashKey,
    key_bytes: usize,
    running: Mutex<Running>,
    closed: AtomicBool,
    file_reads: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Running {
    page: Option<Page>,
    /// Base pages below this number were looked at.
    from: usize,
    not_before: Option<Instant>,
}

/// A base page under way. Its end, however it comes, leaves the index as it is and the lane free.
#[derive(Debug)]
struct Page {
    generation: Arc<Generation>,
    wanted: Wanted,
    /// None before its beginning and after its end.
    rehash: Option<Rehash>,
    lane: usize,
    noted: Vec<Noted>,
    next: usize,
    more: u32,
    charged: Option<(Arc<dyn MemoryReserve>, u64)>,
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(rehash) = self.rehash.take() {
            self.generation.index.abandon_rehash(rehash);
        }
        self.lane().unpin();
        if let Some((reserve, bytes)) = self.charged.take() {
            reserve.release(bytes);
        }
    }
}

impl Page {
    fn lane(&self) -> &Lane {
        &self.generation.lanes[self.lane]
    }

    /// Notes the entries. False if there is nothing to do.
    fn begin(&mut self) -> Result<bool> {
        let begun = self.generation.index.begin_rehash(&self.wanted, self.more)?;
        let Some((rehash, noted)) = begun else { return Ok(false) };
        (self.rehash, self.noted, self.next) = (Some(rehash), noted, 0);
        Ok(true)
    }
}

impl Ring for Bell {
    fn ring(&self) {
        Self::ring(self);
    }
}

impl Rehasher {
    pub(super) fn start(
        runtime: &Runtime,
        plan: &Plan,
        shared: &Arc<Shared>,
        generation: &Arc<ArcSwap<Generation>>,
        (hash_key, key_bytes): (HashKey, usize),
    ) -> Arc<Self> {
        let rehasher = Arc::new(Self {
            generation: Arc::clone(generation),
            shared: Arc::clone(shared),
            storage: Arc::clone(runtime.storage()),
            events: Arc::clone(runtime.events()),
            reserve: plan.index.reserve.clone(),
            bell: Arc::clone(&plan.rehash_bell),
            hash_key,
            key_bytes,
            running: Mutex::default(),
            closed: AtomicBool::new(false),
            file_reads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let work: Arc<dyn Work> = Arc::clone(&rehasher) as _;
        rehasher.bell.attach(Arc::downgrade(&work));
        if rehasher.generation.load().index.wants_rehash(0).is_some() {
            // What rang while the map was recovered, nobody heard.
            rehasher.bell.ring();
        }
        rehasher
    }

    /// Ends what is under way, and waits for that: a step at most.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bell.detach();
        self.running.lock().page = None;
    }

    /// The map has another generation now: what is under way for the old one is to end.
    pub(super) fn generation_changed(&self) {
        self.bell.ring();
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Does one step of what is under way, or begins something. False without anything to do.
    fn advance(&self, running: &mut Running) -> Result<bool> {
        let Some(page) = &mut running.page else {
            let generation = self.generation.load_full();
            let Some(wanted) = generation.index.wants_rehash(running.from) else {
                running.from = 0;
                return Ok(false);
            };
            running.from = wanted.next();
            let mut page = self.page(generation, wanted)?;
            if page.begin()? {
                running.page = Some(page);
            }
            return Ok(true);
        };
        let fit = if page.next < page.noted.len() { self.read_slice(page)? } else { finish(page)? };
        match fit {
            Fit::Done if page.rehash.is_some() => {}
            Fit::Done | Fit::Overrun => running.page = None,
            Fit::TooFull => {
                page.more += 1;
                if let Some(rehash) = page.rehash.take() {
                    page.generation.index.abandon_rehash(rehash);
                }
                if page.more > MORE_MAX || !page.begin()? {
                    running.page = None;
                }
            }
        }
        Ok(true)
    }

    fn page(&self, generation: Arc<Generation>, wanted: Wanted) -> Result<Page> {
        let charged = match &self.reserve {
            Some(reserve) => {
                let bytes = Index::rehash_bytes(&wanted);
                reserve.reserve("rehashing a page of the index", bytes)?;
                Some((Arc::clone(reserve), bytes))
            }
            None => None,
        };
        let lane = generation.lane_number_of_shard(generation.index.shard_of_wanted(&wanted));
        generation.lanes[lane].pin();
        let (noted, rehash) = (Vec::new(), None);
        Ok(Page { generation, wanted, rehash, lane, noted, next: 0, more: 0, charged })
    }

    /// Reads the records that come next.
    fn read_slice(&self, page: &mut Page) -> Result<Fit> {
        let places: Vec<u64> = page.noted[page.next..]
            .iter()
            .take(SLICE_ITEMS_MAX)
            .map(|noted| noted.units())
            .collect();
        let reading = Reading {
            runs: RunReader { storage: self.storage.as_ref(), file_reads: &self.file_reads },
            key_bytes: self.key_bytes,
            want_values: false,
            may_read: true,
        };
        let mut bytes = Vec::new();
        let reads = read_places(&reading, page.lane(), slice(&places), &mut bytes)?;
        let Page { generation, rehash: Some(rehash), noted, next, .. } = page else {
            return Ok(Fit::Overrun);
        };
        for read in reads {
            let h = (self.hash_key)(&generation.hasher, &bytes[read.key])
                .ok_or_else(|| Error::Panic("a record without a key".to_owned()))?;
            let fit = generation.index.rehash_entry(rehash, h, noted[*next])?;
            if fit != Fit::Done {
                return Ok(fit);
            }
            *next += 1;
        }
        Ok(Fit::Done)
    }

    /// Says what went wrong; the page is left as it was, and looked at again later.
    fn failed(&self, running: &mut Running, error: &Error) {
        running.page = None;
        running.not_before = Some(Instant::now() + AFTER_ERROR);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let text = format!(
            "a page of the index could not be built anew from its keys; it goes on as it is, with \
             more false matches: {error}"
        );
        self.events.push_once(&text, EventLevel::Warn, text.clone());
    }
}

/// Puts the new pages in the place of the old ones.
fn finish(page: &mut Page) -> Result<Fit> {
    match page.rehash.take() {
        Some(rehash) => page.generation.index.finish_rehash(rehash),
        None => Ok(Fit::Done),
    }
}

impl Work for Rehasher {
    fn step(&self) -> Next {
        let began = Instant::now();
        let mut running = self.running.lock();
        let current = self.generation.load();
        if running.page.as_ref().is_some_and(|page| !Arc::ptr_eq(&page.generation, &current)) {
            (running.page, running.from) = (None, 0);
        }
        if self.closed.load(Ordering::Acquire) || self.shared.failure.is_set() {
            running.page = None;
            return Next::Idle;
        }
        if let Some(time) = running.not_before.filter(|time| *time > began) {
            return Next::At(time);
        }
        running.not_before = None;
        match self.advance(&mut running) {
            Ok(true) => {
                let now = Instant::now();
                Next::At(now + (now - began))
            }
            Ok(false) => Next::Idle,
            Err(error) => {
                self.failed(&mut running, &error);
                Next::At(Instant::now() + AFTER_ERROR)
            }
        }
    }

    fn panicked(&self, reason: &str) {
        self.failed(&mut self.running.lock(), &Error::Panic(reason.to_owned()));
    }
}
