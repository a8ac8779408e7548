//! Inserting many keys in one run does what inserting each does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use super::check::{Gate, at, compare, hash, options};
use super::*;
use crate::memory::MemoryReserve;

const SHARDS_USED: u64 = 2;

/// Batches in which keys repeat and some are not admitted, into shards that grow meanwhile.
fn insert_in_batches(
    index: &Index,
    mut insert: impl FnMut(&[(KeyHash, NewEntry<'_>)]) -> Vec<bool>,
) {
    let mut model = HashMap::new();
    for batch in 0..200u64 {
        // Each key twice or more: in this batch, and again in a later one.
        let keys: Vec<u64> = (0..256).map(|i| batch * 90 + i * 7 % 128).collect();
        let hashes: Vec<KeyHash> = keys.iter().map(|&key| hash(key, SHARDS_USED)).collect();
        let mut known = vec![Candidates::none(); keys.len()];
        index.probe_many(&hashes, Purpose::Insertion, |position, found| known[position] = found);
        let entries: Vec<(KeyHash, NewEntry<'_>)> = (0..keys.len())
            .filter(|&i| known[i].is_empty())
            .map(|i| {
                let location = at(batch * 256 + i as u64 + 1);
                let subtree = if keys[i].is_multiple_of(5) { keys[i] as u16 } else { 0 };
                (hashes[i], NewEntry { location, subtree, known: &known[i] })
            })
            .collect();
        let inserted = insert(&entries);
        for (&(h, new), inserted) in entries.iter().zip(inserted) {
            let key = *keys.iter().find(|&&key| hash(key, SHARDS_USED) == h).unwrap();
            let refused = new.location.units() % 11 == 0;
            assert_eq!(inserted, !refused && !model.contains_key(&key), "key {key}");
            if inserted {
                model.insert(key, (new.location, new.subtree));
            }
        }
    }
    assert!(model.len() > 10_000);
    compare(index, SHARDS_USED, &model);
}

fn admits(new: &NewEntry<'_>) -> bool {
    !new.location.units().is_multiple_of(11)
}

fn dump(index: &Index) -> Vec<(Location, u16)> {
    let mut all = Vec::new();
    index.for_each(&mut |location, subtree| all.push((location, subtree)));
    all
}

#[test]
fn many_at_once_are_as_many_one_by_one() {
    let one_by_one = Index::new(&options(0, ScanKernel::Scalar)).unwrap();
    insert_in_batches(&one_by_one, |entries| {
        let insert = |(h, new): &(KeyHash, NewEntry<'_>)| {
            let NewEntry { location, subtree, known } = *new;
            let done = one_by_one.insert_new_if(*h, location, subtree, known, || admits(new));
            matches!(done.unwrap(), Insert::Done)
        };
        entries.iter().map(insert).collect()
    });
    for kernel in [ScanKernel::Scalar, ScanKernel::Avx2, ScanKernel::Avx512, ScanKernel::Auto] {
        let Ok(index) = Index::new(&options(0, kernel)) else {
            eprintln!("not tested here: this processor has no {kernel:?}");
            continue;
        };
        insert_in_batches(&index, |entries| {
            let mut inserted = Vec::new();
            let outcome = index.insert_new_many(
                entries,
                |position| admits(&entries[position].1),
                |position, outcome| {
                    assert_eq!(position, inserted.len());
                    inserted.push(matches!(outcome, Insert::Done));
                },
            );
            outcome.unwrap();
            inserted
        });
        // Every entry in the same slot.
        assert_eq!(dump(&index), dump(&one_by_one), "{kernel:?}");
    }
}

#[test]
fn a_refusal_says_how_far_it_came() {
    let gate = Arc::new(Gate::default());
    let reserve: Arc<dyn MemoryReserve> = gate.clone();
    let index =
        Index::new(&IndexOptions { reserve: Some(reserve), ..IndexOptions::default() }).unwrap();
    let known = Candidates::none();
    let hashes: Vec<KeyHash> = (0..20_000).map(|i| hash(i, SHARDS_USED)).collect();
    let entries: Vec<(KeyHash, NewEntry<'_>)> = hashes
        .iter()
        .enumerate()
        .map(|(i, &h)| (h, NewEntry { location: at(i as u64 + 1), subtree: 0, known: &known }))
        .collect();
    let (mut done, mut refusals) = (0, 0);
    while done < entries.len() {
        let first = done;
        let outcome = index.insert_new_many(
            &entries[first..],
            |position| {
                // The account closes on the way, once in each call but the last.
                gate.closed.store(first + position >= 1_000 * (refusals + 1), Release);
                true
            },
            |position, outcome| {
                assert!(matches!(outcome, Insert::Done));
                assert_eq!(first + position, done);
                done += 1;
            },
        );
        if let Err((position, error)) = outcome {
            assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
            assert_eq!(first + position, done);
            assert!(!index.probe(hashes[done]).contains(at(done as u64 + 1)));
            assert_eq!(index.len(), done as u64);
            refusals += 1;
        }
    }
    assert!(refusals > 3, "{refusals}");
    let model = (0..20_000).map(|i| (i, (at(i + 1), 0))).collect();
    compare(&index, SHARDS_USED, &model);
}

#[test]
fn a_frozen_index_takes_none() {
    let index = Index::new(&IndexOptions::default()).unwrap();
    index.freeze();
    let known = Candidates::none();
    let entry = (hash(1, 1), NewEntry { location: at(1), subtree: 0, known: &known });
    let outcome = index.insert_new_many(&[entry], |_| true, |_, _| panic!("inserted"));
    assert!(matches!(outcome, Err((0, Error::Frozen(_)))), "{outcome:?}");
    assert_eq!(index.len(), 0);
}
