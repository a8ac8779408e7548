//! Writing out a block that is not full: by request, or because it has waited too long.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::lane::{ALIGNMENT, CLOSED, Lane, Roll, open_state, state_buffer, state_units};
use super::record::UNIT_BYTES;
use super::writeback::{BlockWrite, align_units};

/// A place in a lane's log: everything before it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) incarnation: u64,
    /// Units from the segment's start.
    pub(crate) units: u32,
}

impl Lane {
    /// Sends what the open block holds to the writer and lets it go on behind, at the next aligned
    /// offset. When it returns, everything that was committed before the call is on its way.
    ///
    /// `wait` false: gives up (false) if someone holds the roll lock.
    pub(crate) fn flush(&self, wait: bool) -> bool {
        self.flush_to(wait).is_some()
    }

    /// As [`Lane::flush`]; returns the place in the log up to which everything is on its way.
    pub(crate) fn flush_to(&self, wait: bool) -> Option<End> {
        let mut roll = self.lock_roll(wait)?;
        if let Some((buffer, units)) = self.close_block() {
            self.flush_block(&mut roll, buffer, units);
        }
        // Blocks that others closed may wait for a commit; commits never wait (L2).
        spin_until(|| self.closing.load(Ordering::Acquire) == 0);
        Some(self.end(&roll))
    }

    /// Where the log ends after a flush: what is reserved from now on lies behind. (Reservations
    /// go on, but never in front of what was flushed.)
    fn end(&self, roll: &Roll) -> End {
        let Some(segment) = &roll.segment else {
            return End { incarnation: roll.next_incarnation, units: 0 };
        };
        let block_units = self.shared.tail.block_units();
        let incarnation = segment.incarnation;
        let state = self.state.load(Ordering::Acquire);
        if state & CLOSED != 0 || roll.next_block == 0 {
            return End { incarnation, units: roll.next_block as u32 * block_units };
        }
        let buffer = self.shared.tail.state(state_buffer(state));
        let flushed = buffer.submitted_bytes.load(Ordering::Acquire) / UNIT_BYTES as u32;
        End { incarnation, units: (roll.next_block as u32 - 1) * block_units + flushed }
    }

    fn flush_block(&self, roll: &mut Roll, buffer: u32, units: u32) {
        let tail = &self.shared.tail;
        let state = tail.state(buffer);
        let submitted = state.submitted_bytes.load(Ordering::Acquire);
        if units as usize * UNIT_BYTES <= submitted as usize {
            self.state.store(open_state(buffer, units), Ordering::Release);
            return;
        }
        spin_until(|| state.progress.load(Ordering::Acquire) as u32 == units);
        let aligned = align_units(units, ALIGNMENT);
        if aligned == tail.block_units() {
            self.state.store(open_state(buffer, units), Ordering::Release);
            self.retire_block(roll);
            return;
        }
        if aligned > units {
            self.pad(buffer, units, aligned - units);
            self.record_died(state.base_units.load(Ordering::Relaxed), aligned - units);
            state.progress.fetch_add(u64::from(aligned - units), Ordering::AcqRel);
        }
        let end = aligned as usize * UNIT_BYTES;
        let place = self.table.place_of_units(state.base_units.load(Ordering::Relaxed));
        if let Some(segment) = roll.segment.clone() {
            self.waiting.push(BlockWrite {
                segment,
                buffer,
                block_offset_bytes: place.offset_bytes(),
                range: submitted as usize..end,
                last: false,
            });
            state.submitted_bytes.store(end as u32, Ordering::Release);
        }
        roll.unwritten_since = None;
        self.state.store(open_state(buffer, aligned), Ordering::Release);
    }

    /// Flushes if the open block has held unwritten bytes since before `oldest`; gives up if the
    /// roll lock is taken.
    pub(crate) fn flush_if_older(&self, now: Instant, age: Duration) {
        let Some(mut roll) = self.roll.try_lock() else { return };
        let state = self.state.load(Ordering::Acquire);
        if state & CLOSED != 0 {
            return;
        }
        let submitted =
            self.shared.tail.state(state_buffer(state)).submitted_bytes.load(Ordering::Acquire);
        if state_units(state) as usize * UNIT_BYTES <= submitted as usize {
            roll.unwritten_since = None;
            return;
        }
        let since = *roll.unwritten_since.get_or_insert(now);
        drop(roll);
        if now.saturating_duration_since(since) >= age {
            self.flush(false);
        }
    }
}

/// Waits for another thread that is about to get there.
fn spin_until(condition: impl Fn() -> bool) {
    let mut spins = 0u32;
    while !condition() {
        spins = spins.saturating_add(1);
        if spins < 1000 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}
