//! Sixteen inputs at a time in the registers of AVX-512, two times side by side.
#![expect(unsafe_code, reason = "vector instructions are there only where they were detected")]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_ror_epi32, _mm512_set1_epi32, _mm512_xor_si512,
};

use super::lanes::{self, Block, Chaining, Group, Message, Words};
use crate::hash::vectors::avx512::{self as vectors, LANES};
use crate::types::Hash;

/// Groups side by side: their states fill the 32 registers, messages are read from memory.
const SETS: usize = 2;

/// Proof that AVX-512F is here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::hash) struct Avx512(());

impl Avx512 {
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    pub fn hash_many<const N: usize>(self, inputs: &[[u8; N]], out: &mut [Hash]) {
        // SAFETY: the value exists, so the processor has the instructions.
        unsafe { hash_many(self, inputs, out) }
    }
}

#[target_feature(enable = "avx512f")]
fn hash_many<const N: usize>(kernel: Avx512, inputs: &[[u8; N]], out: &mut [Hash]) {
    lanes::hash_many::<SETS, LANES, N, Avx512>(kernel, inputs, out);
}

impl Group<LANES> for Avx512 {
    type Words = Word16;

    #[inline(always)]
    fn read(self, blocks: [&Block; LANES]) -> Message<Word16> {
        // SAFETY: the value exists, so the processor has the instructions. A block is four times
        // the 16 bytes that are read.
        let [w0, w4, w8, w12] = [0, 16, 32, 48].map(|at| unsafe {
            vectors::read_words(|lane| blocks[lane].as_ptr().add(at)).map(Word16)
        });
        let mut words = [w0[0]; 16];
        for (words, four) in words.as_chunks_mut::<4>().0.iter_mut().zip([w0, w4, w8, w12]) {
            *words = four;
        }
        words
    }

    #[inline(always)]
    fn write(self, hashes: Chaining<Word16>, out: &mut [Hash; LANES]) {
        // SAFETY: the value exists, so the processor has the instructions.
        unsafe { vectors::write_words(hashes.map(|word| word.0), out) }
    }
}

#[derive(Copy, Clone)]
pub(in crate::hash) struct Word16(__m512i);

// SAFETY of all blocks: words are made by a kernel that exists; so the processor has the
// instructions. They touch no memory.
impl Words for Word16 {
    #[inline(always)]
    fn all(word: u32) -> Self {
        // SAFETY: above. The cast keeps the bits.
        unsafe { Self(_mm512_set1_epi32(word as i32)) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm512_add_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm512_xor_si512(self.0, other.0)) }
    }
    #[inline(always)]
    fn rotate_16(self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm512_ror_epi32::<16>(self.0)) }
    }
    #[inline(always)]
    fn rotate_12(self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm512_ror_epi32::<12>(self.0)) }
    }
    #[inline(always)]
    fn rotate_8(self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm512_ror_epi32::<8>(self.0)) }
    }
    #[inline(always)]
    fn rotate_7(self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm512_ror_epi32::<7>(self.0)) }
    }
}
