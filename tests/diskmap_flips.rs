//! Every byte of every file of a small durable map is flipped, each file is cut at every length:
//! opening refuses and names the file, or the record's own error says so; no value is ever another
//! one, and nothing synced is missing without an error. The check finds every single one of them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/memory.rs"]
mod memory;
#[path = "common/records.rs"]
mod records;
#[path = "common/stores.rs"]
#[expect(dead_code, reason = "not every test uses all of it")]
mod stores;
#[path = "common/tiny.rs"]
mod tiny;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blocktier::Error;
use blocktier::diskmap::Wait;
use blocktier::diskmap::check::{CheckOptions, Report, verify};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use memory::{Files, MemoryStorage};
use records::key;
use tiny::{End, Expected, UNIVERSE, build, is, padding};

const ENDS: [End; 3] = [End::Clean, End::NoSummaries, End::Killed];

/// A map in memory.
struct Subject {
    dirs: Vec<TempDir>,
    stores: Vec<PathBuf>,
    files: Files,
    expected: Expected,
}

impl Subject {
    fn new(end: End) -> Self {
        let (dirs, expected) = build(1, end);
        let stores = dirs.iter().map(|dir| dir.path().join(stores::STORE)).collect();
        let files = dirs.iter().flat_map(stores::files);
        let files = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        Self { dirs, stores, files, expected }
    }

    /// None if a manifest of a newer format keeps the check from looking further.
    fn verify(&self, storage: &MemoryStorage) -> Option<Report> {
        let goes_on = &mut |_| ControlFlow::Continue(());
        match verify(storage, &self.stores, &CheckOptions::default(), goes_on) {
            Ok(report) => Some(report),
            Err(Error::Unsupported(text)) => {
                assert!(text.contains("MANIFEST has format version"), "{text}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The map with one changed file is opened and every key is read. What is not refused is right.
    fn open(&self, runtime: &Runtime, changed: &Path, what: &str) -> Outcome {
        let map = match DiskTxMap::open(runtime, &stores::settings_with(&self.dirs, "")) {
            Ok(map) => map,
            Err(error) => {
                assert!(names(&error, changed), "{what}: {error}");
                return Outcome::Refused;
            }
        };
        let recovery = map.recovery().unwrap();
        let is_torn = recovery.torn_bytes + recovery.segments_ignored > 0;
        let mut outcome = Outcome::Right;
        for number in 0..UNIVERSE {
            match map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()) {
                Ok(found) => {
                    let allowed = &self.expected[&number];
                    assert!(allowed.contains(&found), "{what}: key {number}");
                    // What was never synced may be missing, but never without a word.
                    let is_cut = what.contains("cut");
                    assert!(
                        allowed.last() == Some(&found) || is_torn || is_cut,
                        "{what}: {number}"
                    );
                }
                Err(error) => {
                    assert!(names(&error, changed), "{what}: key {number}: {error}");
                    outcome = Outcome::Unread;
                }
            }
        }
        outcome
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Right,
    Unread,
    Refused,
}

fn names(error: &Error, file: &Path) -> bool {
    match error {
        Error::Corrupt { path, .. } => path.file_name() == file.file_name(),
        Error::Unsupported(text) => text.contains("format version"),
        _ => false,
    }
}

/// A byte means something, or lies beside one that does.
fn is_near_content(bytes: &[u8], at: usize) -> bool {
    let (from, to) = (at.saturating_sub(16), (at + 17).min(bytes.len()));
    bytes[from..to].iter().any(|byte| *byte != 0)
}

/// Calls `body` with each change made, on so many threads.
fn for_each_change(
    subject: &Subject,
    changes: &[(PathBuf, usize, u8)],
    threads: usize,
    body: impl Fn(&MemoryStorage, &Runtime, &(PathBuf, usize, u8)) + Sync,
) {
    std::thread::scope(|scope| {
        for part in changes.chunks(changes.len().div_ceil(threads).max(1)) {
            let body = &body;
            scope.spawn(move || {
                let storage = MemoryStorage::default();
                let shared = Arc::new(storage.clone());
                let settings = RuntimeSettings::default();
                let runtime = Runtime::with_storage(&settings, shared).unwrap();
                storage.set(&subject.files);
                for change in part {
                    storage.flip(change);
                    body(&storage, &runtime, change);
                    storage.flip(change);
                }
            });
        }
    });
}

/// Every byte, by one bit and, where something is near, by all of them.
fn all_flips(subject: &Subject) -> Vec<(PathBuf, usize, u8)> {
    let mut changes = Vec::new();
    for (path, bytes) in &subject.files {
        for at in 0..bytes.len() {
            changes.push((path.clone(), at, 1 << (at % 8)));
            if is_near_content(bytes, at) {
                changes.push((path.clone(), at, 0xff));
            }
        }
    }
    changes
}

#[test]
fn the_check_finds_every_flipped_byte() {
    for end in ENDS {
        let subject = Subject::new(end);
        let storage = MemoryStorage::default();
        storage.set(&subject.files);
        let whole = subject.verify(&storage).unwrap();
        let harmless: Vec<(&PathBuf, Vec<_>)> = subject
            .files
            .iter()
            .filter(|(path, _)| is(path, "seg"))
            .map(|(path, bytes)| (path, padding(bytes)))
            .collect();
        let mut changes = all_flips(&subject);
        // The zeros of one map are like those of another.
        changes.retain(|(path, at, _)| {
            end == End::Clean || at % 16 == 0 || is_near_content(&subject.files[path], *at)
        });
        assert!(changes.len() > if end == End::Clean { 80_000 } else { 20_000 });
        for_each_change(&subject, &changes, 2, |storage, _, (path, at, mask)| {
            let Some(report) = subject.verify(storage) else {
                assert!(path.ends_with("MANIFEST") && (16..20).contains(at));
                return;
            };
            let in_padding = harmless.iter().any(|(segment, ranges)| {
                *segment == path && ranges.iter().any(|range| range.contains(at))
            });
            // The one exception: what stands behind the header of padding means nothing.
            let found = report.findings != whole.findings;
            assert_eq!(found, !in_padding, "{end:?}: {} at {at}: {mask:#x}", path.display());
            let names_it = |finding: &&blocktier::diskmap::check::Finding| {
                !whole.findings.contains(finding) && finding.path.file_stem() == path.file_stem()
            };
            assert!(!found || report.findings.iter().any(|finding| names_it(&finding)));
        });
    }
}

#[test]
fn no_flipped_byte_is_another_value_or_a_silent_loss() {
    std::thread::scope(|scope| {
        for end in ENDS {
            scope.spawn(move || open_with_each_flip(end));
        }
    });
}

fn open_with_each_flip(end: End) {
    let subject = Subject::new(end);
    // What nothing reads is sampled; the check has looked at each of its bytes.
    let mut changes = all_flips(&subject);
    changes.retain(|(path, at, mask)| {
        let near = is_near_content(&subject.files[path], *at);
        if is(path, "seg") && *at > 4096 + 2048 && end != End::Killed {
            // The inside of a long value.
            return near && at % 4 == 0 && *mask == 0xff;
        }
        if near { (*mask == 0xff) != (at % 2 == 0) } else { at % 256 == 0 }
    });
    let counts = std::sync::Mutex::new([0; 3]);
    for_each_change(&subject, &changes, 1, |storage, runtime, (path, at, mask)| {
        let what = format!("{end:?}: {} at {at}: {mask:#x}", path.display());
        let outcome = subject.open(runtime, path, &what);
        // Opening has changed files.
        storage.set(&subject.files);
        storage.flip(&(path.clone(), *at, *mask));
        counts.lock().unwrap()[outcome as usize] += 1;
    });
    let [right, unread, refused] = *counts.lock().unwrap();
    assert!(right > 0 && refused > 100, "{right} {unread} {refused}");
    assert_eq!(unread > 0, end == End::Clean, "{unread}");
}

#[test]
fn no_cut_is_another_value_or_a_silent_loss() {
    for end in ENDS {
        let subject = Subject::new(end);
        let storage = MemoryStorage::default();
        storage.set(&subject.files);
        let whole = subject.verify(&storage).unwrap();
        let settings = RuntimeSettings::default();
        let runtime = Runtime::with_storage(&settings, Arc::new(storage.clone())).unwrap();
        for (path, bytes) in &subject.files {
            for len in 0..bytes.len() {
                let near = is_near_content(bytes, len);
                if !len.is_multiple_of(if near { 37 } else { 1024 }) {
                    continue;
                }
                let mut files = subject.files.clone();
                files.insert(path.clone(), bytes[..len].to_vec());
                storage.set(&files);
                let what = format!("{end:?}: {} cut to {len}", path.display());
                let report = subject.verify(&storage).unwrap();
                assert!(report.findings != whole.findings, "{what}");
                subject.open(&runtime, path, &what);
            }
        }
    }
}

/// The operating system's files are read with direct I/O, which has its own idea of lengths.
#[test]
fn files_cut_at_odd_lengths_are_refused_by_name() {
    for len in [1, 511, 700, 4095] {
        let (dirs, _) = build(1, End::NoSummaries);
        for path in stores::files(&dirs[0]) {
            let copies = stores::copies(&dirs);
            let copy = copies[0].path().join(stores::STORE).join(path.file_name().unwrap());
            std::fs::File::options().write(true).open(&copy).unwrap().set_len(len).unwrap();
            let error = stores::open_with(&copies, "").unwrap_err();
            assert!(names(&error, &path), "{} cut to {len}: {error}", path.display());
        }
    }
}
