//! A process with a durable map is killed at points that follow from a seed; the next one finds
//! everything that was synced, nothing torn and nothing that was deleted before the sync.
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
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use blocktier::diskmap::Wait;
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
const TEST: &str = "what_was_synced_survives_kill_9";
const UNIVERSE: u64 = 200;

fn open(settings: &str) -> DiskTxMap {
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    DiskTxMap::open(&runtime, &TxMapSettings::parse(settings).unwrap()).unwrap()
}

/// What operation `step` of a seed does: to which key, and the value it sets; none deletes.
fn operation(seed: u64, step: u64) -> (u64, Option<Vec<u8>>) {
    let mut rng = Rng::new(seed << 32 | step);
    let number = rng.below(UNIVERSE);
    let length = match rng.below(20) {
        0 => 9000 + rng.below(20_000),
        _ => 8 + rng.below(300),
    };
    (number, (rng.below(3) > 0).then(|| value(rng.next(), length as usize)))
}

/// Works until it is killed, and says what is done.
fn work(settings: &str, seed: u64) -> ! {
    let map = open(settings);
    println!("\nopen");
    for step in 0.. {
        let (number, value) = operation(seed, step);
        match value {
            Some(value) => drop(map.set(&key(number), &value, 0, Wait::Allowed).unwrap()),
            None => drop(map.delete(&key(number), Wait::Allowed).unwrap()),
        }
        println!("done {step}");
        if step % 37 == 36 {
            map.sync(Wait::Allowed).unwrap();
            println!("synced {step}");
        }
    }
    unreachable!("the test kills this process")
}

/// Lets a child work until it has said so many lines; returns its last synced and last done step.
fn kill_after(settings: &str, seed: u64, lines: u64) -> (Option<u64>, Option<u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(SETTINGS, settings)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut synced, mut done, mut count) = (None, None, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // What it said before it died counts, too.
        let Ok(line) = line else { break };
        if let Some(step) = line.strip_prefix("synced ") {
            synced = step.parse().ok();
        } else if let Some(step) = line.strip_prefix("done ") {
            done = step.parse().ok();
        }
        count += u64::from(line.contains(' ') && !line.starts_with("running"));
        if count == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    (synced, done)
}

#[test]
fn what_was_synced_survives_kill_9() {
    if let (Ok(settings), Ok(seed)) = (std::env::var(SETTINGS), std::env::var(SEED)) {
        work(&settings, seed.parse().unwrap());
    }
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let paths: Vec<_> = dirs.iter().map(|dir| dir.path().display().to_string()).collect();
    let sizes = "txMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\ntxMapFlushAge = 100ms";
    let durable = "txMapName = pool\ntxMapDurability = durable";
    let settings = format!("txMapDirs = {}\n{sizes}\n{durable}", paths.join("|"));
    let mut model: HashMap<u64, Vec<u8>> = HashMap::new();
    let rounds = std::env::var(ROUNDS).map_or(10, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let lines = 20 + Rng::new(round).below(1500);
        let (synced, done) = kill_after(&settings, round, lines);
        println!("round {round}: killed after {lines} lines, synced {synced:?}, done {done:?}");
        assert!(done.is_some());
        for step in 0..synced.map_or(0, |step| step + 1) {
            let (number, value) = operation(round, step);
            match value {
                Some(value) => drop(model.insert(number, value)),
                None => drop(model.remove(&number)),
            }
        }
        // One operation may be done and not yet said so when the process dies; the pipe may hold
        // more lines, but all of them were read.
        let later = synced.map_or(0, |step| step + 1)..done.map_or(0, |step| step + 2);
        let map = open(&settings);
        let mut found = HashMap::new();
        for number in 0..UNIVERSE {
            let now = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
            let is_later = || {
                later
                    .clone()
                    .map(|step| operation(round, step))
                    .any(|(k, v)| k == number && v == now)
            };
            assert!(
                now.as_ref() == model.get(&number) || is_later(),
                "round {round}, key {number}"
            );
            found.extend(now.map(|value| (number, value)));
        }
        assert_eq!(map.len(), found.len() as u64);
        // The close syncs what was recovered.
        model = found;
    }
}
