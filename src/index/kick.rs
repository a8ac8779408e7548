//! The search for room when both buckets of a key are full.
//!
//! Each occupant of a full bucket could move to its own other bucket. A breadth-first search over
//! buckets finds the shortest chain of such moves that ends at an empty slot. It looks at no more
//! than `NODES` buckets, at each at most once (so that no slot is in a chain twice), and always
//! in the same order: equal histories give equal pages.

use super::bucket::{Bucket, Kernel, SLOTS};
use super::home::other_bucket;
use super::page::Spot;
use super::sizing::PAGE_BUCKETS_MAX;
use super::slot::tag;

const NODES: usize = 16;
/// Chains are short: eight ways at each step. Longer ones are not followed.
const SPOTS_MAX: usize = 8;

/// Slots to move, each to the next; the last one is empty.
pub(super) struct Path {
    spots: [Spot; SPOTS_MAX],
    len: usize,
}

impl Path {
    pub fn spots(&self) -> &[Spot] {
        &self.spots[..self.len]
    }
}

#[derive(Copy, Clone)]
struct Node {
    bucket: u16,
    /// The node whose slot `via` leads here; a root is its own parent.
    parent: u8,
    via: u8,
    /// Spots of a path that ends in this bucket.
    spots: u8,
}

struct Search {
    nodes: [Node; NODES],
    len: usize,
    visited: [u64; PAGE_BUCKETS_MAX / 64],
}

impl Search {
    fn add(&mut self, bucket: usize, parent: usize, via: usize, spots: u8) {
        let (word, bit) = (bucket / 64, 1u64 << (bucket % 64));
        if self.len < NODES && self.visited[word] & bit == 0 {
            self.visited[word] |= bit;
            // A page has at most 256 buckets, a search 16 nodes, a bucket 8 slots.
            let (bucket, parent, via) = (bucket as u16, parent as u8, via as u8);
            self.nodes[self.len] = Node { bucket, parent, via, spots };
            self.len += 1;
        }
    }

    /// The path over `node` whose last move goes into `end`, out of slot `via` of the node.
    fn path(&self, node: usize, via: usize, end: Spot) -> Path {
        let len = usize::from(self.nodes[node].spots) + 1;
        let mut path = Path { spots: [end; SPOTS_MAX], len };
        let (mut at, mut slot) = (node, via);
        for place in path.spots[..len - 1].iter_mut().rev() {
            *place = Spot { bucket: usize::from(self.nodes[at].bucket), slot };
            slot = usize::from(self.nodes[at].via);
            at = usize::from(self.nodes[at].parent);
        }
        path
    }
}

/// The shortest chain of moves that frees a slot in `primary` or `alternate`, both full.
#[inline(always)]
pub(super) fn find_path<K: Kernel>(
    k: K,
    buckets: &[Bucket],
    primary: usize,
    alternate: usize,
) -> Option<Path> {
    let none = Node { bucket: 0, parent: 0, via: 0, spots: 0 };
    let mut search = Search { nodes: [none; NODES], len: 0, visited: Default::default() };
    search.add(primary, 0, 0, 1);
    search.add(alternate, 1, 0, 1);
    let mut at = 0;
    while at < search.len {
        let Node { bucket, spots, .. } = search.nodes[at];
        let full = &buckets[usize::from(bucket)];
        for via in 0..SLOTS {
            let other = other_bucket(tag(full.load(via)), usize::from(bucket), buckets.len());
            let empty = k.scan(&buckets[other], 0).empty;
            if empty != 0 {
                let end = Spot { bucket: other, slot: empty.trailing_zeros() as usize };
                return Some(search.path(at, via, end));
            }
            if usize::from(spots) + 2 <= SPOTS_MAX {
                search.add(other, at, via, spots + 1);
            }
        }
        at += 1;
    }
    None
}
