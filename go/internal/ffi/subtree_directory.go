//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_subtree_directory_open
#cgo nocallback blocktier_subtree_directory_open
#cgo noescape blocktier_subtree_directory_store
#cgo nocallback blocktier_subtree_directory_store
#cgo noescape blocktier_subtree_directory_map
#cgo nocallback blocktier_subtree_directory_map
#cgo noescape blocktier_subtree_directory_close
#cgo nocallback blocktier_subtree_directory_close
*/
import "C"

import "unsafe"

// SubtreeDirectory is a locked directory of subtree files.
type SubtreeDirectory struct {
	handle *C.blocktier_subtree_directory_t
}

// OpenSubtreeDirectory takes the directory.
func OpenSubtreeDirectory(runtime Runtime, directory string) (SubtreeDirectory, error) {
	var failure C.blocktier_error_t
	var handle *C.blocktier_subtree_directory_t
	status := C.blocktier_subtree_directory_open(runtime.handle, textOf(directory),
		C.size_t(len(directory)), &handle, &failure)
	return SubtreeDirectory{handle}, check(status, &failure)
}

// Store writes n nodes of 48 bytes and conflicting hashes, with the root and the sums of header, to
// the file called name.
func (d SubtreeDirectory) Store(name string, format uint32, header *SubtreeHeader,
	nodes unsafe.Pointer, n int, conflicting []byte) error {
	var failure C.blocktier_error_t
	status := C.blocktier_subtree_directory_store(d.handle, textOf(name), C.size_t(len(name)),
		C.uint32_t(format), (*C.blocktier_subtree_header_t)(unsafe.Pointer(header)), nodes,
		C.size_t(n), bytesOf(conflicting), C.size_t(len(conflicting)/32), &failure)
	return check(status, &failure)
}

// Map maps the file called name; the pointer is to its first node.
func (d SubtreeDirectory) Map(name string, format uint32) (array NodeArray, first unsafe.Pointer,
	header SubtreeHeader, err error) {
	var failure C.blocktier_error_t
	status := C.blocktier_subtree_directory_map(d.handle, textOf(name), C.size_t(len(name)),
		C.uint32_t(format), &array.handle, &first,
		(*C.blocktier_subtree_header_t)(unsafe.Pointer(&header)), &failure)
	return array, first, header, check(status, &failure)
}

// Close gives the directory up; mapped files stay mapped and keep it locked.
func (d SubtreeDirectory) Close() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_subtree_directory_close(d.handle, &failure), &failure)
}
