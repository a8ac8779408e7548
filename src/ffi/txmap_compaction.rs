//! The transaction map: compacting now, and how long writers wait for compaction.

use std::ffi::c_char;
use std::time::Duration;

use super::guard::{self, OK};
use super::status::{blocktier_error_t, blocktier_status_t};
use super::txmap::{blocktier_txmap_t, on_map};
use crate::diskmap::compaction::{Backpressure, Thresholds};

/// What a write would meet now.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_backpressure_t {
    /// With state 1: how long a write is delayed, in nanoseconds.
    pub delay_nanos: u64,
    /// 0 nothing, 1 a delay, 2 waiting until compaction is less behind.
    pub state: u32,
    /// 0.
    pub reserved: u32,
}

/// Compacts now, on the calling thread and at any rate, until the settings find nothing more to
/// merge among the segments that are complete at the call; that can take as long as reading and
/// writing what is live in them. CORRUPT or IO if a segment could not be read: it is left alone and
/// the rest was merged. DISK_FULL without room for a merge, TIMED_OUT without room in the tail.
/// UNSUPPORTED for a map that cannot be compacted, FROZEN for what a rotation returned. Nothing is
/// lost by any of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_compact(
    map: *const blocktier_txmap_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle.
    unsafe {
        on_map(map, error, |map| {
            map.compact()?;
            OK
        })
    }
}

/// Changes settings of compaction: `settings` is lines of `key = value` as in an open's settings,
/// with those alone that are to change (txMapCompaction...). A merge under way goes on as it was
/// begun, unless compaction is switched off; writers that wait are judged anew. They are this
/// process's and are not kept in the map's files. SETTING for what is out of range, contradicts
/// itself or is none of compaction's, FROZEN for what a rotation returned; nothing has changed
/// then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_set_compaction(
    map: *const blocktier_txmap_t,
    settings: *const c_char,
    settings_length: usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `settings` has as many bytes.
    unsafe {
        on_map(map, error, |map| {
            let text = guard::text(settings, settings_length, "settings")?;
            map.change_compaction(text)?;
            OK
        })
    }
}

/// Changes from how many pending bytes on writers are delayed, the more the closer to
/// `stop_bytes`, and from how many on they wait; 0 is never. `max_delay_ms` is the longest delay.
/// Writers that wait now are judged anew. It changes the three settings that say so
/// (txMapCompactionSlowdown, txMapCompactionStop, txMapCompactionMaxDelay), with the errors of
/// blocktier_txmap_set_compaction.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_set_backpressure(
    map: *const blocktier_txmap_t,
    slowdown_bytes: u64,
    stop_bytes: u64,
    max_delay_ms: u64,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle.
    unsafe {
        on_map(map, error, |map| {
            let set = |bytes| Some(bytes).filter(|bytes| *bytes > 0);
            map.set_backpressure(Thresholds {
                slowdown: set(slowdown_bytes),
                stop: set(stop_bytes),
                max_delay: Duration::from_millis(max_delay_ms),
            })?;
            OK
        })
    }
}

/// What a write would meet now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_backpressure(
    map: *const blocktier_txmap_t,
    out: *mut blocktier_backpressure_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `out` is memory for one.
    unsafe {
        on_map(map, error, |map| {
            let (state, delay) = match map.backpressure() {
                Backpressure::None => (0, Duration::ZERO),
                Backpressure::Slowdown(delay) => (1, delay),
                Backpressure::Stop => (2, Duration::ZERO),
            };
            let delay_nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
            let now = blocktier_backpressure_t { delay_nanos, state, reserved: 0 };
            guard::output(out, "out", now)?;
            OK
        })
    }
}
