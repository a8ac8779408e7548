package subtree_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/subtree"
)

func newPool(t *testing.T, dir string, height, keep int) *subtree.Pool[node] {
	t.Helper()
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	pool, err := subtree.NewPool[node](openRuntime(t), height, dir, keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(pool.Close(), pool.Close()); err != nil {
			t.Error(err)
		}
	})
	return pool
}

// filled waits until the pool has its spare memory.
func filled(pool *subtree.Pool[node], spare int) {
	for pool.Spare() != spare {
		runtime.Gosched()
	}
}

// settled waits until so many arrays live: the pool's goroutine may just have made one too many,
// which it frees.
func settled(t *testing.T, want uint64) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ffi.LiveHandles(ffi.NodeArrayHandle) != want {
		if time.Now().After(deadline) {
			t.Fatalf("%d arrays live; want %d", ffi.LiveHandles(ffi.NodeArrayHandle), want)
		}
		runtime.Gosched()
	}
}

func TestPoolGivesMemoryAgain(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		pool := newPool(t, dir, 3, 1)
		filled(pool, 1)
		before := ffi.LiveHandles(ffi.NodeArrayHandle)
		st, err := subtree.NewTreeFromPool[hash](pool)
		if err != nil || !st.IsMmapBacked() || st.Size() != 8 || st.Length() != 0 {
			t.Fatalf("%v", err)
		}
		for i := range 8 {
			if err := st.AddNode(numbered(i), 1, 1); err != nil {
				t.Fatal(err)
			}
		}
		want := *st.RootHash()
		filled(pool, 1)
		// There is enough: the first one closed is freed, what the pool made stays.
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		settled(t, before)
		// A lease keeps memory from being given to another.
		a, err := subtree.NewTreeFromPool[hash](pool)
		if err != nil {
			t.Fatal(err)
		}
		release, err := a.Lease()
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan error)
		go func() { closed <- a.Close() }()
		filled(pool, 1)
		release()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		b, err := subtree.NewTreeFromPool[hash](pool)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			if err := b.AddNode(numbered(i), 1, 1); err != nil {
				t.Fatal(err)
			}
		}
		if *b.RootHash() != want {
			t.Error("the root in memory that was given again")
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPoolIsBoundedAndShared(t *testing.T) {
	const keep = 4
	before := ffi.LiveHandles(ffi.NodeArrayHandle)
	pool := newPool(t, "", 6, keep)
	var users sync.WaitGroup
	for user := range 4 {
		users.Go(func() {
			for round := range 50 {
				st, err := subtree.NewTreeFromPool[hash](pool)
				if err != nil {
					t.Error(err)
					return
				}
				for i := range st.Size() {
					if err := st.AddNode(numbered(user<<20|round<<8|i), 1, 1); err != nil {
						t.Error(err)
					}
				}
				for i := range st.Size() {
					if st.Nodes[i].Hash != numbered(user<<20|round<<8|i) {
						t.Errorf("node %d is another's", i)
					}
				}
				if pool.Spare() > keep {
					t.Errorf("%d spare", pool.Spare())
				}
				if err := st.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
	outlives, err := subtree.NewTreeFromPool[hash](pool)
	if err != nil || outlives.AddNode(numbered(1), 1, 1) != nil {
		t.Fatal(err)
	}
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	if live := ffi.LiveHandles(ffi.NodeArrayHandle); live != before+1 {
		t.Errorf("%d arrays live beside the one in use", live-before-1)
	}
	if !outlives.HasNode(numbered(1)) {
		t.Error("closing the pool took memory that is in use")
	}
	if err := outlives.Close(); err != nil {
		t.Error(err)
	}
	if live := ffi.LiveHandles(ffi.NodeArrayHandle); live != before {
		t.Errorf("%d arrays live; want %d", live, before)
	}
	if _, err := subtree.NewTreeFromPool[hash](pool); !errors.Is(err, blocktier.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestPoolRefusesWhatCannotBe(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	rt := openRuntime(t)
	for _, wrong := range [][2]int{{-1, 1}, {32, 1}, {3, 0}} {
		_, err := subtree.NewPool[node](rt, wrong[0], "", wrong[1])
		if !errors.Is(err, blocktier.ErrInvalidArgument) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	if _, err := subtree.NewPool[node](rt, 3, "/nowhere/at/all", 1); err == nil {
		t.Error("a pool in a directory that is not there")
	}
	if _, err := subtree.NewPool[int](rt, 3, "", 1); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Errorf("a pool of integers: %v", err)
	}
}

func TestReadingIntoAPool(t *testing.T) {
	pool := newPool(t, t.TempDir(), 5, 2)
	filled(pool, 2)
	live := ffi.LiveHandles(ffi.NodeArrayHandle)
	for _, count := range []int{1, 31, 32, 33, 100} {
		original := place{}.tree(t, 7)
		for i := range count {
			if err := original.AddNode(numbered(i), uint64(i), 1); err != nil {
				t.Fatal(err)
			}
		}
		written, err := original.Serialize()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []io.Reader{bytes.NewReader(written),
			io.MultiReader(bytes.NewReader(written))} {
			st, err := subtree.NewSubtreeFromReaderPool[hash](pool, r)
			if err != nil || !slices.Equal(st.Nodes, original.Nodes) || st.Size() != count {
				t.Fatalf("%d nodes: %v", count, err)
			}
			if err := st.Verify(subtree.VerifyOptions[hash]{}); err != nil {
				t.Error(err)
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			filled(pool, 2)
			settled(t, live)
		}
		_, err = subtree.NewSubtreeFromReaderPool[hash](pool, bytes.NewReader(written[:count*48]))
		if err == nil {
			t.Error("half a subtree")
		}
		filled(pool, 2)
	}
}
