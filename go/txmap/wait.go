package txmap

import (
	"context"
	"runtime"
	"time"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// How waiting works: a call into C that waits would hold a scheduler slot of the Go runtime. So
// every call is made non-blocking first. If it lacks space in the tail, the goroutine sleeps here
// and tries again. If it needs a disk, it takes one of a few slots of the process and calls the
// form that reads; that many calls at most sit in C at a time, so that at least one scheduler slot
// stays free on more than one processor.

// Sleeps between attempts to get space.
const (
	firstSleep   = 50 * time.Microsecond
	longestSleep = time.Millisecond
)

// diskSlots bounds the calls that read a disk inside C.
var diskSlots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))

// patience says how a call waits.
type patience struct {
	// ctx ends the waiting when it is done.
	ctx context.Context
	// timeout bounds the waiting for space; 0 is no bound.
	timeout time.Duration
	// flush tells that the waiting is for writes to end; it counts in no statistics.
	flush bool
}

// mustWait reports whether err only says that the call has to wait.
func mustWait(err error) bool {
	return err == error(ffi.ErrNeedsDisk) ||
		err == error(ffi.ErrNoSpace)
}

// await repeats attempt until it does something else than ask for waiting. err is what the first
// attempt returned. disk tells attempt that it may read a disk, which it must then use for the
// flags of its call.
func (c *core) await(p patience, err error, attempt func(disk bool) error) error {
	var deadline time.Time
	sleep := firstSleep
	for mustWait(err) {
		if c.gate.IsClosed() {
			return errClosed()
		}
		if err == error(ffi.ErrNeedsDisk) {
			c.diskWaits.Add(1)
			err = inDiskSlot(p.ctx, attempt)
			continue
		}
		now := time.Now()
		if deadline.IsZero() {
			deadline = now.Add(p.timeout)
			if !p.flush {
				c.spaceWaits.Add(1)
			}
		}
		if p.timeout > 0 && now.After(deadline) {
			return ffi.Errorf(ffi.TimedOut,
				"waited %v for space in the tail (setting txMapWriteTimeout)", p.timeout)
		}
		if waited := pause(p.ctx, sleep); waited != nil {
			return waited
		}
		if !p.flush {
			c.spaceWaited.Add(int64(time.Since(now)))
		}
		sleep = min(2*sleep, longestSleep)
		err = attempt(false)
	}
	return err
}

func inDiskSlot(ctx context.Context, attempt func(disk bool) error) error {
	select {
	case diskSlots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-diskSlots }()
	return attempt(true)
}

func pause(ctx context.Context, sleep time.Duration) error {
	if ctx.Done() == nil {
		time.Sleep(sleep)
		return nil
	}
	timer := time.NewTimer(sleep)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readFlags are the flags of a call that never needs space.
func readFlags(disk bool) uint32 {
	if disk {
		return ffi.Blocking
	}
	return ffi.NonBlocking
}

// writeFlags are the flags of a call that may need space, for which it never waits in C.
func writeFlags(disk bool) uint32 {
	if disk {
		return ffi.ReadDisk
	}
	return ffi.NonBlocking
}

func errClosed() error { return ffi.Errorf(ffi.Closed, "the map is closed") }
