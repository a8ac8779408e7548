package txmap

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// TestCrowdedCallsLeaveASchedulerSlot: of calls that store while others wait, and calls that read a
// disk, no more run at a time than there are slots.
func TestCrowdedCallsLeaveASchedulerSlot(t *testing.T) {
	c := new(core)
	c.waiting.Add(1)
	var running, most atomic.Int64
	var all sync.WaitGroup
	for caller := range 4 * (cap(slots) + 1) {
		first := c.crowded()
		if caller%2 == 0 {
			first = ffi.ErrNeedsDisk
		}
		left := 20
		all.Go(func() {
			err := c.await(patience{ctx: t.Context()}, first, func(disk bool) error {
				now := running.Add(1)
				for old := most.Load(); now > old && !most.CompareAndSwap(old, now); {
					old = most.Load()
				}
				if disk != (caller%2 == 0) {
					t.Error("an attempt that was told of another kind of slot")
				}
				time.Sleep(10 * time.Microsecond)
				running.Add(-1)
				if left--; left > 0 {
					return first
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() > int64(cap(slots)) || most.Load() == 0 {
		t.Errorf("%d calls at a time; want up to %d", most.Load(), cap(slots))
	}
	if len(slots) != 0 {
		t.Errorf("%d slots were not given back", len(slots))
	}
}

// TestWaitingIsCounted: calls are crowded while somebody waits for space, and not afterwards,
// however the waiting ended.
func TestWaitingIsCounted(t *testing.T) {
	canceled, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("enough")
	for name, end := range map[string]struct {
		p    patience
		last error
		want error
	}{
		"success": {patience{ctx: t.Context()}, nil, nil},
		"failure": {patience{ctx: t.Context()}, ffi.DiskFull, ffi.DiskFull},
		"timeout": {patience{ctx: t.Context(), timeout: 1}, ffi.ErrNoSpace, ffi.TimedOut},
		"context": {patience{ctx: canceled}, ffi.ErrNoSpace, why},
	} {
		c := new(core)
		attempts := 0
		err := c.await(end.p, ffi.ErrNoSpace, func(bool) error {
			if c.crowded() == nil {
				t.Errorf("%s: not crowded while a call waits", name)
			}
			if attempts++; attempts < 3 {
				return ffi.ErrNoSpace
			}
			cancel(why)
			return end.last
		})
		if !errors.Is(err, end.want) {
			t.Errorf("%s: %v", name, err)
		}
		if c.crowded() != nil || len(slots) != 0 {
			t.Errorf("%s: crowded after the only call that waited", name)
		}
	}
}

// TestWaitingForASlotEndsWithTheContext: also where all slots are taken.
func TestWaitingForASlotEndsWithTheContext(t *testing.T) {
	for range cap(slots) {
		slots <- struct{}{}
	}
	defer func() {
		for range cap(slots) {
			<-slots
		}
	}()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("enough")
	for _, first := range []error{errCrowded, ffi.ErrNeedsDisk, ffi.ErrNoSpace} {
		ended := make(chan error)
		c := new(core)
		go func() {
			ended <- c.await(patience{ctx: ctx}, first, func(bool) error {
				t.Errorf("%v: an attempt without a slot", first)
				return nil
			})
		}()
		cancel(why)
		if err := <-ended; err != why {
			t.Errorf("%v: %v", first, err)
		}
	}
}
