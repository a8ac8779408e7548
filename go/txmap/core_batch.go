package txmap

import (
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// A batch goes to the library in parts (see parts.go). A part that would block may be decided for
// some of its items; the same call repeated skips what is decided.

// batchOp is one of the library's batches that store values.
type batchOp func(handle ffi.TxMap, batch ffi.Batch, flags uint32) (int, error)

// store runs op on all items. States tells which are decided, also when an error is returned.
func (c *core) store(p patience, batch ffi.Batch, op batchOp) error {
	end := func(from int) int { return partEnd(batch.Offsets, from) }
	return c.use(func(handle ffi.TxMap) error {
		return inParts(len(batch.States), end, func(from, to int) error {
			part := batch.Part(from, to)
			err := c.crowded()
			if err == nil {
				_, err = op(handle, part, ffi.NonBlocking)
			}
			return c.await(p, err, func(disk bool) error {
				_, err := op(handle, part, writeFlags(disk))
				return err
			})
		})
	})
}

func (c *core) deleteBatch(p patience, keys, states []byte) error {
	return c.use(func(handle ffi.TxMap) error {
		return keysInParts(len(states), func(from, to int) error {
			keys, states := keys[32*from:32*to], states[from:to]
			_, err := handle.DeleteBatch(keys, ffi.NonBlocking, states)
			return c.await(p, err, func(disk bool) error {
				_, err := handle.DeleteBatch(keys, writeFlags(disk), states)
				return err
			})
		})
	})
}

// updateBatch sets the subtree index of len(states) keys that lie stride bytes apart.
func (c *core) updateBatch(p patience, keys []byte, stride int, index uint16, states []byte) error {
	return c.use(func(handle ffi.TxMap) error {
		return keysInParts(len(states), func(from, to int) error {
			keys, states := keys[stride*from:stride*to], states[from:to]
			_, err := handle.UpdateSubtreeIndexBatch(keys, stride, index, ffi.NonBlocking, states)
			return c.await(p, err, func(disk bool) error {
				_, err := handle.UpdateSubtreeIndexBatch(keys, stride, index, writeFlags(disk),
					states)
				return err
			})
		})
	})
}

// question is one of the library's batches that answer ffi.Found, Absent or Undecided per key, and
// give the subtree indexes of the found ones where these are asked for.
type question func(handle ffi.TxMap, keys []byte, flags uint32, indexes []int16, found []byte) error

func exists(handle ffi.TxMap, keys []byte, flags uint32, _ []int16, found []byte) error {
	return handle.ExistsBatch(keys, flags, found)
}

// ask answers for all keys; indexes is as long as found, or nil. What is in RAM is answered at
// once, only the rest goes to disk.
func (c *core) ask(p patience, keys []byte, indexes []int16, found []byte, one question) error {
	return c.use(func(handle ffi.TxMap) error {
		return keysInParts(len(found), func(from, to int) error {
			part := indexes
			if part != nil {
				part = part[from:to]
			}
			return c.askPart(p, handle, keys[32*from:32*to], part, found[from:to], one)
		})
	})
}

func (c *core) askPart(p patience, handle ffi.TxMap, keys []byte, indexes []int16, found []byte,
	one question) error {
	err := one(handle, keys, ffi.NonBlocking, indexes, found)
	if !mustWait(err) {
		return err
	}
	var items []int
	var rest []byte
	for item, answer := range found {
		if answer == ffi.Undecided {
			items = append(items, item)
			rest = append(rest, keys[32*item:32*item+32]...)
		}
	}
	answers, theirs := make([]byte, len(items)), make([]int16, len(items))
	err = c.await(p, err, func(disk bool) error {
		return one(handle, rest, readFlags(disk), theirs, answers)
	})
	for i, item := range items {
		found[item] = answers[i]
		if indexes != nil {
			indexes[item] = theirs[i]
		}
	}
	return err
}

// reading is a batch of lookups in the making: results that are decided have their values in the
// first used bytes of the arena, the others are asked for again.
type reading struct {
	keys    []byte
	results []ffi.Lookup
	arena   []byte
	used    int

	items []int // positions of what is asked for again
	rest  []byte
	again []ffi.Lookup
}

// valueGuess is the room that a value of unknown length gets in the arena, in bytes.
const valueGuess = 256

// getBatch reads all values into r.arena, which grows as needed.
func (c *core) getBatch(p patience, r *reading) error {
	return c.use(func(handle ffi.TxMap) error {
		err := keysInParts(len(r.results), func(from, to int) error {
			return c.getPart(p, handle, r, from, to)
		})
		r.arena = r.arena[:r.used]
		return err
	})
}

func (c *core) getPart(p patience, handle ffi.TxMap, r *reading, from, to int) error {
	base := r.used
	needed, err := handle.GetBatch(r.keys[32*from:32*to], ffi.NonBlocking,
		r.arena[base:cap(r.arena)], r.results[from:to])
	r.count(r.results[from:to], base)
	for mustWait(err) || err == error(ffi.BufferTooSmall) {
		r.gather(from, to, needed)
		if mustWait(err) {
			err = c.await(p, err, func(disk bool) error {
				needed, err = r.repeat(handle, readFlags(disk))
				return err
			})
			continue
		}
		needed, err = r.repeat(handle, ffi.NonBlocking)
	}
	return err
}

// count adds up the values that lie behind base in the arena.
func (r *reading) count(results []ffi.Lookup, base int) {
	for i := range results {
		if results[i].Found == ffi.Found {
			results[i].ValueOffset += uint64(base)
			r.used += int(results[i].ValueLength)
		}
	}
}

// gather collects what is not decided of a part and makes room for it.
func (r *reading) gather(from, to, needed int) {
	r.items, r.rest = r.items[:0], r.rest[:0]
	for item := from; item < to; item++ {
		switch r.results[item].Found {
		case ffi.Undecided:
			needed += valueGuess
		case ffi.ArenaFull:
		default:
			continue
		}
		r.items = append(r.items, item)
		r.rest = append(r.rest, r.keys[32*item:32*item+32]...)
	}
	if cap(r.arena)-r.used < needed {
		// At least doubled, so that many parts don't copy the same values again and again.
		arena := make([]byte, r.used, r.used+max(needed, r.used))
		copy(arena, r.arena[:r.used])
		r.arena = arena
	}
	r.again = append(r.again[:0], make([]ffi.Lookup, len(r.items))...)
}

// repeat asks for what was gathered and files the answers.
func (r *reading) repeat(handle ffi.TxMap, flags uint32) (needed int, err error) {
	base := r.used
	needed, err = handle.GetBatch(r.rest, flags, r.arena[base:cap(r.arena)], r.again)
	if err != nil && err != error(ffi.BufferTooSmall) && !mustWait(err) {
		return needed, err
	}
	r.count(r.again, base)
	for i, item := range r.items {
		r.results[item] = r.again[i]
	}
	return needed, err
}
