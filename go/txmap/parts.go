package txmap

import (
	"runtime"
	"slices"
)

// A batch goes to the library in parts. A call into C cannot be preempted, and timers that belong
// to its scheduler slot wait for it, or for the runtime's monitor, which may sleep for 10 ms. A
// part also bounds what is looked at again when it has to wait for space.

// Bounds of a part: some tenths of a millisecond of work, against which the price of a call is
// nothing.
const (
	partKeys  = 2048
	partBytes = 256 << 10
)

// partEnd is where the part of a batch ends that begins with item from: whole items, at least one.
// Offsets must not fall.
func partEnd(offsets []uint64, from int) int {
	end := min(len(offsets)-1, from+partKeys)
	limit := offsets[from] + partBytes
	if offsets[end] <= limit {
		return end
	}
	fitting, _ := slices.BinarySearch(offsets[from+1:end+1], limit+1)
	return from + max(1, fitting)
}

// keysEnd is partEnd for keys without values.
func keysEnd(n, from int) int { return min(n, from+partKeys) }

// inParts calls do for one part after the other, until an error.
func inParts(n int, end func(from int) int, do func(from, to int) error) error {
	for from := 0; from < n; {
		if from > 0 {
			// Others may run, and timers are looked at.
			runtime.Gosched()
		}
		to := end(from)
		if err := do(from, to); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// keysInParts is inParts for keys without values.
func keysInParts(n int, do func(from, to int) error) error {
	return inParts(n, func(from int) int { return keysEnd(n, from) }, do)
}
