//! Many keys in one call. The index is probed as a pipeline (hash and first prefetch, second prefetch, probe), room in the
//! log is reserved for many records at once, and records that are only in files are read together.

use super::DiskMap;
use super::Wait;
use super::cold::{COLD_ITEMS_MAX, ColdItem};
use super::generation::Generation;
use super::key::Key;
use super::read::Scratch;
use super::record;
use super::write::Options;
use crate::hash::keyed::KeyHash;
use crate::index::{Candidates, Insert};
use crate::{Error, Result};

/// Keys that go through the pipeline together; their cache lines stay near.
const CHUNK: usize = 256;
/// How far ahead of the probe the primary bucket and then the alternate bucket are fetched.
const PREFETCH_PRIMARY: usize = 24;
const PREFETCH_ALTERNATE: usize = 12;

/// Keys with their values, flat: value `i` is `arena[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a, K> {
    keys: &'a [K],
    arena: &'a [u8],
    offsets: &'a [u64],
    subtree_indexes: Option<&'a [u16]>,
}

impl<'a, K> Batch<'a, K> {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// `InvalidArgument` if lengths differ, offsets fall or point behind the arena.
    pub fn new(
        keys: &'a [K],
        arena: &'a [u8],
        offsets: &'a [u64],
        subtree_indexes: Option<&'a [u16]>,
    ) -> Result<Self> {
        let wrong = |what: String| Err(Error::InvalidArgument(what));
        if offsets.len() != keys.len() + 1 {
            return wrong(format!("{} keys need {} offsets", keys.len(), keys.len() + 1));
        }
        if let Some(position) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            return wrong(format!("offset {} is smaller than the one before", position + 1));
        }
        if offsets.last().is_some_and(|end| *end > arena.len() as u64) {
            return wrong("the last offset is behind the arena's end".to_owned());
        }
        if subtree_indexes.is_some_and(|indexes| indexes.len() != keys.len()) {
            return wrong("as many subtree indexes as keys are needed".to_owned());
        }
        Ok(Self { keys, arena, offsets, subtree_indexes })
    }

    fn value(&self, position: usize) -> &'a [u8] {
        // Checked in `new`; the arena is memory, so its offsets fit usize.
        &self.arena[self.offsets[position] as usize..self.offsets[position + 1] as usize]
    }

    fn subtree_index(&self, position: usize) -> u16 {
        self.subtree_indexes.map_or(0, |indexes| indexes[position])
    }
}

/// What became of one item of a batch. The numbers are part of the C ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ItemState {
    /// Not decided: the call ended early. Ask again.
    #[default]
    Pending = 0,
    /// Inserted, or removed.
    Done = 1,
    /// Insert: the key was there. Set: a value was replaced. Delete: the key was absent.
    Other = 2,
}

/// Memory of a batch, reused from chunk to chunk.
struct Pipeline {
    hashes: Vec<KeyHash>,
    candidates: Vec<Candidates>,
}

impl Pipeline {
    fn new(items: usize) -> Self {
        let items = items.min(CHUNK);
        Self { hashes: Vec::with_capacity(items), candidates: Vec::with_capacity(items) }
    }

    /// Probes up to `CHUNK` keys.
    fn probe<K: Key>(&mut self, generation: &Generation, keys: &[K]) {
        self.hashes.clear();
        self.candidates.clear();
        let index = &generation.index;
        for step in 0..keys.len() + PREFETCH_PRIMARY {
            if let Some(key) = keys.get(step) {
                let hash = key.hash(&generation.hasher);
                self.hashes.push(hash);
                index.prefetch(hash);
            }
            let behind = step.wrapping_sub(PREFETCH_PRIMARY - PREFETCH_ALTERNATE);
            if let Some(hash) = self.hashes.get(behind) {
                index.prefetch_alternate(*hash);
            }
            if let Some(hash) = self.hashes.get(step.wrapping_sub(PREFETCH_PRIMARY)) {
                self.candidates.push(index.probe(*hash));
            }
        }
    }
}

impl<K: Key> DiskMap<K> {
    /// Inserts each key that is absent. `states` says for each item whether it was inserted (`Done`) or there
    /// (`Other`); items that are not `Pending` on entry are left alone, so that a call that ended early can be repeated.
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
        let generation = self.generation.load();
        let options = self.options(wait, false);
        let mut pipeline = Pipeline::new(batch.keys.len());
        let mut cold = ColdQueue::default();
        let mut blocked = None;
        for start in (0..batch.keys.len()).step_by(CHUNK) {
            let end = batch.keys.len().min(start + CHUNK);
            pipeline.probe(&generation, &batch.keys[start..end]);
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
        self.resolve_cold(generation, &cold.items, |position, found| {
            match found {
                Some(_) => states[position] = ItemState::Other,
                None => rest.push(position),
            }
            Ok(())
        })?;
        cold.items.clear();
        rest.sort_unstable();
        let mut scratch = Scratch::default();
        for position in rest {
            let key = &batch.keys[position];
            let there = self.insert_in(
                generation,
                key.hash(&generation.hasher),
                key,
                batch.value(position),
                batch.subtree_index(position),
                options,
                &mut scratch,
            )?;
            states[position] = if there.is_some() { ItemState::Other } else { ItemState::Done };
        }
        Ok(())
    }

    /// Sets each key's value; `Done` where it was new, `Other` where a value was replaced. Otherwise like
    /// [`DiskMap::set_if_not_exists_batch`].
    ///
    /// # Errors
    /// As for [`DiskMap::set`].
    pub fn set_batch(
        &self,
        batch: &Batch<'_, K>,
        wait: Wait,
        states: &mut [ItemState],
    ) -> Result<()> {
        check_states(batch.keys.len(), states)?;
        let generation = self.generation.load();
        let options = self.options(wait, false);
        let mut scratch = Scratch::default();
        self.each(&generation, batch.keys, states, |hash, position, state| {
            let replaced = self.set_in(
                &generation,
                hash,
                &batch.keys[position],
                batch.value(position),
                batch.subtree_index(position),
                options,
                &mut scratch,
            )?;
            *state = if replaced { ItemState::Other } else { ItemState::Done };
            Ok(())
        })
    }

    /// Removes each key; `Done` where it was there, `Other` where it was absent. Otherwise like
    /// [`DiskMap::set_if_not_exists_batch`].
    ///
    /// # Errors
    /// As for [`DiskMap::delete`].
    pub fn delete_batch(&self, keys: &[K], wait: Wait, states: &mut [ItemState]) -> Result<()> {
        check_states(keys.len(), states)?;
        let generation = self.generation.load();
        let options = self.options(wait, false);
        let mut scratch = Scratch::default();
        self.each(&generation, keys, states, |hash, position, state| {
            let removed =
                self.delete_in(&generation, hash, &keys[position], options, &mut scratch)?;
            *state = if removed { ItemState::Done } else { ItemState::Other };
            Ok(())
        })
    }

    /// Sets one subtree index on many keys; `Done` where the key was there, `Other` where it was absent.
    ///
    /// # Errors
    /// As for [`DiskMap::update_subtree_index`].
    pub fn update_subtree_index_batch(
        &self,
        keys: &[K],
        subtree_index: u16,
        wait: Wait,
        states: &mut [ItemState],
    ) -> Result<()> {
        check_states(keys.len(), states)?;
        let generation = self.generation.load();
        let options = self.options(wait, false);
        let mut scratch = Scratch::default();
        self.each(&generation, keys, states, |hash, position, state| {
            let found = self.set_subtree_index_in(
                &generation,
                hash,
                &keys[position],
                subtree_index,
                options,
                &mut scratch,
            )?;
            *state = if found { ItemState::Done } else { ItemState::Other };
            Ok(())
        })
    }

    /// Prefetches ahead and runs `act` on each pending item. An item that would block stays pending, the others go on.
    fn each(
        &self,
        generation: &Generation,
        keys: &[K],
        states: &mut [ItemState],
        mut act: impl FnMut(KeyHash, usize, &mut ItemState) -> Result<()>,
    ) -> Result<()> {
        let index = &generation.index;
        let mut hashes = [KeyHash { hi: 0, lo: 0 }; PREFETCH_PRIMARY];
        let mut blocked = None;
        for step in 0..keys.len() + PREFETCH_PRIMARY {
            // The slot of the ring that this step's key takes is the one whose key is due.
            let due = hashes[step % PREFETCH_PRIMARY];
            if let Some(key) = keys.get(step) {
                let hash = key.hash(&generation.hasher);
                hashes[step % PREFETCH_PRIMARY] = hash;
                index.prefetch(hash);
            }
            if step >= PREFETCH_ALTERNATE && step - PREFETCH_ALTERNATE < keys.len() {
                index.prefetch_alternate(hashes[(step - PREFETCH_ALTERNATE) % PREFETCH_PRIMARY]);
            }
            let Some(position) = step.checked_sub(PREFETCH_PRIMARY) else { continue };
            if states[position] != ItemState::Pending {
                continue;
            }
            match act(due, position, &mut states[position]) {
                Err(error @ Error::WouldBlock(_)) => blocked = Some(error),
                other => other?,
            }
        }
        blocked.map_or(Ok(()), Err)
    }

    /// Looks up many keys. `visit(position, value and subtree index)` is called once for each key that is found, in no
    /// particular order; with `want_values` false the value is empty. Returns the positions that would have blocked
    /// (only with [`Wait::Never`]).
    ///
    /// # Errors
    /// As for [`DiskMap::get`], and those of `visit`.
    pub fn get_batch(
        &self,
        keys: &[K],
        want_values: bool,
        wait: Wait,
        mut visit: impl FnMut(usize, &[u8], u16) -> Result<()>,
    ) -> Result<Vec<usize>> {
        let generation = self.generation.load();
        let options = self.options(wait, want_values);
        let mut pipeline = Pipeline::new(keys.len());
        let mut cold = ColdQueue::default();
        let mut would_block = Vec::new();
        let mut scratch = Scratch::default();
        for start in (0..keys.len()).step_by(CHUNK) {
            let end = keys.len().min(start + CHUNK);
            pipeline.probe(&generation, &keys[start..end]);
            for (number, candidates) in pipeline.candidates.iter().enumerate() {
                if candidates.is_empty() {
                    continue;
                }
                let (position, hash) = (start + number, pipeline.hashes[number]);
                let key = &keys[position];
                let lookup =
                    self.lookup_in(&generation, hash, key, want_values, false, &mut scratch);
                match lookup {
                    Ok(Some(subtree_index)) => visit(position, scratch.value(), subtree_index)?,
                    Ok(None) => {}
                    Err(Error::WouldBlock(_)) if options.may_read => {
                        let candidates = generation.index.probe(hash);
                        cold.items.push(ColdItem { position, key: *key, hash, candidates });
                    }
                    Err(Error::WouldBlock(_)) => would_block.push(position),
                    Err(error) => return Err(error),
                }
            }
            if cold.items.len() >= COLD_ITEMS_MAX {
                self.get_cold(&generation, keys, want_values, &mut cold, &mut visit)?;
            }
        }
        self.get_cold(&generation, keys, want_values, &mut cold, &mut visit)?;
        Ok(would_block)
    }

    fn get_cold(
        &self,
        generation: &Generation,
        keys: &[K],
        want_values: bool,
        cold: &mut ColdQueue<K>,
        visit: &mut impl FnMut(usize, &[u8], u16) -> Result<()>,
    ) -> Result<()> {
        let mut rest = Vec::new();
        self.resolve_cold(generation, &cold.items, |position, found| {
            let hash = keys[position].hash(&generation.hasher);
            let hit = found.and_then(|(found, value)| {
                Some((value, generation.index.subtree_index(hash, found.location)?))
            });
            match hit {
                Some((value, subtree_index)) => {
                    let value = if want_values { value } else { &[] };
                    visit(position, value, subtree_index)
                }
                None => {
                    rest.push(position);
                    Ok(())
                }
            }
        })?;
        cold.items.clear();
        let mut scratch = Scratch::default();
        for position in rest {
            let key = &keys[position];
            let hash = key.hash(&generation.hasher);
            let found = self.lookup_in(generation, hash, key, want_values, true, &mut scratch)?;
            if let Some(subtree_index) = found {
                visit(position, scratch.value(), subtree_index)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct ColdQueue<K> {
    items: Vec<ColdItem<K>>,
}

impl<K> Default for ColdQueue<K> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

fn check_states(keys: usize, states: &[ItemState]) -> Result<()> {
    if states.len() == keys {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("{keys} keys need as many states, not {}", states.len())))
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
    /// Inserts the keys that have no candidate, lane by lane. Returns those (numbers in the chunk) that need a closer look.
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
        let mut locations = Vec::with_capacity(items.len());
        let mut bytes = Vec::with_capacity(256);
        let mut done = 0;
        while done < items.len() {
            let reservation = lane.reserve(&units[done..], self.options.timeout)?;
            let now = &items[done..done + reservation.count];
            locations.clear();
            let mut unit = 0;
            for (number, units) in now {
                let position = self.start + number;
                let key = self.batch.keys[position].as_bytes();
                let value = self.batch.value(position);
                locations.push((unit, reservation.store(unit, key, value, &mut bytes)?));
                unit += units;
            }
            for ((number, units), (unit, location)) in now.iter().zip(&locations) {
                let position = self.start + number;
                let inserted = self.generation.index.insert_new(
                    pipeline.hashes[*number],
                    *location,
                    self.batch.subtree_index(position),
                    &pipeline.candidates[*number],
                );
                match inserted {
                    Ok(Insert::Done) => states[position] = ItemState::Done,
                    Ok(Insert::Changed(_)) => {
                        reservation.give_up(*unit, *units);
                        rest.push(*number);
                    }
                    Err(error) => {
                        self.give_up_from(&reservation, now, *unit);
                        return Err(error);
                    }
                }
            }
            done += reservation.count;
        }
        Ok(())
    }

    /// Turns the records from `first_unit` on, which were stored but not published, into padding.
    fn give_up_from(
        &self,
        reservation: &super::lane::Reservation<'_>,
        items: &[(usize, u32)],
        first_unit: u32,
    ) {
        let mut unit = 0;
        for (_, units) in items {
            if unit >= first_unit {
                reservation.give_up(unit, *units);
            }
            unit += units;
        }
    }

    /// The keys with candidates: their record is compared in the tail, or queued for a read of the file.
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
            let outcome = self.map.insert_in(
                self.generation,
                hash,
                key,
                self.batch.value(position),
                self.batch.subtree_index(position),
                in_tail,
                &mut scratch,
            );
            match outcome {
                Ok(there) => {
                    states[position] =
                        if there.is_some() { ItemState::Other } else { ItemState::Done };
                }
                Err(Error::WouldBlock(_)) if self.options.may_read => {
                    let candidates = self.generation.index.probe(hash);
                    cold.items.push(ColdItem { position, key: *key, hash, candidates });
                }
                Err(error @ Error::WouldBlock(_)) => *blocked = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
