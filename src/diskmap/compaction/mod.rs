//! Compaction: live records move out of segments that are mostly dead, so that these can go.
//!
//! ```text
//!   strategy      which runs to merge: what a strategy is asked and answers
//!   size_tiered   the one that the settings mean
//!   survey        what the segments of a lane hold, and which of them to merge
//!   merge         one merge under way, in steps
//!   relocate      moving the records that a step has read
//!   calls         what a map's users ask
//!   worker        a map's turns on the runtime's background thread, and `DiskMap::compact`
//!   tuning        settings and strategy, which may change meanwhile
//!   backpressure  how long writers wait while compaction is behind
//! ```
//!
//! docs/design.md, section 5, has the invariants C1..C14. A segment goes as soon as its last live
//! record has moved; in a durable map at the next sync, and not before what its tombstones rule
//! over.

mod backpressure;
mod calls;
pub(in crate::diskmap) mod merge;
mod relocate;
mod size_tiered;
mod strategy;
mod survey;
mod tuning;
mod worker;

pub use backpressure::{Backpressure, Thresholds};
pub use size_tiered::SizeTiered;
pub use strategy::{Choice, CompactionStrategy, Offer};
pub(crate) use worker::{Parts as WorkerParts, Worker};
