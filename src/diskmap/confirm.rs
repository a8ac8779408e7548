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
use super::generation::Generation;
use super::key::Key;
use super::read::{self, Found, Scratch};
use super::record;
use crate::hash::keyed::KeyHash;
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

impl<K: Key> DiskMap<K> {
    /// Compares the candidates with the key. With `may_read` false a record that is only in a file
    /// is `WouldBlock`.
    ///
    /// After a match with `want_value` the value is in `scratch`.
    pub(crate) fn confirm(
        &self,
        generation: &Generation,
        hash: KeyHash,
        key: &K,
        candidates: &Candidates,
        want_value: bool,
        may_read: bool,
        scratch: &mut Scratch,
    ) -> Result<Confirmed> {
        let lane = generation.lane(hash);
        for location in candidates.iter() {
            let mut found = read::from_tail(lane, location, key.as_bytes(), want_value, scratch);
            if matches!(found, Found::Gone | Found::Long { .. }) {
                if !may_read {
                    return Err(Error::WouldBlock("the record is on disk"));
                }
                let Some((segment, place)) = read::segment_at(lane, location) else {
                    return Ok(Confirmed::Changed);
                };
                let outcome = if let Found::Long { value_bytes } = found {
                    let total = record::record_bytes(K::BYTES, value_bytes as usize);
                    read::from_blocks(lane, &segment, place, key.as_bytes(), total, scratch)
                } else {
                    self.counters.file_reads.fetch_add(1, Ordering::Relaxed);
                    read::from_file(lane, &segment, place, key.as_bytes(), scratch)
                };
                let current = generation.index.unchanged(hash, candidates)
                    && read::segment_at(lane, location)
                        .is_some_and(|(now, _)| Arc::ptr_eq(&now, &segment));
                if !current {
                    return Ok(Confirmed::Changed);
                }
                found = outcome?;
            }
            match found {
                Found::Other => {
                    self.counters.false_matches.fetch_add(1, Ordering::Relaxed);
                }
                Found::Gone | Found::Long { .. } => return Ok(Confirmed::Changed),
                Found::Match { value_bytes } => {
                    if !generation.index.unchanged(hash, candidates) {
                        return Ok(Confirmed::Changed);
                    }
                    return Ok(Confirmed::Match(Match { location, value_bytes }));
                }
            }
        }
        if candidates.is_empty() || generation.index.unchanged(hash, candidates) {
            return Ok(Confirmed::Refuted);
        }
        Ok(Confirmed::Changed)
    }

    /// Probes and confirms until the answer is current: the key's record, or `None` with the
    /// candidates that were refuted.
    pub(crate) fn find<'a>(
        &'a self,
        generation: &Generation,
        hash: KeyHash,
        key: &K,
        want_value: bool,
        may_read: bool,
        scratch: &mut Scratch,
        races: &mut Races<'a>,
    ) -> Result<(Option<Match>, Candidates)> {
        loop {
            let candidates = generation.index.probe(hash);
            if candidates.is_empty() {
                return Ok((None, candidates));
            }
            let confirmed =
                self.confirm(generation, hash, key, &candidates, want_value, may_read, scratch)?;
            match confirmed {
                Confirmed::Refuted => return Ok((None, candidates)),
                Confirmed::Match(found) => return Ok((Some(found), candidates)),
                Confirmed::Changed => races.lost(self),
            }
        }
    }
}
