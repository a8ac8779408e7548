//! A process with a process map is killed at points that follow from a seed; the next one finds
//! everything that was acknowledged, and of what was under way all or nothing.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and speak to the test that started them"
)]

#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::txmap::DiskTxMap;

use records::{key, value};
use rng::Rng;

/// In a process that the test has started: the settings of the map, and the seed.
const SETTINGS: &str = "BLOCKTIER_TEST_SETTINGS";
const SEED: &str = "BLOCKTIER_TEST_SEED";
/// How many times to kill; 10 without it.
const ROUNDS: &str = "BLOCKTIER_TEST_ROUNDS";
const TEST: &str = "what_was_acknowledged_survives_kill_9";
/// Threads that write, each to keys of its own, and all of them to the contested ones.
const THREADS: u64 = 3;
const OWN: u64 = 100;
/// Where contested keys begin; each round has new ones.
const CONTESTED: u64 = 1 << 20;

fn open(settings: &str) -> DiskTxMap {
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    DiskTxMap::open(&runtime, &TxMapSettings::parse(settings).unwrap()).unwrap()
}

/// What one step of a thread does.
#[derive(Debug)]
enum Step {
    Set(u64, Vec<u8>),
    Delete(u64),
    /// Keys of its own with values that follow from a number; those that are there stay.
    Batch(Vec<u64>, u64),
    /// A key that others try to insert, too.
    Contest(u64, Vec<u8>),
    Sync,
    Compact,
}

fn step(seed: u64, thread: u64, number: u64) -> Step {
    let mut rng = Rng::new((seed << 8 | thread) << 32 | number);
    let own = thread * OWN + rng.below(OWN);
    let length = match rng.below(25) {
        0 => 9000 + rng.below(20_000),
        _ => rng.below(300),
    };
    let bytes = |rng: &mut Rng, length: u64| value(rng.next(), length as usize);
    match rng.below(200) {
        0..60 => Step::Set(own, bytes(&mut rng, length)),
        60..90 => Step::Delete(own),
        90..110 => {
            Step::Batch((0..40).map(|_| thread * OWN + rng.below(OWN)).collect(), rng.next())
        }
        // All threads go through the same keys at about the same time.
        110..197 => {
            let contested = CONTESTED + (seed << 24) + number / 2;
            Step::Contest(contested, bytes(&mut rng, 8 + length))
        }
        197..199 => Step::Compact,
        _ => Step::Sync,
    }
}

/// The value of a batch's item.
fn item(number: u64, salt: u64) -> Vec<u8> {
    value(number ^ salt, 60)
}

fn batch(map: &DiskTxMap, numbers: &[u64], salt: u64) {
    let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
    let arena: Vec<u8> = numbers.iter().flat_map(|number| item(*number, salt)).collect();
    let offsets: Vec<u64> = (0..=numbers.len() as u64).map(|i| i * 60).collect();
    let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
    let mut states = vec![ItemState::Pending; numbers.len()];
    map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
}

fn work_on(map: &DiskTxMap, seed: u64, thread: u64) {
    for number in 0.. {
        let mut said = String::new();
        match step(seed, thread, number) {
            Step::Set(own, value) => drop(map.set(&key(own), &value, 0, Wait::Allowed).unwrap()),
            Step::Delete(own) => drop(map.delete(&key(own), Wait::Allowed).unwrap()),
            Step::Batch(numbers, salt) => batch(map, &numbers, salt),
            Step::Contest(contested, bytes) => {
                let done =
                    map.set_if_not_exists(&key(contested), &bytes, 0, Wait::Allowed, |there, _| {
                        crc32c::crc32c(there)
                    });
                let crc = match done.unwrap() {
                    Inserted::New => crc32c::crc32c(&bytes),
                    Inserted::Present(crc) => crc,
                };
                said = format!(" {contested} {crc}");
            }
            Step::Sync => map.sync(Wait::Allowed).unwrap(),
            // One at a time; the background merges beside it.
            Step::Compact if thread == 0 => map.compact().unwrap(),
            Step::Compact => {}
        }
        // One write, so that lines of several threads do not mix.
        let line = format!("done {thread} {number}{said}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

/// Works until it is killed, and says what is done.
fn work(settings: &str, seed: u64) -> ! {
    let map = open(settings);
    println!("\nopen");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let map = &map;
            scope.spawn(move || work_on(map, seed, thread));
        }
    });
    unreachable!("the test kills this process")
}

/// What a child said before it died.
#[derive(Debug, Default)]
struct Said {
    /// For each thread, how many steps it had done.
    done: [u64; THREADS as usize],
    /// Of contested keys, the checksum of the value that somebody was told.
    told: HashMap<u64, u32>,
}

fn kill_after(settings: &str, seed: u64, lines: u64) -> Said {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(SETTINGS, settings)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut count) = (Said::default(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // What it said before it died counts, too.
        let Ok(line) = line else { break };
        let Some(words) = line.strip_prefix("done ") else { continue };
        let words: Vec<u64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
        said.done[words[0] as usize] = words[1] + 1;
        if let [_, _, contested, crc] = words[..] {
            let told = said.told.insert(contested, crc as u32);
            assert!(told.is_none_or(|told| told == crc as u32), "two values of {contested}");
        }
        count += 1;
        if count == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(count >= lines, "the child ended by itself after {count} lines");
    said
}

/// Applies a step to what a thread's keys are.
fn apply(model: &mut HashMap<u64, Vec<u8>>, step: Step) {
    match step {
        Step::Set(own, value) => drop(model.insert(own, value)),
        Step::Delete(own) => drop(model.remove(&own)),
        Step::Batch(numbers, salt) => {
            for number in numbers {
                model.entry(number).or_insert_with(|| item(number, salt));
            }
        }
        Step::Contest(..) | Step::Sync | Step::Compact => {}
    }
}

fn check_round(
    map: &DiskTxMap,
    seed: u64,
    said: &Said,
    model: &mut HashMap<u64, Vec<u8>>,
    contested: &mut HashMap<u64, u32>,
) {
    let get = |number| map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
    for thread in 0..THREADS {
        let done = said.done[thread as usize];
        (0..done).for_each(|number| apply(model, step(seed, thread, number)));
        // The next one may have been under way, or done and not yet said so.
        let mut later = model.clone();
        apply(&mut later, step(seed, thread, done));
        for number in thread * OWN..(thread + 1) * OWN {
            let now = get(number);
            let is_later = now.as_ref() == later.get(&number);
            assert!(now.as_ref() == model.get(&number) || is_later, "seed {seed}, key {number}");
            match now {
                Some(value) => drop(model.insert(number, value)),
                None => drop(model.remove(&number)),
            }
        }
        if let Step::Contest(key, _) = step(seed, thread, done) {
            // Somebody may have inserted it whom nobody heard.
            let now = get(key).map(|value| crc32c::crc32c(&value));
            assert!(said.told.get(&key).is_none_or(|told| now == Some(*told)));
            contested.extend(now.map(|crc| (key, crc)));
        }
    }
    contested.extend(&said.told);
    for (number, crc) in contested.iter() {
        let now = get(*number).map(|value| crc32c::crc32c(&value));
        assert_eq!(now, Some(*crc), "seed {seed}, contested key {number}");
    }
    assert_eq!(map.len(), (model.len() + contested.len()) as u64, "seed {seed}");
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let (Ok(settings), Ok(seed)) = (std::env::var(SETTINGS), std::env::var(SEED)) {
        work(&settings, seed.parse().unwrap());
    }
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let paths: Vec<_> = dirs.iter().map(|dir| dir.path().display().to_string()).collect();
    let sizes = "txMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\ntxMapFlushAge = 100ms";
    let process = "txMapName = pool\ntxMapDurability = process";
    let merges = "txMapCompaction = on\ntxMapCompactionMinWidth = 2\ntxMapCompactionSpace = 30";
    let settings = format!("txMapDirs = {}\n{sizes}\n{process}\n{merges}", paths.join("|"));
    let (mut model, mut contested) = (HashMap::new(), HashMap::new());
    let rounds = std::env::var(ROUNDS).map_or(10, |rounds| rounds.parse().unwrap());
    let mut blocks = 0;
    for round in 0..rounds {
        let lines = 20 + Rng::new(round).below(1500);
        let said = kill_after(&settings, round, lines);
        let map = open(&settings);
        let recovery = map.recovery().unwrap();
        println!("round {round}: killed after {lines} lines, {:?}, {recovery:?}", said.done);
        assert!(!recovery.ring_lost);
        assert_eq!(recovery.torn_bytes + recovery.segments_ignored, 0);
        blocks += recovery.ring_blocks;
        check_round(&map, round, &said, &mut model, &mut contested);
    }
    assert!(blocks >= rounds, "only {blocks} blocks came from rings");
}
