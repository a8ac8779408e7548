//! Keys of a batch with an item that is undecided, since it would block, waits for a file to be
//! read or needs a closer look. Later items of the batch with the same key wait for it: equal keys
//! are decided in the order of the batch.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::hash::keyed::KeyHash;

/// Keys are told apart by 64 bits of their hash. Two that are not only wait for each other.
#[derive(Default)]
pub(super) struct Undecided {
    /// Shared, since what looks into it and what adds to it are two closures of one call.
    keys: RefCell<HashSet<u64, BuildHasherDefault<Same>>>,
}

impl Undecided {
    pub(super) fn add(&self, hash: KeyHash) {
        self.keys.borrow_mut().insert(hash.lo);
    }

    #[inline(always)]
    pub(super) fn has(&self, hash: KeyHash) -> bool {
        let keys = self.keys.borrow();
        !keys.is_empty() && keys.contains(&hash.lo)
    }

    pub(super) fn clear(&self) {
        let mut keys = self.keys.borrow_mut();
        if !keys.is_empty() {
            keys.clear();
        }
    }
}

/// Keys with an item that has to wait, in this chunk or before.
#[derive(Default)]
pub(super) struct Waiting {
    /// Its record is to be read from a file in this call.
    pub(super) queued: Undecided,
    /// It would have blocked and stays pending.
    pub(super) blocked: Undecided,
}

/// Passes on what is a hash already, keyed with the map's secret.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, bytes: &[u8]) {
        // Not used for a u64; good enough if it ever is.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
