//! A process with a durable map is killed; the next one finds everything that was synced, nothing
//! torn and nothing that was deleted before the sync.
//!
//! The process says in a file which phases it is in (`common/watched.rs`). In most rounds the kill
//! is aimed at one of them: the process stops somewhere in it, which follows from the round's
//! number, while its other threads go on. In the others it comes after so many steps. Where each
//! kill has hit is read from the file afterwards, and counted.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and speak to the test that started them"
)]

#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;
#[path = "common/watched.rs"]
mod watched;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use blocktier::diskmap::Wait;
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::RealStorage;
use blocktier::txmap::DiskTxMap;

use records::{key, value};
use rng::Rng;
use watched::{Aim, PHASES, Phase, WatchedStorage, phases_in};

/// In a process that the test has started: the settings of the map, the seed, the file of the
/// phases, where to stop.
const SETTINGS: &str = "BLOCKTIER_TEST_SETTINGS";
const SEED: &str = "BLOCKTIER_TEST_SEED";
const WATCH: &str = "BLOCKTIER_TEST_WATCH";
const AIM: &str = "BLOCKTIER_TEST_AIM";
/// How many rounds; 10 without it.
const ROUNDS: &str = "BLOCKTIER_TEST_ROUNDS";
/// From so many rounds on, each phase must have been hit by so many kills.
const SOAK_ROUNDS: u64 = 300;
const HITS_MIN: u64 = 10;
const TEST: &str = "what_was_synced_survives_kill_9";
const UNIVERSE: u64 = 200;
/// Steps after which the process has certainly come to where it is to stop.
const STEPS_MAX: u64 = 100_000;

/// What a step does.
#[derive(Debug, PartialEq, Eq)]
enum Operation {
    Set(u64, Vec<u8>),
    Delete(u64),
    Clear,
}

/// What step `step` of a seed does.
fn operation(seed: u64, step: u64) -> Operation {
    let mut rng = Rng::new(seed << 32 | step);
    if rng.below(500) == 0 {
        return Operation::Clear;
    }
    let number = rng.below(UNIVERSE);
    let length = match rng.below(20) {
        0 => 9000 + rng.below(20_000),
        _ => 8 + rng.below(300),
    };
    if rng.below(3) == 0 {
        return Operation::Delete(number);
    }
    Operation::Set(number, value(rng.next(), length as usize))
}

/// Works until it is killed, and says what is done. A thread beside it merges.
fn work(settings: &str, seed: u64) -> ! {
    let aim = std::env::var(AIM).ok().map(|text| Aim::from_text(&text));
    let path = PathBuf::from(std::env::var(WATCH).unwrap());
    let runtime = RuntimeSettings::default();
    let storage = WatchedStorage::new(RealStorage::new(&runtime), &path, aim);
    let runtime = Runtime::with_storage(&runtime, Arc::new(storage.clone())).unwrap();
    let settings = TxMapSettings::parse(settings).unwrap();
    let map = storage.during(Phase::Recovery, || DiskTxMap::open(&runtime, &settings).unwrap());
    println!("\nopen");
    let (ask_to_merge, asked) = sync_channel(1);
    std::thread::scope(|scope| {
        let (map, storage) = (&map, &storage);
        scope.spawn(move || {
            while asked.recv().is_ok() {
                storage.during_merges(|| map.compact().unwrap());
            }
        });
        for step in 0.. {
            match operation(seed, step) {
                Operation::Set(number, value) => {
                    map.set(&key(number), &value, 0, Wait::Allowed).unwrap();
                }
                Operation::Delete(number) => drop(map.delete(&key(number), Wait::Allowed).unwrap()),
                Operation::Clear => {
                    storage.during(Phase::Clear, || map.clear().unwrap());
                    // Durable by itself.
                    println!("synced {step}");
                }
            }
            println!("done {step}");
            if step % 37 == 36 {
                storage.during(Phase::Sync, || map.sync(Wait::Allowed).unwrap());
                println!("synced {step}");
            }
            if step % 23 == 0 {
                // Not if one is under way.
                let _ = ask_to_merge.try_send(());
            }
        }
    });
    unreachable!("the test kills this process")
}

/// What a process has said: its last synced and its last done step.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    synced: Option<u64>,
    done: Option<u64>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Steps(u64),
    At(Aim),
}

struct Victims<'a> {
    settings: String,
    watch: &'a Path,
    kills: u64,
    hits: [u64; PHASES.len()],
    aimed: [u64; PHASES.len()],
}

impl Victims<'_> {
    fn start(&self, seed: u64, end: End) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", TEST, "--nocapture"])
            .env(SETTINGS, &self.settings)
            .env(SEED, seed.to_string())
            .env(WATCH, self.watch)
            .stdout(Stdio::piped());
        if let End::At(aim) = end {
            command.env(AIM, aim.to_text());
        }
        command.spawn().unwrap()
    }

    /// Lets a process work until its end, and notes where it was then.
    fn kill(&mut self, seed: u64, end: End) -> Said {
        let mut child = self.start(seed, end);
        let mut said = Said::default();
        let number = |line: &str, word: &str| line.strip_prefix(word)?.trim().parse::<u64>().ok();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // What it said before it died counts, too.
            let Ok(line) = line else { break };
            if let Some(step) = number(&line, "synced ") {
                said = Said { synced: Some(step), done: said.done.max(Some(step)) };
            } else if let Some(step) = number(&line, "done ") {
                said.done = Some(step);
                assert!(step < STEPS_MAX, "{end:?} is never reached");
                if matches!(end, End::Steps(steps) if steps == step) {
                    child.kill().unwrap();
                }
            } else if line == "stopped" {
                child.kill().unwrap();
            }
        }
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it has failed by itself: {end:?}");
        let hit = phases_in(self.watch);
        self.kills += 1;
        hit.iter().for_each(|phase| self.hits[*phase as usize] += 1);
        if let End::At(aim) = end {
            self.aimed[aim.phase as usize] += 1;
            assert!(hit.contains(&aim.phase), "{aim:?} was missed: {hit:?}");
        }
        println!("seed {seed}: {end:?}, {said:?}, hit {hit:?}");
        said
    }

    fn print_table(&self) {
        println!("\n{} kills, and where they hit (several places at a time):", self.kills);
        println!("{:<10}{:>8}{:>8}", "phase", "aimed", "hit");
        for phase in PHASES {
            let (aimed, hits) = (self.aimed[phase as usize], self.hits[phase as usize]);
            println!("{:<10}{aimed:>8}{hits:>8}", format!("{phase:?}").to_lowercase());
        }
    }
}

/// Where to stop in a phase: anywhere in it, after some work or much.
fn aim(phase: Phase, rng: &mut Rng) -> Aim {
    let (nth_max, operation_max) = match phase {
        Phase::Write => (60, 1),
        Phase::Seal => (12, 1),
        Phase::Rename => (20, 1),
        Phase::Merge => (8, 25),
        Phase::Clear => (2, 12),
        Phase::Sync => (15, 14),
        Phase::Recovery => (1, 40),
    };
    let (nth, operation) = (1 + rng.below(nth_max), 1 + rng.below(operation_max));
    Aim { phase, nth, operation, part: rng.below(3) }
}

type Content = HashMap<u64, Vec<u8>>;

/// Opens the map, and compares it with what must be there and what may be.
fn check(settings: &str, seed: u64, said: Said, model: &mut Content) {
    let map = open(settings);
    let mut found = Content::new();
    for number in 0..UNIVERSE {
        let now = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
        found.extend(now.map(|value| (number, value)));
    }
    assert_eq!(map.len(), found.len() as u64);
    for step in 0..said.synced.map_or(0, |step| step + 1) {
        match operation(seed, step) {
            Operation::Set(number, value) => drop(model.insert(number, value)),
            Operation::Delete(number) => drop(model.remove(&number)),
            Operation::Clear => model.clear(),
        }
    }
    // One operation may be done and not yet said so when the process dies.
    let next = said.done.map_or(0, |step| step + 1);
    let later = said.synced.map_or(0, |step| step + 1)..next + 1;
    let is_cleared = found.is_empty() && operation(seed, next) == Operation::Clear;
    for number in (0..UNIVERSE).filter(|_| !is_cleared) {
        let now = found.get(&number);
        let is_later = || {
            later.clone().any(|step| match operation(seed, step) {
                Operation::Set(of, value) => of == number && now == Some(&value),
                Operation::Delete(of) => of == number && now.is_none(),
                Operation::Clear => false,
            })
        };
        assert!(now == model.get(&number) || is_later(), "seed {seed}, key {number}");
    }
    // The close syncs what was recovered.
    *model = found;
}

fn open(settings: &str) -> DiskTxMap {
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    DiskTxMap::open(&runtime, &TxMapSettings::parse(settings).unwrap()).unwrap()
}

#[test]
fn what_was_synced_survives_kill_9() {
    if let (Ok(settings), Ok(seed)) = (std::env::var(SETTINGS), std::env::var(SEED)) {
        work(&settings, seed.parse().unwrap());
    }
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let paths: Vec<_> = dirs.iter().map(|dir| dir.path().display().to_string()).collect();
    let watch = tempfile::NamedTempFile::new().unwrap();
    let mut victims = Victims {
        settings: String::new(),
        watch: watch.path(),
        kills: 0,
        hits: [0; PHASES.len()],
        aimed: [0; PHASES.len()],
    };
    let mut model = Content::new();
    let rounds = std::env::var(ROUNDS).map_or(10, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        // In every other round the background merges too, unwatched.
        let compaction = if round % 2 == 0 { "off" } else { "on" };
        victims.settings = format!(
            "txMapDirs = {}\ntxMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\n\
             txMapFlushAge = 100ms\ntxMapName = pool\ntxMapDurability = durable\n\
             txMapCompaction = {compaction}\ntxMapCompactionMinWidth = 2\n\
             txMapCompactionSpace = 30",
            paths.join("|")
        );
        let mut rng = Rng::new(round);
        let steps = End::Steps(20 + rng.below(1200));
        // Of eight rounds, each phase has one, and one has none.
        let phase = PHASES.get(round as usize % 8).copied();
        let said = match phase {
            None | Some(Phase::Recovery) => victims.kill(round, steps),
            Some(phase) => victims.kill(round, End::At(aim(phase, &mut rng))),
        };
        if phase == Some(Phase::Recovery) {
            // Of what the kill before has left, and of what a recovery that was killed has.
            for _ in 0..=round / 8 % 2 {
                victims.kill(round, End::At(aim(Phase::Recovery, &mut rng)));
            }
        }
        check(&victims.settings, round, said, &mut model);
    }
    victims.print_table();
    for phase in PHASES.into_iter().filter(|_| rounds >= SOAK_ROUNDS) {
        let hits = victims.hits[phase as usize];
        assert!(hits >= HITS_MIN, "{hits} kills hit {phase:?}, {HITS_MIN} should");
    }
}
