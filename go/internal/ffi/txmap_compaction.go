//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_txmap_compact
#cgo nocallback blocktier_txmap_compact
#cgo noescape blocktier_txmap_set_compaction
#cgo nocallback blocktier_txmap_set_compaction
#cgo noescape blocktier_txmap_set_backpressure
#cgo nocallback blocktier_txmap_set_backpressure
#cgo noescape blocktier_txmap_backpressure
#cgo nocallback blocktier_txmap_backpressure
*/
import "C"

// Compact merges what the settings find worth it, in this call.
func (m TxMap) Compact() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_txmap_compact(m.handle, &failure), &failure)
}

// SetCompaction changes the settings of compaction that are in lines of "key = value".
func (m TxMap) SetCompaction(settings string) error {
	var failure C.blocktier_error_t
	return check(C.blocktier_txmap_set_compaction(m.handle, textOf(settings),
		C.size_t(len(settings)), &failure), &failure)
}

// SetBackpressure changes when writers wait for compaction; 0 bytes are never.
func (m TxMap) SetBackpressure(slowdownBytes, stopBytes, maxDelayMillis uint64) error {
	var failure C.blocktier_error_t
	return check(C.blocktier_txmap_set_backpressure(m.handle, C.uint64_t(slowdownBytes),
		C.uint64_t(stopBytes), C.uint64_t(maxDelayMillis), &failure), &failure)
}

// Backpressure is what a write would meet now: 0 nothing, 1 a delay, 2 waiting.
func (m TxMap) Backpressure() (state uint32, delayNanos uint64, err error) {
	var failure C.blocktier_error_t
	var now C.blocktier_backpressure_t
	err = check(C.blocktier_txmap_backpressure(m.handle, &now, &failure), &failure)
	return uint32(now.state), uint64(now.delay_nanos), err
}
