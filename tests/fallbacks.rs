//! What is missing on a machine is done without, with the same results: a file system without
//! direct I/O and without reservation, no O_TMPFILE, no huge pages, no SHA instructions. Whole
//! histories of maps over every fallback are in diskmap_model.rs, an io_uring that is refused in
//! src/storage/ring.rs.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;

use std::process::Command;

use blocktier::Error;
use blocktier::diskmap::{Inserted, Wait};
use blocktier::hash::{Sha256d, Sha256dKernel};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::storage::{HugePages, MappingOptions};
use blocktier::subtree::{MerkleLevels, Node, NodeArray, merkle};
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use maps::{small_settings, temp_dirs};
use records::{key, value};

/// A ramfs, unmounted on drop: it has no direct I/O, reserves nothing and counts nothing.
struct RamFs(TempDir);

impl RamFs {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "ramfs", "blocktier-test"]).arg(dir.path()).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("skipped: no ramfs here: {mounted:?}");
        None
    }
}

impl Drop for RamFs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        let done = unmounted.is_ok_and(|status| status.success());
        assert!(done || std::thread::panicking(), "umount failed: files are in use");
    }
}

#[test]
fn a_file_system_that_can_nothing_special_holds_a_map_and_says_so() {
    let Some(disk) = RamFs::mount() else { return };
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let map = DiskTxMap::open(&runtime, &small_settings(&[&disk.0], "")).unwrap();
    for number in 0..5000 {
        let value = value(number, 200);
        let new = map.set_if_not_exists(&key(number), &value, 0, Wait::Allowed, |_, _| ());
        assert_eq!(new.unwrap(), Inserted::New);
    }
    map.flush().unwrap();
    for number in 0..5000 {
        let expected = value(number, 200);
        let same = map.get(&key(number), Wait::Allowed, |value, _| value == expected).unwrap();
        assert_eq!(same, Some(true), "record {number}");
    }
    assert!(map.stats().file_reads > 1000, "little was read back");
    let events: Vec<String> =
        std::iter::from_fn(|| runtime.events().pop()).map(|event| event.text).collect();
    for said in ["no direct I/O in ", "no fallocate in "] {
        assert_eq!(events.iter().filter(|text| text.starts_with(said)).count(), 1, "{events:?}");
    }
    // A mapping without reserved space would be a signal on a full disk: refused instead.
    for o_tmpfile in [true, false] {
        let error = NodeArray::mapped(disk.0.path(), 64, &MappingOptions { o_tmpfile });
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        assert!(error.to_string().contains("use a directory on ext4, xfs or tmpfs"), "{error}");
    }
}

/// Huge pages that the system has reserved, given back on drop.
struct ReservedPages(u64);

const RESERVED_PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl ReservedPages {
    fn there() -> u64 {
        let text = std::fs::read_to_string(RESERVED_PAGES).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn more(count: u64) -> Option<Self> {
        let before = Self(Self::there());
        let written = std::fs::write(RESERVED_PAGES, (before.0 + count).to_string());
        if written.is_ok() && Self::there() == before.0 + count {
            return Some(before);
        }
        eprintln!("skipped: no huge pages can be reserved here: {written:?}");
        None
    }
}

impl Drop for ReservedPages {
    fn drop(&mut self) {
        let _ = std::fs::write(RESERVED_PAGES, self.0.to_string());
    }
}

/// A map over explicit huge pages; its index grows past what the tests reserve. What it said of
/// them, and whether it had any.
fn explicit_pages() -> (Vec<String>, bool) {
    let pages = |name: &str| -> u64 {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = pages("HugePages_Free:") - pages("HugePages_Rsvd:");
    let runtime = Runtime::open(&RuntimeSettings::parse("hugePages = explicit").unwrap()).unwrap();
    let dirs = temp_dirs(1);
    let more = "txMapTail = 4M\ntxMapExpectedEntries = 2000000\n";
    let map = DiskTxMap::open(&runtime, &small_settings(&dirs, more)).unwrap();
    let after = pages("HugePages_Free:") - pages("HugePages_Rsvd:");
    for number in 0..100_000 {
        let new = map.set_if_not_exists(&key(number), b"here", 0, Wait::Allowed, |_, _| ());
        assert_eq!(new.unwrap(), Inserted::New);
    }
    for number in 0..100_000 {
        let same = map.get(&key(number), Wait::Allowed, |value, _| value == b"here").unwrap();
        assert_eq!(same, Some(true), "record {number}");
    }
    let events = std::iter::from_fn(|| runtime.events().pop()).map(|event| event.text);
    (events.filter(|text| text.contains("huge pages")).collect(), after < before)
}

#[test]
fn huge_pages_that_are_not_reserved_are_done_without_and_those_that_are_are_used() {
    if ReservedPages::there() == 0 {
        let (said, had_some) = explicit_pages();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("Raise vm.nr_hugepages"), "{said:?}");
        assert!(!had_some);
    }
    // The tail has two, the index some twelve in pieces.
    let Some(_pages) = ReservedPages::more(64) else { return };
    let (said, had_some) = explicit_pages();
    assert!(said.is_empty(), "{said:?}");
    assert!(had_some, "none of them were taken");
}

/// The root over nodes in this array, and over kept levels, in a file or not.
fn roots(mut array: NodeArray, file: Option<(&TempDir, &MappingOptions)>) -> [[u8; 32]; 2] {
    for number in 0..1000u64 {
        array.push(Node { hash: key(number), fee: number, size: 1 }).unwrap();
    }
    let levels = match file {
        Some((dir, options)) => MerkleLevels::mapped(dir.path(), array.as_slice(), options),
        None => MerkleLevels::heap(array.as_slice()),
    };
    [merkle::root(array.as_slice()).unwrap(), levels.unwrap().root()]
}

#[test]
fn subtrees_are_the_same_without_o_tmpfile_huge_pages_and_sha_instructions() {
    let dirs = temp_dirs(1);
    let mut all = Vec::new();
    for kernel in [Sha256dKernel::Auto, Sha256dKernel::Portable] {
        Sha256d::new(kernel).unwrap().select();
        for o_tmpfile in [true, false] {
            let options = MappingOptions { o_tmpfile };
            let array = NodeArray::mapped(dirs[0].path(), 1000, &options).unwrap();
            all.extend(roots(array, Some((&dirs[0], &options))));
            assert_eq!(std::fs::read_dir(dirs[0].path()).unwrap().count(), 0);
        }
        for huge_pages in [HugePages::Transparent, HugePages::Explicit, HugePages::Off] {
            all.extend(roots(NodeArray::anonymous(1000, huge_pages).unwrap(), None));
        }
    }
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|root| *root == all[0]), "{all:?}");
}
