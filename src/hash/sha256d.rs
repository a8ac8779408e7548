//! sha256d: SHA-256 applied twice, the hash of transactions, blocks and Merkle nodes.
//!
//! This is the one place that chooses a kernel. `Auto` takes what the processor offers, detected at
//! run time (SHA-NI or the ARM SHA-2 instructions, two streams at a time; else AVX2, SSE4.1, plain
//! code). `Portable` is our own plain code. All kernels give the same bytes.
//!
//! Threads: pure functions. The process-wide choice is one relaxed atomic: a change is seen by
//! later calls, and a call that races it uses either kernel, with the same result.

use std::sync::atomic::{AtomicU8, Ordering};

use bitcoin_hashes::sha256d as fast;

use super::sha256_portable::sha256;
use crate::types::Hash;

/// Which code computes sha256d.
///
/// ```
/// use blocktier::hash::Sha256dKernel;
/// let text = b"either kernel, the same hash";
/// assert_eq!(Sha256dKernel::Auto.hash(text), Sha256dKernel::Portable.hash(text));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Sha256dKernel {
    /// The fastest that this processor runs.
    #[default]
    Auto = 0,
    /// Plain code, no special instructions.
    Portable = 1,
}

static SELECTED: AtomicU8 = AtomicU8::new(Sha256dKernel::Auto as u8);

impl Sha256dKernel {
    /// The kernel that the functions of this module use.
    #[must_use]
    pub fn selected() -> Self {
        if SELECTED.load(Ordering::Relaxed) == Self::Portable as u8 {
            Self::Portable
        } else {
            Self::Auto
        }
    }

    /// Makes this the kernel of the whole process.
    pub fn select(self) {
        SELECTED.store(self as u8, Ordering::Relaxed);
    }

    /// sha256d of `bytes`.
    #[must_use]
    pub fn hash(self, bytes: &[u8]) -> Hash {
        match self {
            Self::Auto => fast::Hash::hash(bytes).to_byte_array(),
            Self::Portable => sha256(&sha256(bytes)),
        }
    }

    /// sha256d of each 64-byte input, into the place of the same number in `out`.
    ///
    /// # Panics
    ///
    /// If the two slices differ in length.
    pub fn hash_64_many(self, inputs: &[[u8; 64]], out: &mut [Hash]) {
        assert_eq!(inputs.len(), out.len(), "one output for each input");
        match self {
            Self::Auto => {
                // Pairs go through the two-stream kernel, whose leftover would fall back to plain
                // code.
                let even = inputs.len() & !1;
                fast::Hash::hash_64_many(&mut out[..even], &inputs[..even]);
                if let (Some(last), Some(input)) = (out.get_mut(even), inputs.get(even)) {
                    *last = self.hash(input);
                }
            }
            Self::Portable => {
                for (out, input) in out.iter_mut().zip(inputs) {
                    *out = self.hash(input);
                }
            }
        }
    }
}

/// sha256d of `bytes` with the selected kernel.
///
/// ```
/// let hash = blocktier::hash::sha256d(b"hello");
/// assert_eq!(hash[..4], [0x95, 0x95, 0xc9, 0xdf]);
/// ```
#[must_use]
pub fn sha256d(bytes: &[u8]) -> Hash {
    Sha256dKernel::selected().hash(bytes)
}

/// sha256d of each 64-byte input with the selected kernel.
///
/// # Panics
///
/// If the two slices differ in length.
pub fn sha256d_64_many(inputs: &[[u8; 64]], out: &mut [Hash]) {
    Sha256dKernel::selected().hash_64_many(inputs, out);
}

/// The Merkle parent: sha256d of `left` followed by `right`.
#[must_use]
pub fn sha256d_pair(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0u8; 64];
    bytes[..32].copy_from_slice(left);
    bytes[32..].copy_from_slice(right);
    sha256d(&bytes)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    const KERNELS: [Sha256dKernel; 2] = [Sha256dKernel::Auto, Sha256dKernel::Portable];

    fn reference(bytes: &[u8]) -> Hash {
        Sha256::digest(Sha256::digest(bytes)).into()
    }

    fn hex(text: &str) -> Hash {
        std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    #[test]
    fn published_vectors() {
        let vectors = [
            (&b""[..], "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456"),
            (b"hello", "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50"),
        ];
        for kernel in KERNELS {
            for (text, expected) in vectors {
                assert_eq!(kernel.hash(text), hex(expected), "{kernel:?} {text:?}");
            }
        }
    }

    #[test]
    fn every_length_up_to_four_blocks_agrees_with_another_implementation() {
        let bytes: Vec<u8> = (0..260u32).map(|i| (i * 31 + 7) as u8).collect();
        for kernel in KERNELS {
            for length in 0..=bytes.len() {
                let text = &bytes[..length];
                assert_eq!(kernel.hash(text), reference(text), "{kernel:?} {length}");
            }
        }
    }

    #[test]
    fn many_inputs_of_64_bytes_at_every_count() {
        let inputs: Vec<[u8; 64]> =
            (0..37u8).map(|i| std::array::from_fn(|j| i.wrapping_mul(89) ^ j as u8)).collect();
        for kernel in KERNELS {
            for count in 0..=inputs.len() {
                let mut out = vec![[0xee; 32]; count];
                kernel.hash_64_many(&inputs[..count], &mut out);
                for (input, got) in inputs.iter().zip(&out) {
                    assert_eq!(*got, reference(input), "{kernel:?} count {count}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "one output for each input")]
    fn lengths_must_match() {
        Sha256dKernel::Portable.hash_64_many(&[[0; 64]], &mut []);
    }

    #[test]
    fn pair_is_the_hash_of_both() {
        let (left, right) = ([1u8; 32], [2u8; 32]);
        assert_eq!(sha256d_pair(&left, &right), reference(&[left, right].concat()));
    }
}
