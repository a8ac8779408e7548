//! SHA-256 over words of many inputs at once: one vector holds the same word of each.

use super::constants::{HASH_PADDING, INITIAL, PADDING_ROUND, ROUND, small_sigma0, small_sigma1};
use super::pairs::HashPairs;
use crate::types::Hash;

/// One 32-bit word of each of some inputs. All functions must be `#[inline(always)]`.
pub(super) trait Words: Copy {
    /// The same word for all inputs.
    fn all(word: u32) -> Self;
    fn add(self, other: Self) -> Self;
    /// Σ0, Σ1, σ0, σ1 of FIPS 180-4.
    fn big_sigma0(self) -> Self;
    fn big_sigma1(self) -> Self;
    fn small_sigma0(self) -> Self;
    fn small_sigma1(self) -> Self;
    fn choice(e: Self, f: Self, g: Self) -> Self;
    fn majority(a: Self, b: Self, c: Self) -> Self;
}

/// The words of two groups side by side: while one waits for a result, the other goes on.
#[derive(Copy, Clone)]
pub(super) struct Two<W>(pub(super) W, pub(super) W);

impl<W: Words> Words for Two<W> {
    #[inline(always)]
    fn all(word: u32) -> Self {
        Self(W::all(word), W::all(word))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0.add(other.0), self.1.add(other.1))
    }
    #[inline(always)]
    fn big_sigma0(self) -> Self {
        Self(self.0.big_sigma0(), self.1.big_sigma0())
    }
    #[inline(always)]
    fn big_sigma1(self) -> Self {
        Self(self.0.big_sigma1(), self.1.big_sigma1())
    }
    #[inline(always)]
    fn small_sigma0(self) -> Self {
        Self(self.0.small_sigma0(), self.1.small_sigma0())
    }
    #[inline(always)]
    fn small_sigma1(self) -> Self {
        Self(self.0.small_sigma1(), self.1.small_sigma1())
    }
    #[inline(always)]
    fn choice(e: Self, f: Self, g: Self) -> Self {
        Self(W::choice(e.0, f.0, g.0), W::choice(e.1, f.1, g.1))
    }
    #[inline(always)]
    fn majority(a: Self, b: Self, c: Self) -> Self {
        Self(W::majority(a.0, b.0, c.0), W::majority(a.1, b.1, c.1))
    }
}

type State<W> = [W; 8];
type Block<W> = [W; 16];

/// One round; the names of the eight words move on by one each time.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $word:expr) => {
        let t1 = $h.add($word).add(W::choice($e, $f, $g)).add($e.big_sigma1());
        $d = $d.add(t1);
        $h = t1.add($a.big_sigma0().add(W::majority($a, $b, $c)));
    };
}

/// Sixteen rounds; `$word` maps the round's number to constant plus message word.
macro_rules! sixteen_rounds {
    ($state:expr, $word:ident) => {
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *$state;
        round!(a b c d e f g h, $word!(0));
        round!(h a b c d e f g, $word!(1));
        round!(g h a b c d e f, $word!(2));
        round!(f g h a b c d e, $word!(3));
        round!(e f g h a b c d, $word!(4));
        round!(d e f g h a b c, $word!(5));
        round!(c d e f g h a b, $word!(6));
        round!(b c d e f g h a, $word!(7));
        round!(a b c d e f g h, $word!(8));
        round!(h a b c d e f g, $word!(9));
        round!(g h a b c d e f, $word!(10));
        round!(f g h a b c d e, $word!(11));
        round!(e f g h a b c d, $word!(12));
        round!(d e f g h a b c, $word!(13));
        round!(c d e f g h a b, $word!(14));
        round!(b c d e f g h a, $word!(15));
        *$state = [a, b, c, d, e, f, g, h];
    };
}

/// The digests, as words, of 64-byte inputs hashed twice.
#[inline(always)]
pub(super) fn sha256d<W: Words>(input: Block<W>) -> State<W> {
    let initial = initial::<W>();
    let state = sum(first_block(input, initial), initial);
    let state = sum(padding_block(state), state);
    sum(hash_block(state, initial), initial)
}

#[inline(always)]
fn initial<W: Words>() -> State<W> {
    let [a, b, c, d, e, f, g, h] = INITIAL;
    let [a, b, c, d] = [W::all(a), W::all(b), W::all(c), W::all(d)];
    [a, b, c, d, W::all(e), W::all(f), W::all(g), W::all(h)]
}

#[inline(always)]
fn sum<W: Words>(mut x: State<W>, y: State<W>) -> State<W> {
    for i in 0..8 {
        x[i] = x[i].add(y[i]);
    }
    x
}

/// The rounds over a block whose sixteen words vary.
#[inline(always)]
fn first_block<W: Words>(mut words: Block<W>, mut state: State<W>) -> State<W> {
    rounds_as_they_are(&words, &mut state);
    for group in 1..4 {
        rounds_with_schedule(&mut words, &mut state, group);
    }
    state
}

#[inline(always)]
fn rounds_as_they_are<W: Words>(words: &Block<W>, state: &mut State<W>) {
    macro_rules! word {
        ($t:expr) => {
            words[$t].add(W::all(ROUND[$t]))
        };
    }
    sixteen_rounds!(state, word);
}

#[inline(always)]
fn rounds_with_schedule<W: Words>(words: &mut Block<W>, state: &mut State<W>, group: usize) {
    macro_rules! word {
        ($t:expr) => {{
            let (w15, w7, w2) = (($t + 1) % 16, ($t + 9) % 16, ($t + 14) % 16);
            words[$t] = words[$t]
                .add(words[w15].small_sigma0())
                .add(words[w7])
                .add(words[w2].small_sigma1());
            words[$t].add(W::all(ROUND[16 * group + $t]))
        }};
    }
    sixteen_rounds!(state, word);
}

/// The rounds over the padding that follows 64 bytes.
#[inline(always)]
fn padding_block<W: Words>(mut state: State<W>) -> State<W> {
    for group in 0..4 {
        macro_rules! word {
            ($t:expr) => {
                W::all(PADDING_ROUND[16 * group + $t])
            };
        }
        let state = &mut state;
        sixteen_rounds!(state, word);
    }
    state
}

/// The rounds over a block that is a hash and its padding. What the eight known words add to the
/// schedule is known too, mostly nothing.
#[inline(always)]
fn hash_block<W: Words>(hash: State<W>, mut state: State<W>) -> State<W> {
    hash_as_it_is(&hash, &mut state);
    let [w0, w1, w2, w3, w4, w5, w6, w7] = hash;
    let [w8, .., w15] = HASH_PADDING;
    let w16 = w0.add(w1.small_sigma0());
    let w17 = w1.add(w2.small_sigma0()).add(W::all(small_sigma1(w15)));
    let w18 = w2.add(w3.small_sigma0()).add(w16.small_sigma1());
    let w19 = w3.add(w4.small_sigma0()).add(w17.small_sigma1());
    let w20 = w4.add(w5.small_sigma0()).add(w18.small_sigma1());
    let w21 = w5.add(w6.small_sigma0()).add(w19.small_sigma1());
    let w22 = w6.add(w7.small_sigma0()).add(W::all(w15)).add(w20.small_sigma1());
    let w23 = w7.add(W::all(small_sigma0(w8))).add(w16).add(w21.small_sigma1());
    let w24 = W::all(w8).add(w17).add(w22.small_sigma1());
    let w25 = w18.add(w23.small_sigma1());
    let w26 = w19.add(w24.small_sigma1());
    let w27 = w20.add(w25.small_sigma1());
    let w28 = w21.add(w26.small_sigma1());
    let w29 = w22.add(w27.small_sigma1());
    let w30 = W::all(small_sigma0(w15)).add(w23).add(w28.small_sigma1());
    let w31 = W::all(w15).add(w16.small_sigma0()).add(w24).add(w29.small_sigma1());
    let mut words =
        [w16, w17, w18, w19, w20, w21, w22, w23, w24, w25, w26, w27, w28, w29, w30, w31];
    {
        macro_rules! word {
            ($t:expr) => {
                words[$t].add(W::all(ROUND[16 + $t]))
            };
        }
        let state = &mut state;
        sixteen_rounds!(state, word);
    }
    for group in 2..4 {
        rounds_with_schedule(&mut words, &mut state, group);
    }
    state
}

#[inline(always)]
fn hash_as_it_is<W: Words>(hash: &State<W>, state: &mut State<W>) {
    macro_rules! word {
        ($t:expr) => {
            if $t < 8 {
                hash[$t % 8].add(W::all(ROUND[$t]))
            } else {
                W::all(ROUND[$t].wrapping_add(HASH_PADDING[$t % 8]))
            }
        };
    }
    sixteen_rounds!(state, word);
}

/// A kernel that hashes `LANES` pairs at a time.
pub(super) trait Group<const LANES: usize>: Copy {
    /// Hashes the pairs in `run`, whose hashes begin at every `stride` bytes; exactly `LANES` pairs
    /// from the first byte to the last.
    fn hash(self, run: &[u8], stride: usize, out: &mut [Hash; LANES]);
}

/// Hashes all pairs in groups. The last ones, where they do not fill a group, are copied into one
/// of their own first, so that nothing is read past the input.
#[inline(always)]
pub(super) fn hash_pairs<const LANES: usize, G: Group<LANES>>(
    kernel: G,
    pairs: &HashPairs<'_>,
    out: &mut [Hash],
) {
    assert_eq!(pairs.count(), out.len(), "one output for each pair");
    let (groups, rest) = out.as_chunks_mut::<LANES>();
    let grouped = groups.len() * LANES;
    for (number, out) in groups.iter_mut().enumerate() {
        kernel.hash(pairs.run(number * LANES, LANES), pairs.stride(), out);
    }
    if rest.is_empty() {
        return;
    }
    let mut inputs = [[0u8; 64]; LANES];
    let mut hashes = [[0u8; 32]; LANES];
    for (place, input) in inputs.iter_mut().take(rest.len()).enumerate() {
        *input = pairs.input(grouped + place);
    }
    kernel.hash(inputs.as_flattened(), size_of::<Hash>(), &mut hashes);
    rest.copy_from_slice(&hashes[..rest.len()]);
}

#[cfg(test)]
mod tests {
    use super::super::portable;
    use super::*;

    /// One lane in plain arithmetic: the algorithm without any processor's instructions.
    impl Words for u32 {
        fn all(word: u32) -> Self {
            word
        }
        fn add(self, other: Self) -> Self {
            self.wrapping_add(other)
        }
        fn big_sigma0(self) -> Self {
            self.rotate_right(2) ^ self.rotate_right(13) ^ self.rotate_right(22)
        }
        fn big_sigma1(self) -> Self {
            self.rotate_right(6) ^ self.rotate_right(11) ^ self.rotate_right(25)
        }
        fn small_sigma0(self) -> Self {
            small_sigma0(self)
        }
        fn small_sigma1(self) -> Self {
            small_sigma1(self)
        }
        fn choice(e: Self, f: Self, g: Self) -> Self {
            (e & f) ^ (!e & g)
        }
        fn majority(a: Self, b: Self, c: Self) -> Self {
            (a & b) ^ (a & c) ^ (b & c)
        }
    }

    #[test]
    fn known_padding_gives_what_the_whole_algorithm_gives() {
        for seed in 0..50u32 {
            let words: [u32; 16] =
                std::array::from_fn(|i| (seed + 1).wrapping_mul(0x9e37_79b9) ^ (i as u32) << 27);
            let mut input = Vec::new();
            words.iter().for_each(|word| input.extend(word.swap_bytes().to_le_bytes()));
            let sha256 = |bytes: &[u8]| portable::sha256(bytes, portable::compress);
            let expected = sha256(&sha256(&input));
            let digest = |words: [u32; 8]| {
                words.map(|word| word.swap_bytes().to_le_bytes()).as_flattened().to_vec()
            };
            assert_eq!(digest(sha256d(words)), expected);
            let two = sha256d(words.map(|word| Two(!word, word)));
            assert_eq!(digest(two.map(|word| word.1)), expected);
            assert_eq!(digest(two.map(|word| word.0)), digest(sha256d(words.map(|word| !word))));
        }
    }
}
