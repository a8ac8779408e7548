//! Settings: one table of keys with units, ranges and defaults, and what is made from it.
//!
//! A settings text has lines `key = value`. A runtime and a map read the same text: each takes its
//! own keys, both refuse unknown keys and bad values. Whoever prefers it fills the structs.

mod compaction;
pub mod table;
mod text;

use std::fmt::Write as _;
use std::path::PathBuf;

pub use compaction::CompactionSettings;
pub use table::{Kind, SETTINGS, Scope, SettingSpec, Value};
pub use text::Values;

use crate::hash::Sha256dKernel;
use crate::storage::HugePages;
use crate::{Error, Result};

/// Which kernel the index scans buckets with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelChoice {
    /// The fastest one that the processor has.
    #[default]
    Auto,
    /// AVX-512; an error where the processor has none.
    Avx512,
    /// AVX2; an error where the processor has none.
    Avx2,
    /// Portable code.
    Scalar,
}

/// Settings of a [`crate::runtime::Runtime`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Bytes that maps may use together; `None` takes 80 % of what the process may have.
    pub memory_budget: Option<u64>,
    /// Bypass the page cache where possible.
    pub direct_io: bool,
    /// Read batches through `io_uring` where possible.
    pub io_uring: bool,
    /// Make unlinked files with `O_TMPFILE` where possible.
    pub o_tmpfile: bool,
    /// Huge pages of indexes and tails.
    pub huge_pages: HugePages,
    /// Touch the next piece of a growing index ahead, on a thread of its own.
    pub fault_ahead: bool,
    /// The index's scan kernel.
    pub kernel: KernelChoice,
    /// How the process computes sha256d.
    pub hash_kernel: Sha256dKernel,
    /// Reads that one batch keeps in flight.
    pub read_ring_depth: u32,
    /// Where mapped subtrees go; `None` keeps them in memory.
    pub subtree_mmap_dir: Option<PathBuf>,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self::from_values(&Values::default())
    }
}

impl RuntimeSettings {
    /// Reads the runtime's keys of a settings text.
    ///
    /// ```
    /// use blocktier::settings::RuntimeSettings;
    /// let settings = RuntimeSettings::parse("memoryBudget = 8G\nioUring = off")?;
    /// assert_eq!(settings.memory_budget, Some(8 << 30));
    /// assert!(!settings.io_uring && settings.direct_io);
    /// let error = RuntimeSettings::parse("memoryBuget = 8G").unwrap_err();
    /// assert!(error.to_string().contains("the nearest is memoryBudget"));
    /// # Ok::<(), blocktier::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn parse(text: &str) -> Result<Self> {
        Values::parse(text).map(|values| Self::from_values(&values))
    }

    fn from_values(values: &Values) -> Self {
        let on = |spec| values.word(spec) != "off";
        let directory = values.text(&table::SUBTREE_MMAP_DIR);
        Self {
            memory_budget: Some(values.number(&table::MEMORY_BUDGET)).filter(|&bytes| bytes > 0),
            direct_io: on(&table::DIRECT_IO),
            io_uring: on(&table::IO_URING),
            o_tmpfile: on(&table::O_TMPFILE),
            huge_pages: match values.word(&table::HUGE_PAGES) {
                "off" => HugePages::Off,
                "explicit" => HugePages::Explicit,
                _ => HugePages::Transparent,
            },
            fault_ahead: on(&table::FAULT_AHEAD),
            kernel: match values.word(&table::SCAN_KERNEL) {
                "avx512" => KernelChoice::Avx512,
                "avx2" => KernelChoice::Avx2,
                "scalar" => KernelChoice::Scalar,
                _ => KernelChoice::Auto,
            },
            hash_kernel: Sha256dKernel::named(values.word(&table::HASH_KERNEL)),
            // The table's range ends far below u32::MAX.
            read_ring_depth: u32::try_from(values.number(&table::READ_RING_DEPTH))
                .unwrap_or(u32::MAX),
            subtree_mmap_dir: Some(directory).filter(|text| !text.is_empty()).map(PathBuf::from),
        }
    }

    /// Checks each number against its range.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first that is wrong.
    pub fn validate(&self) -> Result<()> {
        text::check_number(&table::MEMORY_BUDGET, self.memory_budget.unwrap_or(0))?;
        text::check_number(&table::READ_RING_DEPTH, u64::from(self.read_ring_depth))
    }

    /// The huge pages of node arrays and levels, of which there are many and small ones: none that
    /// were reserved.
    #[must_use]
    pub const fn huge_pages_of_arrays(&self) -> HugePages {
        match self.huge_pages {
            HugePages::Explicit => HugePages::Transparent,
            other => other,
        }
    }
}

/// What of a map survives its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing.
    #[default]
    Ephemeral,
    /// What was acknowledged, if the process is killed; what was synced, if the machine stops.
    Process,
    /// What was synced.
    Durable,
}

/// Settings of a transaction map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxMapSettings {
    /// Directories of the map's files, one per disk.
    pub dirs: Vec<PathBuf>,
    /// Shares of the directories; one for each, or one for all, or none for equal shares.
    pub dir_weights: Vec<u64>,
    /// Bytes that files may take in each directory, 0 for no limit; as many as above.
    pub dir_quotas: Vec<u64>,
    /// Bytes that stay free on the file system of each directory; as many as above.
    pub dir_floors: Vec<u64>,
    /// RAM for recent records, in bytes.
    pub tail_bytes: u64,
    /// Unit of writing in bytes; 0 chooses by tail and segment.
    pub block_bytes: u64,
    /// Size of a log file, a power of two.
    pub segment_bytes: u64,
    /// Entries to size the index for; 0 lets it grow.
    pub expected_entries: u64,
    /// Unwritten bytes at which partly filled blocks are written; 0 is a quarter of the tail.
    pub flush_bytes: u64,
    /// Milliseconds after which a partly filled block is written; 0 is never.
    pub flush_age_ms: u64,
    /// Longest wait of a write for space, in milliseconds.
    pub write_timeout_ms: u64,
    /// Name of the map's subdirectory; `None` gives it one of its own.
    pub name: Option<String>,
    /// Fault the tail in at opening.
    pub prefault: bool,
    /// Memory of the index that is made ready at opening, beside what the expected entries need.
    pub index_reserve_bytes: u64,
    /// Memory of the index at most; 0 for no limit but the budget.
    pub index_cap_bytes: u64,
    /// Reclaiming the space of dead records.
    pub compaction: CompactionSettings,
    /// What survives the process.
    pub durability: Durability,
    /// Where the ring of a process map is; none for its first directory.
    pub ring_dir: Option<PathBuf>,
    /// Sync each segment when it is complete.
    pub sync_on_seal: bool,
    /// Bits of a location. For tests, which want to see locations used again.
    #[doc(hidden)]
    pub location_bits: u32,
    /// Splits of a page of the index after which it is built anew from its keys. For tests.
    #[doc(hidden)]
    pub rehash_splits: u32,
}

/// Bits of a location in a slot of the index.
pub(crate) const LOCATION_BITS: u32 = 38;
/// Splits of a page of the index after which it is built anew.
const REHASH_SPLITS: u32 = 8;

impl Default for TxMapSettings {
    fn default() -> Self {
        Self::from_values(&Values::default())
    }
}

impl TxMapSettings {
    /// Reads the map's keys of a settings text.
    ///
    /// ```
    /// use blocktier::settings::TxMapSettings;
    /// let settings = TxMapSettings::parse("txMapDirs = /disk1/map | /disk2/map\ntxMapTail = 2G")?;
    /// assert_eq!(settings.dirs.len(), 2);
    /// assert_eq!(settings.block_len(), 2 << 20);
    /// # Ok::<(), blocktier::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Setting`], also for values that contradict each other.
    pub fn parse(text: &str) -> Result<Self> {
        let values = Values::parse(text)?;
        let settings = Self::from_values(&values);
        settings.validate()?;
        Ok(settings)
    }

    fn from_values(values: &Values) -> Self {
        let dirs = values.text(&table::TX_MAP_DIRS);
        Self {
            dirs: text::split_directories(dirs).map(PathBuf::from).collect(),
            dir_weights: values.each(&table::TX_MAP_DIR_WEIGHTS),
            dir_quotas: values.each(&table::TX_MAP_DIR_QUOTAS),
            dir_floors: values.each(&table::TX_MAP_DIR_FLOORS),
            tail_bytes: values.number(&table::TX_MAP_TAIL),
            block_bytes: values.number(&table::TX_MAP_BLOCK),
            segment_bytes: values.number(&table::TX_MAP_SEGMENT),
            expected_entries: values.number(&table::TX_MAP_EXPECTED_ENTRIES),
            flush_bytes: values.number(&table::TX_MAP_FLUSH_BYTES),
            flush_age_ms: values.number(&table::TX_MAP_FLUSH_AGE),
            write_timeout_ms: values.number(&table::TX_MAP_WRITE_TIMEOUT),
            name: Some(values.text(&table::TX_MAP_NAME).to_owned()).filter(|name| !name.is_empty()),
            prefault: values.word(&table::TX_MAP_PREFAULT) == "on",
            index_reserve_bytes: values.number(&table::TX_MAP_INDEX_RESERVE),
            index_cap_bytes: values.number(&table::TX_MAP_INDEX_CAP),
            compaction: CompactionSettings::from_values(values),
            durability: match values.word(&table::TX_MAP_DURABILITY) {
                "durable" => Durability::Durable,
                "process" => Durability::Process,
                _ => Durability::Ephemeral,
            },
            ring_dir: Some(values.text(&table::TX_MAP_RING_DIR))
                .filter(|text| !text.is_empty())
                .map(PathBuf::from),
            sync_on_seal: values.word(&table::TX_MAP_SYNC_ON_SEAL) == "on",
            location_bits: LOCATION_BITS,
            rehash_splits: REHASH_SPLITS,
        }
    }

    /// A map that is opened again without a name.
    pub(crate) fn name_missing(&self) -> Error {
        let level = if self.durability == Durability::Process { "process" } else { "durable" };
        let reason = format!("{level} needs a txMapName, under which the map is found again");
        text::error(table::TX_MAP_DURABILITY.key, reason)
    }

    /// What only some levels have is refused at the others.
    fn validate_durability(&self) -> Result<()> {
        if self.ring_dir.is_some() && self.durability != Durability::Process {
            let reason = "is for txMapDurability = process; leave it out";
            return Err(text::error(table::TX_MAP_RING_DIR.key, reason));
        }
        if self.sync_on_seal && self.durability == Durability::Ephemeral {
            let reason = "is for txMapDurability = durable or process; leave it off";
            return Err(text::error(table::TX_MAP_SYNC_ON_SEAL.key, reason));
        }
        Ok(())
    }

    /// The block size in force: as set, or 2 MiB, at most an eighth of the tail and a quarter of a
    /// segment, at least 16 KiB. A power of two.
    #[must_use]
    pub fn block_len(&self) -> u64 {
        if self.block_bytes != 0 {
            return self.block_bytes;
        }
        let limit = (self.tail_bytes / 8).min(self.segment_bytes / 4);
        text::below(limit).clamp(16 << 10, 2 << 20)
    }

    /// The number for directory `position` of a list that has one for each, or one for all.
    pub(crate) fn of_directory(numbers: &[u64], position: usize) -> Option<u64> {
        numbers.get(if numbers.len() == 1 { 0 } else { position }).copied()
    }

    /// The flush threshold in force, in bytes.
    #[must_use]
    pub const fn flush_len(&self) -> u64 {
        if self.flush_bytes == 0 { self.tail_bytes / 4 } else { self.flush_bytes }
    }

    /// Checks each number against its range, and the sizes against each other.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first that is wrong.
    pub fn validate(&self) -> Result<()> {
        let numbers = [
            (&table::TX_MAP_TAIL, self.tail_bytes),
            (&table::TX_MAP_BLOCK, self.block_bytes),
            (&table::TX_MAP_SEGMENT, self.segment_bytes),
            (&table::TX_MAP_EXPECTED_ENTRIES, self.expected_entries),
            (&table::TX_MAP_FLUSH_BYTES, self.flush_bytes),
            (&table::TX_MAP_FLUSH_AGE, self.flush_age_ms),
            (&table::TX_MAP_WRITE_TIMEOUT, self.write_timeout_ms),
            (&table::TX_MAP_INDEX_RESERVE, self.index_reserve_bytes),
            (&table::TX_MAP_INDEX_CAP, self.index_cap_bytes),
        ];
        for (spec, number) in numbers {
            text::check_number(spec, number)?;
        }
        // Room for four segments at least: one that is written, one for the next, two to merge.
        let least = (self.segment_bytes / 16).ilog2() + 2;
        if !(least..=LOCATION_BITS).contains(&self.location_bits) {
            return Err(Error::InvalidArgument(format!(
                "locations of {} bits; want {least} to {LOCATION_BITS}",
                self.location_bits
            )));
        }
        self.compaction.validate()?;
        text::check_name(table::TX_MAP_NAME.key, self.name.as_deref().unwrap_or_default())?;
        let names: Vec<_> = self.dirs.iter().map(|dir| dir.to_string_lossy()).collect();
        text::check_directories(table::TX_MAP_DIRS.key, names.iter().map(AsRef::as_ref))?;
        if self.durability != Durability::Ephemeral && self.name.is_none() {
            return Err(self.name_missing());
        }
        self.validate_durability()?;
        for (spec, numbers) in [
            (&table::TX_MAP_DIR_WEIGHTS, &self.dir_weights),
            (&table::TX_MAP_DIR_QUOTAS, &self.dir_quotas),
            (&table::TX_MAP_DIR_FLOORS, &self.dir_floors),
        ] {
            text::check_each(spec, numbers, self.dirs.len())?;
        }
        let smallest = self.dir_quotas.iter().filter(|&&quota| quota > 0).min();
        if let Some(quota) = smallest.filter(|&&quota| quota < self.segment_bytes) {
            let (quota, segment) = (*quota, self.segment_bytes);
            let spec = &table::TX_MAP_SEGMENT;
            return Err(contradiction(spec, segment, "txMapDirQuotas", quota));
        }
        let block = self.block_len();
        for (what, bytes) in [("txMapTail", self.tail_bytes), ("txMapSegment", self.segment_bytes)]
        {
            if block > bytes / 4 {
                return Err(contradiction(&table::TX_MAP_BLOCK, block, what, bytes / 4));
            }
        }
        if self.flush_len() > self.tail_bytes {
            let (flush, tail) = (self.flush_len(), self.tail_bytes);
            return Err(contradiction(&table::TX_MAP_FLUSH_BYTES, flush, "txMapTail", tail));
        }
        Ok(())
    }
}

fn contradiction(spec: &SettingSpec, is: u64, other: &str, limit: u64) -> Error {
    let (is, limit) = (text::format_number(spec, is), text::format_number(spec, limit));
    text::error(spec.key, format!("{is} is too large for this {other}; it may be up to {limit}"))
}

/// The documentation of every setting, as `docs/settings.md` holds it.
#[must_use]
pub fn markdown_table() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         One text serves a runtime and its maps: lines `key = value`; empty lines and lines that \
         start with `#`\nsay nothing. An unknown key, a malformed value and one out of range are \
         errors. Sizes take `K`, `M`, `G`, `T`\n(powers of 1024), durations `ms`, `s`, `m`, `h`.\n",
    );
    for (scope, title) in [(Scope::Runtime, "Runtime"), (Scope::TxMap, "Transaction map")] {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {title}\n\n| key | default | values | what it does |\n");
        page.push_str("|---|---|---|---|\n");
        for spec in SETTINGS.iter().filter(|spec| spec.scope == scope) {
            let default = match &spec.default {
                Value::Number(number) => text::format_number(spec, *number),
                Value::Word(word) => (*word).to_owned(),
                Value::Text(text) if text.is_empty() => "empty".to_owned(),
                Value::Text(text) => text.clone().into_owned(),
            };
            let range = text::describe_range(spec).replace('|', "\\|");
            let doc = spec.doc.replace('|', "\\|");
            let _ = writeln!(page, "| `{}` | {default} | {range} | {doc} |", spec.key);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
        if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
            std::fs::write(path, markdown_table()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == markdown_table(), "docs/settings.md is stale: run with UPDATE_DOCS=1");
    }

    #[test]
    fn every_key_is_in_the_table_once_and_its_default_is_valid() {
        for (i, spec) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[..i].iter().all(|other| other.key != spec.key), "{}", spec.key);
            match &spec.default {
                Value::Number(number) => text::check_number(spec, *number).unwrap(),
                Value::Word(word) => {
                    Values::parse(&format!("{} = {word}", spec.key)).unwrap();
                }
                Value::Text(text) => assert!(text.is_empty()),
            }
        }
        TxMapSettings::default().validate().unwrap();
    }

    #[test]
    fn each_struct_ignores_the_others_keys_but_not_their_mistakes() {
        let text = "txMapTail = 1G\nmemoryBudget = 2G\nscanKernel = avx2\nsubtreeMmapDir = /s";
        assert_eq!(TxMapSettings::parse(text).unwrap().tail_bytes, 1 << 30);
        let runtime = RuntimeSettings::parse(text).unwrap();
        assert_eq!(runtime.memory_budget, Some(2 << 30));
        assert_eq!(runtime.kernel, KernelChoice::Avx2);
        assert_eq!(runtime.subtree_mmap_dir, Some(PathBuf::from("/s")));
        assert!(RuntimeSettings::parse("txMapTail = x").is_err());
        assert!(TxMapSettings::parse("directIo = x").is_err());
    }

    #[test]
    fn every_switch_reaches_its_field() {
        let defaults = RuntimeSettings::default();
        assert!(defaults.direct_io && defaults.io_uring && defaults.o_tmpfile);
        assert!(defaults.fault_ahead && defaults.memory_budget.is_none());
        assert_eq!(defaults.huge_pages, HugePages::Transparent);
        let off = "directIo=off\nioUring=off\noTmpfile=off\nhugePages=off\nreadRingDepth=4096";
        let off = RuntimeSettings::parse(off).unwrap();
        assert!(!off.direct_io && !off.io_uring && !off.o_tmpfile);
        assert_eq!(off.huge_pages, HugePages::Off);
        assert_eq!(off.read_ring_depth, 4096);
        assert!(!RuntimeSettings::parse("faultAhead=off").unwrap().fault_ahead);
        assert!(RuntimeSettings { read_ring_depth: 0, ..off.clone() }.validate().is_err());
        assert!(RuntimeSettings { memory_budget: Some(1), ..off }.validate().is_err());
    }

    #[test]
    fn block_follows_tail_and_segment() {
        let block = |text: &str| TxMapSettings::parse(text).unwrap().block_len();
        assert_eq!(block(""), 2 << 20);
        assert_eq!(block("txMapTail = 256K"), 32 << 10);
        assert_eq!(block("txMapTail = 300K"), 32 << 10);
        assert_eq!(block("txMapTail = 9M"), 1 << 20);
        assert_eq!(block("txMapSegment = 64K"), 16 << 10);
        assert_eq!(block("txMapBlock = 64K"), 64 << 10);
    }

    #[test]
    fn contradictions_are_refused() {
        let reason = |text: &str| TxMapSettings::parse(text).unwrap_err().to_string();
        assert_eq!(
            reason("txMapTail = 256K\ntxMapBlock = 128K"),
            "setting txMapBlock: 128K is too large for this txMapTail; it may be up to 64K"
        );
        assert!(reason("txMapSegment = 64K\ntxMapBlock = 32K").contains("this txMapSegment"));
        assert!(reason("txMapTail = 1M\ntxMapFlushBytes = 2M").contains("up to 1M"));
        let odd = TxMapSettings { segment_bytes: 3 << 20, ..TxMapSettings::default() };
        assert!(odd.validate().unwrap_err().to_string().contains("power of two"));
        let low = TxMapSettings { tail_bytes: 1, ..TxMapSettings::default() };
        assert!(low.validate().unwrap_err().to_string().contains("256K to 4T"));
        let dirs = vec![PathBuf::from("/a"), PathBuf::from("/a")];
        let twice = TxMapSettings { dirs, ..TxMapSettings::default() };
        assert!(twice.validate().unwrap_err().to_string().contains("named twice"));
    }
}
