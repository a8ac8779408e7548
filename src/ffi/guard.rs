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
    Cursor = 4,
    Transfer = 5,
    Check = 6,
    SubtreeDirectory = 7,
}

static LIVE: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

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
    if !error.is_aligned() {
        // There is no place to say more.
        return blocktier_status_t::BLOCKTIER_INVALID_ARGUMENT;
    }
    finish(error, catch_unwind(AssertUnwindSafe(body)), None)
}

/// Runs an entry on a handle: null, alignment and poison are checked, a panic poisons it.
///
/// # Safety
/// `handle` is null, misaligned or points to a live handle.
pub(super) unsafe fn call_on<H: Handle>(
    handle: *const H,
    error: *mut blocktier_error_t,
    body: impl FnOnce(&H::Value) -> Outcome,
) -> blocktier_status_t {
    if let Some(status) = refuse(handle, error) {
        return status;
    }
    // SAFETY: neither null nor misaligned; the rest is the caller's promise.
    let guarded = unsafe { &*handle }.guarded();
    if guarded.poisoned.load(Ordering::Acquire) {
        return poisoned(error);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&guarded.value)));
    finish(error, outcome, Some(&guarded.poisoned))
}

/// As [`call_on`], for entries that change what the handle points to.
///
/// # Safety
/// `handle` is null, misaligned or points to a live handle that nobody else uses during the call.
pub(super) unsafe fn call_on_mut<H: Handle>(
    handle: *mut H,
    error: *mut blocktier_error_t,
    body: impl FnOnce(&mut H::Value) -> Outcome,
) -> blocktier_status_t {
    if let Some(status) = refuse(handle, error) {
        return status;
    }
    // SAFETY: as in `call_on`, and the caller promises exclusive use.
    let guarded = unsafe { &mut *handle }.guarded_mut();
    if guarded.poisoned.load(Ordering::Acquire) {
        return poisoned(error);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&mut guarded.value)));
    finish(error, outcome, Some(&guarded.poisoned))
}

/// A handle that an entry uses beside its own. A panic of the entry poisons it too.
pub(super) struct Beside<'a, T>(&'a Guarded<T>);

impl<T> std::ops::Deref for Beside<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Drop for Beside<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poisoned.store(true, Ordering::Release);
        }
    }
}

/// As [`call_on`] checks its handle.
///
/// # Safety
/// `handle` is null, misaligned or points to a live handle.
pub(super) unsafe fn beside<'a, H: Handle + 'a>(
    handle: *const H,
    name: &'static str,
) -> Result<Beside<'a, H::Value>> {
    not_null(handle, name)?;
    // SAFETY: neither null nor misaligned; the rest is the caller's promise.
    let guarded = unsafe { &*handle }.guarded();
    if guarded.poisoned.load(Ordering::Acquire) {
        return Err(Error::Poisoned(name));
    }
    Ok(Beside(guarded))
}

/// What to return for a handle or an error record whose pointer cannot be one.
fn refuse<H>(handle: *const H, error: *mut blocktier_error_t) -> Option<blocktier_status_t> {
    let usable = error.is_aligned() && !handle.is_null() && handle.is_aligned();
    (!usable).then(|| {
        call(error, || {
            not_null(handle, "the handle")?;
            OK
        })
    })
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

pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown cause".to_owned())
}

fn report(error: *mut blocktier_error_t, make: impl FnOnce() -> blocktier_error_t) {
    if !error.is_null() {
        // SAFETY: aligned, as each entry checks first, and the caller of the entry gave null or
        // memory for one error record.
        unsafe { error.write(make()) };
    }
}

/// A pointer that must not be null and is aligned, as a result so that `?` works in entries.
pub(super) fn not_null<T>(pointer: *const T, name: &'static str) -> Result<*const T> {
    if pointer.is_null() {
        return Err(Error::NullPointer(name));
    }
    nullable(pointer, name)?;
    Ok(pointer)
}

/// A pointer that may be null, else is aligned.
pub(super) fn nullable<T>(pointer: *const T, name: &'static str) -> Result<()> {
    // Null is a multiple of everything.
    if pointer.is_aligned() {
        return Ok(());
    }
    let text = format!("{name} is at {pointer:p}, which is not a multiple of {}", align_of::<T>());
    Err(Error::InvalidArgument(text))
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
    not_null(pointer, name)?;
    let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| isize::try_from(*bytes).is_ok());
    if bytes.is_some() {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("{name}: {count} elements are more than memory has")))
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
    // SAFETY: not null, aligned; the rest is the caller's promise.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Frees a handle made by `Box::into_raw`; poisoned ones too. One that is misaligned is none.
///
/// # Safety
/// `handle` is null, misaligned or a live handle that nobody uses any more.
pub(super) unsafe fn close<H: Handle>(
    handle: *mut H,
    error: *mut blocktier_error_t,
    finish_with: impl FnOnce(H::Value) -> Outcome,
) -> blocktier_status_t {
    if handle.is_null() {
        return blocktier_status_t::BLOCKTIER_OK;
    }
    if !handle.is_aligned() {
        return call(error, || nullable(handle, "the handle").and(OK));
    }
    // The handle goes whatever is returned, so a record that cannot be filled does not keep it.
    let record = if error.is_aligned() { error } else { std::ptr::null_mut() };
    let status = call(record, || {
        // SAFETY: made by `Box::into_raw`, and the caller gives it up.
        let handle = unsafe { Box::from_raw(handle) };
        let Guarded { value, .. } = handle.into_guarded();
        finish_with(value)
    });
    if error.is_aligned() { status } else { blocktier_status_t::BLOCKTIER_INVALID_ARGUMENT }
}

#[cfg(test)]
mod tests {
    use super::super::status::BLOCKTIER_ERROR_TEXT_BYTES;
    use super::*;

    struct Thing(Guarded<u32>);

    handle!(Thing, u32);

    fn thing() -> *mut Thing {
        Box::into_raw(Box::new(Thing(Guarded::new(HandleKind::NodeArray, 5))))
    }

    fn record() -> blocktier_error_t {
        blocktier_error_t::with_text(blocktier_status_t::BLOCKTIER_OK, 0, 0, "")
    }

    #[test]
    fn a_panic_poisons_the_handle_and_closing_still_works() {
        let handle = thing();
        let mut error = record();
        let status = |handle: *mut Thing, error: &mut blocktier_error_t, fail: bool| {
            // SAFETY: the handle is live until it is closed below.
            unsafe {
                call_on(handle.cast_const(), error, |value| {
                    assert!(!fail, "value {value} went wrong");
                    OK
                })
            }
        };
        assert_eq!(status(handle, &mut error, false), blocktier_status_t::BLOCKTIER_OK);
        assert_eq!(status(handle, &mut error, true), blocktier_status_t::BLOCKTIER_PANIC);
        let text = std::str::from_utf8(&error.text[..error.text_length as usize]).unwrap();
        assert!(text.contains("value 5 went wrong"), "{text}");
        assert_eq!(status(handle, &mut error, false), blocktier_status_t::BLOCKTIER_POISONED);
        // SAFETY: as above; nobody else uses the handle.
        let status = unsafe {
            call_on_mut(handle, &raw mut error, |_| unreachable!("a poisoned handle is not used"))
        };
        assert_eq!(status, blocktier_status_t::BLOCKTIER_POISONED);
        let mut closed_with = 0;
        // SAFETY: the handle is given up.
        let status = unsafe {
            close(handle, &raw mut error, |value| {
                closed_with = value;
                OK
            })
        };
        assert_eq!((status, closed_with), (blocktier_status_t::BLOCKTIER_OK, 5));
    }

    #[test]
    fn a_panic_without_a_handle_is_a_status() {
        let mut error = record();
        let status = call(&raw mut error, || std::panic::panic_any(7u32));
        assert_eq!(status, blocktier_status_t::BLOCKTIER_PANIC);
        assert_eq!(error.status, blocktier_status_t::BLOCKTIER_PANIC as i32);
        let status = call(std::ptr::null_mut(), || std::panic::panic_any(7u32));
        assert_eq!(status, blocktier_status_t::BLOCKTIER_PANIC, "without an error record too");
    }

    #[test]
    fn a_misaligned_handle_is_refused_and_a_misaligned_record_does_not_keep_one() {
        let (handle, mut error) = (thing(), record());
        let invalid = blocktier_status_t::BLOCKTIER_INVALID_ARGUMENT;
        let e = &raw mut error;
        let unused = |_: &u32| unreachable!("no handle, no call");
        let mut closed = 0;
        // SAFETY: the handle is live until the last call, whose error record is misaligned.
        unsafe {
            assert_eq!(call_on(handle.wrapping_byte_add(1).cast_const(), e, unused), invalid);
            assert_eq!(close(handle.wrapping_byte_add(1), e, |_| OK), invalid);
            assert_eq!(call_on(handle.cast_const(), e.wrapping_byte_add(1), unused), invalid);
            let status = close(handle, e.wrapping_byte_add(1), |value| {
                closed = value;
                OK
            });
            assert_eq!((status, closed), (invalid, 5));
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let message = "ü".repeat(BLOCKTIER_ERROR_TEXT_BYTES);
        let status = blocktier_status_t::BLOCKTIER_IO;
        let error = blocktier_error_t::with_text(status, 5, 0, &message);
        assert_eq!(error.text_length, 240);
        let error = blocktier_error_t::with_text(status, 5, 0, &format!("x{message}"));
        assert_eq!(error.text_length, 239);
        assert!(std::str::from_utf8(&error.text[..239]).is_ok());
    }
}
