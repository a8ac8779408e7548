//! Hashing: sha256d and the keyed hash of the index.

pub mod keyed;
mod sha256;
mod sha256d;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod vectors;

pub use sha256::pairs::HashPairs;
pub use sha256d::{Sha256d, Sha256dKernel, sha256d, sha256d_pair};
