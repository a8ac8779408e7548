package subtree

import (
	"runtime"
	"testing"
	"time"
	"unsafe"
)

// TestRootHashesLocksInTheOrderOfAddresses lists two subtrees against that order while the one at
// the higher address is locked: the other one must get locked meanwhile.
func TestRootHashesLocksInTheOrderOfAddresses(t *testing.T) {
	type tree = Subtree[[32]byte, rawNode]
	trees := make([]tree, 2) // side by side, so that their order is known
	low, high := &trees[0], &trees[1]
	if uintptr(unsafe.Pointer(low)) > uintptr(unsafe.Pointer(high)) {
		t.Fatal("elements of a slice lie in order")
	}
	low.Nodes, _ = someNodes(3)
	high.Nodes, _ = someNodes(2)
	high.mu.Lock()
	done := make(chan error)
	go func() {
		_, err := RootHashes([]*tree{high, low})
		done <- err
	}()
	locked := false
	for end := time.Now().Add(time.Minute); !locked && time.Now().Before(end); {
		if low.mu.TryLock() {
			low.mu.Unlock()
			runtime.Gosched()
		} else {
			locked = true
		}
	}
	high.mu.Unlock()
	if err := <-done; err != nil || !locked {
		t.Fatalf("the subtree at the lower address was locked first: %v; %v", locked, err)
	}
}
