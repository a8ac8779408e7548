package subtree

import (
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"unsafe"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// NodeArray is memory for a fixed number of nodes, on the Go heap or outside it. Its methods may be
// called concurrently; what happens to the nodes is the caller's business.
type NodeArray[N any] struct {
	mu      sync.Mutex
	nodes   []N // length 0, capacity as asked for; nil when closed
	mapping *mapping
	cleanup runtime.Cleanup
}

// memory is what the library gives for an array.
type memory struct {
	handle ffi.NodeArray
	data   unsafe.Pointer
}

// mapping is the native part, which outlives an array that its owner forgets to close.
type mapping struct {
	memory
	gate   ffi.Gate
	logger *slog.Logger
	pool   *pool // where the memory comes from, else nil
}

// NewHeapArray makes an array of capacity nodes on the Go heap.
func NewHeapArray[N any](capacity int) (*NodeArray[N], error) {
	if err := checkCapacity[N](capacity); err != nil {
		return nil, err
	}
	return &NodeArray[N]{nodes: make([]N, 0, capacity)}, nil
}

// NewNodeArray makes an array of capacity nodes outside the Go heap: in a file without a name in
// directory, whose space is reserved before it is mapped, or in anonymous memory where directory is
// empty.
func NewNodeArray[N any](rt *blocktier.Runtime, capacity int, directory string) (*NodeArray[N],
	error) {
	return newNodeArray[N](rt, capacity, directory, touchAtOnce(capacity))
}

func newNodeArray[N any](rt *blocktier.Runtime, capacity int, directory string, touched bool) (
	*NodeArray[N], error) {
	if err := checkCapacity[N](capacity); err != nil {
		return nil, err
	}
	if capacity == 0 {
		return nil, ffi.Errorf(ffi.InvalidArgument, "a mapped array needs at least one node")
	}
	given, err := newMemory(rt, capacity, directory, touched)
	if err != nil {
		return nil, err
	}
	return arrayIn[N](&mapping{memory: given, logger: rt.Logger()}, capacity), nil
}

// touchAtOnce says whether an array is so small that its pages are made with it, which costs a
// third of faulting them in when they are filled. Of larger ones only what is filled takes memory.
func touchAtOnce(capacity int) bool { return NodeBytes*capacity <= 1<<20 }

// newMemory makes the memory of an array, with all of its pages if touched.
func newMemory(rt *blocktier.Runtime, capacity int, directory string, touched bool) (given memory,
	err error) {
	err = rt.Use(func(native ffi.Runtime) (err error) {
		given.handle, given.data, err = ffi.NewNodeArray(native, uint64(capacity), directory,
			touched)
		return err
	})
	return given, err
}

// arrayIn is an empty array of capacity nodes in the memory of m.
func arrayIn[N any](m *mapping, capacity int) *NodeArray[N] {
	a := &NodeArray[N]{nodes: unsafe.Slice((*N)(m.data), capacity)[:0:capacity], mapping: m}
	a.cleanup = runtime.AddCleanup(a, (*mapping).forgotten, m)
	return a
}

// NewNodeArrayOrHeap is NewNodeArray with a way out: where the memory cannot be mapped (no space,
// no such directory, a file system that does not keep its promises) it warns the runtime's logger
// and makes a heap array. Errors in the call itself stay errors.
func NewNodeArrayOrHeap[N any](rt *blocktier.Runtime, capacity int,
	directory string) (*NodeArray[N], error) {
	return newNodeArrayOrHeap[N](rt, capacity, directory, touchAtOnce(capacity))
}

func newNodeArrayOrHeap[N any](rt *blocktier.Runtime, capacity int, directory string,
	touched bool) (*NodeArray[N], error) {
	a, err := newNodeArray[N](rt, capacity, directory, touched)
	if err == nil || !mayFallBack(rt, err) {
		return a, err
	}
	rt.Logger().Warn("blocktier: nodes go to the Go heap because they cannot be mapped",
		"directory", directory, "nodes", capacity, "error", err)
	return NewHeapArray[N](capacity)
}

func mayFallBack(rt *blocktier.Runtime, err error) bool {
	if rt == nil {
		return false
	}
	for _, fatal := range []error{ffi.InvalidArgument, ffi.NullPointer, ffi.Closed, ffi.Poisoned,
		ffi.Panic} {
		if errors.Is(err, fatal) {
			return false
		}
	}
	return true
}

func checkCapacity[N any](capacity int) error {
	if err := checkLayout[N](); err != nil {
		return err
	}
	if capacity < 0 || uint64(capacity) > 1<<maxHeight {
		return ffi.Errorf(ffi.InvalidArgument, "an array of %d nodes; want 0 to %d", capacity,
			uint64(1)<<maxHeight)
	}
	return nil
}

// Slice is the whole array as a slice of length 0; appending up to its capacity stays in the array.
// It is nil when the array is closed. A slice over mapped memory must not be used after Close: hold
// a Lease, or be the one who closes.
func (a *NodeArray[N]) Slice() []N {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.nodes
}

// Capacity is the number of nodes; 0 when the array is closed.
func (a *NodeArray[N]) Capacity() int { return cap(a.Slice()) }

// IsMapped reports whether the nodes are outside the Go heap.
func (a *NodeArray[N]) IsMapped() bool { return a.mapping != nil }

// Lease keeps the memory until the returned function is called, which must happen exactly once:
// Close waits for it.
func (a *NodeArray[N]) Lease() (release func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.nodes == nil || a.mapping != nil && !a.mapping.gate.Enter(0) {
		return nil, ffi.Errorf(ffi.Closed, "the node array is closed")
	}
	return func() {
		if a.mapping != nil {
			a.mapping.gate.Leave(0)
		}
		runtime.KeepAlive(a)
	}, nil
}

// Close waits for the leases and frees the memory. Slice returns nil afterwards. A second Close
// returns nil.
func (a *NodeArray[N]) Close() error {
	a.mu.Lock()
	a.nodes = nil
	a.mu.Unlock()
	if a.mapping == nil {
		return nil
	}
	a.cleanup.Stop()
	return a.mapping.close()
}

func (m *mapping) close() error {
	if !m.gate.Close() {
		return nil
	}
	// Nobody has a lease any more.
	if m.pool != nil && m.pool.take(m.memory) {
		return nil
	}
	return m.handle.Free()
}

func (m *mapping) forgotten() {
	m.logger.Warn("blocktier: a mapped node array was not closed; call Close")
	if err := m.close(); err != nil {
		m.logger.Error("blocktier: freeing a forgotten node array", "error", err)
	}
}
