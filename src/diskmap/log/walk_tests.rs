//! A walk yields what was written, in order, and nothing of what was damaged.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::lane::Lane;
use super::record::{Kind, UNIT_BYTES};
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::walk::Walk;
use crate::diskmap::{DiskMap, Wait};
use crate::runtime::Runtime;
use crate::settings::{RuntimeSettings, TxMapSettings};
use crate::{Error, Result};

const RECORDS: u32 = 1200;

type Key = [u8; 32];

fn key(number: u32) -> Key {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    key
}

/// Lengths of all sorts, some over two and three blocks, some over more than a window's half.
fn value(number: u32) -> Vec<u8> {
    let length = match number % 100 {
        0 => 0,
        50 => 40_000,
        99 => 17_000,
        _ => 100 + number as usize % 900,
    };
    (0..length).map(|i| (i as u32 ^ number) as u8).collect()
}

/// A map whose content fills segments, with flushes in between so that blocks have padding.
fn filled(dir: &tempfile::TempDir, segment: &str) -> DiskMap<Key> {
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let text = format!(
        "txMapDirs = {}\ntxMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = {segment}\n\
         txMapCompaction = off\n",
        dir.path().display()
    );
    let map = DiskMap::open(&runtime, &TxMapSettings::parse(&text).unwrap()).unwrap();
    for number in 0..RECORDS {
        map.set(&key(number), &value(number), 0, Wait::Allowed).unwrap();
        if number % 37 == 0 {
            map.flush().unwrap();
        }
    }
    map.flush().unwrap();
    map
}

fn complete(lane: &Lane) -> Vec<Arc<Segment>> {
    let segments = lane.table().segments().map(|(_, segment)| segment);
    segments.filter(|segment| segment.is_complete()).collect()
}

fn walk(lane: &Lane, segment: &Arc<Segment>) -> Result<Walk> {
    let extent = lane.table().entry(segment.slot).unwrap().extent(segment).unwrap();
    Walk::new(lane.factory(), Arc::clone(segment), lane.shared().tail.block_bytes(), extent)
}

/// Keys and values of a segment, by location.
fn read_all(lane: &Lane, segment: &Arc<Segment>) -> Result<Vec<(u64, Key, Vec<u8>)>> {
    let mut walk = walk(lane, segment)?;
    let mut records = Vec::new();
    while let Some(record) = walk.next()? {
        assert_eq!(record.kind, Kind::Put);
        let units = (12 + 32 + record.value.len()).div_ceil(UNIT_BYTES);
        assert_eq!(record.units as usize, units);
        let key = record.key.try_into().unwrap();
        records.push((record.location.units(), key, record.value.to_vec()));
    }
    assert!(walk.read_bytes() >= SEGMENT_HEADER_BYTES as u64);
    Ok(records)
}

#[test]
fn every_record_comes_once_in_order_and_at_its_place() {
    for segment in ["64K", "1M", "4M"] {
        let dir = tempfile::tempdir().unwrap();
        let map = filled(&dir, segment);
        let generation = map.generation.load();
        let lane = &generation.lanes[0];
        let mut seen = HashMap::new();
        for segment in complete(lane) {
            let records = read_all(lane, &segment).unwrap();
            assert!(records.is_sorted_by_key(|(location, ..)| *location));
            for (location, key, value) in records {
                let hash = crate::diskmap::Key::hash(&key, &generation.hasher);
                let there = generation.index.probe(hash);
                assert!(there.iter().any(|place| place.units() == location));
                assert!(seen.insert(key, value).is_none());
            }
        }
        let last = (0..RECORDS).rev().find(|number| seen.contains_key(&key(*number)));
        for number in 0..last.map_or(0, |last| last + 1) {
            assert!(seen[&key(number)] == value(number), "record {number}");
        }
        assert!(seen.len() > 500 || segment == "4M", "{} records in {segment}", seen.len());
    }
}

#[test]
fn damage_anywhere_is_an_error_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let map = filled(&dir, "64K");
    let generation = map.generation.load();
    let lane = &generation.lanes[0];
    let segment = complete(lane).swap_remove(2);
    let good = read_all(lane, &segment).unwrap();
    let extent = lane.table().entry(segment.slot).unwrap().extent(&segment).unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(segment.path()).unwrap();
    let mut bytes = vec![0; 65_536];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let first = (good[0].0 % 4096) as usize * UNIT_BYTES;
    assert_eq!(first, SEGMENT_HEADER_BYTES);
    // Header, kinds, lengths, sequence numbers, checksums, keys, values; a page of zeros.
    let mut places: Vec<usize> = vec![0, 9, 17, 41, 4093, 4096, 4100, 4103, 4104, 4108, 4141];
    places.extend((0..60).map(|i| 4096 + i * 997));
    let mut errors = 0;
    for place in places {
        let block = place / 16_384;
        if place % 16_384 >= extent.used_units[block] as usize * UNIT_BYTES {
            continue;
        }
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x40;
        file.write_all_at(&damaged, 0).unwrap();
        match read_all(lane, &segment) {
            Err(Error::Corrupt { path, offset, .. }) => {
                assert!(path == *segment.path() && offset <= place as u64, "{place}: {offset}");
                errors += 1;
            }
            // What stands behind a padding's header and between records means nothing.
            Ok(records) => assert!(records == good, "{place}"),
            Err(error) => panic!("{place}: {error}"),
        }
    }
    assert!(errors > 40, "{errors}");
    let mut zeroed = bytes.clone();
    zeroed[8192..12_288].fill(0);
    file.write_all_at(&zeroed, 0).unwrap();
    assert!(matches!(read_all(lane, &segment), Err(Error::Corrupt { .. })));
    file.write_all_at(&bytes, 0).unwrap();
    assert!(read_all(lane, &segment).unwrap() == good);
    // Cut short.
    file.set_len(8192).unwrap();
    assert!(read_all(lane, &segment).is_err());
}
