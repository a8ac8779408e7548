//! Damage on the way back from disk: errors of reads, flipped bits, a file that was cut. Each is an
//! error of the calls that meet it, says where, and leaves everything else alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "common/faulty.rs"]
mod faulty;
#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;

use std::collections::HashMap;
use std::path::PathBuf;

use blocktier::diskmap::{Batch, ItemState, Wait};
use blocktier::storage::fault::{Fault, FaultOp, FaultRule};
use blocktier::txmap::DiskTxMap;
use blocktier::{Error, TxId};

use faulty::{COLD, check_there, insert, open_faulty, record, with_cold_records};
use maps::temp_dirs;
use records::{key, value};

const EIO: i32 = 5;

/// Where the records of keys 0..count stand: the file and the offset of the first byte. A record
/// begins with 12 bytes of header, then the key, at a multiple of 16.
fn places(map: &DiskTxMap, count: u64) -> Vec<(PathBuf, u64)> {
    let numbers: HashMap<TxId, u64> = (0..count).map(|number| (key(number), number)).collect();
    let mut places = vec![None; count as usize];
    for entry in map.directories().flat_map(|dir| std::fs::read_dir(dir).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_none() {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for (unit, window) in bytes.windows(44).step_by(16).enumerate() {
            if let Some(number) = numbers.get(&window[12..]) {
                places[*number as usize] = Some((path.clone(), unit as u64 * 16));
            }
        }
    }
    let found = |(number, place): (usize, Option<_>)| {
        place.unwrap_or_else(|| panic!("record {number} is in no file"))
    };
    places.into_iter().enumerate().map(found).collect()
}

#[test]
fn a_read_error_is_the_calls_alone() {
    let dirs = temp_dirs(2);
    let (faults, map) = with_cold_records(&dirs);
    let places = places(&map, COLD);
    let (path, offset) = places[7].clone();
    let failing = path.clone();
    faults.add(FaultRule::new(FaultOp::Read, Fault::Errno(EIO)).on(move |access| {
        access.path == failing && (access.offset..access.offset + access.len).contains(&offset)
    }));
    let keys = [key(7)];
    let batch = Batch::new(&keys, b"x", &[0, 1], None).unwrap();
    let mut states = [ItemState::Pending];
    let errors = [
        map.get(&key(7), Wait::Allowed, |_, _| ()).unwrap_err(),
        map.exists(&key(7), Wait::Allowed).unwrap_err(),
        map.delete(&key(7), Wait::Allowed).unwrap_err(),
        map.set(&key(7), b"x", 0, Wait::Allowed).unwrap_err(),
        map.set_if_not_exists(&key(7), b"x", 0, Wait::Allowed, |_, _| ()).unwrap_err(),
        map.update_subtree_index(&key(7), 1, Wait::Allowed).unwrap_err(),
        map.get_batch(&keys, true, Wait::Allowed, |_, _, _| Ok(())).unwrap_err(),
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap_err(),
        map.delete_batch(&keys, Wait::Allowed, &mut states).unwrap_err(),
    ];
    for error in errors {
        let Error::Io { op: "read", path: named, offset: Some(at), .. } = &error else {
            panic!("{error}")
        };
        assert!(*named == path && *at <= offset, "{error}");
    }
    assert_eq!(states, [ItemState::Pending]);
    assert_eq!((map.len(), map.stats().failed), (COLD, 0), "a read error fails no map");
    // Records that no read has in common with the damaged place: other blocks, other files.
    let far = |place: &(PathBuf, u64)| place.0 != path || place.1.abs_diff(offset) > 64 << 10;
    let far: Vec<u64> = (0..COLD).filter(|number| far(&places[*number as usize])).collect();
    assert!(far.len() > 2000);
    check_there(&map, far.into_iter());
    faults.clear_rules();
    check_there(&map, 0..COLD);
}

#[test]
fn every_flipped_bit_is_an_error_that_says_where() {
    let dirs = temp_dirs(1);
    let (faults, map) = open_faulty(&dirs, "");
    // 64 bytes each, so that bits beyond a record's end are another record's.
    let count = 12_000;
    let short = |number| value(number, 20);
    for number in 0..count {
        map.set(&key(number), &short(number), 0, Wait::Allowed).unwrap();
    }
    map.flush().unwrap();
    // The first record of a file, one from its middle and the last: a longer length ends outside.
    let places = places(&map, count);
    let wanted = [4096, 8192 + 64 * 7, (64 << 10) - 64];
    let chosen = wanted.map(|offset| {
        // Among the older half, which is not in the tail any more.
        let number = places[..6000].iter().position(|place| place.1 == offset);
        number.expect("a file has a record at each of its units of 64 bytes") as u64
    });
    for number in chosen {
        let (path, offset) = places[number as usize].clone();
        for bit in 0..64 * 8 {
            let (at, mask) = (offset + bit / 8, 1 << (bit % 8));
            let flipped = path.clone();
            faults.add(
                FaultRule::new(FaultOp::Read, Fault::FlipBits { offset: at, mask })
                    .on(move |access| access.path == flipped),
            );
            let damaged = key(number);
            let by_batch = map.get_batch(&[damaged], true, Wait::Allowed, |_, _, _| Ok(()));
            for error in [
                map.get(&damaged, Wait::Allowed, |_, _| ()).unwrap_err(),
                map.set_if_not_exists(&damaged, b"", 0, Wait::Allowed, |_, _| ()).unwrap_err(),
                by_batch.unwrap_err(),
            ] {
                let Error::Corrupt { path: named, offset: at, .. } = &error else {
                    panic!("bit {bit}: {error}")
                };
                assert!(*named == path && *at == offset, "bit {bit}: {error}");
            }
            faults.clear_rules();
        }
        // The bytes themselves were never damaged.
        let value = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
        assert_eq!(value, Some(short(number)));
    }
    assert_eq!((map.len(), map.stats().failed), (count, 0));
}

#[test]
fn a_segment_cut_behind_our_back_is_an_error_that_says_where() {
    let dirs = temp_dirs(1);
    let (_faults, map) = with_cold_records(&dirs);
    let (path, offset) = places(&map, COLD)[3].clone();
    let cut = offset - offset % 4096;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
    let mut damaged = 0;
    for number in 0..COLD {
        match map.get(&key(number), Wait::Allowed, |value, _| value == record(number)) {
            Ok(found) => assert_eq!(found, Some(true), "record {number}"),
            Err(Error::Corrupt { path: named, offset: at, .. }) => {
                assert!(named == path && at >= cut, "record {number} at {at}");
                damaged += 1;
            }
            Err(error) => panic!("record {number}: {error}"),
        }
    }
    assert!((1..200).contains(&damaged), "{damaged} records are damaged");
    assert!(map.failure().is_ok());
}

#[test]
fn a_write_that_was_lost_in_part_is_found_when_it_is_read() {
    let dirs = temp_dirs(1);
    let (faults, map) = open_faulty(&dirs, "");
    // The device says that all is well, also to the flush.
    faults.add(FaultRule::new(FaultOp::Write, Fault::TornWrite { bytes: 4096 }).skip(2).times(3));
    (0..COLD).for_each(|number| insert(&map, number, Wait::Allowed).unwrap());
    map.flush().unwrap();
    assert_eq!(faults.faults(FaultOp::Write), 3);
    let mut damaged = 0;
    for number in 0..COLD {
        match map.get(&key(number), Wait::Allowed, |value, _| value == record(number)) {
            Ok(found) => assert_eq!(found, Some(true), "record {number}"),
            Err(Error::Corrupt { offset, .. }) => {
                assert!(offset >= 4096, "record {number} at {offset}");
                damaged += 1;
            }
            Err(error) => panic!("record {number}: {error}"),
        }
    }
    // Three blocks of 16K less the part that was written, in records of 200 bytes or more.
    assert!((3..=3 * 12_288 / 200).contains(&damaged), "{damaged} records are damaged");
    assert!(map.failure().is_ok());
}
