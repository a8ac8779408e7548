//! A zeroed array of fixed capacity that never moves: on the heap, in anonymous pages, or in an
//! unlinked file. The memory of node arrays and of kept Merkle levels.
//!
//! Every element is initialised from the start (zero), so a slice over the whole capacity is always
//! valid, also for the other side of the border, which fills it through a raw pointer.
#![expect(unsafe_code, reason = "slices over memory that is allocated or mapped here")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::path::Path;
use std::ptr::NonNull;

use crate::error::{Error, Result};
use crate::storage::{HugePages, Mapping, MappingOptions};
use crate::types::Hash;

use super::node::Node;

/// Types for which zero bytes are a value and every bit pattern is one.
///
/// # Safety
///
/// No padding, no pointers, no invalid bit patterns, alignment of at most a page.
pub(in crate::subtree) unsafe trait Plain:
    Copy + Send + Sync + 'static
{
}

// SAFETY: bytes and integers without padding, alignment 8 (asserted in node.rs).
unsafe impl Plain for Node {}
// SAFETY: bytes.
unsafe impl Plain for Hash {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}

#[derive(Debug)]
enum Owner {
    Heap(Layout),
    /// Unmapped when dropped.
    Pages {
        mapping: Mapping,
        in_file: bool,
    },
}

/// `length` elements that start as zero bytes.
#[derive(Debug)]
pub(in crate::subtree) struct PlainArray<T: Plain> {
    start: NonNull<T>,
    length: usize,
    owner: Owner,
}

// SAFETY: the array owns its memory and hands it out by the rules of borrowing; T is Send and Sync.
unsafe impl<T: Plain> Send for PlainArray<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for PlainArray<T> {}

impl<T: Plain> PlainArray<T> {
    pub(in crate::subtree) fn heap(what: &'static str, length: usize) -> Result<Self> {
        byte_length::<T>(what, length)?;
        let layout = Layout::array::<T>(length).map_err(|_| refused(what, u64::MAX))?;
        // SAFETY: the layout is not empty: byte_length refuses 0, and no Plain type is empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start =
            NonNull::new(start.cast::<T>()).ok_or_else(|| refused(what, layout.size() as u64))?;
        Ok(Self { start, length, owner: Owner::Heap(layout) })
    }

    pub(in crate::subtree) fn anonymous(
        what: &'static str,
        length: usize,
        huge: HugePages,
    ) -> Result<Self> {
        let mapping = Mapping::anonymous(byte_length::<T>(what, length)?, huge)?;
        Ok(Self::over(mapping, length, false))
    }

    pub(in crate::subtree) fn in_file(
        what: &'static str,
        dir: &Path,
        length: usize,
        options: &MappingOptions,
    ) -> Result<Self> {
        let bytes = byte_length::<T>(what, length)?;
        Ok(Self::over(Mapping::unlinked_file(dir, bytes, options)?, length, true))
    }

    /// As `in_file`, with all pages there.
    pub(in crate::subtree) fn touched_in_file(
        what: &'static str,
        dir: &Path,
        length: usize,
        options: &MappingOptions,
    ) -> Result<Self> {
        let bytes = byte_length::<T>(what, length)?;
        Ok(Self::over(Mapping::touched_file(dir, bytes, options)?, length, true))
    }

    fn over(mapping: Mapping, length: usize, in_file: bool) -> Self {
        debug_assert!(mapping.len() >= length * size_of::<T>(), "the mapping holds the array");
        // SAFETY: a mapping does not start at address 0.
        let start = unsafe { NonNull::new_unchecked(mapping.as_mut_ptr().cast::<T>()) };
        debug_assert!(start.is_aligned(), "pages are aligned to more than any element");
        Self { start, length, owner: Owner::Pages { mapping, in_file } }
    }

    pub(in crate::subtree) fn is_in_file(&self) -> bool {
        matches!(self.owner, Owner::Pages { in_file: true, .. })
    }

    /// Faults the elements of `from..to` in ahead of use. False where the system cannot.
    pub(in crate::subtree) fn populate(&self, from: usize, to: usize) -> bool {
        match &self.owner {
            Owner::Heap(_) => false,
            Owner::Pages { mapping, .. } => {
                let byte = |element: usize| element.min(self.length) * size_of::<T>();
                mapping.populate(byte(from)..byte(to))
            }
        }
    }

    pub(in crate::subtree) fn as_ptr(&self) -> *const T {
        self.start.as_ptr()
    }

    pub(in crate::subtree) fn as_mut_ptr(&mut self) -> *mut T {
        self.start.as_ptr()
    }
}

impl<T: Plain> std::ops::Deref for PlainArray<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `length` elements from `start` are ours, aligned and initialised (zero at first).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T: Plain> std::ops::DerefMut for PlainArray<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in deref; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T: Plain> Drop for PlainArray<T> {
    fn drop(&mut self) {
        if let Owner::Heap(layout) = self.owner {
            // SAFETY: allocated in `heap` with this layout and freed only here.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

fn byte_length<T>(what: &'static str, length: usize) -> Result<u64> {
    if length == 0 {
        return Err(Error::InvalidArgument(format!("{what} of capacity 0")));
    }
    let bytes = length.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok());
    bytes.map(|bytes| bytes as u64).ok_or_else(|| refused(what, u64::MAX))
}

fn refused(what: &'static str, bytes: u64) -> Error {
    Error::OutOfMemory { what, bytes, available: u64::MAX }
}

/// An empty vector with room for exactly `length` elements, or an error instead of an abort.
pub(crate) fn reserved_vec<T>(what: &'static str, length: usize) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(length)
        .map_err(|_| refused(what, (length as u64).saturating_mul(size_of::<T>() as u64)))?;
    Ok(vec)
}
