//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_txmap_open
#cgo nocallback blocktier_txmap_open
#cgo noescape blocktier_txmap_close
#cgo nocallback blocktier_txmap_close
#cgo noescape blocktier_txmap_length
#cgo nocallback blocktier_txmap_length
#cgo noescape blocktier_txmap_clear
#cgo nocallback blocktier_txmap_clear
#cgo noescape blocktier_txmap_flush_begin
#cgo nocallback blocktier_txmap_flush_begin
#cgo noescape blocktier_txmap_flush_wait
#cgo nocallback blocktier_txmap_flush_wait
#cgo noescape blocktier_txmap_sync
#cgo nocallback blocktier_txmap_sync
#cgo noescape blocktier_txmap_failure
#cgo nocallback blocktier_txmap_failure
#cgo noescape blocktier_txmap_set_if_not_exists
#cgo nocallback blocktier_txmap_set_if_not_exists
#cgo noescape blocktier_txmap_set
#cgo nocallback blocktier_txmap_set
#cgo noescape blocktier_txmap_get
#cgo nocallback blocktier_txmap_get
#cgo noescape blocktier_txmap_exists
#cgo nocallback blocktier_txmap_exists
#cgo noescape blocktier_txmap_delete
#cgo nocallback blocktier_txmap_delete
#cgo noescape blocktier_txmap_update_subtree_index
#cgo nocallback blocktier_txmap_update_subtree_index
*/
import "C"

import "unsafe"

// TxMap is a disk-backed map of 32-byte keys.
type TxMap struct{ handle *C.blocktier_txmap_t }

// OpenTxMap opens a map on the runtime's disks from lines of "key = value".
func OpenTxMap(runtime Runtime, settings string) (TxMap, error) {
	var failure C.blocktier_error_t
	var handle *C.blocktier_txmap_t
	status := C.blocktier_txmap_open(runtime.handle, textOf(settings), C.size_t(len(settings)),
		&handle, &failure)
	return TxMap{handle}, check(status, &failure)
}

// Close frees the map whatever it returns: the error that had stopped it, if any.
func (m TxMap) Close() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_txmap_close(m.handle, &failure), &failure)
}

// SetIfNotExists inserts the value unless the key is there; then Found is 1 and up to len(existing)
// bytes of the present value are copied.
func (m TxMap) SetIfNotExists(key *[32]byte, value []byte, subtreeIndex uint16, flags uint32,
	existing []byte, result *Lookup) error {
	var failure C.blocktier_error_t
	status := C.blocktier_txmap_set_if_not_exists(m.handle, keyOf(key), bytesOf(value),
		C.size_t(len(value)), C.uint16_t(subtreeIndex), C.uint32_t(flags), bytesOf(existing),
		C.size_t(len(existing)), (*C.blocktier_lookup_t)(unsafe.Pointer(result)), &failure)
	return check(status, &failure)
}

// Set inserts or replaces; replaced tells which.
func (m TxMap) Set(key *[32]byte, value []byte, subtreeIndex uint16, flags uint32) (replaced bool,
	err error) {
	var failure C.blocktier_error_t
	var was C.uint8_t
	status := C.blocktier_txmap_set(m.handle, keyOf(key), bytesOf(value), C.size_t(len(value)),
		C.uint16_t(subtreeIndex), C.uint32_t(flags), &was, &failure)
	return was != 0, check(status, &failure)
}

// Get copies the value into buffer. NotFound when absent; BufferTooSmall fills only the result.
func (m TxMap) Get(key *[32]byte, flags uint32, buffer []byte, result *Lookup) error {
	var failure C.blocktier_error_t
	status := C.blocktier_txmap_get(m.handle, keyOf(key), C.uint32_t(flags), bytesOf(buffer),
		C.size_t(len(buffer)), (*C.blocktier_lookup_t)(unsafe.Pointer(result)), &failure)
	return check(status, &failure)
}

// Exists answers exactly.
func (m TxMap) Exists(key *[32]byte, flags uint32) (bool, error) {
	var failure C.blocktier_error_t
	var found C.uint8_t
	status := C.blocktier_txmap_exists(m.handle, keyOf(key), C.uint32_t(flags), &found, &failure)
	return found == 1, check(status, &failure)
}

// Delete removes the key and tells whether it was there.
func (m TxMap) Delete(key *[32]byte, flags uint32) (bool, error) {
	var failure C.blocktier_error_t
	var removed C.uint8_t
	status := C.blocktier_txmap_delete(m.handle, keyOf(key), C.uint32_t(flags), &removed, &failure)
	return removed == 1, check(status, &failure)
}

// UpdateSubtreeIndex sets the key's subtree index and tells whether the key was there.
func (m TxMap) UpdateSubtreeIndex(key *[32]byte, subtreeIndex uint16, flags uint32) (bool, error) {
	var failure C.blocktier_error_t
	var found C.uint8_t
	status := C.blocktier_txmap_update_subtree_index(m.handle, keyOf(key), C.uint16_t(subtreeIndex),
		C.uint32_t(flags), &found, &failure)
	return found == 1, check(status, &failure)
}

// Length is the number of keys.
func (m TxMap) Length() (uint64, error) {
	var failure C.blocktier_error_t
	var length C.uint64_t
	status := C.blocktier_txmap_length(m.handle, &length, &failure)
	return uint64(length), check(status, &failure)
}

// Clear removes everything; if it fails the old content stays.
func (m TxMap) Clear() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_txmap_clear(m.handle, &failure), &failure)
}

// FlushBegin starts to write what is in RAM; the ticket is for FlushWait.
func (m TxMap) FlushBegin(flags uint32) (ticket uint64, err error) {
	var failure C.blocktier_error_t
	var number C.uint64_t
	status := C.blocktier_txmap_flush_begin(m.handle, C.uint32_t(flags), &number, &failure)
	return uint64(number), check(status, &failure)
}

// FlushWait waits until what the ticket stands for is written, or with NonBlocking returns
// WouldBlock until then.
func (m TxMap) FlushWait(ticket uint64, flags uint32) error {
	var failure C.blocktier_error_t
	return check(C.blocktier_txmap_flush_wait(m.handle, C.uint64_t(ticket), C.uint32_t(flags),
		&failure), &failure)
}

// Sync makes what is acknowledged survive a power cut; for a durable map.
func (m TxMap) Sync(flags uint32) error {
	var failure C.blocktier_error_t
	return check(C.blocktier_txmap_sync(m.handle, C.uint32_t(flags), &failure), &failure)
}

// Failure is the error that stopped the map, nil while it works.
func (m TxMap) Failure() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_txmap_failure(m.handle, &failure), &failure)
}
