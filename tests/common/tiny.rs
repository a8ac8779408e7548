//! A durable map that is as small as one can be and has everything: values that were superseded and
//! deleted, a deletion, a value over several blocks, a segment that was closed or one that was not.

use std::collections::BTreeMap;
use std::path::Path;

use blocktier::diskmap::Wait;
use tempfile::TempDir;

use super::maps::temp_dirs;
use super::records::{key, value};
use super::stores::{copies, files, open_with};

pub const UNIVERSE: u64 = 12;
/// The key with a value over several blocks.
pub const LONG: u64 = 9;
/// Keys with an older value, and one that was deleted.
pub const SET_TWICE: [u64; 2] = [1, 4];
pub const DELETED: u64 = 2;

/// What each key may be: the first is what it was when it was synced.
pub type Expected = BTreeMap<u64, Vec<Option<Vec<u8>>>>;

fn short(number: u64, version: u64) -> Vec<u8> {
    value(number * 100 + version, 20 + number as usize)
}

/// How the process that had the map ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    /// Clean, and nobody has made summaries.
    NoSummaries,
    /// Killed after a sync and a few more writes.
    Killed,
}

/// Directories with such a map, and what is in it.
pub fn build(directories: usize, end: End) -> (Vec<TempDir>, Expected) {
    let dirs = temp_dirs(directories);
    let map = open_with(&dirs, "").unwrap();
    let set = |number, value: &[u8]| {
        map.set(&key(number), value, 0, Wait::Allowed).unwrap();
    };
    let mut expected: Expected = (0..UNIVERSE).map(|number| (number, vec![None])).collect();
    for number in 0..7 {
        set(number, &short(number, 0));
        expected.insert(number, vec![Some(short(number, 0))]);
    }
    let long = value(LONG, 8200);
    set(LONG, &long);
    expected.insert(LONG, vec![Some(long)]);
    for number in SET_TWICE {
        set(number, &short(number, 1));
        expected.insert(number, vec![Some(short(number, 1))]);
    }
    assert!(map.delete(&key(DELETED), Wait::Allowed).unwrap());
    expected.insert(DELETED, vec![None]);
    if end != End::Killed {
        drop(map);
        if end == End::NoSummaries {
            for path in dirs.iter().flat_map(files).filter(|path| is(path, "sum")) {
                std::fs::remove_file(path).unwrap();
            }
        }
        return (dirs, expected);
    }
    map.sync(Wait::Allowed).unwrap();
    for number in [5, 7, 8] {
        set(number, &short(number, 2));
        expected.get_mut(&number).unwrap().push(Some(short(number, 2)));
    }
    map.flush().unwrap();
    let copies = copies(&dirs);
    drop(map);
    (copies, expected)
}

pub fn is(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|end| end == ending)
}

/// Offsets, in a segment, of bytes of padding behind its header: they mean nothing.
pub fn padding(segment: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 4096;
    while let Some(word) = segment.get(at + 4..at + 8) {
        let word = u32::from_le_bytes(word.try_into().unwrap());
        let (kind, length) = (word >> 28, (word & 0x0fff_ffff) as usize);
        let total = match kind {
            1 | 3 | 4 | 5 => 12 + 32 + length,
            2 => {
                ranges.push(at + 12..at + 12 + length);
                12 + length
            }
            _ => break,
        };
        at += total.next_multiple_of(16);
    }
    ranges
}
