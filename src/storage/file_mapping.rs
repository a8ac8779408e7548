//! A whole file, mapped where it lies: for files that are written once and then only read.
//!
//! A mapped file that is shortened ends the process at the next access (SIGBUS), so a file is
//! mapped only if nobody else may shorten it: it and its directory are ours, and others may not
//! write to them. That nobody of ours does is for the owner of the directory's lock to see to.
//!
//! Threads: as [`Mapping`](super::Mapping).
#![expect(unsafe_code, reason = "mmap, munmap and a view of the mapping as bytes")]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::ptr::NonNull;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::{Error, Result};

/// The bytes of a file in memory of this process alone: what is changed here stays here.
#[derive(Debug)]
pub(crate) struct FileMapping {
    /// None for an empty file, of which there is nothing to map.
    address: Option<NonNull<u8>>,
    len: usize,
}

// SAFETY: plain memory owned by this value and given out by the rules of borrowing, or as a raw
// pointer that whoever dereferences it is responsible for.
unsafe impl Send for FileMapping {}
// SAFETY: as above.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    /// Maps the file `path`, whose directory has passed [`check_ours`] and is locked.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Unsupported`] if it is no regular file or others can change it;
    /// [`Error::OutOfMemory`] if the address space is exhausted.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // A FIFO would wait for a writer without NONBLOCK.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => return Err(refused(path, "is a symbolic link")),
            Err(errno) => return Err(Error::io("open", path, None, errno.into())),
        };
        let stat = rustix::fs::fstat(&file)
            .map_err(|errno| Error::io("stat", path, None, errno.into()))?;
        check_file(path, &stat)?;
        let out_of_memory = || Error::OutOfMemory {
            what: "mapped file",
            bytes: u64::try_from(stat.st_size).unwrap_or(u64::MAX),
            available: u64::MAX,
        };
        let len = usize::try_from(stat.st_size)
            .ok()
            .filter(|&len| len <= isize::MAX as usize)
            .ok_or_else(out_of_memory)?;
        if len == 0 {
            return Ok(Self { address: None, len });
        }
        // SAFETY: a new mapping at an address of the kernel's choice, of bytes that the file has.
        let address = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            let null = std::ptr::null_mut();
            rustix::mm::mmap(null, len, access, MapFlags::PRIVATE, file.as_fd(), 0)
        };
        match address {
            Ok(address) => Ok(Self { address: NonNull::new(address.cast()), len }),
            Err(Errno::NOMEM) => Err(out_of_memory()),
            Err(errno) => Err(Error::io("map", path, None, errno.into())),
        }
    }

    /// The file's bytes; the first one lies at the start of a page.
    pub(crate) const fn bytes(&self) -> &[u8] {
        match self.address {
            // SAFETY: `len` mapped bytes that live as long as `self`. The file has them: nobody
            // shortens it. Nobody changes it either, and where the kernel would show that is
            // where it was not read yet.
            Some(address) => unsafe { std::slice::from_raw_parts(address.as_ptr(), self.len) },
            None => &[],
        }
    }

    /// The first byte, for reading and writing. Who writes through it makes sure that nobody else
    /// reads or writes the same bytes.
    pub(crate) const fn as_mut_ptr(&self) -> *mut u8 {
        match self.address {
            Some(address) => address.as_ptr(),
            None => std::ptr::null_mut(),
        }
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        // SAFETY: mapped by us, once, and nobody may hold a pointer into it any more.
        let unmapped = unsafe { rustix::mm::munmap(address.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping: {unmapped:?}");
    }
}

/// Whether files in directory `dir` may be mapped: nobody else can change them.
///
/// # Errors
/// [`Error::Unsupported`] with what to do about it; [`Error::Io`].
pub(crate) fn check_ours(dir: &Path) -> Result<()> {
    let io_error = |op, errno: Errno| Error::io(op, dir, None, errno.into());
    let stat = rustix::fs::stat(dir).map_err(|errno| io_error("stat", errno))?;
    check_owner(dir, &stat)?;
    let statfs = rustix::fs::statfs(dir).map_err(|errno| io_error("statfs", errno))?;
    // The type's width and sign vary by platform; the magic numbers have 32 bits.
    match network_name(statfs.f_type as u32) {
        Some(name) => {
            Err(refused(dir, &format!("is on {name}, where other machines can shorten files")))
        }
        None => Ok(()),
    }
}

fn check_file(path: &Path, stat: &Stat) -> Result<()> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refused(path, "is no regular file"));
    }
    if stat.st_nlink > 1 {
        return Err(refused(path, "has other names (hard links)"));
    }
    check_owner(path, stat)
}

fn check_owner(path: &Path, stat: &Stat) -> Result<()> {
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user && stat.st_uid != 0 {
        let reason = format!("belongs to user {}, not to {user} (chown it)", stat.st_uid);
        return Err(refused(path, &reason));
    }
    let others = Mode::WGRP | Mode::WOTH;
    if Mode::from_raw_mode(stat.st_mode).intersects(others) {
        return Err(refused(path, "can be written to by others (chmod go-w)"));
    }
    Ok(())
}

fn refused(path: &Path, reason: &str) -> Error {
    let path = path.display();
    Error::Unsupported(format!("{path} is not mapped: it {reason}; it can be read instead"))
}

/// The name of a file system that others write to, by its magic number (statfs(2)).
const fn network_name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "NFS",
        0x0000_517B | 0xFE53_4D42 | 0xFF53_4D42 => "SMB",
        0x6573_5546 => "FUSE",
        0x00C3_6400 => "Ceph",
        0x0102_1997 => "9P",
        0x5346_414F => "AFS",
        0x0116_1970 => "GFS2",
        0x7461_636F => "OCFS2",
        0x0BD0_0BD0 => "Lustre",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn reason(result: Result<impl std::fmt::Debug>) -> String {
        match result {
            Err(Error::Unsupported(text)) => text,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_file_and_changes_stay_here() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0usize, 1, 4095, 4096, 4097, 100_000] {
            let path = dir.path().join("file");
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            let mapping = FileMapping::open(&path).unwrap();
            assert_eq!(mapping.bytes(), bytes);
            if len > 0 {
                // SAFETY: the last byte; nobody else looks at it.
                unsafe { mapping.as_mut_ptr().add(len - 1).write(99) };
                assert_eq!(mapping.bytes()[len - 1], 99);
            }
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            std::fs::remove_file(&path).unwrap();
            assert_eq!(mapping.bytes().len(), len, "still there without a name");
        }
    }

    #[test]
    fn what_others_can_change_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "content").unwrap();
        check_ours(dir.path()).unwrap();
        for mode in [0o620, 0o602, 0o666] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(
                reason(FileMapping::open(&path))
                    .contains("file is not mapped: it can be written to by others")
            );
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        FileMapping::open(&path).unwrap();
        for mode in [0o770, 0o707, 0o1777] {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
            assert!(reason(check_ours(dir.path())).contains("chmod go-w"));
        }
        std::fs::hard_link(&path, dir.path().join("second")).unwrap();
        assert!(
            reason(FileMapping::open(&path)).contains("file is not mapped: it has other names")
        );
    }

    #[test]
    fn what_is_no_file_is_refused_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let [link, fifo] = ["link", "fifo"].map(|name| dir.path().join(name));
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(
            reason(FileMapping::open(&link)).contains("link is not mapped: it is a symbolic link")
        );
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        assert!(
            reason(FileMapping::open(&fifo)).contains("fifo is not mapped: it is no regular file")
        );
        assert!(reason(FileMapping::open(dir.path())).contains("is no regular file"));
        let missing = FileMapping::open(&dir.path().join("none")).unwrap_err();
        assert!(matches!(missing, Error::Io { op: "open", .. }), "{missing}");
    }

    #[test]
    fn who_owns_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut stat = rustix::fs::stat(dir.path()).unwrap();
        check_owner(dir.path(), &stat).unwrap();
        stat.st_uid = rustix::process::geteuid().as_raw() + 1;
        assert!(reason(check_owner(dir.path(), &stat).map(drop)).contains("chown it"));
        stat.st_uid = 0;
        check_owner(dir.path(), &stat).unwrap();
    }

    #[test]
    fn network_file_systems_have_names_and_disks_have_none() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        // ext4, xfs, tmpfs, btrfs, zfs, overlayfs
        for magic in [0xEF53, 0x5846_5342, 0x0102_1994, 0x9123_683E, 0x2FC1_2FC1, 0x794C_7630] {
            assert_eq!(network_name(magic), None);
        }
    }
}
