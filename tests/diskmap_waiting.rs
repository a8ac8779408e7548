//! Backpressure: with a writer or a reader that is held, calls that may not wait say so and change
//! nothing, calls that may wait end with the setting, and nobody waits who need not. Gates hold the
//! storage, so nothing here depends on how fast a disk is.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/faulty.rs"]
mod faulty;
#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/until_error.rs"]
mod until_error;

use std::time::Duration;

use blocktier::Error;
use blocktier::diskmap::{Batch, ItemState, Wait};
use blocktier::storage::fault::FaultOp;

use faulty::{COLD, check_there, insert, open_faulty, record, with_cold_records};
use maps::temp_dirs;
use records::key;
use until_error::insert_until_error;

/// Longer than anything here takes; for waits whose end is not in doubt.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn what_would_wait_says_so_and_succeeds_later() {
    let dirs = temp_dirs(1);
    let (faults, map) = with_cold_records(&dirs);
    let gate = faults.close_gate(FaultOp::Write);
    // No room in the tail.
    let (full_at, error) = insert_until_error(&map, 10_000, Wait::ReadsOnly);
    let blocked = |error: &Error| assert!(matches!(error, Error::WouldBlock(_)), "{error}");
    blocked(&error);
    let long = vec![1; 60_000];
    let keys: Vec<_> = (20_000..20_500).map(key).collect();
    let arena = vec![7; 500 * 300];
    let offsets: Vec<u64> = (0..=500).map(|i| i * 300).collect();
    let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
    let mut states = vec![ItemState::Pending; 500];
    blocked(&map.set_if_not_exists_batch(&batch, Wait::Never, &mut states).unwrap_err());
    for wait in [Wait::Never, Wait::ReadsOnly] {
        let large = record(49);
        blocked(&map.set(&key(30_000), &large, 0, wait).unwrap_err());
        blocked(&map.set_if_not_exists(&key(30_000), &long, 0, wait, |_, _| ()).unwrap_err());
    }
    // Records that are in files alone.
    let cold = [key(0), key(1), key(2)];
    let mut cold_states = [ItemState::Pending; 3];
    blocked(&map.get(&cold[0], Wait::Never, |_, _| ()).unwrap_err());
    blocked(&map.exists(&cold[0], Wait::Never).unwrap_err());
    blocked(&map.delete(&cold[0], Wait::Never).unwrap_err());
    blocked(&map.set(&cold[0], b"x", 0, Wait::Never).unwrap_err());
    blocked(&map.update_subtree_index(&cold[0], 1, Wait::Never).unwrap_err());
    blocked(&map.delete_batch(&cold, Wait::Never, &mut cold_states).unwrap_err());
    let update = map.update_subtree_index_batch(&cold, 3, Wait::Never, &mut cold_states);
    blocked(&update.unwrap_err());
    assert_eq!(cold_states, [ItemState::Pending; 3]);
    let positions = map.get_batch(&cold, true, Wait::Never, |_, _, _| Ok(())).unwrap();
    assert_eq!(positions, [0, 1, 2]);
    assert_eq!(map.get(&cold[0], Wait::ReadsOnly, |v, _| *v == *record(0)).unwrap(), Some(true));
    // A flush under way.
    let ticket = map.flush_begin(Wait::Never).unwrap();
    blocked(&map.flush_wait(ticket, Wait::Never).unwrap_err());
    let done = states.iter().filter(|state| **state == ItemState::Done).count() as u64;
    assert!(done < 500, "the batch found room");
    assert_eq!(map.len(), COLD + (full_at - 10_000) + done, "a blocked call did something");
    gate.open();
    map.flush_wait(ticket, Wait::Allowed).unwrap();
    map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
    assert!(states.iter().all(|state| *state == ItemState::Done));
    insert(&map, full_at, Wait::Allowed).unwrap();
    map.set_if_not_exists(&key(30_000), &long, 0, Wait::Allowed, |_, _| ()).unwrap();
    map.delete_batch(&cold, Wait::Allowed, &mut cold_states).unwrap();
    assert_eq!(cold_states, [ItemState::Done; 3]);
    check_there(&map, (3..COLD).chain(10_000..=full_at));
    assert_eq!(map.len(), COLD - 3 + (full_at - 10_000 + 1) + 500 + 1);
}

#[test]
fn waiting_for_room_ends_after_the_setting() {
    let dirs = temp_dirs(1);
    let (faults, map) = open_faulty(&dirs, "txMapWriteTimeout = 20ms\n");
    let gate = faults.close_gate(FaultOp::Write);
    let (acknowledged, error) = insert_until_error(&map, 0, Wait::Allowed);
    assert!(matches!(error, Error::TimedOut { waited_ms: 20, .. }), "{error}");
    assert!(error.to_string().contains("txMapWriteTimeout"), "{error}");
    let long = vec![1; 60_000];
    let error = map.set(&key(u64::MAX), &long, 0, Wait::Allowed).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(matches!(map.flush().unwrap_err(), Error::TimedOut { waited_ms: 20.., .. }));
    assert!(map.stats().waits > 0 && map.failure().is_ok());
    gate.open();
    // Until the writer has caught up, more may time out; it does catch up.
    while let Err(error) = map.flush() {
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }
    assert_eq!(map.len(), acknowledged);
    check_there(&map, 0..acknowledged);
}

#[test]
fn a_read_that_waits_keeps_nobody_else_waiting() {
    let dirs = temp_dirs(1);
    let (faults, map) = with_cold_records(&dirs);
    let gate = faults.close_gate(FaultOp::Read);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| map.get(&key(0), Wait::Allowed, |v, _| *v == *record(0)));
        assert!(gate.wait_for(1, SOON));
        // Enough keys to meet every lock that the reader could hold.
        for number in 100_000..110_000 {
            let (key, done) = (
                key(number),
                loop {
                    match map.set(&key(number), b"x", 0, Wait::Never) {
                        // The tag is that of a record on disk, which cannot be read now.
                        Err(Error::WouldBlock(Error::BLOCKED_ON_READ)) => break false,
                        Err(Error::WouldBlock(_)) => std::thread::yield_now(),
                        outcome => break !outcome.unwrap(),
                    }
                },
            );
            assert!(!done || map.delete(&key, Wait::Never).unwrap());
        }
        assert!(!reader.is_finished());
        gate.open();
        assert_eq!(reader.join().unwrap().unwrap(), Some(true));
    });
}
