//go:build cgo && linux && (amd64 || arm64)

package subtree_test

import (
	"fmt"
	"os"

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

func ExampleOpenDirectory() {
	type Hash [32]byte
	type Node = subtree.Node[Hash]
	rt, err := blocktier.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close()
	path, err := os.MkdirTemp("", "subtrees")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(path)
	subtrees, err := subtree.OpenDirectory[Hash, Node](rt, path)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer subtrees.Close()
	st, err := subtree.NewTree[Hash, Node](2)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(st.AddNode(Hash{1}, 250, 400), subtrees.Store("first", st, subtree.Plain))
	mapped, err := subtrees.Open("first", subtree.Plain)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer mapped.Close()
	fmt.Println(mapped.Verify(subtree.VerifyOptions[Hash]{}), mapped.Nodes[0].Fee)
	// Output:
	// <nil> <nil>
	// <nil> 250
}
