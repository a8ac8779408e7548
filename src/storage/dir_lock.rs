//! One owner per directory.
//!
//! The owner holds an exclusive `flock` on the file `LOCK` in the directory for as long as it
//! lives; the file's text says who that is. The kernel drops the lock with the process, however it
//! dies, so a lock that can be taken has no living owner, and a text found then is that of a dead
//! one. A second owner in the same process is refused too: each opens the file for itself.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// Longest owner text that is read back.
const TEXT_BYTES_MAX: u64 = 512;

/// Longest wait for a [`DirGate`], far longer than it takes to remove the files of a dead map, and
/// the pause between looks.
const GATE_PATIENCE: Duration = Duration::from_secs(30);
const GATE_STEP: Duration = Duration::from_millis(1);

/// The ownership of a directory, given up on drop.
///
/// ```
/// use blocktier::storage::DirLock;
/// # let dir = tempfile::tempdir()?;
/// let lock = DirLock::acquire(dir.path(), "transaction map")?;
/// let second = DirLock::acquire(dir.path(), "transaction map").unwrap_err();
/// assert!(second.to_string().contains("is locked by transaction map, pid "));
/// drop(lock);
/// assert!(DirLock::acquire(dir.path(), "transaction map").is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DirLock {
    path: PathBuf,
    previous_owner: Option<String>,
    /// The lock file stays, as if the owner had died.
    abandoned: bool,
    /// Holds the flock.
    _file: File,
}

impl DirLock {
    /// The name of the lock file.
    pub const FILE_NAME: &str = "LOCK";

    /// Takes `dir` for `purpose`, a few words that a refused second owner gets to read.
    ///
    /// # Errors
    /// [`Error::Directory`] if it does not exist, is not a directory or cannot be written to,
    /// [`Error::Locked`] with the owner's text if it has one.
    pub fn acquire(dir: &Path, purpose: &str) -> Result<Self> {
        check_directory(dir)?;
        let path = dir.join(DirLock::FILE_NAME);
        loop {
            let file = open_lock_file(dir, &path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let owner = read_text(&file).unwrap_or_else(|| "an unnamed owner".to_owned());
                    return Err(Error::Locked { path: dir.to_owned(), owner });
                }
                Err(Errno::INTR) => continue,
                Err(errno) => {
                    let reason = "cannot be locked; use a local file system";
                    return Err(unusable(dir, reason, errno.into()));
                }
            }
            // The owner before may have removed the file between our open and our lock; then we
            // hold a lock on a file that nobody else will ever see.
            if !is_still(&path, &file) {
                continue;
            }
            let previous_owner = read_text(&file);
            if let Err(error) = write_text(&file, purpose) {
                // Still locked, so it is ours to remove.
                let _ = std::fs::remove_file(&path);
                return Err(unusable(dir, "takes no lock file; free some space", error));
            }
            return Ok(Self { path, previous_owner, abandoned: false, _file: file });
        }
    }

    /// Who has `dir`, if somebody alive does. Nothing is changed: nobody can take the directory
    /// while this looks, and an owner's lock is left alone.
    ///
    /// ```
    /// use blocktier::storage::DirLock;
    /// # let dir = tempfile::tempdir()?;
    /// assert_eq!(DirLock::owner(dir.path())?, None);
    /// let lock = DirLock::acquire(dir.path(), "transaction map")?;
    /// assert!(DirLock::owner(dir.path())?.unwrap().starts_with("transaction map, pid "));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] where there is a lock file that cannot be opened.
    pub fn owner(dir: &Path) -> Result<Option<String>> {
        let _gate = dir.parent().map(DirGate::enter);
        let path = dir.join(DirLock::FILE_NAME);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| Error::io("open", &path, None, error))?,
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => {
                Ok(Some(read_text(&file).unwrap_or_else(|| "an unnamed owner".to_owned())))
            }
            _ => Ok(None),
        }
    }

    /// The text of an owner that died without giving the directory up; its files may be swept.
    #[must_use]
    pub fn previous_owner(&self) -> Option<&str> {
        self.previous_owner.as_deref()
    }

    /// Gives the directory up as a dead owner does: the next one finds this owner's text.
    pub fn abandon(mut self) {
        self.abandoned = true;
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // Removed while the lock is still held, so that nobody else's file can be meant. A
        // directory that is gone takes its lock file along.
        if !self.abandoned {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Keeps every other process and thread that asks for the same from making, sweeping or removing
/// subdirectories of a directory, until it is dropped.
///
/// Whoever holds it knows that a subdirectory without a living owner is nobody's, rather than one
/// that somebody is about to lock or to remove.
#[derive(Debug)]
pub(crate) struct DirGate {
    /// Holds the flock; none where the directory cannot be opened or locked, or was held too long.
    /// Then what is done in it fails by itself, or races are left to chance.
    _held: Option<File>,
}

impl DirGate {
    /// Waits for whoever holds it now; not for ever: that may be a process that was stopped.
    pub(crate) fn enter(dir: &Path) -> Self {
        let deadline = Instant::now() + GATE_PATIENCE;
        let locked = File::open(dir).ok().filter(|dir| {
            loop {
                match rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => break true,
                    Err(Errno::INTR) => {}
                    Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                        std::thread::sleep(GATE_STEP);
                    }
                    Err(_) => break false,
                }
            }
        });
        Self { _held: locked }
    }
}

/// Checks that `dir` is an existing directory.
///
/// # Errors
/// [`Error::Directory`], saying what to do.
pub fn check_directory(dir: &Path) -> Result<()> {
    match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(unusable(
            dir,
            "is a file; name a directory, or remove the file and make one",
            Errno::NOTDIR.into(),
        )),
        Err(error) => {
            let reason = match error.kind() {
                ErrorKind::NotFound => {
                    "does not exist; make it and let this process's user write to it"
                }
                ErrorKind::NotADirectory => "has a file among its parents; correct the path",
                ErrorKind::PermissionDenied => "cannot be reached; permit this process's user",
                _ => "cannot be examined",
            };
            Err(unusable(dir, reason, error))
        }
    }
}

fn unusable(dir: &Path, reason: &'static str, source: std::io::Error) -> Error {
    Error::Directory { path: dir.to_owned(), reason, source }
}

/// An error of making something in `dir`, as one that says what to do about the directory where
/// that is what is wrong.
pub(crate) fn explain(dir: &Path, error: Error) -> Error {
    let Error::Io { source, .. } = &error else { return error };
    let Some(errno) = Errno::from_io_error(source) else { return error };
    if let Err(unusable) = check_directory(dir) {
        return unusable;
    }
    match reason(errno) {
        Some(reason) => unusable(dir, reason, errno.into()),
        None => error,
    }
}

/// Why nothing can be made in an existing directory, and what to do.
const fn reason(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::ROFS => "is on a read-only file system; choose another or remount it",
        Errno::ACCESS | Errno::PERM => "is not writable; let this process's user write to it",
        Errno::NOENT => "takes no new files; choose a directory on a disk",
        _ => return None,
    })
}

fn open_lock_file(dir: &Path, path: &Path) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH)
        .map(File::from)
        .map_err(|errno| {
            let reason = reason(errno).unwrap_or(match errno {
                Errno::ISDIR => "has a directory named LOCK; remove it",
                Errno::NOSPC | Errno::DQUOT => "has no space for a lock file; free some",
                _ => "takes no lock file",
            });
            unusable(dir, reason, errno.into())
        })
}

/// True if `path` still names the open `file`.
fn is_still(path: &Path, file: &File) -> bool {
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}

/// The file's text; `None` if it has none.
fn read_text(file: &File) -> Option<String> {
    let mut text = String::new();
    file.take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Writes who we are as one line: purpose, process, time.
fn write_text(mut file: &File, purpose: &str) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let purpose: String = purpose.chars().filter(|c| !c.is_control()).take(100).collect();
    let text = format!("{purpose}, pid {}, since {}\n", std::process::id(), utc(now));
    file.set_len(0)?;
    // Reading an earlier owner's text has moved the position.
    std::io::Seek::rewind(&mut file)?;
    file.write_all(text.as_bytes())
}

/// Seconds since 1970 as `2026-01-31T23:59:59Z`.
fn utc(seconds: u64) -> String {
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn second_owner_learns_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path(), "txmap \"main\"\n").unwrap();
        assert_eq!(lock.previous_owner(), None);
        let error = DirLock::acquire(dir.path(), "other").unwrap_err();
        let Error::Locked { path, owner } = &error else { panic!("{error}") };
        assert_eq!(path, dir.path());
        let expected = format!("txmap \"main\", pid {}, since 20", std::process::id());
        assert!(owner.starts_with(&expected), "{owner}");
        assert!(error.to_string().contains("give each owner its own directory"), "{error}");
        drop(lock);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the lock file was left");
        drop(DirLock::acquire(dir.path(), "other").unwrap());
    }

    #[test]
    fn another_process_is_kept_out_and_its_death_lets_us_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DirLock::FILE_NAME);
        std::fs::write(&path, "map of a process, pid 1, since then\n").unwrap();
        let held = File::open(&path).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        // The child keeps our open file, and the lock with it, as its standard input.
        let mut child = Command::new("sleep").arg("1000").stdin(held).spawn().unwrap();
        let error = DirLock::acquire(dir.path(), "us").unwrap_err();
        assert!(error.to_string().contains("map of a process, pid 1"), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        let lock = DirLock::acquire(dir.path(), "us").unwrap();
        assert_eq!(lock.previous_owner(), Some("map of a process, pid 1, since then"));
    }

    #[test]
    fn hundred_contenders_have_one_winner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let owners = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut wins = 0;
                    while wins < 25 {
                        match DirLock::acquire(dir.path(), "contender") {
                            Ok(lock) => {
                                use std::sync::atomic::Ordering::SeqCst;
                                assert_eq!(owners.fetch_add(1, SeqCst), 0);
                                wins += 1;
                                owners.fetch_sub(1, SeqCst);
                                drop(lock);
                            }
                            Err(Error::Locked { .. }) => std::thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn gate_is_one_at_a_time_and_missing_where_there_is_no_directory() {
        use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
        let dir = tempfile::tempdir().unwrap();
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let gate = DirGate::enter(dir.path());
                        assert!(gate._held.is_some());
                        assert_eq!(inside.fetch_add(1, SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
        assert!(DirGate::enter(&dir.path().join("missing"))._held.is_none());
    }

    fn refusal(dir: &Path) -> String {
        DirLock::acquire(dir, "test").unwrap_err().to_string()
    }

    #[test]
    fn unusable_directories_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let missing = refusal(&dir.path().join("no/such"));
        assert!(missing.contains("no/such: does not exist; make it"), "{missing}");
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let in_place = refusal(&file);
        assert!(in_place.contains("file: is a file; name a directory"), "{in_place}");
        let below = refusal(&file.join("sub"));
        assert!(below.contains("has a file among its parents"), "{below}");
        let proc = refusal(Path::new("/proc/self"));
        assert!(proc.contains("/proc/self: takes no new files"), "{proc}");
        std::fs::create_dir(dir.path().join(DirLock::FILE_NAME)).unwrap();
        let occupied = refusal(dir.path());
        assert!(occupied.contains("has a directory named LOCK"), "{occupied}");
        let error = DirLock::acquire(&file, "test").unwrap_err();
        assert_eq!(error.os_errno(), Errno::NOTDIR.raw_os_error());
    }

    #[test]
    fn time_is_written_as_a_date() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(4_102_444_799), "2099-12-31T23:59:59Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
