//! Many keys in one call: what the operations share. The index is probed as a pipeline (hash and
//! first prefetch, second prefetch, probe). `insert` and `get` go further: room in the
//! log is reserved for many records at once, and records that are only in files are read together.
//! `undecided` keeps items with equal keys in order.

pub(super) mod cold;
mod get;
mod insert;
mod pipeline;
mod undecided;

use self::cold::{COLD_ITEMS_MAX, ColdItem};
pub(super) use self::pipeline::BatchMemory;
use self::undecided::{Undecided, Waiting};
use crate::diskmap::confirm::Start;
use crate::diskmap::generation::Generation;
use crate::diskmap::key::Key;
use crate::diskmap::op::{Op, Options};
use crate::diskmap::read::Scratch;
use crate::diskmap::{DiskMap, Wait};
use crate::index::Purpose;
use crate::{Error, Result};

/// Keys that go through the pipeline together; their cache lines stay near.
pub(super) const CHUNK: usize = 256;
/// Keys with their values, flat: value `i` is `arena[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a, K> {
    pub(super) keys: &'a [K],
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

    pub(super) fn value(&self, position: usize) -> &'a [u8] {
        // Checked in `new`; the arena is memory, so its offsets fit usize.
        &self.arena[self.offsets[position] as usize..self.offsets[position + 1] as usize]
    }

    pub(super) fn subtree_index(&self, position: usize) -> u16 {
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

impl<K: Key> DiskMap<K> {
    /// Sets each key's value; `Done` where it was new, `Other` where a value was replaced.
    /// Equal keys are set in the order of the batch. Otherwise like
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
        self.compaction.admit(self.options(wait, false).timeout)?;
        self.each(batch.keys, wait, states, |op, start, position, scratch| {
            let value = batch.value(position);
            let replaced = op.set(start, value, batch.subtree_index(position), scratch)?;
            Ok(if replaced { ItemState::Other } else { ItemState::Done })
        })
    }

    /// Removes each key; `Done` where it was there, `Other` where it was absent. Otherwise like
    /// [`DiskMap::set_if_not_exists_batch`].
    ///
    /// # Errors
    /// As for [`DiskMap::delete`].
    pub fn delete_batch(&self, keys: &[K], wait: Wait, states: &mut [ItemState]) -> Result<()> {
        self.each(keys, wait, states, |op, start, _, scratch| {
            Ok(if op.delete(start, scratch)? { ItemState::Done } else { ItemState::Other })
        })
    }

    /// Sets one subtree index on many keys; `Done` where the key was there, `Other` where it was
    /// absent.
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
        self.each(keys, wait, states, |op, start, _, scratch| {
            let found = op.set_subtree_index(start, subtree_index, scratch)?;
            Ok(if found { ItemState::Done } else { ItemState::Other })
        })
    }

    /// Runs `act` on each pending item, first on those for which the tail is enough, then on those
    /// whose records are read from files together. An item that would block stays pending, and so
    /// do later ones with its key; the others go on.
    fn each(
        &self,
        keys: &[K],
        wait: Wait,
        states: &mut [ItemState],
        mut act: impl FnMut(&Op<'_, K>, Start, usize, &mut Scratch) -> Result<ItemState>,
    ) -> Result<()> {
        check_states(keys.len(), states)?;
        let generation = self.generation.load();
        self.check_writable(&generation)?;
        let options = self.options(wait, false);
        let in_tail = Options { may_read: false, ..options };
        let mut memory = BatchMemory::take();
        let pipeline = &mut memory.pipeline;
        let mut scratch = Scratch::default();
        let mut cold = ColdQueue::default();
        let (mut blocked, waiting) = (None, Waiting::default());
        for (number, keys_now) in keys.chunks(CHUNK).enumerate() {
            pipeline.probe(&generation, keys_now, Purpose::Lookup);
            for (place, key) in keys_now.iter().enumerate() {
                let position = number * CHUNK + place;
                if states[position] != ItemState::Pending {
                    continue;
                }
                let (hash, candidates) = (pipeline.hashes[place], &pipeline.candidates[place]);
                if waiting.blocked.has(hash) {
                    continue;
                }
                if waiting.queued.has(hash) {
                    cold.items.push(ColdItem::behind(position, *key, hash));
                    continue;
                }
                let op = Op { map: self, generation: &generation, hash, key, options: in_tail };
                let start = Start::Candidates(candidates.clone());
                match act(&op, start, position, &mut scratch) {
                    Ok(state) => states[position] = state,
                    Err(error @ Error::WouldBlock(why)) => {
                        if options.may_read && why == Error::BLOCKED_ON_READ {
                            waiting.queued.add(hash);
                            let candidates = candidates.clone();
                            cold.items.push(ColdItem { position, key: *key, hash, candidates });
                        } else {
                            waiting.blocked.add(hash);
                            blocked = Some(error);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            if cold.items.len() >= COLD_ITEMS_MAX {
                let items = std::mem::take(&mut cold.items);
                blocked = self
                    .each_cold(&generation, &items, options, states, &waiting.blocked, &mut act)?
                    .or(blocked);
                waiting.queued.clear();
            }
        }
        blocked = self
            .each_cold(&generation, &cold.items, options, states, &waiting.blocked, &mut act)?
            .or(blocked);
        blocked.map_or(Ok(()), Err)
    }

    /// The items of `each` whose records are in files. Returns the last one's `WouldBlock`.
    fn each_cold(
        &self,
        generation: &Generation,
        items: &[ColdItem<K>],
        options: Options,
        states: &mut [ItemState],
        blocked_keys: &Undecided,
        act: &mut impl FnMut(&Op<'_, K>, Start, usize, &mut Scratch) -> Result<ItemState>,
    ) -> Result<Option<Error>> {
        let mut scratch = Scratch::default();
        let mut blocked = None;
        self.resolve_cold(generation, items, |item, found| {
            if blocked_keys.has(item.hash) {
                return Ok(());
            }
            let start = found
                .map_or(Start::Probe, |(found, _)| Start::Found(found, item.candidates.clone()));
            let (hash, key) = (item.hash, &item.key);
            let op = Op { map: self, generation, hash, key, options };
            match act(&op, start, item.position, &mut scratch) {
                Ok(state) => states[item.position] = state,
                Err(error @ Error::WouldBlock(_)) => {
                    blocked_keys.add(hash);
                    blocked = Some(error);
                }
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        Ok(blocked)
    }
}

/// Items whose records are to be read from files together.
#[derive(Debug)]
pub(super) struct ColdQueue<K> {
    pub(super) items: Vec<ColdItem<K>>,
}

impl<K> Default for ColdQueue<K> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

pub(super) fn check_states(keys: usize, states: &[ItemState]) -> Result<()> {
    if states.len() == keys {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("{keys} keys need as many states, not {}", states.len())))
}
