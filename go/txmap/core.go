package txmap

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// core is the part of a DiskTxMap that knows neither H nor V: the handle, its gate, waiting, and
// the first error. It outlives the wrapper when a caller forgets to close it.
//
// Every method enters the gate before it touches the handle and leaves it afterwards; Close frees
// the handle when all have left.
type core struct {
	gate   ffi.Gate
	handle ffi.TxMap
	logger *slog.Logger

	sticky       stickyError
	closeWarn    stickyError
	failureTaken atomic.Bool

	// waiting is how many goroutines wait for space.
	waiting     atomic.Int64
	diskWaits   atomic.Uint64
	spaceWaits  atomic.Uint64
	spaceWaited atomic.Int64
}

// scratch is memory of one call.
type scratch struct{ value, existing []byte }

// scratchKept is the longest buffer that goes back to the pool.
const scratchKept = 1 << 20

var scratchPool = sync.Pool{New: func() any {
	return &scratch{value: make([]byte, 0, 512), existing: make([]byte, 512)}
}}

func (s *scratch) free() {
	if cap(s.value) <= scratchKept && cap(s.existing) <= scratchKept {
		scratchPool.Put(s)
	}
}

// get reads the value of key into s.existing, which it makes long enough, and returns its length.
func (c *core) get(p patience, key *[32]byte, s *scratch, result *ffi.Lookup) (bool, error) {
	stripe := ffi.Stripe()
	if !c.gate.Enter(stripe) {
		return false, errClosed()
	}
	defer c.gate.Leave(stripe)
	for {
		err := c.handle.Get(key, ffi.NonBlocking, s.existing, result)
		if mustWait(err) {
			*result, err = c.getWaiting(p, err, *key, s)
		}
		switch err {
		case nil:
			return true, nil
		case error(ffi.NotFound):
			return false, nil
		case error(ffi.BufferTooSmall):
			s.existing = make([]byte, result.ValueLength)
		default:
			return false, err
		}
	}
}

// getWaiting has locals of its own: what its closure captures is allocated, which only calls that
// wait shall pay.
func (c *core) getWaiting(p patience, err error, key [32]byte, s *scratch) (result ffi.Lookup,
	_ error) {
	err = c.await(p, err, func(disk bool) error {
		return c.handle.Get(&key, readFlags(disk), s.existing, &result)
	})
	return result, err
}

// setIfNotExists inserts s.value. If the key is there, result.Found is 1 and s.existing holds its
// value.
func (c *core) setIfNotExists(p patience, key *[32]byte, index uint16, s *scratch,
	result *ffi.Lookup) error {
	stripe := ffi.Stripe()
	if !c.gate.Enter(stripe) {
		return errClosed()
	}
	defer c.gate.Leave(stripe)
	for {
		err := c.crowded()
		if err == nil {
			err = c.handle.SetIfNotExists(key, s.value, index, ffi.NonBlocking, s.existing, result)
		}
		if mustWait(err) {
			*result, err = c.setIfNotExistsWaiting(p, err, *key, index, s)
		}
		if err != nil || result.Found == 0 || int64(result.ValueLength) <= int64(len(s.existing)) {
			return err
		}
		// The value that is there is longer than our buffer: once more with a longer one. If it has
		// been removed meanwhile, ours is inserted.
		s.existing = make([]byte, result.ValueLength)
	}
}

func (c *core) setIfNotExistsWaiting(p patience, err error, key [32]byte, index uint16,
	s *scratch) (result ffi.Lookup, _ error) {
	err = c.await(p, err, func(disk bool) error {
		return c.handle.SetIfNotExists(&key, s.value, index, writeFlags(disk), s.existing, &result)
	})
	return result, err
}

func (c *core) set(p patience, key *[32]byte, index uint16, value []byte) error {
	stripe := ffi.Stripe()
	if !c.gate.Enter(stripe) {
		return errClosed()
	}
	defer c.gate.Leave(stripe)
	err := c.crowded()
	if err == nil {
		_, err = c.handle.Set(key, value, index, ffi.NonBlocking)
	}
	if mustWait(err) {
		return c.setWaiting(p, err, *key, index, value)
	}
	return err
}

func (c *core) setWaiting(p patience, err error, key [32]byte, index uint16, value []byte) error {
	return c.await(p, err, func(disk bool) error {
		_, err := c.handle.Set(&key, value, index, writeFlags(disk))
		return err
	})
}

// Operations on one key that answer yes or no.
type keyOp func(handle ffi.TxMap, key *[32]byte, flags uint32) (bool, error)

func (c *core) exists(p patience, key *[32]byte) (bool, error) {
	stripe := ffi.Stripe()
	if !c.gate.Enter(stripe) {
		return false, errClosed()
	}
	defer c.gate.Leave(stripe)
	found, err := c.handle.Exists(key, ffi.NonBlocking)
	if mustWait(err) {
		return c.keyWaiting(p, err, *key, readFlags, ffi.TxMap.Exists)
	}
	return found, err
}

func (c *core) delete(p patience, key *[32]byte) (bool, error) {
	stripe := ffi.Stripe()
	if !c.gate.Enter(stripe) {
		return false, errClosed()
	}
	defer c.gate.Leave(stripe)
	removed, err := c.handle.Delete(key, ffi.NonBlocking)
	if mustWait(err) {
		return c.keyWaiting(p, err, *key, writeFlags, ffi.TxMap.Delete)
	}
	return removed, err
}

// subtreeIndex asks for a value with no room for it: what is said of it is enough.
func (c *core) subtreeIndex(p patience, key *[32]byte) (int16, bool, error) {
	stripe := ffi.Stripe()
	if !c.gate.Enter(stripe) {
		return 0, false, errClosed()
	}
	defer c.gate.Leave(stripe)
	var result ffi.Lookup
	err := c.handle.Get(key, ffi.NonBlocking, nil, &result)
	if mustWait(err) {
		result, err = c.getWaiting(p, err, *key, &scratch{})
	}
	switch err {
	case nil, error(ffi.BufferTooSmall):
		return int16(result.SubtreeIndex), true, nil
	case error(ffi.NotFound):
		return 0, false, nil
	}
	return 0, false, err
}

func (c *core) updateSubtreeIndex(p patience, key *[32]byte, index uint16) (bool, error) {
	stripe := ffi.Stripe()
	if !c.gate.Enter(stripe) {
		return false, errClosed()
	}
	defer c.gate.Leave(stripe)
	found, err := c.handle.UpdateSubtreeIndex(key, index, ffi.NonBlocking)
	if mustWait(err) {
		op := func(handle ffi.TxMap, key *[32]byte, flags uint32) (bool, error) {
			return handle.UpdateSubtreeIndex(key, index, flags)
		}
		return c.keyWaiting(p, err, *key, writeFlags, op)
	}
	return found, err
}

func (c *core) keyWaiting(p patience, err error, key [32]byte, flags func(bool) uint32,
	op keyOp) (bool, error) {
	var answer bool
	err = c.await(p, err, func(disk bool) (err error) {
		answer, err = op(c.handle, &key, flags(disk))
		return err
	})
	return answer, err
}

// use runs f on the handle.
func (c *core) use(f func(handle ffi.TxMap) error) error {
	stripe := ffi.Stripe()
	if !c.gate.Enter(stripe) {
		return errClosed()
	}
	defer c.gate.Leave(stripe)
	return f(c.handle)
}

func (c *core) flush(ctx context.Context) error {
	p := patience{ctx: ctx, flush: true}
	return c.use(func(handle ffi.TxMap) error {
		ticket, err := handle.FlushBegin(ffi.NonBlocking)
		err = c.await(p, err, func(bool) (err error) {
			ticket, err = handle.FlushBegin(ffi.NonBlocking)
			return err
		})
		if err != nil {
			return err
		}
		return c.await(p, handle.FlushWait(ticket, ffi.NonBlocking), func(bool) error {
			return handle.FlushWait(ticket, ffi.NonBlocking)
		})
	})
}

// sync makes a durable map's content survive a power cut. The writes are waited for in Go, so that
// only the disk's own time is spent inside C.
func (c *core) sync(ctx context.Context) error {
	if err := c.flush(ctx); err != nil {
		return err
	}
	return c.use(func(handle ffi.TxMap) error {
		return inSlot(ctx, true, func(bool) error { return handle.Sync(0) })
	})
}

// failure is the error that stopped the map, nil while it works or when it is closed.
func (c *core) failure() error {
	stripe := ffi.Stripe()
	if !c.gate.Enter(stripe) {
		return nil
	}
	defer c.gate.Leave(stripe)
	return c.handle.Failure()
}

func (c *core) err() error {
	if err := c.sticky.get(); err != nil {
		return err
	}
	return c.failure()
}

func (c *core) takeErr() error {
	if err := c.sticky.take(); err != nil {
		return err
	}
	// A map that failed in the background, without a call that could tell: told once, later by each
	// write.
	if err := c.failure(); err != nil && !c.failureTaken.Swap(true) {
		return err
	}
	return nil
}

// close frees the handle after the calls that run on it. A map that had failed says so; trouble
// with releasing resources alone is a warning.
func (c *core) close() error {
	if !c.gate.Close() {
		return nil
	}
	err := c.handle.Close()
	if failure, ok := err.(*ffi.Error); ok {
		switch failure.Code {
		case ffi.Failed, ffi.Poisoned, ffi.Panic:
			return err
		}
	}
	c.closeWarn.keep(err)
	return nil
}

func (c *core) forgotten() {
	c.logger.Warn("blocktier: a DiskTxMap was not closed; call Close")
	if err := c.close(); err != nil {
		c.logger.Error("blocktier: closing a forgotten DiskTxMap", "error", err)
	}
}
