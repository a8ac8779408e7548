//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_subtree_root
#cgo nocallback blocktier_subtree_root
#cgo noescape blocktier_subtree_roots
#cgo nocallback blocktier_subtree_roots
#cgo noescape blocktier_merkle_root
#cgo nocallback blocktier_merkle_root
#cgo noescape blocktier_block_root
#cgo nocallback blocktier_block_root
#cgo noescape blocktier_merkle_proof_fold
#cgo nocallback blocktier_merkle_proof_fold
#cgo noescape blocktier_merkle_levels_with_capacity
#cgo nocallback blocktier_merkle_levels_with_capacity
#cgo noescape blocktier_merkle_levels_append
#cgo nocallback blocktier_merkle_levels_append
#cgo noescape blocktier_merkle_levels_remove
#cgo nocallback blocktier_merkle_levels_remove
#cgo noescape blocktier_merkle_levels_proofs
#cgo nocallback blocktier_merkle_levels_proofs
#cgo noescape blocktier_merkle_levels_free
#cgo nocallback blocktier_merkle_levels_free
#cgo noescape blocktier_merkle_levels_root
#cgo nocallback blocktier_merkle_levels_root
#cgo noescape blocktier_merkle_levels_proof
#cgo nocallback blocktier_merkle_levels_proof
#cgo noescape blocktier_merkle_levels_set_leaf
#cgo nocallback blocktier_merkle_levels_set_leaf
#cgo noescape blocktier_subtree_verify
#cgo nocallback blocktier_subtree_verify
#cgo noescape blocktier_subtree_inspect
#cgo nocallback blocktier_subtree_inspect
*/
import "C"

import "unsafe"

// SubtreeRoot is the root over n nodes of 48 bytes; first, if given, replaces the hash of leaf 0. A
// paddedHeight above the tree's own height lifts the root to it.
func SubtreeRoot(nodes unsafe.Pointer, n int, first *[32]byte, paddedHeight uint32) (root [32]byte,
	err error) {
	var failure C.blocktier_error_t
	status := C.blocktier_subtree_root(nodes, C.size_t(n), keyOf(first), C.uint32_t(paddedHeight),
		keyOf(&root), &failure)
	return root, check(status, &failure)
}

// SubtreeRoots computes the root of each subtree on all processors: nodes[i] points to counts[i]
// nodes of 48 bytes, pinned if they are on the Go heap. There are as many counts and roots as there
// are nodes.
func SubtreeRoots(nodes []unsafe.Pointer, counts []uintptr, roots [][32]byte) error {
	var failure C.blocktier_error_t
	status := C.blocktier_subtree_roots(unsafe.SliceData(nodes),
		(*C.size_t)(unsafe.Pointer(unsafe.SliceData(counts))), C.size_t(len(nodes)),
		(*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(roots))), &failure)
	return check(status, &failure)
}

// MerkleRoot is the root over hashes that lie one behind the other.
func MerkleRoot(hashes []byte, paddedHeight uint32) (root [32]byte, err error) {
	var failure C.blocktier_error_t
	status := C.blocktier_merkle_root(bytesOf(hashes), C.size_t(len(hashes)/32),
		C.uint32_t(paddedHeight), keyOf(&root), &failure)
	return root, check(status, &failure)
}

// BlockRoot is the root over subtree roots: all but the last of 2^height leaves, the last of
// lastLeaves.
func BlockRoot(roots []byte, height uint32, lastLeaves uint64) (root [32]byte, err error) {
	var failure C.blocktier_error_t
	status := C.blocktier_block_root(bytesOf(roots), C.size_t(len(roots)/32), C.uint32_t(height),
		C.uint64_t(lastLeaves), keyOf(&root), &failure)
	return root, check(status, &failure)
}

// FoldProof is the root that a proof leads to.
func FoldProof(leaf *[32]byte, index uint64, siblings []byte) (root [32]byte, err error) {
	var failure C.blocktier_error_t
	status := C.blocktier_merkle_proof_fold(keyOf(leaf), C.uint64_t(index), bytesOf(siblings),
		C.size_t(len(siblings)/32), keyOf(&root), &failure)
	return root, check(status, &failure)
}

// MerkleLevels keeps every level of a tree outside the Go heap.
type MerkleLevels struct{ handle *C.blocktier_merkle_levels_t }

// NewMerkleLevels computes the levels over n leaves that lie stride bytes apart, with room for
// capacity of them; directory as for NewNodeArray.
func NewMerkleLevels(runtime Runtime, leaves unsafe.Pointer, n, stride, capacity int,
	directory string) (MerkleLevels, error) {
	var failure C.blocktier_error_t
	var handle *C.blocktier_merkle_levels_t
	status := C.blocktier_merkle_levels_with_capacity(runtime.handle, leaves, C.size_t(n),
		C.size_t(stride), C.uint64_t(capacity), textOf(directory), C.size_t(len(directory)),
		&handle, &failure)
	return MerkleLevels{handle}, check(status, &failure)
}

// Free frees the levels.
func (l MerkleLevels) Free() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_merkle_levels_free(l.handle, &failure), &failure)
}

// Root is the root of the tree.
func (l MerkleLevels) Root() (root [32]byte, err error) {
	var failure C.blocktier_error_t
	status := C.blocktier_merkle_levels_root(l.handle, keyOf(&root), &failure)
	return root, check(status, &failure)
}

// Proof writes the siblings of leaf index, from the leaf up, and returns their number.
func (l MerkleLevels) Proof(index uint64, siblings [][32]byte) (int, error) {
	var failure C.blocktier_error_t
	var count C.size_t
	status := C.blocktier_merkle_levels_proof(l.handle, C.uint64_t(index),
		(*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(siblings))), C.size_t(len(siblings)), &count,
		&failure)
	return int(count), check(status, &failure)
}

// SetLeaf replaces a leaf and recomputes its path. Nothing else may use the levels meanwhile.
func (l MerkleLevels) SetLeaf(index uint64, hash *[32]byte) error {
	var failure C.blocktier_error_t
	return check(C.blocktier_merkle_levels_set_leaf(l.handle, C.uint64_t(index), keyOf(hash),
		&failure), &failure)
}

// Append adds n leaves that lie stride bytes apart. Nothing else may use the levels meanwhile.
func (l MerkleLevels) Append(leaves unsafe.Pointer, n, stride int) error {
	var failure C.blocktier_error_t
	return check(C.blocktier_merkle_levels_append(l.handle, leaves, C.size_t(n), C.size_t(stride),
		&failure), &failure)
}

// Remove removes a leaf; the later ones move up. Nothing else may use the levels meanwhile.
func (l MerkleLevels) Remove(index uint64) error {
	var failure C.blocktier_error_t
	return check(C.blocktier_merkle_levels_remove(l.handle, C.uint64_t(index), &failure), &failure)
}

// Proofs writes the siblings of several leaves, proof after proof, and returns the length of each.
// BufferTooSmall gives the length alone.
func (l MerkleLevels) Proofs(indexes []uint64, siblings [][32]byte) (height int, err error) {
	var failure C.blocktier_error_t
	var each C.size_t
	status := C.blocktier_merkle_levels_proofs(l.handle,
		(*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(indexes))), C.size_t(len(indexes)),
		(*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(siblings))), C.size_t(len(siblings)), &each,
		&failure)
	return int(each), check(status, &failure)
}

// Inspect checks the sizes of a subtree file's bytes and, on demand, root, sums and policy.
func Inspect(bytes []byte, format uint32, verify bool) (header SubtreeHeader, err error) {
	var failure C.blocktier_error_t
	var flag C.uint32_t
	if verify {
		flag = 1
	}
	status := C.blocktier_subtree_inspect(bytesOf(bytes), C.size_t(len(bytes)), C.uint32_t(format),
		flag, (*C.blocktier_subtree_header_t)(unsafe.Pointer(&header)), &failure)
	return header, check(status, &failure)
}

// VerifySubtree checks the content of a subtree: n nodes of 48 bytes and conflicting hashes. Of
// header root and sums are read; expected, if given, has to be the root, too.
func VerifySubtree(header *SubtreeHeader, nodes unsafe.Pointer, n int, conflicting []byte,
	checks uint32, expected *[32]byte) error {
	var failure C.blocktier_error_t
	status := C.blocktier_subtree_verify((*C.blocktier_subtree_header_t)(unsafe.Pointer(header)),
		nodes, C.size_t(n), bytesOf(conflicting), C.size_t(len(conflicting)/32),
		C.uint32_t(checks), keyOf(expected), &failure)
	return check(status, &failure)
}
