package txmap

import (
	"sync"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// batchOp is one of the library's batches that store values.
type batchOp func(handle ffi.TxMap, batch ffi.Batch, flags uint32) (int, error)

// store runs op on all items. States tells which are decided, also when an error is returned.
func (c *core) store(p patience, batch ffi.Batch, op batchOp) error {
	return c.use(func(handle ffi.TxMap) error {
		_, err := op(handle, batch, ffi.NonBlocking)
		if !mustWait(err) {
			return err
		}
		rest := restPool.Get().(*rest)
		defer restPool.Put(rest)
		return c.await(p, err, func(disk bool) error {
			if rest.gather(batch) == 0 {
				return nil
			}
			_, err := op(handle, rest.batch, writeFlags(disk))
			rest.scatter(batch)
			return err
		})
	})
}

// rest is the part of a batch that is not decided yet.
type rest struct {
	batch ffi.Batch
	items []int
}

var restPool = sync.Pool{New: func() any { return new(rest) }}

// gather collects the undecided items of from, in their order.
func (r *rest) gather(from ffi.Batch) int {
	r.items = r.items[:0]
	b := &r.batch
	b.Keys, b.Values, b.SubtreeIndexes, b.States = b.Keys[:0], b.Values[:0], b.SubtreeIndexes[:0], b.States[:0]
	b.Offsets = append(b.Offsets[:0], 0)
	for item, state := range from.States {
		if state != ffi.StateUndone {
			continue
		}
		r.items = append(r.items, item)
		b.Keys = append(b.Keys, from.Keys[32*item:32*item+32]...)
		b.Values = append(b.Values, from.Values[from.Offsets[item]:from.Offsets[item+1]]...)
		b.Offsets = append(b.Offsets, uint64(len(b.Values)))
		b.SubtreeIndexes = append(b.SubtreeIndexes, from.SubtreeIndexes[item])
		b.States = append(b.States, ffi.StateUndone)
	}
	return len(r.items)
}

func (r *rest) scatter(to ffi.Batch) {
	for i, item := range r.items {
		to.States[item] = r.batch.States[i]
	}
}

// keysOp is one of the library's batches that take keys only.
type keysOp func(handle ffi.TxMap, keys []byte, stride int, states []byte, flags uint32) error

// change runs op on len(states) keys that lie stride bytes apart.
func (c *core) change(p patience, keys []byte, stride int, states []byte, op keysOp) error {
	return c.use(func(handle ffi.TxMap) error {
		err := op(handle, keys, stride, states, ffi.NonBlocking)
		if !mustWait(err) {
			return err
		}
		var items []int
		var restKeys, restStates []byte
		return c.await(p, err, func(disk bool) error {
			items, restKeys, restStates = items[:0], restKeys[:0], restStates[:0]
			for item, state := range states {
				if state == ffi.StateUndone {
					items = append(items, item)
					restKeys = append(restKeys, keys[stride*item:stride*item+32]...)
					restStates = append(restStates, ffi.StateUndone)
				}
			}
			if len(items) == 0 {
				return nil
			}
			err := op(handle, restKeys, 32, restStates, writeFlags(disk))
			for i, item := range items {
				states[item] = restStates[i]
			}
			return err
		})
	})
}

func opDelete(handle ffi.TxMap, keys []byte, _ int, states []byte, flags uint32) error {
	_, err := handle.DeleteBatch(keys, flags, states)
	return err
}

func opUpdate(index uint16) keysOp {
	return func(handle ffi.TxMap, keys []byte, stride int, states []byte, flags uint32) error {
		_, err := handle.UpdateSubtreeIndexBatch(keys, stride, index, flags, states)
		return err
	}
}

// existsBatch answers 1 or 0 per key.
func (c *core) existsBatch(p patience, keys, found []byte) error {
	return c.use(func(handle ffi.TxMap) error {
		err := handle.ExistsBatch(keys, ffi.NonBlocking, found)
		if err == nil && contains(found, ffi.FoundUndecided) {
			err = ffi.ErrNeedsDisk
		}
		return c.await(p, err, func(disk bool) error { return handle.ExistsBatch(keys, readFlags(disk), found) })
	})
}

func contains(answers []byte, answer byte) bool {
	for _, a := range answers {
		if a == answer {
			return true
		}
	}
	return false
}

// getBatch reads all values into arena, which it returns, longer if need be.
func (c *core) getBatch(p patience, keys, arena []byte, results []ffi.Lookup) ([]byte, error) {
	err := c.use(func(handle ffi.TxMap) error {
		attempt := func(disk bool) error {
			for {
				needed, err := handle.GetBatch(keys, readFlags(disk), arena[:cap(arena)], results)
				if err != error(ffi.BufferTooSmall) {
					arena = arena[:min(needed, cap(arena))]
					return err
				}
				arena = make([]byte, needed, needed+needed/8)
			}
		}
		err := attempt(false)
		if err == nil && anyUndecided(results) {
			err = ffi.ErrNeedsDisk
		}
		return c.await(p, err, attempt)
	})
	return arena, err
}

func anyUndecided(results []ffi.Lookup) bool {
	for i := range results {
		if results[i].Found == ffi.FoundUndecided {
			return true
		}
	}
	return false
}
