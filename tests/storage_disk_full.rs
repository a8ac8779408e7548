//! A disk that is really full: a small tmpfs, mounted for the test.
//!
//! Mounting needs rights that not every machine gives. Where it is refused the test says so on
//! standard error, and the fault-injecting storage, which goes through the same steps, is left.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

#[path = "common/small_disk.rs"]
mod small_disk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blocktier::Error;
use blocktier::settings::RuntimeSettings;
use blocktier::storage::{
    AlignedBuf, CreateOptions, DirLock, FaultStorage, Mapping, MappingOptions, RealStorage, Storage,
};

use small_disk::SmallDisk;

fn real() -> RealStorage {
    RealStorage::new(&RuntimeSettings::default())
}

/// Fills a disk of one MiB with preallocated files, then past its end, and checks that every error
/// is a full disk, that nothing is left of what failed, and that what was written is still there.
fn fill(storage: &dyn Storage, dir: &Path) {
    let path = |name: &str| -> PathBuf { dir.join(name) };
    let first = storage.create(&path("first"), &CreateOptions::allocated(600 << 10)).unwrap();
    let error = storage.create(&path("second"), &CreateOptions::allocated(600 << 10)).unwrap_err();
    assert!(matches!(error, Error::DiskFull { needed: 614_400, .. }), "{error}");
    assert!(error.to_string().contains("second") && error.os_errno() == 28, "{error}");
    assert_eq!(storage.read_dir(dir).unwrap(), [path("first")]);
    let mut block = AlignedBuf::zeroed(64 << 10, 4096).unwrap();
    block.fill(1);
    for i in 0..9 {
        first.write_all_at(&block, i << 16).unwrap();
    }
    // A file without reservation: its writes fail where the disk ends, and say where.
    let second = storage.create(&path("second"), &CreateOptions::default()).unwrap();
    let error = (0..20).find_map(|i| second.write_all_at(&block, i << 16).err()).unwrap();
    assert!(matches!(error, Error::DiskFull { needed: 1.., .. }), "{error}");
    assert!(storage.free_space(dir).unwrap() < 64 << 10);
    for i in 0..9 {
        block.fill(0);
        first.read_exact_at(&mut block, i << 16).unwrap();
        assert!(block.iter().all(|&byte| byte == 1));
    }
    block.fill(1);
    first.write_all_at(&block, 512 << 10).unwrap();
    storage.remove_file(&path("second")).unwrap();
    drop(second);
    storage.create(&path("third"), &CreateOptions::allocated(300 << 10)).unwrap();
}

#[test]
fn full_disk_is_an_error_and_keeps_what_was_written() {
    if let Some(disk) = SmallDisk::mount("size=1m") {
        fill(&real(), disk.path());
    }
    let dir = tempfile::tempdir().unwrap();
    let faults = FaultStorage::new(Arc::new(real()));
    faults.set_capacity(Some(1 << 20));
    fill(&faults, dir.path());
}

#[test]
fn mapping_on_a_full_disk_is_an_error_and_no_signal() {
    let Some(disk) = SmallDisk::mount("size=1m") else {
        // A mapping has no stand-in: its reservation beyond any disk is tested where it is made.
        return;
    };
    for o_tmpfile in [true, false] {
        let options = MappingOptions { o_tmpfile };
        let map = |bytes| Mapping::unlinked_file(disk.path(), bytes, &options);
        let error = map(2 << 20).unwrap_err();
        assert!(matches!(error, Error::DiskFull { needed: 2_097_152, .. }), "{error}");
        // What fits can be written to its last byte although the disk is full then.
        drop(Mapping::touched_file(disk.path(), 1 << 20, &options).unwrap());
        let mapping = map(1 << 20).unwrap();
        for word in mapping.words() {
            word.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
        }
        assert!(matches!(map(4096), Err(Error::DiskFull { .. })));
        drop(mapping);
        map(1 << 20).unwrap();
    }
}

#[test]
fn read_only_disk_is_named_when_it_is_locked() {
    let Some(disk) = SmallDisk::mount("size=1m,ro") else { return };
    let error = DirLock::acquire(disk.path(), "test").unwrap_err();
    assert!(error.to_string().contains("is on a read-only file system"), "{error}");
    assert_eq!(error.os_errno(), 30);
}

#[test]
fn lock_on_a_full_disk_says_so_and_leaves_nothing() {
    let Some(disk) = SmallDisk::mount("size=64k,nr_inodes=3") else { return };
    let dir = disk.path();
    drop(DirLock::acquire(dir, "test").unwrap());
    // No byte left for the owner's text.
    assert!(std::fs::write(dir.join("large"), vec![1; 1 << 20]).is_err());
    let error = DirLock::acquire(dir, "test").unwrap_err();
    assert!(error.to_string().contains("takes no lock file; free some space"), "{error}");
    assert!(!dir.join("LOCK").exists());
    // No room for another file.
    std::fs::write(dir.join("small"), "").unwrap();
    let error = DirLock::acquire(dir, "test").unwrap_err();
    assert!(error.to_string().contains("has no space for a lock file"), "{error}");
}
