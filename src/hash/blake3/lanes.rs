//! BLAKE3 over words of many inputs at once: one vector holds the same word of each. Names and
//! tables are those of the specification, section 2.

use crate::types::Hash;

/// One 32-bit word of each of some inputs. All functions must be `#[inline(always)]`.
pub(super) trait Words: Copy {
    /// The same word for all inputs.
    fn all(word: u32) -> Self;
    fn add(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    /// Rotations to the right.
    fn rotate_16(self) -> Self;
    fn rotate_12(self) -> Self;
    fn rotate_8(self) -> Self;
    fn rotate_7(self) -> Self;
}

/// A kernel whose words are of `LANES` inputs. All functions must be `#[inline(always)]`.
pub(super) trait Group<const LANES: usize>: Copy {
    type Words: Words;
    /// The message words of one block of each input.
    fn read(self, blocks: [&Block; LANES]) -> Message<Self::Words>;
    fn write(self, hashes: Chaining<Self::Words>, out: &mut [Hash; LANES]);
}

pub(super) type Block = [u8; BLOCK];
pub(super) type Message<W> = [W; 16];
pub(super) type Chaining<W> = [W; 8];
type State<W> = [W; 16];

const BLOCK: usize = 64;
const CHUNK: usize = 1024;

const INITIAL: Chaining<u32> = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 1 << 1;
const ROOT: u32 = 1 << 3;

/// Which message word each round takes at each place.
const ORDER: [[usize; 16]; 7] = {
    let permutation = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut order = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]; 7];
    let mut round = 1;
    while round < 7 {
        let mut place = 0;
        while place < 16 {
            order[round][place] = order[round - 1][permutation[place]];
            place += 1;
        }
        round += 1;
    }
    order
};

/// Hashes all inputs in groups: `SETS` groups side by side, as long as there are so many, then one
/// at a time. The last inputs, where they do not fill a group, are copied into one of their own
/// first, so that nothing is read past them.
#[inline(always)]
pub(super) fn hash_many<const SETS: usize, const LANES: usize, const N: usize, G: Group<LANES>>(
    kernel: G,
    inputs: &[[u8; N]],
    out: &mut [Hash],
) {
    assert_eq!(inputs.len(), out.len(), "one output for each input");
    let (groups, rest) = inputs.as_chunks::<LANES>();
    let (groups_out, rest_out) = out.as_chunks_mut::<LANES>();
    let (sets, groups) = groups.as_chunks::<SETS>();
    let (sets_out, groups_out) = groups_out.as_chunks_mut::<SETS>();
    for (inputs, out) in sets.iter().zip(sets_out) {
        hash_sets(kernel, inputs, out);
    }
    for (inputs, out) in groups.as_chunks::<1>().0.iter().zip(groups_out.as_chunks_mut::<1>().0) {
        hash_sets(kernel, inputs, out);
    }
    if rest.is_empty() {
        return;
    }
    let mut inputs = [[[0; N]; LANES]];
    let mut hashes = [[[0; 32]; LANES]];
    inputs[0][..rest.len()].copy_from_slice(rest);
    hash_sets(kernel, &inputs, &mut hashes);
    rest_out.copy_from_slice(&hashes[0][..rest.len()]);
}

#[inline(always)]
fn hash_sets<const SETS: usize, const LANES: usize, const N: usize, G: Group<LANES>>(
    kernel: G,
    inputs: &[[[u8; N]; LANES]; SETS],
    out: &mut [[Hash; LANES]; SETS],
) {
    const { assert!(N > 0 && N.is_multiple_of(BLOCK) && N <= CHUNK, "whole blocks of one chunk") };
    let mut chainings = [INITIAL.map(G::Words::all); SETS];
    for number in 0..N / BLOCK {
        let mut flags = 0;
        if number == 0 {
            flags |= CHUNK_START;
        }
        if number == N / BLOCK - 1 {
            flags |= CHUNK_END | ROOT;
        }
        let messages = inputs
            .each_ref()
            .map(|set| kernel.read(set.each_ref().map(|input| block(input, number))));
        compress(&mut chainings, &messages, flags);
    }
    for (hashes, out) in chainings.into_iter().zip(out) {
        kernel.write(hashes, out);
    }
}

#[inline(always)]
fn block<const N: usize>(input: &[u8; N], number: usize) -> &Block {
    &input.as_chunks().0[number]
}

/// Compresses a whole block of each input. The counter is that of the first chunk.
#[inline(always)]
fn compress<W: Words, const SETS: usize>(
    chainings: &mut [Chaining<W>; SETS],
    messages: &[Message<W>; SETS],
    flags: u32,
) {
    let [i0, i1, i2, i3, ..] = INITIAL.map(W::all);
    let [counter, length, flags] = [0, BLOCK as u32, flags].map(W::all);
    let mut states = chainings.map(|[h0, h1, h2, h3, h4, h5, h6, h7]| {
        [h0, h1, h2, h3, h4, h5, h6, h7, i0, i1, i2, i3, counter, counter, length, flags]
    });
    round::<0, W, SETS>(&mut states, in_memory(messages));
    round::<1, W, SETS>(&mut states, in_memory(messages));
    round::<2, W, SETS>(&mut states, in_memory(messages));
    round::<3, W, SETS>(&mut states, in_memory(messages));
    round::<4, W, SETS>(&mut states, in_memory(messages));
    round::<5, W, SETS>(&mut states, in_memory(messages));
    round::<6, W, SETS>(&mut states, in_memory(messages));
    for (chaining, state) in chainings.iter_mut().zip(&states) {
        for word in 0..8 {
            chaining[word] = state[word].xor(state[word + 8]);
        }
    }
}

/// The states of several sets fill the registers, so each round reads its message words from
/// memory. Left alone, the compiler keeps them in registers and computes one set after the other.
#[inline(always)]
fn in_memory<W, const SETS: usize>(messages: &[Message<W>; SETS]) -> &[Message<W>; SETS] {
    if SETS == 1 { messages } else { std::hint::black_box(messages) }
}

/// Columns, then diagonals.
#[inline(always)]
fn round<const ROUND: usize, W: Words, const SETS: usize>(
    states: &mut [State<W>; SETS],
    messages: &[Message<W>; SETS],
) {
    let order = const { ORDER[ROUND] };
    mix::<0, W, SETS>(
        states,
        messages,
        [order[0], order[2], order[4], order[6]],
        [order[1], order[3], order[5], order[7]],
    );
    mix::<1, W, SETS>(
        states,
        messages,
        [order[8], order[10], order[12], order[14]],
        [order[9], order[11], order[13], order[15]],
    );
}

/// The mixing function on four columns (`SHIFT` is 0) or diagonals (1) of every state, each of its
/// steps on all of them in turn: they do not wait for each other.
#[inline(always)]
fn mix<const SHIFT: usize, W: Words, const SETS: usize>(
    states: &mut [State<W>; SETS],
    messages: &[Message<W>; SETS],
    first: [usize; 4],
    second: [usize; 4],
) {
    /// A step on column or diagonal `$i` of state `$v`, where its words a to d are.
    macro_rules! each {
        (|$i:ident, $v:ident, $m:ident, $a:ident, $b:ident, $c:ident, $d:ident| $step:expr) => {
            for ($v, $m) in states.iter_mut().zip(messages) {
                for $i in 0..4 {
                    let ($a, $b) = ($i, 4 + ($i + SHIFT) % 4);
                    let ($c, $d) = (8 + ($i + 2 * SHIFT) % 4, 12 + ($i + 3 * SHIFT) % 4);
                    $step
                }
            }
        };
    }
    each!(|i, v, m, a, b, _c, _d| v[a] = v[a].add(m[first[i]]).add(v[b]));
    each!(|_i, v, _m, a, _b, _c, d| v[d] = v[d].xor(v[a]).rotate_16());
    each!(|_i, v, _m, _a, _b, c, d| v[c] = v[c].add(v[d]));
    each!(|_i, v, _m, _a, b, c, _d| v[b] = v[b].xor(v[c]).rotate_12());
    each!(|i, v, m, a, b, _c, _d| v[a] = v[a].add(m[second[i]]).add(v[b]));
    each!(|_i, v, _m, a, _b, _c, d| v[d] = v[d].xor(v[a]).rotate_8());
    each!(|_i, v, _m, _a, _b, c, d| v[c] = v[c].add(v[d]));
    each!(|_i, v, _m, _a, b, c, _d| v[b] = v[b].xor(v[c]).rotate_7());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lanes in plain arithmetic: the algorithm without any processor's instructions.
    impl<const LANES: usize> Words for [u32; LANES] {
        fn all(word: u32) -> Self {
            [word; LANES]
        }
        fn add(self, other: Self) -> Self {
            std::array::from_fn(|lane| self[lane].wrapping_add(other[lane]))
        }
        fn xor(self, other: Self) -> Self {
            std::array::from_fn(|lane| self[lane] ^ other[lane])
        }
        fn rotate_16(self) -> Self {
            self.map(|word| word.rotate_right(16))
        }
        fn rotate_12(self) -> Self {
            self.map(|word| word.rotate_right(12))
        }
        fn rotate_8(self) -> Self {
            self.map(|word| word.rotate_right(8))
        }
        fn rotate_7(self) -> Self {
            self.map(|word| word.rotate_right(7))
        }
    }

    #[derive(Clone, Copy)]
    struct Plain;

    impl<const LANES: usize> Group<LANES> for Plain {
        type Words = [u32; LANES];

        fn read(self, blocks: [&Block; LANES]) -> Message<Self::Words> {
            std::array::from_fn(|word| {
                blocks.map(|block| u32::from_le_bytes(block.as_chunks().0[word]))
            })
        }
        fn write(self, hashes: Chaining<Self::Words>, out: &mut [Hash; LANES]) {
            for (lane, out) in out.iter_mut().enumerate() {
                let words = hashes.map(|word| word[lane].to_le_bytes());
                out.copy_from_slice(words.as_flattened());
            }
        }
    }

    fn check<const SETS: usize, const LANES: usize, const N: usize>() {
        let input = |i: usize| std::array::from_fn(|k| (i * 31 + k * 7 + (k >> 8)) as u8);
        let inputs: Vec<[u8; N]> = (0..2 * SETS * LANES + 3).map(input).collect();
        for count in 0..=inputs.len() {
            let inputs = &inputs[..count];
            let mut out = vec![[0xee; 32]; count];
            hash_many::<SETS, LANES, N, Plain>(Plain, inputs, &mut out);
            let expected: Vec<Hash> = inputs.iter().map(|i| ::blake3::hash(i).into()).collect();
            assert!(out == expected, "{count} inputs of {N} bytes, {SETS} x {LANES} lanes");
        }
    }

    #[test]
    fn sets_and_lanes_of_any_number_give_what_the_crate_gives() {
        check::<1, 2, 64>();
        check::<2, 1, 128>();
        check::<2, 3, 512>();
    }

    #[test]
    fn published_value_of_a_whole_chunk() {
        let input: [u8; CHUNK] = std::array::from_fn(|i| (i % 251) as u8);
        let mut out = [[0; 32]; 3];
        hash_many::<1, 1, CHUNK, Plain>(Plain, &[input; 3], &mut out);
        let expected = "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7";
        assert!(out.iter().all(|hash| *hash == *crate::hash::tests::hex(expected)));
    }
}
