//! Durable maps: what was synced is there when the map is opened again, after a power cut too.
//!
//! ```text
//!   order      the rule that makes memory and recovery agree on the newest record of a key
//!   sync       everything acknowledged, made durable; what may go once it is
//!   manifest   what each directory says of the map: the truth about which segments there are
//!   summary    which records a segment has, so that reopening need not read it
//!   reopen     which map it is; bringing its content back
//!   recovery   one lane: its segments walked in order
//!   newest     the newest record of each key, into the index
//! ```
//!
//! docs/design.md, section 6, has the invariants P1..P9.

mod manifest;
mod newest;
mod order;
mod recovery;
mod reopen;
mod summary;
mod sync;

pub(super) use manifest::{Entry, Identity, Manifest};
pub(super) use order::PublishOrder;
pub use recovery::Recovery;
pub(super) use recovery::parse_name;
pub(super) use reopen::Found;
pub(super) use sync::Durable;
