package subtree_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

// TestNodeMap: a map is a copy, beside a plain one.
func TestNodeMap(t *testing.T) {
	for _, p := range places(t) {
		for _, count := range []int{0, 1, 100, 5000} {
			st := p.tree(t, 13)
			expected := map[hash]uint64{}
			for i := range count {
				// Every tenth hash was there before.
				h := numbered(i - i%10/9*7)
				if err := st.AddNode(h, 1, 1); err != nil {
					t.Fatal(err)
				}
				if _, found := expected[h]; !found {
					expected[h] = uint64(i)
				}
			}
			m, err := st.GetMap()
			if err != nil {
				t.Fatal(err)
			}
			// What happens to the subtree does not matter to it.
			if err := errors.Join(st.AddNode(numbered(9999), 1, 1), st.RemoveNodeAtIndex(0),
				st.Close()); err != nil {
				t.Fatal(err)
			}
			if m.Length() != len(expected) || len(m.Keys()) != len(expected) ||
				m.Exists(numbered(9999)) {
				t.Fatalf("%s: %d of %d hashes", p.name, m.Length(), len(expected))
			}
			for h, position := range expected {
				if got, found := m.Get(h); !found || got != position {
					t.Fatalf("%s: %x at %d, %v, not at %d", p.name, h, got, found, position)
				}
			}
			next := uint64(0)
			m.Iter(func(h hash, position uint64) bool {
				if position < next || expected[h] != position {
					t.Fatalf("%s: %x at %d after %d", p.name, h, position, next)
				}
				next = position + 1
				return len(expected)/2 == int(position)
			})
			if _, err := st.GetMap(); !errors.Is(err, blocktier.ErrClosed) {
				t.Errorf("of a closed subtree: %v", err)
			}
		}
	}
}

func ExampleSubtree_GetMap() {
	type Hash [32]byte
	st, err := subtree.NewTree[Hash, subtree.Node[Hash]](1)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(st.AddNode(Hash{1}, 250, 400), st.AddNode(Hash{2}, 300, 500))
	m, err := st.GetMap()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Get(Hash{2}))
	// Output:
	// <nil> <nil>
	// 1 true
}
