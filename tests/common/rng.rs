//! Numbers, keys and values that follow from a seed.

use blocktier::TxId;

/// SplitMix64: small, and every seed is a good one.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The key with this number.
pub fn key(number: u64) -> TxId {
    let mut rng = Rng::new(number ^ 0x6b65_7900);
    let mut key = [0; 32];
    for chunk in key.chunks_mut(8) {
        chunk.copy_from_slice(&rng.next().to_le_bytes());
    }
    key
}

/// `length` bytes that belong to `seed` alone, if there are eight or more.
pub fn value(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed ^ 0x7661_6c00);
    let mut value = Vec::with_capacity(length + 8);
    while value.len() < length {
        value.extend_from_slice(&rng.next().to_le_bytes());
    }
    value.truncate(length);
    value
}
