//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_runtime_open
#cgo nocallback blocktier_runtime_open
#cgo noescape blocktier_runtime_close
#cgo nocallback blocktier_runtime_close
#cgo noescape blocktier_runtime_next_event
#cgo nocallback blocktier_runtime_next_event
*/
import "C"

import "unsafe"

// Runtime is what a process has once: disks, writer threads, memory budget, events.
type Runtime struct{ handle *C.blocktier_runtime_t }

// OpenRuntime opens a runtime from lines of "key = value".
func OpenRuntime(settings string) (Runtime, error) {
	if err := Available(); err != nil {
		return Runtime{}, err
	}
	var failure C.blocktier_error_t
	var handle *C.blocktier_runtime_t
	status := C.blocktier_runtime_open(textOf(settings), C.size_t(len(settings)), &handle, &failure)
	return Runtime{handle}, check(status, &failure)
}

// Close frees the runtime; maps and arrays made from it keep what they need.
func (r Runtime) Close() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_runtime_close(r.handle, &failure), &failure)
}

// NextEvent takes the next event's text into buffer and returns its length; NotFound when there is
// none.
func (r Runtime) NextEvent(buffer []byte) (int, error) {
	var failure C.blocktier_error_t
	var length C.size_t
	status := C.blocktier_runtime_next_event(r.handle,
		(*C.char)(unsafe.Pointer(unsafe.SliceData(buffer))), C.size_t(len(buffer)), &length,
		&failure)
	return min(int(length), len(buffer)), check(status, &failure)
}
