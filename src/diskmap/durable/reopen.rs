//! Opening a durable map: which one it is, and bringing its content back.

use std::path::Path;
use std::sync::Arc;

use super::manifest::{Identity, Manifest};
use super::recovery::{LaneRecovery, Recovery};
use super::sync::{Durable, remove_leftovers};
use crate::diskmap::directory::MapDirectory;
use crate::diskmap::generation::Generation;
use crate::diskmap::key::Key;
use crate::diskmap::log::flush::End;
use crate::diskmap::log::tail::Tail;
use crate::diskmap::plan;
use crate::diskmap::ring::{self, Image, Owner};
use crate::events::{EventLevel, EventRing};
use crate::hash::keyed::KeyHash;
use crate::memory::MemoryReserve;
use crate::settings::TxMapSettings;
use crate::storage::Storage;
use crate::{Error, Result};

/// A durable map that is about to be opened.
pub(in crate::diskmap) struct Found {
    pub(in crate::diskmap) identity: Identity,
    /// The generation in force.
    pub(in crate::diskmap) generation: u64,
    revision: u64,
    /// One per directory, all of that generation.
    manifests: Vec<Manifest>,
    is_new: bool,
    /// What a killed process left beside its segments.
    image: Option<Image>,
    ring_lost: bool,
}

impl Found {
    /// Reads the manifests; makes them where there are none.
    pub(in crate::diskmap) fn new<K: Key>(
        storage: &dyn Storage,
        settings: &TxMapSettings,
        directories: &[MapDirectory],
        store_id: u64,
    ) -> Result<Self> {
        let paths: Vec<&Path> = directories.iter().map(MapDirectory::path).collect();
        let read = |path: &&Path| Manifest::read(storage, path);
        let there = paths.iter().map(read).collect::<Result<Vec<_>>>()?;
        // Half made: a crash between the first manifest and the last, before any record.
        let unfinished =
            there.iter().flatten().all(|manifest| manifest.revision == 0) && there.contains(&None);
        if unfinished {
            return Self::make::<K>(storage, settings, &paths, store_id);
        }
        let mut manifests = Vec::with_capacity(there.len());
        for (manifest, path) in there.into_iter().zip(&paths) {
            manifests.push(manifest.ok_or_else(|| {
                wrong_dirs(format!(
                    "{} has no manifest, but other directories have: name the directories that \
                     the map was made with",
                    path.display()
                ))
            })?);
        }
        check::<K>(settings, &paths, &manifests)?;
        let generation = manifests.iter().map(|manifest| manifest.generation).max().unwrap_or(0);
        let revision = manifests.iter().map(|manifest| manifest.revision).max().unwrap_or(0);
        for manifest in manifests.iter_mut().filter(|m| m.generation < generation) {
            // A clear that got as far as another directory.
            manifest.generation = generation;
            manifest.entries.clear();
            manifest.open_from = 0;
        }
        let identity = manifests[0].identity;
        let image = read_ring(storage, settings, &paths, &manifests[0])?;
        let ring_lost = image.is_none() && manifests[0].ring != 0;
        Ok(Self { identity, generation, revision, manifests, is_new: false, image, ring_lost })
    }

    fn make<K: Key>(
        storage: &dyn Storage,
        settings: &TxMapSettings,
        paths: &[&Path],
        store_id: u64,
    ) -> Result<Self> {
        for path in paths {
            let mut files = storage.read_dir(path)?.into_iter();
            if let Some(path) = files.find(|path| super::recovery::parse_name(path).is_some()) {
                let reason = "a segment without a manifest; restore the directory from a copy";
                return Err(Error::Corrupt { path, offset: 0, reason: reason.to_owned() });
            }
        }
        let random = |error| Error::Unsupported(format!("no random numbers: {error}"));
        let mut secret = [0; 8];
        for word in &mut secret {
            *word = getrandom::u64().map_err(random)?;
        }
        let identity = Identity {
            store_id,
            secret,
            key_bytes: K::BYTES as u32,
            segment_bytes: settings.segment_bytes,
            directories: paths.len() as u32,
        };
        let weights = plan::weights(settings);
        let manifest = |position| Manifest {
            identity,
            position,
            weight: weights[position as usize],
            generation: 0,
            revision: 0,
            open_from: 0,
            ring: 0,
            entries: Vec::new(),
        };
        let manifests: Vec<_> = (0..paths.len() as u32).map(manifest).collect();
        for (manifest, path) in manifests.iter().zip(paths) {
            manifest.write(storage, path)?;
        }
        Ok(Self {
            identity,
            generation: 0,
            revision: 0,
            manifests,
            is_new: true,
            image: None,
            ring_lost: false,
        })
    }

    /// Fills the generation, and makes what was found the durable state.
    pub(in crate::diskmap) fn recover<K: Key>(
        self,
        storage: &dyn Storage,
        generation: &Generation,
        directories: &[MapDirectory],
        (tail, ring_directory): (&Tail, &Path),
        (reserve, events): (&Arc<dyn MemoryReserve>, &EventRing),
    ) -> Result<Durable> {
        let (reopened, ring_lost) = (!self.is_new, self.ring_lost);
        let mut report = Recovery { reopened, ring_lost, ..Recovery::default() };
        let hash = |key: &[u8]| -> Option<KeyHash> {
            K::from_bytes(key).map(|key| key.hash(&generation.hasher))
        };
        let mut leftovers = Vec::with_capacity(directories.len());
        for (lane, manifest) in self.manifests.iter().enumerate() {
            let factory = generation.lanes[lane].factory();
            let redo =
                |image: &Image| image.redo(storage, factory, manifest, &mut report.ring_blocks);
            let end = self.image.as_ref().map(redo).transpose()?;
            // A directory whose manifest is older has nothing from after this ring was made.
            let ring = end.filter(|_| manifest.ring == self.manifests[0].ring);
            let recovery = LaneRecovery::new(
                storage,
                generation,
                lane,
                manifest,
                (ring, reserve.as_ref()),
                &mut report,
            );
            leftovers.push(recovery.run(hash)?);
        }
        let revision = self.revision + 1;
        let weights = self.manifests.iter().map(|manifest| manifest.weight).collect();
        let ring = tail.table().map_or(0, |table| {
            // Named from the next manifest on, whatever becomes of this opening.
            table.keep();
            table.ring_id()
        });
        let durable = Durable::new(self.identity, weights, revision, report, ring);
        for (position, (lane, directory)) in generation.lanes.iter().zip(directories).enumerate() {
            let (end, entries) = lane.durable_state();
            durable
                .manifest(position, self.generation, revision, end, entries)
                .write(storage, directory.path())?;
        }
        for (files, directory) in leftovers.into_iter().zip(directories) {
            remove_leftovers(storage, directory.path(), self.generation, files)?;
        }
        let first = directories.first().map_or(ring_directory, MapDirectory::path);
        for directory in [first, ring_directory] {
            for path in ring::leftovers(storage, directory, self.identity.store_id, ring)? {
                storage.remove_file(&path)?;
            }
        }
        if report.reopened {
            let level = if report.torn_bytes + report.segments_ignored > 0 || report.ring_lost {
                EventLevel::Warn
            } else {
                EventLevel::Info
            };
            events.push(level, describe(&report, directories));
        }
        Ok(durable)
    }
}

/// The ring that the manifest names; none if there is none, or the machine was restarted since.
fn read_ring(
    storage: &dyn Storage,
    settings: &TxMapSettings,
    paths: &[&Path],
    manifest: &Manifest,
) -> Result<Option<Image>> {
    if manifest.ring == 0 {
        return Ok(None);
    }
    let directories: Vec<&Path> =
        settings.ring_dir.as_deref().into_iter().chain(paths.first().copied()).collect();
    Image::read(storage, &directories, Owner::of(&manifest.identity), manifest.ring)
}

fn describe(report: &Recovery, directories: &[MapDirectory]) -> String {
    let ring = match (report.ring_lost, report.ring_blocks) {
        (true, _) => "; the machine was restarted: what was acknowledged after the last sync and \
                      was not written yet is lost"
            .to_owned(),
        (false, 0) => String::new(),
        (false, blocks) => format!("; {blocks} blocks from the ring of a killed process"),
    };
    format!(
        "reopened {}: {} keys from {} records, {} segments read and {} summaries; {} torn bytes \
         and {} segments behind the last sync ignored{ring}",
        directories.first().map_or_else(String::new, |dir| dir.path().display().to_string()),
        report.entries,
        report.records,
        report.segments_scanned,
        report.segments_from_summary,
        report.torn_bytes,
        report.segments_ignored
    )
}

fn wrong_dirs(reason: String) -> Error {
    Error::Setting { key: "txMapDirs".to_owned(), reason }
}

/// The manifests are those of one map, in the order in which it was made, and it is the one that
/// the settings mean.
fn check<K: Key>(settings: &TxMapSettings, paths: &[&Path], manifests: &[Manifest]) -> Result<()> {
    let first = &manifests[0].identity;
    for (position, (manifest, path)) in manifests.iter().zip(paths).enumerate() {
        let path = path.display();
        let identity = &manifest.identity;
        if identity.store_id != first.store_id || identity != first {
            return Err(wrong_dirs(format!(
                "{path} belongs to another map than {}: name the directories of one map",
                paths[0].display()
            )));
        }
        if identity.directories as usize != paths.len() {
            return Err(wrong_dirs(format!(
                "{path} belongs to a map of {} directories, {} are named: name all of them and no \
                 others",
                identity.directories,
                paths.len()
            )));
        }
        if manifest.position as usize != position {
            return Err(wrong_dirs(format!(
                "{path} is number {} of the map's directories and stands as number {position}: \
                 name them in the order in which the map was made",
                manifest.position
            )));
        }
    }
    let weights = plan::weights(settings);
    for ((manifest, path), weight) in manifests.iter().zip(paths).zip(weights) {
        if manifest.weight != weight {
            let reason = format!(
                "{} was made with weight {}, not {weight}: set it so; it stays what it is for the \
                 life of a durable map",
                path.display(),
                manifest.weight
            );
            return Err(Error::Setting { key: "txMapDirWeights".to_owned(), reason });
        }
    }
    if first.key_bytes as usize != K::BYTES {
        let reason = format!(
            "{} is a map with keys of {} bytes, not {}: give this map another name",
            paths[0].display(),
            first.key_bytes,
            K::BYTES
        );
        return Err(Error::Setting { key: "txMapName".to_owned(), reason });
    }
    if first.segment_bytes != settings.segment_bytes {
        let reason = format!(
            "{} was made with {}: set it so; it stays what it is for the life of a durable map",
            paths[0].display(),
            first.segment_bytes
        );
        return Err(Error::Setting { key: "txMapSegment".to_owned(), reason });
    }
    Ok(())
}

impl crate::diskmap::log::lane::Lane {
    /// What the manifest says of a lane that was just recovered.
    fn durable_state(&self) -> (End, Vec<super::manifest::Entry>) {
        let end = End { incarnation: self.next_incarnation(), units: 0 };
        let segments = self.kept_segments();
        let entries = segments.iter().filter_map(|segment| {
            let (incarnation, end_units) = (segment.incarnation, segment.end()?);
            Some(super::manifest::Entry { incarnation, end_units, complete: true })
        });
        (end, entries.collect())
    }
}
