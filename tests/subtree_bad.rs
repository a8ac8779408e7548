//! Damaged and hostile files. Every file of tests/data/bad goes through every loader and gives the
//! expected error; no loader has more on the heap than its input and 64 KiB, however large
//! the counts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "common/counting.rs"]
mod counting;
#[path = "common/fixtures.rs"]
mod fixtures;

use std::sync::Arc;

use blocktier::settings::RuntimeSettings;
use blocktier::storage::RealStorage;
use blocktier::subtree::inpoints::TxInpoints;
use blocktier::subtree::{
    FormatKind, NodeArray, ReadLimits, Subtree, SubtreeDirectory, SubtreeFormat, SubtreeMeta,
    SubtreeView, Verify, inspect, read_subtree,
};
use blocktier::{Error, Result};
use counting::{peak, within};
use fixtures::{json, read};
use serde_json::Value;

/// Runs `load` and checks that it had no more on the heap than the input's length and 64 KiB.
fn bounded<T>(input: usize, what: &str, load: impl FnOnce() -> T) -> T {
    within(input + (64 << 10), what, load)
}

#[test]
fn the_allocator_sees_large_allocations_and_many_small_ones() {
    let measured = std::panic::catch_unwind(|| {
        bounded(100, "a vector", || vec![0u8; 100 << 10].len());
    });
    assert!(measured.is_err());
    let (kept, most) = peak(|| (0..1000).map(|_| Box::new([0u8; 100])).collect::<Vec<_>>());
    assert!((100_000..120_000).contains(&most), "{most}");
    drop(kept);
    let (_, most) = peak(|| (0..1000).for_each(|_| drop(Box::new([0u8; 100]))));
    assert!(most < 1000, "freed again: {most}");
}

/// Every way to load a subtree, each with all checks.
type Loader = fn(&[u8], SubtreeFormat) -> Result<()>;

fn in_place(bytes: &[u8], format: SubtreeFormat) -> Result<()> {
    SubtreeView::parse(bytes, format)?.verify(&Verify::ALL).map(drop)
}

fn to_heap(bytes: &[u8], format: SubtreeFormat) -> Result<()> {
    Subtree::from_bytes(bytes, format)?.verify(&Verify::ALL).map(drop)
}

fn to_file(bytes: &[u8], format: SubtreeFormat) -> Result<()> {
    let limits = ReadLimits::of_length(bytes.len() as u64);
    let array = |nodes| NodeArray::mapped(&std::env::temp_dir(), nodes, &Default::default());
    read_subtree(bytes, format, &limits, array)?.verify(&Verify::ALL).map(drop)
}

/// A stream of unknown length that yields few bytes at a time.
fn from_slow_stream(bytes: &[u8], format: SubtreeFormat) -> Result<()> {
    let reader = Trickle(bytes);
    let limits = ReadLimits::at_most(1000);
    read_subtree(reader, format, &limits, NodeArray::heap)?.verify(&Verify::ALL).map(drop)
}

struct Trickle<'a>(&'a [u8]);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.0.len()).min(7);
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

/// As a file of a directory of ours.
fn in_its_place(bytes: &[u8], format: SubtreeFormat) -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(RealStorage::new(&RuntimeSettings::default()));
    let directory = SubtreeDirectory::open(storage, dir.path())?;
    std::fs::write(dir.path().join("file"), bytes).unwrap();
    directory.map("file", format)?.view().verify(&Verify::ALL).map(drop)
}

const LOADERS: [(&str, Loader); 5] = [
    ("in place", in_place),
    ("to the heap", to_heap),
    ("in a mapped file of ours", in_its_place),
    ("to a mapped file", to_file),
    ("from a slow stream", from_slow_stream),
];

fn format_of(entry: &Value) -> SubtreeFormat {
    match entry["format"].as_str().unwrap() {
        "S" => SubtreeFormat::Plain,
        "S+magic" => SubtreeFormat::WithMagic,
        "hashes" => SubtreeFormat::HashList,
        other => panic!("{other}"),
    }
}

fn outcome(result: Result<()>) -> String {
    match result {
        Ok(()) => "OK".to_owned(),
        Err(Error::Format(error)) => {
            assert!(!error.detail.is_empty());
            format!("{:?}", error.kind)
        }
        Err(other) => panic!("not a format error: {other}"),
    }
}

#[test]
fn every_file_through_every_loader_gives_the_expected_error() {
    let expected = json("bad/expected.json");
    let files = expected.as_object().unwrap();
    assert_eq!(files.len(), 60);
    for (file, entry) in files {
        let bytes = read(&format!("bad/{file}"));
        let wanted = entry["expect"].as_str().unwrap();
        for (name, load) in LOADERS {
            let what = format!("{file} {name}");
            let got = outcome(bounded(bytes.len(), &what, || load(&bytes, format_of(entry))));
            match wanted {
                "ANY" => assert_ne!(got, "OK", "{what}"),
                _ => assert_eq!(got, wanted, "{what}"),
            }
        }
    }
}

#[test]
fn structure_alone_is_checked_without_allocating_and_content_is_not() {
    for (file, entry) in json("bad/expected.json").as_object().unwrap() {
        let bytes = read(&format!("bad/{file}"));
        let (result, peak) = peak(|| inspect(&bytes, format_of(entry)));
        let level = entry["level"].as_u64().unwrap();
        assert_eq!(result.is_err(), level == 1, "{file}: {result:?}");
        if result.is_ok() {
            assert_eq!(peak, 0, "{file}: no allocation");
        }
    }
}

#[test]
fn integrity_alone_finds_level_2_and_accepts_level_3() {
    for (file, entry) in json("bad/expected.json").as_object().unwrap() {
        let bytes = read(&format!("bad/{file}"));
        let Ok(view) = SubtreeView::parse(&bytes, format_of(entry)) else { continue };
        let result = view.verify(&Verify::INTEGRITY);
        let level = entry["level"].as_u64().unwrap();
        assert_eq!(result.is_err(), level == 2, "{file}: {result:?}");
        view.verify(&Verify::NONE).unwrap();
    }
}

/// Which files each single check refuses, whatever the other checks would say.
#[test]
fn each_check_by_itself() {
    let with = |change: fn(&mut Verify)| {
        let mut options = Verify::NONE;
        change(&mut options);
        options
    };
    let checks: [(Verify, &[&str]); 6] = [
        (with(|v| v.root = true), &["root-bit", "root-reversed", "leaf-bit", "leaves-swapped"]),
        (
            with(|v| v.sums = true),
            &[
                "fees-plus-one",
                "size-minus-one",
                "node-fee-changed",
                "fee-overflow",
                "size-overflow",
            ],
        ),
        (
            with(|v| v.placeholder = true),
            &["placeholder-at-3", "placeholder-nonzero", "list-placeholder-at-5"],
        ),
        (with(|v| v.zero_hashes = true), &["zero-hash-leaf"]),
        (with(|v| v.duplicates = true), &["leaf-duplicate", "cve-2012-2459", "list-duplicate"]),
        (with(|v| v.conflicting = true), &["conf-not-leaf", "conf-duplicate"]),
    ];
    for (file, entry) in json("bad/expected.json").as_object().unwrap() {
        let bytes = read(&format!("bad/{file}"));
        let Ok(view) = SubtreeView::parse(&bytes, format_of(entry)) else { continue };
        for (options, refused) in &checks {
            let name = file.split('.').next().unwrap();
            let result = view.verify(options);
            assert_eq!(result.is_err(), refused.contains(&name), "{file} {options:?}: {result:?}");
        }
    }
}

#[test]
fn errors_name_the_place() {
    let text = |file: &str| {
        let error = in_place(&read(&format!("bad/{file}")), SubtreeFormat::Plain).unwrap_err();
        error.to_string()
    };
    for (file, words) in [
        ("leaf-duplicate.subtree", "leaf 6 repeats leaf 5"),
        ("cve-2012-2459.subtree", "leaf 21 repeats leaf 20"),
        ("placeholder-at-3.subtree", "is leaf 3"),
        ("zero-hash-leaf.subtree", "leaf 63"),
        ("conf-not-leaf.subtree", "conflicting hash 1"),
        ("conf-duplicate.subtree", "conflicting hash 1 repeats number 0"),
        ("placeholder-nonzero.subtree", "fee 7 and size 100"),
        ("trunc-count.subtree", "node count at offset 48"),
        ("n-2e32.subtree", "4294967296 nodes"),
    ] {
        let text = text(file);
        assert!(text.contains(words), "{file}: {text}");
    }
}

#[test]
fn hostile_counts_in_inpoints_and_meta_allocate_nothing() {
    let huge = u32::MAX.to_le_bytes();
    let one = 1u32.to_le_bytes();
    let inpoints: [(&str, Vec<u8>, FormatKind); 5] = [
        ("parents", huge.to_vec(), FormatKind::CountTooLarge),
        ("parents with bytes", [&huge[..], &[0; 100]].concat(), FormatKind::CountTooLarge),
        ("outputs", [&one[..], &[7; 32], &huge].concat(), FormatKind::CountTooLarge),
        ("cut", [&one[..], &[7; 31]].concat(), FormatKind::Truncated),
        ("trailing", [&one[..], &[7; 32], &one, &one, &[0]].concat(), FormatKind::TrailingBytes),
    ];
    for (what, bytes, kind) in &inpoints {
        let error = bounded(bytes.len(), what, || TxInpoints::decode(bytes)).unwrap_err();
        assert_eq!(error.kind, *kind, "{what}");
    }
    let meta = [&[5u8; 32][..], &huge, &[0; 400]].concat();
    let error = bounded(meta.len(), "meta", || SubtreeMeta::parse(&meta).map(drop)).unwrap_err();
    assert_eq!(error.kind, FormatKind::CountTooLarge);
    let meta = [&[5u8; 32][..], &one, &inpoints[2].1].concat();
    let error = SubtreeMeta::parse(&meta).map(drop).unwrap_err();
    assert_eq!(error.kind, FormatKind::CountTooLarge);
    assert!(error.detail.contains("entry 0 at offset 36"), "{}", error.detail);
    let none = [&[5u8; 32][..], &[0; 4]].concat();
    assert_eq!(SubtreeMeta::parse(&none).map(drop).unwrap_err().kind, FormatKind::ZeroNodes);
}

#[test]
fn a_real_large_file_stays_within_the_bound_too() {
    let bytes = read("derived/block-384188-c1024-00.subtree");
    for (name, load) in LOADERS.into_iter().take(3) {
        bounded(bytes.len(), name, || load(&bytes, SubtreeFormat::Plain)).unwrap();
    }
    let limits = ReadLimits::at_most(1023);
    let error = read_subtree(&bytes[..], SubtreeFormat::Plain, &limits, NodeArray::heap);
    assert_eq!(outcome(error.map(drop)), "CountTooLarge", "one more than allowed");
}
