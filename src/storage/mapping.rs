//! Mapped memory: anonymous, backed by an unlinked file, or a file of ours that outlives us.
//!
//! The only module, beside the index's arena, that maps memory. A file's space is reserved before
//! it is mapped, so that a full disk is an error here and never a SIGBUS at a later store; file
//! systems that write elsewhere than they reserved (copy on write) are refused for the same reason.
//! An unlinked file has no name by the time the mapping exists, and its descriptor is closed:
//! nobody else can shorten it, and it disappears with the mapping or the process. A file with a
//! name has to lie in a directory that its owner has locked.
//!
//! Threads: a `Mapping` may be shared. It hands out raw pointers and atomics only; who makes plain
//! references from the pointers keeps them from overlapping with writes.
#![expect(unsafe_code, reason = "mmap, munmap, madvise and a view of the mapping as atomics")]

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::unlinked::{open_unlinked, refuse_copy_on_write, reserve_space, write_zeros};
use crate::{Error, Result};

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Whether the kernel is asked for huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Base pages only.
    Off,
    /// Transparent huge pages where the kernel has them; base pages otherwise.
    #[default]
    Transparent,
    /// Huge pages of 2 MiB that the administrator has reserved (`vm.nr_hugepages`), for memory of
    /// that size and more; as [`HugePages::Transparent`] where there are not enough.
    Explicit,
}

/// How an unlinked file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingOptions {
    /// Use `O_TMPFILE` where the file system has it; create and unlink otherwise, or when false.
    pub o_tmpfile: bool,
}

impl Default for MappingOptions {
    fn default() -> Self {
        Self { o_tmpfile: true }
    }
}

/// A range of zeroed, writable memory of this process, unmapped on drop.
///
/// ```
/// use blocktier::storage::{HugePages, Mapping};
/// use std::sync::atomic::Ordering;
/// let mapping = Mapping::anonymous(1 << 20, HugePages::Off)?;
/// mapping.words()[3].store(7, Ordering::Relaxed);
/// assert_eq!(mapping.words()[3].load(Ordering::Relaxed), 7);
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<u8>,
    /// Bytes asked for.
    len: usize,
    /// Bytes mapped: `len` rounded up to pages.
    mapped: usize,
    /// False when the backing file was made by create and unlink.
    anonymous_inode: bool,
    /// In huge pages that were reserved.
    explicit: bool,
}

// SAFETY: the mapping is plain memory owned by this value; access through the pointers it hands out
// is the responsibility of whoever dereferences them.
unsafe impl Send for Mapping {}
// SAFETY: as above; the safe view is of atomics.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `bytes` of zeroed anonymous memory, faulted in on first touch.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0 bytes, [`Error::OutOfMemory`] if the system refuses.
    pub fn anonymous(bytes: u64, huge_pages: HugePages) -> Result<Self> {
        let (len, mapped) = sizes(bytes)?;
        if huge_pages == HugePages::Explicit
            && let Some((address, mapped)) = map_reserved(mapped)
        {
            return Ok(Self { address, len, mapped, anonymous_inode: true, explicit: true });
        }
        let address = match huge_pages {
            HugePages::Transparent | HugePages::Explicit if mapped >= HUGE_PAGE_BYTES => {
                map_huge_aligned(mapped)?
            }
            _ => map_anonymous(mapped)?,
        };
        let mapping = Self { address, len, mapped, anonymous_inode: true, explicit: false };
        let advice = match huge_pages {
            HugePages::Off => Advice::LinuxNoHugepage,
            HugePages::Transparent | HugePages::Explicit => Advice::LinuxHugepage,
        };
        // SAFETY: the range is this mapping; the advice changes no content. A kernel without huge
        // pages refuses it, and base pages serve as well.
        let _ = unsafe { rustix::mm::madvise(address.as_ptr().cast(), mapped, advice) };
        Ok(mapping)
    }

    /// Whether it lies in huge pages that were reserved ([`HugePages::Explicit`]).
    #[must_use]
    pub const fn is_explicit(&self) -> bool {
        self.explicit
    }

    /// `bytes` of zeroed memory backed by a file in `dir` that has no name.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on a file system that cannot promise space (copy on write, or no
    /// `fallocate`), [`Error::DiskFull`] with the bytes needed, [`Error::Io`],
    /// [`Error::OutOfMemory`] if the address space or the kernel's map count is exhausted,
    /// [`Error::InvalidArgument`] for 0 bytes.
    pub fn unlinked_file(dir: &Path, bytes: u64, options: &MappingOptions) -> Result<Self> {
        Self::unlinked(dir, bytes, options, false)
    }

    /// The same with all of its pages there, for memory that will be filled: they cost a third of
    /// what faulting them in one by one does.
    ///
    /// # Errors
    /// As for [`Mapping::unlinked_file`].
    pub fn touched_file(dir: &Path, bytes: u64, options: &MappingOptions) -> Result<Self> {
        let mapping = Self::unlinked(dir, bytes, options, true)?;
        mapping.populate(0..mapping.len);
        Ok(mapping)
    }

    fn unlinked(dir: &Path, bytes: u64, options: &MappingOptions, written: bool) -> Result<Self> {
        let (len, mapped) = sizes(bytes)?;
        let (file, anonymous_inode) = open_unlinked(dir, options.o_tmpfile)?;
        let io_error = |op, errno: Errno| Error::io(op, dir, None, errno.into());
        let stat = rustix::fs::fstatfs(&file).map_err(|errno| io_error("statfs", errno))?;
        // The type's width and sign vary by platform; the magic numbers have 32 bits.
        refuse_copy_on_write(dir, stat.f_type as u32)?;
        reserve_space(&file, dir, mapped as u64)?;
        if written {
            write_zeros(&file, dir, mapped as u64)?;
        }
        // SAFETY: a new mapping at an address of the kernel's choice; the file is private to us and
        // all of its `mapped` bytes are reserved.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )
        };
        let address = address
            .ok()
            .and_then(|address| NonNull::new(address.cast::<u8>()))
            .ok_or_else(|| refused("mapped file", mapped))?;
        Ok(Self { address, len, mapped, anonymous_inode, explicit: false })
    }

    /// Bytes `range` of the file `path`, shared: what is stored is in the file for whoever maps or
    /// reads it next on this machine, also when this process is killed. The range's start is a
    /// multiple of the page size; the file has all of it.
    ///
    /// # Errors
    /// As for [`Mapping::unlinked_file`]; [`Error::Corrupt`] if the file is shorter.
    pub(crate) fn file(path: &Path, range: Range<u64>) -> Result<Self> {
        let (len, mapped) = sizes(range.end.saturating_sub(range.start))?;
        let io_error = |op, errno: Errno| Error::io(op, path, None, errno.into());
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| io_error("open", errno))?;
        let stat = rustix::fs::fstatfs(&file).map_err(|errno| io_error("statfs", errno))?;
        // As for an unlinked file.
        refuse_copy_on_write(path, stat.f_type as u32)?;
        let have = rustix::fs::fstat(&file).map_err(|errno| io_error("stat", errno))?.st_size;
        if u64::try_from(have).unwrap_or(0) < range.end {
            let reason = format!("{} bytes are to be mapped, the file has {have}", range.end);
            return Err(Error::Corrupt { path: path.to_owned(), offset: range.start, reason });
        }
        reserve_space(&file, path, range.end)?;
        // SAFETY: a new mapping at an address of the kernel's choice; all of its bytes are
        // reserved, and nobody shortens a file in a directory that is locked.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file.as_fd(),
                range.start,
            )
        };
        let address = address
            .ok()
            .and_then(|address| NonNull::new(address.cast::<u8>()))
            .ok_or_else(|| refused("mapped file", mapped))?;
        Ok(Self { address, len, mapped, anonymous_inode: false, explicit: false })
    }

    /// The first byte; a multiple of the page size.
    #[must_use]
    pub const fn as_ptr(&self) -> *const u8 {
        self.address.as_ptr()
    }

    /// The first byte, for writing. Who writes through it makes sure that nobody else reads or
    /// writes the same bytes, except through atomics on both sides.
    #[must_use]
    pub const fn as_mut_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// Bytes asked for.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Never: a mapping has at least one byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// False when the backing file had to be created under a name and unlinked.
    #[must_use]
    pub const fn used_o_tmpfile(&self) -> bool {
        self.anonymous_inode
    }

    /// The mapping as `len / 8` atomic words.
    #[must_use]
    pub const fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, initialized memory of at least `len` bytes and lives
        // as long as `self`; every bit pattern is a valid AtomicU64.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr().cast(), self.len / 8) }
    }

    /// Faults the bytes of `range` in for writing, ahead of use. False if the kernel would not
    /// (before 5.14), in which case first touches fault as usual.
    ///
    /// # Panics
    /// Never; a range past the end is cut.
    pub fn populate(&self, range: Range<usize>) -> bool {
        let page = rustix::param::page_size();
        let start = range.start.min(self.mapped) & !(page - 1);
        let end = range.end.min(self.mapped).next_multiple_of(page);
        if start >= end {
            return true;
        }
        // SAFETY: start..end lies within the mapping; populating changes no content.
        unsafe {
            let address = self.address.as_ptr().add(start).cast();
            rustix::mm::madvise(address, end - start, Advice::LinuxPopulateWrite).is_ok()
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by us, once, and nobody may hold a pointer into it any more.
        let unmapped = unsafe { rustix::mm::munmap(self.address.as_ptr().cast(), self.mapped) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping: {unmapped:?}");
    }
}

/// `bytes` as a length, and rounded up to pages.
fn sizes(bytes: u64) -> Result<(usize, usize)> {
    if bytes == 0 {
        return Err(Error::InvalidArgument("a mapping of 0 bytes".to_owned()));
    }
    let len = usize::try_from(bytes).map_err(|_| refused("mapping", usize::MAX))?;
    let mapped = len
        .checked_next_multiple_of(rustix::param::page_size())
        .filter(|&mapped| mapped <= isize::MAX as usize)
        .ok_or_else(|| refused("mapping", len))?;
    Ok((len, mapped))
}

const fn refused(what: &'static str, bytes: usize) -> Error {
    Error::OutOfMemory { what, bytes: bytes as u64, available: u64::MAX }
}

fn map_anonymous(bytes: usize) -> Result<NonNull<u8>> {
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let address = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    };
    address
        .ok()
        .and_then(|address| NonNull::new(address.cast::<u8>()))
        .ok_or_else(|| refused("mapping", bytes))
}

/// Like [`map_anonymous`], at a multiple of the huge page size: a kernel that doesn't align by
/// itself would leave the first and last huge page in base pages.
fn map_huge_aligned(bytes: usize) -> Result<NonNull<u8>> {
    let padded = bytes.checked_add(HUGE_PAGE_BYTES).ok_or_else(|| refused("mapping", bytes))?;
    let base = map_anonymous(padded)?;
    let head = base.as_ptr().align_offset(HUGE_PAGE_BYTES);
    let tail = HUGE_PAGE_BYTES - head;
    // SAFETY: head + bytes + tail is exactly what was just mapped; the two ends are unmapped before
    // anything points there, and both are multiples of the page size.
    unsafe {
        if head > 0 {
            let _ = rustix::mm::munmap(base.as_ptr().cast(), head);
        }
        if tail > 0 {
            let _ = rustix::mm::munmap(base.as_ptr().add(head + bytes).cast(), tail);
        }
        Ok(base.add(head))
    }
}

/// Memory in huge pages that were reserved, rounded up to them; none if it is less than one, or
/// there are not so many. What is mapped has its pages: the kernel counts them here, not at the
/// first touch.
pub(crate) fn map_reserved(bytes: usize) -> Option<(NonNull<u8>, usize)> {
    let mapped = bytes.checked_next_multiple_of(HUGE_PAGE_BYTES).filter(|_| {
        // Rounding up must not cost more than the pages save.
        bytes >= HUGE_PAGE_BYTES
    })?;
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let address = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            mapped,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB,
        )
    };
    NonNull::new(address.ok()?.cast()).map(|address| (address, mapped))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    /// The line of this process's map list that covers `address`.
    fn map_line(address: *const u8) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let covers = |line: &&str| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split(' ').next().unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            (number(start)..number(end)).contains(&(address as u64))
        };
        maps.lines().find(covers).unwrap_or_default().to_owned()
    }

    fn dirs() -> Vec<tempfile::TempDir> {
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/target");
        let mut dirs = vec![disk.unwrap()];
        if Path::new("/dev/shm").is_dir() {
            dirs.push(tempfile::tempdir_in("/dev/shm").unwrap());
        }
        dirs
    }

    #[test]
    fn a_named_file_is_shared_and_never_mapped_past_its_end() {
        for dir in dirs() {
            let path = dir.path().join("ring");
            std::fs::write(&path, vec![7; 8192]).unwrap();
            let error = Mapping::file(&path, 4096..8193).unwrap_err().to_string();
            assert!(error.contains("ring is corrupt at offset 4096: 8193 bytes are"), "{error}");
            let mapping = Mapping::file(&path, 4096..8192).unwrap();
            assert_eq!(mapping.words().len(), 512);
            assert_eq!(mapping.words()[0].load(Ordering::Relaxed), 0x0707_0707_0707_0707);
            mapping.words()[511].store(u64::MAX, Ordering::Relaxed);
            drop(mapping);
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!((&bytes[8184..], bytes[8183], bytes.len()), (&[255; 8][..], 7, 8192));
            assert!(Mapping::file(&dir.path().join("none"), 0..4096).is_err());
        }
    }

    #[test]
    fn anonymous_memory_is_zero_writable_and_given_back() {
        for (bytes, huge_pages) in [
            (1, HugePages::Off),
            (5000, HugePages::Transparent),
            ((2 << 20) + 1, HugePages::Off),
            ((5 << 20) - 3, HugePages::Transparent),
        ] {
            let mapping = Mapping::anonymous(bytes, huge_pages).unwrap();
            assert_eq!(mapping.len() as u64, bytes);
            assert_eq!(mapping.words().len() as u64, bytes / 8);
            assert!(mapping.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
            for (i, word) in mapping.words().iter().enumerate() {
                word.store(i as u64 + 1, Ordering::Relaxed);
            }
            let last = mapping.words().last().map_or(0, |word| word.load(Ordering::Relaxed));
            assert_eq!(last, bytes / 8);
            if huge_pages == HugePages::Transparent && bytes > 2 << 20 {
                assert_eq!(mapping.as_ptr() as usize % HUGE_PAGE_BYTES, 0);
            }
            assert!(mapping.populate(0..usize::MAX));
            assert!(mapping.populate(100..100) && mapping.populate(usize::MAX..usize::MAX));
        }
    }

    #[test]
    fn unlinked_file_has_no_name_and_no_descriptor_but_its_space() {
        for dir in dirs() {
            for o_tmpfile in [true, false] {
                let options = MappingOptions { o_tmpfile };
                let touched = Mapping::touched_file(dir.path(), (3 << 20) + 1, &options).unwrap();
                assert_eq!(touched.len(), (3 << 20) + 1);
                assert!(touched.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
                let mapping = Mapping::unlinked_file(dir.path(), 3 << 20, &options).unwrap();
                let line = map_line(mapping.as_ptr());
                assert!(line.contains("rw-s") && line.contains("(deleted)"), "{line}");
                assert!(line.contains(dir.path().to_str().unwrap()), "{line}");
                assert!(o_tmpfile || !mapping.used_o_tmpfile());
                assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
                let open = std::fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
                    let link = std::fs::read_link(entry.as_ref().unwrap().path());
                    link.is_ok_and(|target| target.starts_with(dir.path()))
                });
                assert_eq!(open.count(), 0);
                mapping.words()[100].store(9, Ordering::Relaxed);
                assert_eq!(mapping.words()[100].load(Ordering::Relaxed), 9);
                assert!(mapping.populate(0..3 << 20));
            }
        }
    }

    #[test]
    fn fallback_steps_around_names_that_are_taken() {
        let dir = &dirs()[0];
        // The counter is shared by all tests of the process: occupy a few names ahead of it.
        for number in 0..64 {
            let name = format!(".blocktier-{}-{number}.map", std::process::id());
            std::fs::write(dir.path().join(name), "someone else's").unwrap();
        }
        let options = MappingOptions { o_tmpfile: false };
        let mapping = Mapping::unlinked_file(dir.path(), 4096, &options).unwrap();
        assert_eq!(mapping.len(), 4096);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert_eq!(text, "someone else's");
        }
    }

    #[test]
    fn full_disk_is_an_error_before_anything_is_mapped() {
        for dir in dirs() {
            for o_tmpfile in [true, false] {
                let options = MappingOptions { o_tmpfile };
                for make in [Mapping::unlinked_file, Mapping::touched_file] {
                    let error = make(dir.path(), 1 << 50, &options).unwrap_err();
                    let needed = match error {
                        Error::DiskFull { needed, .. } => needed,
                        other => panic!("{other}"),
                    };
                    assert_eq!(needed, 1 << 50);
                }
                assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            }
        }
    }

    #[test]
    fn impossible_sizes_and_places_are_errors() {
        assert!(matches!(
            Mapping::anonymous(0, HugePages::Off).unwrap_err(),
            Error::InvalidArgument(_)
        ));
        for bytes in [1 << 60, u64::MAX] {
            for huge_pages in [HugePages::Off, HugePages::Transparent] {
                let error = Mapping::anonymous(bytes, huge_pages).unwrap_err();
                let refused = matches!(error, Error::OutOfMemory { available: u64::MAX, .. });
                assert!(refused, "{error}");
                assert!(error.to_string().ends_with("the system refused them; lower the sizes"));
            }
        }
        let missing = Path::new("/no/such/directory");
        for o_tmpfile in [true, false] {
            let options = MappingOptions { o_tmpfile };
            let error = Mapping::unlinked_file(missing, 4096, &options).unwrap_err();
            assert!(error.to_string().contains("/no/such/directory"), "{error}");
            assert_eq!(error.os_errno(), 2);
        }
    }
}
