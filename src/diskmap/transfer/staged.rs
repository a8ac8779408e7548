//! Records between source and destination.

use std::sync::Arc;

use crate::diskmap::batch::ItemState;
use crate::diskmap::key::Key;
use crate::memory::MemoryReserve;

/// Memory of the records between source and destination, and by how much the budget is asked.
pub(super) const STAGED_BYTES_MAX: usize = 256 << 20;
const CHARGE_BYTES: usize = 16 << 20;
/// Memory for values is taken in steps.
const ARENA_STEP_BYTES: usize = 4 << 20;
/// Memory of a staged record beside its value.
const STAGED_ITEM_BYTES: usize = size_of::<Item>();

/// Records on the way. Their keys are the caller's.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub(super) items: Vec<Item>,
    /// Their values, one behind the other.
    pub(super) arena: Vec<u8>,
    /// How many of them are in the destination, and the bytes of their values.
    pub(super) inserted: usize,
    pub(super) inserted_bytes: usize,
    pub(super) charge: Charge,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// Among the caller's keys.
    pub(super) position: usize,
    value_bytes: u32,
    subtree_index: u16,
}

/// Bytes taken from a memory budget, given back on drop.
#[derive(Debug, Default)]
pub(super) struct Charge {
    pub(super) reserve: Option<Arc<dyn MemoryReserve>>,
    pub(super) bytes: usize,
}

impl Charge {
    /// Whether `bytes` are granted, those before included. Without a budget they are.
    pub(super) fn covers(&mut self, bytes: usize) -> bool {
        while let Some(reserve) = &self.reserve
            && self.bytes < bytes
        {
            if reserve.reserve("records that are moved", CHARGE_BYTES as u64).is_err() {
                return false;
            }
            self.bytes += CHARGE_BYTES;
        }
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(reserve) = &self.reserve {
            reserve.release(self.bytes as u64);
        }
    }
}

impl Staged {
    pub(super) fn bytes(&self) -> usize {
        self.arena.len() + self.items.len() * STAGED_ITEM_BYTES
    }

    /// Memory taken, more than what is in use.
    pub(super) fn capacity(&self) -> usize {
        self.arena.capacity() + self.items.capacity() * STAGED_ITEM_BYTES
    }

    pub(super) fn push(&mut self, position: usize, value: &[u8], subtree_index: u16) {
        // Steps of one size: doubling would take twice of what is needed, and copy it.
        if self.arena.capacity() - self.arena.len() < value.len() {
            self.arena.reserve_exact(value.len().max(ARENA_STEP_BYTES));
        }
        self.arena.extend_from_slice(value);
        // The log holds none of more than 32 bits.
        self.items.push(Item { position, value_bytes: value.len() as u32, subtree_index });
    }

    /// Forgets all but the first `count`, of which as many or fewer are inserted.
    pub(super) fn truncate(&mut self, count: usize) {
        let gone: usize = self.items[count..].iter().map(|item| item.value_bytes as usize).sum();
        self.arena.truncate(self.arena.len() - gone);
        self.items.truncate(count);
    }

    /// All of them are inserted.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.arena.clear();
        (self.inserted, self.inserted_bytes) = (0, 0);
    }
}

/// What is inserted in one step, as a batch has it.
pub(super) struct Portion<K> {
    pub(super) keys: Vec<K>,
    pub(super) offsets: Vec<u64>,
    pub(super) subtree_indexes: Vec<u16>,
    pub(super) states: Vec<ItemState>,
}

impl<K: Key> Portion<K> {
    pub(super) fn of(items: &[Item], keys: &[K], states: &[ItemState]) -> Self {
        let mut end = 0;
        let ends = items.iter().map(|item| {
            end += u64::from(item.value_bytes);
            end
        });
        Self {
            offsets: std::iter::once(0).chain(ends).collect(),
            keys: items.iter().map(|item| keys[item.position]).collect(),
            subtree_indexes: items.iter().map(|item| item.subtree_index).collect(),
            // Those that an earlier call decided before it would have blocked.
            states: items.iter().map(|item| states[item.position]).collect(),
        }
    }
}
