//! SHA-256 in plain integer arithmetic: what every processor can run, and what the faster kernels
//! are checked against. A plain reading of FIPS 180-4; one block at a time, no state kept between
//! calls.

use super::constants::{INITIAL, ROUND, small_sigma0, small_sigma1};

/// SHA-256 of `bytes` by a kernel's way to run over whole blocks.
pub(in crate::hash) fn sha256(
    bytes: &[u8],
    compress: impl Fn(&mut [u32; 8], &[[u8; 64]]),
) -> [u8; 32] {
    let mut state = INITIAL;
    let (blocks, rest) = bytes.as_chunks::<64>();
    compress(&mut state, blocks);
    // Padding: one bit, zeros, the length in bits; two blocks when the length does not fit the
    // first.
    let mut tail = [0u8; 128];
    tail[..rest.len()].copy_from_slice(rest);
    tail[rest.len()] = 0x80;
    let end = if rest.len() < 56 { 64 } else { 128 };
    let bits = (bytes.len() as u64).wrapping_mul(8);
    for (place, shift) in (0..8).rev().enumerate() {
        tail[end - 8 + place] = (bits >> (8 * shift)) as u8;
    }
    compress(&mut state, tail[..end].as_chunks::<64>().0);
    digest(&state)
}

fn digest(state: &[u32; 8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    for (bytes, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    out
}

/// The words of `bytes`, as many as `N`.
#[expect(clippy::big_endian_bytes, reason = "SHA-256 is defined over big-endian words")]
pub(super) fn words_of<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

/// The rounds over each block in turn.
pub(in crate::hash) fn compress(state: &mut [u32; 8], blocks: &[[u8; 64]]) {
    for block in blocks {
        compress_one(state, block);
    }
}

fn compress_one(state: &mut [u32; 8], block: &[u8; 64]) {
    let mut schedule: [u32; 64] = words_of(block);
    for t in 16..64 {
        schedule[t] = schedule[t - 16]
            .wrapping_add(small_sigma0(schedule[t - 15]))
            .wrapping_add(schedule[t - 7])
            .wrapping_add(small_sigma1(schedule[t - 2]));
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (word, constant) in schedule.iter().zip(&ROUND) {
        let sum1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let t1 =
            h.wrapping_add(sum1).wrapping_add(choice).wrapping_add(*constant).wrapping_add(*word);
        let sum0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        let t2 = sum0.wrapping_add(majority);
        (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
        (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(add);
    }
}
