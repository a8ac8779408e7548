//! Eight lanes in the registers of AVX2.
#![expect(unsafe_code, reason = "vector loads and stores go by pointers")]

use std::arch::x86_64::{
    __m256i, _mm256_loadu_si256, _mm256_permute2x128_si256, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32,
    _mm256_unpacklo_epi64,
};

use crate::types::Hash;

pub(in crate::hash) const LANES: usize = 8;

/// Eight words of each lane: vector `i` holds word `i` of all.
///
/// # Safety
///
/// The 32 bytes at `at(lane)` must be readable, for each lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::hash) unsafe fn read_words(at: impl Fn(usize) -> *const u8) -> [__m256i; 8] {
    let mut rows = [_mm256_setzero_si256(); LANES];
    for (lane, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *row = unsafe { _mm256_loadu_si256(at(lane).cast::<__m256i>()) };
    }
    transpose(rows)
}

/// Writes the eight words of each lane: the opposite of `read_words`.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::hash) fn write_words(words: [__m256i; 8], out: &mut [Hash; LANES]) {
    for (row, out) in transpose(words).into_iter().zip(out) {
        // SAFETY: 32 bytes into a hash of 32.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast::<__m256i>(), row) };
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
