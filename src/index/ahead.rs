//! The next chunk of an arena, mapped and touched before it is needed.
//!
//! Page faults of a fresh chunk would otherwise fall into insertions, under the lock of a shard,
//! some of milliseconds. One chunk ahead is enough: it is asked for when its predecessor is opened,
//! and holds as much as that. If it is not ready in time, the arena does without.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Weak;

use super::arena::{Arena, HUGE_FROM_BYTES, HUGE_PAGE_BYTES, State, touch};

/// What is known of the next chunk.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Spare {
    #[default]
    None,
    /// Somebody prepares it.
    Wanted,
    /// It is mapped and touched.
    Ready { start: usize, end: usize },
}

impl Spare {
    /// Takes a prepared chunk of at least `bytes`.
    pub fn take_for(&mut self, bytes: usize) -> Option<(usize, usize)> {
        match *self {
            Self::Ready { start, end } if end - start >= bytes => {
                *self = Self::None;
                Some((start, end))
            }
            _ => None,
        }
    }
}

impl Arena {
    /// Whether the next chunk is to be asked for, by `ask_for_spare` when the state is unlocked.
    /// Small arenas shall stay small.
    pub(super) fn wants_spare(&self, state: &mut State) -> bool {
        let wants = self.preparer.is_some()
            && state.spare == Spare::None
            && state.mapped_bytes >= HUGE_FROM_BYTES;
        if wants {
            state.spare = Spare::Wanted;
        }
        wants
    }

    pub(super) fn ask_for_spare(&self) {
        let Some(preparer) = &self.preparer else { return };
        let own = self.own.clone();
        let asked = Asked(own.clone());
        preparer.prepare(Box::new(move || {
            let _asked = asked;
            if let Some(arena) = own.upgrade() {
                arena.prepare_spare();
            }
        }));
    }

    /// Maps the next chunk and touches it, with nothing locked meanwhile.
    fn prepare_spare(&self) {
        let mapped = {
            let mut state = self.state.lock();
            let bytes = self.chunk_bytes(state.mapped_bytes);
            // Refused: the arena asks for less when it comes to that.
            self.map(&mut state, bytes).map(|start| (start, bytes))
        };
        let Ok((start, bytes)) = mapped else { return };
        self.touch_all(start, bytes);
        let start = start.as_ptr().expose_provenance();
        self.state.lock().spare = Spare::Ready { start, end: start + bytes };
    }

    /// Faults a chunk in, in steps: others that map memory wait for each.
    pub(super) fn touch_all(&self, start: NonNull<u8>, bytes: usize) {
        for offset in (0..bytes).step_by(HUGE_PAGE_BYTES) {
            let step = start.as_ptr().wrapping_byte_add(offset).cast::<c_void>();
            if let Some(step) = NonNull::new(step) {
                touch(step, HUGE_PAGE_BYTES.min(bytes - offset));
            }
        }
    }
}

/// Whoever asked may ask again when this is dropped, also if nobody did the work.
struct Asked(Weak<Arena>);

impl Drop for Asked {
    fn drop(&mut self) {
        let Some(arena) = self.0.upgrade() else { return };
        let mut state = arena.state.lock();
        if state.spare == Spare::Wanted {
            state.spare = Spare::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::memory::{MemoryReserve, Prepare};
    use crate::{Error, Result};

    type Job = Box<dyn FnOnce() + Send>;

    /// Keeps jobs until the test runs or drops them.
    #[derive(Default)]
    struct Held(Mutex<Vec<Job>>);

    impl std::fmt::Debug for Held {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Held")
        }
    }

    impl Prepare for Held {
        fn prepare(&self, job: Job) {
            self.0.lock().unwrap().push(job);
        }
    }

    impl Held {
        fn take(&self) -> Vec<Job> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    /// Drops every job, as where no thread is to be had.
    #[derive(Debug)]
    struct Nobody;

    impl Prepare for Nobody {
        fn prepare(&self, _: Job) {}
    }

    const PIECE: usize = 12_000;

    fn fill_to(arena: &Arena, bytes: usize) {
        while arena.state.lock().mapped_bytes < bytes {
            let _ = arena.allocate(PIECE).unwrap();
        }
    }

    #[test]
    fn the_next_chunk_is_asked_for_once_and_used_when_it_is_ready() {
        let held = Arc::new(Held::default());
        let arena = Arena::prepared_by(Some(held.clone()), None, true);
        fill_to(&arena, HUGE_FROM_BYTES / 2);
        assert!(held.take().is_empty(), "a small arena asks for nothing");
        fill_to(&arena, 2 * HUGE_FROM_BYTES);
        let mut jobs = held.take();
        assert_eq!(jobs.len(), 1, "asked once while nobody has answered");
        jobs.remove(0)();
        let Spare::Ready { start, end } = arena.state.lock().spare else { panic!("not ready") };
        let mapped = arena.state.lock().mapped_bytes;
        let next = loop {
            let place = arena.allocate(PIECE).unwrap().as_ptr() as usize;
            if arena.state.lock().spare != (Spare::Ready { start, end }) {
                break place;
            }
        };
        assert_eq!(next, start, "the open chunk went on in the prepared one");
        assert_eq!(arena.state.lock().mapped_bytes, mapped, "and nothing else was mapped");
        assert_eq!(held.take().len(), 1, "the one after it is asked for");
    }

    #[test]
    fn without_an_answer_it_goes_on_and_asks_again() {
        let held = Arc::new(Held::default());
        let arena = Arena::prepared_by(Some(held.clone()), None, true);
        fill_to(&arena, 2 * HUGE_FROM_BYTES);
        drop(held.take());
        assert_eq!(arena.state.lock().spare, Spare::None);
        let mapped = arena.state.lock().mapped_bytes;
        fill_to(&arena, mapped + 1);
        assert_eq!(held.take().len(), 1);
        fill_to(&Arena::prepared_by(Some(Arc::new(Nobody)), None, true), 3 * HUGE_FROM_BYTES);
    }

    #[derive(Debug, Default)]
    struct Account(Mutex<u64>);

    impl MemoryReserve for Account {
        fn reserve(&self, what: &'static str, bytes: u64) -> Result<()> {
            let mut left = self.0.lock().unwrap();
            let available = *left;
            *left = available.checked_sub(bytes).ok_or(Error::OutOfMemory {
                what,
                bytes,
                available,
            })?;
            Ok(())
        }
        fn release(&self, bytes: u64) {
            *self.0.lock().unwrap() += bytes;
        }
    }

    #[test]
    fn the_last_memory_is_used_whoever_took_it() {
        let account = Arc::new(Account((5 * HUGE_FROM_BYTES as u64).into()));
        let preparer = Arc::new(crate::runtime::Preparer::default());
        let arena = Arena::prepared_by(Some(preparer), Some(account.clone()), true);
        let mut pieces = 0;
        while arena.allocate(PIECE).is_ok() {
            pieces += 1;
        }
        assert!(pieces * PIECE > 5 * HUGE_FROM_BYTES - 2 * HUGE_PAGE_BYTES, "{pieces}");
        drop(arena);
        // Whoever prepared the last chunk may still hold the arena for a moment.
        while *account.0.lock().unwrap() < 5 * HUGE_FROM_BYTES as u64 {
            std::thread::yield_now();
        }
    }
}
