//! Reads of a batch, as deep as the device likes: `io_uring`, or one `pread` after another.
//!
//! A ring belongs to one call at a time; idle rings wait in a pool. A call returns only when the
//! kernel has let go of every buffer of the batch, also when the ring itself fails: what the ring
//! did not finish is then read with `pread`, which also words the errors.
#![expect(unsafe_code, reason = "submission of reads whose buffers the kernel fills")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, types};
use parking_lot::Mutex;
use rustix::io::Errno;

use crate::{Error, Result};

/// Rings kept for later calls; more callers than this at once make their own for the call.
const IDLE_RINGS_MAX: usize = 32;

/// Longest read that a ring takes; its length field has 32 bits.
const RING_READ_MAX: usize = 1 << 30;

/// One read. Address, length and offset suit the file.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub fd: BorrowedFd<'a>,
    pub path: &'a Path,
    pub offset: u64,
    pub bytes: &'a mut [u8],
    pub result: &'a mut Result<()>,
}

impl Read<'_> {
    /// Reads all bytes with `pread`.
    pub fn one(&mut self) {
        *self.result = self.read_exact();
    }

    fn read_exact(&mut self) -> Result<()> {
        let error = |offset, errno: Errno| {
            Error::io("read", self.path, Some(offset), io::Error::from(errno))
        };
        let mut done = 0;
        while done < self.bytes.len() {
            let offset = self.offset + done as u64;
            match rustix::io::pread(self.fd, &mut self.bytes[done..], offset) {
                Ok(read) => {
                    done += read;
                    if done == self.bytes.len() {
                        break;
                    }
                    // The rest of a direct read may be misaligned now, so ask before reading on.
                    let stat = rustix::fs::fstat(self.fd).map_err(|errno| error(offset, errno))?;
                    let end = self.offset + self.bytes.len() as u64;
                    let length = u64::try_from(stat.st_size).unwrap_or(0);
                    if read == 0 || length < end {
                        let reason = format!("the file ends at {length}, before {end}");
                        let (path, offset) = (self.path.to_owned(), self.offset);
                        return Err(Error::Corrupt { path, offset, reason });
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(error(offset, errno)),
            }
        }
        Ok(())
    }
}

/// Makes, keeps and lends rings.
pub(super) struct RingPool {
    depth: u32,
    /// False when switched off, and after the kernel refused for good.
    enabled: AtomicBool,
    idle: Mutex<Vec<IoUring>>,
}

impl std::fmt::Debug for RingPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingPool")
            .field("depth", &self.depth)
            .field("enabled", &self.enabled)
            .field("idle", &self.idle.lock().len())
            .finish()
    }
}

impl RingPool {
    /// A pool of rings with `depth` reads in flight each; without rings unless `enabled`.
    pub fn new(enabled: bool, depth: u32) -> Self {
        Self { depth, enabled: AtomicBool::new(enabled), idle: Mutex::default() }
    }

    /// Does all reads; each carries its outcome. Returns why a ring could not be had, if it was
    /// wanted: the reads were done without.
    pub fn read(&self, reads: &mut [Read<'_>]) -> Option<io::Error> {
        let mut refusal = None;
        let mut done = vec![false; reads.len()];
        if reads.len() > 1 && self.enabled.load(Ordering::Relaxed) {
            match self.ring() {
                Ok(mut ring) => {
                    if read_through(&mut ring, self.depth as usize, reads, &mut done) {
                        let mut idle = self.idle.lock();
                        if idle.len() < IDLE_RINGS_MAX {
                            idle.push(ring);
                        }
                    }
                }
                Err(error) => refusal = Some(error),
            }
        }
        for (read, done) in reads.iter_mut().zip(done) {
            if !done {
                read.one();
            }
        }
        refusal
    }

    fn ring(&self) -> io::Result<IoUring> {
        if let Some(ring) = self.idle.lock().pop() {
            return Ok(ring);
        }
        let made = IoUring::builder().dontfork().build(self.depth).and_then(|ring| {
            let mut probe = Probe::new();
            ring.submitter().register_probe(&mut probe)?;
            if !probe.is_supported(opcode::Read::CODE) {
                return Err(io::ErrorKind::Unsupported.into());
            }
            Ok(ring)
        });
        made.inspect_err(|error| {
            // No memory or no descriptors may pass; a kernel or a sandbox that refuses will not.
            let passing = [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::AGAIN];
            if !passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
                self.enabled.store(false, Ordering::Relaxed);
            }
        })
    }
}

/// Reads through `ring` with up to `depth` reads in flight, and marks those whose outcome is known.
/// False if the ring failed and must not be used again. No buffer is in the kernel's hands after.
fn read_through(
    ring: &mut IoUring,
    depth: usize,
    reads: &mut [Read<'_>],
    done: &mut [bool],
) -> bool {
    let mut next = 0;
    let mut in_flight = 0;
    loop {
        while next < reads.len() && in_flight < depth {
            let Some(entry) = entry(&mut reads[next], next) else {
                next += 1;
                continue;
            };
            // SAFETY: the buffer belongs to `reads`, which outlives this function, and nobody
            // touches it until its completion was seen; every path out of here has seen all.
            if unsafe { ring.submission().push(&entry) }.is_err() {
                break;
            }
            next += 1;
            in_flight += 1;
        }
        if in_flight == 0 {
            return true;
        }
        // Waiting for some keeps the queue deep; once all are submitted, for all.
        let want = if next < reads.len() { in_flight.div_ceil(4) } else { in_flight };
        match ring.submit_and_wait(want) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                drain(ring, in_flight, reads, done);
                return false;
            }
        }
        in_flight -= reap(ring, reads, done);
    }
}

/// The submission of one read; `None` if it is too long for a ring.
fn entry(read: &mut Read<'_>, index: usize) -> Option<io_uring::squeue::Entry> {
    let len = Some(read.bytes.len()).filter(|&len| len <= RING_READ_MAX)?;
    let len = u32::try_from(len).ok()?;
    let entry = opcode::Read::new(types::Fd(read.fd.as_raw_fd()), read.bytes.as_mut_ptr(), len)
        .offset(read.offset)
        .build()
        .user_data(index as u64);
    Some(entry)
}

/// Takes the completions that are there; how many.
fn reap(ring: &mut IoUring, reads: &mut [Read<'_>], done: &mut [bool]) -> usize {
    let mut count = 0;
    for completion in ring.completion() {
        count += 1;
        let index = completion.user_data() as usize;
        let (Some(read), Some(done)) = (reads.get_mut(index), done.get_mut(index)) else {
            continue;
        };
        match usize::try_from(completion.result()) {
            Ok(bytes) if bytes == read.bytes.len() => {
                *read.result = Ok(());
                *done = true;
            }
            // Short: `pread` goes on, or finds the end of the file.
            Ok(_) => {}
            Err(_) => {
                let errno = Errno::from_raw_os_error(-completion.result());
                if errno != Errno::INTR && errno != Errno::AGAIN {
                    let error = io::Error::from(errno);
                    *read.result = Err(Error::io("read", read.path, Some(read.offset), error));
                    *done = true;
                }
            }
        }
    }
    count
}

/// Waits, without the ring's help, until the kernel has finished what it had taken.
fn drain(ring: &mut IoUring, mut in_flight: usize, reads: &mut [Read<'_>], done: &mut [bool]) {
    loop {
        in_flight -= reap(ring, reads, done);
        // What the kernel has not taken by now it never will: nobody enters this ring again.
        if in_flight <= ring.submission().len() {
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    const FILE_BYTES: usize = 1 << 20;

    fn pattern(offset: usize) -> u8 {
        (offset.wrapping_mul(2_654_435_761) >> 13) as u8
    }

    fn file() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..FILE_BYTES).map(pattern).collect();
        std::fs::write(&path, bytes).unwrap();
        (dir, File::open(path).unwrap())
    }

    /// Reads 1000 scattered ranges, the last of them past the end, and checks every byte.
    fn check_batch(pool: &RingPool) -> Option<io::Error> {
        let (_dir, file) = file();
        let place = |i: usize| (i * 7919 * 13 % (FILE_BYTES - 5000), 1 + i * 37 % 4999);
        let mut buffers: Vec<Vec<u8>> = (0..1000).map(|i| vec![0; place(i).1]).collect();
        let mut results: Vec<Result<()>> = (0..1000).map(|_| Ok(())).collect();
        let mut reads = Vec::new();
        for (i, (bytes, result)) in buffers.iter_mut().zip(&mut results).enumerate() {
            let offset = if i == 999 { FILE_BYTES - 1 } else { place(i).0 };
            reads.push(Read {
                fd: file.as_fd(),
                path: Path::new("/the/file"),
                offset: offset as u64,
                bytes,
                result,
            });
        }
        let refusal = pool.read(&mut reads);
        for (i, (bytes, result)) in buffers.iter().zip(&results).enumerate().take(999) {
            assert!(result.is_ok(), "{result:?}");
            let wrong = bytes.iter().enumerate().find(|&(at, &b)| b != pattern(place(i).0 + at));
            assert_eq!(wrong, None, "read {i}");
        }
        let text = results[999].as_ref().unwrap_err().to_string();
        assert!(
            text.starts_with("/the/file is corrupt at offset 1048575: the file ends"),
            "{text}"
        );
        refusal
    }

    #[test]
    fn batch_reads_the_right_bytes_with_any_depth() {
        for depth in [1, 4, 128] {
            let pool = RingPool::new(true, depth);
            let refusal = check_batch(&pool);
            if let Some(error) = refusal {
                eprintln!("io_uring is refused here ({error}): only the fallback was tested");
                return;
            }
            assert_eq!(pool.idle.lock().len(), 1);
            check_batch(&pool);
            assert_eq!(pool.idle.lock().len(), 1, "the ring was not used again");
        }
    }

    #[test]
    fn switched_off_reads_the_same_without_a_ring() {
        let pool = RingPool::new(false, 128);
        assert!(check_batch(&pool).is_none());
        assert!(pool.idle.lock().is_empty());
    }

    #[test]
    fn refused_ring_is_said_once_and_replaced_by_pread() {
        // No kernel makes a ring this deep.
        let pool = RingPool::new(true, u32::MAX);
        assert!(check_batch(&pool).is_some());
        assert!(check_batch(&pool).is_none());
    }

    #[test]
    fn failing_ring_leaves_no_buffer_behind_and_no_read_undone() {
        let (_dir, file) = file();
        let Ok(mut ring) = IoUring::new(8) else {
            eprintln!("io_uring is refused here: nothing to break");
            return;
        };
        let mut bytes = vec![0; 100];
        let mut result = Ok(());
        let path = Path::new("/the/file");
        let mut reads =
            [Read { fd: file.as_fd(), path, offset: 5, bytes: &mut bytes, result: &mut result }];
        let entry = entry(&mut reads[0], 0).unwrap();
        // SAFETY: the buffer lives on, and drain waits for whatever the kernel takes.
        unsafe { ring.submission().push(&entry) }.unwrap();
        // Pushed, never entered: the kernel has taken nothing, so nothing is waited for.
        drain(&mut ring, 1, &mut reads, &mut [false]);
        // Entered: the completion is waited for and counted.
        ring.submit().unwrap();
        let mut done = [false];
        drain(&mut ring, 1, &mut reads, &mut done);
        assert!(done[0]);
        assert_eq!(bytes[0], pattern(5));
    }
}
