package subtree_test

import (
	"fmt"

	"github.com/blocktier/blocktier/go/subtree"
)

func ExampleNewTree() {
	type Hash [32]byte
	type Node struct { // the node's own type: a hash and two uint64
		Hash        Hash
		Fee         uint64
		SizeInBytes uint64
	}
	st, err := subtree.NewTree[Hash, Node](2)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = st.AddCoinbaseNode()
	_ = st.AddNode(Hash{1}, 250, 400)
	_ = st.AddSubtreeNodes([]Node{{Hash{2}, 100, 200}, {Hash{3}, 50, 200}})
	fmt.Println(st.Length(), "of", st.Size(), "nodes, fees", st.Fees)
	proof, _ := st.GetMerkleProof(1)
	siblings := make([]Hash, len(proof))
	for i := range proof {
		siblings[i] = *proof[i]
	}
	fmt.Println(subtree.FoldProof(Hash{1}, 1, siblings) == *st.RootHash())
	// Output:
	// 4 of 4 nodes, fees 400
	// true
}
