//! BLAKE3 by what the processor offers, for many short inputs of one length.
//!
//! ```text
//! lanes         the algorithm over words of many inputs at once, and how inputs are grouped
//! avx512, avx2  such words
//! ```
//!
//! `lanes` is compiled once per kernel: everything in it is inlined into one function that has the
//! instructions. It knows inputs of whole blocks that fit one chunk, hashed without a key: the
//! counter is 0 and no block is short.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(any(target_arch = "x86_64", test))]
mod lanes;
