//! Tests of the storage over real files.

use super::*;
use crate::storage::AlignedBuf;

/// A storage with its events, and with the switches of `settings`.
fn storage(settings: &str) -> (RealStorage, Arc<EventRing>) {
    let storage = RealStorage::new(&RuntimeSettings::parse(settings).unwrap());
    let events = Arc::new(EventRing::new());
    storage.report_to(&events);
    (storage, events)
}

fn temp_dirs() -> Vec<tempfile::TempDir> {
    let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/target");
    let mut dirs = vec![disk.unwrap()];
    if Path::new("/dev/shm").is_dir() {
        dirs.push(tempfile::tempdir_in("/dev/shm").unwrap());
    }
    dirs
}

fn filled(len: usize, alignment: usize, seed: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len, alignment).unwrap();
    for (i, byte) in buf.iter_mut().enumerate() {
        *byte = ((i + seed).wrapping_mul(2_654_435_761) >> 11) as u8;
    }
    buf
}

#[test]
fn bytes_come_back_with_every_combination_of_methods() {
    for dir in temp_dirs() {
        for settings in ["", "directIo=off", "ioUring=off", "directIo=off\nioUring=off"] {
            let (storage, events) = storage(settings);
            let path = dir.path().join("file");
            let file = storage.create(&path, &CreateOptions::allocated(1 << 20)).unwrap();
            assert_eq!(file.len().unwrap(), 1 << 20);
            assert_eq!(file.is_direct(), file.alignment() > 1);
            if settings.contains("directIo=off") {
                assert_eq!(file.alignment(), 1);
            }
            let block = filled(256 << 10, file.alignment(), 1);
            file.write_all_at(&block, 512 << 10).unwrap();
            file.sync_data().unwrap();
            drop(file);
            let file = storage.open_read(&path).unwrap();
            let mut buffers: Vec<_> =
                (0..64).map(|_| AlignedBuf::zeroed(4096, 4096).unwrap()).collect();
            let place = |i: usize| (512 << 10) + (i * 37 % 64 * 4096) as u64;
            let mut requests: Vec<_> = buffers
                .iter_mut()
                .enumerate()
                .map(|(i, bytes)| ReadRequest::new(place(i), bytes))
                .collect();
            file.read_batch(&mut requests);
            assert!(requests.iter().all(|request| request.result.is_ok()), "{requests:?}");
            for (i, bytes) in buffers.iter().enumerate() {
                let at = i * 37 % 64 * 4096;
                assert!(bytes[..] == block[at..at + 4096], "read {i} with {settings:?}");
            }
            while let Some(event) = events.pop() {
                eprintln!("{}: {}", dir.path().display(), event.text);
            }
            storage.remove_file(&path).unwrap();
        }
    }
}

#[test]
fn direct_io_is_really_on_where_the_disk_has_it() {
    let (storage, events) = storage("");
    for dir in temp_dirs() {
        let path = dir.path().join("file");
        let file = storage.create(&path, &CreateOptions::allocated(8192)).unwrap();
        let Some(fd) = file.descriptor() else { panic!("a real file has a descriptor") };
        let flags = rustix::fs::fcntl_getfl(fd).unwrap();
        assert_eq!(flags.contains(OFlags::DIRECT), file.is_direct());
        let reported = events.pop();
        assert_eq!(reported.is_none(), file.is_direct(), "{reported:?}");
        let buffered = CreateOptions { direct: false, ..CreateOptions::default() };
        let file = storage.create(&dir.path().join("buffered"), &buffered).unwrap();
        assert!(!file.is_direct() && file.is_empty().unwrap());
    }
}

#[test]
fn refused_direct_io_is_reported_once_per_directory() {
    // The kernel's own files refuse it in the way a file system without it does.
    let (storage, events) = storage("");
    for name in ["a", "b"] {
        let file = File::open("/proc/self/stat").unwrap();
        let path = Path::new("/some/dir").join(name);
        assert!(!storage.wrap(file, &path, true).is_direct());
    }
    let event = events.pop().unwrap();
    assert_eq!(event.level, EventLevel::Warn);
    assert!(event.text.starts_with("no direct I/O in /some/dir ("), "{}", event.text);
    assert_eq!(events.pop(), None);
}

#[test]
fn misaligned_arguments_are_refused_on_direct_files() {
    let (storage, _events) = storage("");
    let dir = &temp_dirs()[0];
    let file = storage.create(&dir.path().join("file"), &CreateOptions::allocated(65_536)).unwrap();
    if !file.is_direct() {
        eprintln!("no direct I/O here: nothing is misaligned");
        return;
    }
    let mut buf = AlignedBuf::zeroed(8192, 4096).unwrap();
    for (range, offset) in [(0..4096, 1), (0..4095, 0), (1..4097, 0)] {
        let write = file.write_all_at(&buf[range.clone()], offset).unwrap_err();
        assert!(matches!(write, Error::InvalidArgument(_)), "{write}");
        let read = file.read_exact_at(&mut buf[range.clone()], offset).unwrap_err();
        assert!(read.to_string().contains("must be a multiple of"), "{read}");
        let mut requests = [ReadRequest::new(offset, &mut buf[range])];
        file.read_batch(&mut requests);
        assert!(matches!(requests[0].result, Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn reads_of_several_files_in_one_batch() {
    for settings in ["", "ioUring=off"] {
        let (storage, _events) = storage(settings);
        let dir = &temp_dirs()[0];
        let files: Vec<_> = (0..5)
            .map(|i| {
                let path = dir.path().join(format!("{settings}{i}"));
                let options = CreateOptions::allocated(64 << 10);
                let file = storage.create(&path, &options).unwrap();
                file.write_all_at(&filled(64 << 10, 4096, i), 0).unwrap();
                file
            })
            .collect();
        let mut buffers: Vec<_> =
            (0..80).map(|_| AlignedBuf::zeroed(4096, 4096).unwrap()).collect();
        let mut reads: Vec<_> = buffers
            .iter_mut()
            .enumerate()
            .map(|(i, bytes)| FileRead {
                file: &*files[i % 5],
                request: ReadRequest::new((i / 5 * 4096) as u64, bytes),
            })
            .collect();
        reads[79].request.offset = 64 << 10;
        storage.read_files(&mut reads);
        let past_end = reads.pop().unwrap().request.result.unwrap_err();
        assert!(matches!(past_end, Error::Corrupt { offset: 65_536, .. }), "{past_end}");
        assert!(reads.iter().all(|read| read.request.result.is_ok()));
        for (i, bytes) in buffers.iter().enumerate().take(79) {
            let at = i / 5 * 4096;
            assert!(bytes[..] == filled(64 << 10, 4096, i % 5)[at..at + 4096], "read {i}");
        }
    }
}

#[test]
fn cut_file_is_corrupt_with_path_and_offset() {
    let (storage, _events) = storage("");
    let dir = &temp_dirs()[0];
    let path = dir.path().join("file");
    let file = storage.create(&path, &CreateOptions::allocated(65_536)).unwrap();
    file.set_len(10_000).unwrap();
    let mut buf = AlignedBuf::zeroed(4096, 4096).unwrap();
    file.read_exact_at(&mut buf, 4096).unwrap();
    for offset in [8192, 16_384] {
        let error = file.read_exact_at(&mut buf, offset).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Corrupt { offset: at, .. } if at == offset), "{text}");
        assert!(text.contains("file is corrupt at offset") && text.contains("ends at 10000"));
    }
}

#[test]
fn impossible_allocation_leaves_nothing_behind() {
    let (storage, _events) = storage("");
    for dir in temp_dirs() {
        let path = dir.path().join("file");
        let error = storage.create(&path, &CreateOptions::allocated(1 << 50)).unwrap_err();
        assert!(matches!(error, Error::DiskFull { needed, .. } if needed == 1 << 50), "{error}");
        assert!(error.to_string().contains("free space or add a directory"));
        assert_eq!(storage.read_dir(dir.path()).unwrap(), Vec::<PathBuf>::new());
    }
}

#[test]
fn files_and_directories_of_other_kinds_are_errors_that_name_them() {
    let (storage, _events) = storage("");
    let dir = &temp_dirs()[0];
    let path = dir.path().join("a/b");
    let missing = storage.create(&path, &CreateOptions::default()).unwrap_err();
    assert!(missing.to_string().starts_with("create ") && missing.os_errno() == 2);
    storage.create_dir_all(&path).unwrap();
    storage.create_dir_all(&path).unwrap();
    let file = path.join("file");
    drop(storage.create(&file, &CreateOptions::default()).unwrap());
    let exists = storage.create(&file, &CreateOptions::default()).unwrap_err();
    assert_eq!(exists.os_errno(), Errno::EXIST.raw_os_error());
    assert!(storage.create_dir_all(&file).unwrap_err().to_string().contains("b/file"));
    assert!(storage.open_read(&path.join("none")).is_err());
    assert!(storage.open_write(&path.join("none")).is_err());
    assert_eq!(storage.read_dir(&path).unwrap(), std::slice::from_ref(&file));
    assert!(storage.remove_dir(&path).is_err());
    storage.sync_dir(&path).unwrap();
    storage.remove_file(&file).unwrap();
    assert!(storage.remove_file(&file).is_err());
    storage.remove_dir(&path).unwrap();
    assert!(storage.read_dir(&path).is_err() && storage.sync_dir(&path).is_err());
    assert!(storage.free_space(dir.path()).unwrap() > 0);
    assert!(storage.free_space(&path).is_err());
}

#[test]
fn write_loop_survives_short_and_interrupted_writes() {
    let bytes: Vec<u8> = (0..=255).collect();
    let mut written = Vec::new();
    let mut calls = 0;
    let done = write_all(&bytes, 1000, |rest, offset| {
        calls += 1;
        assert_eq!(offset, 1000 + written.len() as u64);
        if calls % 3 == 0 {
            return Err(Errno::INTR);
        }
        let len = rest.len().min(7);
        written.extend_from_slice(&rest[..len]);
        Ok(len)
    });
    assert_eq!((done, written), (Ok(()), bytes.clone()));
    let full =
        write_all(&bytes, 0, |_, offset| if offset < 100 { Ok(50) } else { Err(Errno::NOSPC) });
    assert_eq!(full, Err((100, Errno::NOSPC)));
    assert_eq!(write_all(&bytes, 5, |_, _| Ok(0)), Err((5, Errno::IO)));
}
