package subtree

import (
	"math"
	"slices"
	"sync"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// ChainMax is the number of complete subtrees that a Chain has at most: a subtree index has 15
// bits, and 0 means none.
const ChainMax = math.MaxInt16 - 1

// Positions are the subtree indexes of transactions; a transaction map of package txmap is one. In
// a chain, 0 is a transaction of no complete subtree and i + 1 one of subtree i.
type Positions[H ~[32]byte] interface {
	// SubtreeIndex is the subtree index of hash, and whether hash is there.
	SubtreeIndex(hash H) (index int16, found bool, err error)
	// SubtreeIndexBatch does so for many, and returns how many are there. All three have one
	// length; the index of one that is not there is 0.
	SubtreeIndexBatch(hashes []H, indexes []int16, found []bool) (int, error)
	// UpdateSubtreeIndexKeys sets the subtree index of 32-byte keys that lie stride bytes apart,
	// and returns how many of them are there.
	UpdateSubtreeIndexKeys(keys []byte, stride int, index int16) (int, error)
}

// Chain is a block in the making: complete subtrees in order, then one that is being filled. Its
// transactions are in the order in which they were added, and stay in it when others are removed:
// the later ones move up, so that a chain is always the one that would have been built without
// them.
//
// Where a transaction is follows from its subtree index in the transaction map, which the chain
// keeps up to date, and the subtree's own index: two lookups, however long the chain is.
//
// A Chain may be used concurrently. Its subtrees may be read by others at any time, but changed
// through the chain alone.
type Chain[H ~[32]byte, N any] struct {
	mu        sync.Mutex
	make      func() (*Subtree[H, N], error)
	positions Positions[H]
	size      int
	subtrees  []*Subtree[H, N] // all but the last are complete; the last is never full
	failed    error
}

// NewChain makes an empty chain. makeSubtree gives its subtrees, empty and all of one size, a power
// of two of at least 2; NewTreeMmap for one. positions must hold each transaction before it is
// added.
func NewChain[H ~[32]byte, N any](positions Positions[H],
	makeSubtree func() (*Subtree[H, N], error)) (*Chain[H, N], error) {
	c := &Chain[H, N]{make: makeSubtree, positions: positions}
	first, err := c.fresh()
	if err != nil {
		return nil, err
	}
	c.subtrees = append(c.subtrees, first)
	return c, nil
}

// fresh is another empty subtree.
func (c *Chain[H, N]) fresh() (*Subtree[H, N], error) {
	st, err := c.make()
	if err != nil {
		return nil, err
	}
	if size := st.Size(); c.size == 0 && size >= 2 && size&(size-1) == 0 {
		c.size = size
	}
	if st.Size() != c.size || st.Length() != 0 {
		err := ffi.Errorf(ffi.InvalidArgument,
			"a new subtree of the chain has %d of %d nodes; want 0 of %d, a power of two",
			st.Length(), st.Size(), max(c.size, 2))
		_ = st.Close()
		return nil, err
	}
	return st, nil
}

// AddCoinbase adds the coinbase placeholder, which comes first.
func (c *Chain[H, N]) AddCoinbase() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
	if len(c.subtrees) != 1 {
		return ffi.Errorf(ffi.InvalidArgument, "the coinbase comes first in a chain")
	}
	return c.subtrees[0].AddCoinbaseNode()
}

// Add adds a transaction at the end. When that completes a subtree, the transaction map learns
// which one its transactions are in; one that the map does not have is an error, and the subtree's
// last transaction is not added.
func (c *Chain[H, N]) Add(node N) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
	last := c.subtrees[len(c.subtrees)-1]
	if last.Length()+1 < c.size {
		return last.AddSubtreeNode(node)
	}
	if len(c.subtrees) > ChainMax {
		return ffi.Errorf(ffi.InvalidArgument,
			"the chain has %d complete subtrees, the most that subtree indexes can tell apart",
			ChainMax)
	}
	next, err := c.fresh()
	if err != nil {
		return err
	}
	if err = last.AddSubtreeNode(node); err == nil {
		if err = c.tell(last, len(c.subtrees)-1); err == nil {
			c.subtrees = append(c.subtrees, next)
			return nil
		}
		_ = last.RemoveNodeAtIndex(c.size - 1)
	}
	_ = next.Close()
	return err
}

// tell sets the subtree index of all transactions of complete subtree number.
func (c *Chain[H, N]) tell(st *Subtree[H, N], number int) error {
	nodes := raw(st.Nodes)
	if nodes[0].isPlaceholder() {
		nodes = nodes[1:]
	}
	there, err := c.positions.UpdateSubtreeIndexKeys(rawBytes(nodes), NodeBytes, int16(number+1))
	if err == nil && there != len(nodes) {
		err = ffi.Errorf(ffi.NotFound, "%d of the %d transactions of subtree %d are not in the map",
			len(nodes)-there, len(nodes), number)
	}
	return err
}

// Length is the number of transactions, the coinbase placeholder included.
func (c *Chain[H, N]) Length() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return (len(c.subtrees)-1)*c.size + c.subtrees[len(c.subtrees)-1].Length()
}

// Subtrees are the subtrees in order; the last one is being filled, and may be empty. The slice is
// the caller's, the subtrees are the chain's.
func (c *Chain[H, N]) Subtrees() []*Subtree[H, N] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.subtrees)
}

// MerkleRoot is the root that a block of these transactions has in its header. The coinbase
// placeholder, if it is there, counts as coinbase.
func (c *Chain[H, N]) MerkleRoot(coinbase H) (H, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return H{}, c.failed
	}
	subtrees := c.subtrees
	if last := subtrees[len(subtrees)-1]; len(subtrees) > 1 && last.Length() == 0 {
		subtrees = subtrees[:len(subtrees)-1]
	}
	roots, err := RootHashes(subtrees)
	if err != nil {
		return H{}, err
	}
	if first := subtrees[0]; raw(first.Nodes)[0].isPlaceholder() {
		root, err := first.RootHashWithReplaceRootNode(&coinbase, 0, 0)
		if err != nil {
			return H{}, err
		}
		roots[0] = *root
	}
	last := subtrees[len(subtrees)-1]
	return BlockRoot(roots, heightOf(c.size), uint64(last.Length()))
}

// Close closes all subtrees. The chain must not be used afterwards.
func (c *Chain[H, N]) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first error
	for _, st := range c.subtrees {
		if err := st.Close(); first == nil {
			first = err
		}
	}
	if c.failed == nil {
		c.failed = errClosed()
	}
	return first
}
