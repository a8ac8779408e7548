//! Inserting many keys.

use super::cold::{COLD_ITEMS_MAX, ColdItem};
use super::pipeline::{Absent, Memory, Pipeline, RecordRoom, Room};
use super::undecided::{Undecided, Waiting};
use super::{Batch, BatchMemory, CHUNK, ColdQueue, ItemState, check_states};
use crate::diskmap::confirm::Start;
use crate::diskmap::generation::Generation;
use crate::diskmap::key::Key;
use crate::diskmap::log::record::{self, Kind};
use crate::diskmap::op::{Op, Options};
use crate::diskmap::read::Scratch;
use crate::diskmap::{DiskMap, Wait};
use crate::index::{Insert, NewEntry, Purpose};
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
        let mut memory = BatchMemory::take();
        let Memory { pipeline, room } = &mut *memory;
        let mut cold = ColdQueue::default();
        let (mut blocked, waiting) = (None, Waiting::default());
        for start in (0..batch.keys.len()).step_by(CHUNK) {
            let end = batch.keys.len().min(start + CHUNK);
            pipeline.probe(&generation, &batch.keys[start..end], Purpose::Insertion);
            let generation = &generation;
            let mut chunk =
                InsertChunk { map: self, generation, batch, start, options, waiting: &waiting };
            let rest = chunk.insert_absent(pipeline, room, states, &mut blocked)?;
            chunk.insert_rest(pipeline, &rest, states, &mut cold, &mut blocked)?;
            if cold.items.len() >= COLD_ITEMS_MAX {
                self.insert_cold(generation, batch, options, &mut cold, states)?;
                waiting.queued.clear();
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
    waiting: &'a Waiting,
}

impl<K: Key> InsertChunk<'_, K> {
    /// Inserts the keys that have no candidate, lane by lane. Returns those (numbers in the chunk)
    /// that need a closer look, in order: with candidates, with long values, or behind an item that
    /// has their key and is undecided.
    fn insert_absent(
        &mut self,
        pipeline: &Pipeline,
        room: &mut Room,
        states: &mut [ItemState],
        blocked: &mut Option<Error>,
    ) -> Result<Vec<usize>> {
        let lanes = self.generation.lanes.len();
        let short_max = self.generation.lanes[0].short_units_max();
        let mut rest = Vec::new();
        let undecided = Undecided::default();
        let Room { by_lane, records } = room;
        by_lane.resize_with(lanes, Vec::new);
        by_lane.iter_mut().for_each(Vec::clear);
        for (number, candidates) in pipeline.candidates.iter().enumerate() {
            let position = self.start + number;
            if states[position] != ItemState::Pending {
                continue;
            }
            let units = record::record_units(K::BYTES, self.batch.value(position).len());
            let hash = pipeline.hashes[number];
            let Waiting { queued, blocked } = self.waiting;
            let waits = undecided.has(hash) || queued.has(hash) || blocked.has(hash);
            if candidates.is_empty() && units <= short_max && !waits {
                by_lane[self.generation.lane_number(hash)].push((number, units));
            } else {
                undecided.add(hash);
                rest.push(number);
            }
        }
        for (lane, items) in by_lane.iter().enumerate() {
            if let Err(error) =
                self.insert_lane(lane, items, pipeline, states, (&mut rest, &undecided), records)
            {
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
        items: &[Absent],
        pipeline: &Pipeline,
        states: &mut [ItemState],
        (rest, undecided): (&mut Vec<usize>, &Undecided),
        room: &mut RecordRoom,
    ) -> Result<()> {
        let lane = &self.generation.lanes[lane];
        let RecordRoom { units, bytes } = room;
        units.clear();
        units.extend(items.iter().map(|(_, units)| *units));
        let mut entries = Vec::with_capacity(items.len());
        let mut done = 0;
        while done < items.len() {
            let reservation = match lane.reserve(&units[done..], self.options.timeout) {
                Ok(reservation) => reservation,
                Err(error) => {
                    let left = items[done..].iter().map(|(number, _)| pipeline.hashes[*number]);
                    left.for_each(|hash| self.waiting.blocked.add(hash));
                    return Err(error);
                }
            };
            let now = &items[done..done + reservation.count];
            let records = now.iter().map(|(number, _)| {
                let position = self.start + number;
                (self.batch.keys[position].as_bytes(), self.batch.value(position))
            });
            reservation.store(records, bytes);
            entries.clear();
            let mut next_unit = 0;
            for (number, units) in now {
                let subtree = self.batch.subtree_index(self.start + number);
                let (location, known) =
                    (reservation.location(next_unit)?, &pipeline.candidates[*number]);
                entries.push((pipeline.hashes[*number], NewEntry { location, subtree, known }));
                next_unit += units;
            }
            let unit = |at: usize| reservation.unit(entries[at].1.location);
            let admit = |at: usize| {
                let hash = entries[at].0;
                let ruler = || Some(reservation.ruler(unit(at), Kind::Put));
                !undecided.has(hash) && self.generation.admit(hash, ruler)
            };
            let inserted = self.generation.index.insert_new_many(&entries, admit, |at, outcome| {
                let (number, units) = now[at];
                match outcome {
                    Insert::Done => states[self.start + number] = ItemState::Done,
                    Insert::Changed(_) => {
                        reservation.give_up(unit(at), units);
                        undecided.add(entries[at].0);
                        rest.push(number);
                    }
                }
            });
            if let Err((at, error)) = inserted {
                for (at, (_, units)) in now.iter().enumerate().skip(at) {
                    reservation.give_up(unit(at), *units);
                }
                return Err(error);
            }
            done += reservation.count;
        }
        Ok(())
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
            if self.waiting.blocked.has(hash) {
                continue;
            }
            if self.waiting.queued.has(hash) {
                cold.items.push(ColdItem::behind(position, *key, hash));
                continue;
            }
            let op = Op { map: self.map, generation: self.generation, hash, key, options: in_tail };
            let subtree_index = self.batch.subtree_index(position);
            // Without candidates it is here because another record came first, or may have: an item
            // before it has its key. Or the value is long. Look again.
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
                Err(error @ Error::WouldBlock(_)) => {
                    if self.options.may_read {
                        self.waiting.queued.add(hash);
                        let candidates = pipeline.candidates[*number].clone();
                        cold.items.push(ColdItem { position, key: *key, hash, candidates });
                    } else {
                        self.waiting.blocked.add(hash);
                        *blocked = Some(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
