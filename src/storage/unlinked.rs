//! Files without a name whose space is reserved, to be mapped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::dir_lock::explain;
use crate::{Error, Result};

/// A new file in `dir` without a name, and whether `O_TMPFILE` made it.
pub(super) fn open_unlinked(dir: &Path, o_tmpfile: bool) -> Result<(File, bool)> {
    let mode = Mode::RUSR | Mode::WUSR;
    if o_tmpfile {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, mode) {
            Ok(fd) => return Ok((File::from(fd), true)),
            // The file system, or a kernel that reads the flag as "open the directory", has none.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            Err(errno) => {
                let error = Error::io("create a file in", dir, None, errno.into());
                return Err(explain(dir, error));
            }
        }
    }
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(".blocktier-{}-{number}.map", std::process::id()));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, mode) {
            Ok(fd) => {
                std::fs::remove_file(&path)
                    .map_err(|error| Error::io("unlink", &path, None, error))?;
                return Ok((File::from(fd), false));
            }
            // Left by a process that had our number and died in between.
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(explain(dir, Error::io("create", &path, None, errno.into())));
            }
        }
    }
}

/// Reserved blocks of a copy-on-write file system are not where a later store goes.
pub(super) fn refuse_copy_on_write(dir: &Path, magic: u32) -> Result<()> {
    let name = match magic {
        0x9123_683E => "btrfs",
        0x2FC1_2FC1 => "zfs",
        0xCA45_1A4E => "bcachefs",
        _ => return Ok(()),
    };
    Err(Error::Unsupported(format!(
        "mapping a file in {}: {name} copies on write and cannot promise the space that was \
         reserved, so a full disk would kill the process; use a directory on ext4, xfs or tmpfs",
        dir.display()
    )))
}

/// Reserves the space of a file that is to be mapped; nothing less than reserved will do.
pub(super) fn reserve_space(file: &File, dir: &Path, bytes: u64) -> Result<()> {
    match reserve(file, bytes) {
        Ok(()) => Ok(()),
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
            let path = dir.to_owned();
            Err(Error::DiskFull { path, needed: bytes, source: errno.into() })
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(Error::Unsupported(format!(
            "mapping a file in {}: the file system cannot reserve space (fallocate), so a full \
             disk would kill the process; use a directory on ext4, xfs or tmpfs",
            dir.display()
        ))),
        Err(errno) => Err(Error::io("reserve space in", dir, None, errno.into())),
    }
}

/// Reserves bytes `0..bytes` of `file`. Interrupted calls are repeated in smaller steps: some file
/// systems undo the whole step, and a process with a signal timer would never finish a long one.
pub(super) fn reserve(file: &File, bytes: u64) -> rustix::io::Result<()> {
    const STEP_MIN_BYTES: u64 = 16 << 20;
    let mut done = 0;
    let mut step = bytes;
    while done < bytes {
        step = step.min(bytes - done);
        match rustix::fs::fallocate(file, FallocateFlags::empty(), done, step) {
            Ok(()) => done += step,
            Err(Errno::INTR) => step = (step / 2).max(STEP_MIN_BYTES),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes zeros over the reserved bytes of a new file. The page cache takes their pages in large
/// runs then, where faults of a mapping would make them one by one.
pub(super) fn write_zeros(file: &File, dir: &Path, bytes: u64) -> Result<()> {
    static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
    let mut done = 0;
    while done < bytes {
        let step = (bytes - done).min(ZEROS.len() as u64) as usize;
        if let Err(error) = file.write_all_at(&ZEROS[..step], done) {
            return Err(Error::io("write zeros to a file in", dir, Some(done), error));
        }
        done += step as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_on_write_file_systems_are_refused_by_name() {
        for (magic, name) in
            [(0x9123_683E, "btrfs"), (0x2FC1_2FC1, "zfs"), (0xCA45_1A4E, "bcachefs")]
        {
            let error = refuse_copy_on_write(Path::new("/data"), magic).unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)));
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("/data") && text.contains("use a dir"));
        }
        // ext4, xfs, tmpfs
        for magic in [0xEF53, 0x5846_5342, 0x0102_1994] {
            refuse_copy_on_write(Path::new("/data"), magic).unwrap();
        }
    }
}
