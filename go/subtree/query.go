package subtree

import (
	"slices"
	"unsafe"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Length is the number of nodes.
func (st *Subtree[H, N]) Length() int {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return len(st.Nodes)
}

// Size is the number of nodes that fit.
func (st *Subtree[H, N]) Size() int {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return cap(st.Nodes)
}

// IsComplete reports whether the subtree is full.
func (st *Subtree[H, N]) IsComplete() bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return !st.closed && len(st.Nodes) == cap(st.Nodes)
}

// NodeIndex is the position of the first node with this hash, -1 if there is none. The first call
// builds an index of 8 to 16 bytes per node, outside the Go heap if the nodes are and
// it is large; additions keep it up to date.
func (st *Subtree[H, N]) NodeIndex(hash H) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.position(hash)
}

// HasNode reports whether there is a node with this hash.
func (st *Subtree[H, N]) HasNode(hash H) bool { return st.NodeIndex(hash) >= 0 }

// GetNode returns a copy of the node with this hash; ErrNotFound if there is none.
func (st *Subtree[H, N]) GetNode(hash H) (*N, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return nil, errClosed()
	}
	position := st.position(hash)
	if position < 0 {
		return nil, ffi.Errorf(ffi.NotFound, "node %x is not in the subtree", hash)
	}
	node := st.Nodes[position]
	return &node, nil
}

func (st *Subtree[H, N]) position(hash H) int {
	key := [32]byte(hash)
	return st.indexed().find(raw(st.Nodes), &key)
}

// indexed is the index of all nodes, made if there is none.
func (st *Subtree[H, N]) indexed() *hashIndex {
	if st.index == nil || st.index.count != len(st.Nodes) {
		st.forgetIndex()
		st.index, _, _ = newHashIndex(st.rt, raw(st.Nodes), 0)
	}
	return st.index
}

// Exister is a set of hashes, such as a transaction map.
type Exister[H ~[32]byte] interface{ Exists(hash H) bool }

// Difference are the nodes whose hashes are not in ids, the coinbase placeholder left out.
func (st *Subtree[H, N]) Difference(ids Exister[H]) ([]N, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.closed {
		return nil, errClosed()
	}
	var missing []N
	nodes := raw(st.Nodes)
	for i := range nodes {
		if !nodes[i].isPlaceholder() && !ids.Exists(H(nodes[i].hash)) {
			missing = append(missing, st.Nodes[i])
		}
	}
	return missing, nil
}

// Duplicate is a copy on the Go heap, nil for a closed subtree.
func (st *Subtree[H, N]) Duplicate() *Subtree[H, N] {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.closed {
		return nil
	}
	nodes := make([]N, len(st.Nodes), cap(st.Nodes))
	copy(nodes, st.Nodes)
	return &Subtree[H, N]{
		Height:           st.Height,
		Fees:             st.Fees,
		SizeInBytes:      st.SizeInBytes,
		FeeHash:          st.FeeHash,
		Nodes:            nodes,
		ConflictingNodes: slices.Clone(st.ConflictingNodes),
		stored:           st.stored,
	}
}

// RootHash is the Merkle root over the nodes as they are, nil when there are none. It is computed,
// never taken from a file, and remembered until a node changes.
func (st *Subtree[H, N]) RootHash() *H {
	st.mu.Lock()
	defer st.mu.Unlock()
	root, err := st.rootLocked()
	if err != nil {
		return nil
	}
	return root
}

func (st *Subtree[H, N]) rootLocked() (*H, error) {
	if st.closed {
		return nil, errClosed()
	}
	if st.root == nil || st.rootOf != len(st.Nodes) {
		root, err := st.computeRoot()
		if err != nil {
			return nil, err
		}
		st.root, st.rootOf = &root, len(st.Nodes)
	}
	root := H(*st.root)
	return &root, nil
}

func (st *Subtree[H, N]) computeRoot() ([32]byte, error) {
	if st.levels != nil && st.buildLevels() == nil {
		return st.levels.root()
	}
	return nodesRoot(raw(st.Nodes), nil, 0)
}

// RootHashPadded is the root lifted to height, as a shorter last subtree enters the block's tree:
// one sha256d of the root with itself per level.
func (st *Subtree[H, N]) RootHashPadded(height int) (*H, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	root, err := st.rootLocked()
	if err != nil {
		return nil, err
	}
	own := heightOf(len(st.Nodes))
	if height < own || height > maxHeight {
		return nil, ffi.Errorf(ffi.InvalidArgument, "cannot pad a tree of height %d to height %d",
			own, height)
	}
	padded := H(lift([32]byte(*root), height-own))
	return &padded, nil
}

// RootHashWithReplaceRootNode is the root that ReplaceRootNode would give; the subtree stays as it
// is. Fee and size do not enter the root.
func (st *Subtree[H, N]) RootHashWithReplaceRootNode(node *H, _, _ uint64) (*H, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.closed {
		return nil, errClosed()
	}
	if node == nil {
		return nil, ffi.Errorf(ffi.InvalidArgument, "the replacing hash is nil")
	}
	first := [32]byte(*node)
	root, err := nodesRoot(raw(st.Nodes), &first, 0)
	if err != nil {
		return nil, err
	}
	replaced := H(root)
	return &replaced, nil
}

// StoredRoot is the root that the subtree's file claims; false when it came from no file or was
// changed since. Verify compares it.
func (st *Subtree[H, N]) StoredRoot() (H, bool) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.stored == nil || st.closed {
		return H{}, false
	}
	return H(*st.stored), true
}

// GetMerkleProof is the path from leaf index to the root: the siblings from the leaf up; the
// sibling of an odd last node is itself. The first proof computes and keeps the levels of the tree,
// 32 bytes per node, outside the Go heap where the nodes are; the next ones take microseconds.
func (st *Subtree[H, N]) GetMerkleProof(index int) ([]*H, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.checkIndex(index); err != nil {
		return nil, err
	}
	if err := st.buildLevels(); err != nil {
		return nil, err
	}
	var path [maxHeight + 1][32]byte
	count, err := st.levels.proof(index, path[:])
	if err != nil {
		return nil, err
	}
	hashes := make([]H, count)
	proof := make([]*H, count)
	for i := range proof {
		hashes[i] = H(path[i])
		proof[i] = &hashes[i]
	}
	return proof, nil
}

// GetMerkleProofs are the paths of several leaves, as GetMerkleProof gives them one by one. The
// first proofs cost the levels of the tree once. An index that is no node's is an error, before
// anything is computed.
func (st *Subtree[H, N]) GetMerkleProofs(indexes []int) ([][]H, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return nil, errClosed()
	}
	places := make([]uint64, len(indexes))
	for i, index := range indexes {
		if err := st.checkIndex(index); err != nil {
			return nil, err
		}
		places[i] = uint64(index)
	}
	if len(indexes) == 0 {
		return nil, nil
	}
	if err := st.buildLevels(); err != nil {
		return nil, err
	}
	siblings, height, err := st.levels.proofs(places)
	if err != nil {
		return nil, err
	}
	all := unsafe.Slice((*H)(unsafe.Pointer(unsafe.SliceData(siblings))), len(siblings))
	proofs := make([][]H, len(indexes))
	for i := range proofs {
		proofs[i] = all[i*height : (i+1)*height : (i+1)*height]
	}
	return proofs, nil
}

// levelsFit reports whether the kept levels are those of the nodes.
func (st *Subtree[H, N]) levelsFit() bool {
	return st.levels != nil && st.levels.leaves() == len(st.Nodes)
}

// buildLevels makes the kept levels those of the nodes: from nothing, or, where nodes were only
// added since, by what these reach.
func (st *Subtree[H, N]) buildLevels() error {
	nodes := raw(st.Nodes)
	if st.levels != nil && st.levels.leaves() <= len(nodes) {
		more := nodes[st.levels.leaves():]
		if len(more) == 0 || st.levels.add(more) == nil {
			return nil
		}
	}
	if err := st.forgetLevels(); err != nil {
		return err
	}
	if st.array == nil {
		st.levels = newHeapLevels(nodes)
		return nil
	}
	native, err := newNativeLevels(st.rt, nodes, cap(st.Nodes), st.dir)
	if err != nil {
		return err
	}
	st.levels = native
	return nil
}
