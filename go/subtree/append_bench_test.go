package subtree_test

import (
	"testing"

	"github.com/blocktier/blocktier/go/subtree"
)

// BenchmarkAppend appends to a subtree whose memory was touched before.
func BenchmarkAppend(b *testing.B) {
	const height = 16
	st, err := subtree.NewTree[hash, node](height)
	if err != nil {
		b.Fatal(err)
	}
	n := node{Hash: numbered(1), Fee: 1, SizeInBytes: 250}
	b.Run("WithoutLock", func(b *testing.B) {
		for i := range b.N {
			if i%(1<<height) == 0 {
				st.Nodes, st.Fees, st.SizeInBytes = st.Nodes[:0], 0, 0
				st.Changed()
			}
			if err := st.AddSubtreeNodeWithoutLock(n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("AddSubtreeNode", func(b *testing.B) {
		for i := range b.N {
			if i%(1<<height) == 0 {
				st.Nodes, st.Fees, st.SizeInBytes = st.Nodes[:0], 0, 0
				st.Changed()
			}
			if err := st.AddSubtreeNode(n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("AddSubtreeNodes", func(b *testing.B) {
		const run = 1 << 10
		nodes := make([]node, run)
		for i := range nodes {
			nodes[i] = n
		}
		for i := 0; i < b.N; i += run {
			if i%(1<<height) == 0 {
				st.Nodes, st.Fees, st.SizeInBytes = st.Nodes[:0], 0, 0
				st.Changed()
			}
			if err := st.AddSubtreeNodes(nodes[:min(run, b.N-i)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
