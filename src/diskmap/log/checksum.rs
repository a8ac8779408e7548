//! CRC-32C of records, most of which are a hundred bytes.
//!
//! Crate `crc32c` computes long inputs at the speed of memory, but brings each input to an aligned
//! address byte by byte first, which for a record is a third of the work. Here records of up to
//! `SHORT_BYTES` take the processor's instruction eight bytes at a time from wherever they start;
//! sums of several records in a row overlap, since nothing between them waits for the sum.

use super::record::UNIT_BYTES;

/// Beyond this the crate is faster: it computes three parts of an input at once.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const SHORT_BYTES: usize = 768;

/// The sum of `bytes`, continued from `seed`.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(sum) = x86::crc32c(seed, bytes) {
        return sum;
    }
    crc32c::crc32c_append(seed, bytes)
}

/// Puts sums into records that lie behind each other, each of which has its length in bytes in the
/// four bytes of its sum. `seed_at` gives the seed for the record at a unit, counted from the
/// first.
pub(super) fn seal_all(records: &mut [u8], seed_at: impl Fn(u32) -> u32) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if x86::seal_all(records, &seed_at) {
        return;
    }
    seal_each(records, seed_at, crc32c::crc32c_append);
}

#[inline(always)]
fn seal_each(records: &mut [u8], seed_at: impl Fn(u32) -> u32, crc32c: impl Fn(u32, &[u8]) -> u32) {
    let mut start = 0;
    while let Some(head) = records[start..].first_chunk::<4>() {
        let bytes = u32::from_le_bytes(*head) as usize;
        let seed = seed_at((start / UNIT_BYTES) as u32);
        let crc = crc32c(seed, &records[start + 4..start + bytes]);
        records[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        start += bytes.next_multiple_of(UNIT_BYTES);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "the processor's instruction, once it is known to be there")]
mod x86 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};

    use super::SHORT_BYTES;

    pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> Option<u32> {
        // SAFETY: the processor has the instruction.
        is_x86_feature_detected!("sse4.2").then(|| unsafe { any(seed, bytes) })
    }

    /// False, and nothing done, without the instruction.
    pub(super) fn seal_all(records: &mut [u8], seed_at: impl Fn(u32) -> u32) -> bool {
        let here = is_x86_feature_detected!("sse4.2");
        if here {
            // SAFETY: the processor has the instruction.
            unsafe { seal_each(records, seed_at) };
        }
        here
    }

    #[target_feature(enable = "sse4.2")]
    fn seal_each(records: &mut [u8], seed_at: impl Fn(u32) -> u32) {
        super::seal_each(records, seed_at, |seed, bytes| any(seed, bytes));
    }

    #[inline]
    #[target_feature(enable = "sse4.2")]
    fn any(seed: u32, bytes: &[u8]) -> u32 {
        if bytes.len() > SHORT_BYTES {
            return crc32c::crc32c_append(seed, bytes);
        }
        // A record's sum begins four bytes into a unit: then all words but the first are aligned.
        let (head, rest) = match bytes.split_first_chunk::<4>() {
            Some((head, rest)) => (Some(head), rest),
            None => (None, bytes),
        };
        let mut sum = !seed;
        if let Some(head) = head {
            sum = _mm_crc32_u32(sum, u32::from_le_bytes(*head));
        }
        let (words, mut rest) = rest.as_chunks::<8>();
        // The instruction leaves the upper half zero.
        sum = words
            .iter()
            .fold(u64::from(sum), |sum, word| _mm_crc32_u64(sum, u64::from_le_bytes(*word)))
            as u32;
        if let Some((word, after)) = rest.split_first_chunk::<4>() {
            sum = _mm_crc32_u32(sum, u32::from_le_bytes(*word));
            rest = after;
        }
        !rest.iter().fold(sum, |sum, byte| _mm_crc32_u8(sum, *byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_crate_at_every_length_and_address() {
        let bytes: Vec<u8> = (0..2000u32).map(|i| (i * i % 251) as u8).collect();
        for len in (0..300).chain([767, 768, 769, 770, 1500]) {
            for start in 0..9 {
                let input = &bytes[start..start + len];
                let seed = (len * 77 + start) as u32;
                assert_eq!(
                    crc32c(seed, input),
                    crc32c::crc32c_append(seed, input),
                    "{len} {start}"
                );
            }
        }
        // RFC 3720, B.4.
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn with_and_without_the_instruction_the_same_seals() {
        let mut records = Vec::new();
        for value in 0..100usize {
            let bytes = 44 + value;
            let start = records.len();
            records.resize(start + bytes.next_multiple_of(UNIT_BYTES), 0);
            records[start..start + 4].copy_from_slice(&(bytes as u32).to_le_bytes());
            records[start + 4..start + bytes].fill(value as u8 ^ 0x5a);
        }
        let mut portable = records.clone();
        let seed_at = |unit: u32| unit.wrapping_mul(0x9e37_79b1);
        seal_all(&mut records, seed_at);
        seal_each(&mut portable, seed_at, crc32c::crc32c_append);
        assert_eq!(records, portable);
    }
}
