//! Hashing: sha256d and the keyed hash of the index.

pub mod keyed;
mod sha256_portable;
mod sha256d;

pub use sha256d::{Sha256dKernel, sha256d, sha256d_64_many, sha256d_pair};
