package ffi

import (
	"sync/atomic"
	"unsafe"
)

// gateClosed is the bit of a stripe that refuses new users; the bits below count users.
const gateClosed = int64(1) << 62

// gateStripes spreads the counters of a busy handle over cache lines. A power of two.
const gateStripes = 32

// Gate counts the calls and leases on a handle so that it is freed only when nobody uses it any
// more.
//
// Users Enter and Leave; Close refuses new users, waits for the present ones and returns true to
// the one caller that shall free the handle. The zero value is open. Stripe is any number; the same
// one must be given to Enter and Leave.
//
// Invariant: after Close has returned, no Enter that returned true is without its Leave.
type Gate struct {
	closing atomic.Bool
	done    atomic.Bool
	stripes [gateStripes]gateStripe
}

type gateStripe struct {
	state atomic.Int64
	// wake holds the channel on which the closer waits; it is set before the closed bit.
	wake atomic.Pointer[chan struct{}]
	// Processors fetch lines in pairs.
	_ [112]byte
}

// Stripe is a number for Enter and Leave that a goroutine has mostly to itself, so that the counter
// stays in the cache of the processor that it runs on. It is made from the place of the goroutine's
// stack; any number would be correct.
func Stripe() uint8 {
	var here byte
	// Stacks are of 2 KiB at least; the multiplier spreads neighbours.
	return uint8(uint32(uintptr(unsafe.Pointer(&here))>>11) * 0x9e3779b1 >> 24)
}

// Enter registers a user; false when the gate is closed.
func (g *Gate) Enter(stripe uint8) bool {
	s := &g.stripes[stripe%gateStripes]
	if s.state.Add(1)&gateClosed == 0 {
		return true
	}
	s.leave()
	return false
}

// Leave ends what Enter began.
func (g *Gate) Leave(stripe uint8) {
	g.stripes[stripe%gateStripes].leave()
}

func (s *gateStripe) leave() {
	if s.state.Add(-1) != gateClosed {
		return
	}
	if wake := s.wake.Load(); wake != nil {
		select {
		case *wake <- struct{}{}:
		default:
		}
	}
}

// IsClosed reports whether Close was called.
func (g *Gate) IsClosed() bool { return g.closing.Load() }

// IsDrained reports whether a Close has seen the last user leave.
func (g *Gate) IsDrained() bool { return g.done.Load() }

// Close refuses new users and waits for the present ones. It returns true to its first caller only;
// later ones return at once. It must not be called by a user: it would wait for itself.
func (g *Gate) Close() bool {
	if g.closing.Swap(true) {
		return false
	}
	for i := range g.stripes {
		s := &g.stripes[i]
		wake := make(chan struct{}, 1)
		s.wake.Store(&wake)
		s.state.Or(gateClosed)
	}
	for i := range g.stripes {
		s := &g.stripes[i]
		for s.state.Load() != gateClosed {
			<-*s.wake.Load()
		}
	}
	g.done.Store(true)
	return true
}
