//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_txmap_set_if_not_exists_batch
#cgo nocallback blocktier_txmap_set_if_not_exists_batch
#cgo noescape blocktier_txmap_set_batch
#cgo nocallback blocktier_txmap_set_batch
#cgo noescape blocktier_txmap_get_batch
#cgo nocallback blocktier_txmap_get_batch
#cgo noescape blocktier_txmap_exists_batch
#cgo nocallback blocktier_txmap_exists_batch
#cgo noescape blocktier_txmap_delete_batch
#cgo nocallback blocktier_txmap_delete_batch
#cgo noescape blocktier_txmap_update_subtree_index_batch
#cgo nocallback blocktier_txmap_update_subtree_index_batch
#cgo noescape blocktier_txmap_subtree_index_batch
#cgo nocallback blocktier_txmap_subtree_index_batch
*/
import "C"

import "unsafe"

// SetIfNotExistsBatch inserts the absent ones; it returns how many items are decided.
func (m TxMap) SetIfNotExistsBatch(b Batch, flags uint32) (int, error) {
	var failure C.blocktier_error_t
	var done C.size_t
	status := C.blocktier_txmap_set_if_not_exists_batch(m.handle, bytesOf(b.Keys),
		C.size_t(len(b.States)), bytesOf(b.Values),
		(*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(b.Offsets))),
		(*C.uint16_t)(unsafe.Pointer(unsafe.SliceData(b.SubtreeIndexes))), C.uint32_t(flags),
		bytesOf(b.States), &done, &failure)
	return int(done), check(status, &failure)
}

// SetBatch inserts or replaces all; it returns how many items are decided.
func (m TxMap) SetBatch(b Batch, flags uint32) (int, error) {
	var failure C.blocktier_error_t
	var done C.size_t
	status := C.blocktier_txmap_set_batch(m.handle, bytesOf(b.Keys), C.size_t(len(b.States)),
		bytesOf(b.Values), (*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(b.Offsets))),
		(*C.uint16_t)(unsafe.Pointer(unsafe.SliceData(b.SubtreeIndexes))), C.uint32_t(flags),
		bytesOf(b.States), &done, &failure)
	return int(done), check(status, &failure)
}

// GetBatch copies the values found into arena, in any order, each at its result's ValueOffset. A
// result is Absent, Found, Undecided where a disk would be needed, or ArenaFull with its
// ValueLength; needed is the sum of the lengths of the last kind. It returns ErrNeedsDisk if any is
// Undecided, else BufferTooSmall if any is ArenaFull.
func (m TxMap) GetBatch(keys []byte, flags uint32, arena []byte, results []Lookup) (needed int,
	err error) {
	var failure C.blocktier_error_t
	var length C.size_t
	status := C.blocktier_txmap_get_batch(m.handle, bytesOf(keys), C.size_t(len(results)),
		C.uint32_t(flags), bytesOf(arena), C.size_t(len(arena)),
		(*C.blocktier_lookup_t)(unsafe.Pointer(unsafe.SliceData(results))), &length, &failure)
	return int(length), needsDisk(check(status, &failure))
}

// ExistsBatch answers Absent, Found or Undecided for each key; ErrNeedsDisk if any is Undecided.
func (m TxMap) ExistsBatch(keys []byte, flags uint32, found []byte) error {
	var failure C.blocktier_error_t
	status := C.blocktier_txmap_exists_batch(m.handle, bytesOf(keys), C.size_t(len(found)),
		C.uint32_t(flags), bytesOf(found), &failure)
	return needsDisk(check(status, &failure))
}

// SubtreeIndexBatch is ExistsBatch that gives the subtree index of each key that is Found, too.
func (m TxMap) SubtreeIndexBatch(keys []byte, flags uint32, indexes []int16, found []byte) error {
	var failure C.blocktier_error_t
	status := C.blocktier_txmap_subtree_index_batch(m.handle, bytesOf(keys), C.size_t(len(found)),
		C.uint32_t(flags), (*C.uint16_t)(unsafe.Pointer(unsafe.SliceData(indexes))),
		bytesOf(found), &failure)
	return needsDisk(check(status, &failure))
}

// needsDisk: a lookup never needs space, so WouldBlock means a disk.
func needsDisk(err error) error {
	if err == error(ErrNoSpace) {
		return ErrNeedsDisk
	}
	return err
}

// DeleteBatch removes the keys; it returns how many items are decided.
func (m TxMap) DeleteBatch(keys []byte, flags uint32, states []byte) (int, error) {
	var failure C.blocktier_error_t
	var done C.size_t
	status := C.blocktier_txmap_delete_batch(m.handle, bytesOf(keys), C.size_t(len(states)),
		C.uint32_t(flags), bytesOf(states), &done, &failure)
	return int(done), check(status, &failure)
}

// UpdateSubtreeIndexBatch sets the subtree index of keys that lie stride bytes apart (32, or 48 in
// nodes); it returns how many items are decided.
func (m TxMap) UpdateSubtreeIndexBatch(keys []byte, stride int, subtreeIndex uint16, flags uint32,
	states []byte) (int, error) {
	var failure C.blocktier_error_t
	var done C.size_t
	status := C.blocktier_txmap_update_subtree_index_batch(m.handle, bytesOf(keys),
		C.size_t(len(states)), C.size_t(stride), C.uint16_t(subtreeIndex), C.uint32_t(flags),
		bytesOf(states), &done, &failure)
	return int(done), check(status, &failure)
}
