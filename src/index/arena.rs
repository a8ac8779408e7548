//! The memory of an index: anonymous mappings that grow in chunks and go with the index.
//!
//! Nothing is handed back earlier. A reader that races with a split may still follow a word it
//! read a moment ago; it must find memory there, if only to see that the shard's version moved.
//! For the same reason memory never changes its kind: what once held page words (addresses) never
//! holds anything else.
//!
//! Chunks start small, so that a small index costs little, and grow with what is there. Every chunk
//! is taken from the account (`MemoryReserve`) before it is mapped. Allocation takes a lock; it
//! happens when a page is made, not per entry.
#![expect(unsafe_code, reason = "maps anonymous memory")]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::IndexOptions;
use super::ahead::Spare;
use crate::events::EventRing;
use crate::memory::{MemoryReserve, Prepare, no_explicit_pages};
use crate::storage::HugePages;
use crate::storage::mapping::map_reserved;
use crate::{Error, Result};

/// All allocations are multiples of a cache line and aligned to it.
pub(super) const LINE_BYTES: usize = 64;
const FIRST_CHUNK_BYTES: usize = 256 << 10;
const CHUNK_BYTES_MAX: usize = 64 << 20;
/// A new chunk is this share of the memory so far: what is mapped and unused stays below it.
const CHUNK_SHARE: usize = 32;
pub(super) const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Arenas of this size take huge pages where they are wanted.
pub(super) const HUGE_FROM_BYTES: usize = 8 << 20;
const PAGE_BYTES: usize = 4096;
const WHAT: &str = "index";

pub(super) struct Arena {
    reserve: Option<Arc<dyn MemoryReserve>>,
    /// Bytes at most; 0: no limit of its own.
    cap_bytes: u64,
    huge_pages: HugePages,
    events: Option<Arc<EventRing>>,
    pub(super) preparer: Option<Arc<dyn Prepare>>,
    pub(super) own: Weak<Self>,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    chunks: Vec<Chunk>,
    /// Unused part of the chunk that small allocations come from.
    next: usize,
    end: usize,
    /// The chunk that comes after that one, if it is prepared.
    pub(super) spare: Spare,
    pub(super) mapped_bytes: usize,
    /// Taken from the account: the chunks and what was charged for memory elsewhere.
    reserved_bytes: u64,
}

struct Chunk {
    address: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: the mappings belong to the arena alone; the state is behind a lock.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena without memory.
    pub fn new(options: &IndexOptions) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            reserve: options.reserve.clone(),
            cap_bytes: options.cap_bytes,
            huge_pages: options.huge_pages,
            events: options.events.clone(),
            preparer: options.preparer.clone(),
            own: Weak::clone(own),
            state: Mutex::default(),
        })
    }

    #[cfg(test)]
    pub fn prepared_by(
        preparer: Option<Arc<dyn Prepare>>,
        reserve: Option<Arc<dyn MemoryReserve>>,
        huge_pages: bool,
    ) -> Arc<Self> {
        let huge_pages = if huge_pages { HugePages::Transparent } else { HugePages::Off };
        Self::new(&IndexOptions { preparer, reserve, huge_pages, ..IndexOptions::default() })
    }

    /// Zeroed memory of `bytes`, aligned to a cache line, that lives as long as the arena.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; nothing has changed then.
    pub fn allocate(&self, bytes: usize) -> Result<NonNull<u8>> {
        let bytes = bytes
            .checked_next_multiple_of(LINE_BYTES)
            .filter(|&bytes| bytes <= isize::MAX as usize / 2)
            .ok_or_else(|| out_of_memory(bytes))?;
        let mut state = self.state.lock();
        let mut wants_spare = false;
        if state.end - state.next < bytes {
            let wanted = self.chunk_bytes(state.mapped_bytes);
            if bytes >= wanted {
                // A piece as large as a chunk gets its own; the open one goes on.
                return self.map(&mut state, bytes.next_multiple_of(PAGE_BYTES));
            }
            self.next_chunk(&mut state, wanted, bytes)?;
            wants_spare = self.wants_spare(&mut state);
        }
        let start = state.next;
        state.next += bytes;
        drop(state);
        if wants_spare {
            self.ask_for_spare();
        }
        NonNull::new(std::ptr::with_exposed_provenance_mut(start))
            .ok_or_else(|| out_of_memory(bytes))
    }

    /// Goes on in the prepared chunk, or in one that is made now.
    fn next_chunk(
        &self,
        state: &mut MutexGuard<'_, State>,
        wanted: usize,
        needed: usize,
    ) -> Result<()> {
        loop {
            if let Some((start, end)) = state.spare.take_for(needed) {
                (state.next, state.end) = (start, end);
                return Ok(());
            }
            let outcome = self.open_chunk(state, wanted, needed);
            if outcome.is_ok() || state.spare != Spare::Wanted {
                return outcome;
            }
            // What there was is being prepared for this arena.
            MutexGuard::unlocked(state, std::thread::yield_now);
            if state.end - state.next >= needed {
                return Ok(());
            }
        }
    }

    /// Takes `bytes` from the account for memory that the index holds outside of the arena.
    pub fn charge(&self, bytes: u64) -> Result<()> {
        let mut state = self.state.lock();
        self.take(&state, bytes)?;
        state.reserved_bytes += bytes;
        Ok(())
    }

    /// Faults in what is mapped so far, as far as the kernel helps.
    pub fn populate(&self) {
        for chunk in &self.state.lock().chunks {
            touch(chunk.address, chunk.bytes);
        }
    }

    /// Bytes taken from the account: chunks (touched or not) and charges.
    pub fn reserved_bytes(&self) -> u64 {
        self.state.lock().reserved_bytes
    }

    /// How large the next chunk is: from a certain size on, not less than a huge page.
    pub(super) fn chunk_bytes(&self, mapped_bytes: usize) -> usize {
        let least = if self.huge_pages != HugePages::Off && mapped_bytes >= HUGE_FROM_BYTES {
            HUGE_PAGE_BYTES
        } else {
            FIRST_CHUNK_BYTES
        };
        let bytes = (mapped_bytes / CHUNK_SHARE).clamp(least, CHUNK_BYTES_MAX);
        self.whole_pages(bytes.next_multiple_of(PAGE_BYTES))
    }

    /// Opens a chunk of `wanted` bytes, or of as little as `needed` where there is not more.
    fn open_chunk(&self, state: &mut State, wanted: usize, needed: usize) -> Result<()> {
        let least = needed.next_multiple_of(PAGE_BYTES);
        let mut bytes = wanted.max(least);
        let start = loop {
            match self.map(state, bytes) {
                Ok(start) => break start,
                Err(_) if bytes > least => {
                    bytes = (bytes / 2).next_multiple_of(PAGE_BYTES).max(least);
                }
                Err(error) => return Err(error),
            }
        };
        state.next = start.as_ptr().expose_provenance();
        state.end = state.next + bytes;
        Ok(())
    }

    pub(super) fn map(&self, state: &mut State, bytes: usize) -> Result<NonNull<u8>> {
        state.chunks.try_reserve(1).map_err(|_| out_of_memory(bytes))?;
        let bytes = self.whole_pages(bytes);
        self.take(state, bytes as u64)?;
        let Some(address) = self.map_zeroed(bytes) else {
            self.give_back(bytes as u64);
            return Err(out_of_memory(bytes));
        };
        state.chunks.push(Chunk { address, bytes });
        state.mapped_bytes += bytes;
        state.reserved_bytes += bytes as u64;
        Ok(address.cast())
    }

    /// Where reserved huge pages are wanted, a piece that is worth one is made of whole ones.
    fn whole_pages(&self, bytes: usize) -> usize {
        if self.huge_pages == HugePages::Explicit && bytes >= HUGE_PAGE_BYTES {
            bytes.next_multiple_of(HUGE_PAGE_BYTES)
        } else {
            bytes
        }
    }

    fn map_zeroed(&self, bytes: usize) -> Option<NonNull<c_void>> {
        let huge = self.huge_pages != HugePages::Off && bytes >= HUGE_PAGE_BYTES;
        if huge && self.huge_pages == HugePages::Explicit {
            if let Some((address, mapped)) = map_reserved(bytes) {
                debug_assert_eq!(mapped, bytes);
                return Some(address.cast());
            }
            if let Some(events) = &self.events {
                no_explicit_pages(events, WHAT, bytes as u64);
            }
        }
        map_zeroed(bytes, huge)
    }

    /// Takes and touches `bytes` now; they are used before any other memory is.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; nothing was taken then.
    pub fn make_ready(&self, bytes: u64) -> Result<()> {
        let wanted = usize::try_from(bytes).ok().and_then(|bytes| {
            bytes.checked_next_multiple_of(PAGE_BYTES).filter(|&bytes| bytes <= isize::MAX as usize)
        });
        let wanted = wanted.ok_or_else(|| out_of_memory(usize::MAX))?;
        let start = self.map(&mut self.state.lock(), wanted)?;
        self.touch_all(start, wanted);
        let start = start.as_ptr().expose_provenance();
        self.state.lock().spare = Spare::Ready { start, end: start + wanted };
        Ok(())
    }

    /// Takes from the cap, and from the account.
    fn take(&self, state: &State, bytes: u64) -> Result<()> {
        let available = self.cap_bytes.saturating_sub(state.reserved_bytes);
        if self.cap_bytes > 0 && bytes > available {
            let what = "the index, within txMapIndexCap";
            return Err(Error::OutOfMemory { what, bytes, available });
        }
        self.reserve.as_ref().map_or(Ok(()), |reserve| reserve.reserve(WHAT, bytes))
    }

    fn give_back(&self, bytes: u64) {
        if let Some(reserve) = &self.reserve {
            reserve.release(bytes);
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let state = std::mem::take(self.state.get_mut());
        for chunk in &state.chunks {
            // SAFETY: mapped by `map` with this size; whoever borrowed from it is gone.
            let unmapped = unsafe { munmap(chunk.address.as_ptr(), chunk.bytes) };
            debug_assert!(unmapped.is_ok(), "unmapping what was mapped: {unmapped:?}");
        }
        if state.reserved_bytes > 0 {
            self.give_back(state.reserved_bytes);
        }
    }
}

/// Faults in a part of a mapping of ours, as far as the kernel helps.
pub(super) fn touch(address: NonNull<c_void>, bytes: usize) {
    // SAFETY: advice about a mapping of ours; it does not change what it contains.
    let _ = unsafe { madvise(address.as_ptr(), bytes, Advice::LinuxPopulateWrite) };
}

/// Maps zeroed memory; for huge pages aligned to them, so that the first one is huge too.
fn map_zeroed(bytes: usize, huge: bool) -> Option<NonNull<c_void>> {
    let spare = if huge { HUGE_PAGE_BYTES } else { 0 };
    let total = bytes.checked_add(spare)?;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice.
    let mapped = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            total,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    let start = mapped.ok()?;
    let head = if huge { start.align_offset(HUGE_PAGE_BYTES).min(spare) } else { 0 };
    let address = start.wrapping_byte_add(head);
    if huge {
        trim(start, head);
        trim(address.wrapping_byte_add(bytes), spare - head);
        // A hint: where the system refuses, ordinary pages serve.
        // SAFETY: advice about a mapping of ours; it does not change what it contains.
        let _ = unsafe { madvise(address, bytes, Advice::LinuxHugepage) };
    }
    NonNull::new(address)
}

/// Unmaps a part that was mapped only for the alignment.
fn trim(start: *mut c_void, bytes: usize) {
    if bytes > 0 {
        // SAFETY: whole pages of a mapping just made, that nothing refers to.
        let unmapped = unsafe { munmap(start, bytes) };
        debug_assert!(unmapped.is_ok(), "unmapping what was mapped: {unmapped:?}");
    }
}

fn out_of_memory(bytes: usize) -> Error {
    Error::OutOfMemory { what: WHAT, bytes: bytes as u64, available: u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[derive(Debug)]
    struct Account {
        left: AtomicU64,
        calls: AtomicU64,
    }

    impl MemoryReserve for Account {
        fn reserve(&self, what: &'static str, bytes: u64) -> Result<()> {
            self.calls.fetch_add(1, Relaxed);
            let left = self.left.load(Relaxed);
            let rest = left.checked_sub(bytes);
            self.left.store(rest.unwrap_or(left), Relaxed);
            rest.map(|_| ()).ok_or(Error::OutOfMemory { what, bytes, available: left })
        }
        fn release(&self, bytes: u64) {
            self.left.fetch_add(bytes, Relaxed);
        }
    }

    fn account(left: u64) -> Arc<Account> {
        Arc::new(Account { left: left.into(), calls: 0.into() })
    }

    #[test]
    fn pieces_are_zero_aligned_and_apart() {
        for huge_pages in [false, true] {
            let arena = Arena::prepared_by(None, None, huge_pages);
            let mut pieces = Vec::new();
            for bytes in [1, 64, 65, 11_000, 300_000, 3 << 20, 640, 5 << 20] {
                let place = arena.allocate(bytes).unwrap();
                assert_eq!(place.as_ptr() as usize % LINE_BYTES, 0);
                // SAFETY: freshly allocated, of this size.
                let piece = unsafe { std::slice::from_raw_parts_mut(place.as_ptr(), bytes) };
                assert!(piece.iter().all(|&byte| byte == 0));
                piece.fill(pieces.len() as u8 + 1);
                pieces.push(piece);
            }
            for (i, piece) in pieces.iter().enumerate() {
                assert!(piece.iter().all(|&byte| byte == i as u8 + 1), "piece {i}");
            }
        }
    }

    #[test]
    fn small_arenas_stay_small_and_large_ones_waste_little() {
        for huge_pages in [false, true] {
            let arena = Arena::prepared_by(None, None, huge_pages);
            let _ = arena.allocate(640).unwrap();
            assert_eq!(arena.reserved_bytes(), FIRST_CHUNK_BYTES as u64);
            let mut used = 640;
            while used < 64 << 20 {
                let _ = arena.allocate(11_584).unwrap();
                used += 11_584;
            }
            let small = arena.state.lock().chunks.iter().filter(|c| c.bytes < 2 << 20).count();
            assert_eq!(small < 40, huge_pages, "{small} chunks without huge pages");
            assert!(arena.reserved_bytes() < used * 104 / 100, "{}", arena.reserved_bytes());
        }
    }

    #[test]
    fn the_account_is_asked_first_and_gets_everything_back() {
        let account = account(1 << 20);
        let arena = Arena::prepared_by(None, Some(account.clone()), false);
        arena.charge(1_000).unwrap();
        while arena.allocate(12_000).is_ok() {}
        // Chunks shrink towards the end: what is left does not hold one more piece.
        assert!(account.left.load(Relaxed) < 12_288, "{account:?}");
        assert_eq!(arena.reserved_bytes() + account.left.load(Relaxed), 1 << 20);
        let before = (account.left.load(Relaxed), account.calls.load(Relaxed));
        assert!(matches!(arena.allocate(usize::MAX), Err(Error::OutOfMemory { .. })));
        assert!(matches!(arena.allocate(1 << 40), Err(Error::OutOfMemory { .. })));
        assert_eq!(account.left.load(Relaxed), before.0);
        drop(arena);
        assert_eq!(account.left.load(Relaxed), 1 << 20);
    }

    #[test]
    fn a_refusal_of_the_system_gives_the_reservation_back() {
        let account = account(u64::MAX);
        let arena = Arena::prepared_by(None, Some(account.clone()), false);
        // More than the address space holds, but not more than the account.
        assert!(matches!(arena.allocate(1 << 60), Err(Error::OutOfMemory { .. })));
        assert_eq!(account.calls.load(Relaxed), 1);
        assert_eq!(account.left.load(Relaxed), u64::MAX);
    }
}
