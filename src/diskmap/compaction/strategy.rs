//! Which runs to merge: what any strategy answers. An embedder may have one of its own
//! ([`crate::diskmap::DiskMap::open_with_strategy`]).

use crate::{Error, Result};

/// What there is to choose from. A run is a segment here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer<'a> {
    /// What a merge of each run would write, in bytes.
    pub sizes: &'a [u64],
    /// Bytes that all runs take, offered or not.
    pub total: u64,
    /// Bytes that they would take after a merge of all.
    pub largest: u64,
    /// Whether merging a single run gains something: it does where a run has dead bytes of its own.
    pub alone: bool,
}

impl<'a> Offer<'a> {
    /// Runs that overlap each other: the largest stands for what a merge of all would leave.
    #[must_use]
    pub fn overlapping(sizes: &'a [u64]) -> Self {
        let total = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(*size));
        let largest = sizes.iter().copied().max().unwrap_or(0);
        Self { sizes, total, largest, alone: false }
    }
}

/// What a strategy chose: numbers of runs, in the order in which to merge them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Nothing to do.
    Nothing,
    /// These take too much space.
    Space(Vec<usize>),
    /// These are of similar size.
    Similar(Vec<usize>),
}

impl Choice {
    /// The runs.
    #[must_use]
    pub fn runs(&self) -> &[usize] {
        match self {
            Self::Nothing => &[],
            Self::Space(runs) | Self::Similar(runs) => runs,
        }
    }
}

pub(super) const TARGET_BYTES: u64 = 64 << 20;

/// Chooses runs to merge. Pure: the same offer gets the same answer.
///
/// What it sees are sizes, of one directory's complete segments with dead bytes (to choose from,
/// unless it wants space, those that are at least half dead): no keys, and no files. It is asked by
/// the background thread, by `compact`, and by writers (for the pending bytes), from any of their
/// threads and with nothing of the index or the log locked. What it owes:
/// - It answers within microseconds, and does not call the map: writers may wait for the answer.
/// - It chooses what gains something. A merge of runs with few dead bytes writes more than it
///   frees, and in the background one that is chosen again and again never ends.
/// - Pending bytes are what its own choices bring down. Where thresholds are set, writers wait for
///   that.
///
/// What it answers can cost work, but no record: runs that are not offered, or named twice, are an
/// error ([`Error::InvalidArgument`] of `compact`, an event) and nothing is merged; a panic counts
/// as choosing nothing, and is an event.
///
/// ```
/// use blocktier::diskmap::compaction::{Choice, CompactionStrategy, Offer};
///
/// /// Merges the smallest run, alone, as soon as a tenth of the space is dead.
/// #[derive(Debug)]
/// struct Eager;
///
/// impl CompactionStrategy for Eager {
///     fn name(&self) -> &'static str {
///         "Eager"
///     }
///     fn wants_space(&self, total: u64, largest: u64) -> bool {
///         total.saturating_sub(largest) >= largest / 10
///     }
///     fn choose(&self, offer: &Offer<'_>) -> Choice {
///         let smallest = (0..offer.sizes.len()).min_by_key(|run| offer.sizes[*run]);
///         match smallest.filter(|_| self.wants_space(offer.total, offer.largest)) {
///             Some(run) => Choice::Space(vec![run]),
///             None => Choice::Nothing,
///         }
///     }
///     fn pending_compaction_bytes(&self, offer: &Offer<'_>) -> u64 {
///         offer.total.saturating_sub(offer.largest + offer.largest / 10)
///     }
/// }
///
/// let offer = Offer { sizes: &[7, 3], total: 20, largest: 10, alone: true };
/// assert_eq!(Eager.choose(&offer).runs(), [1]);
/// ```
///
/// A map has it from [`crate::txmap::DiskTxMap::open_with_strategy`] on, or
/// [`crate::diskmap::DiskMap::set_compaction_strategy`].
pub trait CompactionStrategy: Send + Sync + std::fmt::Debug {
    /// A name for logs.
    fn name(&self) -> &'static str;

    /// Whether, beside others, too much space is taken.
    fn wants_space(&self, total: u64, largest: u64) -> bool;

    /// What to merge.
    fn choose(&self, offer: &Offer<'_>) -> Choice;

    /// Bytes by which the space taken exceeds what is allowed.
    fn pending_compaction_bytes(&self, offer: &Offer<'_>) -> u64;

    /// Bytes after which a merge for space looks again at what is left to do; at least a run.
    fn target_bytes(&self) -> u64 {
        TARGET_BYTES
    }
}

impl Choice {
    /// The runs, if each of `offered` is among them once at most.
    pub(super) fn checked_runs(&self, offered: usize, name: &str) -> Result<&[usize]> {
        let mut seen = vec![false; offered];
        for run in self.runs() {
            match seen.get_mut(*run) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(wrong(name, format_args!("run {run} twice"))),
                None => return Err(wrong(name, format_args!("run {run} of {offered}"))),
            }
        }
        Ok(self.runs())
    }
}

fn wrong(name: &str, what: std::fmt::Arguments<'_>) -> Error {
    Error::InvalidArgument(format!("compaction strategy {name} chose {what}; nothing is merged"))
}
