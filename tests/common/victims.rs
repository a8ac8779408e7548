//! Processes that a test starts, kills, and looks where that has hit.
//!
//! A test that uses this starts its own executable again, which finds its orders in the environment
//! ([`orders`]), works on a [`WatchedStorage`], and says on its standard output what it has done.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::RealStorage;
use blocktier::txmap::DiskTxMap;
use tempfile::NamedTempFile;

use crate::rng::Rng;
use crate::watched::{Aim, PHASES, Phase, WatchedStorage, phases_in};

const SETTINGS: &str = "BLOCKTIER_TEST_SETTINGS";
const SEED: &str = "BLOCKTIER_TEST_SEED";
const WATCH: &str = "BLOCKTIER_TEST_WATCH";
const AIM: &str = "BLOCKTIER_TEST_AIM";
/// How many rounds; 10 without it.
const ROUNDS: &str = "BLOCKTIER_TEST_ROUNDS";
/// From so many rounds on, each phase must have been hit by so many kills.
const SOAK_ROUNDS: u64 = 300;
const HITS_MIN: u64 = 10;
/// Steps after which a process has certainly come to where it is to stop.
const STEPS_MAX: u64 = 100_000;

/// What a process was started for: settings of its map, and its seed. None in the test itself.
pub fn orders() -> Option<(String, u64)> {
    let settings = std::env::var(SETTINGS).ok()?;
    Some((settings, std::env::var(SEED).unwrap().parse().unwrap()))
}

/// Opens the map of a process that was started, on a storage that says where it is.
pub fn open_watched(settings: &str) -> (WatchedStorage, DiskTxMap) {
    let aim = std::env::var(AIM).ok().map(|text| Aim::from_text(&text));
    let path = PathBuf::from(std::env::var(WATCH).unwrap());
    let runtime = RuntimeSettings::default();
    let storage = WatchedStorage::new(RealStorage::new(&runtime), &path, aim);
    let runtime = Runtime::with_storage(&runtime, Arc::new(storage.clone())).unwrap();
    let settings = TxMapSettings::parse(settings).unwrap();
    let map = storage.during(Phase::Recovery, || DiskTxMap::open(&runtime, &settings).unwrap());
    println!("\nopen");
    (storage, map)
}

/// Opens the map that a killed process has left.
pub fn open(settings: &str) -> DiskTxMap {
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    DiskTxMap::open(&runtime, &TxMapSettings::parse(settings).unwrap()).unwrap()
}

/// Somewhere in a phase: at most the `nth_max`-th time that it is entered, at most at its
/// `operation_max`-th operation.
pub fn somewhere(phase: Phase, (nth_max, operation_max): (u64, u64), rng: &mut Rng) -> Aim {
    let (nth, operation) = (1 + rng.below(nth_max), 1 + rng.below(operation_max));
    Aim { phase, nth, operation, part: rng.below(3) }
}

pub fn rounds() -> u64 {
    std::env::var(ROUNDS).map_or(10, |rounds| rounds.parse().unwrap())
}

/// How a process ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Steps(u64),
    At(Aim),
}

/// What a round kills: of eight rounds each phase has one, and one has none.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// The kill whose victim's work counts.
    pub end: End,
    /// So many more come in the recovery from it.
    pub recoveries: u64,
}

impl Round {
    pub fn new(number: u64, rng: &mut Rng, aim: fn(Phase, &mut Rng) -> Aim) -> Self {
        let steps = End::Steps(20 + rng.below(1200));
        let (end, recoveries) = match PHASES.get(number as usize % 8) {
            None => (steps, 0),
            // Of what the kill before has left, and of what a recovery that was killed has.
            Some(Phase::Recovery) => (steps, 1 + number / 8 % 2),
            Some(phase) => (End::At(aim(*phase, rng)), 0),
        };
        Self { end, recoveries }
    }
}

/// See the module's text.
pub struct Victims {
    test: &'static str,
    watch: NamedTempFile,
    pub settings: String,
    kills: u64,
    hits: [u64; PHASES.len()],
    aimed: [u64; PHASES.len()],
}

impl Victims {
    /// Processes that run `test` of this executable.
    pub fn new(test: &'static str) -> Self {
        Self {
            test,
            watch: NamedTempFile::new().unwrap(),
            settings: String::new(),
            kills: 0,
            hits: [0; PHASES.len()],
            aimed: [0; PHASES.len()],
        }
    }

    fn start(&self, seed: u64, end: End) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", self.test, "--nocapture"])
            .env(SETTINGS, &self.settings)
            .env(SEED, seed.to_string())
            .env(WATCH, self.watch.path())
            .stdout(Stdio::piped());
        if let End::At(aim) = end {
            command.env(AIM, aim.to_text());
        }
        command.spawn().unwrap()
    }

    /// Lets a process work until its end, and notes where it was then. `hear` is given each line
    /// that it says, and tells how many steps are done by then.
    pub fn kill(&mut self, seed: u64, end: End, mut hear: impl FnMut(&str) -> u64) {
        let mut child = self.start(seed, end);
        let mut killed = false;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // What it said before it died counts, too.
            let Ok(line) = line else { break };
            let steps = hear(&line);
            assert!(steps < STEPS_MAX, "{end:?} is never reached");
            let is_due = matches!(end, End::Steps(due) if steps >= due) || line == "stopped";
            if is_due && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it has failed by itself: {end:?}");
        let hit = phases_in(self.watch.path());
        self.kills += 1;
        hit.iter().for_each(|phase| self.hits[*phase as usize] += 1);
        if let End::At(aim) = end {
            self.aimed[aim.phase as usize] += 1;
            assert!(hit.contains(&aim.phase), "{aim:?} was missed: {hit:?}");
        }
        println!("seed {seed}: {end:?}, hit {hit:?}");
    }

    /// Says where the kills have hit; after many, each phase must have been hit often enough.
    pub fn report(&self, rounds: u64) {
        println!("\n{} kills, and where they hit (several places at a time):", self.kills);
        println!("{:<10}{:>8}{:>8}", "phase", "aimed", "hit");
        for phase in PHASES {
            let (aimed, hits) = (self.aimed[phase as usize], self.hits[phase as usize]);
            println!("{:<10}{aimed:>8}{hits:>8}", format!("{phase:?}").to_lowercase());
            assert!(
                rounds < SOAK_ROUNDS || hits >= HITS_MIN,
                "{hits} kills hit {phase:?}, {HITS_MIN} should"
            );
        }
    }
}
