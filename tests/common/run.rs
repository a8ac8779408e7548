//! Histories of a durable map that follow from a seed, beside a model: what must be in the map, and
//! what may be in it after it was opened again.

use std::collections::HashMap;

use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::txmap::DiskTxMap;

use super::records::{key, value};
use super::rng::Rng;

pub const UNIVERSE: u64 = 300;

/// What must be in a map, and what each key was since the last sync.
pub struct Run {
    pub model: HashMap<u64, Vec<u8>>,
    synced: HashMap<u64, Vec<u8>>,
    since: HashMap<u64, Vec<Option<Vec<u8>>>>,
    pub rng: Rng,
    /// Whether merges are among the steps.
    pub merges: bool,
}

impl Run {
    pub fn new(seed: u64) -> Self {
        let (model, synced, since) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { model, synced, since, rng: Rng::new(seed), merges: false }
    }

    fn random_value(&mut self) -> Vec<u8> {
        let length = match self.rng.below(100) {
            0..=9 => 0,
            10..=89 => self.rng.below(400),
            90..=96 => 8192 + self.rng.below(12 << 10),
            _ => self.rng.below(50 << 10),
        };
        value(self.rng.next(), length as usize)
    }

    fn note(&mut self, number: u64) {
        let now = self.model.get(&number).cloned();
        self.since.entry(number).or_default().push(now);
    }

    pub fn mark_synced(&mut self) {
        self.synced = self.model.clone();
        self.since.clear();
    }

    pub fn step(&mut self, map: &DiskTxMap) {
        let number = self.rng.below(UNIVERSE);
        let k = key(number);
        match self.rng.below(100) {
            0..30 => {
                let value = self.random_value();
                let done = map
                    .set_if_not_exists(&k, &value, 0, Wait::Allowed, |old, _| old.to_vec())
                    .unwrap();
                match done {
                    Inserted::New => assert!(self.model.insert(number, value).is_none()),
                    Inserted::Present(old) => assert_eq!(self.model.get(&number), Some(&old)),
                }
                self.note(number);
            }
            30..55 => {
                let value = self.random_value();
                let replaced = map.set(&k, &value, 0, Wait::Allowed).unwrap();
                assert_eq!(replaced, self.model.insert(number, value).is_some());
                self.note(number);
            }
            55..85 => {
                let removed = map.delete(&k, Wait::Allowed).unwrap();
                assert_eq!(removed, self.model.remove(&number).is_some());
                self.note(number);
            }
            85..92 => self.insert_batch(map),
            92..98 => check_one(map, number, self.model.get(&number)),
            98 if self.merges => map.compact().unwrap(),
            _ => map.flush().unwrap(),
        }
    }

    fn insert_batch(&mut self, map: &DiskTxMap) {
        let numbers: Vec<u64> = (0..20).map(|_| self.rng.below(UNIVERSE)).collect();
        let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
        let values: Vec<_> = numbers.iter().map(|_| value(self.rng.next(), 100)).collect();
        let offsets: Vec<u64> = (0..=20).map(|i| i * 100).collect();
        let arena = values.concat();
        let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
        let mut states = vec![ItemState::Pending; 20];
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
        for ((number, value), state) in numbers.into_iter().zip(values).zip(states) {
            if state == ItemState::Done {
                assert!(self.model.insert(number, value).is_none());
                self.note(number);
            }
        }
    }

    /// The map is what it was at the last sync, or some later state of each key.
    pub fn check_recovered(&self, map: &DiskTxMap) -> HashMap<u64, Vec<u8>> {
        let found = content(map);
        assert_eq!(map.len(), found.len() as u64, "len after reopening");
        for number in 0..UNIVERSE {
            let now = found.get(&number);
            let later = self.since.get(&number).into_iter().flatten();
            let mut allowed =
                std::iter::once(self.synced.get(&number)).chain(later.map(Option::as_ref));
            let text = |value: Option<&Vec<u8>>| {
                value.map(|value| (value.len(), value.iter().take(4).copied().collect::<Vec<_>>()))
            };
            assert!(
                allowed.any(|allowed| allowed == now),
                "key {number} has a wrong value: {:?}; synced {:?}, since {:?}",
                text(now),
                text(self.synced.get(&number)),
                self.since.get(&number).map(|values| {
                    values.iter().map(|value| text(value.as_ref())).collect::<Vec<_>>()
                })
            );
        }
        found
    }
}

pub fn content(map: &DiskTxMap) -> HashMap<u64, Vec<u8>> {
    let get = |number| {
        let value = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap()?;
        Some((number, value))
    };
    (0..UNIVERSE).filter_map(get).collect()
}

pub fn check_one(map: &DiskTxMap, number: u64, expected: Option<&Vec<u8>>) {
    let found = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
    assert!(found.as_ref() == expected, "key {number}");
}
