//! The directories of one map, and what their manifests say together. A manifest that is damaged or
//! missing is made again as far as the rest of the map allows.

use std::path::{Path, PathBuf};

use super::context::{Context, note_slack};
use super::reader::Reader;
use super::report::{FindingKind, Meaning};
use super::segment::{FIRST_UNIT, Part, Scan, SegmentId, tolerate};
use crate::diskmap::durable::{Entry, Identity, Manifest, parse_name};
use crate::diskmap::log::segment::SEGMENT_HEADER_BYTES;
use crate::diskmap::space::lanes_of_shards;
use crate::index::SHARDS;
use crate::storage::{DirLock, Storage};
use crate::{Error, Result};

/// What the directories of durable maps are called.
const PREFIX: &str = "blocktier-store-";
/// Up to this length a manifest is searched for one flipped bit.
const CORRECTED_BYTES_MAX: usize = 32 << 10;
const MANIFEST_BYTES_MAX: u64 = 8 << 20;
/// So many records of each segment tell whether directories have the shards that weights give them.
const SAMPLE: u32 = 10_000;

/// One directory of a map.
pub(super) struct Dir {
    pub(super) path: PathBuf,
    pub(super) files: Vec<PathBuf>,
    pub(super) manifest: Manifest,
    /// How the manifest was come by.
    pub(super) origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Read.
    File,
    /// Read, but for a bit or its length.
    Corrected,
    /// From other directories and segments: which segments were in force is not certain.
    Segments,
}

enum Read {
    Intact(Manifest),
    Corrected(Manifest, String),
    Damaged(String),
    Missing,
}

/// The map's own directory in each of `dirs`, which may be those themselves.
pub(super) fn resolve(
    storage: &dyn Storage,
    dirs: &[PathBuf],
    name: Option<&str>,
) -> Result<Vec<PathBuf>> {
    if dirs.is_empty() {
        return Err(Error::InvalidArgument("name the directories of the map".to_owned()));
    }
    let is_store = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
    };
    let one = |dir: &PathBuf| {
        if is_store(dir) {
            return Ok(dir.clone());
        }
        if let Some(name) = name {
            return Ok(dir.join(format!("{PREFIX}{name}")));
        }
        crate::storage::check_directory(dir)?;
        let mut stores = storage.read_dir(dir)?;
        stores.retain(|path| is_store(path));
        match stores.as_slice() {
            [store] => Ok(store.clone()),
            [] => Err(Error::InvalidArgument(format!("{} holds no durable map", dir.display()))),
            _ => Err(Error::InvalidArgument(format!(
                "{} holds {} durable maps: name one of their directories, {PREFIX}*",
                dir.display(),
                stores.len()
            ))),
        }
    };
    let paths = dirs.iter().map(one).collect::<Result<Vec<_>>>()?;
    paths.iter().try_for_each(|path| crate::storage::check_directory(path))?;
    Ok(paths)
}

/// Fails if a living owner has one of the directories.
pub(super) fn refuse_owned(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        if let Some(owner) = DirLock::owner(path)? {
            return Err(Error::Locked { path: path.clone(), owner });
        }
    }
    Ok(())
}

/// Reads all manifests; findings say what is wrong with them. In the order of their positions.
pub(super) fn load(context: &mut Context<'_>, paths: &[PathBuf]) -> Result<Vec<Dir>> {
    let mut read = Vec::with_capacity(paths.len());
    for path in paths {
        let files = context.storage.read_dir(path)?;
        for file in &files {
            let len = context.storage.open_read(file).and_then(|file| file.len());
            context.total_bytes += len.unwrap_or(0);
        }
        read.push((path, files, read_manifest(context, path)?));
    }
    let known = |read: &Read| match read {
        Read::Intact(manifest) | Read::Corrected(manifest, _) => Some(manifest.clone()),
        Read::Damaged(_) | Read::Missing => None,
    };
    let manifests: Vec<_> = read.iter().map(|(.., read)| known(read)).collect();
    let identity = match manifests.iter().flatten().next() {
        Some(manifest) => manifest.identity,
        None => identity_of_segments(context, &read.iter().map(|r| &r.1).collect::<Vec<_>>())?,
    };
    check_set(paths, &manifests, &identity)?;
    let positions = positions(&read.iter().map(|r| &r.1).collect::<Vec<_>>(), &manifests)?;
    let generation = manifests.iter().flatten().map(|manifest| manifest.generation).max();
    let generation = generation.unwrap_or_else(|| newest_generation(&read[0].1));
    let revision = manifests.iter().flatten().map(|manifest| manifest.revision).max().unwrap_or(1);
    // Made as far as some of its directories, before any record: opening makes it again.
    let is_unfinished = manifests.iter().flatten().all(|manifest| manifest.revision == 0)
        && read.iter().all(|r| r.1.iter().all(|path| parse_name(path).is_none()));
    report_manifests(context, &read, revision, is_unfinished);
    let mut dirs = Vec::with_capacity(read.len());
    for (((path, files, found), manifest), position) in
        read.into_iter().zip(manifests).zip(positions)
    {
        let origin = match found {
            Read::Intact(_) => Origin::File,
            Read::Corrected(..) => Origin::Corrected,
            Read::Missing if is_unfinished => Origin::File,
            Read::Damaged(_) | Read::Missing => Origin::Segments,
        };
        let mut manifest = manifest.unwrap_or(Manifest {
            identity,
            position,
            weight: u64::from(is_unfinished),
            generation,
            revision,
            open_from: 0,
            ring: 0,
            entries: Vec::new(),
        });
        if manifest.generation < generation {
            // A clear that got as far as another directory.
            (manifest.generation, manifest.open_from) = (generation, 0);
            manifest.entries.clear();
        }
        dirs.push(Dir { path: path.clone(), files, manifest, origin });
    }
    dirs.sort_by_key(|dir| dir.manifest.position);
    complete(context, &mut dirs)?;
    Ok(dirs)
}

/// Entries and weights of manifests that could not be read.
fn complete(context: &mut Context<'_>, dirs: &mut [Dir]) -> Result<()> {
    let identity = dirs[0].manifest.identity;
    let is_lost = |dir: &Dir| dir.origin == Origin::Segments;
    if dirs.iter().any(is_lost) {
        for dir in dirs.iter_mut().filter(|dir| is_lost(dir)) {
            entries_of_segments(context, dir)?;
        }
        let weights = weights(context, dirs)?;
        for (dir, weight) in dirs.iter_mut().zip(weights) {
            dir.manifest.weight = weight;
        }
    }
    let weights: Vec<u64> = dirs.iter().map(|dir| dir.manifest.weight).collect();
    context.set_identity(&identity, &weights);
    Ok(())
}

fn read_manifest(context: &mut Context<'_>, directory: &Path) -> Result<Read> {
    match Manifest::read(context.storage, directory) {
        Ok(Some(manifest)) => {
            // Behind its end there are zeros.
            let path = directory.join("MANIFEST");
            let mut reader = Reader::open(context.storage, &path)?;
            let stated = reader.at(0, 8)?.and_then(|bytes| bytes.first_chunk());
            let end = 8 + stated.map_or(0, |word| u64::from_le_bytes(*word));
            let file_bytes = reader.file_bytes();
            if let Some((first, last)) = reader.not_zero(end, file_bytes)? {
                note_slack(context, &path, first..last + 1);
            }
            if file_bytes != end.next_multiple_of(4096) {
                let text =
                    "the file is not as long as it was written; what is missing means nothing";
                let (bytes, kind) = (file_bytes..file_bytes, FindingKind::Slack);
                context.find(&path, bytes, kind, Meaning::Harmless, text);
            }
            context.advance(reader.take_read_bytes())?;
            if !is_consistent(&manifest) {
                let reason = "its segments contradict each other".to_owned();
                return Ok(Read::Damaged(reason));
            }
            Ok(Read::Intact(manifest))
        }
        Ok(None) => Ok(Read::Missing),
        // Not that of the manifest: a later look may well succeed.
        Err(error @ Error::Io { op: "read directory", .. }) => Err(error),
        Err(error @ (Error::Unsupported(_) | Error::OutOfMemory { .. })) => {
            corrected(context.storage, directory).map_or(Err(error), |manifest| {
                Ok(Read::Corrected(manifest, "its version is damaged".to_owned()))
            })
        }
        Err(error) => {
            let reason = error.to_string();
            Ok(match corrected(context.storage, directory) {
                Some(manifest) => Read::Corrected(manifest, reason),
                None => Read::Damaged(reason),
            })
        }
    }
}

/// Segments ascend, end within their files, and only the last one is open.
fn is_consistent(manifest: &Manifest) -> bool {
    let units = manifest.identity.segment_bytes / 16;
    let fits =
        |entry: &Entry| (u64::from(FIRST_UNIT)..=units).contains(&u64::from(entry.end_units));
    let entries = &manifest.entries;
    entries.iter().all(fits)
        && entries.is_sorted_by(|a, b| a.incarnation < b.incarnation && a.complete)
}

/// A manifest of which one bit, or the length in front of it, is not what was written. Its checksum
/// tells: it has no other of that length that differs by up to four bits, up to 655 bytes; and what
/// a longer one names is held against the segments.
fn corrected(storage: &dyn Storage, directory: &Path) -> Option<Manifest> {
    let path = directory.join("MANIFEST");
    let mut reader = Reader::open(storage, &path).ok()?;
    let len = reader.file_bytes().min(MANIFEST_BYTES_MAX);
    let mut bytes = Vec::new();
    reader
        .pieces(0, len, |_, piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .ok()?;
    let word = |at: usize| bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word));
    let by_count = word(152)?.checked_mul(16)?.checked_add(156)?;
    let body = |length: u64| bytes.get(8..8 + usize::try_from(length).ok()?);
    if let Some(manifest) = body(by_count).and_then(|body| Manifest::decode(&path, body).ok()) {
        return Some(manifest);
    }
    let mut body = body(word(0)?).filter(|body| body.len() <= CORRECTED_BYTES_MAX)?.to_vec();
    (0..body.len() * 8).find_map(|bit| {
        body[bit / 8] ^= 1 << (bit % 8);
        let manifest = Manifest::decode(&path, &body).ok();
        body[bit / 8] ^= 1 << (bit % 8);
        manifest
    })
}

/// The directories are those of one map, all of them.
fn check_set(paths: &[PathBuf], manifests: &[Option<Manifest>], identity: &Identity) -> Result<()> {
    for (path, manifest) in paths.iter().zip(manifests) {
        if manifest.as_ref().is_some_and(|manifest| manifest.identity != *identity) {
            return Err(Error::InvalidArgument(format!(
                "{} belongs to another map: name the directories of one map",
                path.display()
            )));
        }
    }
    if identity.directories as usize != paths.len() {
        return Err(Error::InvalidArgument(format!(
            "the map has {} directories, {} are named: name all of them and no others",
            identity.directories,
            paths.len()
        )));
    }
    let bytes = identity.segment_bytes;
    let fits = matches!(identity.key_bytes, 32 | 36)
        && bytes.is_power_of_two()
        && ((64 << 10)..=(16 << 30)).contains(&bytes);
    if !fits {
        let text = format!("keys of {} bytes, segments of {bytes} bytes", identity.key_bytes);
        return Err(Error::Unsupported(format!("a map with {text}")));
    }
    Ok(())
}

/// Where each directory stands: as its manifest or its segments say, otherwise where one is
/// missing.
fn positions(files: &[&Vec<PathBuf>], manifests: &[Option<Manifest>]) -> Result<Vec<u32>> {
    let mut positions: Vec<Option<u32>> = Vec::with_capacity(files.len());
    for (files, manifest) in files.iter().zip(manifests) {
        let lane = files.iter().find_map(|path| parse_name(path)).map(|(lane, ..)| lane as u32);
        positions.push(manifest.as_ref().map(|manifest| manifest.position).or(lane));
    }
    let count = positions.len() as u32;
    let mut free: Vec<u32> =
        (0..count).rev().filter(|position| !positions.contains(&Some(*position))).collect();
    let positions: Vec<u32> = positions
        .into_iter()
        .map(|position| position.or_else(|| free.pop()).unwrap_or(0))
        .collect();
    let mut sorted = positions.clone();
    sorted.sort_unstable();
    if sorted != (0..count).collect::<Vec<_>>() {
        let text = format!("the directories stand at {positions:?} in the map: name each one once");
        return Err(Error::InvalidArgument(text));
    }
    Ok(positions)
}

fn report_manifests(
    context: &mut Context<'_>,
    read: &[(&PathBuf, Vec<PathBuf>, Read)],
    revision: u64,
    is_unfinished: bool,
) {
    for (directory, _, read) in read {
        let path = directory.join("MANIFEST");
        let (kind, meaning, text) = match read {
            // A sync that was cut short leaves the next revision in some directories.
            Read::Intact(manifest) if manifest.revision + 1 < revision => {
                let text = format!(
                    "the directory is of an earlier sync than others, revision {} and not \
                     {revision}: it was restored from an older copy",
                    manifest.revision
                );
                (FindingKind::ManifestInconsistent, Meaning::Lost, text)
            }
            Read::Intact(_) => continue,
            Read::Corrected(_, reason) => {
                let text = format!("{reason}; it is one bit, or its length, and can be corrected");
                (FindingKind::ManifestDamaged, Meaning::Repairable, text)
            }
            Read::Damaged(reason) => {
                let text = format!("{reason}; which segments are in force is not certain any more");
                (FindingKind::ManifestDamaged, Meaning::Lost, text)
            }
            Read::Missing if is_unfinished => {
                let text = "there is no manifest yet: opening makes the map that was being made";
                (FindingKind::ManifestMissing, Meaning::Harmless, text.to_owned())
            }
            Read::Missing => {
                let text = "there is no manifest; which segments are in force is not certain";
                (FindingKind::ManifestMissing, Meaning::Lost, text.to_owned())
            }
        };
        context.find(&path, 0..0, kind, meaning, &text);
    }
}

fn newest_generation(files: &[PathBuf]) -> u64 {
    files.iter().filter_map(|path| parse_name(path)).map(|name| name.1).max().unwrap_or(0)
}

/// Who a map of one directory is, from the header of a segment. The secret is drawn anew: it only
/// has to be secret, as summaries are made again.
fn identity_of_segments(context: &Context<'_>, files: &[&Vec<PathBuf>]) -> Result<Identity> {
    let mut secret = [0; 8];
    for word in &mut secret {
        *word = getrandom::u64()
            .map_err(|error| Error::Unsupported(format!("no random numbers: {error}")))?;
    }
    let segments = files[0].iter().filter(|path| parse_name(path).is_some());
    for path in segments.filter(|_| files.len() == 1) {
        let Ok(mut reader) = tolerate(Reader::open(context.storage, path))? else { continue };
        let Ok(Some(header)) = tolerate(reader.at(0, SEGMENT_HEADER_BYTES))? else { continue };
        let word = |at: usize| {
            let word = header.get(at..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |word| u64::from_le_bytes(*word))
        };
        let identity = Identity {
            store_id: word(16),
            secret,
            key_bytes: (word(8) >> 32) as u32,
            segment_bytes: word(48),
            directories: 1,
        };
        let Some((lane, generation, incarnation)) = parse_name(path) else { continue };
        let id = SegmentId { identity, generation, lane: lane as u32, incarnation };
        if header == id.header() {
            return Ok(identity);
        }
    }
    Err(Error::Corrupt {
        path: files[0].first().cloned().unwrap_or_default(),
        offset: 0,
        reason: "no directory has a manifest, and no segment says whose it is; a map of several \
                 directories cannot do without one: restore the directories from a copy"
            .to_owned(),
    })
}

/// Takes every segment of the newest generation for part of the log, up to its last record.
fn entries_of_segments(context: &mut Context<'_>, dir: &mut Dir) -> Result<()> {
    let (identity, lane) = (dir.manifest.identity, dir.manifest.position);
    dir.manifest.generation = dir.manifest.generation.max(newest_generation(&dir.files));
    let generation = dir.manifest.generation;
    let mut incarnations: Vec<u64> = dir
        .files
        .iter()
        .filter_map(|path| parse_name(path))
        .filter(|name| name.1 == generation && name.0 == u64::from(lane))
        .map(|name| name.2)
        .collect();
    incarnations.sort_unstable();
    dir.manifest.open_from = incarnations.last().map_or(0, |last| last + 1);
    for incarnation in incarnations {
        let id = SegmentId { identity, generation, lane, incarnation };
        let path = id.path(&dir.path);
        let Ok(mut reader) = tolerate(Reader::open(context.storage, &path))? else { continue };
        let mut end = FIRST_UNIT;
        Scan::new(&mut reader, &id).claimed(FIRST_UNIT..id.units(), &mut |reader, part| {
            if let Part::Record(record) = part {
                end = record.unit + record.units;
            }
            context.advance(reader.take_read_bytes())
        })?;
        if end > FIRST_UNIT {
            dir.manifest.entries.push(Entry { incarnation, end_units: end, complete: true });
        }
    }
    Ok(())
}

/// The weights under which every record lies in its key's directory.
fn weights(context: &mut Context<'_>, dirs: &[Dir]) -> Result<Vec<u64>> {
    let known: Vec<u64> =
        dirs.iter().map(|dir| dir.manifest.weight).filter(|weight| *weight > 0).collect();
    let with = |weight: u64| -> Vec<u64> {
        let of = |dir: &Dir| Some(dir.manifest.weight).filter(|w| *w > 0).unwrap_or(weight);
        dirs.iter().map(of).collect()
    };
    let identity = dirs[0].manifest.identity;
    context.set_identity(&identity, &with(1));
    let mut shards: Vec<(u32, usize)> = Vec::new();
    for dir in dirs {
        for entry in &dir.manifest.entries {
            let id = SegmentId {
                identity,
                generation: dir.manifest.generation,
                lane: dir.manifest.position,
                incarnation: entry.incarnation,
            };
            let path = id.path(&dir.path);
            let Ok(mut reader) = tolerate(Reader::open(context.storage, &path))? else { continue };
            let end = entry.end_units.min(FIRST_UNIT + SAMPLE * 8);
            Scan::new(&mut reader, &id).claimed(FIRST_UNIT..end, &mut |_, part| {
                if let Part::Record(record) = part {
                    shards.push((id.lane, crate::index::shard_of(context.hash(&record.key))));
                }
                Ok(())
            })?;
            shards.sort_unstable();
            shards.dedup();
        }
    }
    let mut candidates = vec![1];
    candidates.extend(known);
    candidates.extend(2..=64);
    for weight in candidates {
        let weights = with(weight);
        let lanes = lanes_of_shards(SHARDS, &weights);
        if shards.iter().all(|(lane, shard)| u32::from(lanes[*shard]) == *lane) {
            return Ok(weights);
        }
    }
    let text = "the share of the shards that a directory without a manifest has cannot be told; \
                restore its manifest from a copy";
    Err(Error::Corrupt { path: dirs[0].path.clone(), offset: 0, reason: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_contradict_each_other_are_noticed() {
        let identity = Identity {
            store_id: 9,
            secret: [7; 8],
            key_bytes: 32,
            segment_bytes: 64 << 10,
            directories: 1,
        };
        let with = |entries: &[(u64, u32, bool)]| {
            let entry = |(incarnation, end_units, complete): &(u64, u32, bool)| Entry {
                incarnation: *incarnation,
                end_units: *end_units,
                complete: *complete,
            };
            is_consistent(&Manifest {
                identity,
                position: 0,
                weight: 1,
                generation: 0,
                revision: 5,
                open_from: 9,
                ring: 0,
                entries: entries.iter().map(entry).collect(),
            })
        };
        assert!(with(&[]) && with(&[(0, 256, true), (3, 4096, true), (4, 300, false)]));
        assert!(!with(&[(0, 255, true)]), "an end in the header");
        assert!(!with(&[(0, 4097, true)]), "an end behind the file");
        assert!(!with(&[(3, 300, true), (3, 300, true)]), "one twice");
        assert!(!with(&[(3, 300, true), (2, 300, true)]), "not in their order");
        assert!(!with(&[(3, 300, false), (4, 300, true)]), "an open one that is not the last");
    }
}
