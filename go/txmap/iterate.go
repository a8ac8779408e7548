package txmap

import (
	"iter"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Records that an iteration takes out of the library at once.
const (
	iterRecords = 2048
	iterArena   = 512 << 10
)

// Iter calls f with every entry until it returns true; see TxMap. Entries come in the order of the
// log, in large reads. An iteration keeps 8 bytes per entry in RAM.
func (m *DiskTxMap[H, V]) Iter(f func(H, V) bool) {
	m.core.sticky.keep(m.iterate(m.patient, f))
}

// IterErr is Iter with an error result.
func (m *DiskTxMap[H, V]) IterErr(f func(H, V) bool) error { return m.iterate(m.bounded, f) }

func (m *DiskTxMap[H, V]) iterate(p patience, f func(H, V) bool) error {
	keys := make([]H, iterRecords)
	results := make([]ffi.Lookup, iterRecords)
	arena := make([]byte, iterArena)
	return m.core.iterate(p, false, keyBytes(keys), arena, results,
		func(count int, arena []byte) (bool, error) {
			for i := range results[:count] {
				start := results[i].ValueOffset
				value, err := m.decode(arena[start:start+uint64(results[i].ValueLength)],
					&results[i])
				if err != nil || f(keys[i], value) {
					return true, err
				}
			}
			return false, nil
		})
}

// All is Iter for range; an error ends it and is kept for Err.
func (m *DiskTxMap[H, V]) All() iter.Seq2[H, V] {
	return func(yield func(H, V) bool) {
		m.Iter(func(hash H, value V) bool { return !yield(hash, value) })
	}
}

// Keys are all hashes; see TxMap. On failure those that were found before.
func (m *DiskTxMap[H, V]) Keys() []H {
	keys, err := m.keys(m.patient)
	m.core.sticky.keep(err)
	return keys
}

// KeysErr is Keys with an error result.
func (m *DiskTxMap[H, V]) KeysErr() ([]H, error) { return m.keys(m.bounded) }

func (m *DiskTxMap[H, V]) keys(p patience) ([]H, error) {
	var length uint64
	err := m.core.use(func(handle ffi.TxMap) (err error) {
		length, err = handle.Length()
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make([]H, 0, length)
	keys := make([]H, iterRecords)
	err = m.core.iterate(p, true, keyBytes(keys), nil, make([]ffi.Lookup, iterRecords),
		func(count int, _ []byte) (bool, error) {
			all = append(all, keys[:count]...)
			return false, nil
		})
	return all, err
}

// iterate fills keys, arena and results again and again and calls visit after each time. The gate
// is not held meanwhile, so visit may use the map, and close it.
func (c *core) iterate(p patience, keysOnly bool, keys, arena []byte, results []ffi.Lookup,
	visit func(count int, arena []byte) (stop bool, err error)) error {
	var cursor ffi.Cursor
	err := c.use(func(handle ffi.TxMap) (err error) {
		cursor, err = handle.Iterate(keysOnly)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { c.closeWarn.keep(cursor.Free()) }()
	for {
		var count, needed int
		err := c.use(func(ffi.TxMap) error {
			next := func(flags uint32) (err error) {
				count, needed, err = cursor.Next(flags, keys, arena, results)
				return err
			}
			return c.await(p, next(ffi.NonBlocking), func(disk bool) error {
				return next(readFlags(disk))
			})
		})
		if err == error(ffi.BufferTooSmall) {
			arena = make([]byte, needed)
			continue
		}
		if err != nil || count == 0 {
			return err
		}
		if stop, err := visit(count, arena); stop || err != nil {
			return err
		}
	}
}

// Iter calls f with every entry until it returns true; see TxMap. It copies one part of the map at
// a time.
func (m *HeapTxMap[H, V]) Iter(f func(H, V) bool) { m.sticky.keep(m.IterErr(f)) }

// IterErr is Iter with an error result.
func (m *HeapTxMap[H, V]) IterErr(f func(H, V) bool) error {
	type entry struct {
		hash  H
		value V
	}
	var entries []entry
	for i := range m.shards {
		if err := m.open(); err != nil {
			return err
		}
		s := &m.shards[i]
		s.mu.RLock()
		entries = entries[:0]
		for hash, value := range s.entries {
			entries = append(entries, entry{hash, value})
		}
		s.mu.RUnlock()
		for _, e := range entries {
			if f(e.hash, e.value) {
				return nil
			}
		}
	}
	return nil
}

// All is Iter for range; an error ends it and is kept for Err.
func (m *HeapTxMap[H, V]) All() iter.Seq2[H, V] {
	return func(yield func(H, V) bool) {
		m.Iter(func(hash H, value V) bool { return !yield(hash, value) })
	}
}

// Keys are all hashes; see TxMap.
func (m *HeapTxMap[H, V]) Keys() []H {
	keys, err := m.KeysErr()
	m.sticky.keep(err)
	return keys
}

// KeysErr is Keys with an error result.
func (m *HeapTxMap[H, V]) KeysErr() ([]H, error) {
	all := make([]H, 0, m.length.Load())
	err := m.IterErr(func(hash H, _ V) bool {
		all = append(all, hash)
		return false
	})
	return all, err
}
