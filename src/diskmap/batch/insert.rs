//! Inserting many keys.

use super::cold::{COLD_ITEMS_MAX, ColdItem};
use super::{Batch, CHUNK, ColdQueue, ItemState, Pipeline, check_states};
use crate::diskmap::confirm::Start;
use crate::diskmap::generation::Generation;
use crate::diskmap::key::Key;
use crate::diskmap::log::record::{self, Kind};
use crate::diskmap::log::reservation::Reservation;
use crate::diskmap::op::{Op, Options};
use crate::diskmap::read::Scratch;
use crate::diskmap::{DiskMap, Wait};
use crate::index::{Insert, Purpose};
use crate::{Error, Result};

impl<K: Key> DiskMap<K> {
    /// Inserts each key that is absent. `states` says for each item whether it was inserted
    /// (`Done`) or there (`Other`); items that are not `Pending` on entry are left alone, so that a
    /// call that ended early can be repeated.
    ///
    /// # Errors
    /// As for [`DiskMap::set_if_not_exists`]; items decided before it keep their state.
    pub fn set_if_not_exists_batch(
        &self,
        batch: &Batch<'_, K>,
        wait: Wait,
        states: &mut [ItemState],
    ) -> Result<()> {
        check_states(batch.keys.len(), states)?;
        self.shared.failure.check()?;
        let options = self.options(wait, false);
        self.compaction.admit(options.timeout)?;
        let generation = self.generation.load();
        self.check_writable(&generation)?;
        let mut pipeline = Pipeline::new(batch.keys.len());
        let mut cold = ColdQueue::default();
        let mut blocked = None;
        for start in (0..batch.keys.len()).step_by(CHUNK) {
            let end = batch.keys.len().min(start + CHUNK);
            pipeline.probe(&generation, &batch.keys[start..end], Purpose::Insertion);
            let mut chunk =
                InsertChunk { map: self, generation: &generation, batch, start, options };
            let rest = chunk.insert_absent(&pipeline, states, &mut blocked)?;
            chunk.insert_rest(&pipeline, &rest, states, &mut cold, &mut blocked)?;
            if cold.items.len() >= COLD_ITEMS_MAX {
                self.insert_cold(&generation, batch, options, &mut cold, states)?;
            }
        }
        self.insert_cold(&generation, batch, options, &mut cold, states)?;
        blocked.map_or(Ok(()), Err)
    }

    fn insert_cold(
        &self,
        generation: &Generation,
        batch: &Batch<'_, K>,
        options: Options,
        cold: &mut ColdQueue<K>,
        states: &mut [ItemState],
    ) -> Result<()> {
        let mut rest = Vec::new();
        self.resolve_cold(generation, &cold.items, |item, found| {
            match found {
                Some(_) => states[item.position] = ItemState::Other,
                None => rest.push(item.position),
            }
            Ok(())
        })?;
        cold.items.clear();
        rest.sort_unstable();
        let mut scratch = Scratch::default();
        for position in rest {
            let op = self.op(generation, &batch.keys[position], options);
            let subtree_index = batch.subtree_index(position);
            let value = batch.value(position);
            let there = op.insert(Start::Probe, value, subtree_index, &mut scratch)?;
            states[position] = if there.is_some() { ItemState::Other } else { ItemState::Done };
        }
        Ok(())
    }
}

/// One chunk of an insert.
struct InsertChunk<'a, K: Key> {
    map: &'a DiskMap<K>,
    generation: &'a Generation,
    batch: &'a Batch<'a, K>,
    start: usize,
    options: Options,
}

impl<K: Key> InsertChunk<'_, K> {
    /// Inserts the keys that have no candidate, lane by lane. Returns those (numbers in the chunk)
    /// that need a closer look.
    fn insert_absent(
        &mut self,
        pipeline: &Pipeline,
        states: &mut [ItemState],
        blocked: &mut Option<Error>,
    ) -> Result<Vec<usize>> {
        let lanes = self.generation.lanes.len();
        let short_max = self.generation.lanes[0].short_units_max();
        let mut rest = Vec::new();
        let mut by_lane: Vec<Vec<(usize, u32)>> = vec![Vec::new(); lanes];
        for (number, candidates) in pipeline.candidates.iter().enumerate() {
            let position = self.start + number;
            if states[position] != ItemState::Pending {
                continue;
            }
            let units = record::record_units(K::BYTES, self.batch.value(position).len());
            if candidates.is_empty() && units <= short_max {
                let lane = self.generation.lane_number(pipeline.hashes[number]);
                by_lane[lane].push((number, units));
            } else {
                rest.push(number);
            }
        }
        for (lane, items) in by_lane.iter().enumerate() {
            if let Err(error) = self.insert_lane(lane, items, pipeline, states, &mut rest) {
                match error {
                    Error::WouldBlock(_) => *blocked = Some(error),
                    error => return Err(error),
                }
            }
        }
        rest.sort_unstable();
        Ok(rest)
    }

    fn insert_lane(
        &self,
        lane: usize,
        items: &[(usize, u32)],
        pipeline: &Pipeline,
        states: &mut [ItemState],
        rest: &mut Vec<usize>,
    ) -> Result<()> {
        let lane = &self.generation.lanes[lane];
        let units: Vec<u32> = items.iter().map(|(_, units)| *units).collect();
        let mut bytes = Vec::with_capacity(8 << 10);
        let mut done = 0;
        while done < items.len() {
            let reservation = lane.reserve(&units[done..], self.options.timeout)?;
            let now = &items[done..done + reservation.count];
            let records = now.iter().map(|(number, _)| {
                let position = self.start + number;
                (self.batch.keys[position].as_bytes(), self.batch.value(position))
            });
            reservation.store(records, &mut bytes);
            let mut unit = 0;
            for (number, units) in now {
                let position = self.start + number;
                let hash = pipeline.hashes[*number];
                let inserted = self.generation.index.insert_new_if(
                    hash,
                    reservation.location(unit)?,
                    self.batch.subtree_index(position),
                    &pipeline.candidates[*number],
                    || self.generation.admit(hash, || Some(reservation.ruler(unit, Kind::Put))),
                );
                match inserted {
                    Ok(Insert::Done) => states[position] = ItemState::Done,
                    Ok(Insert::Changed(_)) => {
                        reservation.give_up(unit, *units);
                        rest.push(*number);
                    }
                    Err(error) => {
                        self.give_up_from(&reservation, now, unit);
                        return Err(error);
                    }
                }
                unit += units;
            }
            done += reservation.count;
        }
        Ok(())
    }

    /// Turns the records from `first_unit` on, which were stored but not published, into padding.
    fn give_up_from(&self, reservation: &Reservation<'_>, items: &[(usize, u32)], first_unit: u32) {
        let mut unit = 0;
        for (_, units) in items {
            if unit >= first_unit {
                reservation.give_up(unit, *units);
            }
            unit += units;
        }
    }

    /// The keys with candidates: their record is compared in the tail, or queued for a read of the
    /// file.
    fn insert_rest(
        &self,
        pipeline: &Pipeline,
        rest: &[usize],
        states: &mut [ItemState],
        cold: &mut ColdQueue<K>,
        blocked: &mut Option<Error>,
    ) -> Result<()> {
        let in_tail = Options { may_read: false, ..self.options };
        let mut scratch = Scratch::default();
        for number in rest {
            let position = self.start + number;
            let (key, hash) = (&self.batch.keys[position], pipeline.hashes[*number]);
            let op = Op { map: self.map, generation: self.generation, hash, key, options: in_tail };
            let subtree_index = self.batch.subtree_index(position);
            // Without candidates it is here because another record came first: look again.
            let candidates = match &pipeline.candidates[*number] {
                none if none.is_empty() => self.generation.index.probe(hash),
                some => some.clone(),
            };
            let value = self.batch.value(position);
            let outcome =
                op.insert(Start::Candidates(candidates), value, subtree_index, &mut scratch);
            match outcome {
                Ok(there) => {
                    states[position] =
                        if there.is_some() { ItemState::Other } else { ItemState::Done };
                }
                Err(Error::WouldBlock(_)) if self.options.may_read => {
                    let candidates = pipeline.candidates[*number].clone();
                    cold.items.push(ColdItem { position, key: *key, hash, candidates });
                }
                Err(error @ Error::WouldBlock(_)) => *blocked = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
