//! Items of a batch with equal keys take effect in the order of the batch, whatever some of them
//! wait for: room, a file, or a look at a record that only has the same tag.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/faulty.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod faulty;
#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;

use std::collections::HashMap;

use blocktier::Error;
use blocktier::diskmap::{Batch, ItemState, Wait};
use blocktier::storage::fault::FaultOp;
use blocktier::txmap::DiskTxMap;

use faulty::open_faulty;
use maps::temp_dirs;
use records::{key, value};

type Key = [u8; 32];

/// One batch of sets or inserts, as it is handed over.
struct Items {
    keys: Vec<Key>,
    values: Vec<Vec<u8>>,
    states: Vec<ItemState>,
}

impl Items {
    fn new(items: Vec<(Key, Vec<u8>)>) -> Self {
        let states = vec![ItemState::Pending; items.len()];
        let (keys, values) = items.into_iter().unzip();
        Self { keys, values, states }
    }

    fn run(&mut self, map: &DiskTxMap, replace: bool, wait: Wait) -> Result<(), Error> {
        let arena = self.values.concat();
        let mut offsets = vec![0];
        for value in &self.values {
            offsets.push(offsets.last().unwrap() + value.len() as u64);
        }
        let batch = Batch::new(&self.keys, &arena, &offsets, None).unwrap();
        if replace {
            map.set_batch(&batch, wait, &mut self.states)
        } else {
            map.set_if_not_exists_batch(&batch, wait, &mut self.states)
        }
    }
}

fn get(map: &DiskTxMap, key: &Key) -> Option<Vec<u8>> {
    map.get(key, Wait::Allowed, |value, _| value.to_vec()).unwrap()
}

#[test]
fn the_first_is_inserted_also_if_it_takes_longer() {
    let dirs = temp_dirs(1);
    let (_faults, map) = open_faulty(&dirs, "");
    let (long, short) = (value(1, 20_000), value(2, 10));
    let mut items = Items::new(vec![(key(1), long.clone()), (key(1), short)]);
    items.run(&map, false, Wait::Allowed).unwrap();
    assert_eq!(items.states, [ItemState::Done, ItemState::Other]);
    assert_eq!(get(&map, &key(1)), Some(long));
}

/// Few keys, many times in each batch, in the tail and in files, with and without waiting. Of the
/// calls that may not wait some meet a writer that is held, some one that makes room meanwhile.
#[test]
fn batches_do_what_their_items_do_one_by_one() {
    let dirs = temp_dirs(2);
    let (faults, map) = open_faulty(&dirs, "");
    let mut rng = rng::Rng::new(17);
    let mut model: HashMap<Key, Vec<u8>> = HashMap::new();
    let mut blocked = 0;
    for round in 0..300 {
        let gate = (round % 3 == 0).then(|| faults.close_gate(FaultOp::Write));
        let replace = rng.below(2) == 0;
        let items = (0..rng.below(700)).map(|_| {
            let length = match rng.below(40) {
                0 => 20_000,
                _ => rng.below(500),
            };
            (key(rng.below(300)), value(rng.next(), length as usize))
        });
        let mut items = Items::new(items.collect());
        let wait = if rng.below(2) == 0 { Wait::Never } else { Wait::ReadsOnly };
        for _ in 0..if round % 3 == 2 { 0 } else { 3 } {
            if let Err(error) = items.run(&map, replace, wait) {
                assert!(matches!(error, Error::WouldBlock(_)), "{error}");
                blocked += 1;
            }
        }
        drop(gate);
        items.run(&map, replace, Wait::Allowed).unwrap();
        for ((key, value), state) in items.keys.iter().zip(items.values).zip(items.states) {
            let there = model.contains_key(key);
            let expected = if there { ItemState::Other } else { ItemState::Done };
            assert_eq!(state, expected, "round {round}");
            if replace || !there {
                model.insert(*key, value);
            }
        }
        // Some go, some leave the tail.
        let gone: Vec<Key> = (0..rng.below(100)).map(|_| key(rng.below(300))).collect();
        let mut states = vec![ItemState::Pending; gone.len()];
        map.delete_batch(&gone, Wait::Allowed, &mut states).unwrap();
        for (key, state) in gone.iter().zip(states) {
            let there = model.remove(key).is_some();
            assert_eq!(state, if there { ItemState::Done } else { ItemState::Other });
        }
        for (key, value) in &model {
            assert_eq!(get(&map, key).as_ref(), Some(value), "round {round}");
        }
        assert_eq!(map.len(), model.len() as u64);
    }
    assert!(blocked > 100, "{blocked}");
    assert!(map.stats().file_reads > 0, "nothing was read from files");
}
