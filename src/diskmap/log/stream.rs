//! Stores that go around the caches, for records on their way into the tail.
//!
//! A line that is stored in part is first read from memory. Records are written once, behind each
//! other, and leave by a write that does not need the cache, so whole lines are handed to memory
//! without that read: half the traffic, and no store that waits for a miss.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Stores `bytes` into as many words, in the usual way. Other threads may load the words meanwhile
/// (and see old or new ones).
pub(super) fn store_near(words: &[AtomicU64], bytes: &[u8]) {
    let (chunks, _) = bytes.as_chunks::<8>();
    plain(words, chunks);
}

/// As `store_near`, around the caches where whole lines are stored. What is published after the
/// return is published after the stores.
pub(super) fn store_far(words: &[AtomicU64], bytes: &[u8]) {
    let (chunks, _) = bytes.as_chunks::<8>();
    let words = &words[..chunks.len()];
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some((before, lines, after)) = x86::whole_lines(words) {
        plain(&words[..before], &chunks[..before]);
        x86::stream(&words[before..after], &chunks[before..after], lines);
        plain(&words[after..], &chunks[after..]);
        return;
    }
    plain(words, chunks);
}

fn plain(words: &[AtomicU64], chunks: &[[u8; 8]]) {
    for (word, chunk) in words.iter().zip(chunks) {
        word.store(u64::from_le_bytes(*chunk).to_le(), Relaxed);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    use std::arch::asm;
    use std::sync::atomic::AtomicU64;

    const LINE_WORDS: usize = 8;

    /// Splits `words` into those before its first whole cache line, its number of whole lines, and
    /// the place behind the last; none without whole lines.
    pub(super) fn whole_lines(words: &[AtomicU64]) -> Option<(usize, usize, usize)> {
        let misaligned_words = words.as_ptr().addr() / 8 % LINE_WORDS;
        let before = (LINE_WORDS - misaligned_words) % LINE_WORDS;
        let lines = words.len().checked_sub(before)? / LINE_WORDS;
        (lines > 0).then_some((before, lines, before + lines * LINE_WORDS))
    }

    /// Fills the lines; `words` starts at the start of one.
    #[expect(unsafe_code, reason = "no safe operation stores around the caches")]
    pub(super) fn stream(words: &[AtomicU64], chunks: &[[u8; 8]], lines: usize) {
        let bytes = lines * LINE_WORDS * 8;
        assert!(words.len() * 8 == bytes && chunks.len() * 8 == bytes);
        // SAFETY: reads `bytes` bytes of `chunks` and writes as many to `words`, which are atomics,
        // so that writing through a shared reference is allowed; the stores are of 16 aligned
        // bytes each, of which the processor makes words whole at least. Stores of this kind are
        // not ordered with later ones, hence the fence. SSE2 is part of x86-64. `bytes` is a
        // positive multiple of 64, as the loop needs.
        unsafe {
            asm!(
                "2:",
                "movdqu {a}, [{from} + {at}]",
                "movdqu {b}, [{from} + {at} + 16]",
                "movdqu {c}, [{from} + {at} + 32]",
                "movdqu {d}, [{from} + {at} + 48]",
                "movntdq [{to} + {at}], {a}",
                "movntdq [{to} + {at} + 16], {b}",
                "movntdq [{to} + {at} + 32], {c}",
                "movntdq [{to} + {at} + 48], {d}",
                "add {at}, 64",
                "jnz 2b",
                "sfence",
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                at = inout(reg) (bytes as isize).wrapping_neg() => _,
                from = in(reg) chunks.as_ptr_range().end,
                to = in(reg) words.as_ptr_range().end,
                options(nostack),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_what_it_was_given_and_nothing_else() {
        #[repr(align(64))]
        struct Lines([AtomicU64; 64]);
        let bytes: Vec<u8> = (0..64 * 8).map(|i| (i % 251) as u8 + 1).collect();
        for first in 0..16 {
            for len in 0..48 {
                let lines = Lines([const { AtomicU64::new(7) }; 64]);
                // Sources at odd addresses too.
                for shift in [0, 3] {
                    let source = &bytes[shift..][..len * 8];
                    store_far(&lines.0[first..first + len], source);
                    for (i, word) in lines.0.iter().enumerate() {
                        let expected = match i.checked_sub(first) {
                            Some(place) if place < len => {
                                u64::from_le_bytes(*source[place * 8..].first_chunk().unwrap())
                            }
                            _ => 7,
                        };
                        assert_eq!(word.load(Relaxed).to_le(), expected, "{first} {len} {i}");
                    }
                }
            }
        }
    }
}
