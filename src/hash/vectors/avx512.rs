//! Sixteen lanes in the registers of AVX-512. Quarters of 128 bits are read from where they belong,
//! so that words change places within a quarter alone.
#![expect(unsafe_code, reason = "vector loads and stores go by pointers")]

use std::arch::x86_64::{
    __m128i, __m512i, _mm_loadu_si128, _mm512_castsi128_si512, _mm512_inserti32x4,
    _mm512_permutex2var_epi64, _mm512_set_epi64, _mm512_setzero_si512, _mm512_storeu_si512,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use crate::types::Hash;

pub(in crate::hash) const LANES: usize = 16;

/// The lane whose words are in column `column` of quarter `quarter` of every vector. Chosen so that
/// the results of neighbours end up side by side.
const fn lane_at(quarter: usize, column: usize) -> usize {
    (quarter & 1) + 2 * column + 8 * (quarter >> 1)
}

/// Four words of each lane: vector `i` holds word `i` of all, at the places of `lane_at`.
///
/// # Safety
///
/// The 16 bytes at `at(lane)` must be readable, for each lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::hash) unsafe fn read_words(at: impl Fn(usize) -> *const u8) -> [__m512i; 4] {
    let mut rows = [_mm512_setzero_si512(); 4];
    for (column, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let quarter = |q| unsafe { _mm_loadu_si128(at(lane_at(q, column)).cast::<__m128i>()) };
        let low = _mm512_castsi128_si512(quarter(0));
        let low = _mm512_inserti32x4::<1>(low, quarter(1));
        let low = _mm512_inserti32x4::<2>(low, quarter(2));
        *row = _mm512_inserti32x4::<3>(low, quarter(3));
    }
    transpose_quarters(rows)
}

/// Writes the eight words of each lane, from the places of `lane_at`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::hash) fn write_words(words: [__m512i; 8], out: &mut [Hash; LANES]) {
    let [a, b, c, d, e, f, g, h] = words;
    let low = transpose_quarters([a, b, c, d]);
    let high = transpose_quarters([e, f, g, h]);
    let first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
    let second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    let start = out.as_mut_ptr();
    for column in 0..4 {
        let early = _mm512_permutex2var_epi64(low[column], first, high[column]);
        let late = _mm512_permutex2var_epi64(low[column], second, high[column]);
        // SAFETY: two hashes each, the last ones at 14 and 15 of 16.
        unsafe {
            _mm512_storeu_si512(start.add(2 * column).cast(), early);
            _mm512_storeu_si512(start.add(2 * column + 8).cast(), late);
        }
    }
}

/// In each quarter, the 4 x 4 words transposed.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_quarters(rows: [__m512i; 4]) -> [__m512i; 4] {
    let [r0, r1, r2, r3] = rows;
    let (t0, t1) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
    let (t2, t3) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
    [
        _mm512_unpacklo_epi64(t0, t2),
        _mm512_unpackhi_epi64(t0, t2),
        _mm512_unpacklo_epi64(t1, t3),
        _mm512_unpackhi_epi64(t1, t3),
    ]
}
