//! One operation on one key: what it works on and how it may wait.

use std::time::Duration;

use super::DiskMap;
use super::generation::Generation;
use super::key::Key;
use crate::hash::keyed::KeyHash;

/// How an operation may wait, and what it wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// How long to wait for room in the tail; `None` returns `WouldBlock` instead.
    pub(crate) timeout: Option<Duration>,
    /// Whether files may be read; `WouldBlock` instead if not.
    pub(crate) may_read: bool,
    /// Whether the value that is there is wanted.
    pub(crate) want_value: bool,
}

impl Options {
    /// The value, or nothing where none is wanted: what was read along is not handed out.
    pub(crate) fn wanted(self, value: &[u8]) -> &[u8] {
        if self.want_value { value } else { &[] }
    }
}

/// An operation under way. `write` and `lookup` have what it can do, `confirm` how it finds out.
#[derive(Debug)]
pub(crate) struct Op<'a, K: Key> {
    pub(crate) map: &'a DiskMap<K>,
    pub(crate) generation: &'a Generation,
    pub(crate) hash: KeyHash,
    pub(crate) key: &'a K,
    pub(crate) options: Options,
}

impl<K: Key> DiskMap<K> {
    pub(crate) fn op<'a>(
        &'a self,
        generation: &'a Generation,
        key: &'a K,
        options: Options,
    ) -> Op<'a, K> {
        let hash = key.hash(&generation.hasher);
        Op { map: self, generation, hash, key, options }
    }
}
