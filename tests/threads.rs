//! A process has one writer thread per directory, however many maps and arrays it opens. In a test
//! binary of its own, so that no other test's threads are counted.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use blocktier::diskmap::Wait;
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::MappingOptions;
use blocktier::subtree::{MerkleLevels, Node, NodeArray};
use blocktier::txmap::DiskTxMap;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn maps_and_subtrees_share_the_writers() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = [dirs[0].path(), dirs[1].path()];
    let text = format!("txMapDirs = {} | {}\ntxMapTail = 1M", first.display(), second.display());
    let settings = TxMapSettings::parse(&text).unwrap();
    let before = threads();
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let other_runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    assert_eq!(threads(), before, "a runtime alone has no thread");

    let one = DiskTxMap::open(&runtime, &settings).unwrap();
    assert_eq!(threads(), before + 2, "two directories, two writers");
    let two = DiskTxMap::open(&other_runtime, &settings).unwrap();
    let options = MappingOptions::default();
    let mut arrays = Vec::new();
    for number in 0..3u8 {
        let mut array = NodeArray::mapped(first, 64, &options).unwrap();
        array.push(Node { hash: [number; 32], fee: 1, size: 1 }).unwrap();
        let levels = MerkleLevels::mapped(second, array.as_slice(), &options).unwrap();
        arrays.push((array, levels));
    }
    assert_eq!(threads(), before + 2, "a second map and three subtrees add none");
    for map in [&one, &two] {
        for number in 0..2000u16 {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&number.to_le_bytes());
            map.set(&key, &[1; 1000], 0, Wait::Allowed).unwrap();
        }
        map.flush().unwrap();
    }
    assert_eq!(threads(), before + 2, "nor does writing, more than the tails hold");
    for disk in runtime.disks() {
        assert!(disk.stats().snapshot().writes > 0, "{} was not written", disk.dir().display());
    }

    drop((one, two, arrays, runtime, other_runtime));
    assert_eq!(threads(), before, "the writers end with the last user");
}
