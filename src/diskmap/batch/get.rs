//! Looking up many keys.

use super::cold::{COLD_ITEMS_MAX, ColdItem};
use super::{BatchMemory, CHUNK, ColdQueue};
use crate::diskmap::confirm::Start;
use crate::diskmap::generation::Generation;
use crate::diskmap::key::Key;
use crate::diskmap::op::{Op, Options};
use crate::diskmap::read::Scratch;
use crate::diskmap::{DiskMap, Wait};
use crate::index::Purpose;
use crate::{Error, Result};

impl<K: Key> DiskMap<K> {
    /// Looks up many keys. `visit(position, value and subtree index)` is called once for each key
    /// that is found, in no particular order; with `want_values` false the value is empty. Returns
    /// the positions that would have blocked (only with [`Wait::Never`]).
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
        let in_tail = Options { may_read: false, ..options };
        let mut memory = BatchMemory::take();
        let pipeline = &mut memory.pipeline;
        let mut cold = ColdQueue::default();
        let mut would_block = Vec::new();
        let mut scratch = Scratch::default();
        for (number, keys_now) in keys.chunks(CHUNK).enumerate() {
            pipeline.probe(&generation, keys_now, Purpose::Lookup);
            for (place, candidates) in pipeline.candidates.iter().enumerate() {
                if candidates.is_empty() {
                    continue;
                }
                let (position, hash) = (number * CHUNK + place, pipeline.hashes[place]);
                let key = &keys_now[place];
                let op = Op { map: self, generation: &generation, hash, key, options: in_tail };
                match op.lookup(Start::Candidates(candidates.clone()), &mut scratch) {
                    Ok(Some(subtree_index)) => {
                        visit(position, options.wanted(scratch.value()), subtree_index)?;
                    }
                    Ok(None) => {}
                    Err(Error::WouldBlock(_)) if options.may_read => {
                        let candidates = candidates.clone();
                        cold.items.push(ColdItem { position, key: *key, hash, candidates });
                    }
                    Err(Error::WouldBlock(_)) => would_block.push(position),
                    Err(error) => return Err(error),
                }
            }
            if cold.items.len() >= COLD_ITEMS_MAX {
                self.get_cold(&generation, keys, options, &mut cold, &mut visit)?;
            }
        }
        self.get_cold(&generation, keys, options, &mut cold, &mut visit)?;
        Ok(would_block)
    }

    pub(in crate::diskmap) fn get_cold(
        &self,
        generation: &Generation,
        keys: &[K],
        options: Options,
        cold: &mut ColdQueue<K>,
        visit: &mut impl FnMut(usize, &[u8], u16) -> Result<()>,
    ) -> Result<()> {
        let mut rest = Vec::new();
        self.resolve_cold(generation, &cold.items, |item, found| {
            let hit = found.and_then(|(found, value)| {
                Some((value, generation.index.subtree_index(item.hash, found.location)?))
            });
            let Some((value, subtree_index)) = hit else {
                rest.push(item.position);
                return Ok(());
            };
            visit(item.position, options.wanted(value), subtree_index)
        })?;
        cold.items.clear();
        let mut scratch = Scratch::default();
        for position in rest {
            let op = self.op(generation, &keys[position], options);
            if let Some(subtree_index) = op.lookup(Start::Probe, &mut scratch)? {
                visit(position, options.wanted(scratch.value()), subtree_index)?;
            }
        }
        Ok(())
    }
}
