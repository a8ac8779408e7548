//! One life of a map's content: an index and the lanes its locations point into. `clear` starts a
//! new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::durable::PublishOrder;
use super::log::described::Ruler;
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
    /// Durable maps only.
    pub(crate) order: Option<PublishOrder>,
    lane_of_shard: Box<[u16]>,
    /// Another one has taken its place.
    retired: AtomicBool,
}

impl Generation {
    /// An empty generation. It makes no file before its first block is written.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        index: &IndexOptions,
        factories: Vec<SegmentFactory>,
        secret: Option<[u64; 8]>,
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
            hasher: match secret {
                Some(secret) => KeyedHasher::from_secret(secret),
                None => KeyedHasher::random()?,
            },
            waiting,
            lanes,
            order: secret.map(|_| PublishOrder::new()),
            lane_of_shard,
            retired: AtomicBool::new(false),
        })
    }

    /// Whether a record may be published now; called under the lock of the key's shard, when all
    /// else speaks for it: from here on it counts after a kill (docs/design.md, K3). `ruler` is
    /// asked for in durable maps only.
    #[inline]
    pub(crate) fn admit<'r>(
        &self,
        hash: KeyHash,
        ruler: impl FnOnce() -> Option<Ruler<'r>>,
    ) -> bool {
        self.order.as_ref().is_none_or(|order| {
            ruler().is_some_and(|ruler| {
                let admitted = order.admit(shard_of(hash), ruler.seq());
                if admitted {
                    ruler.mark();
                }
                admitted
            })
        })
    }

    /// The content is not wanted any more: files go with their segments.
    pub(crate) fn remove_files(&self) {
        for lane in &self.lanes {
            lane.factory().keep.store(false, Ordering::Release);
        }
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.order.is_some()
    }

    pub(crate) fn lane_number(&self, hash: KeyHash) -> usize {
        self.lane_number_of_shard(shard_of(hash))
    }

    pub(crate) fn lane_number_of_shard(&self, shard: usize) -> usize {
        self.lane_of_shard[shard] as usize
    }

    pub(crate) fn lane(&self, hash: KeyHash) -> &Lane {
        &self.lanes[self.lane_number(hash)]
    }

    /// Another generation has taken its place. Operations that began before may still run on it.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.give_up_buffers();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Sends to the writers whatever holds a buffer, so that it keeps nobody waiting.
    pub(crate) fn give_up_buffers(&self) {
        for lane in &self.lanes {
            lane.close();
        }
        self.waiting.submit_all();
    }
}

impl Drop for Generation {
    /// Nobody reads it any more. Its buffers go back by way of the writers, behind the writes of
    /// the same blocks that are under way; nothing more of it is written.
    fn drop(&mut self) {
        for (_, segment) in self.lanes.iter().flat_map(|lane| lane.table().segments()) {
            segment.mark_dead();
        }
        self.give_up_buffers();
    }
}
