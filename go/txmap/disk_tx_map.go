package txmap

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// DiskTxMap is a TxMap whose index lives outside the Go heap and whose values live in logs on disk,
// the recent ones in RAM. It is exact: every hit and every deletion has compared the whole key. All
// methods may be called concurrently.
//
// A goroutine that has to wait for space in the tail, or for a disk, waits in Go and holds no
// scheduler slot.
type DiskTxMap[H ~[32]byte, V any] struct {
	core    *core
	codec   Codec[V]
	bounded patience // of the calls with an error result
	patient patience // of the calls without one
	batches *sync.Pool
	cleanup runtime.Cleanup
	// origin keeps the map alive that this one is a view of; nil in the map itself.
	origin *DiskTxMap[H, V]
}

// Open opens an empty map in directories of the runtime. Each map takes a subdirectory of its own
// in every directory; what an earlier process left there is removed. An Open that fails leaves
// nothing behind.
func Open[H ~[32]byte, V any](rt *blocktier.Runtime, codec Codec[V],
	options ...Option) (*DiskTxMap[H, V], error) {
	var c config
	if err := c.apply(options); err != nil {
		return nil, err
	}
	timeout, err := c.writeTimeout()
	if err != nil {
		return nil, ffi.Errorf(ffi.Setting, "%v", err)
	}
	var handle ffi.TxMap
	err = rt.Use(func(native ffi.Runtime) (err error) {
		handle, err = ffi.OpenTxMap(native, c.text())
		return err
	})
	if err != nil {
		return nil, err
	}
	m := &DiskTxMap[H, V]{
		core:    &core{handle: handle, logger: rt.Logger()},
		codec:   codec,
		bounded: patience{ctx: context.Background(), timeout: timeout},
		patient: patience{ctx: context.Background()},
		batches: &sync.Pool{New: func() any { return new(RawBatch[H]) }},
	}
	m.cleanup = runtime.AddCleanup(m, (*core).forgotten, m.core)
	return m, nil
}

// InContext is a view of the same map whose waiting ends with ctx: its calls then fail with the
// context's cause. Calls without an error result keep that error for Err. Only the map itself needs
// to be closed.
func (m *DiskTxMap[H, V]) InContext(ctx context.Context) *DiskTxMap[H, V] {
	origin := m
	if m.origin != nil {
		origin = m.origin
	}
	return &DiskTxMap[H, V]{
		core:    m.core,
		codec:   m.codec,
		bounded: patience{ctx: ctx, timeout: m.bounded.timeout},
		patient: patience{ctx: ctx},
		batches: m.batches,
		origin:  origin,
	}
}

// Get returns the value of hash.
func (m *DiskTxMap[H, V]) Get(hash H) (V, bool) {
	value, found, err := m.get(m.patient, hash)
	m.core.sticky.keep(err)
	return value, found && err == nil
}

// GetWithErr is Get with an error result.
func (m *DiskTxMap[H, V]) GetWithErr(hash H) (V, bool, error) { return m.get(m.bounded, hash) }

func (m *DiskTxMap[H, V]) get(p patience, hash H) (value V, found bool, err error) {
	key := [32]byte(hash)
	s := scratchPool.Get().(*scratch)
	defer s.free()
	var result ffi.Lookup
	found, err = m.core.get(p, &key, s, &result)
	if err != nil || !found {
		return value, false, err
	}
	value, err = m.decode(s.existing[:result.ValueLength], &result)
	return value, err == nil, err
}

func (m *DiskTxMap[H, V]) decode(bytes []byte, result *ffi.Lookup) (V, error) {
	value, err := m.codec.DecodeValue(bytes)
	if err == nil {
		m.codec.SetSubtreeIndex(value, int16(result.SubtreeIndex))
	}
	return value, err
}

// Exists tells whether hash is there.
func (m *DiskTxMap[H, V]) Exists(hash H) bool {
	key := [32]byte(hash)
	found, err := m.core.exists(m.patient, &key)
	m.core.sticky.keep(err)
	return found && err == nil
}

// ExistsErr is Exists with an error result.
func (m *DiskTxMap[H, V]) ExistsErr(hash H) (bool, error) {
	key := [32]byte(hash)
	return m.core.exists(m.bounded, &key)
}

// Set inserts or replaces.
func (m *DiskTxMap[H, V]) Set(hash H, value V) { m.core.sticky.keep(m.set(m.patient, hash, value)) }

// SetErr is Set with an error result.
func (m *DiskTxMap[H, V]) SetErr(hash H, value V) error { return m.set(m.bounded, hash, value) }

func (m *DiskTxMap[H, V]) set(p patience, hash H, value V) (err error) {
	key := [32]byte(hash)
	s := scratchPool.Get().(*scratch)
	defer s.free()
	if s.value, err = m.codec.AppendValue(s.value[:0], value); err != nil {
		return err
	}
	return m.core.set(p, &key, uint16(m.codec.SubtreeIndex(value)), s.value)
}

// SetIfNotExists inserts value unless hash is there. It returns the value that is there afterwards
// and whether it is the new one. On failure it returns the zero value and false.
func (m *DiskTxMap[H, V]) SetIfNotExists(hash H, value V) (V, bool) {
	present, inserted, err := m.setIfNotExists(m.patient, hash, value)
	m.core.sticky.keep(err)
	return present, inserted
}

// SetIfNotExistsErr is SetIfNotExists with an error result; an error means that nothing was
// inserted.
func (m *DiskTxMap[H, V]) SetIfNotExistsErr(hash H, value V) (V, bool, error) {
	return m.setIfNotExists(m.bounded, hash, value)
}

func (m *DiskTxMap[H, V]) setIfNotExists(p patience, hash H, value V) (present V, inserted bool,
	err error) {
	key := [32]byte(hash)
	s := scratchPool.Get().(*scratch)
	defer s.free()
	if s.value, err = m.codec.AppendValue(s.value[:0], value); err != nil {
		return present, false, err
	}
	var result ffi.Lookup
	err = m.core.setIfNotExists(p, &key, uint16(m.codec.SubtreeIndex(value)), s, &result)
	if err != nil {
		return present, false, err
	}
	if result.Found == 0 {
		return value, true, nil
	}
	present, err = m.decode(s.existing[:result.ValueLength], &result)
	return present, false, err
}

// Delete removes hash and tells whether it was there.
func (m *DiskTxMap[H, V]) Delete(hash H) bool {
	key := [32]byte(hash)
	removed, err := m.core.delete(m.patient, &key)
	m.core.sticky.keep(err)
	return removed && err == nil
}

// DeleteErr is Delete with an error result.
func (m *DiskTxMap[H, V]) DeleteErr(hash H) (bool, error) {
	key := [32]byte(hash)
	return m.core.delete(m.bounded, &key)
}

// SubtreeIndex is the subtree index of hash, and whether hash is there. The value is not decoded.
func (m *DiskTxMap[H, V]) SubtreeIndex(hash H) (index int16, found bool, err error) {
	key := [32]byte(hash)
	return m.core.subtreeIndex(m.bounded, &key)
}

// UpdateSubtreeIndex sets the subtree index of hash; an absent hash is left absent.
func (m *DiskTxMap[H, V]) UpdateSubtreeIndex(hash H, index int16) {
	key := [32]byte(hash)
	_, err := m.core.updateSubtreeIndex(m.patient, &key, uint16(index))
	m.core.sticky.keep(err)
}

// Length is the number of entries; 0 with Err set when the map is closed.
func (m *DiskTxMap[H, V]) Length() int {
	var length uint64
	m.core.sticky.keep(m.core.use(func(handle ffi.TxMap) (err error) {
		length, err = handle.Length()
		return err
	}))
	return int(length)
}

// Clear removes everything; a frozen map takes writes again. If that fails the old content stays
// and Err says why.
func (m *DiskTxMap[H, V]) Clear() { m.core.sticky.keep(m.core.use(ffi.TxMap.Clear)) }

// Flush writes what is only in RAM, waits for it and returns the first error of writing.
func (m *DiskTxMap[H, V]) Flush() error { return m.core.flush(m.patient.ctx) }

// FlushContext is Flush that gives up waiting when ctx ends; the writing goes on.
func (m *DiskTxMap[H, V]) FlushContext(ctx context.Context) error {
	return m.core.flush(ctx)
}

// Sync makes everything that is in the map now survive a power cut; the map must have been opened
// with WithDurability or WithProcessDurability. It gives up waiting for writes when ctx ends. An
// error of the disk stops the map.
func (m *DiskTxMap[H, V]) Sync(ctx context.Context) error { return m.core.sync(ctx) }

// Err is the first error of a call without an error result since the last TakeErr, or the error
// that stopped the map.
func (m *DiskTxMap[H, V]) Err() error { return m.core.err() }

// TakeErr returns what Err returns and clears it. The error that stopped a map is returned once;
// each later write fails with it again.
func (m *DiskTxMap[H, V]) TakeErr() error { return m.core.takeErr() }

// TakeCloseWarn returns what went wrong while Close released resources, once.
func (m *DiskTxMap[H, V]) TakeCloseWarn() error { return m.core.closeWarn.take() }

// Close frees the map after the calls that run on it; calls that wait for space are woken and fail
// with ErrClosed. It returns the error that had stopped the map, if any. A second Close returns
// nil.
func (m *DiskTxMap[H, V]) Close() error {
	if m.origin != nil {
		return m.origin.Close()
	}
	m.cleanup.Stop()
	return m.core.close()
}

// Stats reads the counters.
func (m *DiskTxMap[H, V]) Stats() (Stats, error) {
	var native ffi.TxMapStats
	err := m.core.use(func(handle ffi.TxMap) (err error) {
		native, err = handle.Stats()
		return err
	})
	return Stats{
		Entries:           native.Entries,
		FilterRAMBytes:    native.IndexBytes,
		SubtreeIndexBytes: native.SubtreeIndexBytes,
		TailBytes:         native.TailBytes,
		LiveBytes:         native.LiveBytes,
		Segments:          native.Segments,
		FileReads:         native.FileReads,
		FalseMatches:      native.FalseMatches,
		SlowConfirms:      native.SlowConfirms,
		Splits:            native.Splits,
		Failed:            native.Failed,
		SpaceWaits:        m.core.spaceWaits.Load() + native.SpaceWaits,
		DiskWaits:         m.core.diskWaits.Load(),
		SpaceWaited:       time.Duration(m.core.spaceWaited.Load()),

		Compactions:            native.Compactions,
		CompactionBytesRead:    native.CompactionBytesRead,
		CompactionBytesWritten: native.CompactionBytesWritten,
		DeadBytes:              native.DeadBytes,
		PendingCompactionBytes: native.PendingCompactionBytes,
		DamagedSegments:        native.DamagedSegments,
		Rehashes:               native.Rehashes,
		RehashFailures:         native.RehashFailures,
	}, err
}
