//! Eight inputs at a time in the registers of AVX2.
#![expect(unsafe_code, reason = "vector instructions are there only where they were detected")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_or_si256, _mm256_set_epi8, _mm256_set1_epi32,
    _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_xor_si256,
};

use super::lanes::{self, Block, Chaining, Group, Message, Words};
use crate::hash::vectors::avx2::{self as vectors, LANES};
use crate::types::Hash;

/// Groups side by side. The states of two do not fit the sixteen registers.
const SETS: usize = 1;

/// Proof that AVX2 is here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::hash) struct Avx2(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub fn hash_many<const N: usize>(self, inputs: &[[u8; N]], out: &mut [Hash]) {
        // SAFETY: the value exists, so the processor has the instructions.
        unsafe { hash_many(self, inputs, out) }
    }
}

#[target_feature(enable = "avx2")]
fn hash_many<const N: usize>(kernel: Avx2, inputs: &[[u8; N]], out: &mut [Hash]) {
    lanes::hash_many::<SETS, LANES, N, Avx2>(kernel, inputs, out);
}

impl Group<LANES> for Avx2 {
    type Words = Word8;

    #[inline(always)]
    fn read(self, blocks: [&Block; LANES]) -> Message<Word8> {
        // SAFETY: the value exists, so the processor has the instructions. A block is twice the 32
        // bytes that are read.
        let [low, high] = [0, 32].map(|at| unsafe {
            vectors::read_words(|lane| blocks[lane].as_ptr().add(at)).map(Word8)
        });
        let mut words = [low[0]; 16];
        words[..8].copy_from_slice(&low);
        words[8..].copy_from_slice(&high);
        words
    }

    #[inline(always)]
    fn write(self, hashes: Chaining<Word8>, out: &mut [Hash; LANES]) {
        // SAFETY: the value exists, so the processor has the instructions.
        unsafe { vectors::write_words(hashes.map(|word| word.0), out) }
    }
}

#[derive(Copy, Clone)]
pub(in crate::hash) struct Word8(__m256i);

macro_rules! rotate {
    ($x:expr, $by:literal) => {
        _mm256_or_si256(_mm256_srli_epi32::<$by>($x), _mm256_slli_epi32::<{ 32 - $by }>($x))
    };
}

// SAFETY of all blocks: words are made by a kernel that exists; so the processor has the
// instructions. They touch no memory.
impl Words for Word8 {
    #[inline(always)]
    fn all(word: u32) -> Self {
        // SAFETY: above. The cast keeps the bits.
        unsafe { Self(_mm256_set1_epi32(word as i32)) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm256_add_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm256_xor_si256(self.0, other.0)) }
    }
    // Whole bytes go round in one instruction.
    #[inline(always)]
    fn rotate_16(self) -> Self {
        // SAFETY: above.
        unsafe {
            let order = _mm256_set_epi8(
                13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2, 13, 12, 15, 14, 9, 8, 11, 10,
                5, 4, 7, 6, 1, 0, 3, 2,
            );
            Self(_mm256_shuffle_epi8(self.0, order))
        }
    }
    #[inline(always)]
    fn rotate_12(self) -> Self {
        // SAFETY: above.
        unsafe { Self(rotate!(self.0, 12)) }
    }
    #[inline(always)]
    fn rotate_8(self) -> Self {
        // SAFETY: above.
        unsafe {
            let order = _mm256_set_epi8(
                12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1, 12, 15, 14, 13, 8, 11, 10, 9,
                4, 7, 6, 5, 0, 3, 2, 1,
            );
            Self(_mm256_shuffle_epi8(self.0, order))
        }
    }
    #[inline(always)]
    fn rotate_7(self) -> Self {
        // SAFETY: above.
        unsafe { Self(rotate!(self.0, 7)) }
    }
}
