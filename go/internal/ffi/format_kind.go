package ffi

import "strconv"

// FormatKind is the rule that the bytes of a subtree, a subtreeMeta or an inpoints value break. The
// numbers are part of the ABI and never reused.
type FormatKind uint32

// The rules.
const (
	Truncated            FormatKind = 1
	CountTooLarge        FormatKind = 2
	TrailingBytes        FormatKind = 3
	ZeroNodes            FormatKind = 4
	RootMismatch         FormatKind = 5
	FeeSumMismatch       FormatKind = 6
	SizeSumMismatch      FormatKind = 7
	FeeSumOverflow       FormatKind = 8
	SizeSumOverflow      FormatKind = 9
	ConflictNotALeaf     FormatKind = 10
	ConflictDuplicate    FormatKind = 11
	DuplicateLeaf        FormatKind = 12
	PlaceholderMisplaced FormatKind = 13
	PlaceholderNotZero   FormatKind = 14
	ZeroHash             FormatKind = 15
	BadMagic             FormatKind = 16
	NotMultipleOf32      FormatKind = 17
	Empty                FormatKind = 18
)

var formatKindNames = [...]string{
	Truncated:            "Truncated",
	CountTooLarge:        "CountTooLarge",
	TrailingBytes:        "TrailingBytes",
	ZeroNodes:            "ZeroNodes",
	RootMismatch:         "RootMismatch",
	FeeSumMismatch:       "FeeSumMismatch",
	SizeSumMismatch:      "SizeSumMismatch",
	FeeSumOverflow:       "FeeSumOverflow",
	SizeSumOverflow:      "SizeSumOverflow",
	ConflictNotALeaf:     "ConflictNotALeaf",
	ConflictDuplicate:    "ConflictDuplicate",
	DuplicateLeaf:        "DuplicateLeaf",
	PlaceholderMisplaced: "PlaceholderMisplaced",
	PlaceholderNotZero:   "PlaceholderNotZero",
	ZeroHash:             "ZeroHash",
	BadMagic:             "BadMagic",
	NotMultipleOf32:      "NotMultipleOf32",
	Empty:                "Empty",
}

// String is the name of the rule.
func (k FormatKind) String() string {
	if k > 0 && int(k) < len(formatKindNames) {
		return formatKindNames[k]
	}
	return "FormatKind(" + strconv.FormatUint(uint64(k), 10) + ")"
}
