package txmap

import (
	"context"
	"sync"
	"sync/atomic"
)

// heapShards is the number of parts with a lock of their own.
const heapShards = 256

// HeapTxMap is a TxMap on the Go heap: Go maps in shards. It hands out the values that it holds;
// see Cloner. All methods may be called concurrently.
type HeapTxMap[H ~[32]byte, V any] struct {
	codec  Codec[V]
	cloner Cloner[V] // nil where the codec has none
	length atomic.Int64
	closed atomic.Bool
	sticky stickyError
	// frozen refuses writes; it is set before and read under the locks of the shards. rotated says
	// that it stays so.
	frozen  atomic.Bool
	rotated bool
	shards  [heapShards]heapShard[H, V]
}

type heapShard[H ~[32]byte, V any] struct {
	mu      sync.RWMutex
	entries map[H]V
	_       [32]byte
}

// NewHeap makes an empty map. expected, if known, sizes it.
func NewHeap[H ~[32]byte, V any](codec Codec[V], expected int) *HeapTxMap[H, V] {
	m := &HeapTxMap[H, V]{codec: codec}
	m.cloner, _ = codec.(Cloner[V])
	for i := range m.shards {
		m.shards[i].entries = make(map[H]V, expected/heapShards)
	}
	return m
}

func (m *HeapTxMap[H, V]) shard(hash *H) *heapShard[H, V] { return &m.shards[[32]byte(*hash)[0]] }

func (m *HeapTxMap[H, V]) open() error {
	if m.closed.Load() {
		return errClosed()
	}
	return nil
}

// Get returns the value of hash.
func (m *HeapTxMap[H, V]) Get(hash H) (V, bool) {
	value, found, err := m.GetWithErr(hash)
	m.sticky.keep(err)
	return value, found
}

// GetWithErr is Get with an error result.
func (m *HeapTxMap[H, V]) GetWithErr(hash H) (value V, found bool, err error) {
	if err := m.open(); err != nil {
		return value, false, err
	}
	s := m.shard(&hash)
	s.mu.RLock()
	value, found = s.entries[hash]
	s.mu.RUnlock()
	return value, found, nil
}

// Exists tells whether hash is there.
func (m *HeapTxMap[H, V]) Exists(hash H) bool {
	_, found := m.Get(hash)
	return found
}

// ExistsErr is Exists with an error result.
func (m *HeapTxMap[H, V]) ExistsErr(hash H) (bool, error) {
	_, found, err := m.GetWithErr(hash)
	return found, err
}

// Set inserts or replaces.
func (m *HeapTxMap[H, V]) Set(hash H, value V) { m.sticky.keep(m.SetErr(hash, value)) }

// SetErr is Set with an error result.
func (m *HeapTxMap[H, V]) SetErr(hash H, value V) error {
	_, err := m.set(hash, value)
	return err
}

func (m *HeapTxMap[H, V]) set(hash H, value V) (replaced bool, err error) {
	if err := m.open(); err != nil {
		return false, err
	}
	s := m.shard(&hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := m.writable(); err != nil {
		return false, err
	}
	_, replaced = s.entries[hash]
	s.entries[hash] = value
	if !replaced {
		m.length.Add(1)
	}
	return replaced, nil
}

// SetIfNotExists inserts value unless hash is there. It returns the value that is there afterwards
// and whether it is the new one.
func (m *HeapTxMap[H, V]) SetIfNotExists(hash H, value V) (V, bool) {
	present, inserted, err := m.SetIfNotExistsErr(hash, value)
	m.sticky.keep(err)
	return present, inserted
}

// SetIfNotExistsErr is SetIfNotExists with an error result.
func (m *HeapTxMap[H, V]) SetIfNotExistsErr(hash H, value V) (present V, inserted bool, err error) {
	if err := m.open(); err != nil {
		return present, false, err
	}
	s := m.shard(&hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := m.writable(); err != nil {
		return present, false, err
	}
	if present, found := s.entries[hash]; found {
		return present, false, nil
	}
	s.entries[hash] = value
	m.length.Add(1)
	return value, true, nil
}

// Delete removes hash and tells whether it was there.
func (m *HeapTxMap[H, V]) Delete(hash H) bool {
	removed, err := m.DeleteErr(hash)
	m.sticky.keep(err)
	return removed
}

// DeleteErr is Delete with an error result.
func (m *HeapTxMap[H, V]) DeleteErr(hash H) (bool, error) {
	if err := m.open(); err != nil {
		return false, err
	}
	s := m.shard(&hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := m.writable(); err != nil {
		return false, err
	}
	_, found := s.entries[hash]
	if found {
		delete(s.entries, hash)
		m.length.Add(-1)
	}
	return found, nil
}

// SubtreeIndex is the subtree index of hash, and whether hash is there.
func (m *HeapTxMap[H, V]) SubtreeIndex(hash H) (index int16, found bool, err error) {
	if err := m.open(); err != nil {
		return 0, false, err
	}
	s := m.shard(&hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	value, found := s.entries[hash]
	if !found {
		return 0, false, nil
	}
	return m.codec.SubtreeIndex(value), true, nil
}

// UpdateSubtreeIndex sets the subtree index of hash; an absent hash is left absent.
func (m *HeapTxMap[H, V]) UpdateSubtreeIndex(hash H, index int16) {
	_, err := m.update(hash, index)
	m.sticky.keep(err)
}

func (m *HeapTxMap[H, V]) update(hash H, index int16) (bool, error) {
	if err := m.open(); err != nil {
		return false, err
	}
	s := m.shard(&hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := m.writable(); err != nil {
		return false, err
	}
	value, found := s.entries[hash]
	if !found {
		return false, nil
	}
	if m.cloner != nil {
		value = m.cloner.CloneValue(value)
	}
	m.codec.SetSubtreeIndex(value, index)
	s.entries[hash] = value
	return true, nil
}

// Length is the number of entries.
func (m *HeapTxMap[H, V]) Length() int {
	m.sticky.keep(m.open())
	return int(m.length.Load())
}

// Clear removes everything; a frozen map takes writes again. It is refused on a rotated map.
func (m *HeapTxMap[H, V]) Clear() {
	_, err := m.take()
	m.sticky.keep(err)
}

func (m *HeapTxMap[H, V]) drop() {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		m.length.Add(-int64(len(s.entries)))
		s.entries = make(map[H]V)
		s.mu.Unlock()
	}
}

// Flush has nothing to write.
func (m *HeapTxMap[H, V]) Flush() error { return m.open() }

// FlushContext has nothing to write.
func (m *HeapTxMap[H, V]) FlushContext(context.Context) error { return m.open() }

// Err is the first error of a call without an error result since the last TakeErr.
func (m *HeapTxMap[H, V]) Err() error { return m.sticky.get() }

// TakeErr returns what Err returns and clears it.
func (m *HeapTxMap[H, V]) TakeErr() error { return m.sticky.take() }

// TakeCloseWarn returns nil: there is nothing to go wrong.
func (m *HeapTxMap[H, V]) TakeCloseWarn() error { return nil }

// Close drops the content; later calls fail with ErrClosed. A second Close returns nil.
func (m *HeapTxMap[H, V]) Close() error {
	if !m.closed.Swap(true) {
		m.drop()
	}
	return nil
}

// Stats counts the entries; everything else is 0.
func (m *HeapTxMap[H, V]) Stats() (Stats, error) {
	return Stats{Entries: uint64(m.length.Load())}, m.open()
}
