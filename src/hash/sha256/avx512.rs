//! Sixteen inputs at a time in the registers of AVX-512, two times side by side as long as there
//! are so many.
#![expect(unsafe_code, reason = "vector instructions are there only where they were detected")]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_ror_epi32, _mm512_set_epi8, _mm512_set1_epi32,
    _mm512_shuffle_epi8, _mm512_srli_epi32, _mm512_ternarylogic_epi32,
};

use super::lanes::{self, Group, Two, Words};
use super::pairs::HashPairs;
use crate::hash::vectors::avx512::{self as vectors, LANES};
use crate::types::Hash;

/// Inputs of two groups side by side. A round of one is a chain of at least eight cycles, in which
/// two 512-bit units could do all of its seventeen operations; on Zen 4 it took 13.5 cycles alone
/// and 10 of two in turn, although words then have to be kept in memory.
const BOTH: usize = 2 * LANES;

/// Proof that AVX-512F and BW are here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::hash) struct Avx512(());

impl Avx512 {
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"))
            .then_some(Self(()))
    }

    pub fn hash_pairs(self, pairs: &HashPairs<'_>, out: &mut [Hash]) {
        // SAFETY: the value exists, so the processor has the instructions.
        unsafe { hash_pairs(self, pairs, out) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn hash_pairs(kernel: Avx512, pairs: &HashPairs<'_>, out: &mut [Hash]) {
    let (both, rest) = pairs.split_at(pairs.count() / BOTH * BOTH);
    let (both_out, rest_out) = out.split_at_mut(both.count());
    lanes::hash_pairs::<BOTH, Avx512>(kernel, &both, both_out);
    lanes::hash_pairs::<LANES, Avx512>(kernel, &rest, rest_out);
}

impl Group<BOTH> for Avx512 {
    #[inline(always)]
    fn hash(self, run: &[u8], stride: usize, out: &mut [Hash; BOTH]) {
        let (first, second) = run.split_at(2 * LANES * stride);
        // SAFETY: the value exists, so the processor has the instructions.
        let digests = unsafe {
            let (first, second) = (read(first, stride), read(second, stride));
            lanes::sha256d(std::array::from_fn(|word| Two(first[word], second[word])))
        };
        let digests = [digests.map(|word| word.0), digests.map(|word| word.1)];
        for (digests, out) in digests.into_iter().zip(out.as_chunks_mut().0) {
            // SAFETY: as above.
            unsafe { write(digests, out) }
        }
    }
}

impl Group<LANES> for Avx512 {
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
struct Word16(__m512i);

/// Truth tables for `_mm512_ternarylogic_epi32`.
const XOR3: i32 = 0x96;
const CHOICE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;

macro_rules! xor3 {
    ($x:expr, $y:expr, $z:expr) => {
        Word16(_mm512_ternarylogic_epi32::<XOR3>($x, $y, $z))
    };
}

// SAFETY of all blocks: words are made in `hash` only, by a kernel that exists; so the processor
// has the instructions. They touch no memory.
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
    fn big_sigma0(self) -> Self {
        let x = self.0;
        // SAFETY: above.
        unsafe {
            xor3!(_mm512_ror_epi32::<2>(x), _mm512_ror_epi32::<13>(x), _mm512_ror_epi32::<22>(x))
        }
    }
    #[inline(always)]
    fn big_sigma1(self) -> Self {
        let x = self.0;
        // SAFETY: above.
        unsafe {
            xor3!(_mm512_ror_epi32::<6>(x), _mm512_ror_epi32::<11>(x), _mm512_ror_epi32::<25>(x))
        }
    }
    #[inline(always)]
    fn small_sigma0(self) -> Self {
        let x = self.0;
        // SAFETY: above.
        unsafe {
            xor3!(_mm512_ror_epi32::<7>(x), _mm512_ror_epi32::<18>(x), _mm512_srli_epi32::<3>(x))
        }
    }
    #[inline(always)]
    fn small_sigma1(self) -> Self {
        let x = self.0;
        // SAFETY: above.
        unsafe {
            xor3!(_mm512_ror_epi32::<17>(x), _mm512_ror_epi32::<19>(x), _mm512_srli_epi32::<10>(x))
        }
    }
    #[inline(always)]
    fn choice(e: Self, f: Self, g: Self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm512_ternarylogic_epi32::<CHOICE>(e.0, f.0, g.0)) }
    }
    #[inline(always)]
    fn majority(a: Self, b: Self, c: Self) -> Self {
        // SAFETY: above.
        unsafe { Self(_mm512_ternarylogic_epi32::<MAJORITY>(a.0, b.0, c.0)) }
    }
}

/// The sixteen message words of sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn read(run: &[u8], stride: usize) -> [Word16; 16] {
    assert!(run.len() >= (2 * LANES - 1) * stride + 32, "a whole group");
    let start = run.as_ptr();
    let mut words = [Word16::all(0); 16];
    for part in 0..4 {
        // Four words of the left (0, 1) or the right hash.
        let offset = (part / 2) * stride + (part % 2) * 16;
        // SAFETY: pair 15's right hash, the last one, lies in `run` as asserted.
        let columns = unsafe { vectors::read_words(|pair| start.add(2 * pair * stride + offset)) };
        for (place, column) in columns.into_iter().enumerate() {
            words[4 * part + place] = Word16(swap_bytes(column));
        }
    }
    words
}

/// Writes the digests of sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn write(words: [Word16; 8], out: &mut [Hash; LANES]) {
    vectors::write_words(words.map(|word| swap_bytes(word.0)), out);
}

/// Big-endian words to native ones and back.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn swap_bytes(words: __m512i) -> __m512i {
    let order = _mm512_set_epi8(
        12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11, 4, 5,
        6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8,
        9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3,
    );
    _mm512_shuffle_epi8(words, order)
}
