//! Eight inputs at a time in the registers of AVX2.
#![expect(unsafe_code, reason = "vector instructions are there only where they were detected")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set_epi8, _mm256_set1_epi32, _mm256_shuffle_epi8,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::lanes::{self, Group, Words};
use super::pairs::HashPairs;
use crate::types::Hash;

pub(in crate::hash) const LANES: usize = 8;

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
        let mut rows = [_mm256_set1_epi32(0); 8];
        for (pair, row) in rows.iter_mut().enumerate() {
            // SAFETY: pair 7's right hash, the last one, lies in `run` as asserted.
            let hash = unsafe {
                _mm256_loadu_si256(start.add((2 * pair + side) * stride).cast::<__m256i>())
            };
            *row = swap_bytes(hash);
        }
        for (place, column) in transpose(rows).into_iter().enumerate() {
            words[8 * side + place] = Word8(column);
        }
    }
    words
}

/// Writes the digests of eight pairs.
#[inline]
#[target_feature(enable = "avx2")]
fn write(words: [Word8; 8], out: &mut [Hash; LANES]) {
    let [a, b, c, d, e, f, g, h] = words;
    let rows = transpose([a.0, b.0, c.0, d.0, e.0, f.0, g.0, h.0]);
    for (row, out) in rows.into_iter().zip(out) {
        // SAFETY: 32 bytes into a hash of 32.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast::<__m256i>(), swap_bytes(row)) };
    }
}

/// 8 x 8 words transposed.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    let [a0, a1, a2, a3] = transpose_halves([r0, r1, r2, r3]);
    let [b0, b1, b2, b3] = transpose_halves([r4, r5, r6, r7]);
    [
        _mm256_permute2x128_si256::<0x20>(a0, b0),
        _mm256_permute2x128_si256::<0x20>(a1, b1),
        _mm256_permute2x128_si256::<0x20>(a2, b2),
        _mm256_permute2x128_si256::<0x20>(a3, b3),
        _mm256_permute2x128_si256::<0x31>(a0, b0),
        _mm256_permute2x128_si256::<0x31>(a1, b1),
        _mm256_permute2x128_si256::<0x31>(a2, b2),
        _mm256_permute2x128_si256::<0x31>(a3, b3),
    ]
}

/// In each half, the 4 x 4 words transposed.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_halves(rows: [__m256i; 4]) -> [__m256i; 4] {
    let [r0, r1, r2, r3] = rows;
    let (t0, t1) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
    let (t2, t3) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
    [
        _mm256_unpacklo_epi64(t0, t2),
        _mm256_unpackhi_epi64(t0, t2),
        _mm256_unpacklo_epi64(t1, t3),
        _mm256_unpackhi_epi64(t1, t3),
    ]
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
