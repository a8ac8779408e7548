//! Probing and inserting many keys. Probing is a pipeline: while one key is probed, the lines of
//! later ones are on their way.
//!
//! ```text
//!   key:  +36 header, directory   +24 primary bucket   +12 alternate bucket   0 probe
//! ```
//!
//! Each stage reads what the one before has brought near. The whole run is compiled for the kernel,
//! so nothing is called per key.

use super::bucket::{Kernel, Operation};
use super::candidates::Candidates;
use super::guard::{InsertNew, NewEntry};
use super::probe::Probe;
use super::{Index, Insert};
use crate::Error;
use crate::hash::keyed::KeyHash;

/// How far ahead of the probe each stage runs, in keys.
const DIRECTORY_AHEAD: usize = 36;
const PRIMARY_AHEAD: usize = 24;
const ALTERNATE_AHEAD: usize = 12;

/// What the second look at a key's page will be for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reading both buckets.
    Lookup,
    /// Inserting into one of them.
    Insertion,
}

struct ProbeMany<'a, V> {
    index: &'a Index,
    hashes: &'a [KeyHash],
    purpose: Purpose,
    visit: V,
}

impl<V: FnMut(usize, Candidates)> Operation for ProbeMany<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run<K: Kernel>(mut self, k: K) {
        let (index, hashes) = (self.index, self.hashes);
        for step in 0..hashes.len() + DIRECTORY_AHEAD {
            match hashes.get(step) {
                Some(&h) if self.purpose == Purpose::Insertion => {
                    index.prefetch_to_change(h);
                    index.prefetch_way(h);
                }
                Some(&h) => index.prefetch_directory(h),
                None => {}
            }
            let behind = |ahead: usize| step.wrapping_sub(DIRECTORY_AHEAD - ahead);
            if let Some(&h) = hashes.get(behind(PRIMARY_AHEAD)) {
                index.prefetch(h);
            }
            match hashes.get(behind(ALTERNATE_AHEAD)) {
                Some(&h) if self.purpose == Purpose::Insertion => index.prefetch_room(h),
                Some(&h) => index.prefetch_alternate(h),
                None => {}
            }
            let position = behind(0);
            if let Some(&h) = hashes.get(position) {
                (self.visit)(position, Probe { index, h }.run(k));
            }
        }
    }
}

/// A key whose entry will be inserted this many keys on has its lines brought near again: since the
/// probe its record was stored, and much else passed through the first cache.
const INSERTION_AHEAD: usize = 6;

struct InsertMany<'a, A, V> {
    index: &'a Index,
    entries: &'a [(KeyHash, NewEntry<'a>)],
    admit: A,
    visit: V,
}

impl<A, V> Operation for InsertMany<'_, A, V>
where
    A: Fn(usize) -> bool,
    V: FnMut(usize, Insert),
{
    type Output = Result<(), (usize, Error)>;

    #[inline(always)]
    fn run<K: Kernel>(mut self, k: K) -> Self::Output {
        let Self { index, entries, .. } = self;
        for (position, &(h, new)) in entries.iter().enumerate() {
            if let Some(&(h, _)) = entries.get(position + INSERTION_AHEAD) {
                index.prefetch_to_change(h);
                index.prefetch(h);
            }
            let admit = || (self.admit)(position);
            match (InsertNew { index, h, new, admit }).run(k) {
                Ok(outcome) => (self.visit)(position, outcome),
                Err(error) => return Err((position, error)),
            }
        }
        Ok(())
    }
}

impl Index {
    /// Inserts each of `entries`, in order, as [`Index::insert_new_if`] would, only faster, and
    /// calls `visit(position, outcome)` for each.
    ///
    /// # Errors
    /// As for [`Index::insert_new`], with the position of the entry; those before it were visited,
    /// and nothing has changed for it and those behind it.
    pub(crate) fn insert_new_many(
        &self,
        entries: &[(KeyHash, NewEntry<'_>)],
        admit: impl Fn(usize) -> bool,
        visit: impl FnMut(usize, Insert),
    ) -> Result<(), (usize, Error)> {
        self.kernel.dispatch(InsertMany { index: self, entries, admit, visit })
    }

    /// Probes each of `hashes` and calls `visit(position, candidates)`, in order. As
    /// [`Index::probe`] of each, only faster.
    pub(crate) fn probe_many(
        &self,
        hashes: &[KeyHash],
        purpose: Purpose,
        visit: impl FnMut(usize, Candidates),
    ) {
        self.kernel.dispatch(ProbeMany { index: self, hashes, purpose, visit });
    }
}
