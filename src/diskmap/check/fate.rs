//! What damage means: which records stood there, whether anything of the map's content went with
//! them, and what has to stand there instead.
//!
//! A record that is lost must not give an older one of its key back its life. Where the lost record
//! was the newest, a deletion of its key takes its place; the key comes from the older record. A
//! lost deletion, or a lost commit of a long record that is intact, is made again.

use std::collections::HashMap;
use std::ops::Range;

use super::context::Context;
use super::lane::{Checked, Lane, Lost, bytes_of, is_value};
use super::report::{FindingKind, Meaning};
use super::segment::{KEY_BYTES_MAX, KeyBytes};
use super::summary::Item;
use crate::diskmap::log::record::Kind;
use crate::{Error, Result};

/// What goes where damage is, or where a commit is of no use any more.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    pub(super) units: Range<u32>,
    /// Records at their first units; what is left is padding.
    pub(super) records: Vec<Again>,
}

/// A record that is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    pub(super) unit: u32,
    pub(super) kind: Kind,
    pub(super) key: KeyBytes,
    pub(super) target: u64,
}

/// What is lost with a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    /// Position in the lane's segments.
    pub(super) segment: usize,
    pub(super) units: Range<u32>,
    /// Keys whose value is lost; none if that is not known.
    pub(super) values: Option<u64>,
    pub(super) text: String,
}

/// What is to be done in a lane's segments.
#[derive(Debug, Default)]
pub(super) struct Fates {
    /// By position in the lane's segments.
    pub(super) patches: HashMap<usize, Vec<Patch>>,
    pub(super) gone: Vec<Gone>,
}

/// One record of a key, intact or lost.
#[derive(Debug, Clone, Copy)]
struct Version {
    seq: u64,
    segment: usize,
    item: Item,
    /// The bytes at a lost one's key; outer none for an intact one.
    lost: Option<Option<KeyBytes>>,
}

/// What has become of a key with a lost record.
enum Fate {
    /// The lost ones were superseded.
    Nothing,
    /// This record has to stand there again, and nothing is lost.
    Again(Again),
    /// The value is lost; a deletion keeps older ones away, where there are any.
    Value(Option<Again>),
    /// The key is not certain.
    Unknown,
}

/// A record while live ones are counted.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u128,
    seq: u64,
    target: u64,
    units: u32,
    /// Position in the lane's segments.
    segment: u32,
    kind: Kind,
}

/// Counts live and dead records of a lane. Returns the newest commits whose long record is not
/// there: the position of their segment, and the record.
pub(super) fn count(context: &mut Context<'_>, lane: &Lane) -> Result<Vec<(usize, Item)>> {
    let records: u64 = lane.segments.iter().map(|segment| segment.records).sum();
    let bytes = records * size_of::<Entry>() as u64;
    let parts = bytes.div_ceil(context.memory_bytes.max(1 << 20)).max(1);
    let mut dangling = Vec::new();
    for part in 0..parts {
        count_part(context, lane, (part, parts), records / parts, &mut dangling)?;
    }
    Ok(dangling)
}

/// Counts one part of the keys, of which it has about `expected` records.
fn count_part(
    context: &mut Context<'_>,
    lane: &Lane,
    (part, parts): (u64, u64),
    expected: u64,
    dangling: &mut Vec<(usize, Item)>,
) -> Result<()> {
    // The lower half of the hash chooses the directory, the upper one the part.
    let is_in = |hash: u128| ((hash >> 64) * u128::from(parts)) >> 64 == u128::from(part);
    let mut found: Vec<Entry> = Vec::new();
    // Parts differ by a few in a thousand; a little room keeps it from growing.
    let capacity = expected + expected / 64 + 1024;
    found.try_reserve_exact(capacity as usize).map_err(|_| Error::OutOfMemory {
        what: "the check of a map",
        bytes: capacity * size_of::<Entry>() as u64,
        available: u64::MAX,
    })?;
    let mut longs: HashMap<u64, Item> = HashMap::new();
    let mut all_bytes = 0;
    for (position, segment) in lane.segments.iter().enumerate() {
        segment.records(context, &lane.files, &mut |item| {
            if !is_in(item.hash) {
                return;
            }
            let Item { hash, unit, units, kind, target } = *item;
            all_bytes += u64::from(units) * 16;
            let seq = segment.id.seq(unit);
            if kind == Kind::Long {
                longs.insert(seq, *item);
            } else {
                found.push(Entry { hash, seq, target, units, segment: position as u32, kind });
            }
        })?;
    }
    let total = (found.len() + longs.len()) as u64;
    found.sort_unstable_by_key(|entry| (entry.hash, entry.seq));
    let (mut live, mut live_records, mut live_bytes) = (0, 0, 0);
    for versions in found.chunk_by(|a, b| a.hash == b.hash) {
        let Some(newest) = versions.last() else { continue };
        let long = longs.get(&newest.target).filter(|long| long.hash == newest.hash);
        match (newest.kind, long) {
            (Kind::Put, _) => {
                (live, live_records) = (live + 1, live_records + 1);
                live_bytes += u64::from(newest.units) * 16;
            }
            (Kind::Commit, Some(long)) => {
                (live, live_records) = (live + 1, live_records + 2);
                live_bytes += u64::from(newest.units + long.units) * 16;
            }
            (Kind::Commit, None) => {
                let Entry { hash, seq, target, units, segment, kind } = *newest;
                let position = segment as usize;
                let unit = (seq - lane.segments[position].id.seq(0)) as u32;
                dangling.push((position, Item { hash, unit, units, kind, target }));
            }
            _ => {}
        }
    }
    context.totals.live += live;
    context.totals.dead += total - live_records;
    context.totals.live_bytes += live_bytes;
    context.totals.dead_bytes += all_bytes - live_bytes;
    Ok(())
}

/// Decides about all damage of a lane and reports it.
pub(super) fn decide(
    context: &mut Context<'_>,
    lane: &Lane,
    dangling: &[(usize, Item)],
) -> Result<Fates> {
    let mut fates = Fates::default();
    if dangling.is_empty() && lane.segments.iter().all(|segment| segment.damage.is_empty()) {
        return Ok(fates);
    }
    let versions = versions(context, lane, dangling)?;
    for (position, segment) in lane.segments.iter().enumerate() {
        for (number, damage) in segment.damage.iter().enumerate() {
            let mut patch = Patch { units: damage.units.clone(), records: Vec::new() };
            let mut tally = Tally::default();
            for lost in &damage.lost {
                let fate = fate(context, lane, &versions, position, lost)?;
                tally.add(&fate);
                if let Fate::Again(again) | Fate::Value(Some(again)) = fate {
                    patch.records.push(again);
                }
            }
            tally.unknown += u64::from(!damage.is_known && damage.lost.is_empty());
            let text = format!("{}; {}", damage.reason, tally.describe());
            let kind = if segment.exists {
                FindingKind::RecordDamaged
            } else {
                FindingKind::SegmentMissing
            };
            let meaning = tally.meaning();
            // A missing file is one finding, however it is patched.
            let bytes = if segment.exists { bytes_of(&damage.units) } else { 0..0 };
            debug_assert!(segment.exists || number == 0);
            context.find(&segment.path, bytes, kind, meaning, &text);
            if meaning == Meaning::Lost {
                let values = (tally.unknown == 0).then_some(tally.values);
                let units = damage.units.clone();
                fates.gone.push(Gone { segment: position, units, values, text: tally.describe() });
            }
            fates.patches.entry(position).or_default().push(patch);
        }
    }
    for (position, commit) in dangling {
        withdraw(context, lane, *position, commit, &mut fates)?;
    }
    Ok(fates)
}

/// A commit of a long record that is lost: its key's deletion takes its place.
fn withdraw(
    context: &mut Context<'_>,
    lane: &Lane,
    position: usize,
    commit: &Item,
    fates: &mut Fates,
) -> Result<()> {
    let segment = &lane.segments[position];
    let units = commit.unit..commit.unit + commit.units;
    let text = "it commits a long record that is not there: the value of one key is lost";
    let kind = FindingKind::CommitDangling;
    context.find(&segment.path, bytes_of(&units), kind, Meaning::Lost, text);
    let (values, text) = (Some(1), text.to_owned());
    fates.gone.push(Gone { segment: position, units: units.clone(), values, text });
    let key = segment.key(context, commit.unit)?.unwrap_or([0; KEY_BYTES_MAX]);
    let again = Again { unit: commit.unit, kind: Kind::Tombstone, key, target: 0 };
    let patch = Patch { units, records: vec![again] };
    fates.patches.entry(position).or_default().push(patch);
    Ok(())
}

/// All records of the keys that have lost ones, by hash, each in the order of the log.
fn versions(
    context: &mut Context<'_>,
    lane: &Lane,
    dangling: &[(usize, Item)],
) -> Result<HashMap<u128, Vec<Version>>> {
    let mut versions: HashMap<u128, Vec<Version>> = HashMap::new();
    for (_, commit) in dangling {
        versions.entry(commit.hash).or_default();
    }
    for (position, segment) in lane.segments.iter().enumerate() {
        for lost in segment.damage.iter().flat_map(|damage| &damage.lost) {
            let seq = segment.id.seq(lost.item.unit);
            let (item, lost) = (lost.item, Some(lost.guess));
            let version = Version { seq, segment: position, item, lost };
            versions.entry(item.hash).or_default().push(version);
        }
    }
    for (position, segment) in lane.segments.iter().enumerate() {
        segment.records(context, &lane.files, &mut |item| {
            if let Some(of_key) = versions.get_mut(&item.hash) {
                let seq = segment.id.seq(item.unit);
                of_key.push(Version { seq, segment: position, item: *item, lost: None });
            }
        })?;
    }
    for of_key in versions.values_mut() {
        of_key.sort_unstable_by_key(|version| version.seq);
    }
    Ok(versions)
}

fn fate(
    context: &Context<'_>,
    lane: &Lane,
    versions: &HashMap<u128, Vec<Version>>,
    position: usize,
    lost: &Lost,
) -> Result<Fate> {
    let of_key = versions.get(&lost.item.hash).map(Vec::as_slice).unwrap_or_default();
    let seq = lane.segments[position].id.seq(lost.item.unit);
    // A key that other records have is not one that damage has made up.
    let is_certain = lost.guess.is_none() || of_key.iter().any(|version| version.lost.is_none());
    if !is_certain {
        return Ok(Fate::Unknown);
    }
    if lost.item.kind == Kind::Long {
        // Its commit decides: lost beside it, or dangling.
        return Ok(Fate::Nothing);
    }
    let ruling = || of_key.iter().filter(|version| version.item.kind != Kind::Long);
    if ruling().any(|version| version.seq > seq) {
        return Ok(Fate::Nothing);
    }
    let again = |kind, target, from: &Version| -> Result<Option<Again>> {
        let key = lane.segments[from.segment].key(context, from.item.unit)?;
        Ok(key.map(|key| Again { unit: lost.item.unit, kind, key, target }))
    };
    if lost.item.kind == Kind::Commit {
        let is_long = |version: &&Version| {
            version.lost.is_none()
                && version.item.kind == Kind::Long
                && version.seq == lost.item.target
        };
        if let Some(long) = of_key.iter().find(is_long) {
            let made = again(Kind::Commit, lost.item.target, long)?;
            return Ok(made.map_or(Fate::Unknown, Fate::Again));
        }
    }
    let older = ruling().rfind(|version| version.lost.is_none() && version.seq < seq);
    let deletion = match older.filter(|version| is_value(version.item.kind)) {
        Some(older) => again(Kind::Tombstone, 0, older)?,
        None => None,
    };
    // What kind of record it was is certain only if a summary says so.
    if lost.item.kind == Kind::Tombstone && lost.guess.is_none() {
        return Ok(deletion.map_or(Fate::Nothing, Fate::Again));
    }
    Ok(Fate::Value(deletion))
}

/// How many records of a damaged place have which fate.
#[derive(Default)]
struct Tally {
    nothing: u64,
    again: u64,
    values: u64,
    unknown: u64,
}

impl Tally {
    const fn add(&mut self, fate: &Fate) {
        match fate {
            Fate::Nothing => self.nothing += 1,
            Fate::Again(_) => self.again += 1,
            Fate::Value(_) => self.values += 1,
            Fate::Unknown => self.unknown += 1,
        }
    }

    const fn meaning(&self) -> Meaning {
        if self.values + self.unknown > 0 { Meaning::Lost } else { Meaning::Repairable }
    }

    fn describe(&self) -> String {
        let mut parts = Vec::new();
        if self.nothing > 0 {
            parts.push(format!("{} superseded records", self.nothing));
        }
        if self.again > 0 {
            parts.push(format!("{} deletions or commits that can be made again", self.again));
        }
        if self.values > 0 {
            parts.push(format!("the values of {} keys are lost", self.values));
        }
        if self.unknown > 0 {
            parts.push(
                "records of keys that are not known are lost; if such a key had an older value or \
                 was deleted here, the older value comes back"
                    .to_owned(),
            );
        }
        if parts.is_empty() { "no record stood there".to_owned() } else { parts.join("; ") }
    }
}

impl Checked {
    /// Whether a patch or a header has to be written.
    pub(super) fn needs_rewrite(&self, position: usize, fates: &Fates) -> bool {
        self.is_damaged() || fates.patches.contains_key(&position)
    }
}
