//! The SHA instructions of x86 processors (SHA-NI).
#![expect(unsafe_code, reason = "the instructions are there only where they were detected")]

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi8,
    _mm_set_epi32, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
};

use super::pairs::HashPairs;
use super::streams::{self, Quads};
use crate::types::Hash;

/// Proof that the SHA instructions and those up to SSE4.1 are here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::hash) struct ShaNi(());

impl ShaNi {
    pub fn detect() -> Option<Self> {
        let vectors = is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
        (is_x86_feature_detected!("sha") && vectors).then_some(Self(()))
    }

    pub fn hash_pairs(self, pairs: &HashPairs<'_>, out: &mut [Hash]) {
        // SAFETY: the value exists, so the processor has the instructions.
        unsafe { hash_pairs(pairs, out) }
    }

    pub fn compress(self, state: &mut [u32; 8], blocks: &[[u8; 64]]) {
        // SAFETY: the value exists, so the processor has the instructions.
        unsafe { compress(state, blocks) }
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn hash_pairs(pairs: &HashPairs<'_>, out: &mut [Hash]) {
    streams::hash_pairs::<ShaNi>(pairs, out);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress(state: &mut [u32; 8], blocks: &[[u8; 64]]) {
    streams::compress_blocks::<ShaNi>(state, blocks);
}

// SAFETY of all blocks: called from the two functions above only, so the processor has the
// instructions. Apart from `read` and `write` they touch no memory.
impl Quads for ShaNi {
    type Words = __m128i;

    #[inline(always)]
    fn new(words: [u32; 4]) -> __m128i {
        // The casts keep the bits.
        let [w0, w1, w2, w3] = words.map(|word| word as i32);
        // SAFETY: above.
        unsafe { _mm_set_epi32(w3, w2, w1, w0) }
    }

    #[inline(always)]
    fn read(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: above; a load of 16 bytes at any alignment.
        unsafe { swap_bytes(_mm_loadu_si128(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn write(words: __m128i, bytes: &mut [u8; 16]) {
        // SAFETY: above; a store of 16 bytes at any alignment.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), swap_bytes(words)) };
    }

    #[inline(always)]
    fn add(a: __m128i, b: __m128i) -> __m128i {
        // SAFETY: above.
        unsafe { _mm_add_epi32(a, b) }
    }

    /// From the lowest word: f, e, b, a and h, g, d, c.
    #[inline(always)]
    fn pack(abcd: __m128i, efgh: __m128i) -> [__m128i; 2] {
        // SAFETY: above.
        unsafe {
            let badc = _mm_shuffle_epi32::<0xb1>(abcd);
            let hgfe = _mm_shuffle_epi32::<0x1b>(efgh);
            [_mm_alignr_epi8::<8>(badc, hgfe), _mm_blend_epi16::<0xf0>(hgfe, badc)]
        }
    }

    #[inline(always)]
    fn unpack(state: [__m128i; 2]) -> [__m128i; 2] {
        // SAFETY: above.
        unsafe {
            let abef = _mm_shuffle_epi32::<0x1b>(state[0]);
            let ghcd = _mm_shuffle_epi32::<0xb1>(state[1]);
            [_mm_blend_epi16::<0xf0>(abef, ghcd), _mm_alignr_epi8::<8>(ghcd, abef)]
        }
    }

    #[inline(always)]
    fn rounds(state: [__m128i; 2], words: __m128i) -> [__m128i; 2] {
        let [abef, cdgh] = state;
        // SAFETY: above.
        unsafe {
            let next = _mm_sha256rnds2_epu32(cdgh, abef, words);
            let after = _mm_sha256rnds2_epu32(abef, next, _mm_shuffle_epi32::<0x0e>(words));
            [after, next]
        }
    }

    #[inline(always)]
    fn next(m0: __m128i, m1: __m128i, m2: __m128i, m3: __m128i) -> __m128i {
        // SAFETY: above.
        unsafe {
            let sum = _mm_add_epi32(_mm_sha256msg1_epu32(m0, m1), _mm_alignr_epi8::<4>(m3, m2));
            _mm_sha256msg2_epu32(sum, m3)
        }
    }
}

/// Big-endian words to native ones and back.
#[inline]
#[target_feature(enable = "ssse3")]
fn swap_bytes(words: __m128i) -> __m128i {
    let order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    _mm_shuffle_epi8(words, order)
}
