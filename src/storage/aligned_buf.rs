//! Heap memory at an address that direct I/O accepts.
#![expect(unsafe_code, reason = "an allocation with an alignment that Vec cannot ask for")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::{Error, Result};

/// Smallest alignment handed out: a page, which satisfies every common device.
const ALIGNMENT_MIN: usize = 4096;

/// A zeroed heap buffer of fixed length whose address is a multiple of its alignment.
///
/// ```
/// use blocktier::storage::AlignedBuf;
/// let mut buf = AlignedBuf::zeroed(8192, 512)?;
/// buf[0] = 1;
/// assert_eq!(buf.as_ptr() as usize % 4096, 0);
/// assert_eq!(buf.len(), 8192);
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug)]
pub struct AlignedBuf {
    address: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the buffer owns its bytes and has no interior mutability.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; `&AlignedBuf` only gives `&[u8]`.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// `len` zero bytes, aligned to `alignment` or 4096, whichever is larger.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `len` is 0 or `alignment` no power of two,
    /// [`Error::OutOfMemory`] if the system has no such memory.
    pub fn zeroed(len: usize, alignment: usize) -> Result<Self> {
        let layout = Layout::from_size_align(len, alignment.max(ALIGNMENT_MIN))
            .ok()
            .filter(|layout| layout.size() != 0)
            .ok_or_else(|| {
                Error::InvalidArgument(format!("no buffer of {len} bytes aligned to {alignment}"))
            })?;
        // SAFETY: the layout's size is not 0.
        let address = unsafe { alloc_zeroed(layout) };
        let address = NonNull::new(address).ok_or(Error::OutOfMemory {
            what: "I/O buffer",
            bytes: len as u64,
            available: u64::MAX,
        })?;
        Ok(Self { address, layout })
    }

    /// What the buffer's address is a multiple of.
    #[must_use]
    pub const fn alignment(&self) -> usize {
        self.layout.align()
    }
}

impl std::ops::Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the allocation has this many initialized bytes and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.layout.size()) }
    }
}

impl std::ops::DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` excludes every other reference.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.layout.size()) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.address.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_writable() {
        for alignment in [1, 512, 4096, 65_536] {
            let mut buf = AlignedBuf::zeroed(12_288, alignment).unwrap();
            assert_eq!(buf.as_ptr() as usize % alignment.max(4096), 0);
            assert!(buf.iter().all(|&byte| byte == 0));
            buf.fill(7);
            assert_eq!(buf[12_287], 7);
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert!(matches!(AlignedBuf::zeroed(0, 512), Err(Error::InvalidArgument(_))));
        assert!(matches!(AlignedBuf::zeroed(512, 3 << 12), Err(Error::InvalidArgument(_))));
        assert!(matches!(AlignedBuf::zeroed(usize::MAX, 1), Err(Error::InvalidArgument(_))));
        let huge = AlignedBuf::zeroed(1 << 62, 4096);
        assert!(matches!(huge, Err(Error::OutOfMemory { available: u64::MAX, .. })), "{huge:?}");
    }
}
