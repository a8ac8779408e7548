//! A map as a C program holds it.

use std::ffi::c_char;
use std::path::Path;
use std::ptr::{null, null_mut};

use blocktier::ffi::blocktier_status_t as Status;
use blocktier::ffi::*;

pub const OK: Status = Status::BLOCKTIER_OK;

pub fn no_error() -> blocktier_error_t {
    blocktier_error_t { status: -1, os_errno: 0, detail: 0, text_length: 0, text: [0; 240] }
}

pub fn text_of(error: &blocktier_error_t) -> String {
    String::from_utf8(error.text[..error.text_length as usize].to_vec()).unwrap()
}

/// A runtime and a map of their own, closed on drop.
pub struct Fixture<D> {
    pub runtime: *mut blocktier_runtime_t,
    pub map: *mut blocktier_txmap_t,
    /// What closing the map must return.
    pub closes_with: Status,
    _dir: D,
}

impl<D: AsRef<Path>> Fixture<D> {
    pub fn new(dir: D, settings: &str) -> Self {
        let text = format!("txMapDirs = {}\n{settings}", dir.as_ref().display());
        let (mut runtime, mut map) = (null_mut(), null_mut());
        let mut error = no_error();
        // SAFETY: all pointers are to live locals of the right type and length.
        unsafe {
            let status = blocktier_runtime_open(null(), 0, &raw mut runtime, &raw mut error);
            assert_eq!(status, OK, "{}", text_of(&error));
            let settings = text.as_ptr().cast::<c_char>();
            let status =
                blocktier_txmap_open(runtime, settings, text.len(), &raw mut map, &raw mut error);
            assert_eq!(status, OK, "{}", text_of(&error));
        }
        Self { runtime, map, closes_with: OK, _dir: dir }
    }

    pub fn insert(&self, key: &[u8; 32], value: &[u8], flags: u32) -> (Status, blocktier_lookup_t) {
        let mut result = blocktier_lookup_t::default();
        // SAFETY: as above.
        let status = unsafe {
            blocktier_txmap_set_if_not_exists(
                self.map,
                key.as_ptr(),
                value.as_ptr(),
                value.len(),
                7,
                flags,
                null_mut(),
                0,
                &raw mut result,
                null_mut(),
            )
        };
        (status, result)
    }
}

impl<D> Drop for Fixture<D> {
    fn drop(&mut self) {
        // SAFETY: the handles are live and nobody uses them any more.
        unsafe {
            assert_eq!(blocktier_txmap_close(self.map, null_mut()), self.closes_with);
            assert_eq!(blocktier_runtime_close(self.runtime, null_mut()), OK);
        }
    }
}
