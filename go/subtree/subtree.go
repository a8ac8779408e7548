package subtree

import (
	"math/bits"
	"slices"
	"sync"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Subtree is a run of transactions of a block, at most 2^Height, as the leaves of a Merkle tree.
//
// The exported fields are there to be read and to be assigned to the node's own structs; change
// them through the methods, or call Changed afterwards. Methods may be called concurrently, except
// the one whose name says WithoutLock.
type Subtree[H ~[32]byte, N any] struct {
	// Height is that of the complete tree.
	Height int
	// Fees and SizeInBytes are the sums over the nodes.
	Fees, SizeInBytes uint64
	// FeeHash is the caller's.
	FeeHash H
	// Nodes are the leaves in order. Its capacity is that of the subtree. Close sets it to nil.
	Nodes []N
	// ConflictingNodes are the hashes of those leaves that conflict with other transactions.
	ConflictingNodes []H

	mu     sync.RWMutex
	closed bool
	array  *NodeArray[N] // where Nodes lies if it is mapped, else nil
	rt     *blocktier.Runtime
	dir    string

	root   *[32]byte // of the first rootOf nodes
	rootOf int
	levels levels // for proofs, nil until the first
	index  *hashIndex
	stored *[32]byte // the root that was read, unverified
}

// NewTree makes an empty subtree of up to 2^height nodes on the Go heap.
func NewTree[H ~[32]byte, N any](height int) (*Subtree[H, N], error) {
	if height < 0 || height > maxHeight {
		return nil, ffi.Errorf(ffi.InvalidArgument, "a subtree of height %d; want 0 to %d", height,
			maxHeight)
	}
	array, err := NewHeapArray[N](1 << height)
	if err != nil {
		return nil, err
	}
	return &Subtree[H, N]{Height: height, Nodes: array.Slice()}, nil
}

// NewTreeByLeafCount makes an empty subtree of up to leaves nodes, a power of two, on the Go heap.
func NewTreeByLeafCount[H ~[32]byte, N any](leaves int) (*Subtree[H, N], error) {
	if err := checkPowerOfTwo(leaves); err != nil {
		return nil, err
	}
	return NewTree[H, N](heightOf(leaves))
}

// NewIncompleteTreeByLeafCount makes an empty subtree for the least power of two that holds leaves
// nodes, on the heap.
func NewIncompleteTreeByLeafCount[H ~[32]byte, N any](leaves int) (*Subtree[H, N], error) {
	if leaves < 1 {
		return nil, ffi.Errorf(ffi.InvalidArgument, "a subtree for %d leaves; want at least 1",
			leaves)
	}
	return NewTree[H, N](heightOf(leaves))
}

// NewTreeMmap makes an empty subtree of up to 2^height nodes in a mapped file in directory, or in
// anonymous memory outside the Go heap where directory is empty. If that cannot be had it warns the
// runtime's logger and uses the heap; IsMmapBacked tells. It must be closed.
func NewTreeMmap[H ~[32]byte, N any](rt *blocktier.Runtime, height int,
	directory string) (*Subtree[H, N], error) {
	if height < 0 || height > maxHeight {
		return nil, ffi.Errorf(ffi.InvalidArgument, "a subtree of height %d; want 0 to %d", height,
			maxHeight)
	}
	array, err := NewNodeArrayOrHeap[N](rt, 1<<height, directory)
	if err != nil {
		return nil, err
	}
	st := &Subtree[H, N]{Height: height}
	st.adopt(rt, directory, array)
	return st, nil
}

// NewTreeByLeafCountMmap is NewTreeMmap for leaves nodes, a power of two.
func NewTreeByLeafCountMmap[H ~[32]byte, N any](rt *blocktier.Runtime, leaves int,
	directory string) (*Subtree[H, N], error) {
	if err := checkPowerOfTwo(leaves); err != nil {
		return nil, err
	}
	return NewTreeMmap[H, N](rt, heightOf(leaves), directory)
}

func checkPowerOfTwo(leaves int) error {
	if leaves < 1 || leaves&(leaves-1) != 0 {
		return ffi.Errorf(ffi.InvalidArgument, "a subtree of %d leaves; want a power of two",
			leaves)
	}
	return nil
}

// adopt makes array the place of the nodes.
func (st *Subtree[H, N]) adopt(rt *blocktier.Runtime, directory string, array *NodeArray[N]) {
	st.Nodes = array.Slice()
	if array.IsMapped() {
		st.array, st.rt, st.dir = array, rt, directory
	}
}

// Close frees what lies outside the Go heap and sets Nodes to nil; later calls fail with ErrClosed.
// It waits for the calls that run and for the leases. A second Close returns nil.
func (st *Subtree[H, N]) Close() error {
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return nil
	}
	st.closed = true
	st.Nodes, st.ConflictingNodes = nil, nil
	err := st.forget()
	array := st.array
	st.mu.Unlock()
	if array == nil {
		return err
	}
	if failure := array.Close(); err == nil {
		err = failure
	}
	return err
}

// Lease keeps the memory of Nodes until the returned function is called, which must happen exactly
// once.
func (st *Subtree[H, N]) Lease() (release func(), err error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.closed {
		return nil, errClosed()
	}
	if st.array == nil {
		return func() {}, nil
	}
	return st.array.Lease()
}

// IsMmapBacked reports whether the nodes are outside the Go heap.
func (st *Subtree[H, N]) IsMmapBacked() bool { return st.array != nil }

// Changed must be called after the exported fields were changed by other means than the methods.
func (st *Subtree[H, N]) Changed() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.forget()
}

// forget drops everything that was computed from the nodes.
func (st *Subtree[H, N]) forget() error {
	st.root, st.stored = nil, nil
	st.forgetIndex()
	return st.forgetLevels()
}

func (st *Subtree[H, N]) forgetIndex() {
	st.index.free()
	st.index = nil
}

func (st *Subtree[H, N]) forgetLevels() error {
	if st.levels == nil {
		return nil
	}
	levels := st.levels
	st.levels = nil
	return levels.free()
}

// AddConflictingNode marks a leaf as conflicting. Marking it again does nothing; a hash that is no
// leaf is an error.
func (st *Subtree[H, N]) AddConflictingNode(hash H) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return errClosed()
	}
	if st.position(hash) < 0 {
		return ffi.Errorf(ffi.NotFound, "conflicting node %x is no leaf of the subtree", hash)
	}
	if !slices.Contains(st.ConflictingNodes, hash) {
		st.ConflictingNodes = append(st.ConflictingNodes, hash)
	}
	return nil
}

// RemoveNodeAtIndex removes a leaf and moves the later ones up; it is no longer listed as
// conflicting.
func (st *Subtree[H, N]) RemoveNodeAtIndex(index int) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.checkIndex(index); err != nil {
		return err
	}
	node := raw(st.Nodes)[index]
	st.Fees -= node.fee
	st.SizeInBytes -= node.size
	copy(st.Nodes[index:], st.Nodes[index+1:])
	st.Nodes = st.Nodes[:len(st.Nodes)-1]
	hash := H(node.hash)
	st.ConflictingNodes = slices.DeleteFunc(st.ConflictingNodes,
		func(other H) bool { return other == hash })
	st.root, st.stored = nil, nil
	st.forgetIndex()
	kept := st.levels != nil && (index >= st.levels.leaves() ||
		st.levels.leaves() > 1 && st.levels.remove(index) == nil)
	if kept {
		return nil
	}
	return st.forgetLevels()
}

func (st *Subtree[H, N]) checkIndex(index int) error {
	if st.closed {
		return errClosed()
	}
	if index < 0 || index >= len(st.Nodes) {
		return ffi.Errorf(ffi.InvalidArgument, "no node %d in a subtree of %d nodes", index,
			len(st.Nodes))
	}
	return nil
}

// ReplaceRootNode replaces the first node, usually the coinbase placeholder, or adds it to an empty
// subtree, and returns the new root. It returns nil and changes nothing where the subtree is
// closed, has no room, or the sums exceed 64 bits.
func (st *Subtree[H, N]) ReplaceRootNode(node *H, fee, sizeInBytes uint64) *H {
	st.mu.Lock()
	defer st.mu.Unlock()
	if node == nil || st.closed || cap(st.Nodes) == 0 {
		return nil
	}
	fresh := rawNode{[32]byte(*node), fee, sizeInBytes}
	var old rawNode
	if len(st.Nodes) > 0 {
		old = raw(st.Nodes)[0]
	}
	fees, feesCarry := bits.Add64(st.Fees-old.fee, fee, 0)
	size, sizeCarry := bits.Add64(st.SizeInBytes-old.size, sizeInBytes, 0)
	if feesCarry|sizeCarry != 0 {
		return nil
	}
	st.Fees, st.SizeInBytes = fees, size
	if len(st.Nodes) == 0 {
		st.Nodes = st.Nodes[:1]
	} else if st.levels != nil && st.levels.setLeaf(0, &fresh.hash) != nil {
		st.forgetLevels()
	}
	raw(st.Nodes)[0] = fresh
	st.root, st.stored = nil, nil
	st.forgetIndex()
	root, err := st.rootLocked()
	if err != nil {
		return nil
	}
	return root
}
