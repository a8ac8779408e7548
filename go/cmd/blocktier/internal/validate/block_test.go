package validate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/assemble"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/engine"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/golden"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/tree"
	"github.com/blocktier/blocktier/go/settings"
)

func heap(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.Open(settings.Settings{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// assembled writes a real block's files and returns their directory and the block.
func assembled(t *testing.T, name string, leaves int) (string, *legacy.NodeBlock) {
	t.Helper()
	directory := t.TempDir()
	out, err := output.NewStage(directory)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	e := heap(t)
	a, err := assemble.New(assemble.Options{Map: e.Map, Trees: e.Trees, Leaves: leaves, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	r, err := legacy.NewBlockReader(bytes.NewReader(golden.Read(t, "blocks/"+name+".bin")))
	if err != nil {
		t.Fatal(err)
	}
	result, err := a.Assemble(t.Context(), assemble.FromLegacy(r))
	if err != nil {
		t.Fatal(err)
	}
	return directory, nodeBlock(t, filepath.Join(directory, result.Hash.String()+".block"))
}

func nodeBlock(t *testing.T, path string) *legacy.NodeBlock {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := legacy.ReadNodeBlock(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func checkOf(t *testing.T, b *Block) *Verdict {
	t.Helper()
	v, err := CheckBlock(t.Context(), b, BlockOptions{Trees: heap(t).Trees, Limit: everything})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRealBlocks(t *testing.T) {
	for _, name := range golden.BlockNames {
		want := golden.Load[golden.Block](t, "expected/"+name+".json")
		for _, leaves := range []int{16, 64, 256, 1024} {
			directory, n := assembled(t, name, leaves)
			v := checkOf(t, InDirectory(n, directory))
			inputs := 0
			for _, in := range want.Inpoints {
				inputs += len(in) / 2
			}
			if !v.OK || v.Records != uint64(len(want.Txids)) || v.Inputs != uint64(inputs) ||
				v.Distinct != uint64(inputs) || v.Block.String() != want.Hash {
				t.Errorf("%s in subtrees of %d: %+v", name, leaves, v)
			}
		}
	}
}

// The 32 stored subtrees of block 171, some plain, some with magic.
func TestStoredSubtrees(t *testing.T) {
	n := nodeBlock(t, filepath.Join(golden.Dir(t), "subtrees", "teranode-block-171.block"))
	paths, err := filepath.Glob(filepath.Join(golden.Dir(t), "derived", "b171-*.subtree"))
	if err != nil {
		t.Fatal(err)
	}
	v := checkOf(t, OfFiles(n, paths))
	if !v.OK || v.Records != 1024 || v.Subtrees != 32 {
		t.Errorf("%+v", v)
	}
	slices.Reverse(paths)
	v = checkOf(t, OfFiles(n, paths))
	if v.OK || v.Failed[Root] != 32 || v.Failed[BlockRoot] != 1 {
		t.Errorf("subtrees in the wrong order: %v", v.Failed)
	}
}

// edit changes a file of the block.
func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

const nodesAt = 64 // of the first node in a subtree file with magic

// rebuild changes the nodes of a subtree file and makes everything that follows from them right:
// sums, roots, the file's names, the block's list and the header's merkle root. What is left is the
// defect itself.
func rebuild(t *testing.T, directory string, n *legacy.NodeBlock, i int,
	change func(nodes []tree.Node) []tree.Node) {
	t.Helper()
	maker := heap(t).Trees
	read := func(i int) *tree.Tree {
		f, err := os.Open(filepath.Join(directory, n.Subtrees[i].String()+".subtree"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		st, err := maker.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	old := read(i)
	nodes := change(slices.Clone(old.Nodes()))
	fresh := bytes.NewBuffer([]byte("S-1.0   "))
	hashes := []chainhash.Hash{}
	fees, size := uint64(0), uint64(0)
	for _, node := range nodes {
		hashes = append(hashes, node.Hash)
		fees, size = fees+node.Fee, size+node.SizeInBytes
	}
	root := rootOf(hashes)
	fresh.Write(root[:])
	for _, v := range []any{fees, size, uint64(len(nodes)), nodes, uint64(0)} {
		if err := binary.Write(fresh, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(directory, n.Subtrees[i].String())
	edit(t, name+".subtreeMeta", func(b []byte) []byte { copy(b, root[:]); return b })
	if err := os.Rename(name+".subtreeMeta", filepath.Join(directory, root.String()+
		".subtreeMeta")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, root.String()+".subtree"), fresh.Bytes(),
		0o600); err != nil {
		t.Fatal(err)
	}
	n.Subtrees[i] = root
	n.Txs += uint64(len(nodes) - len(old.Nodes()))
	n.Size = 0
	all := []chainhash.Hash{}
	for k := range n.Subtrees {
		for _, node := range read(k).Nodes() {
			all = append(all, node.Hash)
		}
	}
	all[0] = n.Coinbase.ID
	n.Header.MerkleRoot = rootOf(all)
}

// rootOf is the Bitcoin rule, once more and on its own.
func rootOf(level []chainhash.Hash) chainhash.Hash {
	for len(level) > 1 {
		if len(level)%2 == 1 {
			level = append(slices.Clone(level), level[len(level)-1])
		}
		next := []chainhash.Hash{}
		for i := 0; i < len(level); i += 2 {
			next = append(next, chainhash.DoubleHashH(slices.Concat(level[i][:], level[i+1][:])))
		}
		level = next
	}
	return level[0]
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 4; return b }
}

func subtreeOf(dir string, n *legacy.NodeBlock, i int) string {
	return filepath.Join(dir, n.Subtrees[i].String()+".subtree")
}

// defects of block 384188, which has 1356 transactions, in subtrees of 256.
var defects = []struct {
	name   string
	change func(t *testing.T, dir string, n *legacy.NodeBlock)
	kinds  map[Kind]int
	text   string
}{
	{"one bit of a txid", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		edit(t, subtreeOf(dir, n, 3), flip(nodesAt+48*7+5))
	}, map[Kind]int{Root: 2, BlockRoot: 1}, "subtree 3: its leaves give"},
	{"one bit of the stored root", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		edit(t, subtreeOf(dir, n, 2), flip(8))
	}, map[Kind]int{Root: 1, Inpoints: 1}, "subtree 2: its leaves give"},
	{"one bit of a fee", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		edit(t, subtreeOf(dir, n, 1), flip(nodesAt+48*9+32))
	}, map[Kind]int{Sum: 1}, "subtree 1: the fees"},
	{"one bit of a size", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		edit(t, subtreeOf(dir, n, 1), flip(nodesAt+48*9+40))
	}, map[Kind]int{Sum: 1}, "subtree 1: the sizes"},
	{"one bit of the header's root", func(_ *testing.T, _ string, n *legacy.NodeBlock) {
		n.Header.MerkleRoot[9] ^= 1
	}, map[Kind]int{BlockRoot: 1}, "the header says"},
	{"another coinbase", func(_ *testing.T, _ string, n *legacy.NodeBlock) {
		n.Coinbase.ID[0] ^= 1
	}, map[Kind]int{BlockRoot: 1}, "the header says"},
	{"a wrong transaction count", func(_ *testing.T, _ string, n *legacy.NodeBlock) {
		n.Txs++
	}, map[Kind]int{Count: 1}, "the block says 1357 transactions"},
	{"a wrong block size", func(_ *testing.T, _ string, n *legacy.NodeBlock) {
		n.Size--
	}, map[Kind]int{Sum: 1}, "the block says 998201"},
	{"a transaction twice", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		rebuild(t, dir, n, 2, func(nodes []tree.Node) []tree.Node {
			nodes[11] = nodes[4]
			return nodes
		})
	}, map[Kind]int{Duplicate: 1}, "record 523: transaction"},
	{"the coinbase twice", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		rebuild(t, dir, n, 1, func(nodes []tree.Node) []tree.Node {
			nodes[5].Hash = n.Coinbase.ID
			return nodes
		})
	}, map[Kind]int{Coinbase: 1}, "subtree 1: record 261: the coinbase is there once more"},
	{"a placeholder in the middle", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		rebuild(t, dir, n, 1, func(nodes []tree.Node) []tree.Node {
			nodes[6].Hash = tree.Placeholder
			return nodes
		})
	}, map[Kind]int{Coinbase: 1}, "record 262: a coinbase placeholder that is not the first"},
	{"no placeholder", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		rebuild(t, dir, n, 0, func(nodes []tree.Node) []tree.Node {
			nodes[0].Hash = n.Coinbase.ID
			return nodes
		})
	}, map[Kind]int{Coinbase: 1}, "the first leaf is not the coinbase placeholder"},
	{"a placeholder with a fee", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		rebuild(t, dir, n, 0, func(nodes []tree.Node) []tree.Node {
			nodes[0].Fee = 1
			return nodes
		})
	}, map[Kind]int{Coinbase: 1}, "the placeholder has a fee of 1"},
	{"a txid that is all zero", func(t *testing.T, dir string, n *legacy.NodeBlock) {
		rebuild(t, dir, n, 4, func(nodes []tree.Node) []tree.Node {
			nodes[0].Hash = chainhash.Hash{}
			return nodes
		})
	}, map[Kind]int{Leaf: 1}, "record 1024: a txid that is all zero"},
}

// Every defect gives a failure of its kind at its place, and no failure of another kind than those
// that follow from it.
func TestDefects(t *testing.T) {
	for _, c := range defects {
		t.Run(c.name, func(t *testing.T) {
			dir, n := assembled(t, "block-384188", 256)
			c.change(t, dir, n)
			v := checkOf(t, InDirectory(n, dir))
			// Changing leaves also cuts transactions from their parents; that is not asked here.
			delete(v.Failed, Order)
			if fmt.Sprint(v.Failed) != fmt.Sprint(c.kinds) || v.OK {
				t.Errorf("failures %v, want %v; the first: %v", v.Failed, c.kinds, v.Failures[0])
			}
			if !slices.ContainsFunc(v.Failures, func(f Failure) bool {
				return strings.Contains(f.String(), c.text)
			}) {
				t.Errorf("none of %v says %q", v.Failures, c.text)
			}
		})
	}
}

// metaEntry returns where the inpoints of leaf k begin in a file of inpoints.
func metaEntry(b []byte, k int) int {
	at := 36
	for range k {
		parents := int(binary.LittleEndian.Uint32(b[at:]))
		at += 4 + 32*parents
		for range parents {
			at += 4 + 4*int(binary.LittleEndian.Uint32(b[at:]))
		}
	}
	return at
}

func TestDoubleSpendInBlock(t *testing.T) {
	dir, n := assembled(t, "block-384188", 256)
	meta := func(i int) string {
		return filepath.Join(dir, n.Subtrees[i].String()+".subtreeMeta")
	}
	// The first input of leaf 9 of subtree 4 now spends what that of leaf 30 of subtree 1 spends.
	first, err := os.ReadFile(meta(1))
	if err != nil {
		t.Fatal(err)
	}
	from := metaEntry(first, 30)
	edit(t, meta(4), func(b []byte) []byte {
		at := metaEntry(b, 9)
		copy(b[at+4:at+36], first[from+4:from+36])
		vout := func(b []byte, at int) []byte {
			return b[at+4+32*int(binary.LittleEndian.Uint32(b[at:]))+4:][:4]
		}
		copy(vout(b, at), vout(first, from))
		return b
	})
	v := checkOf(t, InDirectory(n, dir))
	if v.Failed[DoubleSpend] != 1 || len(v.Failed) != 1 {
		t.Fatalf("failures %v", v.Failures)
	}
	f := v.Failures[0]
	if *f.Record != 4*256+9 || *f.Input != 0 || *f.FirstRecord != 256+30 || *f.FirstInput != 0 {
		t.Errorf("%v: record %d, input %d, first %d, %d", f, *f.Record, *f.Input, *f.FirstRecord,
			*f.FirstInput)
	}
}

// The block in reverse: children come before their parents.
func TestParentsFirst(t *testing.T) {
	dir, n := assembled(t, "block-384188", 2048)
	meta := filepath.Join(dir, n.Subtrees[0].String()+".subtreeMeta")
	edit(t, meta, func(b []byte) []byte {
		count := int(binary.LittleEndian.Uint32(b[32:]))
		out := slices.Clone(b[:metaEntry(b, 1)])
		for k := count - 1; k > 0; k-- {
			out = append(out, b[metaEntry(b, k):metaEntry(b, k+1)]...)
		}
		return out
	})
	rebuild(t, dir, n, 0, func(nodes []tree.Node) []tree.Node {
		slices.Reverse(nodes[1:])
		return nodes
	})
	v := checkOf(t, InDirectory(n, dir))
	if v.OK || len(v.Failed) != 1 || v.Failed[Order] == 0 {
		t.Fatalf("failures %v", v.Failed)
	}
	want := golden.Load[golden.Block](t, "expected/block-384188.json")
	index := map[string]int{}
	for i, id := range want.Txids {
		index[id] = i
	}
	children := 0 // (transaction, parent in the block) pairs
	for i := range want.Txids {
		parents := map[uint32]bool{}
		for k := 0; k < len(want.Inpoints[i]); k += 2 {
			p := want.Inpoints[i][k]
			if _, inBlock := index[want.Parents[p]]; inBlock && !parents[p] {
				parents[p] = true
				children++
			}
		}
	}
	if v.Failed[Order] != children {
		t.Errorf("%d children before their parents, want %d", v.Failed[Order], children)
	}
	f := v.Failures[0]
	last := len(want.Txids)
	if got := want.Txids[last-int(*f.Record)]; got != f.Txid.String() {
		t.Errorf("record %d is %v, want %s", *f.Record, f.Txid, got)
	}
}

func TestInpointsFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   string
	}{
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }, "ends too early"},
		{"one byte more", func(b []byte) []byte { return append(b, 0) }, "bytes after"},
		{"a count of all ones", func(b []byte) []byte {
			copy(b[metaEntry(b, 3):], []byte{0xff, 0xff, 0xff, 0xff})
			return b
		}, "ends too early"},
		{"a parent without outputs", func(b []byte) []byte {
			at := metaEntry(b, 3)
			copy(b[at+4+32*int(binary.LittleEndian.Uint32(b[at:])):], []byte{0, 0, 0, 0})
			return b
		}, "without outputs"},
	} {
		dir, n := assembled(t, "block-277647", 256)
		edit(t, filepath.Join(dir, n.Subtrees[0].String()+".subtreeMeta"), c.change)
		_, err := CheckBlock(t.Context(), InDirectory(n, dir), BlockOptions{Trees: heap(t).Trees})
		if !errors.Is(err, errMeta) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestMissingFilesAndCancel(t *testing.T) {
	dir, n := assembled(t, "block-277647", 64)
	name := n.Subtrees[2].String()
	if err := os.Remove(filepath.Join(dir, name+".subtree")); err != nil {
		t.Fatal(err)
	}
	_, err := CheckBlock(t.Context(), InDirectory(n, dir), BlockOptions{Trees: heap(t).Trees})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "subtree 2 ("+name) {
		t.Errorf("a missing subtree: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = CheckBlock(ctx, InDirectory(n, dir), BlockOptions{Trees: heap(t).Trees})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
