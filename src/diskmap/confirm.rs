//! From matching tags to an answer: every candidate is compared with the full key.
//!
//! A confirm in the tail reads RAM. One that needs a file holds no lock; it counts only if the
//! shard's candidates and the segment are the same afterwards. What keeps losing that race takes
//! `slow_mu`: such confirms then go one at a time. Fast paths never take it, and each lost race
//! means that another operation on the shard succeeded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::DiskMap;
use super::key::Key;
use super::log::record;
use super::op::Op;
use super::read::{self, Found, Scratch};
use crate::index::{Candidates, Location};
use crate::{Error, Result};

/// Lost races after which a confirm takes `slow_mu`.
const RACES_BEFORE_SLOW: u32 = 3;

/// What became of the candidates of a key.
#[derive(Debug)]
pub(crate) enum Confirmed {
    /// None of them is the key.
    Refuted,
    /// This one is.
    Match(Match),
    /// They changed while they were read: probe again.
    Changed,
}

/// A record that has the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Match {
    pub(crate) location: Location,
    pub(crate) value_bytes: u32,
}

/// What is known of a key when an operation on it begins. It need not be current any more: what an
/// operation does with it checks that.
#[derive(Debug, Default)]
pub(crate) enum Start {
    /// Nothing.
    #[default]
    Probe,
    /// The candidates of an earlier probe in the same call.
    Candidates(Candidates),
    /// The record, read and confirmed for these candidates.
    Found(Match, Candidates),
}

/// Counts lost races and holds `slow_mu` from the third on.
pub(crate) struct Races<'a> {
    lost: u32,
    slow: Option<MutexGuard<'a, ()>>,
}

impl<'a> Races<'a> {
    pub(crate) const fn new() -> Self {
        Self { lost: 0, slow: None }
    }

    /// Call it after a lost race, with nothing locked or reserved.
    pub(crate) fn lost<K: Key>(&mut self, map: &'a DiskMap<K>) {
        self.lost += 1;
        if self.lost == RACES_BEFORE_SLOW {
            map.counters.slow_confirms.fetch_add(1, Ordering::Relaxed);
            self.slow = Some(map.slow_mu.lock());
        }
    }
}

impl<'a, K: Key> Op<'a, K> {
    /// Compares the candidates with the key. Where files may not be read, a record that is only in
    /// one is `WouldBlock`.
    ///
    /// After a match whose value is wanted, the value is in `scratch`.
    fn confirm(&self, candidates: &Candidates, scratch: &mut Scratch) -> Result<Confirmed> {
        let index = &self.generation.index;
        for location in candidates.iter() {
            let lane = self.generation.lane(self.hash);
            let want_value = self.options.want_value;
            let key = self.key.as_bytes();
            let mut found = read::from_tail(lane, location, key, want_value, scratch);
            if matches!(found, Found::Gone | Found::Long { .. }) {
                if !self.options.may_read {
                    return Err(Error::WouldBlock(Error::BLOCKED_ON_READ));
                }
                match self.read(&found, location, candidates, scratch)? {
                    Some(read) => found = read,
                    None => return Ok(Confirmed::Changed),
                }
            }
            match found {
                Found::Other => {
                    self.map.counters.false_matches.fetch_add(1, Ordering::Relaxed);
                }
                Found::Gone | Found::Long { .. } => return Ok(Confirmed::Changed),
                Found::Match { value_bytes } => {
                    if !index.unchanged(self.hash, candidates) {
                        return Ok(Confirmed::Changed);
                    }
                    return Ok(Confirmed::Match(Match { location, value_bytes }));
                }
            }
        }
        if candidates.is_empty() || index.unchanged(self.hash, candidates) {
            return Ok(Confirmed::Refuted);
        }
        Ok(Confirmed::Changed)
    }

    /// Reads a record that is not, or not alone, in the tail. `None` if it is not current any more.
    fn read(
        &self,
        found: &Found,
        location: Location,
        candidates: &Candidates,
        scratch: &mut Scratch,
    ) -> Result<Option<Found>> {
        let lane = self.generation.lane(self.hash);
        let key = self.key.as_bytes();
        let Some((segment, place)) = read::segment_at(lane, location) else { return Ok(None) };
        let outcome = if let Found::Long { value_bytes } = found {
            let total = record::record_bytes(K::BYTES, *value_bytes as usize);
            read::from_blocks(lane, &segment, place, key, total, scratch)
        } else {
            self.map.counters.file_reads.fetch_add(1, Ordering::Relaxed);
            read::from_file(lane, &segment, place, key, scratch)
        };
        // An error too counts only if the record is still the one that the slot points to.
        let current = self.generation.index.unchanged(self.hash, candidates)
            && read::segment_at(lane, location).is_some_and(|(now, _)| Arc::ptr_eq(&now, &segment));
        if !current {
            return Ok(None);
        }
        outcome.map(Some)
    }

    /// Confirms from `start` on until the answer is current: the key's record, or `None`, and the
    /// candidates that this was found for. Leaves `start` at a fresh probe.
    pub(crate) fn find(
        &self,
        start: &mut Start,
        scratch: &mut Scratch,
        races: &mut Races<'a>,
    ) -> Result<(Option<Match>, Candidates)> {
        let mut candidates = match std::mem::take(start) {
            Start::Found(found, candidates) => return Ok((Some(found), candidates)),
            Start::Candidates(candidates) => candidates,
            Start::Probe => self.generation.index.probe(self.hash),
        };
        loop {
            if candidates.is_empty() {
                return Ok((None, candidates));
            }
            match self.confirm(&candidates, scratch)? {
                Confirmed::Refuted => return Ok((None, candidates)),
                Confirmed::Match(found) => return Ok((Some(found), candidates)),
                Confirmed::Changed => races.lost(self.map),
            }
            candidates = self.generation.index.probe(self.hash);
        }
    }
}
