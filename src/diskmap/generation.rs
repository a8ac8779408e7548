//! One life of a map's content: an index and the lanes its locations point into. `clear` starts a
//! new one.

use std::sync::Arc;

use super::log::lane::Lane;
use super::log::segment::SegmentFactory;
use super::log::writeback::{Shared, Waiting};
use super::space::lanes_of_shards;
use crate::Result;
use crate::hash::keyed::{KeyHash, KeyedHasher};
use crate::index::{Index, IndexOptions, SHARDS, shard_of};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) index: Index,
    pub(crate) hasher: KeyedHasher,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) lanes: Box<[Lane]>,
    lane_of_shard: Box<[u16]>,
}

impl Generation {
    /// An empty generation. It makes no file before its first block is written.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        index: &IndexOptions,
        factories: Vec<SegmentFactory>,
        weights: &[u64],
    ) -> Result<Self> {
        let waiting = Arc::new(Waiting::new(Arc::clone(shared)));
        let lanes: Box<[Lane]> = factories
            .into_iter()
            .map(|factory| Lane::new(Arc::clone(shared), Arc::clone(&waiting), factory))
            .collect();
        let lane_of_shard = lanes_of_shards(SHARDS, weights);
        Ok(Self {
            index: Index::new(index)?,
            hasher: KeyedHasher::random()?,
            waiting,
            lanes,
            lane_of_shard,
        })
    }

    pub(crate) fn lane_number(&self, hash: KeyHash) -> usize {
        self.lane_of_shard[shard_of(hash)] as usize
    }

    pub(crate) fn lane(&self, hash: KeyHash) -> &Lane {
        &self.lanes[self.lane_number(hash)]
    }
}
