//! blocktier keeps the state of block assembly and validation outside a garbage-collected heap.
//!
//! A transaction's way through the crate, top to bottom; each layer only looks down:
//!
//! ```text
//! ffi        every extern "C" entry; opaque handles, status codes, panic guard
//! txmap      DiskTxMap: txid -> inpoints, with a subtree index per entry
//! subtree    48-byte nodes in heap or mapped arrays, wire formats, Merkle levels, roots, proofs
//! diskmap    the engine: an exact concurrent map over an append-only log with a tail in RAM
//! index      4096 shards of cuckoo filters whose slots carry the record's location
//! runtime    what a process has once: disks and their writer threads, memory budget, events
//! storage    every file access, behind a trait; direct I/O, mappings, directory locks, faults
//! hash       sha256d over many inputs, the keyed hash of the index
//! ```
//!
//! `docs/design.md` has the invariants, `docs/format.md` the bytes, `docs/abi.md` the C contract.

pub mod error;
pub mod events;
pub mod hash;
pub mod index;
pub mod memory;
pub mod runtime;
pub mod settings;
pub mod storage;
pub mod subtree;
pub mod types;

pub mod diskmap;
pub mod txmap;

pub mod ffi;

pub use error::{Error, Result};
pub use types::{Hash, TxId};
