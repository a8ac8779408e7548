//! What a call has on the heap at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting what each thread has.
struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn added(size: usize) {
    // A thread that is going away has no cells any more, and no test looks at it.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + size);
        PEAK.with(|peak| peak.set(peak.get().max(live.get())));
    });
}

fn removed(size: usize) {
    // What another thread has made is not counted here.
    let _ = LIVE.try_with(|live| live.set(live.get().saturating_sub(size)));
}

#[expect(unsafe_code, reason = "an allocator that measures")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        added(layout.size());
        // SAFETY: the caller's promise is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        added(layout.size());
        // SAFETY: the caller's promise is ours.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while the content moves.
        added(size);
        removed(layout.size());
        // SAFETY: the caller's promise is ours.
        unsafe { System.realloc(start, layout, size) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        removed(layout.size());
        // SAFETY: the caller's promise is ours.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result of `load`, and what this thread had on the heap at most meanwhile, in bytes, beside
/// what it had before.
pub fn peak<T>(load: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = load();
    (result, PEAK.get() - before)
}

/// Runs `load` and checks that it had no more than `bytes` on the heap at any time.
pub fn within<T>(bytes: usize, what: &str, load: impl FnOnce() -> T) -> T {
    let (result, peak) = peak(load);
    assert!(peak <= bytes, "{what}: {peak} bytes on the heap, where {bytes} are allowed");
    result
}
