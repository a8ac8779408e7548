//! The engine under many threads: disjoint keys, exactly one winner per key, linearizable histories
//! of hot keys, clears, long values beside short ones, and what a flush has to have written.
//!
//! The scheduler decides what happens; every check holds for every schedule.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking and say what they did"
)]

#[path = "common/linear.rs"]
mod linear;
#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;
#[path = "common/segments.rs"]
mod segments;

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use linear::{Event, Op, Outcome, State, final_states};
use maps::{small_settings, temp_dirs};
use records::{key, value};
use rng::Rng;

const BLOCK_BYTES: usize = 16 << 10;
const THREADS: [u64; 4] = [2, 4, 8, 16];

fn open(dirs: &[TempDir], more: &str) -> DiskTxMap {
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    DiskTxMap::open(&runtime, &small_settings(dirs, more)).unwrap()
}

fn get(map: &DiskTxMap, number: u64) -> Option<(Vec<u8>, u16)> {
    map.get(&key(number), Wait::Allowed, |value, index| (value.to_vec(), index)).unwrap()
}

fn insert(map: &DiskTxMap, number: u64, value: &[u8]) {
    let inserted = map.set_if_not_exists(&key(number), value, 0, Wait::Allowed, |_, _| ());
    assert_eq!(inserted.unwrap(), Inserted::New, "key {number}");
}

/// Values one after another, and where each begins.
fn flat(values: &[Vec<u8>]) -> (Vec<u8>, Vec<u64>) {
    let ends = values.iter().scan(0, |end, value| {
        *end += value.len() as u64;
        Some(*end)
    });
    (values.concat(), std::iter::once(0).chain(ends).collect())
}

/// Random operations on keys that no other thread uses, against a plain map. Returns what is left.
fn own_keys(map: &DiskTxMap, thread: u64, steps: u64) -> u64 {
    let mut rng = Rng::new(thread);
    let mut model: HashMap<u64, (Vec<u8>, u16)> = HashMap::new();
    for _ in 0..steps {
        let number = thread << 32 | rng.below(400);
        let value = value(rng.next(), rng.below(900) as usize);
        match rng.below(10) {
            0..3 => {
                let there = map
                    .set_if_not_exists(&key(number), &value, 1, Wait::Allowed, |old, index| {
                        (old.to_vec(), index)
                    })
                    .unwrap();
                match there {
                    Inserted::New => assert!(model.insert(number, (value, 1)).is_none()),
                    Inserted::Present(old) => assert!(model.get(&number) == Some(&old)),
                }
            }
            3 => {
                let replaced = map.set(&key(number), &value, 2, Wait::Allowed).unwrap();
                assert_eq!(replaced, model.insert(number, (value, 2)).is_some());
            }
            4..6 => {
                let removed = map.delete(&key(number), Wait::Allowed).unwrap();
                assert_eq!(removed, model.remove(&number).is_some());
            }
            6 => {
                let found = map.update_subtree_index(&key(number), 9, Wait::Allowed).unwrap();
                assert_eq!(found, model.get_mut(&number).map(|entry| entry.1 = 9).is_some());
            }
            7 => assert!(get(map, number).as_ref() == model.get(&number)),
            8 => batch_of_own_keys(map, number, &value, &mut model),
            _ => {
                let numbers: Vec<u64> = (number..number + 50).collect();
                let keys: Vec<_> = numbers.iter().copied().map(key).collect();
                let mut found = 0;
                let visit = |position: usize, value: &[u8], index: u16| {
                    let entry = &model[&numbers[position]];
                    assert!(entry.0 == value && entry.1 == index);
                    found += 1;
                    Ok(())
                };
                assert!(map.get_batch(&keys, true, Wait::Allowed, visit).unwrap().is_empty());
                assert_eq!(found, numbers.iter().filter(|n| model.contains_key(n)).count());
            }
        }
    }
    for number in thread << 32..(thread << 32) + 420 {
        assert!(get(map, number).as_ref() == model.get(&number));
    }
    model.len() as u64
}

fn batch_of_own_keys(
    map: &DiskTxMap,
    first: u64,
    value: &[u8],
    model: &mut HashMap<u64, (Vec<u8>, u16)>,
) {
    let numbers: Vec<u64> = (first..first + 20).collect();
    let keys: Vec<_> = numbers.iter().copied().map(key).collect();
    let (arena, offsets) = flat(&vec![value.to_vec(); 20]);
    let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
    let mut states = [ItemState::Pending; 20];
    map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
    for (number, state) in numbers.iter().zip(states) {
        let expected = if model.contains_key(number) { ItemState::Other } else { ItemState::Done };
        assert_eq!(state, expected);
        model.entry(*number).or_insert_with(|| (value.to_vec(), 0));
    }
}

#[test]
fn threads_with_keys_of_their_own_do_not_disturb_each_other() {
    for threads in THREADS {
        let dirs = temp_dirs(2);
        let map = open(&dirs, "");
        let left: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    let map = &map;
                    scope.spawn(move || own_keys(map, thread, 16_000 / threads))
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(map.len(), left);
        assert!(map.stats().file_reads > 100, "nothing was on disk");
    }
}

/// The value that thread `thread` tries to insert under a key.
fn bid(number: u64, thread: u32) -> Vec<u8> {
    let mut bid = value(number << 8 | u64::from(thread), 20 + (number % 90) as usize);
    bid[..4].copy_from_slice(&thread.to_le_bytes());
    bid
}

/// Who won each key, as learnt from any call.
struct Winners(Vec<AtomicU32>);

impl Winners {
    fn learn(&self, number: u64, bytes: &[u8]) {
        let thread = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        assert!(bytes == bid(number, thread), "key {number} has a value that nobody inserted");
        let known = self.0[number as usize].compare_exchange(u32::MAX, thread, SeqCst, SeqCst);
        assert!(known.is_ok() || known == Err(thread), "key {number} had two winners");
    }
}

fn bid_for_all(map: &DiskTxMap, thread: u32, keys: u64, winners: &Winners) -> u64 {
    let mut wins = 0;
    // Every thread in an order of its own; the steps have no factor in common with `keys`.
    let step = [1, 7, 11, 13, 17, 19, 23, 29][thread as usize % 8];
    let order: Vec<u64> = (0..keys).map(|i| (i * step + u64::from(thread) * 50) % keys).collect();
    for numbers in order.chunks(40) {
        if thread.is_multiple_of(2) {
            for &number in numbers {
                let bid = bid(number, thread);
                let there = map.set_if_not_exists(&key(number), &bid, 0, Wait::Allowed, |v, _| {
                    winners.learn(number, v);
                });
                if there.unwrap() == Inserted::New {
                    winners.learn(number, &bid);
                    wins += 1;
                }
            }
            continue;
        }
        let keys: Vec<_> = numbers.iter().copied().map(key).collect();
        let bids: Vec<_> = numbers.iter().map(|number| bid(*number, thread)).collect();
        let (arena, offsets) = flat(&bids);
        let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
        let mut states = vec![ItemState::Pending; keys.len()];
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
        for ((number, bid), state) in numbers.iter().zip(&bids).zip(states) {
            if state == ItemState::Done {
                winners.learn(*number, bid);
                wins += 1;
            }
        }
        let visit = |position: usize, value: &[u8], _| {
            winners.learn(numbers[position], value);
            Ok(())
        };
        map.get_batch(&keys, true, Wait::Allowed, visit).unwrap();
    }
    wins
}

#[test]
fn of_threads_that_insert_the_same_keys_exactly_one_wins_each() {
    for threads in THREADS {
        let keys = 48_000 / threads;
        let dirs = temp_dirs(2);
        let map = open(&dirs, "");
        let winners = Winners((0..keys).map(|_| AtomicU32::new(u32::MAX)).collect());
        let wins: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads as u32)
                .map(|thread| {
                    scope.spawn({
                        let (map, winners) = (&map, &winners);
                        move || bid_for_all(map, thread, keys, winners)
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!((wins, map.len()), (keys, keys), "one win for each key");
        for number in 0..keys {
            winners.learn(number, &get(&map, number).unwrap().0);
        }
    }
}

#[test]
fn the_search_tells_linearizable_histories_from_others() {
    let event = |start, end, op, outcome| Event { start, end, op, outcome };
    let insert = |start, end, id| event(start, end, Op::Insert((id, 0)), Outcome::Inserted);
    let found = |start, end, state| event(start, end, Op::Get, Outcome::Found(state));
    let fits = |initial, events: &[Event]| !final_states(initial, events).is_empty();
    // Reads around an insert, one of them at the same time: it may see either.
    for seen in [None, Some((1, 0))] {
        let history = [insert(1, 4, 1), found(2, 3, seen), found(5, 6, Some((1, 0)))];
        assert!(fits(None, &history));
    }
    assert!(!fits(None, &[insert(1, 2, 1), found(3, 4, None)]), "a lost insert");
    assert!(!fits(None, &[insert(1, 2, 1), insert(3, 4, 2)]), "two winners");
    assert!(!fits(None, &[insert(1, 5, 1), insert(2, 6, 2)]), "two winners at once");
    // New, then old: a read went back in time.
    let back = [insert(1, 9, 1), found(2, 3, Some((1, 0))), found(4, 5, None)];
    assert!(!fits(None, &back));
    let deleted = event(1, 2, Op::Delete, Outcome::Was(true));
    assert!(fits(Some((3, 1)), &[deleted]) && !fits(None, &[deleted]));
    // A value with the index of another value.
    let set = event(1, 2, Op::Set((2, 5)), Outcome::Was(true));
    assert!(!fits(Some((1, 4)), &[set, found(3, 4, Some((2, 4)))]));
    assert_eq!(final_states(Some((1, 4)), &[set]), [Some((2, 5))].into());
}

/// The hot keys of one map, with what all threads share.
struct Hot<'a> {
    map: &'a DiskTxMap,
    clock: AtomicU64,
    fillers: AtomicU64,
}

const HOT_KEYS: u64 = 2;
const FILLER: u64 = 1 << 40;

/// A value with a number, short or of several hundred bytes.
fn hot_value(id: u32) -> Vec<u8> {
    let mut bytes = value(u64::from(id), 4 + (id % 5) as usize * 150);
    bytes[..4].copy_from_slice(&id.to_le_bytes());
    bytes
}

fn hot_entry(bytes: &[u8], index: u16) -> (u32, u16) {
    let id = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert!(bytes == hot_value(id), "a mixture of values");
    (id, index)
}

impl Hot<'_> {
    /// Pushes older records out of the tail.
    fn fill(&self, count: u64) {
        for _ in 0..count {
            let number = FILLER + self.fillers.fetch_add(1, SeqCst);
            insert(self.map, number, &value(number, 8000));
        }
    }

    /// Removes the fillers, so that segments retire and locations are used again.
    fn remove_fillers(&self, from: u64) {
        for number in from..self.fillers.load(SeqCst) {
            assert!(self.map.delete(&key(FILLER + number), Wait::Allowed).unwrap());
        }
    }

    /// Does a random operation on a hot key, or on both by a batch.
    fn act(&self, rng: &mut Rng, id: u32, events: &mut [Vec<Event>]) {
        if rng.below(6) == 0 {
            self.fill(1);
        }
        let (hot, index) = (rng.below(HOT_KEYS), rng.below(100) as u16);
        let key = key(hot);
        let value = hot_value(id);
        let start = self.clock.fetch_add(1, SeqCst);
        let (op, outcome) = match rng.below(9) {
            0 | 1 => {
                let insert = Op::Insert((id, index));
                match self
                    .map
                    .set_if_not_exists(&key, &value, index, Wait::Allowed, hot_entry)
                    .unwrap()
                {
                    Inserted::New => (insert, Outcome::Inserted),
                    Inserted::Present(entry) => (insert, Outcome::There(Some(entry))),
                }
            }
            2 => {
                let replaced = self.map.set(&key, &value, index, Wait::Allowed).unwrap();
                (Op::Set((id, index)), Outcome::Was(replaced))
            }
            3 => (Op::Delete, Outcome::Was(self.map.delete(&key, Wait::Allowed).unwrap())),
            4 => {
                let found = self.map.get(&key, Wait::Allowed, hot_entry).unwrap();
                (Op::Get, Outcome::Found(found))
            }
            5 => (Op::Exists, Outcome::Was(self.map.exists(&key, Wait::Allowed).unwrap())),
            6 => {
                let found = self.map.update_subtree_index(&key, index, Wait::Allowed).unwrap();
                (Op::Update(index), Outcome::Was(found))
            }
            batch => return self.act_on_both(batch == 7, id, index, start, events),
        };
        let end = self.clock.fetch_add(1, SeqCst);
        events[hot as usize].push(Event { start, end, op, outcome });
    }

    /// A batch is not one operation: each of its items is one of its own in the same time.
    fn act_on_both(&self, get: bool, id: u32, index: u16, start: u64, events: &mut [Vec<Event>]) {
        let keys: Vec<_> = (0..HOT_KEYS).map(key).collect();
        let mut outcomes = vec![Outcome::Found(None); keys.len()];
        if get {
            let visit = |position: usize, bytes: &[u8], index| {
                outcomes[position] = Outcome::Found(Some(hot_entry(bytes, index)));
                Ok(())
            };
            self.map.get_batch(&keys, true, Wait::Allowed, visit).unwrap();
        } else {
            let (arena, offsets) = flat(&[hot_value(id), hot_value(id)]);
            let indexes = [index; 2];
            let batch = Batch::new(&keys, &arena, &offsets, Some(&indexes)).unwrap();
            let mut states = [ItemState::Pending; 2];
            self.map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
            for (outcome, state) in outcomes.iter_mut().zip(states) {
                let new = state == ItemState::Done;
                *outcome = if new { Outcome::Inserted } else { Outcome::There(None) };
            }
        }
        let end = self.clock.fetch_add(1, SeqCst);
        let op = if get { Op::Get } else { Op::Insert((id, index)) };
        for (events, outcome) in events.iter_mut().zip(outcomes) {
            events.push(Event { start, end, op, outcome });
        }
    }
}

fn hot_keys(threads: u64, rounds: u64) {
    let dirs = temp_dirs(1);
    let map = open(&dirs, "");
    let hot = Hot { map: &map, clock: AtomicU64::new(0), fillers: AtomicU64::new(0) };
    let mut states: Vec<State> = vec![None; HOT_KEYS as usize];
    for round in 0..rounds {
        let fillers_before = hot.fillers.load(SeqCst);
        if round % 3 > 0 {
            hot.fill(40);
        }
        let barrier = Barrier::new(threads as usize);
        let mut events: Vec<Vec<Event>> = vec![Vec::new(); HOT_KEYS as usize];
        let worker = |thread: u64| {
            let mut events: Vec<Vec<Event>> = vec![Vec::new(); HOT_KEYS as usize];
            let mut rng = Rng::new(round << 8 | thread);
            barrier.wait();
            for i in 0..32 / threads {
                let id = (round << 16 | thread << 8 | i) as u32;
                hot.act(&mut rng, id, &mut events);
            }
            events
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    let worker = &worker;
                    scope.spawn(move || worker(thread))
                })
                .collect();
            for worker in workers {
                for (all, own) in events.iter_mut().zip(worker.join().unwrap()) {
                    all.extend(own);
                }
            }
        });
        for (number, (state, events)) in states.iter_mut().zip(&mut events).enumerate() {
            // The last read says which of the possible states it is, and must be one of them.
            let found = map.get(&key(number as u64), Wait::Allowed, hot_entry).unwrap();
            let possible = final_states(*state, events);
            if !possible.contains(&found) {
                events.sort_by_key(|event| event.start);
                panic!(
                    "{threads} threads, round {round}: from {state:?} to {found:?} by {events:#?}"
                );
            }
            *state = found;
        }
        hot.remove_fillers(fillers_before);
    }
    assert!(map.stats().file_reads > rounds, "the hot records were not on disk");
    assert_eq!(map.len(), states.iter().flatten().count() as u64);
}

#[test]
fn histories_of_hot_keys_are_linearizable() {
    for (threads, rounds) in [(2, 100), (4, 150), (8, 150), (16, 100)] {
        hot_keys(threads, rounds);
    }
}

/// How many clears have begun and how many have ended.
#[derive(Default)]
struct Clears {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Inserts keys of its own and checks what must be there and what must not. Returns those that it
/// has not deleted.
fn write_between_clears(map: &DiskTxMap, clears: &Clears, thread: u64, steps: u64) -> Vec<u64> {
    let mut rng = Rng::new(thread);
    // Number of a key, clears that had ended before its insert and that had begun after it.
    let mut keys: Vec<(u64, u64, u64)> = Vec::new();
    for step in 0..steps {
        let number = thread << 32 | step;
        let own = value(number, 30 + rng.below(600) as usize);
        let ended = clears.ended.load(SeqCst);
        insert(map, number, &own);
        keys.push((number, ended, clears.begun.load(SeqCst)));
        let chosen = if step % 2 == 0 { keys.len() - 1 } else { rng.below(step / 2 + 1) as usize };
        let Some((old, ended_before, begun_after)) = keys.get(chosen).copied() else { continue };
        let ended = clears.ended.load(SeqCst);
        let found = get(map, old);
        if let Some((found, _)) = found {
            let length = found.len();
            assert!(found == value(old, length), "a wrong value");
            assert!(ended <= begun_after, "key {old} outlived clear {ended} of {begun_after}");
        } else {
            let begun = clears.begun.load(SeqCst);
            assert!(begun > ended_before, "key {old} was lost without a clear");
        }
        if step % 8 == 0 {
            // Whether it is still there depends on the clears; that it is not afterwards does not.
            keys.swap_remove(chosen);
            map.delete(&key(old), Wait::Allowed).unwrap();
            assert!(!map.exists(&key(old), Wait::Allowed).unwrap());
        }
    }
    keys.into_iter().map(|(number, ..)| number).collect()
}

#[test]
fn clears_among_writers_and_readers_remove_what_was_before_and_nothing_else() {
    for threads in THREADS {
        let dirs = temp_dirs(2);
        let map = open(&dirs, "");
        let (clears, stop) = (Clears::default(), AtomicBool::new(false));
        let keys: Vec<u64> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..=threads)
                .map(|thread| {
                    scope.spawn({
                        let (map, clears) = (&map, &clears);
                        move || write_between_clears(map, clears, thread, 6000 / threads)
                    })
                })
                .collect();
            let clearer = scope.spawn(|| {
                let mut rng = Rng::new(threads);
                while !stop.load(SeqCst) {
                    clears.begun.fetch_add(1, SeqCst);
                    map.clear().unwrap();
                    clears.ended.fetch_add(1, SeqCst);
                    for _ in 0..rng.below(40) {
                        std::thread::yield_now();
                    }
                }
            });
            let results: Vec<_> =
                workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            stop.store(true, SeqCst);
            clearer.join().unwrap();
            results.into_iter().flat_map(|result| result.unwrap()).collect()
        });
        let there = keys.iter().filter(|number| get(&map, **number).is_some()).count();
        assert_eq!(map.len(), there as u64);
        map.clear().unwrap();
        assert!(map.is_empty() && keys.iter().all(|number| get(&map, *number).is_none()));
        insert(&map, keys[0], b"again");
        assert_eq!(get(&map, keys[0]), Some((b"again".to_vec(), 0)));
    }
}

#[test]
fn values_longer_than_a_block_go_along_with_short_ones_and_flushes() {
    let dirs = temp_dirs(2);
    let map = open(&dirs, "txMapFlushAge = 100ms\n");
    let stop = AtomicBool::new(false);
    let length = |thread: u64, i: u64| match thread {
        0 => 9000 + i * 397 % 7000,
        1 => 17_000 + i * 1511 % 44_000,
        _ => i * 31 % 700,
    } as usize;
    let write = |thread: u64, count: u64| {
        for i in 0..count {
            let number = thread << 32 | i;
            insert(&map, number, &value(number, length(thread, i)));
            let earlier = number - i % 50;
            let expected = value(earlier, length(thread, i - i % 50));
            let found = map.get(&key(earlier), Wait::Allowed, |value, _| value == expected);
            assert_eq!(found.unwrap(), Some(true), "key {earlier}");
        }
    };
    let write = &write;
    std::thread::scope(|scope| {
        let writers: Vec<_> = [(0, 300), (1, 200), (2, 4000), (3, 4000)]
            .map(|(thread, count)| scope.spawn(move || write(thread, count)))
            .into();
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                map.flush().unwrap();
            }
        });
        let results: Vec<_> =
            writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, SeqCst);
        results.into_iter().for_each(|result| result.unwrap());
    });
    for (thread, count) in [(0, 300), (1, 200), (2, 4000), (3, 4000)] {
        for i in 0..count {
            let number = thread << 32 | i;
            let expected = value(number, length(thread, i));
            let found = map.get(&key(number), Wait::Allowed, |value, _| value == expected).unwrap();
            assert_eq!(found, Some(true), "key {number}");
        }
    }
    assert_eq!(map.len(), 8500);
}

#[test]
fn a_flush_has_written_everything_acknowledged_before_it() {
    let dirs = temp_dirs(2);
    let map = open(&dirs, "");
    let length = |number: u64| match number % 97 {
        0 => 20_000,
        1 => 9000,
        rest => rest as usize * 9,
    };
    // How many keys of each thread are acknowledged.
    let acknowledged: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (thread, acknowledged) in acknowledged.iter().enumerate() {
            let (map, stop) = (&map, &stop);
            scope.spawn(move || {
                for i in 0..3000 {
                    let number = (thread as u64) << 32 | i;
                    insert(map, number, &value(number, length(number)));
                    acknowledged.store(i + 1, SeqCst);
                    if stop.load(SeqCst) {
                        return;
                    }
                }
            });
        }
        for _ in 0..6 {
            let before: Vec<u64> = acknowledged.iter().map(|count| count.load(SeqCst)).collect();
            map.flush().unwrap();
            let written = segments::scan(map.directories(), BLOCK_BYTES);
            for (thread, count) in before.iter().enumerate() {
                for i in 0..*count {
                    let number = (thread as u64) << 32 | i;
                    let expected = value(number, length(number));
                    let there =
                        written.get(&key(number)).is_some_and(|all| all.contains(&expected));
                    if !there {
                        stop.store(true, SeqCst);
                    }
                    assert!(there, "key {number} of {count} is not in the files");
                }
            }
        }
        stop.store(true, SeqCst);
    });
    map.flush().unwrap();
    let written = segments::scan(map.directories(), BLOCK_BYTES);
    assert_eq!(written.len() as u64, map.len());
}
