//! Keys and values that follow from a number.

/// The finalizer of SplitMix64: a permutation without pattern.
const fn mix(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key with this number.
pub fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    for (i, chunk) in (1..).zip(key.chunks_mut(8)) {
        chunk.copy_from_slice(&mix(mix(number) ^ i).to_le_bytes());
    }
    key
}

/// `length` bytes that belong to `seed` alone, if there are eight or more.
pub fn value(seed: u64, length: usize) -> Vec<u8> {
    let first = mix(!seed);
    let words = (0..length.div_ceil(8) as u64).map(|i| mix(first ^ i));
    let mut value: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    value.truncate(length);
    value
}
