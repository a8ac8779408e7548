//! Directories that are each as slow as a disk: how the rate grows with their number, and what
//! share of the records each gets (row A15 of docs/benchmarks.md).
//!
//! `cargo bench --bench directories [-- [MB per second] [dir=DIR]]`, by default 100 for each.
//!
//! The storage layer lets each directory write so many bytes per second and no more, so that one
//! disk stands for several. Two threads insert batches of 256 records; the clock stops after
//! `flush`. Shares are of the bytes that were written, without throttling.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::panic, reason = "a benchmark that cannot run has nothing to hand on")]
#![expect(clippy::unwrap_used, reason = "as above")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use blocktier::diskmap::{Batch, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::{FaultStorage, RealStorage};
use blocktier::txmap::DiskTxMap;
use serde_json::{Value, json};

const BATCH: usize = 256;
/// So long that the disks are the limit and not the processors.
const VALUE: usize = 468;
const RECORD: u64 = 512;
const THREADS: usize = 2;
/// What each directory writes while it is throttled.
const SECONDS: u64 = 4;
const TAIL: u64 = 64 << 20;
const SHARED_RECORDS: u64 = 1_000_000;

fn main() {
    let (mut rate, mut dir) = (100, std::env::temp_dir());
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        match argument.split_once('=') {
            Some(("dir", path)) => dir = PathBuf::from(path),
            _ => {
                rate = argument
                    .parse()
                    .unwrap_or_else(|_| panic!("not an argument of this benchmark: {argument}"));
            }
        }
    }
    let mut rows = Vec::new();
    throttled(&dir, rate * 1_000_000, &mut rows);
    shares(&dir, &mut rows);
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&target).unwrap();
    let text = serde_json::to_vec_pretty(&rows).unwrap();
    std::fs::write(target.join("directories.json"), text).unwrap();
}

fn throttled(dir: &Path, rate: u64, rows: &mut Vec<Value>) {
    println!("each directory writes {} MB/s at most", rate / 1_000_000);
    println!("{:>11} {:>8} {:>9} {:>14}", "directories", "MB/s", "of limit", "of linear");
    let mut single = 0.0;
    for count in [1, 2, 4] {
        let records = rate * SECONDS * count / RECORD;
        let written = fill(dir, count as usize, records, Some(rate));
        let measured = written.rate * RECORD as f64;
        if count == 1 {
            single = measured;
        }
        let (limit, linear) = ((rate * count) as f64, single * count as f64);
        println!(
            "{count:>11} {:>8.1} {:>9.3} {:>14.3}",
            measured / 1e6,
            measured / limit,
            measured / linear
        );
        let case = format!("{count} throttled directories, of linear");
        rows.push(row(&case, records, measured / linear, "", Some(limit / linear)));
    }
}

fn shares(dir: &Path, rows: &mut Vec<Value>) {
    println!("\n{:>11} {:>30}", "directories", "largest difference to an even share");
    for count in [1, 2, 3, 5, 7] {
        let written = fill(dir, count, SHARED_RECORDS, None);
        let even = written.bytes.iter().sum::<u64>() as f64 / count as f64;
        let difference = |bytes: &u64| (*bytes as f64 / even - 1.0).abs();
        let largest = written.bytes.iter().map(difference).fold(0.0, f64::max);
        println!("{count:>11} {:>28.2} %", 100.0 * largest);
        let case = format!("{count} directories, largest difference to an even share");
        rows.push(row(&case, SHARED_RECORDS, largest, "", None));
    }
}

fn row(case: &str, n: u64, measured: f64, unit: &str, limit: Option<f64>) -> Value {
    json!({
        "id": "A15", "case": case, "n": n, "threads": THREADS, "measured": measured,
        "unit": unit, "baseline": null, "baseline_name": null, "limit": limit,
        "limit_name": limit.map(|_| "what the directories may write"), "rss_bytes": null,
    })
}

struct Written {
    /// Records per second.
    rate: f64,
    /// Of each directory.
    bytes: Vec<u64>,
}

fn fill(dir: &Path, directories: usize, records: u64, bytes_per_second: Option<u64>) -> Written {
    let scratch = tempfile::tempdir_in(dir).unwrap();
    let paths: Vec<String> = (0..directories)
        .map(|number| {
            let path = scratch.path().join(number.to_string());
            std::fs::create_dir(&path).unwrap();
            path.display().to_string()
        })
        .collect();
    let storage = FaultStorage::new(Arc::new(RealStorage::new(&RuntimeSettings::default())));
    let settings = RuntimeSettings::default();
    let runtime = Runtime::with_storage(&settings, Arc::new(storage.clone())).unwrap();
    let text = format!(
        "txMapDirs = {}\ntxMapTail = {TAIL}\ntxMapSegment = 64M\n\
         txMapExpectedEntries = {records}\ntxMapPrefault = on\n",
        paths.join("|")
    );
    let map = DiskTxMap::open(&runtime, &TxMapSettings::parse(&text).unwrap()).unwrap();
    storage.set_bytes_per_second(bytes_per_second).unwrap();
    let began = Instant::now();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| insert(&map, records, &next));
        }
    });
    map.flush().unwrap();
    let rate = records as f64 / began.elapsed().as_secs_f64();
    assert_eq!(map.len(), records);
    let bytes = runtime.disks().iter().map(|disk| disk.stats().snapshot().bytes_written).collect();
    Written { rate, bytes }
}

fn insert(map: &DiskTxMap, records: u64, next: &AtomicU64) {
    let arena = vec![7; VALUE * BATCH];
    let offsets: Vec<u64> = (0..=BATCH as u64).map(|i| i * VALUE as u64).collect();
    let mut keys = [[0; 32]; BATCH];
    loop {
        let first = next.fetch_add(BATCH as u64, Ordering::Relaxed);
        if first >= records {
            return;
        }
        let keys = &mut keys[..BATCH.min((records - first) as usize)];
        for (number, key) in (first..).zip(keys.iter_mut()) {
            for (word, bytes) in (1..).zip(key.chunks_mut(8)) {
                bytes.copy_from_slice(&mix(number * 4 + word).to_le_bytes());
            }
        }
        let batch = Batch::new(keys, &arena, &offsets[..=keys.len()], None).unwrap();
        let mut states = [ItemState::Pending; BATCH];
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states[..keys.len()]).unwrap();
    }
}

const fn mix(z: u64) -> u64 {
    let mut z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
