package subtree_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

func ExampleRootHashes() {
	type Hash [32]byte
	type Tree = subtree.Subtree[Hash, subtree.Node[Hash]]
	var block []*Tree
	for first := range 3 {
		st, err := subtree.NewTree[Hash, subtree.Node[Hash]](1)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = st.AddNode(Hash{byte(first), 1}, 1, 250)
		_ = st.AddNode(Hash{byte(first), 2}, 1, 250)
		block = append(block, st)
	}
	roots, err := subtree.RootHashes(block)
	fmt.Println(len(roots), err, roots[2] == *block[2].RootHash())
	// Output: 3 <nil> true
}

// someTrees are subtrees of many sizes in every place a subtree can be.
func someTrees(t *testing.T) (trees []*tree, roots []hash) {
	t.Helper()
	for _, p := range places(t) {
		for _, count := range []int{1, 2, 3, 17, 600, 5000} {
			height := 0
			for 1<<height < count {
				height++
			}
			st, reference := p.tree(t, height), place{}.tree(t, height)
			for i := range count {
				for _, st := range []*tree{st, reference} {
					if err := st.AddNode(numbered(i+count), uint64(i), 1); err != nil {
						t.Fatal(err)
					}
				}
			}
			trees, roots = append(trees, st), append(roots, *reference.RootHash())
		}
	}
	return trees, roots
}

func TestRootHashesAreTheRootsOfEach(t *testing.T) {
	trees, want := someTrees(t)
	// One root known before, one from kept levels, one subtree listed twice.
	trees[0].RootHash()
	if _, err := trees[3].GetMerkleProof(0); err != nil {
		t.Fatal(err)
	}
	trees, want = append(trees, trees[2]), append(want, want[2])
	for range 2 {
		roots, err := subtree.RootHashes(trees)
		if err != nil {
			t.Fatal(err)
		}
		for i := range roots {
			if roots[i] != want[i] || roots[i] != *trees[i].RootHash() {
				t.Fatalf("the root of subtree %d of %d nodes", i, trees[i].Length())
			}
		}
	}
	// A change is seen: nothing is taken from before it.
	last := len(trees) - 2
	trees[last].ReplaceRootNode(&hash{7}, 0, 0)
	roots, err := subtree.RootHashes(trees)
	if err != nil || roots[last] == want[last] || roots[last] != *trees[last].RootHash() {
		t.Fatalf("the root after a change: %v", err)
	}
}

func TestRootHashesNameWhatHasNone(t *testing.T) {
	if roots, err := subtree.RootHashes[hash, node](nil); err != nil || len(roots) != 0 {
		t.Fatalf("of no subtrees: %v, %v", roots, err)
	}
	trees, _ := someTrees(t)
	trees[1] = place{}.tree(t, 3)
	if _, err := subtree.RootHashes(trees); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Fatalf("one without nodes: %v", err)
	}
	trees[1] = nil
	if _, err := subtree.RootHashes(trees); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Fatalf("one that is nil: %v", err)
	}
	trees[1] = trees[2]
	if err := trees[5].Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := subtree.RootHashes(trees); !errors.Is(err, blocktier.ErrClosed) {
		t.Fatalf("one that is closed: %v", err)
	}
}

// TestRootHashesInAnyOrderAtOnce is for the race detector; the order of locks has its own test.
func TestRootHashesInAnyOrderAtOnce(t *testing.T) {
	trees, want := someTrees(t)
	reversed := make([]*tree, len(trees))
	for i := range trees {
		reversed[len(trees)-1-i] = trees[i]
	}
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			for range 50 {
				order := trees
				if worker%2 == 1 {
					order = reversed
				}
				roots, err := subtree.RootHashes(order)
				first := want[0]
				if worker%2 == 1 {
					first = want[len(want)-1]
				}
				if err != nil || roots[0] != first {
					t.Error("a root differs:", err)
					return
				}
				trees[worker].Changed()
			}
		})
	}
	wait.Wait()
}
