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
#[path = "common/victims.rs"]
mod victims;
#[path = "common/watched.rs"]
mod watched;

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;

use blocktier::diskmap::Wait;

use records::{key, value};
use rng::Rng;
use victims::{End, Round, Victims};
use watched::{Aim, Phase};

const TEST: &str = "what_was_synced_survives_kill_9";
const UNIVERSE: u64 = 200;

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
    let (storage, map) = victims::open_watched(settings);
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

impl Said {
    /// What a line adds; how many steps are done.
    fn hear(&mut self, line: &str) -> u64 {
        let number = |word: &str| line.strip_prefix(word)?.trim().parse::<u64>().ok();
        if let Some(step) = number("synced ") {
            *self = Self { synced: Some(step), done: self.done.max(Some(step)) };
        } else if let Some(step) = number("done ") {
            self.done = Some(step);
        }
        self.done.unwrap_or(0)
    }
}

/// Where to stop in a phase: anywhere in it, after some work or much.
fn aim(phase: Phase, rng: &mut Rng) -> Aim {
    let most = match phase {
        Phase::Write => (60, 1),
        Phase::Seal => (12, 1),
        Phase::Rename => (20, 1),
        Phase::Merge => (8, 25),
        Phase::Clear => (2, 12),
        Phase::Sync => (15, 14),
        Phase::Recovery => (1, 40),
    };
    victims::somewhere(phase, most, rng)
}

type Content = HashMap<u64, Vec<u8>>;

/// Opens the map, and compares it with what must be there and what may be.
fn check(settings: &str, seed: u64, said: Said, model: &mut Content) {
    let map = victims::open(settings);
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

#[test]
fn what_was_synced_survives_kill_9() {
    if let Some((settings, seed)) = victims::orders() {
        work(&settings, seed);
    }
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let paths: Vec<_> = dirs.iter().map(|dir| dir.path().display().to_string()).collect();
    let (mut victims, mut model) = (Victims::new(TEST), Content::new());
    let rounds = victims::rounds();
    for number in 0..rounds {
        // In every other round the background merges too, unwatched.
        let compaction = if number % 2 == 0 { "off" } else { "on" };
        victims.settings = format!(
            "txMapDirs = {}\ntxMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\n\
             txMapFlushAge = 100ms\ntxMapName = pool\ntxMapDurability = durable\n\
             txMapCompaction = {compaction}\ntxMapCompactionMinWidth = 2\n\
             txMapCompactionSpace = 30",
            paths.join("|")
        );
        let mut rng = Rng::new(number);
        let round = Round::new(number, &mut rng, aim);
        let mut said = Said::default();
        victims.kill(number, round.end, |line| said.hear(line));
        for _ in 0..round.recoveries {
            victims.kill(number, End::At(aim(Phase::Recovery, &mut rng)), |_| 0);
        }
        println!("{said:?}");
        check(&victims.settings, number, said, &mut model);
    }
    victims.report(rounds);
}
