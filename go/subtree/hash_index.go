package subtree

import (
	"hash/maphash"
	"runtime"
	"unsafe"

	"github.com/blocktier/blocktier/go"
)

// hashIndex finds nodes by hash: an open-addressing table of positions plus one, at most half full.
// It holds no pointers and no hashes: a hit is compared with the node itself. The seed is random,
// so that hashes cannot be made to collide. Of equal hashes it keeps the first.
type hashIndex struct {
	seed  maphash.Seed
	slots []uint32
	count int

	rt    *blocktier.Runtime
	array *NodeArray[rawNode] // where the slots are; nil on the Go heap
}

// offHeapBytes is the size from which on an index lies outside the Go heap: a mapping of its own
// costs a smaller one more, in pages that are looked up, than the collector, which does not walk
// it.
const offHeapBytes = 64 << 10

// newHashIndex indexes nodes, outside the Go heap if there is a runtime and it is large. It returns
// the position of the first node that equals an earlier one, and that one's position; both are -1
// when all differ.
func newHashIndex(rt *blocktier.Runtime, nodes []rawNode, expected int) (index *hashIndex,
	duplicate, first int) {
	size := 16
	for size < 2*max(len(nodes), expected) {
		size *= 2
	}
	index = &hashIndex{seed: maphash.MakeSeed(), rt: rt}
	index.makeSlots(size)
	duplicate, first = -1, -1
	for i := range nodes {
		if earlier := index.add(nodes, i); earlier >= 0 && duplicate < 0 {
			duplicate, first = i, earlier
		}
	}
	return index, duplicate, first
}

func (x *hashIndex) makeSlots(size int) {
	if x.rt != nil && 4*size >= offHeapBytes {
		// Where there is no such memory any more, as when the runtime is closed, the heap will do.
		array, err := NewNodeArray[rawNode](x.rt, (4*size+NodeBytes-1)/NodeBytes, "")
		if err == nil {
			first := unsafe.Pointer(unsafe.SliceData(array.Slice()))
			x.array, x.slots = array, unsafe.Slice((*uint32)(first), size)
			return
		}
	}
	x.slots = make([]uint32, size)
}

// free gives the memory back. The index must not be used any more.
func (x *hashIndex) free() {
	if x == nil || x.array == nil {
		return
	}
	if err := x.array.Close(); err != nil {
		x.rt.Logger().Error("blocktier: freeing the index of a subtree", "error", err)
	}
}

// add indexes nodes[position] and returns -1, or the position of an equal node that was added
// before. The table grows.
func (x *hashIndex) add(nodes []rawNode, position int) int {
	x.count++
	if 2*x.count > len(x.slots) {
		larger, _, _ := newHashIndex(x.rt, nodes[:position], 2*x.count)
		x.free()
		x.seed, x.slots, x.array = larger.seed, larger.slots, larger.array
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

// findMany calls found with the position of each of the hashes that which names, or -1. What the
// look-ups wait for, slots first and then nodes, is asked for together.
func findMany[H ~[32]byte](x *hashIndex, nodes []rawNode, hashes []H, which []int,
	found func(i, position int)) {
	const together = 16
	var starts [together]uint64
	var near byte
	for len(which) > 0 {
		now := which[:min(together, len(which))]
		which = which[len(now):]
		for k, i := range now {
			starts[k] = x.start(keyOf(hashes, i))
		}
		for k := range now {
			if at := x.slots[starts[k]]; at != 0 && int(at) <= len(nodes) {
				near ^= nodes[at-1].hash[0]
			}
		}
		for k, i := range now {
			at, there := x.probeFrom(starts[k], nodes, keyOf(hashes, i))
			if !there {
				found(i, -1)
			} else {
				found(i, int(x.slots[at]-1))
			}
		}
	}
	runtime.KeepAlive(near)
}

// keyOf sees a hash as what it is; no copy.
func keyOf[H ~[32]byte](hashes []H, i int) *[32]byte {
	return (*[32]byte)(unsafe.Pointer(&hashes[i]))
}

// probe is the slot of hash, or the free slot where it belongs.
func (x *hashIndex) probe(nodes []rawNode, hash *[32]byte) (at uint64, found bool) {
	return x.probeFrom(x.start(hash), nodes, hash)
}

// start is the slot where the search for a hash begins.
func (x *hashIndex) start(hash *[32]byte) uint64 {
	return maphash.Bytes(x.seed, hash[:]) & uint64(len(x.slots)-1)
}

func (x *hashIndex) probeFrom(at uint64, nodes []rawNode, hash *[32]byte) (uint64, bool) {
	mask := uint64(len(x.slots) - 1)
	for ; ; at = (at + 1) & mask {
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
