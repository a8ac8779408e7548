//! sha256d of 64-byte inputs by every kernel of this processor, beside the crates sha2 and
//! bitcoin_hashes, and Merkle roots over 2^20 nodes (rows B2 and B3 of docs/benchmarks.md).
//!
//! `cargo bench --bench hash [-- ROUNDS]`, 5 rounds by default, about half a second each.
//!
//! All do the same work in the same run: in every round each of them has a turn, and the table has
//! the best and the median of its rounds; M/s are hashes, and for roots leaves. Hashes: 4096 inputs
//! that stay in the second-level cache, to their digests, per thread. Roots: over the hashes of
//! nodes of 48 bytes; for the crates the levels are computed one after the other, each in even runs
//! on all threads, after the hashes have been copied out of the nodes.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to hand on")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use blocktier::Hash;
use blocktier::hash::{Sha256d, Sha256dKernel};
use blocktier::storage::HugePages;
use blocktier::subtree::{MerkleLevels, Node, merkle};
use sha2::{Digest, Sha256};

const INPUTS: usize = 4096;
/// Passes over the inputs in one round.
const PASSES: usize = 64;
const NODES: usize = 1 << 20;
const THREADS: [usize; 2] = [1, 2];
/// Hashes of a level that a thread takes at a time, where the crates compute it.
const RUN: usize = 4096;

type HashMany = Box<dyn Fn(&[[u8; 64]], &mut [Hash]) + Sync>;

struct Contender {
    name: String,
    /// `None`: a crate, whose roots are computed level by level.
    kernel: Option<Sha256d>,
    hash_many: HashMany,
}

fn contenders() -> Vec<Contender> {
    let crate_of = |name: &str, hash_many: HashMany| Contender {
        name: format!("crate {name}"),
        kernel: None,
        hash_many,
    };
    let sha2 = |inputs: &[[u8; 64]], out: &mut [Hash]| {
        for (out, input) in out.iter_mut().zip(inputs) {
            *out = Sha256::digest(Sha256::digest(input)).into();
        }
    };
    let bitcoin = |inputs: &[[u8; 64]], out: &mut [Hash]| {
        bitcoin_hashes::sha256d::Hash::hash_64_many(out, inputs);
    };
    let ours = Sha256dKernel::available().map(|kernel| Contender {
        name: kernel.kernel().name().into(),
        kernel: Some(kernel),
        hash_many: Box::new(move |inputs, out| kernel.hash_64_many(inputs, out)),
    });
    ours.chain([crate_of("sha2", Box::new(sha2)), crate_of("bitcoin_hashes", Box::new(bitcoin))])
        .collect()
}

/// One row: what, how many, and a turn that returns its seconds.
struct Row<'a> {
    name: String,
    units: usize,
    turn: Box<dyn Fn() -> f64 + 'a>,
    seconds: Vec<f64>,
}

fn main() {
    // Cargo adds one of its own.
    let rounds = std::env::args().skip(1).find(|argument| argument != "--bench");
    let rounds: usize = rounds.map_or(5, |text| text.parse().unwrap());
    println!("{}", machine());
    let contenders = contenders();
    let nodes = nodes();
    let expected = merkle::root(&nodes[..]).unwrap();
    for threads in THREADS {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut rows = hash_rows(&contenders, threads);
        rows.extend(root_rows(&contenders, &nodes, &pool, expected));
        for _ in 0..rounds {
            for row in &mut rows {
                row.seconds.push((row.turn)());
            }
        }
        print(threads, &mut rows);
    }
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

fn nodes() -> Vec<Node> {
    let node = |number: u64| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        hash[24..].copy_from_slice(&number.to_le_bytes());
        Node { hash, fee: number, size: 250 }
    };
    (0..NODES as u64).map(node).collect()
}

fn hash_rows(contenders: &[Contender], threads: usize) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for Contender { name, hash_many, .. } in contenders {
        rows.push(Row {
            name: format!("hashes, {name}"),
            units: threads * PASSES * INPUTS,
            turn: Box::new(move || hash_on_threads(hash_many, threads)),
            seconds: Vec::new(),
        });
    }
    rows
}

/// Seconds from the first thread's start to the last one's end; all start together.
fn hash_on_threads(hash_many: &HashMany, threads: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        let mut inputs = vec![[0u8; 64]; INPUTS];
        for (number, input) in inputs.iter_mut().enumerate() {
            input.fill((number * 31 + thread) as u8);
        }
        let mut out = vec![[0u8; 32]; INPUTS];
        hash_many(&inputs, &mut out);
        barrier.wait();
        let start = Instant::now();
        for _ in 0..PASSES {
            hash_many(black_box(&inputs), black_box(&mut out));
        }
        (start, Instant::now())
    };
    std::thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let times: Vec<_> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
        let start = times.iter().map(|(start, _)| *start).min().unwrap();
        let end = times.iter().map(|(_, end)| *end).max().unwrap();
        (end - start).as_secs_f64()
    })
}

fn root_rows<'a>(
    contenders: &'a [Contender],
    nodes: &'a [Node],
    pool: &'a rayon::ThreadPool,
    expected: Hash,
) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    let mut add = |name: String, root: Box<dyn Fn() -> Hash + Sync + 'a>| {
        let turn = move || {
            let start = Instant::now();
            let root = pool.install(|| black_box(root()));
            let seconds = start.elapsed().as_secs_f64();
            assert_eq!(root, expected, "all compute the same root");
            seconds
        };
        rows.push(Row { name, units: NODES, turn: Box::new(turn), seconds: Vec::new() });
    };
    for Contender { name, kernel, hash_many } in contenders {
        match kernel {
            Some(kernel) => {
                let root = move || {
                    kernel.select();
                    merkle::root(nodes).unwrap()
                };
                add(format!("root, {name}"), Box::new(root));
            }
            None => add(format!("root, {name}"), Box::new(|| root_by_levels(hash_many, nodes))),
        }
    }
    let fastest = Sha256d::new(Sha256dKernel::Auto).unwrap();
    let levels = move || {
        fastest.select();
        MerkleLevels::in_memory(nodes, HugePages::Transparent).unwrap().root()
    };
    add(format!("root and kept levels, {}", fastest.kernel().name()), Box::new(levels));
    rows
}

/// The root over a power of two of nodes, one level after the other.
fn root_by_levels(hash_many: &HashMany, nodes: &[Node]) -> Hash {
    let mut level: Vec<Hash> = nodes.iter().map(|node| node.hash).collect();
    while level.len() > 1 {
        let inputs = level.as_flattened().as_chunks::<64>().0;
        let mut above = vec![[0; 32]; inputs.len()];
        if above.len() >= 2 * RUN {
            use rayon::prelude::*;
            let runs = inputs.par_chunks(RUN).zip(above.par_chunks_mut(RUN));
            runs.for_each(|(inputs, out)| hash_many(inputs, out));
        } else {
            hash_many(inputs, &mut above);
        }
        level = above;
    }
    level[0]
}

fn print(threads: usize, rows: &mut [Row<'_>]) {
    println!();
    println!("| threads = {threads} | best M/s | median M/s | best ms |");
    println!("| - | - | - | - |");
    for row in rows {
        row.seconds.sort_by(f64::total_cmp);
        let (best, median) = (row.seconds[0], row.seconds[row.seconds.len() / 2]);
        let rate = |seconds: f64| row.units as f64 / seconds / 1e6;
        let (name, ms) = (&row.name, best * 1e3);
        println!("| {name} | {:.2} | {:.2} | {ms:.1} |", rate(best), rate(median));
    }
}
