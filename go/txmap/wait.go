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
//
// While somebody waits for space, every call that stores takes such a slot too. The disk is the
// limit then and nothing is lost, but a call may last: its thread competes with the one that
// writes, and what it touches first (the index that grows) the system has to supply. If all
// scheduler slots sat in such calls, timers would wait for the runtime's monitor, which looks twice
// at a slot before it takes it away, and sleeps for up to 10 ms between looks.

// Sleeps between attempts to get space.
const (
	firstSleep   = 50 * time.Microsecond
	longestSleep = time.Millisecond
)

// slots bounds the calls that read a disk inside C, or store while others wait for space.
var slots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))

// errCrowded stands for a first attempt that was not made because others wait for space.
var errCrowded = &ffi.Error{Code: ffi.WouldBlock, Text: "would block: others wait for space"}

// patience says how a call waits.
type patience struct {
	// ctx ends the waiting when it is done.
	ctx context.Context
	// timeout bounds the waiting for space; 0 is no bound.
	timeout time.Duration
	// flush tells that the waiting is for writes to end; it counts in no statistics.
	flush bool
}

// crowded is errCrowded while somebody waits for space, else nil. A call that stores asks before
// its first attempt.
func (c *core) crowded() error {
	if c.waiting.Load() > 0 {
		return errCrowded
	}
	return nil
}

// mustWait reports whether err only says that the call has to wait.
func mustWait(err error) bool {
	return err != nil && (err == error(ffi.ErrNeedsDisk) || err == error(ffi.ErrNoSpace) ||
		err == error(errCrowded))
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
		switch err {
		case error(ffi.ErrNeedsDisk):
			c.diskWaits.Add(1)
			err = inSlot(p.ctx, true, attempt)
			continue
		case error(errCrowded):
			err = inSlot(p.ctx, false, c.counting(time.Now(), attempt))
			continue
		}
		now := time.Now()
		if deadline.IsZero() {
			deadline = now.Add(p.timeout)
			if !p.flush {
				c.spaceWaits.Add(1)
				c.waiting.Add(1)
				defer c.waiting.Add(-1)
			}
		}
		if p.timeout > 0 && now.After(deadline) {
			return ffi.Errorf(ffi.TimedOut,
				"waited %v for space in the tail (setting txMapWriteTimeout)", p.timeout)
		}
		if waited := pause(p.ctx, sleep); waited != nil {
			return waited
		}
		sleep = min(2*sleep, longestSleep)
		if p.flush {
			err = attempt(false)
			continue
		}
		err = inSlot(p.ctx, false, c.counting(now, attempt))
	}
	return err
}

// counting is attempt that first counts the time since start as waiting for space.
func (c *core) counting(start time.Time, attempt func(disk bool) error) func(disk bool) error {
	return func(disk bool) error {
		c.spaceWaited.Add(int64(time.Since(start)))
		return attempt(disk)
	}
}

// inSlot makes an attempt when one of the slots is free.
func inSlot(ctx context.Context, disk bool, attempt func(disk bool) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-slots }()
	return attempt(disk)
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
