//go:build cgo && linux && (amd64 || arm64) && !blocktier_shared

package ffi

// The full path of the archive: no search, no other library of the same name. make puts it there.

/*
#cgo linux,amd64 LDFLAGS: ${SRCDIR}/lib/linux_amd64/libblocktier.a -ldl -lpthread -lm
#cgo linux,arm64 LDFLAGS: ${SRCDIR}/lib/linux_arm64/libblocktier.a -ldl -lpthread -lm
*/
import "C"
