//! The keyed hash of the index: 128 bits by multiply-fold, under a secret of 512 bits.
//!
//! A map draws its secret at random, so that whoever can choose keys (grind transaction ids, spend
//! many outputs of one parent) cannot choose where they fall: without the secret every set of keys
//! spreads like random numbers. It is no cryptographic hash: its value must never leave the process
//! towards someone who could learn from it.
//!
//! All reads are little-endian, so a secret gives the same values on every machine. The hasher is
//! immutable and may be shared by all threads.

use crate::{Error, Result};

/// The hash of one key: 128 bits, all of them depending on every bit of the key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct KeyHash {
    /// The upper 64 bits.
    pub hi: u64,
    /// The lower 64 bits.
    pub lo: u64,
}

/// Hashes keys of 32 and of 36 bytes under one secret.
///
/// ```
/// use blocktier::hash::keyed::KeyedHasher;
/// let hasher = KeyedHasher::from_secret([1, 2, 3, 4, 5, 6, 7, 8]);
/// assert_eq!(hasher.hash32(&[7; 32]), hasher.hash32(&[7; 32]));
/// assert_ne!(hasher.hash32(&[7; 32]), hasher.hash32(&[8; 32]));
/// ```
pub struct KeyedHasher {
    /// One word per 8 bytes of the key.
    key: [u64; 4],
    /// Two words for each half of the result.
    finish: [u64; 4],
    /// Offset and (odd) factor of the four bytes behind a 32-byte key.
    tail: [u64; 2],
}

/// The secret stays secret in logs.
impl std::fmt::Debug for KeyedHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedHasher").finish_non_exhaustive()
    }
}

impl KeyedHasher {
    /// A hasher with a secret from the operating system.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the system yields no random bytes.
    pub fn random() -> Result<Self> {
        let mut bytes = [0u8; 64];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::Unsupported(format!("random bytes of the system: {error}")))?;
        let (words, _) = bytes.as_chunks::<8>();
        let mut secret = [0u64; 8];
        for (to, from) in secret.iter_mut().zip(words) {
            *to = u64::from_le_bytes(*from);
        }
        Ok(Self::from_secret(secret))
    }

    /// A hasher with a given secret: for tests, and to go on with a stored one. Any words will do:
    /// small or equal ones are spread first, though only secret ones keep the hash unpredictable.
    #[must_use]
    pub fn from_secret(secret: [u64; 8]) -> Self {
        let mut salt = 0u64;
        let [k0, k1, k2, k3, f0, f1, f2, f3] = secret.map(|word| {
            salt = salt.wrapping_add(0x9e37_79b9_7f4a_7c15);
            spread(word.wrapping_add(salt))
        });
        // The tail's words come from all eight, through odd constants (digits of pi).
        let offset = fold(k0 ^ f3 ^ 0x2437_6a88_85a3_08d3, k1 ^ f2 ^ 0x1319_8a2e_0370_7345);
        let factor = fold(k2 ^ f1 ^ 0x2440_9382_2299_f31d, k3 ^ f0 ^ 0x082e_fa98_ec4e_6c89);
        Self { key: [k0, k1, k2, k3], finish: [f0, f1, f2, f3], tail: [offset, factor | 1] }
    }

    /// The hash of a 32-byte key (a transaction id).
    #[inline]
    #[must_use]
    pub fn hash32(&self, key: &[u8; 32]) -> KeyHash {
        let (words, _) = key.as_chunks::<8>();
        let (x, y) = self.absorb(words);
        self.finish(x, y)
    }

    /// The hash of a 36-byte key (an outpoint: transaction id and output index).
    #[inline]
    #[must_use]
    pub fn hash36(&self, key: &[u8; 36]) -> KeyHash {
        let (words, rest) = key.as_chunks::<8>();
        let (x, y) = self.absorb(words);
        let tail = u64::from(u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]));
        // The low half of the product keeps all 32 bits of the tail apart (the factor is odd).
        let (low, high) = multiply(tail ^ self.tail[0], self.tail[1]);
        self.finish(x ^ low, y ^ high)
    }

    /// Four words, 256 bits, into 128: two full products, crossed so that neither half stands
    /// alone.
    #[inline(always)]
    fn absorb(&self, words: &[[u8; 8]]) -> (u64, u64) {
        let word = |i: usize| u64::from_le_bytes(words[i]) ^ self.key[i];
        let (low0, high0) = multiply(word(0), word(1));
        let (low1, high1) = multiply(word(2), word(3));
        (low0 ^ high1, high0 ^ low1)
    }

    #[inline(always)]
    fn finish(&self, x: u64, y: u64) -> KeyHash {
        let [f0, f1, f2, f3] = self.finish;
        KeyHash { hi: fold(x ^ f0, y ^ f1), lo: fold(x ^ f2, y ^ f3) }
    }
}

/// A permutation of the words that looks random (the finalizer of splitmix).
fn spread(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The product of `a` and `b`: low and high word.
#[inline(always)]
fn multiply(a: u64, b: u64) -> (u64, u64) {
    let product = u128::from(a) * u128::from(b);
    // Both halves by intent.
    (product as u64, (product >> 64) as u64)
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let (low, high) = multiply(a, b);
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn hasher() -> KeyedHasher {
        // Poor on purpose.
        KeyedHasher::from_secret([3, 1, 4, 1, 5, 9, 2, 6])
    }

    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        spread(*state)
    }

    fn bits(hash: KeyHash) -> u128 {
        (u128::from(hash.hi) << 64) | u128::from(hash.lo)
    }

    /// Flipping any bit of the key flips every bit of the hash about half of the time.
    fn avalanche<const N: usize>(hash: impl Fn(&[u8; N]) -> KeyHash) {
        const KEYS: u32 = 2_000;
        let mut flips = vec![[0u32; 128]; N * 8];
        let mut state = 1;
        for _ in 0..KEYS {
            let mut key = [0u8; N];
            key.fill_with(|| next(&mut state) as u8);
            let before = bits(hash(&key));
            for (bit, row) in flips.iter_mut().enumerate() {
                key[bit / 8] ^= 1 << (bit % 8);
                let mut changed = bits(hash(&key)) ^ before;
                key[bit / 8] ^= 1 << (bit % 8);
                while changed != 0 {
                    row[changed.trailing_zeros() as usize] += 1;
                    changed &= changed - 1;
                }
            }
        }
        // Six standard deviations of a fair coin (22.4 in 2,000 throws).
        for (bit, row) in flips.iter().enumerate() {
            for (out, &count) in row.iter().enumerate() {
                assert!((866..=1134).contains(&count), "input {bit} output {out}: {count}");
            }
        }
    }

    #[test]
    fn every_input_bit_reaches_every_output_bit() {
        avalanche::<32>(|key| hasher().hash32(key));
        avalanche::<36>(|key| hasher().hash36(key));
    }

    #[test]
    fn values_do_not_change_between_versions() {
        let mut key = [0u8; 36];
        for (i, byte) in key.iter_mut().enumerate() {
            *byte = i as u8;
        }
        let id: [u8; 32] = *key.first_chunk().unwrap();
        let (short, long) = (hasher().hash32(&id), hasher().hash36(&key));
        assert_eq!(short, KeyHash { hi: GOLDEN[0], lo: GOLDEN[1] }, "{short:#x?}");
        assert_eq!(long, KeyHash { hi: GOLDEN[2], lo: GOLDEN[3] }, "{long:#x?}");
    }

    /// Computed from the definition by other means (arbitrary-precision integers).
    const GOLDEN: [u64; 4] = [
        0x001f_e351_f78d_ce21,
        0x4ed7_a728_662a_4849,
        0x96df_295f_21f1_33b6,
        0x6777_05a3_ce2a_714f,
    ];

    /// Keys as an attacker or a counter would make them fill 4096 x 16 cells evenly.
    #[test]
    fn structured_keys_spread() {
        type Make = fn(u64) -> [u8; 36];
        let families: [(&str, Make); 4] = [
            ("counter in the first word", |i| at(0, i)),
            ("counter in the upper bits of the last word", |i| at(24, i << 40)),
            ("outputs of one parent", |i| at(32, i)),
            ("same value in two words", |i| {
                let mut key = at(0, i);
                key[8..16].copy_from_slice(&i.to_le_bytes());
                key
            }),
        ];
        for (name, make) in families {
            let mut cells = vec![0u32; 1 << 16];
            let mut seen = HashSet::new();
            for i in 0..1u64 << 20 {
                let hash = hasher().hash36(&make(i));
                cells[(hash.lo >> 48) as usize] += 1;
                assert!(seen.insert(hash.lo & 0xffff_ffff_ffff), "{name}: 48 bits collide at {i}");
                if seen.len() == 1 << 16 {
                    seen.clear();
                }
            }
            // Mean 16, Poisson: 48 is eight standard deviations off.
            let max = cells.iter().max().copied().unwrap();
            assert!(max < 48, "{name}: {max} keys in one cell");
            let empty = cells.iter().filter(|&&count| count == 0).count();
            assert!(empty < 8, "{name}: {empty} empty cells");
        }
    }

    fn at(offset: usize, value: u64) -> [u8; 36] {
        let mut key = [0x5a; 36];
        let bytes = value.to_le_bytes();
        let len = bytes.len().min(36 - offset);
        key[offset..offset + len].copy_from_slice(&bytes[..len]);
        key
    }

    #[test]
    fn two_random_hashers_differ() {
        let (a, b) = (KeyedHasher::random().unwrap(), KeyedHasher::random().unwrap());
        assert_ne!(a.hash32(&[0; 32]), b.hash32(&[0; 32]));
        assert_eq!(format!("{a:?}"), "KeyedHasher { .. }");
    }
}
