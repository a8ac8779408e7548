//! The order in which records are published, kept equal to the order in which recovery reads them.
//!
//! A record's sequence number is its place in its lane: the order of reservation. It is published
//! later, under its shard's lock. A durable map publishes nothing that is older than what was
//! published in the shard before; whoever is refused appends again and has a newer number then
//! (docs/design.md, P1).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::index::SHARDS;

/// The newest published sequence number of each shard.
#[derive(Debug)]
pub(crate) struct PublishOrder(Box<[AtomicU64]>);

impl PublishOrder {
    pub(crate) fn new() -> Self {
        Self((0..SHARDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether `seq` is newer than everything published in the shard; then it counts as published.
    /// For the holder of the shard's lock. (If the insertion fails after all, the number is merely
    /// higher than it had to be.)
    pub(crate) fn admit(&self, shard: usize, seq: u64) -> bool {
        let newest = &self.0[shard];
        // The shard's lock orders these.
        let admitted = seq > newest.load(Ordering::Relaxed);
        if admitted {
            newest.store(seq, Ordering::Relaxed);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_records_are_admitted() {
        let order = PublishOrder::new();
        assert!(order.admit(7, 300));
        assert!(!order.admit(7, 299), "reserved before, published after");
        assert!(!order.admit(7, 300));
        assert!(order.admit(7, 301));
        assert!(order.admit(8, 256), "another shard");
    }
}
