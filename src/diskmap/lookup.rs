//! Get and exists, one key at a time.

use super::DiskMap;
use super::Wait;
use super::confirm::Races;
use super::generation::Generation;
use super::key::Key;
use super::read::Scratch;
use crate::Result;
use crate::hash::keyed::KeyHash;

impl<K: Key> DiskMap<K> {
    /// The subtree index of the key's record; its value, if wanted, is in `scratch`.
    pub(crate) fn lookup_in(
        &self,
        generation: &Generation,
        hash: KeyHash,
        key: &K,
        want_value: bool,
        may_read: bool,
        scratch: &mut Scratch,
    ) -> Result<Option<u16>> {
        let mut races = Races::new();
        loop {
            let (found, _) =
                self.find(generation, hash, key, want_value, may_read, scratch, &mut races)?;
            let Some(found) = found else { return Ok(None) };
            // The record can be replaced between the confirm and this read; then the value is old: once more.
            if let Some(subtree_index) = generation.index.subtree_index(hash, found.location) {
                return Ok(Some(subtree_index));
            }
            races.lost(self);
        }
    }

    /// Calls `visit(value, subtree index)` if the key is there.
    ///
    /// # Errors
    /// `WouldBlock` (only with [`Wait::Never`]) if the record is on disk; `Io`, `Corrupt` from reading it.
    pub fn get<R>(
        &self,
        key: &K,
        wait: Wait,
        visit: impl FnOnce(&[u8], u16) -> R,
    ) -> Result<Option<R>> {
        let generation = self.generation.load();
        let hash = key.hash(&generation.hasher);
        let mut scratch = Scratch::default();
        let may_read = wait == Wait::Allowed;
        let found = self.lookup_in(&generation, hash, key, true, may_read, &mut scratch)?;
        Ok(found.map(|subtree_index| visit(scratch.value(), subtree_index)))
    }

    /// Whether the key is there. Exact: a matching tag is confirmed against the full key.
    ///
    /// # Errors
    /// As for [`DiskMap::get`].
    pub fn exists(&self, key: &K, wait: Wait) -> Result<bool> {
        let generation = self.generation.load();
        let hash = key.hash(&generation.hasher);
        let mut scratch = Scratch::default();
        let may_read = wait == Wait::Allowed;
        let (found, _) =
            self.find(&generation, hash, key, false, may_read, &mut scratch, &mut Races::new())?;
        Ok(found.is_some())
    }
}
