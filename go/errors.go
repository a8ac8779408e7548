package blocktier

import "github.com/blocktier/blocktier/go/internal/ffi"

// Error is a failure with its code, the operating system's error number, a detail and a text that
// says what happened, where, and what to do. errors.Is matches the sentinel of its code, and the
// syscall.Errno where there is one.
type Error = ffi.Error

// Code is a status code; as an error it is the sentinel of that code.
type Code = ffi.Status

// One sentinel per code, for errors.Is.
var (
	// ErrInvalidArgument: an argument breaks the contract of the call.
	ErrInvalidArgument error = ffi.InvalidArgument
	// ErrNullPointer: a pointer was missing at the border; a defect of this module.
	ErrNullPointer error = ffi.NullPointer
	// ErrBufferTooSmall: the caller's memory does not hold the result.
	ErrBufferTooSmall error = ffi.BufferTooSmall
	// ErrNotFound: there is no such entry.
	ErrNotFound error = ffi.NotFound
	// ErrWouldBlock: the call would have to wait, and was told not to.
	ErrWouldBlock error = ffi.WouldBlock
	// ErrTimedOut: the call waited as long as it may.
	ErrTimedOut error = ffi.TimedOut
	// ErrIO: the operating system refused a file operation.
	ErrIO error = ffi.IO
	// ErrDiskFull: no space is left, or a quota is exhausted.
	ErrDiskFull error = ffi.DiskFull
	// ErrCorrupt: bytes on disk are not what was written.
	ErrCorrupt error = ffi.Corrupt
	// ErrLocked: another owner uses the directory.
	ErrLocked error = ffi.Locked
	// ErrUnsupported: this build, platform, kernel or file system cannot do it.
	ErrUnsupported error = ffi.Unsupported
	// ErrOutOfMemory: the system or the memory budget has no more.
	ErrOutOfMemory error = ffi.OutOfMemory
	// ErrValueTooLarge: the value is longer than the map can hold.
	ErrValueTooLarge error = ffi.ValueTooLarge
	// ErrClosed: the object was closed.
	ErrClosed error = ffi.Closed
	// ErrPoisoned: an earlier panic made the object unusable except for closing it.
	ErrPoisoned error = ffi.Poisoned
	// ErrPanic: the library caught a panic in this call.
	ErrPanic error = ffi.Panic
	// ErrFailed: an earlier error stopped this map from accepting writes; reads still work.
	ErrFailed error = ffi.Failed
	// ErrSetting: a setting has an unknown name or a value that does not fit.
	ErrSetting error = ffi.Setting
	// ErrFormat: bytes of a file format break its rules; Error.Kind says which.
	ErrFormat error = ffi.Format
	// ErrFrozen: the map takes no writes; it is frozen, or the old content of a rotated map.
	ErrFrozen error = ffi.Frozen
)

// FormatKind is the rule that the bytes of a file format break.
type FormatKind = ffi.FormatKind

// The rules of the file formats.
const (
	// Truncated: the input ends before a field does.
	Truncated = ffi.Truncated
	// CountTooLarge: a count is larger than any input of this length could hold.
	CountTooLarge = ffi.CountTooLarge
	// TrailingBytes: bytes follow the last field.
	TrailingBytes = ffi.TrailingBytes
	// ZeroNodes: a subtree without nodes.
	ZeroNodes = ffi.ZeroNodes
	// RootMismatch: the stored root is not the root of the leaves.
	RootMismatch = ffi.RootMismatch
	// FeeSumMismatch: the stored fee sum is not the sum over the nodes.
	FeeSumMismatch = ffi.FeeSumMismatch
	// SizeSumMismatch: the stored size sum is not the sum over the nodes.
	SizeSumMismatch = ffi.SizeSumMismatch
	// FeeSumOverflow: the sum of the fees exceeds 64 bits.
	FeeSumOverflow = ffi.FeeSumOverflow
	// SizeSumOverflow: the sum of the sizes exceeds 64 bits.
	SizeSumOverflow = ffi.SizeSumOverflow
	// ConflictNotALeaf: a conflicting hash is not a leaf.
	ConflictNotALeaf = ffi.ConflictNotALeaf
	// ConflictDuplicate: a conflicting hash is listed twice.
	ConflictDuplicate = ffi.ConflictDuplicate
	// DuplicateLeaf: two leaves are equal.
	DuplicateLeaf = ffi.DuplicateLeaf
	// PlaceholderMisplaced: the coinbase placeholder stands elsewhere than first.
	PlaceholderMisplaced = ffi.PlaceholderMisplaced
	// PlaceholderNotZero: the coinbase placeholder has a fee or a size.
	PlaceholderNotZero = ffi.PlaceholderNotZero
	// ZeroHash: a leaf is all zero.
	ZeroHash = ffi.ZeroHash
	// BadMagic: the magic is missing, or of another type or version.
	BadMagic = ffi.BadMagic
	// NotMultipleOf32: a bare hash list whose length is not a multiple of 32.
	NotMultipleOf32 = ffi.NotMultipleOf32
	// Empty: a bare hash list without hashes.
	Empty = ffi.Empty
)
