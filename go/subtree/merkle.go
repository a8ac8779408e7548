package subtree

import (
	"crypto/sha256"
	"math/bits"
	"unsafe"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Merkle trees by Bitcoin's rule: a parent is sha256d(left || right), the odd last node of a level
// pairs with itself, the root of one leaf is the leaf. With the library the roots come from it; the
// code below is the same in Go.

// pair is the parent of two nodes.
func pair(left, right *[32]byte) [32]byte {
	var both [64]byte
	copy(both[:32], left[:])
	copy(both[32:], right[:])
	once := sha256.Sum256(both[:])
	return sha256.Sum256(once[:])
}

// lift raises a root by levels: each pairs it with itself.
func lift(root [32]byte, levels int) [32]byte {
	for range levels {
		root = pair(&root, &root)
	}
	return root
}

// folder computes a root leaf by leaf: one pending node per level, no memory that grows with the
// leaves.
type folder struct {
	pending [64][32]byte
	count   uint64
}

func (f *folder) add(hash [32]byte) {
	level := 0
	for ; f.count>>level&1 == 1; level++ {
		hash = pair(&f.pending[level], &hash)
	}
	f.pending[level] = hash
	f.count++
}

// root ends the tree; there must be a leaf. It walks up the right edge from the lowest pending
// node: where a level has a pending node that is its left neighbour they pair, elsewhere the edge
// is the odd last node and pairs with itself.
func (f *folder) root() [32]byte {
	level := bits.TrailingZeros64(f.count)
	edge := f.pending[level]
	rest := f.count>>level - 1 // complete nodes of this level left of the edge
	for ; rest > 0; level++ {
		if rest&1 == 1 {
			edge = pair(&f.pending[level], &edge)
		} else {
			edge = pair(&edge, &edge)
		}
		rest >>= 1
	}
	return edge
}

// nodesRoot is the root over nodes, of which there must be one; first, if given, replaces the hash
// of node 0.
func nodesRoot(nodes []rawNode, first *[32]byte, paddedHeight int) ([32]byte, error) {
	if len(nodes) == 0 {
		return [32]byte{}, errNoNodes()
	}
	height := heightOf(len(nodes))
	if paddedHeight != 0 && (paddedHeight < height || paddedHeight > maxHeight) {
		return [32]byte{}, ffi.Errorf(ffi.InvalidArgument,
			"cannot pad a tree of height %d to height %d", height, paddedHeight)
	}
	if ffi.Available() == nil {
		return ffi.SubtreeRoot(unsafe.Pointer(unsafe.SliceData(nodes)), len(nodes), first,
			uint32(paddedHeight))
	}
	root := goNodesRoot(nodes, first)
	return lift(root, max(paddedHeight, height)-height), nil
}

func goNodesRoot(nodes []rawNode, first *[32]byte) [32]byte {
	var f folder
	if first == nil {
		first = &nodes[0].hash
	}
	f.add(*first)
	for i := range nodes[1:] {
		f.add(nodes[1+i].hash)
	}
	return f.root()
}

// MerkleRoot is the root over hashes, of which there must be at least one.
func MerkleRoot[H ~[32]byte](hashes []H) (H, error) {
	if len(hashes) == 0 {
		return H{}, ffi.Errorf(ffi.InvalidArgument, "no root over no hashes")
	}
	if ffi.Available() == nil {
		root, err := ffi.MerkleRoot(hashBytes(hashes), 0)
		return H(root), err
	}
	return H(goRoot(hashes)), nil
}

func goRoot[H ~[32]byte](hashes []H) [32]byte {
	var f folder
	for i := range hashes {
		f.add([32]byte(hashes[i]))
	}
	return f.root()
}

// BlockRoot is a block's Merkle root over the roots of its subtrees: all but the last have 2^height
// leaves, the last has lastLeaves and its root is lifted to that height. A block of one subtree has
// that subtree's root.
func BlockRoot[H ~[32]byte](roots []H, height int, lastLeaves uint64) (H, error) {
	switch {
	case len(roots) == 0:
		return H{}, ffi.Errorf(ffi.InvalidArgument, "no block root over no subtrees")
	case height < 0 || height > maxHeight:
		return H{}, ffi.Errorf(ffi.InvalidArgument, "subtrees of height %d; want 0 to %d", height,
			maxHeight)
	case lastLeaves == 0 || lastLeaves > 1<<height:
		return H{}, ffi.Errorf(ffi.InvalidArgument, "the last subtree has %d leaves; want 1 to %d",
			lastLeaves, uint64(1)<<height)
	}
	if ffi.Available() == nil {
		root, err := ffi.BlockRoot(hashBytes(roots), uint32(height), lastLeaves)
		return H(root), err
	}
	return H(goBlockRoot(roots, height, lastLeaves)), nil
}

func goBlockRoot[H ~[32]byte](roots []H, height int, lastLeaves uint64) [32]byte {
	if len(roots) == 1 {
		return [32]byte(roots[0])
	}
	last := len(roots) - 1
	var f folder
	for i := range roots[:last] {
		f.add([32]byte(roots[i]))
	}
	f.add(lift([32]byte(roots[last]), height-heightOf(int(lastLeaves))))
	return f.root()
}

// FoldProof is the root that a proof leads to: siblings from the leaf up, the leaf's own position
// deciding the sides.
func FoldProof[H ~[32]byte](leaf H, index uint64, siblings []H) H {
	hash := [32]byte(leaf)
	for i := range siblings {
		sibling := [32]byte(siblings[i])
		if index&1 == 0 {
			hash = pair(&hash, &sibling)
		} else {
			hash = pair(&sibling, &hash)
		}
		index >>= 1
	}
	return H(hash)
}

func errNoNodes() error { return ffi.Errorf(ffi.InvalidArgument, "the subtree has no nodes") }
