//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_txmap_rotate
#cgo nocallback blocktier_txmap_rotate
#cgo noescape blocktier_txmap_freeze
#cgo nocallback blocktier_txmap_freeze
#cgo noescape blocktier_txmap_is_frozen
#cgo nocallback blocktier_txmap_is_frozen
#cgo noescape blocktier_transfer_new
#cgo nocallback blocktier_transfer_new
#cgo noescape blocktier_transfer_free
#cgo nocallback blocktier_transfer_free
#cgo noescape blocktier_transfer_step
#cgo nocallback blocktier_transfer_step
#cgo noescape blocktier_txmap_iterate
#cgo nocallback blocktier_txmap_iterate
#cgo noescape blocktier_cursor_free
#cgo nocallback blocktier_cursor_free
#cgo noescape blocktier_cursor_next
#cgo nocallback blocktier_cursor_next
*/
import "C"

import "unsafe"

// Rotate takes the content out as a read-only map; if it fails the content stays.
func (m TxMap) Rotate() (TxMap, error) {
	var failure C.blocktier_error_t
	var handle *C.blocktier_txmap_t
	status := C.blocktier_txmap_rotate(m.handle, &handle, &failure)
	return TxMap{handle}, check(status, &failure)
}

// Freeze makes the map read-only until it is cleared or rotated.
func (m TxMap) Freeze() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_txmap_freeze(m.handle, &failure), &failure)
}

// IsFrozen tells whether writes fail with Frozen.
func (m TxMap) IsFrozen() (bool, error) {
	var failure C.blocktier_error_t
	var frozen C.uint8_t
	status := C.blocktier_txmap_is_frozen(m.handle, &frozen, &failure)
	return frozen == 1, check(status, &failure)
}

// Transfer is a move between two maps under way. It must not be used concurrently.
type Transfer struct{ handle *C.blocktier_transfer_t }

// NewTransfer begins a move.
func NewTransfer() (Transfer, error) {
	var failure C.blocktier_error_t
	var handle *C.blocktier_transfer_t
	status := C.blocktier_transfer_new(&handle, &failure)
	return Transfer{handle}, check(status, &failure)
}

// Free ends the move.
func (t Transfer) Free() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_transfer_free(t.handle, &failure), &failure)
}

// Step does some milliseconds of the move of keys from source to m; call it with the same arguments
// until finished. NotFound: source lacks the key at position missing, nothing was inserted.
func (t Transfer) Step(m, source TxMap, keys []byte, flags uint32, states []byte) (finished bool,
	missing int, err error) {
	var failure C.blocktier_error_t
	var done C.uint8_t
	var position C.size_t
	status := C.blocktier_transfer_step(t.handle, m.handle, source.handle, bytesOf(keys),
		C.size_t(len(states)), C.uint32_t(flags), bytesOf(states), &done, &position, &failure)
	return done == 1, int(position), check(status, &failure)
}

// Cursor is an iteration over a map. It must not be used concurrently.
type Cursor struct{ handle *C.blocktier_cursor_t }

// Iterate begins an iteration.
func (m TxMap) Iterate(keysOnly bool) (Cursor, error) {
	var failure C.blocktier_error_t
	var handle *C.blocktier_cursor_t
	var only C.uint8_t
	if keysOnly {
		only = 1
	}
	status := C.blocktier_txmap_iterate(m.handle, only, &handle, &failure)
	return Cursor{handle}, check(status, &failure)
}

// Free ends the iteration.
func (c Cursor) Free() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_cursor_free(c.handle, &failure), &failure)
}

// Next fills keys (32 bytes each), arena and results with the next len(results) records at most;
// count 0 is the end. BufferTooSmall: the arena needs as many bytes as needed says.
func (c Cursor) Next(flags uint32, keys, arena []byte, results []Lookup) (count, needed int,
	err error) {
	var failure C.blocktier_error_t
	var visited, length C.size_t
	status := C.blocktier_cursor_next(c.handle, C.size_t(len(results)), C.uint32_t(flags),
		bytesOf(keys), bytesOf(arena), C.size_t(len(arena)),
		(*C.blocktier_lookup_t)(unsafe.Pointer(unsafe.SliceData(results))), &visited, &length,
		&failure)
	return int(visited), int(length), check(status, &failure)
}
