//! Eight inputs at a time in the registers of AVX2.
#![expect(unsafe_code, reason = "vector instructions are there only where they were detected")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_or_si256, _mm256_set_epi8,
    _mm256_set1_epi32, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_xor_si256,
};

use super::lanes::{self, Group, Words};
use super::pairs::HashPairs;
use crate::hash::vectors::avx2::{self as vectors, LANES};
use crate::types::Hash;

/// Proof that AVX2 is here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::hash) struct Avx2(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub fn hash_pairs(self, pairs: &HashPairs<'_>, out: &mut [Hash]) {
        // SAFETY: the value exists, so the processor has the instructions.
        unsafe { hash_pairs(self, pairs, out) }
    }
}

#[target_feature(enable = "avx2")]
fn hash_pairs(kernel: Avx2, pairs: &HashPairs<'_>, out: &mut [Hash]) {
    lanes::hash_pairs::<LANES, Avx2>(kernel, pairs, out);
}

impl Group<LANES> for Avx2 {
    #[inline(always)]
    fn hash(self, run: &[u8], stride: usize, out: &mut [Hash; LANES]) {
        // SAFETY: the value exists, so the processor has the instructions.
        unsafe {
            let input = read(run, stride);
            write(lanes::sha256d(input), out);
        }
    }
}

#[derive(Copy, Clone)]
struct Word8(__m256i);

macro_rules! rotate {
    ($x:expr, $by:literal) => {
        _mm256_or_si256(_mm256_srli_epi32::<$by>($x), _mm256_slli_epi32::<{ 32 - $by }>($x))
    };
}

macro_rules! xor3 {
    ($x:expr, $y:expr, $z:expr) => {
        Word8(_mm256_xor_si256(_mm256_xor_si256($x, $y), $z))
    };
}

// SAFETY of all blocks: words are made in `hash` only, by a kernel that exists; so the processor
// has the instructions. They touch no memory.
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
    fn big_sigma0(self) -> Self {
        let x = self.0;
        // SAFETY: above.
        unsafe { xor3!(rotate!(x, 2), rotate!(x, 13), rotate!(x, 22)) }
    }
    #[inline(always)]
    fn big_sigma1(self) -> Self {
        let x = self.0;
        // SAFETY: above.
        unsafe { xor3!(rotate!(x, 6), rotate!(x, 11), rotate!(x, 25)) }
    }
    #[inline(always)]
    fn small_sigma0(self) -> Self {
        let x = self.0;
        // SAFETY: above.
        unsafe { xor3!(rotate!(x, 7), rotate!(x, 18), _mm256_srli_epi32::<3>(x)) }
    }
    #[inline(always)]
    fn small_sigma1(self) -> Self {
        let x = self.0;
        // SAFETY: above.
        unsafe { xor3!(rotate!(x, 17), rotate!(x, 19), _mm256_srli_epi32::<10>(x)) }
    }
    #[inline(always)]
    fn choice(e: Self, f: Self, g: Self) -> Self {
        // SAFETY: above.
        unsafe {
            let differing = _mm256_and_si256(e.0, _mm256_xor_si256(f.0, g.0));
            Self(_mm256_xor_si256(differing, g.0))
        }
    }
    #[inline(always)]
    fn majority(a: Self, b: Self, c: Self) -> Self {
        // SAFETY: above.
        unsafe {
            let either = _mm256_and_si256(c.0, _mm256_or_si256(a.0, b.0));
            Self(_mm256_or_si256(_mm256_and_si256(a.0, b.0), either))
        }
    }
}

/// The sixteen message words of eight pairs.
#[inline]
#[target_feature(enable = "avx2")]
fn read(run: &[u8], stride: usize) -> [Word8; 16] {
    assert!(run.len() >= (2 * LANES - 1) * stride + 32, "a whole group");
    let start = run.as_ptr();
    let mut words = [Word8::all(0); 16];
    for side in 0..2 {
        // SAFETY: pair 7's right hash, the last one, lies in `run` as asserted.
        let half = unsafe { vectors::read_words(|pair| start.add((2 * pair + side) * stride)) };
        for (place, column) in half.into_iter().enumerate() {
            words[8 * side + place] = Word8(swap_bytes(column));
        }
    }
    words
}

/// Writes the digests of eight pairs.
#[inline]
#[target_feature(enable = "avx2")]
fn write(words: [Word8; 8], out: &mut [Hash; LANES]) {
    vectors::write_words(words.map(|word| swap_bytes(word.0)), out);
}

/// Big-endian words to native ones and back.
#[inline]
#[target_feature(enable = "avx2")]
fn swap_bytes(words: __m256i) -> __m256i {
    let order = _mm256_set_epi8(
        12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11, 4, 5,
        6, 7, 0, 1, 2, 3,
    );
    _mm256_shuffle_epi8(words, order)
}
