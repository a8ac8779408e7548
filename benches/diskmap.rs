//! The map from Rust, without a border to cross: insertion one by one and in batches.
//!
//! `cargo bench --bench diskmap [-- [N] [value=BYTES] [tail=SIZE] [threads=T] [rounds=R]
//! [single|batch]]`, by default 10,000,000 keys, values of 84 bytes, a tail of 512M, two rounds, in
//! a temporary directory.
//!
//! Keys are 32-byte ids made outside the clock. The tail and the index are faulted in before it,
//! and the clock stops after `flush`. Rounds take other keys in turn; the map is cleared between.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::panic, reason = "a benchmark that cannot run has nothing to hand on")]
#![expect(clippy::unwrap_used, reason = "as above")]

use std::sync::Mutex;
use std::time::Instant;

use blocktier::diskmap::{Batch, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::txmap::DiskTxMap;

const BATCH: usize = 256;

type Key = [u8; 32];

struct Config {
    keys: usize,
    value: usize,
    tail: String,
    threads: usize,
    ways: &'static [bool],
    rounds: usize,
}

fn main() {
    let mut config = Config {
        keys: 10_000_000,
        value: 84,
        tail: "512M".to_owned(),
        threads: 1,
        ways: &[true, false],
        rounds: 2,
    };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("value", bytes)) => config.value = bytes.parse().unwrap(),
            Some(("tail", tail)) => config.tail = tail.to_owned(),
            Some(("threads", threads)) => config.threads = threads.parse().unwrap(),
            Some(("rounds", rounds)) => config.rounds = rounds.parse().unwrap(),
            _ if argument == "single" => config.ways = &[false],
            _ if argument == "batch" => config.ways = &[true],
            _ if argument == "--bench" => {}
            _ => {
                config.keys = argument
                    .parse()
                    .unwrap_or_else(|_| panic!("not an argument of this benchmark: {argument}"));
            }
        }
    }
    let mut keys = vec![[0; 32]; config.keys];
    fill_keys(&mut keys, 0);
    let mut other = vec![[0; 32]; config.keys];
    fill_keys(&mut other, config.keys as u64);
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().display();
    let runtime = Runtime::open(&RuntimeSettings::parse("").unwrap()).unwrap();
    for &batched in config.ways {
        let text = format!(
            "txMapDirs = {dir}\ntxMapTail = {}\ntxMapExpectedEntries = {}\ntxMapPrefault = on\n",
            config.tail, config.keys
        );
        let map = DiskTxMap::open(&runtime, &TxMapSettings::parse(&text).unwrap()).unwrap();
        for (round, keys) in [&other, &keys].into_iter().cycle().take(config.rounds).enumerate() {
            if round > 0 {
                map.clear().unwrap();
            }
            let began = Instant::now();
            insert(&map, keys, &config, batched);
            map.flush().unwrap();
            let seconds = began.elapsed().as_secs_f64();
            println!(
                "{} {} threads round {round}: {:.2} M/s, {} waits",
                if batched { "batch" } else { "single" },
                config.threads,
                keys.len() as f64 / seconds / 1e6,
                map.stats().waits,
            );
            assert_eq!(map.len(), keys.len() as u64);
        }
    }
}

fn insert(map: &DiskTxMap, keys: &[Key], config: &Config, batched: bool) {
    // Threads take the next piece when they have done one: the processors of a shared machine are
    // not equally fast, and the slowest one would be measured otherwise.
    let pieces = Mutex::new(keys.chunks(64 * BATCH));
    let next = || pieces.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..config.threads {
            scope.spawn(|| {
                let value = vec![7u8; config.value];
                let arena = value.repeat(BATCH);
                let offsets: Vec<u64> =
                    (0..=BATCH as u64).map(|i| i * config.value as u64).collect();
                let mut states = [ItemState::Pending; BATCH];
                while let Some(keys) = next() {
                    if batched {
                        for keys in keys.chunks(BATCH) {
                            let batch =
                                Batch::new(keys, &arena, &offsets[..=keys.len()], None).unwrap();
                            let states = &mut states[..keys.len()];
                            states.fill(ItemState::Pending);
                            map.set_if_not_exists_batch(&batch, Wait::Allowed, states).unwrap();
                        }
                        continue;
                    }
                    for key in keys {
                        let _ = map
                            .set_if_not_exists(key, &value, 0, Wait::Allowed, |_, _| ())
                            .unwrap();
                    }
                }
            });
        }
    });
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
