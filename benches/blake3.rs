//! BLAKE3 of many inputs of 64 to 512 bytes by every kernel of this processor, beside the crate
//! `blake3`: one input after the other, and its function for many inputs, which is public but
//! hidden (`blake3::platform`); its documented interface has none.
//!
//! `cargo bench --bench blake3 [-- ROUNDS]`, 5 rounds by default, 30 to 200 ms each.
//!
//! All do the same work in the same run: in every round each of them has a turn, and the table has
//! the best and the median of its rounds in M hashes/s. 256 KiB of inputs that stay in the
//! second-level cache, to their digests, per thread. A last row has so few inputs that they are a
//! remainder, 7 of 64 bytes. Writes `target/bench/blake3.json`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to hand on")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use blake3::IncrementCounter;
use blake3::platform::Platform;
use blocktier::Hash;
use blocktier::hash::{Blake3, Blake3Kernel};

const BYTES: usize = 256 << 10;
/// Passes over the inputs in one round.
const PASSES: usize = 512;
const THREADS: [usize; 2] = [1, 2];
/// Inputs that do not fill a group.
const FEW: usize = 7;

#[derive(Clone, Copy)]
enum By {
    Kernel(Blake3),
    CrateMany(Platform),
}

impl By {
    fn all() -> Vec<Self> {
        let kernels = Blake3Kernel::available().map(Self::Kernel);
        kernels.chain([Self::CrateMany(Platform::detect())]).collect()
    }

    fn name(self) -> String {
        match self {
            Self::Kernel(kernel) if kernel.kernel() == Blake3Kernel::Crate => {
                "crate, one by one".into()
            }
            Self::Kernel(kernel) => kernel.kernel().name().into(),
            Self::CrateMany(platform) => format!("crate, many ({platform:?})"),
        }
    }

    fn hash_many<const N: usize>(self, inputs: &[[u8; N]], out: &mut [Hash]) {
        match self {
            Self::Kernel(kernel) => kernel.hash_many(inputs, out),
            Self::CrateMany(platform) => {
                // It takes references, so many that making them stays in the first-level cache.
                for (inputs, out) in inputs.chunks(64).zip(out.chunks_mut(64)) {
                    let mut references = [&inputs[0]; 64];
                    for (reference, input) in references.iter_mut().zip(inputs) {
                        *reference = input;
                    }
                    let (inputs, out) = (&references[..inputs.len()], out.as_flattened_mut());
                    let (key, no) = (&INITIAL, IncrementCounter::No);
                    platform.hash_many(inputs, key, 0, no, 0, START, END_AND_ROOT, out);
                }
            }
        }
    }
}

const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
const START: u8 = 1;
const END_AND_ROOT: u8 = 2 | 8;

struct Row {
    length: usize,
    count: usize,
    by: By,
    seconds: Vec<f64>,
}

impl Row {
    fn hashes(&self, threads: usize) -> usize {
        threads * self.passes() * self.count
    }

    fn passes(&self) -> usize {
        PASSES * BYTES / self.length / self.count
    }

    fn turn(&self, threads: usize) -> f64 {
        match self.length {
            64 => self.on_threads::<64>(threads),
            128 => self.on_threads::<128>(threads),
            256 => self.on_threads::<256>(threads),
            _ => self.on_threads::<512>(threads),
        }
    }

    /// Seconds from the first thread's start to the last one's end; all start together.
    fn on_threads<const N: usize>(&self, threads: usize) -> f64 {
        let barrier = Barrier::new(threads);
        let run = |thread: usize| {
            let mut inputs = vec![[0u8; N]; self.count];
            for (number, input) in inputs.iter_mut().enumerate() {
                input.fill((number * 31 + thread) as u8);
            }
            let mut out = vec![[0u8; 32]; self.count];
            self.by.hash_many(&inputs, &mut out);
            for (input, out) in inputs.iter().zip(&out) {
                assert_eq!(blake3::hash(input), *out, "all compute the same hashes");
            }
            barrier.wait();
            let start = Instant::now();
            for _ in 0..self.passes() {
                self.by.hash_many(black_box(&inputs), black_box(&mut out));
            }
            (start, Instant::now())
        };
        std::thread::scope(|scope| {
            let run = &run;
            let running: Vec<_> =
                (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
            let times: Vec<_> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
            let start = times.iter().map(|(start, _)| *start).min().unwrap();
            let end = times.iter().map(|(_, end)| *end).max().unwrap();
            (end - start).as_secs_f64()
        })
    }
}

fn main() {
    // Cargo adds one of its own.
    let rounds = std::env::args().skip(1).find(|argument| argument != "--bench");
    let rounds: usize = rounds.map_or(5, |text| text.parse().unwrap());
    println!("{}", machine());
    let mut json = Vec::new();
    for threads in THREADS {
        let mut rows = Vec::new();
        let mut add = |length, count| {
            let row = |by| Row { length, count, by, seconds: Vec::new() };
            rows.extend(By::all().into_iter().map(row));
        };
        for length in [64, 128, 256, 512] {
            add(length, BYTES / length);
        }
        add(64, FEW);
        for _ in 0..rounds {
            for row in &mut rows {
                row.seconds.push(row.turn(threads));
            }
        }
        print(threads, &mut rows, &mut json);
    }
    let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("blake3.json"), serde_json::to_vec_pretty(&json).unwrap()).unwrap();
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown").to_owned()
    };
    let (family, model) = (field("cpu family"), field("model\t"));
    let cpus = std::thread::available_parallelism().unwrap();
    format!("{}, family {family} model {model}, {cpus} CPUs", field("model name"))
}

fn print(threads: usize, rows: &mut [Row], json: &mut Vec<serde_json::Value>) {
    println!("\n| threads = {threads} | by | best M/s | median M/s |");
    println!("| - | - | -: | -: |");
    for row in &mut *rows {
        row.seconds.sort_by(f64::total_cmp);
    }
    let rate = |row: &Row, at: usize| row.hashes(threads) as f64 / row.seconds[at] / 1e6;
    let median = |row: &Row| rate(row, row.seconds.len() / 2);
    for row in &*rows {
        let (length, count, name) = (row.length, row.count, row.by.name());
        let case = format!("{length} bytes, {count} inputs");
        println!("| {case} | {name} | {:.2} | {:.2} |", rate(row, 0), median(row));
        let one_by_one = rows.iter().find(|other| {
            (other.length, other.count) == (length, count) && other.by.name() == "crate, one by one"
        });
        json.push(serde_json::json!({
            "id": "blake3", "case": format!("{case}, {name}"), "n": count, "threads": threads,
            "measured": median(row), "unit": "M/s", "baseline": one_by_one.map(median),
            "baseline_name": "crate, one by one", "limit": null, "limit_name": null,
        }));
    }
}
