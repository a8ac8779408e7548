//! The log: where records are appended, and where they are found again by location.
//!
//! ```text
//!   lane        one append-only log per directory: reserve, store, commit; opens and closes blocks
//!   described   records in a ring that outlives the process
//!   reservation room in the open block, and storing records there
//!   long        records that span blocks
//!   commits     which commit a long record of a durable map has; what was superseded
//!   pin         keeping records readable at their places while they are iterated over
//!   flush       writing out a block that is not full
//!   tail        the ring of block buffers in RAM
//!   stream      stores into it that go around the caches
//!   writeback   committed blocks on their way to the files; the map's first failure
//!   segment     the files, and the table that finds them by location
//!   record      the bytes of a record
//!   checksum    their sums, many short ones at a time
//!   walk        the records of a complete segment, in order, from its file
//! ```
//!
//! docs/design.md, section 3, has the invariants L1..L6.

mod checksum;
mod commits;
pub(super) mod described;
pub(super) mod flush;
pub(super) mod lane;
pub(super) mod long;
mod pin;
pub(super) mod record;
pub(super) mod reservation;
pub(super) mod segment;
mod stream;
pub(super) mod tail;
pub(super) mod walk;
#[cfg(test)]
mod walk_tests;
pub(super) mod writeback;
