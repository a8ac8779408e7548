//! Three ways to make an immutable table with a footer of the records that were written last, and
//! what each costs beside writing them.
//!
//! `cargo bench --bench seal [-- [N] [dir=DIR]]`, by default 4,000,000 records of 128 bytes.
//!
//! - log only: the records go to the log of an ephemeral map, and no table is made.
//! - sealing in place: a durable map, synced and closed. Its segments are the tables: they are
//!   truncated to their records, synced, and get a summary of key hashes and places.
//! - rewriting: the log is read in its order and written again to a table, as a log-structured
//!   store does when it flushes a memtable that has a log.
//! - dumping: all records stay in RAM until the end and are written to a table once; a process
//!   that is killed before has lost them.
//!
//! The last two write tables of 64 MiB, records with a CRC-32C and 40 bytes for each in a footer,
//! as the first does, by direct I/O in blocks of 2 MiB with fdatasync at the end. Each way is a
//! process. CPU time is of all threads, bytes are those that the process wrote to disk.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::panic, reason = "a benchmark that cannot run has nothing to hand on")]
#![expect(clippy::unwrap_used, reason = "as above")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use blocktier::diskmap::{Batch, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::{AlignedBuf, CreateOptions, RealStorage, Storage, StorageFile};
use blocktier::txmap::DiskTxMap;
use serde_json::{Value, json};

const BATCH: usize = 256;
const VALUE: usize = 84;
const RECORD: u64 = 128;
const FOOTER: usize = 40;
/// Of a table, as many as one of our segments holds.
const TABLE_RECORDS: usize = (64 << 20) / RECORD as usize;
const BLOCK: usize = 2 << 20;
const WAYS: [&str; 4] = ["log only", "sealing in place", "rewriting", "dumping"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let (mut count, mut dir) = (4_000_000, std::env::temp_dir());
    let mut way = None;
    for argument in &arguments {
        match argument.split_once('=') {
            Some(("dir", path)) => dir = PathBuf::from(path),
            Some(("way", name)) => way = Some(name),
            _ => {
                count = argument
                    .parse()
                    .unwrap_or_else(|_| panic!("not an argument of this benchmark: {argument}"));
            }
        }
    }
    match way {
        Some(way) => println!("{}", measure(way, &dir, count)),
        None => compare(&dir, count),
    }
}

/// Runs each way in a process of its own and prints the table.
fn compare(dir: &Path, count: u64) {
    let payload = (count * RECORD) as f64;
    println!("{count} records, {:.0} MB of log", payload / 1e6);
    println!(
        "{:<17} {:>8} {:>8} {:>14} {:>14} {:>10} {:>15}",
        "way", "s", "CPU s", "of it behind", "peak RSS, MiB", "MB written", "per log byte"
    );
    let mut rows = Vec::new();
    for way in WAYS {
        let scratch = tempfile::tempdir_in(dir).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .arg(format!("way={way}"))
            .arg(format!("dir={}", scratch.path().display()))
            .arg(count.to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
        let row: Value = serde_json::from_slice(&output.stdout).unwrap();
        let figure = |name: &str| row[name].as_f64().unwrap();
        println!(
            "{way:<17} {:>8.2} {:>8.2} {:>14.2} {:>14.0} {:>10.0} {:>15.2}",
            figure("seconds"),
            figure("cpu_seconds"),
            figure("cpu_seconds_behind"),
            figure("rss_bytes") / 1_048_576.0,
            figure("written_bytes") / 1e6,
            figure("written_bytes") / payload,
        );
        rows.push(row);
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("seal.json"), serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
}

fn measure(way: &str, dir: &Path, count: u64) -> Value {
    let (durability, tail) = match way {
        "sealing in place" => ("durable", 64 << 20),
        // Unwritten to the end: half of a tail may be, and there is room for what is padded.
        "dumping" => ("ephemeral", (count * RECORD) * 5 / 2 + (128 << 20)),
        _ => ("ephemeral", 64 << 20),
    };
    let flush = if way == "dumping" { tail / 2 } else { tail / 4 };
    let text = format!(
        "txMapDirs = {}\ntxMapName = seal\ntxMapDurability = {durability}\n\
         txMapTail = {tail}\ntxMapFlushBytes = {flush}\ntxMapSegment = 64M\n\
         txMapExpectedEntries = {count}\ntxMapCompaction = off\n",
        dir.display()
    );
    let runtime = Runtime::open(&RuntimeSettings::parse("").unwrap()).unwrap();
    let map = DiskTxMap::open(&runtime, &TxMapSettings::parse(&text).unwrap()).unwrap();
    let (cpu, written, began) = (cpu_seconds(), written_bytes(), Instant::now());
    fill(&map, count);
    if way != "dumping" {
        map.flush().unwrap();
    }
    let filled = cpu_seconds();
    match way {
        "log only" => {}
        "sealing in place" => map.sync(Wait::Allowed).unwrap(),
        _ => write_tables(&map, dir, count),
    }
    // Summaries are made on the writer's thread; closing waits for them. What closing another map
    // does makes no table.
    let map = (way != "sealing in place").then_some(map);
    let row = json!({
        "way": way, "n": count, "seconds": began.elapsed().as_secs_f64(),
        "cpu_seconds": cpu_seconds() - cpu, "cpu_seconds_behind": cpu_seconds() - filled,
        "rss_bytes": peak_rss_bytes(), "written_bytes": written_bytes() - written,
    });
    drop(map);
    row
}

fn fill(map: &DiskTxMap, count: u64) {
    let arena = vec![7; VALUE * BATCH];
    let offsets: Vec<u64> = (0..=BATCH as u64).map(|i| i * VALUE as u64).collect();
    let mut keys = [[0; 32]; BATCH];
    for first in (0..count).step_by(BATCH) {
        let keys = &mut keys[..BATCH.min((count - first) as usize)];
        for (number, key) in (first..).zip(keys.iter_mut()) {
            for (word, bytes) in (1..).zip(key.chunks_mut(8)) {
                bytes.copy_from_slice(&mix(number * 4 + word).to_le_bytes());
            }
        }
        let batch = Batch::new(keys, &arena, &offsets[..=keys.len()], None).unwrap();
        let mut states = [ItemState::Pending; BATCH];
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states[..keys.len()]).unwrap();
    }
    assert_eq!(map.len(), count);
}

const fn mix(z: u64) -> u64 {
    let mut z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A table that is written from its beginning to its end.
struct Table {
    file: Box<dyn StorageFile>,
    block: AlignedBuf,
    used: usize,
    written: u64,
    footer: Vec<u8>,
}

impl Table {
    fn create(storage: &dyn Storage, path: &Path) -> Self {
        let bytes = TABLE_RECORDS * (RECORD as usize + FOOTER) + 4;
        let options = CreateOptions::allocated(bytes.next_multiple_of(BLOCK) as u64);
        let file = storage.create(path, &options).unwrap();
        let block = AlignedBuf::zeroed(BLOCK, file.alignment()).unwrap();
        Self { file, block, used: 0, written: 0, footer: Vec::new() }
    }

    fn records(&self) -> usize {
        self.footer.len() / FOOTER
    }

    fn add(&mut self, record: &[u8], key: &[u8]) {
        let mut line = [0; FOOTER];
        line[..16].copy_from_slice(&key[..16]);
        line[16..24].copy_from_slice(&(self.records() as u64).to_le_bytes());
        self.footer.extend_from_slice(&line);
        self.append(record);
    }

    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.used));
            self.block[self.used..][..now.len()].copy_from_slice(now);
            self.used += now.len();
            bytes = later;
            if self.used == BLOCK {
                self.write(BLOCK);
            }
        }
    }

    fn write(&mut self, bytes: usize) {
        self.file.write_all_at(&self.block[..bytes], self.written).unwrap();
        self.written += bytes as u64;
        self.used = 0;
    }

    fn seal(mut self) {
        let footer = std::mem::take(&mut self.footer);
        self.append(&footer);
        self.append(&crc32c::crc32c(&footer).to_le_bytes());
        self.write(self.used.next_multiple_of(4096));
        self.file.sync_data().unwrap();
    }
}

/// Writes all records of the map, in the order of its log, to tables of 64 MiB with footers.
fn write_tables(map: &DiskTxMap, dir: &Path, count: u64) {
    let storage = RealStorage::new(&RuntimeSettings::default());
    let create = |number: u64| Table::create(&storage, &dir.join(format!("table-{number}")));
    let (mut table, mut number) = (create(0), 0);
    let mut record = [0; RECORD as usize];
    map.for_each(|entry| {
        if table.records() == TABLE_RECORDS {
            std::mem::replace(&mut table, create(number / TABLE_RECORDS as u64)).seal();
        }
        record[8..40].copy_from_slice(entry.key);
        record[40..][..VALUE].copy_from_slice(entry.value);
        let sum = crc32c::crc32c(&record[8..]);
        record[..4].copy_from_slice(&sum.to_le_bytes());
        table.add(&record, entry.key);
        number += 1;
        true
    })
    .unwrap();
    table.seal();
    assert_eq!(number, count);
}

/// User and system time of all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn written_bytes() -> u64 {
    number_behind("/proc/self/io", "write_bytes:")
}

fn peak_rss_bytes() -> u64 {
    number_behind("/proc/self/status", "VmHWM:") << 10
}

fn number_behind(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
