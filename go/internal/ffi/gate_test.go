package ffi

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestGateFreesOnceAndOnlyWhenUnused(t *testing.T) {
	const users = 8
	for round := range 100 {
		var gate Gate
		var alive atomic.Bool
		alive.Store(true)
		var frees, used atomic.Int64
		var all sync.WaitGroup
		started := make(chan struct{}, users)
		for user := range users {
			all.Go(func() {
				started <- struct{}{}
				for gate.Enter(uint8(user)) {
					if !alive.Load() {
						t.Errorf("round %d: entered after the handle was freed", round)
					}
					used.Add(1)
					gate.Leave(uint8(user))
					runtime.Gosched()
				}
			})
		}
		for range users {
			<-started
		}
		for range 2 {
			all.Go(func() {
				if gate.Close() {
					alive.Store(false)
					frees.Add(1)
				}
			})
		}
		all.Wait()
		if frees.Load() != 1 {
			t.Fatalf("round %d: freed %d times", round, frees.Load())
		}
		if gate.Enter(0) || !gate.IsClosed() || !gate.IsDrained() {
			t.Fatalf("round %d: a closed gate admits users", round)
		}
	}
}

func TestGateCloseWaitsForALease(t *testing.T) {
	var gate Gate
	if !gate.Enter(3) {
		t.Fatal("a new gate is closed")
	}
	closed := make(chan bool)
	go func() { closed <- gate.Close() }()
	// A lease is held throughout, so the closer cannot finish; it refuses us as soon as it has
	// begun.
	for gate.Enter(3) {
		gate.Leave(3)
		runtime.Gosched()
	}
	if gate.IsDrained() {
		t.Fatal("closed under a lease")
	}
	select {
	case <-closed:
		t.Fatal("closed under a lease")
	default:
	}
	gate.Leave(3)
	if !<-closed {
		t.Fatal("the first Close is not told to free")
	}
	if gate.Close() {
		t.Fatal("the second Close is told to free")
	}
}
