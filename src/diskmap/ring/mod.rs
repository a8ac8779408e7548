//! The ring of a process map: the tail's buffers in a file that outlives the process.
//!
//! ```text
//!   header      what the file is: geometry, whose it is, of which boot
//!   table       which block each buffer holds, written as blocks are opened and written
//!   block       a block as a killed process left it: holes found and turned into padding
//!   image       the ring of a process that was killed; its blocks go to their segments
//! ```
//!
//! docs/design.md, section 6, has the invariants K1..K8; docs/format.md the bytes. `log` has the
//! other half: how records get into the ring (`log::described`).

mod block;
mod header;
mod image;
mod table;
#[cfg(test)]
mod tests;

pub(super) use header::{Geometry, Owner, Place, file_name, leftovers};
pub(super) use image::{Image, LaneEnd};
pub(super) use table::{Claim, Table};
