//! What a transaction spends, as the transaction map and subtreeMeta files hold it.
//!
//! ```text
//! p u32 | p x parent hash 32 | p x (k u32 | k x vout u32)
//! ```
//!
//! Little-endian. Parents stand in the order of their first appearance among the inputs, the
//! outputs of a parent in input order. A coinbase spends nothing: p = 0. Decoding borrows the bytes
//! and allocates nothing; every count is checked against the bytes that follow it.

use super::codec::{Fields, trailing_bytes};
use super::format_error::{FormatError, check_count};
use crate::error::{Error, Result};
use crate::subtree::nodes::plain_array::reserved_vec;
use crate::types::Hash;

/// An output of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outpoint {
    /// The transaction that has the output.
    pub parent: Hash,
    /// The output's number.
    pub vout: u32,
}

/// Up to this many inputs are grouped by comparing each with those before it; more are sorted.
const FEW_INPUTS: usize = 16;

/// The inpoints of one transaction, in place over their bytes, whose sizes have been checked.
///
/// ```
/// use blocktier::subtree::inpoints::{Outpoint, TxInpoints, encode};
/// let inputs = [([1; 32], 0), ([2; 32], 7), ([1; 32], 3)]
///     .map(|(parent, vout)| Outpoint { parent, vout });
/// let mut bytes = Vec::new();
/// encode(&inputs, &mut bytes)?;
/// let inpoints = TxInpoints::decode(&bytes)?;
/// assert_eq!(inpoints.parents(), [[1; 32], [2; 32]]);
/// let spent: Vec<u32> = inpoints.outpoints().map(|outpoint| outpoint.vout).collect();
/// assert_eq!(spent, [0, 3, 7]);
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxInpoints<'a> {
    bytes: &'a [u8],
    parents: &'a [Hash],
    /// The `p` runs of `k u32 | k x vout u32`.
    runs: &'a [u8],
    outpoints: usize,
}

impl<'a> TxInpoints<'a> {
    /// Decodes `bytes`, all of them.
    ///
    /// # Errors
    ///
    /// [`FormatError`]: `Truncated`, `CountTooLarge`, `TrailingBytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (inpoints, rest) = Self::decode_first(bytes)?;
        if rest.is_empty() {
            return Ok(inpoints);
        }
        Err(trailing_bytes(inpoints.bytes.len() as u64))
    }

    /// Decodes the inpoints that `bytes` begin with, and returns the bytes after them.
    ///
    /// # Errors
    ///
    /// [`FormatError`]: `Truncated`, `CountTooLarge`.
    pub fn decode_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), FormatError> {
        let mut fields = Fields { bytes, offset: 0 };
        let count = u32::from_le_bytes(*fields.array("parent count")?);
        // Each parent has a hash and at least a count of outputs.
        check_count("parents", u64::from(count), 36, (bytes.len() - fields.offset) as u64)?;
        let parents = fields.take(count as usize * 32, "parents")?.as_chunks().0;
        let runs_offset = fields.offset;
        let mut outpoints = 0;
        for _ in 0..count {
            let outputs = u32::from_le_bytes(*fields.array("output count")?);
            check_count("outputs", u64::from(outputs), 4, (bytes.len() - fields.offset) as u64)?;
            fields.take(outputs as usize * 4, "outputs")?;
            outpoints += outputs as usize;
        }
        let (all, rest) = bytes.split_at(fields.offset);
        Ok((Self { bytes: all, parents, runs: &all[runs_offset..], outpoints }, rest))
    }

    /// The encoded bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The parents, in the order of their first appearance.
    #[must_use]
    pub const fn parents(&self) -> &'a [Hash] {
        self.parents
    }

    /// How many outputs are spent.
    #[must_use]
    pub const fn outpoint_count(&self) -> usize {
        self.outpoints
    }

    /// The outputs that are spent, parent by parent.
    #[must_use]
    pub fn outpoints(&self) -> Outpoints<'a> {
        Outpoints { parents: self.parents.iter(), run: &[], rest: self.runs, parent: [0; 32] }
    }
}

/// Iterator over the outpoints of a [`TxInpoints`].
#[derive(Debug, Clone)]
pub struct Outpoints<'a> {
    parents: std::slice::Iter<'a, Hash>,
    /// What is left of the run of `parent`.
    run: &'a [[u8; 4]],
    /// The runs after it.
    rest: &'a [u8],
    parent: Hash,
}

impl Iterator for Outpoints<'_> {
    type Item = Outpoint;

    fn next(&mut self) -> Option<Outpoint> {
        loop {
            if let [vout, run @ ..] = self.run {
                self.run = run;
                return Some(Outpoint { parent: self.parent, vout: u32::from_le_bytes(*vout) });
            }
            self.parent = *self.parents.next()?;
            // Decoding has walked these counts, so neither split can fail.
            let (count, rest) = self.rest.split_first_chunk()?;
            let bytes = u32::from_le_bytes(*count) as usize * 4;
            let (run, rest) = rest.split_at_checked(bytes)?;
            (self.run, self.rest) = (run.as_chunks().0, rest);
        }
    }
}

/// Appends the encoding of `inputs`, in input order, to `out`. Up to 16 inputs allocate nothing
/// beyond `out`; any number takes n log n comparisons at worst, whoever chose the parents.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for 2^32 inputs or more, [`Error::OutOfMemory`]. `out` is unchanged
/// then.
pub fn encode(inputs: &[Outpoint], out: &mut Vec<u8>) -> Result<()> {
    if u32::try_from(inputs.len()).is_err() {
        return Err(Error::InvalidArgument("a transaction with 2^32 inputs".into()));
    }
    if inputs.len() <= FEW_INPUTS {
        return encode_few(inputs, out);
    }
    // Sorted by parent, then by place; `first` is the place where the parent appears first.
    let mut order = reserved_vec::<(u32, u32)>("order of inputs", inputs.len())?;
    order.extend((0..inputs.len() as u32).map(|place| (0, place)));
    order.sort_unstable_by(|a, b| {
        let (parent_a, parent_b) = (&inputs[a.1 as usize].parent, &inputs[b.1 as usize].parent);
        parent_a.cmp(parent_b).then(a.1.cmp(&b.1))
    });
    let mut parents = 0;
    for run in order.chunk_by_mut(|a, b| inputs[a.1 as usize].parent == inputs[b.1 as usize].parent)
    {
        let first = run[0].1;
        run.iter_mut().for_each(|entry| entry.0 = first);
        parents += 1;
    }
    order.sort_unstable();
    reserve(out, parents, inputs.len())?;
    out.extend_from_slice(&(parents as u32).to_le_bytes());
    let runs = || order.chunk_by(|a, b| a.0 == b.0);
    for run in runs() {
        out.extend_from_slice(&inputs[run[0].1 as usize].parent);
    }
    for run in runs() {
        out.extend_from_slice(&(run.len() as u32).to_le_bytes());
        for (_, place) in run {
            out.extend_from_slice(&inputs[*place as usize].vout.to_le_bytes());
        }
    }
    Ok(())
}

fn encode_few(inputs: &[Outpoint], out: &mut Vec<u8>) -> Result<()> {
    let is_first =
        |place: usize| inputs[..place].iter().all(|earlier| earlier.parent != inputs[place].parent);
    let mut firsts = [0usize; FEW_INPUTS];
    let mut parents = 0;
    for place in (0..inputs.len()).filter(|&place| is_first(place)) {
        firsts[parents] = place;
        parents += 1;
    }
    let firsts = &firsts[..parents];
    reserve(out, parents, inputs.len())?;
    out.extend_from_slice(&(parents as u32).to_le_bytes());
    for &first in firsts {
        out.extend_from_slice(&inputs[first].parent);
    }
    for &first in firsts {
        let run = || inputs[first..].iter().filter(|input| input.parent == inputs[first].parent);
        out.extend_from_slice(&(run().count() as u32).to_le_bytes());
        for input in run() {
            out.extend_from_slice(&input.vout.to_le_bytes());
        }
    }
    Ok(())
}

fn reserve(out: &mut Vec<u8>, parents: usize, inputs: usize) -> Result<()> {
    let bytes = 4 + parents * 36 + inputs * 4;
    out.try_reserve(bytes).map_err(|_| Error::OutOfMemory {
        what: "encoded inpoints",
        bytes: bytes as u64,
        available: u64::MAX,
    })
}
