//! Keys of a map: fixed-length bytes.

use crate::hash::keyed::{KeyHash, KeyedHasher};

/// A key of fixed length. Equality is equality of the bytes.
pub trait Key: Copy + Eq + Send + Sync + std::fmt::Debug + 'static {
    /// Length in bytes, at most 36.
    const BYTES: usize;

    /// The key of these bytes; none if their number is not `BYTES`.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;

    /// The bytes that are stored and compared.
    fn as_bytes(&self) -> &[u8];

    /// The keyed hash that places it in the index.
    fn hash(&self, hasher: &KeyedHasher) -> KeyHash;
}

impl Key for [u8; 32] {
    const BYTES: usize = 32;

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }

    fn as_bytes(&self) -> &[u8] {
        self
    }

    fn hash(&self, hasher: &KeyedHasher) -> KeyHash {
        hasher.hash32(self)
    }
}

impl Key for [u8; 36] {
    const BYTES: usize = 36;

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }

    fn as_bytes(&self) -> &[u8] {
        self
    }

    fn hash(&self, hasher: &KeyedHasher) -> KeyHash {
        hasher.hash36(self)
    }
}
