//! What `version_lock` is built on: atomics, and a way to wait.

use std::time::Duration;

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

const SPINS: u32 = 64;
const YIELDS: u32 = 64;
const SLEEP: Duration = Duration::from_micros(50);

/// Waits a moment for something short that another thread does, which may have lost its processor:
/// longer from round to round.
pub(super) fn pause(rounds: &mut u32) {
    *rounds = rounds.saturating_add(1);
    if *rounds <= SPINS {
        std::hint::spin_loop();
    } else if *rounds <= SPINS + YIELDS {
        std::thread::yield_now();
    } else {
        std::thread::sleep(SLEEP);
    }
}
