//go:build cgo && linux && (amd64 || arm64) && blocktier_shared

package ffi

// The system's library, found by the linker and at run time by the loader.

// #cgo LDFLAGS: -lblocktier
import "C"
