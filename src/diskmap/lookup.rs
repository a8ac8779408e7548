//! Get and exists, one key at a time.

use super::confirm::{Races, Start};
use super::key::Key;
use super::op::Op;
use super::read::Scratch;
use super::{DiskMap, Wait};
use crate::Result;

impl<K: Key> Op<'_, K> {
    /// The subtree index of the key's record; its value, if wanted, is in `scratch`.
    pub(crate) fn lookup(&self, mut start: Start, scratch: &mut Scratch) -> Result<Option<u16>> {
        if matches!(start, Start::Probe) {
            self.generation.index.prefetch_subtree_index(self.hash);
        }
        let mut races = Races::new();
        loop {
            let (found, candidates) = self.find(&mut start, scratch, &mut races)?;
            let Some(found) = found else { return Ok(None) };
            // The record can be replaced between the confirm and this read; then the value is old:
            // once more.
            let index = &self.generation.index;
            if let Some(subtree_index) =
                index.subtree_index_if_known(self.hash, found.location, &candidates)
            {
                return Ok(Some(subtree_index));
            }
            races.lost(self.map);
        }
    }
}

impl<K: Key> DiskMap<K> {
    /// Calls `visit(value, subtree index)` if the key is there.
    ///
    /// # Errors
    /// `WouldBlock` (only with [`Wait::Never`]) if the record is on disk; `Io`, `Corrupt` from
    /// reading it.
    pub fn get<R>(
        &self,
        key: &K,
        wait: Wait,
        visit: impl FnOnce(&[u8], u16) -> R,
    ) -> Result<Option<R>> {
        let generation = self.generation.load();
        let op = self.op(&generation, key, self.options(wait, true));
        Scratch::with(|scratch| {
            let found = op.lookup(Start::Probe, scratch)?;
            Ok(found.map(|subtree_index| visit(scratch.value(), subtree_index)))
        })
    }

    /// Whether the key is there. Exact: a matching tag is confirmed against the full key.
    ///
    /// # Errors
    /// As for [`DiskMap::get`].
    pub fn exists(&self, key: &K, wait: Wait) -> Result<bool> {
        let generation = self.generation.load();
        let op = self.op(&generation, key, self.options(wait, false));
        Scratch::with(|scratch| {
            Ok(op.find(&mut Start::Probe, scratch, &mut Races::new())?.0.is_some())
        })
    }
}
