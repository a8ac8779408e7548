// Package inpoints knows the bytes of a transaction's inpoints, without decoding them:
//
//	p u32 | p x parent hash 32 | p x (k u32 | k x output index u32)
//
// Integers are little-endian. The output indexes of the first parent come first. Every count is
// checked against the bytes that are there before anything is made of it.
package inpoints

import (
	"encoding/binary"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

const hashBytes = 32

// Length is the length of the inpoints value that b begins with.
func Length(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, ffi.FormatError(ffi.Truncated,
			"inpoints: %d bytes do not hold the count of parents", len(b))
	}
	parents := uint64(binary.LittleEndian.Uint32(b))
	rest := uint64(len(b) - 4)
	// Each parent takes its hash and at least a count.
	if parents > rest/(hashBytes+4) {
		return 0, tooMany(parents, hashBytes+4, "inpoints: %d parents do not fit into %d bytes",
			parents, rest)
	}
	at := 4 + int(parents)*hashBytes
	for parent := range parents {
		if len(b)-at < 4 {
			return 0, ffi.FormatError(ffi.Truncated,
				"inpoints: no count of outputs for parent %d at offset %d", parent, at)
		}
		outputs := uint64(binary.LittleEndian.Uint32(b[at:]))
		at += 4
		if outputs > uint64(len(b)-at)/4 {
			return 0, tooMany(outputs, 4,
				"inpoints: %d outputs of parent %d do not fit into the %d bytes at offset %d",
				outputs, parent, len(b)-at, at)
		}
		at += int(outputs) * 4
	}
	return at, nil
}

// Check tells whether b is exactly one inpoints value.
func Check(b []byte) error {
	length, err := Length(b)
	if err != nil {
		return err
	}
	if length != len(b) {
		return ffi.FormatError(ffi.TrailingBytes, "inpoints: %d bytes follow the last output",
			len(b)-length)
	}
	return nil
}

// tooMany tells a count that no file of this kind holds from one that misses a few bytes.
func tooMany(count, unit uint64, format string, args ...any) error {
	if count > 1<<32/unit {
		return ffi.FormatError(ffi.CountTooLarge, format, args...)
	}
	return ffi.FormatError(ffi.Truncated, format, args...)
}
