//! What every entry does: check pointers and poison, catch panics, report errors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::status::{blocktier_error_t, blocktier_status_t, status_of};
use crate::{Error, Result};

/// What entries return inside: a status that is no error (OK, NOT_FOUND, BUFFER_TOO_SMALL, ...) or
/// an error.
pub(super) type Outcome = Result<blocktier_status_t>;

/// Shorthand for success.
pub(super) const OK: Outcome = Ok(blocktier_status_t::BLOCKTIER_OK);

/// Kinds of handles, for the live counters.
#[derive(Debug, Clone, Copy)]
pub(super) enum HandleKind {
    Runtime = 0,
    TxMap = 1,
    NodeArray = 2,
    MerkleLevels = 3,
}

static LIVE: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Live handles of a kind; 0 for a kind that does not exist.
pub(super) fn live(kind: u32) -> u64 {
    LIVE.get(kind as usize).map_or(0, |count| count.load(Ordering::SeqCst))
}

/// What a handle points to.
#[derive(Debug)]
pub(super) struct Guarded<T> {
    poisoned: AtomicBool,
    value: T,
    _count: Count,
}

impl<T> Guarded<T> {
    pub(super) fn new(kind: HandleKind, value: T) -> Self {
        LIVE[kind as usize].fetch_add(1, Ordering::SeqCst);
        Self { poisoned: AtomicBool::new(false), value, _count: Count(kind) }
    }
}

/// A struct whose pointer is a handle of the C ABI.
pub(super) trait Handle {
    type Value;

    fn guarded(&self) -> &Guarded<Self::Value>;

    fn guarded_mut(&mut self) -> &mut Guarded<Self::Value>;

    fn into_guarded(self) -> Guarded<Self::Value>;
}

/// Makes a struct of one [`Guarded`] field a handle.
macro_rules! handle {
    ($name:ident, $value:ty) => {
        impl crate::ffi::guard::Handle for $name {
            type Value = $value;

            fn guarded(&self) -> &crate::ffi::guard::Guarded<$value> {
                &self.0
            }

            fn guarded_mut(&mut self) -> &mut crate::ffi::guard::Guarded<$value> {
                &mut self.0
            }

            fn into_guarded(self) -> crate::ffi::guard::Guarded<$value> {
                self.0
            }
        }
    };
}

pub(super) use handle;

/// Counts a handle as live.
#[derive(Debug)]
struct Count(HandleKind);

impl Drop for Count {
    fn drop(&mut self) {
        LIVE[self.0 as usize].fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs an entry that has no handle.
pub(super) fn call(
    error: *mut blocktier_error_t,
    body: impl FnOnce() -> Outcome,
) -> blocktier_status_t {
    finish(error, catch_unwind(AssertUnwindSafe(body)), None)
}

/// Runs an entry on a handle: null and poison are checked, a panic poisons it.
///
/// # Safety
/// `handle` is null or points to a live handle.
pub(super) unsafe fn call_on<H: Handle>(
    handle: *const H,
    error: *mut blocktier_error_t,
    body: impl FnOnce(&H::Value) -> Outcome,
) -> blocktier_status_t {
    // SAFETY: the caller's promise.
    let Some(guarded) = (unsafe { handle.as_ref() }).map(Handle::guarded) else {
        return call(error, || Err(Error::NullPointer("the handle")));
    };
    if guarded.poisoned.load(Ordering::Acquire) {
        return poisoned(error);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&guarded.value)));
    finish(error, outcome, Some(&guarded.poisoned))
}

/// As [`call_on`], for entries that change what the handle points to.
///
/// # Safety
/// `handle` is null or points to a live handle that nobody else uses during the call.
pub(super) unsafe fn call_on_mut<H: Handle>(
    handle: *mut H,
    error: *mut blocktier_error_t,
    body: impl FnOnce(&mut H::Value) -> Outcome,
) -> blocktier_status_t {
    // SAFETY: the caller's promise.
    let Some(guarded) = (unsafe { handle.as_mut() }).map(Handle::guarded_mut) else {
        return call(error, || Err(Error::NullPointer("the handle")));
    };
    if guarded.poisoned.load(Ordering::Acquire) {
        return poisoned(error);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&mut guarded.value)));
    finish(error, outcome, Some(&guarded.poisoned))
}

fn poisoned(error: *mut blocktier_error_t) -> blocktier_status_t {
    let status = blocktier_status_t::BLOCKTIER_POISONED;
    report(error, || {
        let text = "an earlier panic made this object unusable; close it";
        blocktier_error_t::with_text(status, 0, 0, text)
    });
    status
}

fn finish(
    error: *mut blocktier_error_t,
    outcome: std::thread::Result<Outcome>,
    poison: Option<&AtomicBool>,
) -> blocktier_status_t {
    match outcome {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => {
            let status = status_of(&failure);
            report(error, || blocktier_error_t::new(status, &failure));
            status
        }
        Err(panic) => {
            if let Some(poison) = poison {
                poison.store(true, Ordering::Release);
            }
            let message = panic_message(panic.as_ref());
            report(error, || {
                let failure = Error::Panic(message);
                blocktier_error_t::new(blocktier_status_t::BLOCKTIER_PANIC, &failure)
            });
            blocktier_status_t::BLOCKTIER_PANIC
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown cause".to_owned())
}

fn report(error: *mut blocktier_error_t, make: impl FnOnce() -> blocktier_error_t) {
    if !error.is_null() {
        // SAFETY: the caller of the entry gave null or memory for one error record.
        unsafe { error.write(make()) };
    }
}

/// A pointer that must not be null, as an error of its own so that `?` works in entries.
pub(super) fn not_null<T>(pointer: *const T, name: &'static str) -> Result<*const T> {
    if pointer.is_null() {
        return Err(Error::NullPointer(name));
    }
    Ok(pointer)
}

/// `count` elements in caller memory. Length 0 never looks at the pointer.
///
/// # Safety
/// If `count` is not 0, `pointer` is null or points to `count` initialized elements that nobody
/// changes while the result lives.
pub(super) unsafe fn slice<'a, T>(
    pointer: *const T,
    count: usize,
    name: &'static str,
) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check_slice(pointer, count, name)?;
    // SAFETY: not null, aligned, not larger than an object can be; the rest is the caller's
    // promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// As [`slice`], for outputs.
///
/// # Safety
/// If `count` is not 0, `pointer` is null or points to `count` elements that nobody else uses while
/// the result lives.
pub(super) unsafe fn slice_mut<'a, T>(
    pointer: *mut T,
    count: usize,
    name: &'static str,
) -> Result<&'a mut [T]> {
    if count == 0 {
        return Ok(&mut []);
    }
    check_slice(pointer, count, name)?;
    // SAFETY: as in `slice`, and the caller promises exclusive use.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, count) })
}

fn check_slice<T>(pointer: *const T, count: usize, name: &'static str) -> Result<()> {
    let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| isize::try_from(*bytes).is_ok());
    if not_null(pointer, name)?.is_aligned() && bytes.is_some() {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("{name}: {count} elements, or an unaligned pointer")))
}

/// Text in caller memory.
///
/// # Safety
/// As [`slice`].
pub(super) unsafe fn text<'a>(
    pointer: *const std::ffi::c_char,
    bytes: usize,
    name: &'static str,
) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(pointer.cast::<u8>(), bytes, name) }?;
    std::str::from_utf8(bytes).map_err(|_| Error::InvalidArgument(format!("{name} is not UTF-8")))
}

/// Writes an output.
///
/// # Safety
/// `pointer` is null or memory for one `T`.
pub(super) unsafe fn output<T>(pointer: *mut T, name: &'static str, value: T) -> Result<()> {
    not_null(pointer, name)?;
    // SAFETY: not null; the rest is the caller's promise.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Frees a handle made by `Box::into_raw`; poisoned ones too.
///
/// # Safety
/// `handle` is null or a live handle that nobody uses any more.
pub(super) unsafe fn close<H: Handle>(
    handle: *mut H,
    error: *mut blocktier_error_t,
    finish_with: impl FnOnce(H::Value) -> Outcome,
) -> blocktier_status_t {
    if handle.is_null() {
        return blocktier_status_t::BLOCKTIER_OK;
    }
    call(error, || {
        // SAFETY: made by `Box::into_raw`, and the caller gives it up.
        let handle = unsafe { Box::from_raw(handle) };
        let Guarded { value, .. } = handle.into_guarded();
        finish_with(value)
    })
}
