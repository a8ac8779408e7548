//! DiskTxMap: txid -> inpoints.

pub use crate::subtree::inpoints;
