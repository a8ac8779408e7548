package subtree

import (
	"io"
	"os"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Format is one of the file formats of a subtree. All integers are little-endian, all hashes in
// internal byte order.
type Format uint32

const (
	// Plain: root 32 | fees u64 | size u64 | n u64 | n x (hash 32, fee u64, size u64) | c u64 | c x
	// hash 32.
	Plain Format = 0
	// WithMagic: Magic, then Plain.
	WithMagic Format = 1
	// HashList: hashes only; fees, sizes and the root are not known.
	HashList Format = 2
)

// Magic begins a file of format WithMagic.
const Magic = "S-1.0   "

const headerBytes = 32 + 8 + 8 + 8

// String is the name of the format.
func (f Format) String() string {
	switch f {
	case Plain:
		return "plain"
	case WithMagic:
		return "with magic"
	case HashList:
		return "hash list"
	}
	return "unknown"
}

// ReadOption changes how a subtree is read.
type ReadOption func(*readConfig)

type readConfig struct {
	format   Format
	length   int64 // bytes that the reader has, -1 where unknown
	trailing bool
}

// WithFormat sets the format; Plain is the default.
func WithFormat(format Format) ReadOption { return func(c *readConfig) { c.format = format } }

// WithLength tells how many bytes the reader has, where it does not know itself (files and buffers
// do). The nodes are then placed at once; without it their array grows with the bytes that arrive.
// A hash list, which does not say its length itself, has to have exactly that many.
func WithLength(bytes int64) ReadOption { return func(c *readConfig) { c.length = bytes } }

// AllowTrailing leaves what follows the subtree in the reader; the default is that nothing may
// follow.
func AllowTrailing() ReadOption { return func(c *readConfig) { c.trailing = true } }

func newReadConfig(r io.Reader, options []ReadOption) readConfig {
	c := readConfig{length: lengthOf(r)}
	for _, option := range options {
		option(&c)
	}
	return c
}

// lengthOf is how many bytes r has left, -1 where it cannot tell.
func lengthOf(r io.Reader) int64 {
	switch r := r.(type) {
	case interface{ Len() int }:
		return int64(r.Len())
	case *os.File:
		info, err := r.Stat()
		if err != nil || !info.Mode().IsRegular() {
			return -1
		}
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil || at > info.Size() {
			return -1
		}
		return info.Size() - at
	}
	return -1
}

// errCount is the error for a count whose items are not all there: one that no real file has, or
// bytes cut off.
func errCount(what string, count, unit uint64) error {
	kind := ffi.Truncated
	if count > 1<<32/unit {
		kind = ffi.CountTooLarge
	}
	return ffi.FormatError(kind, "the count says %d %s, the bytes end before", count, what)
}
