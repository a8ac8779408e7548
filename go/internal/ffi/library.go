//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#if !__has_include("build_id.h")
#error "go/internal/ffi/build_id.h is missing: run make build in the repository's root"
#endif
#include "blocktier.h"
#include "build_id.h"
#ifdef BLOCKTIER_MAY_READ
enum { bt_read_disk = BLOCKTIER_NONBLOCKING | BLOCKTIER_MAY_READ };
#else
enum { bt_read_disk = 0 };
#endif
#cgo noescape blocktier_abi_version
#cgo nocallback blocktier_abi_version
#cgo noescape blocktier_version
#cgo nocallback blocktier_version
#cgo noescape blocktier_layout
#cgo nocallback blocktier_layout
#cgo noescape blocktier_live_handles
#cgo nocallback blocktier_live_handles
*/
import "C"

import (
	"bytes"
	"sync"
	"unsafe"
)

// ReadDisk lets a call read disks but, where the library can tell the two apart, not wait for
// space.
const ReadDisk uint32 = C.bt_read_disk

// BuildID identifies the archive that this package was linked with. Go does not look into archives
// when it decides what to rebuild; this constant changes with the archive and forces it.
const BuildID = C.BLOCKTIER_BUILD_ID

// Available is nil when the library can be used. It checks once that both sides agree on the ABI
// number and on the layout of every struct that crosses.
var Available = sync.OnceValue(checkLibrary)

func checkLibrary() error {
	if got, want := uint32(C.blocktier_abi_version()), uint32(C.BLOCKTIER_ABI); got != want {
		return Errorf(Unsupported,
			"the linked library has ABI %d, this module needs ABI %d; build both from one "+
				"checkout (library %s)", got, want, Version())
	}
	var layout C.blocktier_layout_t
	C.blocktier_layout(&layout)
	checks := [...]struct {
		what      string
		got, want uintptr
	}{
		{"ABI number in the layout", uintptr(layout.abi), C.BLOCKTIER_ABI},
		{"size of blocktier_error_t", uintptr(layout.size_of_error), C.sizeof_blocktier_error_t},
		{"size of a node", uintptr(layout.size_of_node), NodeBytes},
		{"offset of a node's fee", uintptr(layout.node_fee_offset), 32},
		{"offset of a node's size", uintptr(layout.node_size_offset), 40},
		{"size of blocktier_runtime_stats_t", uintptr(layout.size_of_runtime_stats),
			C.sizeof_blocktier_runtime_stats_t},
		{"size of blocktier_disk_stats_t", uintptr(layout.size_of_disk_stats),
			C.sizeof_blocktier_disk_stats_t},
		{"size of blocktier_txmap_stats_t", uintptr(layout.size_of_txmap_stats),
			C.sizeof_blocktier_txmap_stats_t},
		{"size of blocktier_subtree_header_t", uintptr(layout.size_of_subtree_header),
			unsafe.Sizeof(SubtreeHeader{})},
		{"size of blocktier_lookup_t", uintptr(layout.size_of_lookup), unsafe.Sizeof(Lookup{})},
		{"size of this header's blocktier_lookup_t", C.sizeof_blocktier_lookup_t,
			unsafe.Sizeof(Lookup{})},
		{"size of this header's blocktier_subtree_header_t", C.sizeof_blocktier_subtree_header_t,
			unsafe.Sizeof(SubtreeHeader{})},
	}
	for _, check := range checks {
		if check.got != check.want {
			return Errorf(Unsupported,
				"library and module disagree on the %s: %d and %d; build both from one checkout",
				check.what, check.got, check.want)
		}
	}
	return nil
}

// Version is the library's version.
func Version() string { return C.GoString(C.blocktier_version()) }

// LiveHandles is the number of native objects of the kind that are not freed.
func LiveHandles(kind HandleKind) uint64 {
	return uint64(C.blocktier_live_handles(C.uint32_t(kind)))
}

// status is the C type of statuses: an int32_t, or with newer C an enum of that width.
type status interface{ ~int32 | ~uint32 }

// check turns a status into an error; see the package's comment for which.
func check[S status](code S, failure *C.blocktier_error_t) error {
	if code == S(OK) {
		return nil
	}
	return describe(Status(code), failure)
}

func describe(code Status, failure *C.blocktier_error_t) error {
	if code == NotFound || code == BufferTooSmall {
		return code
	}
	length := min(int(failure.text_length), len(failure.text))
	text := unsafe.Slice((*byte)(unsafe.Pointer(&failure.text)), length)
	if code == WouldBlock {
		if bytes.Contains(text, onDisk) {
			return ErrNeedsDisk
		}
		return ErrNoSpace
	}
	return &Error{Code: code, Errno: int32(failure.os_errno), Detail: uint32(failure.detail),
		Text: string(text)}
}

// onDisk is how the text of a WouldBlock tells a missing disk read from missing space.
var onDisk = []byte("on disk")

// bytesOf is the address of a buffer, nil when it is empty (which the library then does not read).
func bytesOf(buffer []byte) *C.uint8_t {
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(buffer)))
}

func textOf(text string) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text)))
}

func keyOf(key *[32]byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(key)) }
