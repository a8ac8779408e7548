//! What a map is made from: settings, the sizes that follow from them, the segments of a
//! generation.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::directory::MapDirectory;
use super::durable::Identity;
use super::key::Key;
use super::log::segment::SegmentFactory;
use super::log::tail::Tail;
use super::ring::{Geometry, Owner, Place, Table};
use super::space::Space;
use crate::index::{IndexOptions, ScanKernel};
use crate::memory::no_explicit_pages;
use crate::runtime::Runtime;
use crate::runtime::background::Bell;
use crate::settings::{Durability, KernelChoice, TxMapSettings};
use crate::storage::{HugePages, Mapping, Storage};
use crate::{Error, Result};

/// What every generation is made from.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) settings: TxMapSettings,
    pub(super) index: IndexOptions,
    /// Rung by an index that has a page to be built anew.
    pub(super) rehash_bell: Arc<Bell>,
    pub(super) direct: bool,
    pub(super) store_id: u64,
    /// The secret of the keyed hash, in a durable map.
    pub(super) secret: Option<[u64; 8]>,
}

impl Plan {
    /// `durable`: who the store is, for a map that outlives its process.
    pub(super) fn new(
        runtime: &Runtime,
        settings: &TxMapSettings,
        store_id: u64,
        durable: Option<&Identity>,
    ) -> Self {
        let process = runtime.settings();
        let rehash_bell = runtime.background().bell();
        let index = IndexOptions {
            rehash_splits: settings.rehash_splits,
            rehasher: Some(Arc::clone(&rehash_bell) as _),
            expected_entries: settings.expected_entries,
            huge_pages: process.huge_pages,
            ready_bytes: settings.index_reserve_bytes,
            cap_bytes: settings.index_cap_bytes,
            events: Some(Arc::clone(runtime.events())),
            kernel: scan_kernel(process.kernel),
            prefault: settings.prefault,
            reserve: Some(Arc::clone(runtime.budget()) as _),
            preparer: runtime.preparer().map(|preparer| Arc::clone(preparer) as _),
        };
        Self {
            settings: settings.clone(),
            index,
            rehash_bell,
            direct: process.direct_io,
            store_id: durable.map_or(store_id, |identity| identity.store_id),
            secret: durable.map(|identity| identity.secret),
        }
    }

    pub(super) fn factories<K: Key>(
        &self,
        storage: &Arc<dyn Storage>,
        directories: &[MapDirectory],
        generation: u64,
    ) -> Vec<SegmentFactory> {
        let durable = self.secret.is_some();
        let keep = Arc::new(AtomicBool::new(durable));
        directories
            .iter()
            .enumerate()
            .map(|(lane, directory)| SegmentFactory {
                directory: directory.path().to_owned(),
                lane: lane as u32,
                store_id: self.store_id,
                generation,
                key_bytes: K::BYTES as u32,
                segment_bytes: self.settings.segment_bytes,
                location_bits: self.settings.location_bits,
                direct: self.direct,
                disk: Arc::clone(directory.disk()),
                space: Arc::clone(directory.space()),
                storage: Arc::clone(storage),
                durable,
                keep: Arc::clone(&keep),
            })
            .collect()
    }
}

/// Where a process map's ring is.
pub(super) fn ring_directory(settings: &TxMapSettings, directories: &[MapDirectory]) -> PathBuf {
    let first = || directories.first().map(|directory| directory.path().to_owned());
    settings.ring_dir.clone().or_else(first).unwrap_or_default()
}

/// The tail: in memory that dies with the process, or in a ring of store `identity` that does not.
pub(super) fn tail(
    runtime: &Runtime,
    settings: &TxMapSettings,
    layout: &Layout,
    directory: &Path,
    identity: Option<&Identity>,
) -> Result<Tail> {
    let reserve = Arc::clone(runtime.budget()) as _;
    let (buffers, block_bytes) = (layout.buffers, layout.block_bytes);
    let process = settings.durability == Durability::Process;
    let Some(identity) = identity.filter(|_| process) else {
        let huge_pages = runtime.settings().huge_pages;
        return Tail::with_memory(buffers, block_bytes, reserve, |bytes| {
            let memory = Mapping::anonymous(bytes, huge_pages)?;
            if huge_pages == HugePages::Explicit && !memory.is_explicit() {
                no_explicit_pages(runtime.events(), "the tail", bytes);
            }
            Ok((None, memory))
        });
    };
    let place = Place { directory, owner: Owner::of(identity) };
    let geometry = Geometry { block_bytes: block_bytes as u64, buffers };
    Tail::with_memory(buffers, block_bytes, reserve, |_| {
        let (table, memory) = Table::create(runtime.storage(), &place, geometry)?;
        Ok((Some(table), memory))
    })
}

/// How much of directory `position` the map may take.
pub(super) fn space(settings: &TxMapSettings, position: usize) -> Arc<Space> {
    let of = |numbers: &[u64]| TxMapSettings::of_directory(numbers, position).unwrap_or(0);
    Space::new(of(&settings.dir_quotas), of(&settings.dir_floors))
}

/// The share of each directory.
pub(super) fn weights(settings: &TxMapSettings) -> Vec<u64> {
    let of = |position| TxMapSettings::of_directory(&settings.dir_weights, position).unwrap_or(1);
    (0..settings.dirs.len()).map(of).collect()
}

const fn scan_kernel(choice: KernelChoice) -> ScanKernel {
    match choice {
        KernelChoice::Auto => ScanKernel::Auto,
        KernelChoice::Avx512 => ScanKernel::Avx512,
        KernelChoice::Avx2 => ScanKernel::Avx2,
        KernelChoice::Scalar => ScanKernel::Scalar,
    }
}

/// Sizes that follow from the settings.
pub(super) struct Layout {
    pub(super) block_bytes: usize,
    pub(super) buffers: u32,
    pub(super) flush_bytes: u64,
}

impl Layout {
    pub(super) fn new(settings: &TxMapSettings) -> Result<Self> {
        let lanes = settings.dirs.len() as u64;
        let wrong = |key: &str, reason: String| Err(Error::Setting { key: key.to_owned(), reason });
        if lanes == 0 {
            return wrong("txMapDirs", "at least one directory is needed".to_owned());
        }
        // Each lane keeps a block open, and as many again may wait; a clear needs both twice for a
        // moment.
        let buffers_min = 4 * lanes + 4;
        let largest = settings.tail_bytes / buffers_min;
        let block_bytes = if settings.block_bytes == 0 {
            (1 << largest.max(1).ilog2()).min(2 << 20)
        } else {
            settings.block_bytes
        };
        if block_bytes < 16 << 10 || !block_bytes.is_power_of_two() {
            return wrong(
                "txMapTail",
                format!("{lanes} directories need at least {}", buffers_min * (16 << 10)),
            );
        }
        if block_bytes > largest {
            return wrong(
                "txMapBlock",
                format!(
                    "{lanes} directories and this tail allow blocks of at most {largest} bytes"
                ),
            );
        }
        if block_bytes > settings.segment_bytes {
            return wrong(
                "txMapSegment",
                format!("must be at least a block of {block_bytes} bytes"),
            );
        }
        let flush_bytes =
            if settings.flush_bytes == 0 { settings.tail_bytes / 4 } else { settings.flush_bytes };
        Ok(Self {
            block_bytes: block_bytes as usize,
            buffers: (settings.tail_bytes / block_bytes).min((1 << 20) - 1) as u32,
            flush_bytes: flush_bytes.min(settings.tail_bytes / 2),
        })
    }
}
