//! Operations that wait for the test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::FaultOp;

/// The gates of one storage.
#[derive(Debug, Default)]
pub(super) struct Gates {
    state: Mutex<[State; FaultOp::COUNT]>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Gates that are closed; the operation passes when there is none.
    closed: usize,
    /// Operations that wait.
    waiting: usize,
}

impl Gates {
    /// Waits until no gate is closed for `op`.
    pub fn pass(&self, op: FaultOp) {
        let mut state = self.state.lock();
        if state[op as usize].closed == 0 {
            return;
        }
        state[op as usize].waiting += 1;
        self.changed.notify_all();
        while state[op as usize].closed > 0 {
            self.changed.wait(&mut state);
        }
        state[op as usize].waiting -= 1;
        self.changed.notify_all();
    }
}

/// A closed gate; opens on drop.
#[derive(Debug)]
pub struct Gate {
    gates: Arc<Gates>,
    op: FaultOp,
}

impl Gate {
    pub(super) fn close(gates: Arc<Gates>, op: FaultOp) -> Self {
        gates.state.lock()[op as usize].closed += 1;
        Self { gates, op }
    }

    /// Operations that wait at gates of this kind.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.gates.state.lock()[self.op as usize].waiting
    }

    /// Waits until at least `count` operations wait here; false if that takes longer than `limit`.
    #[must_use]
    pub fn wait_for(&self, count: usize, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.gates.state.lock();
        while state[self.op as usize].waiting < count {
            if self.gates.changed.wait_until(&mut state, deadline).timed_out() {
                return state[self.op as usize].waiting >= count;
            }
        }
        true
    }

    /// Lets the waiting operations go on.
    pub fn open(self) {
        drop(self);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.gates.state.lock()[self.op as usize].closed -= 1;
        self.gates.changed.notify_all();
    }
}
