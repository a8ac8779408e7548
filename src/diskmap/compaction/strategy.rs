//! Which runs to merge: what any strategy answers.

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

/// Chooses runs to merge. Pure: the same offer gets the same answer.
pub trait CompactionStrategy: Send + Sync + std::fmt::Debug {
    /// A name for logs.
    fn name(&self) -> &'static str;

    /// Whether, beside others, too much space is taken.
    fn wants_space(&self, total: u64, largest: u64) -> bool;

    /// What to merge.
    fn choose(&self, offer: &Offer<'_>) -> Choice;

    /// Bytes by which the space taken exceeds what is allowed.
    fn pending_compaction_bytes(&self, offer: &Offer<'_>) -> u64;
}
