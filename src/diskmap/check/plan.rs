//! What a repair would do.
//!
//! It changes bytes only where damage is, keeps every intact record at its place with its number,
//! and puts what it replaces aside under another name; it removes nothing but files of its own that
//! it had not finished.

use std::fmt;
use std::path::PathBuf;

use super::fate::{Fates, Patch};
use super::lane::{Checked, Lane, bytes_of};
use super::report::Report;
use super::segment::SegmentId;
use super::store::{Dir, Origin};
use crate::diskmap::durable::Manifest;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// A segment is written anew, damage replaced; the old file is put aside.
    RewriteSegment = 1,
    /// A summary is made from its segment; an old one is put aside.
    RewriteSummary = 2,
    /// A manifest is written; a damaged one is put aside.
    RewriteManifest = 3,
    /// A file that keeps the map from opening gets another name.
    SetAside = 4,
    /// What an interrupted repair had finished goes to its place.
    PutInPlace = 5,
}

impl Action {
    /// One word with dashes, as tools print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RewriteSegment => "rewrite-segment",
            Self::RewriteSummary => "rewrite-summary",
            Self::RewriteManifest => "rewrite-manifest",
            Self::SetAside => "set-aside",
            Self::PutInPlace => "put-in-place",
        }
    }
}

/// One step of a repair. It can be interrupted between steps and within one, and done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// To which file.
    pub path: PathBuf,
    /// In words.
    pub text: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.action.name(), self.path.display(), self.text)
    }
}

/// Something acknowledged and synced that is lost, whatever a repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The file it was in.
    pub path: PathBuf,
    /// Where, in bytes.
    pub offset: u64,
    /// How many bytes; 0 for the file as a whole.
    pub length: u64,
    /// How many keys lose their value; `None` if that is not known.
    pub keys: Option<u64>,
    /// In words.
    pub text: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.path.display(), self.offset, self.text)
    }
}

/// What a repair would do and what is lost.
#[derive(Debug, Default)]
pub struct Plan {
    /// What the check found.
    pub report: Report,
    /// What would be done, in this order. Empty if nothing has to be.
    pub steps: Vec<Step>,
    /// What a repair cannot bring back. It is done only with consent to that.
    pub losses: Vec<Loss>,
    /// One for each step.
    pub(super) work: Vec<Work>,
}

/// A step with what it needs.
#[derive(Debug)]
pub(super) enum Work {
    Segment(SegmentWork),
    Summary(SegmentWork),
    Manifest { directory: PathBuf, manifest: Manifest },
    SetAside(PathBuf),
    PutInPlace(PathBuf),
}

/// A segment's file, or its summary's, as it has to be.
#[derive(Debug)]
pub(super) struct SegmentWork {
    pub(super) id: SegmentId,
    pub(super) path: PathBuf,
    pub(super) exists: bool,
    /// Where its records end.
    pub(super) end: u32,
    /// The end in its summary; none if it is to have no summary.
    pub(super) summary_end: Option<u32>,
    pub(super) patches: Vec<Patch>,
}

impl SegmentWork {
    fn new(segment: &Checked, patches: Vec<Patch>) -> Self {
        Self {
            id: segment.id,
            path: segment.path.clone(),
            exists: segment.exists,
            end: segment.end,
            summary_end: segment.complete.then_some(segment.claimed),
            patches,
        }
    }
}

impl Plan {
    fn step(&mut self, action: Action, path: PathBuf, text: impl Into<String>, work: Work) {
        self.steps.push(Step { action, path, text: text.into() });
        self.work.push(work);
    }

    /// Adds what one directory needs.
    pub(super) fn add(&mut self, dir: &Dir, lane: &Lane, mut fates: Fates) {
        for path in &lane.foreign {
            let text = "it is no part of this directory's log; its content is not in the map";
            self.losses.push(Loss {
                path: path.clone(),
                offset: 0,
                length: 0,
                keys: None,
                text: text.to_owned(),
            });
            let text = "renamed aside: it keeps the map from opening";
            self.step(Action::SetAside, path.clone(), text, Work::SetAside(path.clone()));
        }
        for gone in &fates.gone {
            let segment = &lane.segments[gone.segment];
            let bytes = bytes_of(&gone.units);
            self.losses.push(Loss {
                path: segment.path.clone(),
                offset: bytes.start,
                length: bytes.end - bytes.start,
                keys: gone.values,
                text: gone.text.clone(),
            });
        }
        for (position, segment) in lane.segments.iter().enumerate() {
            self.add_segment(position, segment, &mut fates);
        }
        self.add_manifest(dir);
    }

    fn add_segment(&mut self, position: usize, segment: &Checked, fates: &mut Fates) {
        let path = segment.path.clone();
        if segment.is_waiting {
            let text = "an interrupted repair has written it; it goes to its place";
            self.step(Action::PutInPlace, path.clone(), text, Work::PutInPlace(path));
        } else if segment.needs_rewrite(position, fates) {
            let mut patches = fates.patches.remove(&position).unwrap_or_default();
            patches.sort_by_key(|patch| patch.units.start);
            let again: usize = patches.iter().map(|patch| patch.records.len()).sum();
            let text = format!(
                "{}, {} places made padding, {again} deletions or commits made; {} records stay",
                if segment.exists { "written anew beside the old one" } else { "made again" },
                patches.len(),
                segment.records
            );
            let work = Work::Segment(SegmentWork::new(segment, patches));
            self.step(Action::RewriteSegment, path, text, work);
        } else if segment.complete && !segment.is_summarized {
            let text = format!("made from the {} records of the segment", segment.records);
            let work = Work::Summary(SegmentWork::new(segment, Vec::new()));
            self.step(Action::RewriteSummary, super::summary::path(&path), text, work);
        }
    }

    fn add_manifest(&mut self, dir: &Dir) {
        if dir.origin == Origin::File {
            return;
        }
        let path = dir.path.join("MANIFEST");
        let text = match dir.origin {
            Origin::Corrected => "the flipped bit, or the length, corrected",
            _ => "made from other directories and the segments that are there",
        };
        if dir.origin == Origin::Segments {
            self.losses.push(Loss {
                path: path.clone(),
                offset: 0,
                length: 0,
                keys: None,
                text: "which segments were in force is not known: what was deleted, overwritten \
                       or cleared may come back if a file that was given up is still there, and \
                       damage at a segment's end passes for its end"
                    .to_owned(),
            });
        }
        let (directory, manifest) = (dir.path.clone(), dir.manifest.clone());
        self.step(Action::RewriteManifest, path, text, Work::Manifest { directory, manifest });
    }
}
