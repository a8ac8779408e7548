//! The runtime: what a process has once.

use std::ffi::c_char;

use super::guard::{self, Guarded, HandleKind, OK, Outcome};
use super::status::{blocktier_error_t, blocktier_status_t};
use crate::runtime::Runtime;
use crate::settings::RuntimeSettings;

/// Disks and their writer threads, memory budget, events. All calls on it may run concurrently.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in the C header")]
pub struct blocktier_runtime_t(Guarded<Runtime>);

guard::handle!(blocktier_runtime_t, Runtime);

/// Figures of a runtime.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_runtime_stats_t {
    /// Bytes that maps, arrays and levels have reserved.
    pub memory_used: u64,
    /// The budget, in bytes.
    pub memory_limit: u64,
    /// Directories with a writer thread.
    pub disks: u64,
    /// Events that were dropped because nobody drained them.
    pub events_dropped: u64,
}

/// Bytes of a directory's path in its figures.
pub const BLOCKTIER_PATH_BYTES: usize = 256;

/// Figures of one directory since the process first used it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_disk_stats_t {
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Jobs that wait for the writer thread.
    pub queued_jobs: u64,
    /// Nanoseconds the writer thread has been busy.
    pub busy_nanos: u64,
    /// Bytes of path that are filled in; a longer path is cut.
    pub path_length: u64,
    /// The directory, UTF-8, not NUL-terminated.
    pub path: [u8; BLOCKTIER_PATH_BYTES],
}

/// Opens a runtime from settings: UTF-8 text of lines `key = value` (docs/settings.md), not
/// NUL-terminated.
///
/// On success `*out` is a handle that must be given to blocktier_runtime_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_runtime_open(
    settings: *const c_char,
    settings_length: usize,
    out: *mut *mut blocktier_runtime_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        guard::not_null(out, "out")?;
        // SAFETY: the caller's promise for text.
        let text = unsafe { guard::text(settings, settings_length, "settings") }?;
        let runtime = Runtime::open(&RuntimeSettings::parse(text)?)?;
        let handle = blocktier_runtime_t(Guarded::new(HandleKind::Runtime, runtime));
        // SAFETY: not null, memory for one pointer.
        unsafe { out.write(Box::into_raw(Box::new(handle))) };
        OK
    })
}

/// Closes a runtime. What was made from it keeps what it needs alive. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_runtime_close(
    runtime: *mut blocktier_runtime_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller gives the handle up.
    unsafe { guard::close(runtime, error, |_| OK) }
}

/// Fills in the runtime's figures.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_runtime_stats(
    runtime: *const blocktier_runtime_t,
    out: *mut blocktier_runtime_stats_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `out` is memory for one struct.
    unsafe {
        guard::call_on(runtime, error, |runtime| {
            let stats = blocktier_runtime_stats_t {
                memory_used: runtime.budget().used(),
                memory_limit: runtime.budget().limit(),
                disks: runtime.disks().len() as u64,
                events_dropped: runtime.events().dropped(),
            };
            guard::output(out, "out", stats)?;
            OK
        })
    }
}

/// Takes the oldest event (a fallback that was taken, a failure) as UTF-8 text, cut to `capacity`
/// bytes; NOT_FOUND when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_runtime_next_event(
    runtime: *const blocktier_runtime_t,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; buffer and length are the caller's.
    unsafe {
        guard::call_on(runtime, error, |runtime| {
            guard::not_null(length, "length")?;
            let buffer = guard::slice_mut(buffer.cast::<u8>(), capacity, "buffer")?;
            let Some(event) = runtime.events().pop() else {
                return Ok(blocktier_status_t::BLOCKTIER_NOT_FOUND);
            };
            let end = event.text.floor_char_boundary(buffer.len());
            buffer[..end].copy_from_slice(&event.text.as_bytes()[..end]);
            guard::output(length, "length", end)?;
            OK
        })
    }
}

/// Figures of the directory with this number, from 0 in the order of first use; NOT_FOUND behind
/// the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_runtime_disk_stats(
    runtime: *const blocktier_runtime_t,
    number: usize,
    out: *mut blocktier_disk_stats_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `out` is memory for one struct.
    unsafe {
        guard::call_on(runtime, error, |runtime| {
            let disks = runtime.disks();
            let Some(disk) = disks.get(number) else {
                return Ok(blocktier_status_t::BLOCKTIER_NOT_FOUND);
            };
            let stats = disk.stats().snapshot();
            let text = disk.dir().to_string_lossy();
            let end = text.floor_char_boundary(BLOCKTIER_PATH_BYTES);
            let mut path = [0; BLOCKTIER_PATH_BYTES];
            path[..end].copy_from_slice(&text.as_bytes()[..end]);
            let stats = blocktier_disk_stats_t {
                bytes_written: stats.bytes_written,
                bytes_read: stats.bytes_read,
                writes: stats.writes,
                reads: stats.reads,
                write_errors: stats.write_errors,
                queued_jobs: stats.queued_jobs,
                busy_nanos: stats.busy_nanos,
                path_length: end as u64,
                path,
            };
            guard::output(out, "out", stats)?;
            OK
        })
    }
}

/// The runtime behind a handle, for calls that make something from it.
///
/// # Safety
/// `runtime` is null or a live handle.
pub(super) unsafe fn with_runtime(
    runtime: *const blocktier_runtime_t,
    error: *mut blocktier_error_t,
    body: impl FnOnce(&Runtime) -> Outcome,
) -> blocktier_status_t {
    // SAFETY: the caller's promise.
    unsafe { guard::call_on(runtime, error, body) }
}
