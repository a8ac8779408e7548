//! SHA-256 by what the processor offers, for many short inputs.
//!
//! ```text
//! constants   the tables of FIPS 180-4, and the padding blocks whose schedule is known in advance
//! pairs       the input: pairs of hashes at even distances
//! lanes       the algorithm over words of many inputs at once;  avx512, avx2: such words
//! streams     the algorithm over a processor's SHA-2 instructions;  sha_ni, arm: such instructions
//! portable    plain integer arithmetic: what the others are checked against
//! ```
//!
//! `lanes` and `streams` are compiled once per kernel: everything in them is inlined into one
//! function that has the instructions. They know one input, 64 bytes hashed twice: two blocks, the
//! second of which is always the same padding, and one block with the first hash and padding.

#[cfg(all(target_arch = "aarch64", not(miri)))]
pub(super) mod arm;
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) mod avx2;
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) mod avx512;
mod constants;
#[cfg(any(all(target_arch = "x86_64", not(miri)), test))]
mod lanes;
pub(super) mod pairs;
pub(super) mod portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) mod sha_ni;
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod streams;
