//! Hashing: sha256d and the keyed hash of the index.

pub mod keyed;
