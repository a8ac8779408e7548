//! Memory that ends where no access is allowed any more, for tests of kernels.
#![expect(unsafe_code, reason = "a mapping with a page that may not be touched")]

use std::ffi::c_void;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

const PAGE: usize = 65_536;

pub(super) struct Edge(*mut c_void);

impl Edge {
    pub(super) fn new() -> Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping of three "pages", of which the outer ones lose their access.
        unsafe {
            let start =
                mmap_anonymous(std::ptr::null_mut(), 3 * PAGE, access, MapFlags::PRIVATE).unwrap();
            mprotect(start, PAGE, MprotectFlags::empty()).unwrap();
            mprotect(start.add(2 * PAGE), PAGE, MprotectFlags::empty()).unwrap();
            Self(start)
        }
    }

    /// The first `length` bytes behind the lower edge.
    pub(super) fn first(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= PAGE);
        // SAFETY: inside the middle "page", borrowed from `self`.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(PAGE).cast::<u8>(), length) }
    }

    /// The last `length` bytes before the upper edge.
    pub(super) fn last(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= PAGE);
        // SAFETY: inside the middle "page", borrowed from `self`.
        unsafe {
            std::slice::from_raw_parts_mut(self.0.add(2 * PAGE - length).cast::<u8>(), length)
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, to which no borrow is left.
        unsafe { munmap(self.0, 3 * PAGE).unwrap() };
    }
}
