package txmap

import (
	"context"
	"time"

	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/settings"
)

// Backpressure is what a write meets while compaction is behind.
type Backpressure struct {
	// Stopped tells that writes wait until compaction is less behind.
	Stopped bool
	// Delay is how long each write is delayed otherwise; 0 is not at all.
	Delay time.Duration
}

// Thresholds are the pending bytes from which on writes wait for compaction; 0 is never.
type Thresholds struct {
	// SlowdownBytes: from here on writes are delayed, the more the closer to StopBytes.
	SlowdownBytes uint64
	// StopBytes: from here on they wait.
	StopBytes uint64
	// MaxDelay is the longest delay; it is rounded up to milliseconds.
	MaxDelay time.Duration
}

// Compact merges segments until the settings find nothing more that is worth it, instead of waiting
// for the background to do so. It takes as long as reading and writing what is live in them, during
// which it counts as one call that reads a disk. It fails with ErrUnsupported on a map that cannot
// be compacted, with ErrFrozen on a rotated one, and when ctx ends before it begins; no failure
// loses anything.
func (m *DiskTxMap[H, V]) Compact(ctx context.Context) error {
	return m.core.use(func(handle ffi.TxMap) error {
		return inSlot(ctx, true, func(bool) error { return handle.Compact() })
	})
}

// SetCompaction changes settings of compaction: the TxMapCompaction fields of s that are set; the
// others stay. A merge under way goes on as it was begun, unless compaction is switched off; writes
// that wait are judged anew. The changes are this process's: a map that is opened again has the
// settings that it is opened with. It fails with ErrSetting for a value out of range, two that
// contradict each other, or a field of something else, and with ErrFrozen on a rotated map; nothing
// has changed then.
func (m *DiskTxMap[H, V]) SetCompaction(s settings.Settings) error {
	return m.core.use(func(handle ffi.TxMap) error { return handle.SetCompaction(s.Text()) })
}

// SetBackpressure changes when writes wait for compaction; those that wait now are judged anew. It
// changes the three settings that say so, and fails as SetCompaction does; with ErrInvalidArgument
// for a negative delay.
func (m *DiskTxMap[H, V]) SetBackpressure(t Thresholds) error {
	return m.core.use(func(handle ffi.TxMap) error {
		if t.MaxDelay < 0 {
			return ffi.Errorf(ffi.InvalidArgument, "a delay of %v", t.MaxDelay)
		}
		millis := uint64(t.MaxDelay / time.Millisecond)
		if t.MaxDelay%time.Millisecond > 0 {
			millis++
		}
		return handle.SetBackpressure(t.SlowdownBytes, t.StopBytes, millis)
	})
}

// Backpressure is what a write would meet now.
func (m *DiskTxMap[H, V]) Backpressure() (now Backpressure, err error) {
	err = m.core.use(func(handle ffi.TxMap) error {
		state, nanos, err := handle.Backpressure()
		now = Backpressure{Stopped: state == 2, Delay: time.Duration(nanos)}
		return err
	})
	return now, err
}
