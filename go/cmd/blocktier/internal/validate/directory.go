package validate

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
)

// InDirectory is a node block whose subtrees lie in a directory, each as ROOT.subtree with its
// inpoints in ROOT.subtreeMeta.
func InDirectory(n *legacy.NodeBlock, directory string) *Block {
	return In(n, func(name string) (io.ReadCloser, error) {
		return os.Open(filepath.Join(directory, name))
	})
}

// In is a node block whose subtrees are opened by name; see InDirectory.
func In(n *legacy.NodeBlock, open func(name string) (io.ReadCloser, error)) *Block {
	named := func(suffix string) func(int) (io.ReadCloser, error) {
		return func(i int) (io.ReadCloser, error) { return open(n.Subtrees[i].String() + suffix) }
	}
	return &Block{
		Header: &n.Header, Coinbase: n.Coinbase.ID, CoinbaseSize: n.Coinbase.Size,
		Txs: n.Txs, Size: n.Size, Roots: n.Subtrees,
		Subtree: named(".subtree"), Inpoints: named(".subtreeMeta"),
	}
}

// OfFiles is a node block whose subtrees are given as files in order, the inpoints of NAME.subtree
// in NAME.subtreeMeta beside it.
func OfFiles(n *legacy.NodeBlock, paths []string) *Block {
	b := InDirectory(n, "")
	b.Subtree = func(i int) (io.ReadCloser, error) { return os.Open(paths[i]) }
	b.Inpoints = func(i int) (io.ReadCloser, error) {
		return os.Open(strings.TrimSuffix(paths[i], filepath.Ext(paths[i])) + ".subtreeMeta")
	}
	return b
}
