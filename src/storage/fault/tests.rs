//! Tests of the fault-injecting storage.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::settings::RuntimeSettings;
use crate::storage::{AlignedBuf, FileRead, ReadRequest, RealStorage};

const EIO: i32 = Errno::IO.raw_os_error();
const ENOSPC: i32 = Errno::NOSPC.raw_os_error();
/// Longest that a test waits for something that happens at once.
const SOON: Duration = Duration::from_secs(60);

fn faulty() -> (tempfile::TempDir, FaultStorage) {
    let dir = tempfile::tempdir().unwrap();
    let real = RealStorage::new(&RuntimeSettings::default());
    (dir, FaultStorage::new(Arc::new(real)))
}

fn new_file(dir: &tempfile::TempDir, faults: &FaultStorage, name: &str) -> Box<dyn StorageFile> {
    faults.create(&dir.path().join(name), &CreateOptions::allocated(64 << 10)).unwrap()
}

fn block(fill: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(8192, 4096).unwrap();
    buf.fill(fill);
    buf
}

fn read(file: &dyn StorageFile, offset: u64) -> Result<AlignedBuf> {
    let mut buf = AlignedBuf::zeroed(8192, 4096).unwrap();
    file.read_exact_at(&mut buf, offset)?;
    Ok(buf)
}

#[test]
fn nth_of_every_operation_fails_and_only_that() {
    let (dir, faults) = faulty();
    let path = |name: &str| dir.path().join(name);
    let file = new_file(&dir, &faults, "used");
    let run = |op: FaultOp, round: usize| -> Result<()> {
        match op {
            FaultOp::Create | FaultOp::Allocate => faults
                .create(&path(&format!("{op:?}{round}")), &CreateOptions::allocated(4096))
                .map(drop),
            FaultOp::Open => faults.open_read(&path("used")).map(drop),
            FaultOp::Write => file.write_all_at(&block(1), 0),
            FaultOp::Read => read(&*file, 0).map(drop),
            FaultOp::Sync => file.sync_data(),
            FaultOp::SetLen => file.set_len(64 << 10),
            FaultOp::Rename => faults.rename(&path("used"), &path("used")),
            FaultOp::RemoveFile => faults.remove_file(&path(&format!("Create{round}"))),
            FaultOp::CreateDir => faults.create_dir_all(&path(&format!("dir{round}"))),
            FaultOp::RemoveDir => faults.remove_dir(&path(&format!("dir{round}"))),
            FaultOp::ReadDir => faults.read_dir(dir.path()).map(drop),
            FaultOp::SyncDir => faults.sync_dir(dir.path()),
        }
    };
    // Removals come after what makes the things they remove; round 1 of both fails.
    for op in [
        FaultOp::Create,
        FaultOp::Allocate,
        FaultOp::Open,
        FaultOp::Write,
        FaultOp::Read,
        FaultOp::Sync,
        FaultOp::SetLen,
        FaultOp::Rename,
        FaultOp::RemoveFile,
        FaultOp::CreateDir,
        FaultOp::RemoveDir,
        FaultOp::ReadDir,
        FaultOp::SyncDir,
    ] {
        let calls = faults.calls(op);
        faults.fail_nth(op, 2, EIO);
        for round in 0..3 {
            let result = run(op, round);
            assert_eq!(result.is_err(), round == 1, "{op:?} {round}: {result:?}");
            if let Err(error) = result {
                assert_eq!(error.os_errno(), EIO);
                assert!(error.to_string().starts_with(op.verb()), "{error}");
            }
        }
        assert_eq!((faults.calls(op) - calls, faults.faults(op)), (3, 1), "{op:?}");
    }
    assert!(!path("Create1").exists() && !path("Allocate1").exists());
}

#[test]
fn a_power_cut_loses_unsynced_writes_and_no_others() {
    let (dir, faults) = faulty();
    faults.remember_unsynced();
    let file = new_file(&dir, &faults, "file");
    let write = |fill, offset| file.write_all_at(&block(fill), offset).unwrap();
    let first = |offset| read(&*file, offset).unwrap()[0];
    write(1, 0);
    file.sync_data().unwrap();
    write(2, 0);
    write(3, 0);
    write(4, 8192);
    write(5, 16384);
    faults.lose_unsynced(|_, offset| offset < 16384).unwrap();
    assert_eq!((first(0), first(8192), first(16384)), (1, 0, 5));
}

#[test]
fn a_failed_allocation_is_a_full_disk() {
    let (dir, faults) = faulty();
    faults.fail_all(FaultOp::Allocate, ENOSPC);
    let path = dir.path().join("file");
    let error = faults.create(&path, &CreateOptions::allocated(5000)).unwrap_err();
    assert!(matches!(error, Error::DiskFull { needed: 5000, .. }), "{error}");
    assert!(!path.exists());
    faults.clear_rules();
    faults.create(&path, &CreateOptions::allocated(5000)).unwrap();
}

#[test]
fn short_write_fails_and_torn_write_does_not() {
    let (dir, faults) = faulty();
    let file = new_file(&dir, &faults, "file");
    let unit = file.alignment().max(512);
    let bytes = unit + unit / 2;
    let kept = bytes - bytes % file.alignment();
    let short = Fault::ShortWrite { bytes, errno: EIO };
    faults.add(FaultRule::new(FaultOp::Write, short).times(1));
    assert_eq!(file.write_all_at(&block(3), 0).unwrap_err().os_errno(), EIO);
    let there = read(&*file, 0).unwrap();
    assert_eq!(there.iter().filter(|&&byte| byte == 3).count(), kept);
    assert_eq!(there[kept..].iter().position(|&byte| byte != 0), None);
    faults.add(FaultRule::new(FaultOp::Write, Fault::TornWrite { bytes }).times(1));
    file.write_all_at(&block(4), 8192).unwrap();
    let there = read(&*file, 8192).unwrap();
    assert_eq!(there.iter().filter(|&&byte| byte == 4).count(), kept);
    file.write_all_at(&block(5), 8192).unwrap();
    assert_eq!(read(&*file, 8192).unwrap()[8191], 5);
    assert_eq!(faults.faults(FaultOp::Write), 2);
}

#[test]
fn flipped_bits_only_in_reads_that_cover_them() {
    let (dir, faults) = faulty();
    let file = new_file(&dir, &faults, "file");
    file.write_all_at(&block(0), 0).unwrap();
    file.write_all_at(&block(0), 8192).unwrap();
    let flip = Fault::FlipBits { offset: 8200, mask: 0x10 };
    faults.add(FaultRule::new(FaultOp::Read, flip).on(|access| access.path.ends_with("file")));
    assert!(read(&*file, 0).unwrap().iter().all(|&byte| byte == 0));
    let flipped = read(&*file, 8192).unwrap();
    assert_eq!(flipped.iter().position(|&byte| byte != 0), Some(8));
    assert_eq!(flipped[8], 0x10);
    let other = new_file(&dir, &faults, "other");
    assert_eq!(read(&*other, 8192).unwrap()[8], 0);
}

#[test]
fn batches_carry_a_fault_per_request() {
    let (dir, faults) = faulty();
    let file = new_file(&dir, &faults, "file");
    for i in 0..8 {
        file.write_all_at(&block(i), u64::from(i) * 8192).unwrap();
    }
    let batch = |offsets: &[u64]| {
        let mut buffers: Vec<_> = offsets.iter().map(|_| block(99)).collect();
        let mut requests: Vec<_> = buffers
            .iter_mut()
            .zip(offsets)
            .map(|(bytes, &offset)| ReadRequest::new(offset, bytes))
            .collect();
        file.read_batch(&mut requests);
        let failed: Vec<bool> = requests.iter().map(|request| request.result.is_err()).collect();
        (failed, buffers.iter().map(|bytes| bytes[5]).collect::<Vec<_>>())
    };
    assert_eq!(batch(&[8192, 0, 24_576]), (vec![false; 3], vec![1, 0, 3]));
    let rule = FaultRule::new(FaultOp::Read, Fault::Errno(EIO)).on(|access| access.offset == 0);
    faults.add(rule);
    assert_eq!(batch(&[8192, 0, 24_576]), (vec![false, true, false], vec![1, 99, 3]));
    let (mut first, mut second) = (block(99), block(99));
    let mut reads = [
        FileRead { file: &*file, request: ReadRequest::new(0, &mut first) },
        FileRead { file: &*file, request: ReadRequest::new(16_384, &mut second) },
    ];
    faults.read_files(&mut reads);
    assert!(reads[0].request.result.is_err() && reads[1].request.result.is_ok());
    assert_eq!(second[0], 2);
}

#[test]
fn capacity_counts_what_files_reserve_and_gives_it_back() {
    let (dir, faults) = faulty();
    faults.set_capacity(Some(100 << 10));
    let first = new_file(&dir, &faults, "first");
    assert_eq!(faults.free_space(dir.path()).unwrap(), 36 << 10);
    let second = dir.path().join("second");
    let error = faults.create(&second, &CreateOptions::allocated(64 << 10)).unwrap_err();
    assert!(matches!(error, Error::DiskFull { needed: 65_536, .. }), "{error}");
    assert!(!second.exists());
    // Writing into reserved space takes none; past it, it does.
    first.write_all_at(&block(1), 0).unwrap();
    first.write_all_at(&block(1), 64 << 10).unwrap();
    assert_eq!(faults.free_space(dir.path()).unwrap(), 28 << 10);
    let error = first.write_all_at(&block(1), 200 << 10).unwrap_err();
    assert!(matches!(error, Error::DiskFull { needed: 8192, .. }), "{error}");
    first.set_len(8192).unwrap();
    assert_eq!(faults.free_space(dir.path()).unwrap(), 92 << 10);
    faults.remove_file(first.path()).unwrap();
    assert_eq!(faults.free_space(dir.path()).unwrap(), 100 << 10);
    assert_eq!((faults.faults(FaultOp::Allocate), faults.faults(FaultOp::Write)), (1, 1));
}

#[test]
fn write_limit_ends_writes_even_in_reserved_space() {
    let (dir, faults) = faulty();
    let file = new_file(&dir, &faults, "file");
    faults.set_write_limit(Some(8192 + 4096 + 100));
    file.write_all_at(&block(1), 0).unwrap();
    let error = file.write_all_at(&block(2), 8192).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    let part = 4096 + 100 - 100 % file.alignment();
    assert_eq!(read(&*file, 8192).unwrap().iter().filter(|&&byte| byte == 2).count(), part);
    assert!(file.write_all_at(&block(3), 0).is_err());
    assert_eq!(read(&*file, 0).unwrap()[0], 1);
    faults.set_write_limit(None);
    file.write_all_at(&block(3), 0).unwrap();
}

#[test]
fn rate_slows_reads_and_writes_down() {
    let (dir, faults) = faulty();
    let file = new_file(&dir, &faults, "file");
    faults.set_bytes_per_second(Some(8192 * 40)).unwrap();
    let started = Instant::now();
    file.write_all_at(&block(1), 0).unwrap();
    read(&*file, 0).unwrap();
    let mut buf = block(0);
    file.read_batch(&mut [ReadRequest::new(0, &mut buf)]);
    // 25 ms each; a slower machine only makes it more.
    assert!(started.elapsed() >= Duration::from_millis(75), "{:?}", started.elapsed());
    assert!(faults.set_bytes_per_second(Some(0)).is_err());
}

#[test]
fn gate_holds_operations_until_it_opens() {
    let (dir, faults) = faulty();
    let file = new_file(&dir, &faults, "file");
    let gate = faults.close_gate(FaultOp::Write);
    let second = faults.close_gate(FaultOp::Write);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            file.write_all_at(&block(7), 0).unwrap();
            done.store(true, Ordering::SeqCst);
        });
        assert!(gate.wait_for(1, SOON));
        // Other operations pass, and one gate of two is not enough.
        assert_eq!(read(&*file, 0).unwrap()[0], 0);
        second.open();
        assert_eq!(gate.waiting(), 1);
        assert!(!done.load(Ordering::SeqCst));
        assert!(!gate.wait_for(2, Duration::ZERO));
        gate.open();
    });
    assert!(done.load(Ordering::SeqCst));
    assert_eq!(read(&*file, 0).unwrap()[0], 7);
}

#[test]
fn clones_share_their_state() {
    let (dir, faults) = faulty();
    let handle = faults.clone();
    handle.fail_nth(FaultOp::Create, 1, EIO);
    let path = dir.path().join("file");
    assert!(faults.create(&path, &CreateOptions::default()).is_err());
    assert_eq!(handle.calls(FaultOp::Create), 1);
}
