//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_node_array_new
#cgo nocallback blocktier_node_array_new
#cgo noescape blocktier_node_array_touched
#cgo nocallback blocktier_node_array_touched
#cgo noescape blocktier_node_array_free
#cgo nocallback blocktier_node_array_free
*/
import "C"

import "unsafe"

// NodeArray is memory for nodes outside the Go heap.
type NodeArray struct{ handle *C.blocktier_node_array_t }

// NewNodeArray reserves and maps capacity nodes: an unlinked file in directory, or anonymous memory
// where it is empty. With touched all pages are there at once.
func NewNodeArray(runtime Runtime, capacity uint64, directory string, touched bool) (NodeArray,
	unsafe.Pointer, error) {
	var failure C.blocktier_error_t
	var handle *C.blocktier_node_array_t
	var data unsafe.Pointer
	var status C.blocktier_status_t
	nodes, length := C.uint64_t(capacity), C.size_t(len(directory))
	if touched {
		status = C.blocktier_node_array_touched(runtime.handle, nodes, textOf(directory), length,
			&handle, &data, &failure)
	} else {
		status = C.blocktier_node_array_new(runtime.handle, nodes, textOf(directory), length,
			&handle, &data, &failure)
	}
	return NodeArray{handle}, data, check(status, &failure)
}

// Free unmaps the nodes.
func (a NodeArray) Free() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_node_array_free(a.handle, &failure), &failure)
}
