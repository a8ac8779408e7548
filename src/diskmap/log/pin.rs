//! Keeping the records of a lane readable at their places, also when nobody wants them any more.

use std::sync::atomic::Ordering;

use super::lane::Lane;

impl Lane {
    /// From now on, until as many calls of `unpin`, every place that the index points to, or
    /// pointed to at some moment since, holds the same record: no segment is given up and no slot
    /// is used for another one.
    pub(crate) fn pin(&self) {
        // Under the lock under which segments are given up: who gave one up before us did it
        // before anything is read on the strength of this pin.
        let _slots = self.free_slots.lock();
        self.pins.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a `pin`. The last one gives up what has been spent meanwhile.
    pub(crate) fn unpin(&self) {
        {
            let _slots = self.free_slots.lock();
            if self.pins.fetch_sub(1, Ordering::Relaxed) != 1 {
                return;
            }
        }
        let slots: Vec<u32> = self.table.segments().map(|(_, segment)| segment.slot).collect();
        for slot in slots {
            self.retire_if_spent(slot);
        }
    }
}
