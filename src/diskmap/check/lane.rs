//! One directory: its files held against its manifest, each segment that is part of the log read
//! record by record, each summary held against its segment.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::context::{Context, note_slack};
use super::reader::Reader;
use super::report::{FindingKind, Meaning};
use super::ring;
use super::segment::{FIRST_UNIT, KeyBytes, Part, Record, Scan, SegmentId, tolerate};
use super::summary::{self, Item, Opened, Summary};
use crate::Result;
use crate::diskmap::durable::{Manifest, parse_name};
use crate::diskmap::log::record::{Kind, UNIT_BYTES};

const UNIT: u64 = UNIT_BYTES as u64;
/// Ending of a segment, or summary, that a repair has written and not yet put in its place.
pub(super) const REPAIRED: &str = "repaired";

/// A directory whose manifest is known.
pub(super) struct Lane {
    pub(super) directory: PathBuf,
    pub(super) manifest: Manifest,
    /// Part of the log, by ascending incarnation.
    pub(super) segments: Vec<Checked>,
    /// Segments that keep the map from opening.
    pub(super) foreign: Vec<PathBuf>,
    pub(super) files: Vec<PathBuf>,
}

/// A segment of the log.
pub(super) struct Checked {
    pub(super) id: SegmentId,
    pub(super) path: PathBuf,
    /// Up to here the manifest says that everything is a record; 0 for a segment it does not name.
    pub(super) claimed: u32,
    /// Nothing follows behind that.
    pub(super) complete: bool,
    pub(super) exists: bool,
    /// A repair was interrupted before it put the file in its place.
    pub(super) is_waiting: bool,
    pub(super) header_matches: bool,
    /// Where its records end.
    pub(super) end: u32,
    pub(super) records: u64,
    pub(super) damage: Vec<Damage>,
    /// Of a complete segment: it has a summary that agrees with it.
    pub(super) is_summarized: bool,
    /// The log goes on in the next segment.
    is_ended: bool,
    /// Gaps behind what was synced are in a ring.
    has_ring: bool,
}

/// Units that were synced and are no record.
pub(super) struct Damage {
    pub(super) units: Range<u32>,
    pub(super) reason: String,
    /// The records that stood there.
    pub(super) lost: Vec<Lost>,
    /// Where the summary, or the padding that is still recognized, says so, `lost` is exact.
    pub(super) is_known: bool,
}

/// A record that cannot be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost {
    pub(super) item: Item,
    /// The key's bytes as they stand there, of a record that no summary names.
    pub(super) guess: Option<KeyBytes>,
}

impl Lane {
    /// Looks at everything in a directory.
    pub(super) fn check(
        context: &mut Context<'_>,
        directory: &Path,
        manifest: Manifest,
        files: Vec<PathBuf>,
    ) -> Result<Self> {
        let mut lane = Self {
            directory: directory.to_owned(),
            manifest,
            segments: Vec::new(),
            foreign: Vec::new(),
            files,
        };
        let mut found = lane.sort_files(context);
        let mut is_open = true;
        for entry in lane.manifest.entries.clone() {
            found.remove(&entry.incarnation);
            let segment =
                lane.check_segment(context, entry.incarnation, entry.end_units, entry.complete)?;
            // Recovery goes on in the next segment only if this one has an end.
            is_open = segment.is_ended;
            lane.segments.push(segment);
        }
        let last = lane.manifest.entries.last();
        let mut next = match last {
            Some(entry) if !entry.complete => entry.incarnation + 1,
            _ => lane.manifest.open_from,
        };
        while is_open && found.remove(&next).is_some() {
            let segment = lane.check_segment(context, next, 0, false)?;
            is_open = segment.is_ended;
            if segment.end > FIRST_UNIT {
                lane.segments.push(segment);
            }
            next += 1;
        }
        let open_from = lane.manifest.open_from;
        for (incarnation, path) in found {
            let text = if incarnation < open_from {
                "the manifest has left it out; the next opening removes it"
            } else if lane.manifest.ring != 0 {
                "nothing from here on was synced; opening fills the gap before it from the ring"
            } else {
                "it lies behind the end of the log, was never synced, and is removed at opening"
            };
            context.find(&path, 0..0, FindingKind::SegmentLeftover, Meaning::Harmless, text);
        }
        Ok(lane)
    }

    const fn id(&self, incarnation: u64) -> SegmentId {
        self.id_of(self.manifest.generation, incarnation)
    }

    const fn id_of(&self, generation: u64, incarnation: u64) -> SegmentId {
        SegmentId {
            identity: self.manifest.identity,
            generation,
            lane: self.manifest.position,
            incarnation,
        }
    }

    /// The segments of the generation in force; says what all other files are.
    fn sort_files(&mut self, context: &mut Context<'_>) -> BTreeMap<u64, PathBuf> {
        let mut found = BTreeMap::new();
        let (position, generation) = (u64::from(self.manifest.position), self.manifest.generation);
        for path in self.files.clone() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some((lane, of, incarnation)) = parse_name(&path) {
                let kind = FindingKind::SegmentForeign;
                if lane != position || of > generation {
                    let text = "a segment of another directory or of a newer state of the map \
                                keeps the map from opening; the directories are not of one copy";
                    context.find(&path, 0..0, kind, Meaning::Lost, text);
                    self.foreign.push(path);
                } else if path != self.id_of(of, incarnation).path(&self.directory) {
                    let text = "the name is not how the map writes it, but would be taken for it";
                    context.find(&path, 0..0, kind, Meaning::Repairable, text);
                    self.foreign.push(path);
                } else if of < generation {
                    let text = "of content that was cleared; the next opening removes it";
                    let kind = FindingKind::SegmentLeftover;
                    context.find(&path, 0..0, kind, Meaning::Harmless, text);
                } else {
                    found.insert(incarnation, path);
                }
            } else if self.means_nothing(&path, &name) {
                let text = "a file that means nothing to the map";
                context.find(&path, 0..0, FindingKind::FileLeftover, Meaning::Harmless, text);
            }
        }
        found
    }

    fn means_nothing(&self, path: &Path, name: &str) -> bool {
        let of_segment = |ending: &str| {
            let segment = path.with_extension(ending);
            self.files.contains(&segment)
                || parse_name(&segment).is_some_and(|(_, generation, incarnation)| {
                    let mut entries = self.manifest.entries.iter();
                    generation == self.manifest.generation
                        && entries.any(|entry| entry.incarnation == incarnation)
                })
        };
        match name {
            "MANIFEST" | "LOCK" => false,
            _ if self.manifest.ring != 0 && name == ring::name(&self.manifest) => false,
            _ if name.ends_with(".sum") => !of_segment("seg"),
            _ => true,
        }
    }

    fn check_segment(
        &self,
        context: &mut Context<'_>,
        incarnation: u64,
        claimed: u32,
        complete: bool,
    ) -> Result<Checked> {
        let id = self.id(incarnation);
        let path = id.path(&self.directory);
        let mut segment = Checked {
            exists: self.files.contains(&path),
            id,
            path,
            claimed,
            complete,
            is_waiting: false,
            header_matches: true,
            end: claimed.max(FIRST_UNIT),
            records: 0,
            damage: Vec::new(),
            is_summarized: false,
            is_ended: complete,
            has_ring: self.manifest.ring != 0,
        };
        let opened = if complete {
            Summary::open(context.storage, &segment.path, &self.files, &id, claimed)?
        } else {
            Opened::Missing
        };
        let mut summary = match opened {
            Opened::Intact(summary, slack) => {
                if let Some(at) = slack {
                    note_slack(context, &summary::path(&segment.path), at..at + 1);
                }
                Some(summary)
            }
            Opened::Missing => {
                if complete {
                    let text = "there is no summary; opening reads the segment instead";
                    let kind = FindingKind::SummaryMissing;
                    context.find(&segment.path, 0..0, kind, Meaning::Harmless, text);
                }
                None
            }
            Opened::Damaged(reason) => {
                let text = format!("{reason}; opening passes it over and reads the segment");
                let (path, kind) = (summary::path(&segment.path), FindingKind::SummaryDamaged);
                context.find(&path, 0..0, kind, Meaning::Repairable, &text);
                None
            }
        };
        if !segment.exists && self.is_waiting(context, &segment)? {
            segment.is_waiting = true;
            let text = "an interrupted repair has written it anew and not put it in its place; \
                        repair again";
            let kind = FindingKind::SegmentMissing;
            context.find(&segment.path, 0..0, kind, Meaning::Repairable, text);
        } else {
            segment.read(context, &mut summary)?;
        }
        if let Some(mut summary) = summary {
            segment.is_summarized = !segment.is_waiting;
            context.advance(summary.take_read_bytes())?;
        }
        context.totals.segments += 1;
        context.totals.summaries += u64::from(segment.is_summarized);
        Ok(segment)
    }

    /// Whether a repair's file is there and whole.
    fn is_waiting(&self, context: &mut Context<'_>, segment: &Checked) -> Result<bool> {
        let path = segment.path.with_extension(format!("seg.{REPAIRED}"));
        if !self.files.contains(&path) {
            return Ok(false);
        }
        let Ok(mut reader) = tolerate(Reader::open(context.storage, &path))? else {
            return Ok(false);
        };
        let mut scan = Scan::new(&mut reader, &segment.id);
        let mut whole = scan.header_matches()?;
        scan.claimed(FIRST_UNIT..segment.end, &mut |_, part| {
            whole &= !matches!(part, Part::Damage(..));
            Ok(())
        })?;
        Ok(whole)
    }
}

impl Checked {
    /// The file that holds its records.
    pub(super) fn file(&self) -> PathBuf {
        if self.is_waiting {
            self.path.with_extension(format!("seg.{REPAIRED}"))
        } else {
            self.path.clone()
        }
    }

    /// Reads the file; a missing one is damage from the first record to the last.
    fn read(&mut self, context: &mut Context<'_>, summary: &mut Option<Summary>) -> Result<()> {
        let opened = if self.exists {
            tolerate(Reader::open(context.storage, &self.path))?.map_err(|error| error.to_string())
        } else {
            Err("the segment is missing".to_owned())
        };
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(reason) => {
                let units = FIRST_UNIT..self.end;
                let damage = self.damage_from_summary(units, reason, summary)?;
                self.damage.extend(damage);
                return Ok(());
            }
        };
        let id = self.id;
        let mut scan = Scan::new(&mut reader, &id);
        self.header_matches = scan.header_matches()?;
        let is_claimed = self.claimed > 0;
        if !self.header_matches && !is_claimed {
            self.end = FIRST_UNIT;
            if reader.not_zero(0, u64::from(id.units()) * UNIT)?.is_some() {
                let text = "no segment of this map begins here: the log ends before it";
                context.find(&self.path, 0..4096, FindingKind::TornEnd, Meaning::Harmless, text);
            }
            return context.advance(reader.take_read_bytes());
        }
        if !self.header_matches {
            let text =
                "the header is not the one that was written; its records tell for themselves";
            let kind = FindingKind::SegmentHeader;
            context.find(&self.path, 0..4096, kind, Meaning::Repairable, text);
        }
        let claimed = FIRST_UNIT..self.end;
        let mut end = scan.claimed(claimed.clone(), &mut |reader, part| {
            self.visit(context, reader, part, summary)
        })?;
        if summary.as_ref().is_some_and(|summary| !summary.is_at_end()) {
            *summary = self.disagrees(context);
        }
        if !self.complete && end == claimed.end {
            let mut scan = Scan::new(&mut reader, &id);
            let (open_end, is_ended) = scan
                .unclaimed(end, &mut |reader, part| self.visit(context, reader, part, &mut None))?;
            end = open_end;
            self.end = end;
            self.is_ended = is_ended;
        } else {
            self.is_ended = true;
        }
        self.report_rest(context, &mut reader, end)?;
        context.advance(reader.take_read_bytes())
    }

    /// Says what lies behind the end.
    fn report_rest(&self, context: &mut Context<'_>, reader: &mut Reader, end: u32) -> Result<()> {
        let segment_bytes = self.id.identity.segment_bytes;
        let file_bytes = reader.file_bytes();
        if file_bytes != segment_bytes {
            let text = "the file is not as long as a segment; no record is missing";
            let (range, kind) = (file_bytes..file_bytes, FindingKind::Slack);
            context.find(&self.path, range, kind, Meaning::Harmless, text);
        }
        let (from, to) = (u64::from(end) * UNIT, segment_bytes);
        let Ok(Some((first, last))) = tolerate(reader.not_zero(from, to))? else { return Ok(()) };
        if self.is_ended {
            note_slack(context, &self.path, first..last + 1);
        } else {
            let text = if self.has_ring {
                "what follows is no record yet; nothing from here on was synced, and opening \
                 completes it from the ring"
            } else {
                "the log ends here at something that is no record; nothing from here on was \
                 synced, and opening leaves it out"
            };
            let (range, kind) = (from..last + 1, FindingKind::TornEnd);
            context.find(&self.path, range, kind, Meaning::Harmless, text);
        }
        Ok(())
    }

    fn visit(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut Reader,
        part: Part<'_>,
        summary: &mut Option<Summary>,
    ) -> Result<()> {
        match part {
            Part::Record(record) => self.visit_record(context, record, summary)?,
            Part::Damage(units, reason) => {
                let damage =
                    match self.damage_from_summary(units.clone(), reason.clone(), summary)? {
                        Some(damage) => damage,
                        None => Damage {
                            is_known: Scan::new(reader, &self.id).was_filler(&units)?.is_some(),
                            lost: self.guess(context, reader, &units)?,
                            units,
                            reason,
                        },
                    };
                self.damage.push(damage);
            }
            Part::Slack(range) => note_slack(context, &self.path, range),
        }
        context.advance(reader.take_read_bytes())
    }

    fn visit_record(
        &mut self,
        context: &mut Context<'_>,
        record: &Record,
        summary: &mut Option<Summary>,
    ) -> Result<()> {
        let item = context.item(record);
        self.records += 1;
        context.totals.records += 1;
        let lane = context.lane_of(item.hash);
        if lane != self.id.lane {
            let at = u64::from(record.unit) * UNIT;
            let text = format!("the record's key belongs to directory {lane}");
            let (range, kind) =
                (at..at + u64::from(record.units) * UNIT, FindingKind::WrongDirectory);
            context.find(&self.path, range, kind, Meaning::Lost, &text);
        }
        if let Some(there) = summary {
            let expected = tolerate(there.peek())?.ok().flatten();
            if expected == Some(item) {
                there.take();
            } else {
                *summary = self.disagrees(context);
            }
        }
        Ok(())
    }

    /// The summary is not believed any more, nor what it said before.
    fn disagrees(&mut self, context: &mut Context<'_>) -> Option<Summary> {
        for damage in &mut self.damage {
            damage.is_known = false;
            damage.lost.clear();
        }
        let text = "the summary says something else than the segment; opening would believe it";
        let (path, kind) = (summary::path(&self.path), FindingKind::SummaryMismatch);
        context.find(&path, 0..0, kind, Meaning::Repairable, text);
        None
    }

    /// What stood at damaged units, if there is a summary to say so.
    fn damage_from_summary(
        &self,
        units: Range<u32>,
        reason: String,
        summary: &mut Option<Summary>,
    ) -> Result<Option<Damage>> {
        let Some(there) = summary else {
            // Of a segment that is not there nothing can be guessed.
            return Ok((!self.exists).then(|| Damage {
                units,
                reason,
                lost: Vec::new(),
                is_known: false,
            }));
        };
        let mut lost = Vec::new();
        while let Some(item) = tolerate(there.peek())?.ok().flatten() {
            if item.unit >= units.end {
                break;
            }
            there.take();
            lost.push(Lost { item, guess: None });
        }
        Ok(Some(Damage { units, reason, lost, is_known: true }))
    }

    fn guess(
        &self,
        context: &Context<'_>,
        reader: &mut Reader,
        units: &Range<u32>,
    ) -> Result<Vec<Lost>> {
        let records = Scan::new(reader, &self.id).looks_like(units)?.unwrap_or_default();
        let guess = |record: &Record| Lost { item: context.item(record), guess: Some(record.key) };
        Ok(records.iter().map(guess).collect())
    }

    /// Goes through the intact records, in order; only their heads where the summary has them.
    pub(super) fn records(
        &self,
        context: &mut Context<'_>,
        files: &[PathBuf],
        visit: &mut dyn FnMut(&Item),
    ) -> Result<()> {
        if self.records == 0 && !self.is_waiting {
            return Ok(());
        }
        let is_damaged = |unit: u32| self.damage.iter().any(|damage| damage.units.contains(&unit));
        if self.is_summarized
            && let Opened::Intact(mut summary, _) =
                Summary::open(context.storage, &self.path, files, &self.id, self.claimed)?
        {
            while let Some(item) = summary.peek()? {
                summary.take();
                if !is_damaged(item.unit) {
                    visit(&item);
                }
                context.advance(summary.take_read_bytes())?;
            }
            return Ok(());
        }
        let mut reader = Reader::open(context.storage, &self.file())?;
        let id = self.id;
        Scan::new(&mut reader, &id).claimed(FIRST_UNIT..self.end, &mut |reader, part| {
            if let Part::Record(record) = part {
                visit(&context.item(record));
            }
            context.advance(reader.take_read_bytes())
        })?;
        Ok(())
    }

    /// The key of an intact record.
    pub(super) fn key(&self, context: &Context<'_>, unit: u32) -> Result<Option<KeyBytes>> {
        let mut reader = Reader::open(context.storage, &self.file())?;
        Scan::new(&mut reader, &self.id).key_at(unit)
    }

    /// Whether something of it has to be written anew.
    pub(super) fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || (!self.header_matches && self.claimed > 0)
    }
}

/// The bytes of units.
pub(super) fn bytes_of(units: &Range<u32>) -> Range<u64> {
    u64::from(units.start) * UNIT..u64::from(units.end) * UNIT
}

/// Whether a record of this kind sets a value.
pub(super) const fn is_value(kind: Kind) -> bool {
    matches!(kind, Kind::Put | Kind::Commit)
}
