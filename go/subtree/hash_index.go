package subtree

import (
	"hash/maphash"
)

// hashIndex finds nodes by hash: an open-addressing table of positions plus one, at most half full.
// It holds no pointers and no hashes: a hit is compared with the node itself. The seed is random,
// so that hashes cannot be made to collide. Of equal hashes it keeps the first.
type hashIndex struct {
	seed  maphash.Seed
	slots []uint32
	count int
}

// newHashIndex indexes nodes. It returns the position of the first node that equals an earlier one,
// and that one's position; both are -1 when all differ.
func newHashIndex(nodes []rawNode, expected int) (index *hashIndex, duplicate, first int) {
	size := 16
	for size < 2*max(len(nodes), expected) {
		size *= 2
	}
	index = &hashIndex{seed: maphash.MakeSeed(), slots: make([]uint32, size)}
	duplicate, first = -1, -1
	for i := range nodes {
		if earlier := index.add(nodes, i); earlier >= 0 && duplicate < 0 {
			duplicate, first = i, earlier
		}
	}
	return index, duplicate, first
}

// add indexes nodes[position] and returns -1, or the position of an equal node that was added
// before. The table grows.
func (x *hashIndex) add(nodes []rawNode, position int) int {
	x.count++
	if 2*x.count > len(x.slots) {
		larger, _, _ := newHashIndex(nodes[:position], 2*x.count)
		x.seed, x.slots = larger.seed, larger.slots
	}
	at, found := x.probe(nodes, &nodes[position].hash)
	if found {
		return int(x.slots[at] - 1)
	}
	x.slots[at] = uint32(position) + 1
	return -1
}

// find is the position of hash among nodes, or -1.
func (x *hashIndex) find(nodes []rawNode, hash *[32]byte) int {
	if at, found := x.probe(nodes, hash); found {
		return int(x.slots[at] - 1)
	}
	return -1
}

// probe is the slot of hash, or the free slot where it belongs.
func (x *hashIndex) probe(nodes []rawNode, hash *[32]byte) (at uint64, found bool) {
	mask := uint64(len(x.slots) - 1)
	for at = maphash.Bytes(x.seed, hash[:]) & mask; ; at = (at + 1) & mask {
		slot := x.slots[at]
		if slot == 0 {
			return at, false
		}
		// A position beyond the nodes can only come from a caller that shortened Nodes itself.
		if position := int(slot - 1); position < len(nodes) && nodes[position].hash == *hash {
			return at, true
		}
	}
}
