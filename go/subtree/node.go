// Package subtree holds subtrees of a block: up to 2^k transactions with fees and sizes, their
// Merkle root and proofs.
//
// The nodes live on the Go heap, in anonymous memory outside it, or in a mapped file; in each case
// Nodes is an ordinary slice of the node's own 48-byte struct type N, and appending costs no call
// into C. Everything is generic over N and over the node's hash type H.
//
// Formats: plain (what Serialize gives), with the 8-byte magic of the blob store, and bare hash
// lists; see Format. No count in a file is believed before the bytes are there. A root in a file is
// not believed at all: RootHash computes it, and Verify compares.
//
// Subtrees on the heap need no Close; mapped ones do.
package subtree

import (
	"math/bits"
	"reflect"
	"sync"
	"unsafe"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// NodeBytes is the size of a node, in memory and in files.
const NodeBytes = ffi.NodeBytes

// maxHeight bounds subtrees to 2^31 nodes, so that positions fit 32 bits.
const maxHeight = 31

// Node is a ready node type for those who have none of their own.
type Node[H ~[32]byte] struct {
	// Hash is the transaction id in internal byte order.
	Hash H
	// Fee is in satoshis.
	Fee uint64
	// SizeInBytes is the transaction's size.
	SizeInBytes uint64
}

// CoinbasePlaceholder stands for the coinbase transaction as the first leaf of a block's first
// subtree.
var CoinbasePlaceholder = [32]byte{
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
}

// rawNode is the layout that every N must have: hash at 0, fee at 32, size at 40.
type rawNode struct {
	hash [32]byte
	fee  uint64
	size uint64
}

func (n *rawNode) isPlaceholder() bool { return n.hash == CoinbasePlaceholder }

// beginsAsPlaceholder is cheaper, and true for a placeholder and next to nothing else.
func (n *rawNode) beginsAsPlaceholder() bool {
	return *(*uint64)(unsafe.Pointer(&n.hash)) == ^uint64(0)
}

// checkedLayouts remembers the node types that were checked, with the error or nil.
var checkedLayouts sync.Map

// checkLayout tells whether N can be used as a node.
func checkLayout[N any]() error {
	node := reflect.TypeFor[N]()
	if known, found := checkedLayouts.Load(node); found {
		err, _ := known.(error)
		return err
	}
	err := layoutOf(node)
	checkedLayouts.Store(node, err)
	return err
}

func layoutOf(node reflect.Type) error {
	if node.Kind() != reflect.Struct || node.Size() != NodeBytes || node.NumField() != 3 {
		return ffi.Errorf(ffi.InvalidArgument,
			"%s is no node type: want a struct of %d bytes with a 32-byte hash and two uint64",
			node, NodeBytes)
	}
	hash, fee, size := node.Field(0), node.Field(1), node.Field(2)
	if hash.Type.Kind() != reflect.Array || hash.Type.Len() != 32 ||
		hash.Type.Elem().Kind() != reflect.Uint8 {
		return ffi.Errorf(ffi.InvalidArgument,
			"the first field of node type %s is %s; want a 32-byte hash", node, hash.Type)
	}
	if fee.Type.Kind() != reflect.Uint64 || fee.Offset != 32 ||
		size.Type.Kind() != reflect.Uint64 || size.Offset != 40 {
		return ffi.Errorf(ffi.InvalidArgument,
			"fields 2 and 3 of node type %s are %s at %d and %s at %d; "+
				"want uint64 at 32 (fee) and at 40 (size)", node,
			fee.Type, fee.Offset, size.Type, size.Offset)
	}
	return nil
}

// raw sees nodes as what they are in memory; no copy.
func raw[N any](nodes []N) []rawNode {
	return unsafe.Slice((*rawNode)(unsafe.Pointer(unsafe.SliceData(nodes))), len(nodes))
}

// rawBytes sees nodes as bytes; no copy.
func rawBytes(nodes []rawNode) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(nodes))), len(nodes)*NodeBytes)
}

// hashBytes sees hashes as one run of bytes; no copy.
func hashBytes[H ~[32]byte](hashes []H) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(hashes))), 32*len(hashes))
}

// bigEndian machines swap the integers of nodes when they read and write files.
var bigEndian = func() bool {
	word := uint16(1)
	return *(*byte)(unsafe.Pointer(&word)) == 0
}()

// swapIntegers turns fees and sizes from file order into machine order or back, where these differ.
func swapIntegers(nodes []rawNode) {
	if !bigEndian {
		return
	}
	for i := range nodes {
		nodes[i].fee = bits.ReverseBytes64(nodes[i].fee)
		nodes[i].size = bits.ReverseBytes64(nodes[i].size)
	}
}

// heightOf is the height of a tree of n leaves: the least h with 2^h >= n.
func heightOf(n int) int {
	if n <= 1 {
		return 0
	}
	return bits.Len(uint(n - 1))
}
