package txmap

import (
	"runtime"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Rotate takes the content out as a read-only map; see TxMap. It keeps its index in RAM and its
// files until it is closed; the tail is shared, so records that were in it are read from there
// until the new content needs the room. If a write of this map fails, the old content reports it
// too.
func (m *DiskTxMap[H, V]) Rotate() (TxMap[H, V], error) {
	var handle ffi.TxMap
	err := m.core.use(func(native ffi.TxMap) (err error) {
		handle, err = native.Rotate()
		return err
	})
	if err != nil {
		return nil, err
	}
	old := &DiskTxMap[H, V]{
		core:    &core{handle: handle, logger: m.core.logger},
		codec:   m.codec,
		bounded: m.bounded,
		patient: m.patient,
		batches: m.batches,
	}
	old.cleanup = runtime.AddCleanup(old, (*core).forgotten, old.core)
	return old, nil
}

// Freeze makes the map read-only until Clear or Rotate; see TxMap.
func (m *DiskTxMap[H, V]) Freeze() { m.core.sticky.keep(m.core.use(ffi.TxMap.Freeze)) }

// IsFrozen tells whether writes fail with ErrFrozen.
func (m *DiskTxMap[H, V]) IsFrozen() bool {
	var frozen bool
	m.core.sticky.keep(m.core.use(func(handle ffi.TxMap) (err error) {
		frozen, err = handle.IsFrozen()
		return err
	}))
	return frozen
}

// Rotate takes the content out as a read-only map; see TxMap.
func (m *HeapTxMap[H, V]) Rotate() (TxMap[H, V], error) {
	old, err := m.take()
	if err != nil {
		return nil, err // not the nil map: an interface that holds it is not nil
	}
	return old, nil
}

// take moves the content, at one moment, to a read-only map.
func (m *HeapTxMap[H, V]) take() (*HeapTxMap[H, V], error) {
	old := &HeapTxMap[H, V]{codec: m.codec, cloner: m.cloner, rotated: true}
	old.frozen.Store(true)
	for i := range m.shards {
		m.shards[i].mu.Lock()
		defer m.shards[i].mu.Unlock()
	}
	if err := m.open(); err != nil {
		return nil, err
	}
	if m.rotated {
		return nil, m.writable()
	}
	for i := range m.shards {
		old.shards[i].entries = m.shards[i].entries
		m.shards[i].entries = make(map[H]V)
	}
	old.length.Store(m.length.Swap(0))
	m.frozen.Store(false)
	return old, nil
}

// Freeze makes the map read-only until Clear or Rotate; see TxMap.
func (m *HeapTxMap[H, V]) Freeze() {
	m.sticky.keep(m.open())
	m.frozen.Store(true)
	// Who holds a lock now may have asked before; who takes one after us sees the flag.
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		s.mu.Unlock()
	}
}

// IsFrozen tells whether writes fail with ErrFrozen.
func (m *HeapTxMap[H, V]) IsFrozen() bool {
	m.sticky.keep(m.open())
	return m.frozen.Load()
}

// writable is asked under a shard's lock.
func (m *HeapTxMap[H, V]) writable() error {
	switch {
	case m.rotated:
		return ffi.Errorf(ffi.Frozen, "a rotated map is read-only")
	case m.frozen.Load():
		return ffi.Errorf(ffi.Frozen, "the map is frozen; clear it to write again")
	}
	return nil
}
