//! Many keys in one call: what the operations share. The index is probed as a pipeline (hash and
//! first prefetch, second prefetch, probe). `batch_insert` and `batch_get` go further: room in the
//! log is reserved for many records at once, and records that are only in files are read together.

use super::cold::ColdItem;
use super::generation::Generation;
use super::key::Key;
use super::op::Op;
use super::read::Scratch;
use super::{DiskMap, Wait};
use crate::hash::keyed::KeyHash;
use crate::index::Candidates;
use crate::{Error, Result};

/// Keys that go through the pipeline together; their cache lines stay near.
pub(super) const CHUNK: usize = 256;
/// How far ahead of the probe the primary bucket and then the alternate bucket are fetched.
const PREFETCH_PRIMARY: usize = 24;
const PREFETCH_ALTERNATE: usize = 12;

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

/// Memory of a batch, reused from chunk to chunk.
pub(super) struct Pipeline {
    pub(super) hashes: Vec<KeyHash>,
    pub(super) candidates: Vec<Candidates>,
}

impl Pipeline {
    pub(super) fn new(items: usize) -> Self {
        let items = items.min(CHUNK);
        Self { hashes: Vec::with_capacity(items), candidates: Vec::with_capacity(items) }
    }

    /// Probes up to `CHUNK` keys. The second prefetch is for what comes next: reading both buckets,
    /// or inserting into one of them.
    pub(super) fn probe<K: Key>(&mut self, generation: &Generation, keys: &[K], to_insert: bool) {
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
            match self.hashes.get(behind) {
                Some(hash) if to_insert => index.prefetch_room(*hash),
                Some(hash) => index.prefetch_alternate(*hash),
                None => {}
            }
            if let Some(hash) = self.hashes.get(step.wrapping_sub(PREFETCH_PRIMARY)) {
                self.candidates.push(index.probe(*hash));
            }
        }
    }
}

impl<K: Key> DiskMap<K> {
    /// Sets each key's value; `Done` where it was new, `Other` where a value was replaced.
    /// Otherwise like [`DiskMap::set_if_not_exists_batch`].
    ///
    /// # Errors
    /// As for [`DiskMap::set`].
    pub fn set_batch(
        &self,
        batch: &Batch<'_, K>,
        wait: Wait,
        states: &mut [ItemState],
    ) -> Result<()> {
        self.each(batch.keys, wait, states, |op, position, scratch| {
            let value = batch.value(position);
            let replaced = op.set(value, batch.subtree_index(position), scratch)?;
            Ok(if replaced { ItemState::Other } else { ItemState::Done })
        })
    }

    /// Removes each key; `Done` where it was there, `Other` where it was absent. Otherwise like
    /// [`DiskMap::set_if_not_exists_batch`].
    ///
    /// # Errors
    /// As for [`DiskMap::delete`].
    pub fn delete_batch(&self, keys: &[K], wait: Wait, states: &mut [ItemState]) -> Result<()> {
        self.each(keys, wait, states, |op, _, scratch| {
            Ok(if op.delete(scratch)? { ItemState::Done } else { ItemState::Other })
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
        self.each(keys, wait, states, |op, _, scratch| {
            let found = op.set_subtree_index(subtree_index, scratch)?;
            Ok(if found { ItemState::Done } else { ItemState::Other })
        })
    }

    /// Prefetches ahead and runs `act` on each pending item. An item that would block stays
    /// pending, the others go on.
    fn each(
        &self,
        keys: &[K],
        wait: Wait,
        states: &mut [ItemState],
        mut act: impl FnMut(&Op<'_, K>, usize, &mut Scratch) -> Result<ItemState>,
    ) -> Result<()> {
        check_states(keys.len(), states)?;
        let generation = self.generation.load();
        let options = self.options(wait, false);
        let index = &generation.index;
        let mut scratch = Scratch::default();
        let mut hashes = [KeyHash { hi: 0, lo: 0 }; PREFETCH_PRIMARY];
        let mut blocked = None;
        for step in 0..keys.len() + PREFETCH_PRIMARY {
            // The slot of the ring that this step's key takes is the one whose key is due.
            let hash = hashes[step % PREFETCH_PRIMARY];
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
            let key = &keys[position];
            let op = Op { map: self, generation: &generation, hash, key, options };
            match act(&op, position, &mut scratch) {
                Ok(state) => states[position] = state,
                Err(error @ Error::WouldBlock(_)) => blocked = Some(error),
                Err(error) => return Err(error),
            }
        }
        blocked.map_or(Ok(()), Err)
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
