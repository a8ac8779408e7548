//! Hashing: sha256d, BLAKE3 of many short inputs, and the keyed hash of the index.
//!
//! ```text
//! sha256d      chooses a kernel of sha256/
//! blake3_many  chooses a kernel of blake3/
//! vectors/     words of many inputs side by side in vectors, for both
//! keyed        the keyed hash
//! ```

mod blake3;
mod blake3_many;
pub mod keyed;
mod sha256;
mod sha256d;
#[cfg(target_arch = "x86_64")]
mod vectors;

#[cfg(test)]
mod blake3_tests;
#[cfg(test)]
#[cfg(all(target_os = "linux", not(miri)))]
mod edge;
#[cfg(test)]
mod tests;

pub use blake3_many::{Blake3, Blake3Kernel};
pub use sha256::pairs::HashPairs;
pub use sha256d::{Sha256d, Sha256dKernel, sha256d, sha256d_pair};
