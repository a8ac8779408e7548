// Package tree makes and reads the subtrees of a block, in mapped files or on the Go heap.
package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

// Node is one leaf with its fee and size.
type Node = subtree.Node[chainhash.Hash]

// Placeholder stands for the coinbase as the first leaf of a block.
var Placeholder = chainhash.Hash(subtree.CoinbasePlaceholder)

// ErrNotMapped means that a subtree did not get its place in a mapped file. The runtime's logger
// got the reason.
var ErrNotMapped = errors.New("the subtree could not be mapped (see the warning before)")

// mappedFrom is the least capacity that is worth a mapped file. A file costs a few system calls and
// a page, more than the handful of leaves of an almost empty block.
const mappedFrom = 16

// Maker makes subtrees in one place. It may be used concurrently.
type Maker struct {
	runtime   *blocktier.Runtime
	directory string
}

// NewMaker makes subtrees in mapped files in directory; on the Go heap where that is empty, and for
// subtrees of fewer than 16 leaves.
func NewMaker(runtime *blocktier.Runtime, directory string) *Maker {
	return &Maker{runtime: runtime, directory: directory}
}

// Tree is one subtree. Not for concurrent use. Close it.
type Tree struct {
	subtree *subtree.Subtree[chainhash.Hash, Node]
}

// New makes an empty subtree of up to leaves leaves, a power of two.
func (m *Maker) New(leaves int) (*Tree, error) {
	if m.directory == "" || leaves < mappedFrom {
		st, err := subtree.NewTreeByLeafCount[chainhash.Hash, Node](leaves)
		if err != nil {
			return nil, err
		}
		return &Tree{st}, nil
	}
	st, err := subtree.NewTreeByLeafCountMmap[chainhash.Hash, Node](m.runtime, leaves, m.directory)
	if err != nil {
		return nil, err
	}
	return m.mapped(st)
}

// mapped refuses a subtree that went to the heap although a directory is set.
func (m *Maker) mapped(st *subtree.Subtree[chainhash.Hash, Node]) (*Tree, error) {
	if !st.IsMmapBacked() {
		return nil, errors.Join(fmt.Errorf("%s: %w", m.directory, ErrNotMapped), st.Close())
	}
	return &Tree{st}, nil
}

// Read reads a subtree file, with or without its magic number, which must end with the subtree.
// Only its structure is checked.
func (m *Maker) Read(r io.Reader) (*Tree, error) {
	onHeap := m.directory == ""
	options := []subtree.ReadOption{subtree.WithFormat(subtree.Plain)}
	if length, known := lengthOf(r); known {
		options = append(options, subtree.WithLength(length))
		onHeap = onHeap || length < mappedFrom*subtree.NodeBytes
	}
	head := make([]byte, len(subtree.Magic))
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if string(head) == subtree.Magic {
		options = append(options, subtree.WithFormat(subtree.WithMagic))
	}
	r = io.MultiReader(bytes.NewReader(head[:n]), r)
	if onHeap {
		st, err := subtree.NewSubtreeFromReader[chainhash.Hash, Node](r, options...)
		if err != nil {
			return nil, err
		}
		return &Tree{st}, nil
	}
	st, err := subtree.NewSubtreeFromReaderMmap[chainhash.Hash, Node](m.runtime, r, m.directory,
		options...)
	if err != nil {
		return nil, err
	}
	return m.mapped(st)
}

// lengthOf is how many bytes r has, where it knows.
func lengthOf(r io.Reader) (int64, bool) {
	switch r := r.(type) {
	case interface{ Len() int }:
		return int64(r.Len()), true
	case *os.File:
		info, err := r.Stat()
		if err == nil && info.Mode().IsRegular() {
			return info.Size(), true
		}
	}
	return 0, false
}

// Nodes are the leaves; valid until Close.
func (t *Tree) Nodes() []Node { return t.subtree.Nodes }

// Full tells whether no leaf can be added.
func (t *Tree) Full() bool { return len(t.subtree.Nodes) == cap(t.subtree.Nodes) }

// Add appends a transaction.
func (t *Tree) Add(id chainhash.Hash, fee, sizeBytes uint64) error {
	return t.subtree.AddSubtreeNodeWithoutLock(Node{Hash: id, Fee: fee, SizeInBytes: sizeBytes})
}

// AddCoinbase appends the placeholder of the coinbase, which comes first.
func (t *Tree) AddCoinbase() error { return t.subtree.AddCoinbaseNode() }

// Root computes the root of the leaves, with the first one replaced unless it is nil.
func (t *Tree) Root(first *chainhash.Hash) (chainhash.Hash, error) {
	if first != nil {
		root, err := t.subtree.RootHashWithReplaceRootNode(first, 0, 0)
		if err != nil {
			return chainhash.Hash{}, err
		}
		return *root, nil
	}
	root := t.subtree.RootHash()
	if root == nil {
		return chainhash.Hash{}, errors.New("the root cannot be computed")
	}
	return *root, nil
}

// Stored returns the root in the file that the subtree was read from; zero if it was made here.
func (t *Tree) Stored() chainhash.Hash {
	root, _ := t.subtree.StoredRoot()
	return root
}

// Sums returns the fees and sizes as the subtree states them.
func (t *Tree) Sums() (fees, sizeBytes uint64) { return t.subtree.Fees, t.subtree.SizeInBytes }

// Mapped tells whether the leaves lie outside the Go heap.
func (t *Tree) Mapped() bool { return t.subtree.IsMmapBacked() }

// Write writes the subtree's file, with or without its magic number.
func (t *Tree) Write(w io.Writer, magic bool) error {
	if magic {
		return t.subtree.Write(w, subtree.WithMagic)
	}
	return t.subtree.Write(w, subtree.Plain)
}

// Close frees the leaves.
func (t *Tree) Close() error { return t.subtree.Close() }

// BlockRoot is the merkle root over the roots of a block's subtrees, all of 2^height leaves but the
// last, which has lastLeaves.
func BlockRoot(roots []chainhash.Hash, height int, lastLeaves uint64) (chainhash.Hash, error) {
	return subtree.BlockRoot(roots, height, lastLeaves)
}
