//go:build cgo && linux && (amd64 || arm64)

package ffi

// Vendoring copies only folders that hold a needed package.
import (
	_ "github.com/blocktier/blocktier/go/internal/ffi/lib/linux_amd64"
	_ "github.com/blocktier/blocktier/go/internal/ffi/lib/linux_arm64"
)
