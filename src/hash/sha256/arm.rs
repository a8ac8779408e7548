//! The SHA-2 instructions of ARM processors.
#![expect(unsafe_code, reason = "the instructions are there only where they were detected")]

use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vld1q_u8, vld1q_u32, vreinterpretq_u8_u32, vreinterpretq_u32_u8,
    vrev32q_u8, vsha256h2q_u32, vsha256hq_u32, vsha256su0q_u32, vsha256su1q_u32, vst1q_u8,
};

use super::pairs::HashPairs;
use super::streams::{self, Quads};
use crate::types::Hash;

/// Proof that the SHA-2 instructions are here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::hash) struct ArmSha2(());

impl ArmSha2 {
    pub fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("sha2").then_some(Self(()))
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

#[target_feature(enable = "neon,sha2")]
fn hash_pairs(pairs: &HashPairs<'_>, out: &mut [Hash]) {
    streams::hash_pairs::<ArmSha2>(pairs, out);
}

#[target_feature(enable = "neon,sha2")]
fn compress(state: &mut [u32; 8], blocks: &[[u8; 64]]) {
    streams::compress_blocks::<ArmSha2>(state, blocks);
}

// SAFETY of all blocks: called from the two functions above only, so the processor has the
// instructions. Apart from `new`, `read` and `write` they touch no memory.
impl Quads for ArmSha2 {
    type Words = uint32x4_t;

    #[inline(always)]
    fn new(words: [u32; 4]) -> uint32x4_t {
        // SAFETY: above; a load of 16 bytes.
        unsafe { vld1q_u32(words.as_ptr()) }
    }

    #[inline(always)]
    fn read(bytes: &[u8; 16]) -> uint32x4_t {
        // SAFETY: above; a load of 16 bytes at any alignment.
        unsafe { vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(bytes.as_ptr()))) }
    }

    #[inline(always)]
    fn write(words: uint32x4_t, bytes: &mut [u8; 16]) {
        // SAFETY: above; a store of 16 bytes at any alignment.
        unsafe { vst1q_u8(bytes.as_mut_ptr(), vrev32q_u8(vreinterpretq_u8_u32(words))) };
    }

    #[inline(always)]
    fn add(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: above.
        unsafe { vaddq_u32(a, b) }
    }

    #[inline(always)]
    fn pack(abcd: uint32x4_t, efgh: uint32x4_t) -> [uint32x4_t; 2] {
        [abcd, efgh]
    }

    #[inline(always)]
    fn unpack(state: [uint32x4_t; 2]) -> [uint32x4_t; 2] {
        state
    }

    #[inline(always)]
    fn rounds(state: [uint32x4_t; 2], words: uint32x4_t) -> [uint32x4_t; 2] {
        // SAFETY: above.
        unsafe { four_rounds(state, words) }
    }

    #[inline(always)]
    fn next(m0: uint32x4_t, m1: uint32x4_t, m2: uint32x4_t, m3: uint32x4_t) -> uint32x4_t {
        // SAFETY: above.
        unsafe { next_words(m0, m1, m2, m3) }
    }
}

#[inline]
#[target_feature(enable = "neon,sha2")]
fn four_rounds([abcd, efgh]: [uint32x4_t; 2], words: uint32x4_t) -> [uint32x4_t; 2] {
    [vsha256hq_u32(abcd, efgh, words), vsha256h2q_u32(efgh, abcd, words)]
}

#[inline]
#[target_feature(enable = "neon,sha2")]
fn next_words(m0: uint32x4_t, m1: uint32x4_t, m2: uint32x4_t, m3: uint32x4_t) -> uint32x4_t {
    vsha256su1q_u32(vsha256su0q_u32(m0, m1), m2, m3)
}
