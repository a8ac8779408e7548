package subtree_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

// TestKeptLevelsFollowEveryChange compares root and proofs after each change with those of a
// subtree that is filled anew.
func TestKeptLevelsFollowEveryChange(t *testing.T) {
	for number, p := range places(t) {
		rng := rand.New(rand.NewPCG(uint64(number), 7))
		st := p.tree(t, 6)
		next := 0
		add := func(count int) {
			for range min(count, st.Size()-st.Length()) {
				next++
				if err := st.AddNode(numbered(next), 1, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		add(1)
		for step := range 300 {
			switch rng.IntN(4) {
			case 0:
				add(rng.IntN(9))
			case 1:
				add(1)
			case 2:
				if st.Length() > 1 {
					if err := st.RemoveNodeAtIndex(rng.IntN(st.Length())); err != nil {
						t.Fatal(err)
					}
				}
			default:
				next++
				h := numbered(next)
				if st.ReplaceRootNode(&h, 5, 5) == nil {
					t.Fatal("the first node was not replaced")
				}
			}
			if step%3 == 0 {
				checkProofs(t, st)
			}
		}
		for st.Length() > 0 {
			if err := st.RemoveNodeAtIndex(st.Length() - 1); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := st.GetMerkleProofs([]int{0}); !errors.Is(err, blocktier.ErrInvalidArgument) {
			t.Errorf("a proof in an empty subtree: %v", err)
		}
		add(3)
		checkProofs(t, st)
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := st.GetMerkleProofs(nil); !errors.Is(err, blocktier.ErrClosed) {
			t.Errorf("proofs of a closed subtree: %v", err)
		}
	}
}

func checkProofs(t *testing.T, st *tree) {
	t.Helper()
	fresh := place{}.tree(t, st.Height)
	for _, n := range st.Nodes {
		if err := fresh.AddSubtreeNode(n); err != nil {
			t.Fatal(err)
		}
	}
	indexes := make([]int, st.Length())
	for i := range indexes {
		indexes[i] = st.Length() - 1 - i
	}
	proofs, err := st.GetMerkleProofs(indexes)
	if err != nil {
		t.Fatal(err)
	}
	want := *fresh.RootHash()
	if *st.RootHash() != want {
		t.Fatalf("the root of %d nodes", st.Length())
	}
	for i, index := range indexes {
		one, err := st.GetMerkleProof(index)
		if err != nil {
			t.Fatal(err)
		}
		same := slices.EqualFunc(proofs[i], one, func(a hash, b *hash) bool { return a == *b })
		root := subtree.FoldProof(st.Nodes[index].Hash, uint64(index), proofs[i])
		if !same || root != want {
			t.Fatalf("the proof of leaf %d of %d", index, st.Length())
		}
	}
	wrong := append(slices.Clone(indexes), st.Length())
	if _, err := st.GetMerkleProofs(wrong); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Fatalf("a proof of no leaf: %v", err)
	}
}
