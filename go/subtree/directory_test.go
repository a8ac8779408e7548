//go:build cgo && linux && (amd64 || arm64)

package subtree_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

type directory = subtree.Directory[hash, node]

func openDirectory(t *testing.T, path string) *directory {
	t.Helper()
	d, err := subtree.OpenDirectory[hash, node](openRuntime(t), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// ours is a directory that nobody else may write to, whatever the umask.
func ours(t *testing.T) string {
	path := t.TempDir()
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDirectoryMapsRealSubtrees: what is opened is what is read, and what is stored of it is the
// same file again.
func TestDirectoryMapsRealSubtrees(t *testing.T) {
	path := ours(t)
	d := openDirectory(t, path)
	for file, format := range map[string]subtree.Format{
		"derived/block-384188-c1024-00.subtree": subtree.Plain,
		"bad/good-conflicting.subtree":          subtree.Plain,
		"bad/good-magic.subtree":                subtree.WithMagic,
	} {
		input, err := os.ReadFile(dataPath(file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "real"), input, 0o644); err != nil {
			t.Fatal(err)
		}
		st, err := d.Open("real", format)
		if err != nil {
			t.Fatal(err)
		}
		read, err := subtree.NewSubtreeFromReader[hash, node](bytes.NewReader(input),
			subtree.WithFormat(format))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(st.Nodes, read.Nodes) || st.Fees != read.Fees || st.Height != read.Height ||
			st.SizeInBytes != read.SizeInBytes || cap(st.Nodes) != len(st.Nodes) ||
			!slices.Equal(st.ConflictingNodes, read.ConflictingNodes) || !st.IsMmapBacked() {
			t.Errorf("%s: opened and read differ", file)
		}
		if err := st.Verify(subtree.VerifyOptions[hash]{}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := d.Store("again", st, format); err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile(filepath.Join(path, "again"))
		if err != nil || !bytes.Equal(again, input) {
			t.Errorf("%s is stored differently: %v", file, err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDirectoryChangesStayInMemory: a mapped subtree is as good as another; its file never changes.
func TestDirectoryChangesStayInMemory(t *testing.T) {
	path := ours(t)
	d := openDirectory(t, path)
	heap := place{name: "heap"}.tree(t, 3)
	for i := range 8 {
		if err := heap.AddNode(numbered(i), uint64(i), 100); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Store("a", heap, subtree.Plain); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(path, "a"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := d.Open("a", subtree.Plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, tree := range []*tree{heap, st} {
		if err := tree.AddNode(numbered(9), 1, 1); !errors.Is(err, blocktier.ErrInvalidArgument) {
			t.Errorf("a full subtree takes a node: %v", err)
		}
		if err := tree.RemoveNodeAtIndex(3); err != nil {
			t.Fatal(err)
		}
		if err := tree.AddNode(numbered(9), 9, 900); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(st.Nodes, heap.Nodes) || *st.RootHash() != *heap.RootHash() {
		t.Error("mapped and heap differ")
	}
	if after, err := os.ReadFile(filepath.Join(path, "a")); err != nil ||
		!bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
	// Reading another into it gives it other memory.
	if err := st.Deserialize(before); err != nil || st.Length() != 8 {
		t.Fatal(err)
	}
	if err := errors.Join(st.Close(), st.Close()); err != nil {
		t.Error(err)
	}
}

// TestDirectoryIsLocked until it and the subtrees of its files are closed.
func TestDirectoryIsLocked(t *testing.T) {
	path := ours(t)
	d := openDirectory(t, path)
	st := place{name: "heap"}.tree(t, 0)
	if err := errors.Join(st.AddNode(numbered(1), 2, 3), d.Store("a", st, subtree.Plain)); err != nil {
		t.Fatal(err)
	}
	mapped, err := d.Open("a", subtree.Plain)
	if err != nil {
		t.Fatal(err)
	}
	release, err := mapped.Lease()
	if err != nil {
		t.Fatal(err)
	}
	nodes := mapped.Nodes
	if err := errors.Join(os.Remove(filepath.Join(path, "a")), d.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	rt := openRuntime(t)
	if _, err := subtree.OpenDirectory[hash, node](rt, path); !errors.Is(err, blocktier.ErrLocked) {
		t.Errorf("a second owner: %v", err)
	}
	if _, err := d.Open("a", subtree.Plain); !errors.Is(err, blocktier.ErrClosed) {
		t.Errorf("open after close: %v", err)
	}
	if err := d.Store("a", st, subtree.Plain); !errors.Is(err, blocktier.ErrClosed) {
		t.Errorf("store after close: %v", err)
	}
	closed := make(chan error)
	go func() { closed <- mapped.Close() }()
	if nodes[0].Fee != 2 {
		t.Error("the leased nodes changed")
	}
	release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	second, err := subtree.OpenDirectory[hash, node](rt, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// TestDirectoryErrors: each says what is wrong, and leaves nothing behind.
func TestDirectoryErrors(t *testing.T) {
	path := ours(t)
	d := openDirectory(t, path)
	empty := place{name: "heap"}.tree(t, 2)
	if err := d.Store("a", empty, subtree.Plain); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Errorf("no nodes: %v", err)
	}
	if err := empty.AddNode(numbered(1), 2, 3); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "..", "../a", "LOCK", ".a"} {
		if err := d.Store(name, empty, subtree.Plain); !errors.Is(err, blocktier.ErrInvalidArgument) {
			t.Errorf("stored as %q: %v", name, err)
		}
	}
	if err := d.Store("list", empty, subtree.HashList); err != nil {
		t.Error(err)
	}
	if _, err := d.Open("list", subtree.HashList); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Errorf("a hash list: %v", err)
	}
	_, err := d.Open("list", subtree.Plain)
	if !errors.Is(err, blocktier.ErrFormat) || !strings.Contains(err.Error(), path) {
		t.Errorf("a file of another format: %v", err)
	}
	if _, err := d.Open("none", subtree.Plain); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.Chmod(filepath.Join(path, "list"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open("list", subtree.Plain); !errors.Is(err, blocktier.ErrUnsupported) {
		t.Errorf("a file of everybody: %v", err)
	}
	if err := empty.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Store("a", empty, subtree.Plain); !errors.Is(err, blocktier.ErrClosed) {
		t.Errorf("a closed subtree: %v", err)
	}
}

// TestDirectoryConcurrently: files are replaced while others open and read them.
func TestDirectoryConcurrently(t *testing.T) {
	d := openDirectory(t, ours(t))
	store := func(fee uint64) error {
		st, err := subtree.NewTree[hash, node](4)
		for i := 0; err == nil && i < 16; i++ {
			err = st.AddNode(numbered(i), fee, 1)
		}
		return errors.Join(err, d.Store("a", st, subtree.WithMagic))
	}
	if err := store(0); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for fee := range uint64(4) {
		all.Go(func() {
			for range 10 {
				if err := store(fee); err != nil {
					t.Error(err)
				}
				st, err := d.Open("a", subtree.WithMagic)
				if err != nil {
					t.Error(err)
					return
				}
				if err := st.Verify(subtree.VerifyOptions[hash]{}); err != nil {
					t.Error(err)
				}
				if err := st.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
