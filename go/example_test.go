//go:build cgo && linux && (amd64 || arm64)

package blocktier_test

import (
	"fmt"
	"os"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/settings"
	"github.com/blocktier/blocktier/go/subtree"
	"github.com/blocktier/blocktier/go/txmap"
)

// The README shows this example; tests/tidy.rs compares the two.
func Example() {
	dir, err := os.MkdirTemp("", "blocktier-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := assemble(dir); err != nil {
		fmt.Println(err)
	}
	// Output:
	// new: true, again: false
	// 3 of 4 nodes, outside the Go heap: true
}

// The node's own types: any [32]byte, and any struct of a hash and two uint64.
type Hash [32]byte

type Node struct {
	TxID             Hash
	Fee, SizeInBytes uint64
}

func assemble(dir string) error {
	s, err := settings.Parse("txMapDirs = " + dir + "\nsubtreeMmapDir = " + dir + "\ntxMapTail = 1M")
	if err != nil {
		return err
	}
	rt, err := blocktier.Open(blocktier.WithSettings(s))
	if err != nil {
		return err
	}
	defer rt.Close()

	// Without txMapDirs this is a map on the Go heap with the same methods.
	txs, err := txmap.New[Hash](rt, s, txmap.TxInpointsCodec[Hash]{})
	if err != nil {
		return err
	}
	defer txs.Close()
	spends := &txmap.TxInpoints[Hash]{}
	spends.Add(Hash{9}, 0)
	_, inserted := txs.SetIfNotExists(Hash{1}, spends)
	_, again := txs.SetIfNotExists(Hash{1}, spends)
	fmt.Printf("new: %v, again: %v\n", inserted, again)

	st, err := subtree.NewTreeMmap[Hash, Node](rt, 2, s.AssemblySubtreeDir())
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.AddCoinbaseNode(); err != nil {
		return err
	}
	if err := st.AddSubtreeNode(Node{Hash{1}, 250, 400}); err != nil {
		return err
	}
	if err := st.AddNode(Hash{2}, 150, 200); err != nil {
		return err
	}
	fmt.Printf("%d of %d nodes, outside the Go heap: %v\n", st.Length(), st.Size(), st.IsMmapBacked())
	return txs.Flush()
}
