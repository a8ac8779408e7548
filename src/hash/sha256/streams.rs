//! SHA-256 by a processor's SHA-2 instructions, which do four rounds of one input at a time. They
//! take several cycles each, so up to four inputs go side by side.

use super::constants::{HASH_PADDING, INITIAL, PADDING_ROUND, ROUND};
use super::pairs::HashPairs;
use crate::types::Hash;

/// Four words of one input, and the instructions on them. All functions must be
/// `#[inline(always)]`.
pub(super) trait Quads: Copy {
    /// Four words, the first one lowest.
    type Words: Copy;
    fn new(words: [u32; 4]) -> Self::Words;
    /// Reads four big-endian words.
    fn read(bytes: &[u8; 16]) -> Self::Words;
    /// Writes them big-endian.
    fn write(words: Self::Words, bytes: &mut [u8; 16]);
    fn add(a: Self::Words, b: Self::Words) -> Self::Words;
    /// A state from the words a to d and e to h, as the instructions want it.
    fn pack(abcd: Self::Words, efgh: Self::Words) -> [Self::Words; 2];
    /// The opposite of `pack`.
    fn unpack(state: [Self::Words; 2]) -> [Self::Words; 2];
    /// Four rounds; `words` are constants plus message words.
    fn rounds(state: [Self::Words; 2], words: Self::Words) -> [Self::Words; 2];
    /// The next four words of the schedule after these sixteen.
    fn next(m0: Self::Words, m1: Self::Words, m2: Self::Words, m3: Self::Words) -> Self::Words;
}

type State<Q> = [<Q as Quads>::Words; 2];
type Block<Q> = [<Q as Quads>::Words; 4];

#[inline(always)]
fn quad<Q: Quads>(table: &[u32], number: usize) -> Q::Words {
    let at = 4 * number;
    Q::new([table[at], table[at + 1], table[at + 2], table[at + 3]])
}

#[inline(always)]
fn initial<Q: Quads>() -> State<Q> {
    Q::pack(quad::<Q>(&INITIAL, 0), quad::<Q>(&INITIAL, 1))
}

/// The rounds over the blocks of `N` inputs, added to their states.
#[inline(always)]
fn compress<Q: Quads, const N: usize>(states: &mut [State<Q>; N], blocks: &mut [Block<Q>; N]) {
    let before = *states;
    /// Four rounds of all inputs with the message words at `$i`, which go on to be the next ones.
    macro_rules! four_rounds {
        ($group:expr, $i:expr, $last:expr) => {
            let constants = quad::<Q>(&ROUND, 4 * $group + $i);
            for stream in 0..N {
                let m = &mut blocks[stream];
                states[stream] = Q::rounds(states[stream], Q::add(m[$i], constants));
                if !$last {
                    m[$i] = Q::next(m[$i], m[($i + 1) % 4], m[($i + 2) % 4], m[($i + 3) % 4]);
                }
            }
        };
    }
    for group in 0..3 {
        four_rounds!(group, 0, false);
        four_rounds!(group, 1, false);
        four_rounds!(group, 2, false);
        four_rounds!(group, 3, false);
    }
    four_rounds!(3, 0, true);
    four_rounds!(3, 1, true);
    four_rounds!(3, 2, true);
    four_rounds!(3, 3, true);
    add_states::<Q, N>(states, &before);
}

/// The rounds over the padding that follows 64 bytes.
#[inline(always)]
fn compress_padding<Q: Quads, const N: usize>(states: &mut [State<Q>; N]) {
    let before = *states;
    for number in 0..16 {
        let words = quad::<Q>(&PADDING_ROUND, number);
        for state in states.iter_mut() {
            *state = Q::rounds(*state, words);
        }
    }
    add_states::<Q, N>(states, &before);
}

#[inline(always)]
fn add_states<Q: Quads, const N: usize>(states: &mut [State<Q>; N], before: &[State<Q>; N]) {
    for stream in 0..N {
        let (after, before) = (states[stream], before[stream]);
        states[stream] = [Q::add(after[0], before[0]), Q::add(after[1], before[1])];
    }
}

/// Hashes `N` pairs from number `first` on.
#[inline(always)]
fn hash_group<Q: Quads, const N: usize>(pairs: &HashPairs<'_>, first: usize, out: &mut [Hash; N]) {
    let zero = Q::new([0; 4]);
    let mut blocks = [[zero; 4]; N];
    for (stream, block) in blocks.iter_mut().enumerate() {
        let (left, right) = pairs.pair(first + stream);
        let ([m0, m1], [m2, m3]) = (quads_of(left), quads_of(right));
        *block = [Q::read(m0), Q::read(m1), Q::read(m2), Q::read(m3)];
    }
    let mut states = [initial::<Q>(); N];
    compress::<Q, N>(&mut states, &mut blocks);
    compress_padding::<Q, N>(&mut states);
    let (p0, p1) = (quad::<Q>(&HASH_PADDING, 0), quad::<Q>(&HASH_PADDING, 1));
    for (block, state) in blocks.iter_mut().zip(&mut states) {
        let [abcd, efgh] = Q::unpack(*state);
        *block = [abcd, efgh, p0, p1];
        *state = initial::<Q>();
    }
    compress::<Q, N>(&mut states, &mut blocks);
    for (state, out) in states.iter().zip(out) {
        write_state::<Q>(*state, out);
    }
}

#[inline(always)]
fn quads_of(hash: &Hash) -> [&[u8; 16]; 2] {
    match hash.as_chunks::<16>().0 {
        [low, high] => [low, high],
        _ => unreachable!("32 bytes are two times 16"),
    }
}

#[inline(always)]
fn write_state<Q: Quads>(state: State<Q>, out: &mut Hash) {
    let words = Q::unpack(state);
    for (words, bytes) in words.into_iter().zip(out.as_chunks_mut::<16>().0) {
        Q::write(words, bytes);
    }
}

/// Hashes all pairs, four at a time; the last ones two and one at a time.
#[inline(always)]
pub(super) fn hash_pairs<Q: Quads>(pairs: &HashPairs<'_>, out: &mut [Hash]) {
    assert_eq!(pairs.count(), out.len(), "one output for each pair");
    let mut first = 0;
    let (fours, rest) = out.as_chunks_mut::<4>();
    for out in fours {
        hash_group::<Q, 4>(pairs, first, out);
        first += 4;
    }
    let (twos, rest) = rest.as_chunks_mut::<2>();
    for out in twos {
        hash_group::<Q, 2>(pairs, first, out);
        first += 2;
    }
    for out in rest.as_chunks_mut::<1>().0 {
        hash_group::<Q, 1>(pairs, first, out);
        first += 1;
    }
}

/// The rounds over each block in turn. `state` is a to h.
#[inline(always)]
pub(super) fn compress_blocks<Q: Quads>(state: &mut [u32; 8], blocks: &[[u8; 64]]) {
    let mut states = [Q::pack(quad::<Q>(state, 0), quad::<Q>(state, 1))];
    for block in blocks {
        if let [m0, m1, m2, m3] = block.as_chunks::<16>().0 {
            let words = [Q::read(m0), Q::read(m1), Q::read(m2), Q::read(m3)];
            compress::<Q, 1>(&mut states, &mut [words]);
        }
    }
    let mut bytes = [0u8; 32];
    write_state::<Q>(states[0], &mut bytes);
    *state = super::portable::words_of(&bytes);
}
