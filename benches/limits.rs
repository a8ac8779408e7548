//! What the machine gives, for the benchmarks to be held against: sequential direct writes and
//! reads, random reads of 4 KiB, memory copies and random reads of cache lines. One JSON object on
//! stdout.
//!
//! ```text
//! cargo bench --bench limits -- write DIR BYTES          blocks of 2 MiB, fdatasync at the end
//! cargo bench --bench limits -- read DIR BYTES SECONDS   4 KiB at random, depth 1 and 128
//! cargo bench --bench limits -- sequential DIR BYTES     as write, then reads of 1 MiB, depth 8
//! cargo bench --bench limits -- memory SECONDS
//! ```
//!
//! Files are made as the engine makes them: reserved first, then written with direct I/O where the
//! file system has it. They are removed at the end.
#![expect(clippy::print_stdout, reason = "the figures go to stdout")]
#![expect(clippy::panic, reason = "a benchmark that cannot run has nothing to hand on")]
#![expect(clippy::unwrap_used, reason = "as above")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use blocktier::settings::RuntimeSettings;
use blocktier::storage::{
    AlignedBuf, CreateOptions, ReadRequest, RealStorage, Storage, StorageFile,
};
use serde_json::{Map, Value};

const BLOCK: usize = 2 << 20;
const PAGE: usize = 4096;
/// Requests of one call; the ring below keeps its depth of them in flight until they run out.
const BATCH: usize = 4096;
const COPY_BYTES: usize = 256 << 20;
const LINES_BYTES: usize = 512 << 20;
const THREADS: [usize; 2] = [1, 2];

fn main() {
    // Cargo adds one of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut figures = Map::new();
    match arguments[..] {
        ["write", dir, bytes] => write_rate(Path::new(dir), number(bytes), &mut figures),
        ["read", dir, bytes, seconds] => {
            read_rates(Path::new(dir), number(bytes), number(seconds), &mut figures);
        }
        ["sequential", dir, bytes] => sequential(Path::new(dir), number(bytes), &mut figures),
        ["memory", seconds] => memory_rates(number(seconds), &mut figures),
        _ => panic!(
            "want: write DIR BYTES | sequential DIR BYTES | read DIR BYTES SECONDS | memory SECONDS"
        ),
    }
    println!("{}", Value::Object(figures));
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// A file that goes with the value, whatever happens.
struct Scratch {
    path: PathBuf,
    file: Box<dyn StorageFile>,
}

impl Scratch {
    fn new(storage: &dyn Storage, dir: &Path, bytes: u64) -> Self {
        let path = dir.join(format!("limits-{}", std::process::id()));
        let file = storage.create(&path, &CreateOptions::allocated(bytes)).unwrap();
        Self { path, file }
    }

    /// Writes all of it and makes it durable.
    fn fill(&self, bytes: u64) {
        let mut block = AlignedBuf::zeroed(BLOCK, self.file.alignment()).unwrap();
        for (word, bytes) in block.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&mix(word as u64).to_le_bytes());
        }
        for offset in (0..bytes).step_by(BLOCK) {
            self.file.write_all_at(&block, offset).unwrap();
        }
        self.file.sync_data().unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn blocks_of(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK as u64)
}

fn write_rate(dir: &Path, bytes: u64, figures: &mut Map<String, Value>) {
    let bytes = blocks_of(bytes);
    let storage = RealStorage::new(&RuntimeSettings::default());
    let scratch = Scratch::new(&storage, dir, bytes);
    let start = Instant::now();
    scratch.fill(bytes);
    let rate = bytes as f64 / start.elapsed().as_secs_f64();
    figures.insert("write_bytes_per_second".into(), rate.into());
    figures.insert("direct".into(), scratch.file.is_direct().into());
}

/// Writing bytes and reading them again, both in order.
fn sequential(dir: &Path, bytes: u64, figures: &mut Map<String, Value>) {
    const PIECE: usize = 1 << 20;
    let bytes = blocks_of(bytes);
    let storage = RealStorage::new(&RuntimeSettings::default());
    let scratch = Scratch::new(&storage, dir, bytes);
    let start = Instant::now();
    scratch.fill(bytes);
    let written = start.elapsed().as_secs_f64();
    figures.insert("write_bytes_per_second".into(), (bytes as f64 / written).into());
    let mut space = AlignedBuf::zeroed(8 * PIECE, scratch.file.alignment()).unwrap();
    let start = Instant::now();
    let mut pieces = (0..bytes).step_by(PIECE).peekable();
    while pieces.peek().is_some() {
        let mut requests: Vec<_> = space
            .chunks_exact_mut(PIECE)
            .zip(pieces.by_ref())
            .map(|(piece, offset)| ReadRequest::new(offset, piece))
            .collect();
        scratch.file.read_batch(&mut requests);
        for request in requests {
            request.result.unwrap();
        }
    }
    let read = start.elapsed().as_secs_f64();
    figures.insert("read_bytes_per_second".into(), (bytes as f64 / read).into());
}

fn read_rates(dir: &Path, bytes: u64, seconds: u64, figures: &mut Map<String, Value>) {
    let bytes = blocks_of(bytes);
    let storage = RealStorage::new(&RuntimeSettings::default());
    let scratch = Scratch::new(&storage, dir, bytes);
    scratch.fill(bytes);
    let file = scratch.file.as_ref();
    let length = Duration::from_secs(seconds);
    for threads in THREADS {
        for (depth, batch) in [(1, 1), (128, BATCH)] {
            let rate = together(threads, |thread| {
                let mut space = AlignedBuf::zeroed(batch * PAGE, file.alignment()).unwrap();
                let mut random = (thread as u64 + 1) << 40;
                repeat(length, || {
                    let mut requests: Vec<_> = space
                        .chunks_exact_mut(PAGE)
                        .map(|page| {
                            random += 1;
                            let page_number = mix(random) % (bytes / PAGE as u64);
                            ReadRequest::new(page_number * PAGE as u64, page)
                        })
                        .collect();
                    file.read_batch(&mut requests);
                    for request in requests {
                        request.result.unwrap();
                    }
                    batch as u64
                })
            });
            figures
                .insert(format!("reads_per_second_depth_{depth}_threads_{threads}"), rate.into());
        }
    }
}

fn memory_rates(seconds: u64, figures: &mut Map<String, Value>) {
    let length = Duration::from_secs(seconds);
    for threads in THREADS {
        let rate = together(threads, |thread| {
            let from = vec![thread as u8 + 1; COPY_BYTES / threads];
            let mut to = vec![0u8; COPY_BYTES / threads];
            repeat(length, || {
                to.copy_from_slice(black_box(&from));
                black_box(&mut to);
                to.len() as u64
            })
        });
        figures.insert(format!("copy_bytes_per_second_threads_{threads}"), rate.into());
    }
    let words: Vec<u64> = (0..LINES_BYTES as u64 / 8).collect();
    for threads in THREADS {
        let rate = together(threads, |thread| {
            let mut random = (thread as u64 + 1) << 40;
            repeat(length, || {
                let mut sum = 0;
                for _ in 0..BATCH {
                    random += 1;
                    sum ^= words[mix(random) as usize % words.len()];
                }
                black_box(sum);
                BATCH as u64
            })
        });
        figures.insert(format!("random_lines_per_second_threads_{threads}"), rate.into());
    }
}

/// Units per second of all threads, each of which returns (units, seconds).
fn together(threads: usize, work: impl Fn(usize) -> Clocked + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(thread)
                })
            })
            .collect();
        let rate = |clocked: Clocked| clocked.units as f64 / clocked.seconds;
        started.into_iter().map(|thread| rate(thread.join().unwrap())).sum()
    })
}

struct Clocked {
    units: u64,
    seconds: f64,
}

/// Runs `work` once outside the clock and then for `length`.
fn repeat(length: Duration, mut work: impl FnMut() -> u64) -> Clocked {
    work();
    let start = Instant::now();
    let mut units = 0;
    while start.elapsed() < length {
        units += work();
    }
    Clocked { units, seconds: start.elapsed().as_secs_f64() }
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
