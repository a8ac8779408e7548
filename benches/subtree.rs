//! A subtree of 2^20 nodes: its root, proofs, changes, reading, checking and writing (rows B2 to B8
//! of docs/benchmarks.md), beside the crates sha2 and bitcoin_hashes and a subtree as one would
//! write it plainly: no kept levels, so that each proof and each change costs a root.
//!
//! `cargo bench --bench subtree [-- ROUNDS]`, 5 rounds by default. In every round each row has a
//! turn; the table has the best and the median. Limits are measured in the same rounds: copying the
//! bytes of the nodes once, and hashing as many inputs as a root has, from the second-level cache.
//! Writes `target/bench/subtree.json`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to hand on")]

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Instant;

use blocktier::Hash;
use blocktier::hash::Sha256d;
use blocktier::settings::RuntimeSettings;
use blocktier::storage::{HugePages, MappingOptions, RealStorage};
use blocktier::subtree::{
    MerkleLevels, Node, NodeArray, ReadLimits, SubtreeDirectory, SubtreeFormat, SubtreeParts,
    SubtreeView, Verify, fold_proof, merkle, proofs_many, read_subtree, write_subtree,
};
use sha2::{Digest, Sha256};

const NODES: usize = 1 << 20;
const PROOFS: usize = 1000;
/// Operations of microseconds in one turn.
const MANY: usize = 10_000;
/// Inputs that stay in the second-level cache.
const INPUTS: usize = 4096;

/// One row: a turn returns the seconds of one operation.
struct Row<'a> {
    id: &'static str,
    name: String,
    /// The row that bounds it.
    limit: Option<&'static str>,
    turn: Box<dyn FnMut() -> f64 + Send + 'a>,
    seconds: Vec<f64>,
}

fn row<'a>(
    id: &'static str,
    name: impl Into<String>,
    limit: Option<&'static str>,
    turn: impl FnMut() -> f64 + Send + 'a,
) -> Row<'a> {
    Row { id, name: name.into(), limit, turn: Box::new(turn), seconds: Vec::new() }
}

fn seconds<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let start = Instant::now();
    let result = black_box(work());
    (start.elapsed().as_secs_f64(), result)
}

fn main() {
    // Cargo adds one of its own.
    let rounds = std::env::args().skip(1).find(|argument| argument != "--bench");
    let rounds: usize = rounds.map_or(5, |text| text.parse().unwrap());
    println!("{}", machine());
    let nodes = nodes();
    let dir = tempfile::tempdir().unwrap();
    let mut json = Vec::new();
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut rows = limits(&nodes, threads);
        rows.extend(roots(&nodes));
        rows.extend(proofs(&nodes));
        rows.extend(files(&nodes, dir.path()));
        for _ in 0..rounds {
            for row in &mut rows {
                let turn = &mut row.turn;
                row.seconds.push(pool.install(turn));
            }
        }
        print(threads, &mut rows, &mut json);
    }
    let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("subtree.json"), serde_json::to_vec_pretty(&json).unwrap()).unwrap();
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let cpus = std::thread::available_parallelism().unwrap();
    format!("{}, {cpus} CPUs, {NODES} nodes", name.unwrap_or("unknown processor"))
}

fn nodes() -> Vec<Node> {
    let node = |number: u64| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        hash[24..].copy_from_slice(&(number + 1).to_le_bytes());
        Node { hash, fee: number, size: 250 }
    };
    (0..NODES as u64).map(node).collect()
}

const COPY: &str = "copying the nodes once";
const HASHES: &str = "hashing as many inputs in cache";

fn limits(nodes: &[Node], threads: usize) -> Vec<Row<'_>> {
    let mut copy = nodes.to_vec();
    let copying = move || seconds(|| copy.copy_from_slice(black_box(nodes))).0;
    let hashing = move || {
        let run = || {
            let (inputs, mut out) = (vec![[7u8; 64]; INPUTS], vec![[0u8; 32]; INPUTS]);
            let kernel = Sha256d::selected();
            let start = Instant::now();
            for _ in 0..NODES / INPUTS / threads {
                kernel.hash_64_many(black_box(&inputs), black_box(&mut out));
            }
            start.elapsed().as_secs_f64()
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).fold(0.0, f64::max)
        })
    };
    vec![row("limit", COPY, None, copying), row("limit", HASHES, None, hashing)]
}

type HashMany = fn(&[[u8; 64]], &mut [Hash]);

fn by_sha2(inputs: &[[u8; 64]], out: &mut [Hash]) {
    for (out, input) in out.iter_mut().zip(inputs) {
        *out = Sha256::digest(Sha256::digest(input)).into();
    }
}

fn by_bitcoin_hashes(inputs: &[[u8; 64]], out: &mut [Hash]) {
    bitcoin_hashes::sha256d::Hash::hash_64_many(out, inputs);
}

/// All levels over a power of two of nodes, one after the other; the root.
fn root_by_levels(nodes: &[Node], hash_many: HashMany) -> Hash {
    let mut level: Vec<Hash> = nodes.iter().map(|node| node.hash).collect();
    while level.len() > 1 {
        let inputs = level.as_flattened().as_chunks::<64>().0;
        let mut above = vec![[0; 32]; inputs.len()];
        hash_many(inputs, &mut above);
        level = above;
    }
    level[0]
}

fn roots(nodes: &[Node]) -> Vec<Row<'_>> {
    let expected = merkle::root(nodes).unwrap();
    let root = move |root: &dyn Fn() -> Hash| {
        let (seconds, found) = seconds(root);
        assert_eq!(found, expected, "all compute the same root");
        seconds
    };
    vec![
        row("B2", "root", Some(HASHES), move || root(&|| merkle::root(nodes).unwrap())),
        row("B2", "root, crate bitcoin_hashes (one thread)", Some(HASHES), move || {
            root(&|| root_by_levels(nodes, by_bitcoin_hashes))
        }),
        row("B2", "root, crate sha2 (one thread)", Some(HASHES), move || {
            root(&|| root_by_levels(nodes, by_sha2))
        }),
        row("B2", "root and all levels kept", Some(HASHES), move || {
            root(&|| MerkleLevels::in_memory(nodes, HugePages::Transparent).unwrap().root())
        }),
    ]
}

/// A place that follows from a number, all over the tree.
fn place(number: usize) -> usize {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 44
}

fn proofs(nodes: &[Node]) -> Vec<Row<'_>> {
    let root = merkle::root(nodes).unwrap();
    let kept = MerkleLevels::in_memory(nodes, HugePages::Transparent).unwrap();
    let mut changing = MerkleLevels::in_memory(nodes, HugePages::Transparent).unwrap();
    let one = move || {
        let (seconds, _) = seconds(|| {
            for number in 0..MANY {
                black_box(kept.proof(place(number)).unwrap());
            }
        });
        let proof = kept.proof(place(1)).unwrap();
        assert_eq!(fold_proof(&nodes[place(1)].hash, place(1) as u64, &proof).unwrap(), root);
        seconds / MANY as f64
    };
    let first = move || {
        let (seconds, proofs) = seconds(|| proofs_many(nodes, &[place(1)]).unwrap());
        assert!(proofs.get(0).unwrap().verify(&root, NODES as u64));
        seconds
    };
    let many = move || {
        let indexes: Vec<usize> = (0..PROOFS).map(place).collect();
        let (seconds, proofs) = seconds(|| proofs_many(nodes, &indexes).unwrap());
        assert!(proofs.get(PROOFS - 1).unwrap().verify(&root, NODES as u64));
        seconds
    };
    let mut turns = 0;
    let change = move || {
        turns += 1;
        let (seconds, _) = seconds(|| {
            for number in 0..MANY {
                changing.set_leaf(place(number + turns), [number as u8; 32]).unwrap();
                black_box(changing.root());
            }
        });
        seconds / MANY as f64
    };
    vec![
        row("B3", "proof of a leaf, levels kept", None, one),
        row("B3", "first proof, from nothing", Some(HASHES), first),
        row("B4", "1000 proofs, from nothing", Some(HASHES), many),
        row("B8", "change a leaf, the root again", None, change),
    ]
}

fn files<'a>(nodes: &'a [Node], dir: &'a std::path::Path) -> Vec<Row<'a>> {
    let format = SubtreeFormat::WithMagic;
    let parts = SubtreeParts::new(nodes, &[]).unwrap();
    let mut bytes = Vec::new();
    write_subtree(&mut bytes, format, &parts).unwrap();
    let (checked, read) = (bytes.clone(), bytes.clone());
    let sizes = move || seconds(|| SubtreeView::parse(black_box(&bytes), format).unwrap()).0;
    let all = move || {
        let view = SubtreeView::parse(&checked, format).unwrap();
        seconds(|| view.verify(&Verify::ALL).unwrap()).0
    };
    let ours = dir.join("ours");
    std::fs::create_dir_all(&ours).unwrap();
    let storage = Arc::new(RealStorage::new(&RuntimeSettings::default()));
    let ours = Arc::new(SubtreeDirectory::open(storage, &ours).unwrap());
    ours.store("subtree", format, &parts).unwrap();
    let (opening, verified) = (Arc::clone(&ours), ours);
    let open = move || {
        let (seconds, mapped) = seconds(|| opening.map("subtree", format).unwrap());
        assert_eq!(mapped.header().node_count, NODES);
        seconds
    };
    let open_and_all = move || {
        seconds(|| {
            let mapped = verified.map("subtree", format).unwrap();
            mapped.view().verify(&Verify::ALL).unwrap();
        })
        .0
    };
    let options = MappingOptions::default();
    let limits = ReadLimits::of_length(read.len() as u64);
    let mapped = move || {
        let reader = Cursor::new(&read[..]);
        let make = |count| NodeArray::touched(dir, count, &options);
        let (seconds, subtree) = seconds(|| read_subtree(reader, format, &limits, make).unwrap());
        assert_eq!(subtree.nodes().len(), NODES);
        seconds
    };
    let mut memory = Vec::with_capacity(NODES * Node::BYTES + 4096);
    let to_memory = move || {
        memory.clear();
        seconds(|| write_subtree(&mut memory, format, &parts).unwrap()).0
    };
    let to_file = move || {
        let mut file = std::fs::File::create(dir.join("written.subtree")).unwrap();
        seconds(|| write_subtree(&mut file, format, &parts).unwrap()).0
    };
    vec![
        row("B5", "check the sizes of a file's bytes", None, sizes),
        row("B5", "check root, sums, duplicates and the rest", Some(HASHES), all),
        row("B5", "open a file by mapping it", None, open),
        row("B5", "open, check all of that, close", Some(HASHES), open_and_all),
        row("B6", "read into a mapped array", Some(COPY), mapped),
        row("B7", "write to a writer", Some(COPY), to_memory),
        row("B7", "write to a file, page cache", Some(COPY), to_file),
    ]
}

fn print(threads: usize, rows: &mut [Row<'_>], json: &mut Vec<serde_json::Value>) {
    for row in &mut *rows {
        row.seconds.sort_by(f64::total_cmp);
    }
    println!("\n| row | threads = {threads} | best | median | of its limit |");
    println!("| - | - | -: | -: | -: |");
    let median = |row: &Row<'_>| row.seconds[row.seconds.len() / 2];
    let limit = |name| rows.iter().find(|row| row.name == name).map(median);
    for row in &*rows {
        let bound = row.limit.and_then(limit);
        let share = bound.map_or("-".into(), |bound| format!("{:.2}", bound / median(row)));
        let (best, middle) = (shown(row.seconds[0]), shown(median(row)));
        println!("| {} | {} | {best} | {middle} | {share} |", row.id, row.name);
        json.push(serde_json::json!({
            "id": row.id, "case": row.name, "n": NODES, "threads": threads,
            "measured": median(row), "unit": "s", "baseline": null, "baseline_name": null,
            "limit": bound, "limit_name": row.limit,
        }));
    }
}

fn shown(seconds: f64) -> String {
    if seconds < 1e-3 {
        format!("{:.2} µs", seconds * 1e6)
    } else {
        format!("{:.2} ms", seconds * 1e3)
    }
}
