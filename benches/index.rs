//! The index alone: insert, hit and miss, one by one and in batches, beside what the same amount of
//! memory gives for random reads of cache lines in the same run.
//!
//! `cargo bench --bench index [-- [N] [hinted|grown] [huge|small] [auto|avx512|avx2|scalar]
//! [single|batch] [threads=1|threads=2]]`, N = 10,000,000 keys by default. Above 100,000,000 it
//! neither removes nor inserts again.
//!
//! Keys are 32-byte ids made outside the clock, ten million at a time; hashing them is inside. A
//! batch is 256 keys, with the prefetch stages 52, 40 and 20 keys ahead. Rates are in millions per
//! second. Writes `target/bench/index.json`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::panic, reason = "a benchmark that cannot run has nothing to hand on")]
#![expect(clippy::unwrap_used, reason = "as above")]
#![expect(unsafe_code, reason = "prefetch and huge pages for the memory's own rate")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blocktier::hash::keyed::{KeyHash, KeyedHasher};
use blocktier::index::{Candidates, Index, IndexOptions, Insert, Location, ScanKernel};
use blocktier::runtime::Preparer;
use blocktier::storage::HugePages;

/// Keys that are in memory at a time, so that the index is nearly all of the process's memory.
const PIECE: usize = 10_000_000;
const BATCH: usize = 256;
const AHEAD: usize = 52;
const AHEAD_PRIMARY: usize = 40;
const AHEAD_ALTERNATE: usize = 20;

type Key = [u8; 32];

struct Config {
    keys: usize,
    hinted: bool,
    huge_pages: bool,
    kernel: ScanKernel,
    ways: &'static [bool],
    threads: &'static [usize],
}

struct Row {
    case: String,
    threads: usize,
    rate: f64,
}

fn main() {
    let config = config();
    let mut rows = Vec::new();
    let hasher = KeyedHasher::random().unwrap();
    let mut bytes = 0;
    for &threads in config.threads {
        for &batched in config.ways {
            let index = Index::new(&IndexOptions {
                expected_entries: if config.hinted { config.keys as u64 } else { 0 },
                huge_pages: if config.huge_pages { HugePages::Transparent } else { HugePages::Off },
                kernel: config.kernel,
                preparer: Some(Arc::new(Preparer::default())),
                ..IndexOptions::default()
            })
            .unwrap();
            let keys = config.keys;
            let bench = Bench { index: &index, hasher: &hasher, threads, batched, inserts: true };
            rows.push(bench.insert(keys));
            let bench = Bench { inserts: false, ..bench };
            rows.push(bench.lookup("hit", 0, keys, keys));
            rows.push(bench.lookup("miss", keys, keys, 0));
            assert_eq!(index.len(), keys as u64);
            if keys <= 100_000_000 {
                // Into memory that is there: what the first insertion pays for page faults.
                rows.push(Bench { inserts: true, ..bench }.remove(keys));
                let row = Bench { inserts: true, ..bench }.insert(keys);
                rows.push(Row { case: row.case.replace("insert", "reinsert"), ..row });
            }
            bytes = index.memory_bytes();
            if threads == config.threads[0] && batched {
                println!("{:?}", index.stats());
                println!("{:.2} bytes per key", bytes as f64 / config.keys as f64);
            }
        }
        rows.push(line_rate(bytes as usize, config.huge_pages, threads));
    }
    report(&config, &rows, bytes as f64 / config.keys as f64);
}

fn config() -> Config {
    let mut config = Config {
        keys: 10_000_000,
        hinted: true,
        huge_pages: true,
        kernel: ScanKernel::Auto,
        ways: &[false, true],
        threads: &[1, 2],
    };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "hinted" => config.hinted = true,
            "grown" => config.hinted = false,
            "huge" => config.huge_pages = true,
            "small" => config.huge_pages = false,
            "auto" => config.kernel = ScanKernel::Auto,
            "avx512" => config.kernel = ScanKernel::Avx512,
            "avx2" => config.kernel = ScanKernel::Avx2,
            "scalar" => config.kernel = ScanKernel::Scalar,
            "single" => config.ways = &[false],
            "batch" => config.ways = &[true],
            "threads=1" => config.threads = &[1],
            "threads=2" => config.threads = &[2],
            // Cargo adds this one.
            "--bench" => {}
            number => {
                config.keys = number
                    .replace('_', "")
                    .parse()
                    .unwrap_or_else(|_| panic!("not an argument of this benchmark: {number}"));
            }
        }
    }
    config
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fill_keys(keys: &mut [Key], from: u64) {
    for (i, key) in keys.iter_mut().enumerate() {
        for (word, bytes) in key.chunks_mut(8).enumerate() {
            let seed = (from + i as u64) * 4 + word as u64 + 1;
            bytes.copy_from_slice(&mix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes());
        }
    }
}

struct Bench<'a> {
    index: &'a Index,
    hasher: &'a KeyedHasher,
    threads: usize,
    batched: bool,
    inserts: bool,
}

impl Bench<'_> {
    fn insert(&self, keys: usize) -> Row {
        let done = self.run("insert", 0, keys, |i, h, known| {
            let location = Location::new(i as u64 + 1).unwrap();
            let done = self.index.insert_new(h, location, 0, &known).unwrap();
            // A foreign match (a few in ten million) is refuted by knowing that keys differ.
            match done {
                Insert::Done => 1,
                Insert::Changed(current) => {
                    self.index.insert_new(h, location, 0, &current).unwrap();
                    1
                }
            }
        });
        assert_eq!(done.1, keys);
        done.0
    }

    fn remove(&self, keys: usize) -> Row {
        let done = self.run("remove", 0, keys, |i, h, _| {
            let location = Location::new(i as u64 + 1).unwrap();
            usize::from(self.index.lock(h).remove(h, location))
        });
        assert_eq!(done.1, keys);
        done.0
    }

    fn lookup(&self, case: &str, from: usize, keys: usize, expected: usize) -> Row {
        let done = self.run(case, from, keys, |_, _, found| usize::from(!found.is_empty()));
        let foreign = done.1.abs_diff(expected);
        assert!(foreign < 100 + keys / 10_000, "{case}: {foreign} wrong answers");
        done.0
    }

    /// Probes every key and hands its number and the result to `each`; the row and the sum of its
    /// results.
    fn run(
        &self,
        case: &str,
        from: usize,
        count: usize,
        each: impl Fn(usize, KeyHash, Candidates) -> usize + Sync,
    ) -> (Row, usize) {
        let (mut sum, mut took) = (0, Duration::ZERO);
        let mut keys = vec![[0; 32]; count.min(PIECE)];
        for first in (from..from + count).step_by(PIECE) {
            let keys = &mut keys[..(from + count - first).min(PIECE)];
            fill_keys(keys, first as u64);
            let began = Instant::now();
            sum += self.piece(first, keys, &each);
            took += began.elapsed();
        }
        let rate = count as f64 / took.as_secs_f64() / 1e6;
        let way = if self.batched { "batch" } else { "single" };
        (Row { case: format!("{case} {way}"), threads: self.threads, rate }, sum)
    }

    fn piece(
        &self,
        first: usize,
        keys: &[Key],
        each: &(impl Fn(usize, KeyHash, Candidates) -> usize + Sync),
    ) -> usize {
        let share = keys.len().div_ceil(self.threads);
        std::thread::scope(|scope| {
            let threads: Vec<_> = keys
                .chunks(share)
                .enumerate()
                .map(|(thread, keys)| {
                    scope.spawn(move || {
                        let each = |i, h, found| each(first + thread * share + i, h, found);
                        if self.batched {
                            self.batches(keys, each)
                        } else {
                            self.singles(keys, each)
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    }

    fn singles(&self, keys: &[Key], each: impl Fn(usize, KeyHash, Candidates) -> usize) -> usize {
        let mut sum = 0;
        for (i, key) in keys.iter().enumerate() {
            let h = self.hasher.hash32(key);
            sum += each(i, h, self.index.probe(h));
        }
        sum
    }

    fn batches(&self, keys: &[Key], each: impl Fn(usize, KeyHash, Candidates) -> usize) -> usize {
        let mut sum = 0;
        let mut hashes = [KeyHash { hi: 0, lo: 0 }; BATCH];
        for (batch, keys) in keys.chunks(BATCH).enumerate() {
            for step in 0..keys.len() + AHEAD {
                if let Some(key) = keys.get(step) {
                    hashes[step] = self.hasher.hash32(key);
                    self.index.prefetch_directory(hashes[step]);
                }
                let first = step.wrapping_sub(AHEAD - AHEAD_PRIMARY);
                if first < keys.len() {
                    self.index.prefetch(hashes[first]);
                }
                let second = step.wrapping_sub(AHEAD - AHEAD_ALTERNATE);
                if second < keys.len() && self.inserts {
                    self.index.prefetch_room(hashes[second]);
                } else if second < keys.len() {
                    self.index.prefetch_alternate(hashes[second]);
                }
                if let Some(i) = step.checked_sub(AHEAD) {
                    let h = hashes[i];
                    sum += each(batch * BATCH + i, h, self.index.probe(h));
                }
            }
        }
        sum
    }
}

/// Random cache lines per second of `bytes` of memory like the index's, read 128 ahead.
fn line_rate(bytes: usize, huge_pages: bool, threads: usize) -> Row {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    const DEPTH: usize = 128;
    const READS: usize = 20_000_000;
    let bytes = bytes.next_multiple_of(2 << 20);
    // SAFETY: a new anonymous mapping; advice about it.
    let start = unsafe {
        let flags = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        let start = mmap_anonymous(std::ptr::null_mut(), bytes, flags.0, flags.1).unwrap();
        if huge_pages {
            let _ = madvise(start, bytes, Advice::LinuxHugepage);
        }
        start
    };
    // SAFETY: mapped above, zeroed, unmapped below.
    let words = unsafe { std::slice::from_raw_parts_mut(start.cast::<u64>(), bytes / 8) };
    words.iter_mut().step_by(8).for_each(|word| *word = 1);
    let words = &*words;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let lines = (bytes / 64) as u64;
                let place = |i: usize| {
                    let random = mix((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    (((random >> 32) * lines) >> 32) as usize * 8
                };
                let mut sum = 0;
                for i in thread * READS..(thread + 1) * READS {
                    prefetch(&words[place(i + DEPTH)]);
                    sum += words[place(i)];
                }
                assert_eq!(black_box(sum), READS as u64);
            });
        }
    });
    let rate = (threads * READS) as f64 / began.elapsed().as_secs_f64() / 1e6;
    // SAFETY: nothing refers to it any more.
    unsafe { munmap(start, bytes).unwrap() };
    Row { case: "random lines".into(), threads, rate }
}

fn prefetch(word: &u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}

fn report(config: &Config, rows: &[Row], bytes_per_key: f64) {
    println!(
        "{} keys, {}, {} pages, {:?}",
        config.keys,
        if config.hinted { "hinted" } else { "grown" },
        if config.huge_pages { "huge" } else { "small" },
        config.kernel
    );
    println!("{:<16} {:>8} {:>10} {:>8}", "case", "threads", "M/s", "of lines");
    let limit = |threads| {
        rows.iter().find(|row| row.threads == threads && row.case == "random lines").unwrap().rate
    };
    let mut json = Vec::new();
    for row in rows {
        let limit = limit(row.threads);
        println!(
            "{:<16} {:>8} {:>10.1} {:>8.3}",
            row.case,
            row.threads,
            row.rate,
            row.rate / limit
        );
        json.push(serde_json::json!({
            "id": "index", "case": row.case, "n": config.keys, "threads": row.threads,
            "measured": row.rate, "unit": "M/s", "baseline": null, "baseline_name": null,
            "limit": limit, "limit_name": "random cache lines", "rss_bytes": rss_bytes(),
        }));
    }
    json.push(serde_json::json!({
        "id": "index", "case": "bytes per key", "n": config.keys, "threads": 2,
        "measured": bytes_per_key, "unit": "B", "baseline": null, "baseline_name": null,
        "limit": null, "limit_name": null, "rss_bytes": rss_bytes(),
    }));
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("index.json"), serde_json::to_vec_pretty(&json).unwrap()).unwrap();
}

fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
