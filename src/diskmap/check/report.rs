//! What a check says: findings and totals.

use std::fmt;
use std::path::PathBuf;

/// What is wrong with a place of a map's files. Numbers are explicit and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum FindingKind {
    /// A directory has no manifest although it has segments or another directory has one.
    ManifestMissing = 1,
    /// The manifest's bytes are not what was written.
    ManifestDamaged = 2,
    /// The manifest contradicts itself or another directory's.
    ManifestInconsistent = 3,
    /// A segment that the manifest names is not there.
    SegmentMissing = 4,
    /// A segment's header is not the one that was written.
    SegmentHeader = 5,
    /// Bytes that were synced are no record.
    RecordDamaged = 6,
    /// A commit names a long record that is not there.
    CommitDangling = 7,
    /// A record's key belongs to another directory.
    WrongDirectory = 8,
    /// Behind what was synced the log ends at something that is no record.
    TornEnd = 9,
    /// A segment of another directory, or of a newer state than the manifests.
    SegmentForeign = 10,
    /// A segment that is no part of the log any more, or lies behind its end.
    SegmentLeftover = 11,
    /// A complete segment has no summary.
    SummaryMissing = 12,
    /// A summary's bytes are not what was written.
    SummaryDamaged = 13,
    /// A summary says something else than its segment.
    SummaryMismatch = 14,
    /// A file that means nothing to the map.
    FileLeftover = 15,
    /// Bytes that mean nothing and should be zeros are not.
    Slack = 16,
    /// The manifest names a ring: what a killed process had not written is there.
    RingPending = 17,
}

impl FindingKind {
    /// The kind as one word with dashes, as tools print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ManifestMissing => "manifest-missing",
            Self::ManifestDamaged => "manifest-damaged",
            Self::ManifestInconsistent => "manifest-inconsistent",
            Self::SegmentMissing => "segment-missing",
            Self::SegmentHeader => "segment-header",
            Self::RecordDamaged => "record-damaged",
            Self::CommitDangling => "commit-dangling",
            Self::WrongDirectory => "wrong-directory",
            Self::TornEnd => "torn-end",
            Self::SegmentForeign => "segment-foreign",
            Self::SegmentLeftover => "segment-leftover",
            Self::SummaryMissing => "summary-missing",
            Self::SummaryDamaged => "summary-damaged",
            Self::SummaryMismatch => "summary-mismatch",
            Self::FileLeftover => "file-leftover",
            Self::Slack => "slack",
            Self::RingPending => "ring-pending",
        }
    }
}

/// What a finding means for the map's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Meaning {
    /// Nothing synced is affected, and the map opens as it is.
    Harmless = 0,
    /// Nothing is lost; a repair mends it.
    Repairable = 1,
    /// Something that was acknowledged and synced is lost.
    Lost = 2,
}

impl Meaning {
    /// One word, as tools print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Repairable => "repairable",
            Self::Lost => "lost",
        }
    }
}

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, or the directory that lacks one.
    pub path: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Bytes from there on that it is about; 0 for the file as a whole.
    pub length: u64,
    /// Of what kind.
    pub kind: FindingKind,
    /// What it means.
    pub meaning: Meaning,
    /// The reason and the consequence in words.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, kind, meaning) = (self.path.display(), self.kind.name(), self.meaning.name());
        write!(f, "{path} at {}: {kind}, {meaning}: {}", self.offset, self.text)
    }
}

/// What a check counted. Bytes are those of records with their rounding, without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Directories of the map.
    pub directories: u64,
    /// Segments that are part of the log.
    pub segments: u64,
    /// Of those, the ones with a summary that agrees with them.
    pub summaries: u64,
    /// Intact records of every kind.
    pub records: u64,
    /// Keys that the map has when it is opened.
    pub live: u64,
    /// Intact records that the map does not need: superseded ones, deletions and deleted ones.
    pub dead: u64,
    /// Bytes of the records that hold the live keys.
    pub live_bytes: u64,
    /// Bytes of all other intact records.
    pub dead_bytes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Everything that is not as it was written.
    pub findings: Vec<Finding>,
    /// What was counted.
    pub totals: Totals,
    /// True if the check was interrupted: findings and totals are those up to then.
    pub interrupted: bool,
}

impl Report {
    /// The gravest meaning of a finding.
    #[must_use]
    pub fn worst(&self) -> Meaning {
        self.findings.iter().map(|finding| finding.meaning).max().unwrap_or(Meaning::Harmless)
    }
}
