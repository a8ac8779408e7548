//go:build cgo && linux && (amd64 || arm64)

package subtree_test

import (
	"fmt"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

func ExampleNewPool() {
	type Hash [32]byte
	type Node = subtree.Node[Hash]
	rt, err := blocktier.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close()
	pool, err := subtree.NewPool[Node](rt, 10, "", 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	st, err := subtree.NewTreeFromPool[Hash](pool)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()
	fmt.Println(st.AddNode(Hash{1}, 250, 400), st.Length(), st.Size())
	// Output: <nil> 1 1024
}
