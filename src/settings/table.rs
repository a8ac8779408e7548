//! The one table of settings: keys, kinds, ranges, defaults and what they do.
//!
//! Parser, typed settings, error texts and `docs/settings.md` all come from here.

use std::borrow::Cow;

/// What a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The process: memory, I/O, kernels.
    Runtime,
    /// One transaction map.
    TxMap,
}

/// What a setting's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A size: digits and one of K, M, G, T (powers of 1024), or plain bytes.
    Bytes {
        /// Smallest value, beside 0 if that has a meaning.
        min: u64,
        /// Largest value.
        max: u64,
        /// Only powers of two.
        power_of_two: bool,
        /// What 0 means, if it is allowed.
        zero: Option<&'static str>,
    },
    /// A plain number.
    Count {
        /// Smallest value, beside 0 if that has a meaning.
        min: u64,
        /// Largest value.
        max: u64,
        /// What 0 means, if it is allowed.
        zero: Option<&'static str>,
    },
    /// A duration: digits and one of ms, s, m, h. Held in milliseconds.
    Millis {
        /// Smallest value, beside 0 if that has a meaning.
        min: u64,
        /// Largest value.
        max: u64,
        /// What 0 means, if it is allowed.
        zero: Option<&'static str>,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A directory, or nothing.
    Directory,
    /// Directories separated by `|`, or nothing.
    Directories,
    /// A file name of letters, digits, `.`, `-` and `_`, or nothing.
    Name,
    /// Numbers of this kind separated by `|`: one for each directory in their order, or one for
    /// all, or nothing.
    Each(&'static Kind),
}

/// A parsed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes, a count or milliseconds.
    Number(u64),
    /// One of the words of [`Kind::Word`].
    Word(&'static str),
    /// A directory or a list of them, as given.
    Text(Cow<'static, str>),
}

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct SettingSpec {
    /// The name in a settings text.
    pub key: &'static str,
    /// Who reads it.
    pub scope: Scope,
    /// What its value is.
    pub kind: Kind,
    /// The value when it is not set.
    pub default: Value,
    /// What it does, as a sentence.
    pub doc: &'static str,
}

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
const G: u64 = 1 << 30;
const T: u64 = 1 << 40;

const AUTO: &[&str] = &["auto", "off"];
const NO_TEXT: Value = Value::Text(Cow::Borrowed(""));

/// Memory that all maps and arrays of a runtime share.
pub static MEMORY_BUDGET: SettingSpec = SettingSpec {
    key: "memoryBudget",
    scope: Scope::Runtime,
    kind: Kind::Bytes {
        min: 16 * M,
        max: 64 * T,
        power_of_two: false,
        zero: Some("80 % of the RAM, or of the cgroup's limit if that is lower"),
    },
    default: Value::Number(0),
    doc: "Memory that all maps of the process share for tails and indexes; what does not fit is an \
          error when it is asked for.",
};

/// Direct I/O.
pub static DIRECT_IO: SettingSpec = SettingSpec {
    key: "directIo",
    scope: Scope::Runtime,
    kind: Kind::Word(AUTO),
    default: Value::Word("auto"),
    doc: "Write and read map files past the page cache where the file system can.",
};

/// Batched reads through `io_uring`.
pub static IO_URING: SettingSpec = SettingSpec {
    key: "ioUring",
    scope: Scope::Runtime,
    kind: Kind::Word(AUTO),
    default: Value::Word("auto"),
    doc: "Read batches through io_uring where the kernel has it; one after another otherwise.",
};

/// Reads in flight per batch.
pub static READ_RING_DEPTH: SettingSpec = SettingSpec {
    key: "readRingDepth",
    scope: Scope::Runtime,
    kind: Kind::Count { min: 1, max: 4096, zero: None },
    default: Value::Number(128),
    doc: "Reads that one batch keeps in flight through io_uring.",
};

/// Unlinked files through `O_TMPFILE`.
pub static O_TMPFILE: SettingSpec = SettingSpec {
    key: "oTmpfile",
    scope: Scope::Runtime,
    kind: Kind::Word(AUTO),
    default: Value::Word("auto"),
    doc: "Make unlinked files with O_TMPFILE where possible; create and unlink otherwise.",
};

/// Huge pages.
pub static HUGE_PAGES: SettingSpec = SettingSpec {
    key: "hugePages",
    scope: Scope::Runtime,
    kind: Kind::Word(&["transparent", "explicit", "off"]),
    default: Value::Word("transparent"),
    doc: "Huge pages for indexes and tails: transparent ones; explicit: of those reserved by \
          vm.nr_hugepages, with a warning and transparent ones where they run out.",
};

/// Faulting in ahead.
pub static FAULT_AHEAD: SettingSpec = SettingSpec {
    key: "faultAhead",
    scope: Scope::Runtime,
    kind: Kind::Word(AUTO),
    default: Value::Word("auto"),
    doc: "Let a thread touch the next piece of a growing index before insertions need it.",
};

/// The index's scan kernel.
pub static SCAN_KERNEL: SettingSpec = SettingSpec {
    key: "scanKernel",
    scope: Scope::Runtime,
    kind: Kind::Word(&["auto", "avx512", "avx2", "scalar"]),
    default: Value::Word("auto"),
    doc: "How the index compares a bucket; one that the processor lacks is an error.",
};

/// How sha256d is computed.
pub static HASH_KERNEL: SettingSpec = SettingSpec {
    key: "hashKernel",
    scope: Scope::Runtime,
    kind: Kind::Word(&["auto", "avx512", "shani", "avx2", "armsha2", "portable"]),
    default: Value::Word("auto"),
    doc: "How the process computes sha256d; one that the processor lacks is an error. auto: the \
          fastest, or what a runtime before this one asked for.",
};

/// Where mapped subtrees go.
pub static SUBTREE_MMAP_DIR: SettingSpec = SettingSpec {
    key: "subtreeMmapDir",
    scope: Scope::Runtime,
    kind: Kind::Directory,
    default: NO_TEXT,
    doc: "Directory for the unlinked files behind subtree nodes; empty keeps nodes in memory.",
};

/// Where a transaction map's files go.
pub static TX_MAP_DIRS: SettingSpec = SettingSpec {
    key: "txMapDirs",
    scope: Scope::TxMap,
    kind: Kind::Directories,
    default: NO_TEXT,
    doc: "Directories of the map's files, separated by |, one per disk; each gets a writer thread.",
};

/// Shares of the directories.
pub static TX_MAP_DIR_WEIGHTS: SettingSpec = SettingSpec {
    key: "txMapDirWeights",
    scope: Scope::TxMap,
    kind: Kind::Each(&Kind::Count { min: 1, max: 1000, zero: None }),
    default: NO_TEXT,
    doc: "Shares of the directories in what is written, such as 3|1; empty: equal shares.",
};

/// Space that the map may take.
pub static TX_MAP_DIR_QUOTAS: SettingSpec = SettingSpec {
    key: "txMapDirQuotas",
    scope: Scope::TxMap,
    kind: Kind::Each(&Kind::Bytes {
        min: 64 * K,
        max: 1024 * T,
        power_of_two: false,
        zero: Some("no limit"),
    }),
    default: NO_TEXT,
    doc: "Bytes that the map's files may take in each directory, whole segments, those of a clear \
          too until they are gone; the map is full before it takes more.",
};

/// Space that must stay free.
pub static TX_MAP_DIR_FLOORS: SettingSpec = SettingSpec {
    key: "txMapDirFloors",
    scope: Scope::TxMap,
    kind: Kind::Each(&Kind::Bytes {
        min: 1,
        max: 1024 * T,
        power_of_two: false,
        zero: Some("none"),
    }),
    default: NO_TEXT,
    doc: "Bytes that the map leaves free on the file system of each directory; it is full before \
          it takes them.",
};

/// RAM of the tail.
pub static TX_MAP_TAIL: SettingSpec = SettingSpec {
    key: "txMapTail",
    scope: Scope::TxMap,
    kind: Kind::Bytes { min: 256 * K, max: 4 * T, power_of_two: false, zero: None },
    default: Value::Number(256 * M),
    doc: "Recent records kept in RAM, shared by the directories: write buffer and cache in one.",
};

/// Unit of writing.
pub static TX_MAP_BLOCK: SettingSpec = SettingSpec {
    key: "txMapBlock",
    scope: Scope::TxMap,
    kind: Kind::Bytes {
        min: 16 * K,
        max: 64 * M,
        power_of_two: true,
        zero: Some("2M, or less for a small tail or segment"),
    },
    default: Value::Number(0),
    doc: "Unit in which the tail is written; at most a quarter of tail and segment.",
};

/// File size of the log.
pub static TX_MAP_SEGMENT: SettingSpec = SettingSpec {
    key: "txMapSegment",
    scope: Scope::TxMap,
    kind: Kind::Bytes { min: 64 * K, max: 16 * G, power_of_two: true, zero: None },
    default: Value::Number(256 * M),
    doc: "Size of one file of the log, preallocated; also bounds the longest value.",
};

/// Entries to make room for at once.
pub static TX_MAP_EXPECTED_ENTRIES: SettingSpec = SettingSpec {
    key: "txMapExpectedEntries",
    scope: Scope::TxMap,
    kind: Kind::Count { min: 1, max: 100_000_000_000, zero: Some("unknown, the index grows") },
    default: Value::Number(0),
    doc: "Entries the index is sized for at once; it grows past them.",
};

/// Flush by size.
pub static TX_MAP_FLUSH_BYTES: SettingSpec = SettingSpec {
    key: "txMapFlushBytes",
    scope: Scope::TxMap,
    kind: Kind::Bytes {
        min: 16 * K,
        max: 4 * T,
        power_of_two: false,
        zero: Some("a quarter of the tail"),
    },
    default: Value::Number(0),
    doc: "Unwritten bytes at which writing begins; more than half of the tail counts as half.",
};

/// Flush by age.
pub static TX_MAP_FLUSH_AGE: SettingSpec = SettingSpec {
    key: "txMapFlushAge",
    scope: Scope::TxMap,
    kind: Kind::Millis { min: 100, max: 24 * 3_600_000, zero: Some("never by age") },
    default: Value::Number(0),
    doc: "Age at which a block that is not full is written.",
};

/// Longest wait of a write.
pub static TX_MAP_WRITE_TIMEOUT: SettingSpec = SettingSpec {
    key: "txMapWriteTimeout",
    scope: Scope::TxMap,
    kind: Kind::Millis { min: 1, max: 24 * 3_600_000, zero: None },
    default: Value::Number(30_000),
    doc: "Longest that a write waits for space in the tail before it fails with a timeout.",
};

/// The fixed name of a map.
pub static TX_MAP_NAME: SettingSpec = SettingSpec {
    key: "txMapName",
    scope: Scope::TxMap,
    kind: Kind::Name,
    default: NO_TEXT,
    doc: "Name of the map's subdirectories; a second map of this name is refused. Empty: its own.",
};

/// Faulting the tail in.
pub static TX_MAP_PREFAULT: SettingSpec = SettingSpec {
    key: "txMapPrefault",
    scope: Scope::TxMap,
    kind: Kind::Word(&["off", "on"]),
    default: Value::Word("off"),
    doc: "Fault in the tail, and the index where its size is known, before the map is used.",
};

/// Index memory made ready.
pub static TX_MAP_INDEX_RESERVE: SettingSpec = SettingSpec {
    key: "txMapIndexReserve",
    scope: Scope::TxMap,
    kind: Kind::Bytes { min: 2 * M, max: 4 * T, power_of_two: false, zero: Some("none") },
    default: Value::Number(0),
    doc: "Index memory that is taken and touched at opening, for growth beyond \
          txMapExpectedEntries.",
};

/// Index memory at most.
pub static TX_MAP_INDEX_CAP: SettingSpec = SettingSpec {
    key: "txMapIndexCap",
    scope: Scope::TxMap,
    kind: Kind::Bytes { min: 2 * M, max: 4 * T, power_of_two: false, zero: Some("memoryBudget") },
    default: Value::Number(0),
    doc: "Index memory at most; an insertion that needs more fails with out of memory.",
};

/// Compaction at all.
pub static TX_MAP_COMPACTION: SettingSpec = SettingSpec {
    key: "txMapCompaction",
    scope: Scope::TxMap,
    kind: Kind::Word(&["auto", "on", "off"]),
    default: Value::Word("auto"),
    doc: "Move live records out of segments that are mostly dead, so that their space is freed; \
          off: a file stays until nothing in it is live. auto: on. Space of a durable map comes \
          back at its next sync, and it is compacted no further while more waits for that than is \
          live.",
};

/// What sizes are similar.
pub static TX_MAP_COMPACTION_SIZE_RATIO: SettingSpec = SettingSpec {
    key: "txMapCompactionSizeRatio",
    scope: Scope::TxMap,
    kind: Kind::Count { min: 1, max: 100_000, zero: Some("equal sizes only") },
    default: Value::Number(100),
    doc: "Percent by which a segment's live bytes may exceed the next smaller one's to be merged \
          with it.",
};

/// Fewest similar segments.
pub static TX_MAP_COMPACTION_MIN_WIDTH: SettingSpec = SettingSpec {
    key: "txMapCompactionMinWidth",
    scope: Scope::TxMap,
    kind: Kind::Count { min: 2, max: 65_536, zero: None },
    default: Value::Number(4),
    doc: "Similar segments, each at least half dead, that are worth a merge.",
};

/// Most segments at once.
pub static TX_MAP_COMPACTION_MAX_WIDTH: SettingSpec = SettingSpec {
    key: "txMapCompactionMaxWidth",
    scope: Scope::TxMap,
    kind: Kind::Count { min: 2, max: 65_536, zero: Some("no limit") },
    default: Value::Number(0),
    doc: "Segments that one merge takes at most.",
};

/// Space that dead records may take.
pub static TX_MAP_COMPACTION_SPACE: SettingSpec = SettingSpec {
    key: "txMapCompactionSpace",
    scope: Scope::TxMap,
    kind: Kind::Count { min: 1, max: 1_000_000, zero: Some("nothing, whatever it costs") },
    default: Value::Number(200),
    doc: "Dead bytes in percent of live ones, in the files of a directory, from which on every \
          segment with dead bytes is merged.",
};

/// Size of a merge.
pub static TX_MAP_COMPACTION_TARGET: SettingSpec = SettingSpec {
    key: "txMapCompactionTarget",
    scope: Scope::TxMap,
    kind: Kind::Bytes { min: 64 * K, max: 16 * T, power_of_two: false, zero: None },
    default: Value::Number(64 * M),
    doc: "Live bytes after which a merge for space looks again at what is left to do; at least a \
          segment.",
};

/// Bandwidth of compaction.
pub static TX_MAP_COMPACTION_RATE: SettingSpec = SettingSpec {
    key: "txMapCompactionRate",
    scope: Scope::TxMap,
    kind: Kind::Bytes { min: 64 * K, max: T, power_of_two: false, zero: Some("no limit") },
    default: Value::Number(0),
    doc: "Bytes that compaction reads and writes per second.",
};

/// Where writers become slower.
pub static TX_MAP_COMPACTION_SLOWDOWN: SettingSpec = SettingSpec {
    key: "txMapCompactionSlowdown",
    scope: Scope::TxMap,
    kind: Kind::Bytes { min: 1, max: 64 * T, power_of_two: false, zero: Some("never") },
    default: Value::Number(0),
    doc: "Dead bytes above txMapCompactionSpace from which on each write is delayed.",
};

/// Where writers wait.
pub static TX_MAP_COMPACTION_STOP: SettingSpec = SettingSpec {
    key: "txMapCompactionStop",
    scope: Scope::TxMap,
    kind: Kind::Bytes { min: 1, max: 64 * T, power_of_two: false, zero: Some("never") },
    default: Value::Number(0),
    doc: "Dead bytes above txMapCompactionSpace from which on writes wait; deletions do not.",
};

/// The longest delay.
pub static TX_MAP_COMPACTION_MAX_DELAY: SettingSpec = SettingSpec {
    key: "txMapCompactionMaxDelay",
    scope: Scope::TxMap,
    kind: Kind::Millis { min: 1, max: 60_000, zero: Some("no delay") },
    default: Value::Number(10),
    doc: "Delay of a write just below txMapCompactionStop; it grows evenly from none at \
          txMapCompactionSlowdown.",
};

/// What survives.
pub static TX_MAP_DURABILITY: SettingSpec = SettingSpec {
    key: "txMapDurability",
    scope: Scope::TxMap,
    kind: Kind::Word(&["ephemeral", "process", "durable"]),
    default: Value::Word("ephemeral"),
    doc: "ephemeral: the map dies with the process. durable: what was synced survives a power cut \
          and is there when a map of this txMapName is opened again. process: so is all that was \
          acknowledged, if only the process was killed.",
};

/// Where a process map's ring goes.
pub static TX_MAP_RING_DIR: SettingSpec = SettingSpec {
    key: "txMapRingDir",
    scope: Scope::TxMap,
    kind: Kind::Directory,
    default: NO_TEXT,
    doc: "Directory for the ring of a process map, as large as txMapTail, such as one on tmpfs; \
          empty: the map's first directory.",
};

/// Syncing segments as they fill.
pub static TX_MAP_SYNC_ON_SEAL: SettingSpec = SettingSpec {
    key: "txMapSyncOnSeal",
    scope: Scope::TxMap,
    kind: Kind::Word(&["off", "on"]),
    default: Value::Word("off"),
    doc: "Sync each segment of a durable or process map when its last block is written, so that a \
          later sync has less to do.",
};

/// Every setting, in the order of the documentation.
pub static SETTINGS: &[&SettingSpec] = &[
    &MEMORY_BUDGET,
    &DIRECT_IO,
    &IO_URING,
    &READ_RING_DEPTH,
    &O_TMPFILE,
    &HUGE_PAGES,
    &FAULT_AHEAD,
    &SCAN_KERNEL,
    &HASH_KERNEL,
    &SUBTREE_MMAP_DIR,
    &TX_MAP_DIRS,
    &TX_MAP_DIR_WEIGHTS,
    &TX_MAP_DIR_QUOTAS,
    &TX_MAP_DIR_FLOORS,
    &TX_MAP_TAIL,
    &TX_MAP_BLOCK,
    &TX_MAP_SEGMENT,
    &TX_MAP_EXPECTED_ENTRIES,
    &TX_MAP_FLUSH_BYTES,
    &TX_MAP_FLUSH_AGE,
    &TX_MAP_WRITE_TIMEOUT,
    &TX_MAP_NAME,
    &TX_MAP_PREFAULT,
    &TX_MAP_INDEX_RESERVE,
    &TX_MAP_INDEX_CAP,
    &TX_MAP_COMPACTION,
    &TX_MAP_COMPACTION_SIZE_RATIO,
    &TX_MAP_COMPACTION_MIN_WIDTH,
    &TX_MAP_COMPACTION_MAX_WIDTH,
    &TX_MAP_COMPACTION_SPACE,
    &TX_MAP_COMPACTION_TARGET,
    &TX_MAP_COMPACTION_RATE,
    &TX_MAP_COMPACTION_SLOWDOWN,
    &TX_MAP_COMPACTION_STOP,
    &TX_MAP_COMPACTION_MAX_DELAY,
    &TX_MAP_DURABILITY,
    &TX_MAP_RING_DIR,
    &TX_MAP_SYNC_ON_SEAL,
];
