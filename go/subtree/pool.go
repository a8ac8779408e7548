package subtree

import (
	"sync"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Pool keeps memory for subtrees to come, all of one size: what closed subtrees give back, and what
// a goroutine of its own makes and touches ahead, so that whoever appends pays for no page faults.
// It is shared by any number of subtrees and safe for concurrent use.
type Pool[N any] struct{ *pool }

// pool is the part that does not depend on the node's type.
type pool struct {
	rt        *blocktier.Runtime
	height    int
	directory string
	keep      int

	mu     sync.Mutex
	spare  []memory
	closed bool
	// wake asks the goroutine to look; it ends when wake is closed, and closes done.
	wake, done chan struct{}
}

// NewPool makes a pool for subtrees of up to 2^height nodes, in files without a name in directory
// or, where that is empty, in anonymous memory. It keeps as many as keep of them spare. It must be
// closed.
func NewPool[N any](rt *blocktier.Runtime, height int, directory string, keep int) (*Pool[N],
	error) {
	if height < 0 || height > maxHeight || keep < 1 {
		return nil, ffi.Errorf(ffi.InvalidArgument,
			"a pool of %d subtrees of height %d; want at least 1, of height 0 to %d", keep, height,
			maxHeight)
	}
	if err := checkCapacity[N](1 << height); err != nil {
		return nil, err
	}
	p := &pool{rt: rt, height: height, directory: directory, keep: keep,
		wake: make(chan struct{}, 1), done: make(chan struct{})}
	// The first one here: what is wrong is said at once.
	first, err := p.fresh()
	if err != nil {
		return nil, err
	}
	p.spare = append(p.spare, first)
	go p.fill()
	p.look()
	return &Pool[N]{p}, nil
}

// fresh is memory that nobody had before, touched.
func (p *pool) fresh() (memory, error) {
	return newMemory(p.rt, 1<<p.height, p.directory, true)
}

// look wakes the goroutine, if it does not run anyway. With the lock held, or before it is shared.
func (p *pool) look() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pool) fill() {
	defer close(p.done)
	for range p.wake {
		for p.wants() {
			given, err := p.fresh()
			if err != nil {
				// Whoever needs one will make it, or be told why not.
				p.rt.Logger().Warn("blocktier: no spare subtree memory", "error", err)
				break
			}
			if !p.take(given) {
				_ = given.handle.Free()
			}
		}
	}
}

func (p *pool) wants() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && len(p.spare) < p.keep
}

// take keeps memory that nobody uses; false if there is enough, or the pool is closed.
func (p *pool) take(given memory) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.spare) >= p.keep {
		return false
	}
	p.spare = append(p.spare, given)
	return true
}

// Spare is the number of subtrees for which there is memory.
func (p *pool) Spare() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.spare)
}

// Array is an empty array: from what is spare, otherwise made now. Closing it gives its memory
// back.
func (p *Pool[N]) Array() (*NodeArray[N], error) {
	given, found, err := p.get()
	if err != nil {
		return nil, err
	}
	if !found {
		if given, err = newMemory(p.rt, 1<<p.height, p.directory,
			touchAtOnce(1<<p.height)); err != nil {
			return nil, err
		}
	}
	m := &mapping{memory: given, logger: p.rt.Logger(), pool: p.pool}
	return arrayIn[N](m, 1<<p.height), nil
}

func (p *pool) get() (given memory, found bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return memory{}, false, ffi.Errorf(ffi.Closed, "the pool of subtrees is closed")
	}
	defer p.look()
	last := len(p.spare) - 1
	if last < 0 {
		return memory{}, false, nil
	}
	given, p.spare = p.spare[last], p.spare[:last]
	return given, true, nil
}

// NewTreeFromPool makes an empty subtree of the pool's size. Closing it gives its memory back.
func NewTreeFromPool[H ~[32]byte, N any](p *Pool[N]) (*Subtree[H, N], error) {
	array, err := p.Array()
	if err != nil {
		return nil, err
	}
	st := &Subtree[H, N]{Height: p.height}
	st.adopt(p.rt, p.directory, array)
	return st, nil
}

// Close frees what is spare and waits for the goroutine. Subtrees that are in use stay so; their
// memory is freed when they are closed. A second Close returns nil.
func (p *pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	spare := p.spare
	p.spare = nil
	close(p.wake)
	p.mu.Unlock()
	<-p.done
	var first error
	for _, given := range spare {
		if err := given.handle.Free(); first == nil {
			first = err
		}
	}
	return first
}
