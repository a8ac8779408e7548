//! Probing many keys as a pipeline: while one key is probed, the lines of later ones are on their
//! way.
//!
//! ```text
//!   key:  +36 header, directory   +24 primary bucket   +12 alternate bucket   0 probe
//! ```
//!
//! Each stage reads what the one before has brought near. The whole run is compiled for the kernel,
//! so nothing is called per key.

use super::Index;
use super::bucket::{Kernel, Operation};
use super::candidates::Candidates;
use super::probe::Probe;
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
            if let Some(&h) = hashes.get(step) {
                index.prefetch_directory(h);
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

impl Index {
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
