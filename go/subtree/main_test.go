package subtree_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/subtree"
)

// TestMain asserts that no test leaves a native object behind.
func TestMain(m *testing.M) {
	code := m.Run()
	for kind, name := range ffi.HandleKinds {
		if live := ffi.LiveHandles(kind); live != 0 {
			fmt.Fprintln(os.Stderr, "live handles at the end:", name, live)
			code = 1
		}
	}
	os.Exit(code)
}

type hash = [32]byte

type node = subtree.Node[hash]

type tree = subtree.Subtree[hash, node]

// place is where a test keeps its nodes: the race detector sees only the heap.
type place struct {
	name string
	rt   *blocktier.Runtime
	dir  string
}

// places are the heap and, where the library is part of the build, anonymous memory and a mapped
// file.
func places(t *testing.T) []place {
	t.Helper()
	all := []place{{name: "heap"}}
	if ffi.Available() != nil {
		t.Logf("only on the heap: %v", ffi.Available())
		return all
	}
	rt := openRuntime(t)
	return append(all, place{"anonymous", rt, ""}, place{"file", rt, t.TempDir()})
}

func openRuntime(t *testing.T, options ...blocktier.Option) *blocktier.Runtime {
	t.Helper()
	rt, err := blocktier.Open(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return rt
}

func (p place) tree(t *testing.T, height int) *tree {
	t.Helper()
	var st *tree
	var err error
	if p.rt == nil {
		st, err = subtree.NewTree[hash, node](height)
	} else {
		st, err = subtree.NewTreeMmap[hash, node](p.rt, height, p.dir)
	}
	return closing(t, p, st, err)
}

func closing(t *testing.T, p place, st *tree, err error) *tree {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if st.IsMmapBacked() != (p.rt != nil) {
		t.Fatalf("%s: mapped is %v", p.name, st.IsMmapBacked())
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func dataPath(parts ...string) string {
	root := os.Getenv("BLOCKTIER_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "tests", "data")
	}
	return filepath.Join(append([]string{root}, parts...)...)
}

func readJSON(t *testing.T, into any, parts ...string) {
	t.Helper()
	bytes, err := os.ReadFile(dataPath(parts...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(bytes, into); err != nil {
		t.Fatal(err)
	}
}

// display is a hash as the expected files have it.
func display(h hash) string {
	slices.Reverse(h[:])
	return hex.EncodeToString(h[:])
}

func hashFromDisplay(t *testing.T, text string) (h hash) {
	t.Helper()
	bytes, err := hex.DecodeString(text)
	if err != nil || len(bytes) != 32 {
		t.Fatalf("hash %q: %v", text, err)
	}
	copy(h[:], bytes)
	slices.Reverse(h[:])
	return h
}

// numbered is a hash that differs for every i.
func numbered(i int) (h hash) {
	for at := range h {
		h[at] = byte(i >> (8 * (at % 3)))
		h[at] ^= byte(at * 37)
	}
	return h
}

// collect forces collections until the condition holds; the test fails if it does not within many.
func collect(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for range 200 {
		runtime.GC()
		runtime.Gosched()
		if condition() {
			return
		}
	}
	t.Fatalf("%s did not happen after 200 collections", what)
}
