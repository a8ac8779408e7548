package subtree_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/subtree"
)

// TestAgainstAPlainSlice drives a subtree and a plain slice through the same random history.
func TestAgainstAPlainSlice(t *testing.T) {
	for _, p := range places(t) {
		random := rand.New(rand.NewPCG(1, 2))
		st := p.tree(t, 7)
		var model []node
		next := 1
		for range 4000 {
			switch at := random.IntN(11); {
			case at == 10:
				var fresh []node
				for range random.IntN(20) {
					fresh = append(fresh, node{numbered(next), random.Uint64N(1000), 1})
					next++
				}
				err := st.AddSubtreeNodes(fresh)
				if (err == nil) != (len(model)+len(fresh) <= 128) {
					t.Fatalf("%s: adding %d to %d: %v", p.name, len(fresh), len(model), err)
				}
				if err == nil {
					model = append(model, fresh...)
				}
			case at < 6:
				n := node{numbered(next), random.Uint64N(1000), random.Uint64N(1000)}
				next++
				err := st.AddSubtreeNode(n)
				if (err == nil) != (len(model) < 128) {
					t.Fatalf("%s: adding node %d: %v", p.name, len(model), err)
				}
				if err == nil {
					model = append(model, n)
				}
			case at < 8 && len(model) > 0:
				index := random.IntN(len(model))
				if err := st.RemoveNodeAtIndex(index); err != nil {
					t.Fatal(err)
				}
				model = append(model[:index], model[index+1:]...)
			case at == 8 && len(model) > 0:
				n := node{numbered(next), random.Uint64N(1000), random.Uint64N(1000)}
				next++
				model[0] = n
				if root := st.ReplaceRootNode(&n.Hash, n.Fee, n.SizeInBytes); *root != modelRoot(t,
					model) {
					t.Fatalf("%s: root after replacing the first node", p.name)
				}
			case len(model) > 0:
				compare(t, p.name, st, model, random)
			}
		}
		compare(t, p.name, st, model, random)
	}
}

func modelRoot(t *testing.T, model []node) hash {
	hashes := make([]hash, len(model))
	for i := range model {
		hashes[i] = model[i].Hash
	}
	root, err := subtree.MerkleRoot(hashes)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func compare(t *testing.T, name string, st *tree, model []node, random *rand.Rand) {
	t.Helper()
	var fees, size uint64
	for i, n := range model {
		fees += n.Fee
		size += n.SizeInBytes
		if st.NodeIndex(n.Hash) != i || st.Nodes[i] != n {
			t.Fatalf("%s: node %d is at %d", name, i, st.NodeIndex(n.Hash))
		}
	}
	if st.Fees != fees || st.SizeInBytes != size || st.Length() != len(model) ||
		st.HasNode(numbered(0)) {
		t.Fatalf("%s: fees %d, size %d, length %d; want %d, %d, %d", name, st.Fees, st.SizeInBytes,
			st.Length(), fees, size, len(model))
	}
	if len(model) == 0 {
		return
	}
	root := modelRoot(t, model)
	if *st.RootHash() != root {
		t.Fatalf("%s: root", name)
	}
	index := random.IntN(len(model))
	proof, err := st.GetMerkleProof(index)
	if err != nil {
		t.Fatal(err)
	}
	siblings := make([]hash, len(proof))
	for i := range proof {
		siblings[i] = *proof[i]
	}
	if subtree.FoldProof(model[index].Hash, uint64(index), siblings) != root {
		t.Fatalf("%s: proof of node %d of %d", name, index, len(model))
	}
	if err := st.Verify(subtree.VerifyOptions[hash]{Root: &root}); err != nil {
		t.Fatal(err)
	}
}

func TestLimitsAreErrors(t *testing.T) {
	for _, p := range places(t) {
		st := p.tree(t, 1)
		if st.RootHash() != nil || st.Size() != 2 || st.IsComplete() {
			t.Errorf("%s: an empty subtree has a root, or another size", p.name)
		}
		if _, err := st.GetMerkleProof(0); !errors.Is(err, blocktier.ErrInvalidArgument) {
			t.Errorf("%s: proof in an empty subtree: %v", p.name, err)
		}
		if err := st.AddCoinbaseNode(); err != nil {
			t.Fatal(err)
		}
		if err := st.AddCoinbaseNode(); !errors.Is(err, blocktier.ErrInvalidArgument) {
			t.Errorf("%s: second coinbase: %v", p.name, err)
		}
		if err := st.AddNode(subtree.CoinbasePlaceholder, 1, 1); !errors.Is(err,
			blocktier.ErrInvalidArgument) {
			t.Errorf("%s: placeholder as a transaction: %v", p.name, err)
		}
		if err := st.AddNode(numbered(1), math.MaxUint64, 1); err != nil {
			t.Fatal(err)
		}
		if err := st.AddNode(numbered(2), 1, 1); !errors.Is(err, blocktier.ErrInvalidArgument) ||
			!st.IsComplete() {
			t.Errorf("%s: a third node of two: %v", p.name, err)
		}
		for _, index := range []int{-1, 2, math.MaxInt} {
			if _, err := st.GetMerkleProof(index); !errors.Is(err, blocktier.ErrInvalidArgument) {
				t.Errorf("%s: proof of %d: %v", p.name, index, err)
			}
			if err := st.RemoveNodeAtIndex(index); !errors.Is(err, blocktier.ErrInvalidArgument) {
				t.Errorf("%s: removing %d: %v", p.name, index, err)
			}
		}
		root := numbered(5)
		if st.ReplaceRootNode(&root, 1, 0) != nil {
			t.Errorf("%s: fees beyond 64 bits were accepted", p.name)
		}
		if err := st.AddConflictingNode(numbered(9)); !errors.Is(err, blocktier.ErrNotFound) {
			t.Errorf("%s: a conflicting hash that is no leaf: %v", p.name, err)
		}
		if _, err := st.GetNode(numbered(9)); !errors.Is(err, blocktier.ErrNotFound) {
			t.Errorf("%s: a node that is not there: %v", p.name, err)
		}
	}
	if _, err := subtree.NewTree[hash, node](-1); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := subtree.NewTreeByLeafCount[hash, node](3); !errors.Is(err,
		blocktier.ErrInvalidArgument) {
		t.Error(err)
	}
	if st, err := subtree.NewIncompleteTreeByLeafCount[hash, node](3); err != nil ||
		st.Size() != 4 {
		t.Error(err)
	}
}

// TestManyNodesAreAddedOrNone: whatever one of them is refused for.
func TestManyNodesAreAddedOrNone(t *testing.T) {
	for _, p := range places(t) {
		st := p.tree(t, 2)
		if err := st.AddNode(numbered(1), math.MaxUint64-1, math.MaxUint64-1); err != nil {
			t.Fatal(err)
		}
		root := *st.RootHash()
		good := node{Hash: numbered(2), Fee: 1}
		for _, refused := range []struct {
			nodes []node
			want  error
			text  string
		}{
			{[]node{good, {Hash: subtree.CoinbasePlaceholder}}, blocktier.ErrInvalidArgument,
				"AddCoinbaseNode"},
			{[]node{good, {Hash: numbered(3), Fee: 1}}, blocktier.ErrFormat,
				"the fees up to node 2"},
			{[]node{{Hash: numbered(3), SizeInBytes: 2}, good}, blocktier.ErrFormat,
				"the sizes up to node 1"},
			{make([]node, 4), blocktier.ErrInvalidArgument, "4 more nodes do not fit"},
		} {
			err := st.AddSubtreeNodes(refused.nodes)
			if !errors.Is(err, refused.want) || !strings.Contains(err.Error(), refused.text) {
				t.Errorf("%s: %v; want %q", p.name, err, refused.text)
			}
			if st.Length() != 1 || st.Fees != math.MaxUint64-1 || *st.RootHash() != root {
				t.Fatalf("%s: a refused call has changed something", p.name)
			}
		}
		// A hash that only begins as the placeholder is one like any other.
		almost := good
		almost.Hash = subtree.CoinbasePlaceholder
		almost.Hash[31] = 0
		if err := st.AddSubtreeNodes([]node{almost, {Hash: numbered(3), SizeInBytes: 1}}); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		if err := st.AddSubtreeNodes(nil); err != nil || st.Length() != 3 {
			t.Errorf("%s: %v", p.name, err)
		}
	}
	type other struct{ Hash [32]byte }
	st := subtree.Subtree[hash, other]{Nodes: make([]other, 0, 1)}
	if err := st.AddSubtreeNodes(make([]other, 1)); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Errorf("nodes of another layout: %v", err)
	}
}

func TestCoinbaseReplacedAndConflicting(t *testing.T) {
	for _, p := range places(t) {
		st := p.tree(t, 2)
		if err := st.AddCoinbaseNode(); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < 4; i++ {
			if err := st.AddNode(numbered(i), uint64(i), 10); err != nil {
				t.Fatal(err)
			}
		}
		coinbase := numbered(100)
		would, err := st.RootHashWithReplaceRootNode(&coinbase, 7, 70)
		if err != nil || *would == *st.RootHash() ||
			st.Nodes[0].Hash != subtree.CoinbasePlaceholder {
			t.Fatalf("%s: %v", p.name, err)
		}
		if got := st.ReplaceRootNode(&coinbase, 1000, 70); *got != *would || st.Fees != 1006 ||
			st.SizeInBytes != 100 {
			t.Errorf("%s: fees %d, size %d", p.name, st.Fees, st.SizeInBytes)
		}
		for range 2 {
			if err := st.AddConflictingNode(numbered(2)); err != nil ||
				len(st.ConflictingNodes) != 1 {
				t.Errorf("%s: %v", p.name, err)
			}
		}
		copied := st.Duplicate()
		if err := st.RemoveNodeAtIndex(2); err != nil || len(st.ConflictingNodes) != 0 {
			t.Errorf("%s: a removed node still conflicts: %v", p.name, err)
		}
		if copied.Length() != 4 || copied.IsMmapBacked() || len(copied.ConflictingNodes) != 1 {
			t.Errorf("%s: the copy follows the original", p.name)
		}
		missing, err := st.Difference(setOf{numbered(1): true})
		if err != nil || len(missing) != 2 || missing[1].Hash != numbered(3) {
			t.Errorf("%s: difference %v, %v", p.name, missing, err)
		}
	}
}

type setOf map[hash]bool

func (s setOf) Exists(h hash) bool { return s[h] }

func TestUseAfterCloseIsAnError(t *testing.T) {
	for _, p := range places(t) {
		st := p.tree(t, 3)
		if err := st.AddNode(numbered(1), 1, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := st.GetMerkleProof(0); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := st.Close(); err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
		}
		h := numbered(2)
		_, get := st.GetNode(h)
		_, proof := st.GetMerkleProof(0)
		_, padded := st.RootHashPadded(3)
		_, replaced := st.RootHashWithReplaceRootNode(&h, 0, 0)
		_, serialized := st.Serialize()
		_, hashes := st.SerializeNodes()
		_, difference := st.Difference(setOf{})
		_, lease := st.Lease()
		for i, err := range []error{st.AddNode(h, 1, 1), st.AddSubtreeNode(node{}),
			st.AddCoinbaseNode(), st.AddSubtreeNodeWithoutLock(node{}), st.AddConflictingNode(h),
			st.AddSubtreeNodes(nil), st.AddSubtreeNodes(make([]node, 1)),
			st.RemoveNodeAtIndex(0), st.Deserialize(nil), st.Verify(subtree.VerifyOptions[hash]{}),
			get, proof, padded, replaced, serialized, hashes, difference, lease} {
			if !errors.Is(err, blocktier.ErrClosed) {
				t.Errorf("%s: call %d on a closed subtree: %v", p.name, i, err)
			}
		}
		if st.RootHash() != nil || st.ReplaceRootNode(&h, 1, 1) != nil || st.Nodes != nil ||
			st.Length() != 0 ||
			st.NodeIndex(h) != -1 || st.Duplicate() != nil || st.Size() != 0 {
			t.Errorf("%s: a closed subtree has content", p.name)
		}
	}
}

func TestCloseWaitsForALease(t *testing.T) {
	for _, p := range places(t)[1:] {
		st := p.tree(t, 3)
		if err := st.AddNode(numbered(1), 1, 1); err != nil {
			t.Fatal(err)
		}
		nodes := st.Nodes
		release, err := st.Lease()
		if err != nil {
			t.Fatal(err)
		}
		live := ffi.LiveHandles(ffi.NodeArrayHandle)
		closed := make(chan error)
		go func() { closed <- st.Close() }()
		for st.Length() != 0 { // closing has begun
		}
		if nodes[0].Hash != numbered(1) || ffi.LiveHandles(ffi.NodeArrayHandle) != live {
			t.Fatal("freed under a lease")
		}
		release()
		if err := <-closed; err != nil || ffi.LiveHandles(ffi.NodeArrayHandle) != live-1 {
			t.Fatalf("not freed after the lease: %v", err)
		}
	}
}

func TestForgottenSubtreeIsFreedAndReported(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	log := new(lockedBuffer)
	rt := openRuntime(t, blocktier.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	before := ffi.LiveHandles(ffi.NodeArrayHandle)
	func() {
		st, err := subtree.NewTreeMmap[hash, node](rt, 4, t.TempDir())
		if err != nil || st.AddNode(numbered(1), 1, 1) != nil {
			t.Fatal(err)
		}
		if _, err := st.GetMerkleProof(0); err != nil {
			t.Fatal(err)
		}
	}()
	collect(t, "freeing a forgotten subtree", func() bool {
		return ffi.LiveHandles(ffi.NodeArrayHandle) == before &&
			ffi.LiveHandles(ffi.MerkleLevelsHandle) == 0
	})
	if !strings.Contains(log.String(), "was not closed") {
		t.Errorf("no report: %q", log.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestUnmappableFallsBackToTheHeap: the reader is consumed once and the logger says why.
func TestUnmappableFallsBackToTheHeap(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	log := new(lockedBuffer)
	rt := openRuntime(t, blocktier.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	source, err := subtree.NewTree[hash, node](3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if err := source.AddNode(numbered(i+1), 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	file, err := source.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	st, err := subtree.NewSubtreeFromReaderMmap[hash, node](rt,
		io.MultiReader(bytes.NewReader(file)), missing)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if st.IsMmapBacked() || *st.RootHash() != *source.RootHash() || !strings.Contains(log.String(),
		missing) {
		t.Errorf("mapped %v, log %q", st.IsMmapBacked(), log.String())
	}
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := subtree.NewTreeMmap[hash, node](rt, 3, ""); !errors.Is(err, blocktier.ErrClosed) {
		t.Errorf("a closed runtime: %v", err)
	}
}

func TestMmapWithoutARuntime(t *testing.T) {
	want := blocktier.ErrInvalidArgument
	if ffi.Available() != nil {
		want = blocktier.ErrUnsupported
	}
	if _, err := subtree.NewTreeMmap[hash, node](nil, 3, ""); !errors.Is(err, want) {
		t.Error(err)
	}
	if _, err := subtree.NewSubtreeFromReaderMmap[hash, node](nil, nil, ""); !errors.Is(err, want) {
		t.Error(err)
	}
}

// TestConcurrentUseAndClose: additions, queries and a Close from many goroutines; afterwards
// everything is closed.
func TestConcurrentUseAndClose(t *testing.T) {
	for _, p := range places(t) {
		for range 20 {
			st := p.tree(t, 8)
			var all sync.WaitGroup
			for g := range 4 {
				all.Go(func() {
					for i := range 64 {
						if err := st.AddNode(numbered(1+64*g+i), 1, 1); err != nil &&
							!errors.Is(err, blocktier.ErrClosed) {
							t.Error(err)
						}
						st.HasNode(numbered(i))
						if i%16 == 0 {
							st.RootHash()
							st.GetMerkleProof(0)
						}
					}
					if g == 0 {
						if err := st.Close(); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if st.Length() != 0 {
				t.Fatal("nodes after Close")
			}
		}
	}
}

// TestIndexLiesWhereTheNodesDo: the index of a mapped subtree takes no Go heap, and is freed with
// what it is of.
func TestIndexLiesWhereTheNodesDo(t *testing.T) {
	for _, p := range places(t) {
		st := p.tree(t, 13)
		before := ffi.LiveHandles(ffi.NodeArrayHandle)
		expect := func(when string, indexes uint64) {
			t.Helper()
			if p.rt == nil {
				indexes = 0
			}
			if live := ffi.LiveHandles(ffi.NodeArrayHandle) - before; live != indexes {
				t.Errorf("%s, %s: %d arrays for the index, not %d", p.name, when, live, indexes)
			}
		}
		find := func(i, position int) {
			t.Helper()
			if found := st.NodeIndex(numbered(i)); found != position {
				t.Fatalf("%s: node %d is at %d, not at %d", p.name, i, found, position)
			}
		}
		for i := range 8000 {
			if err := st.AddNode(numbered(i), 1, 1); err != nil {
				t.Fatal(err)
			}
			switch i {
			case 500:
				find(500, 500)
				expect("small", 0)
			case 7999:
				find(7999, 7999)
				expect("grown", 1)
			}
		}
		find(8000, -1)
		if err := st.RemoveNodeAtIndex(7); err != nil {
			t.Fatal(err)
		}
		expect("after a removal", 0)
		find(8, 7)
		expect("built again", 1)
		first := numbered(9000)
		if st.ReplaceRootNode(&first, 1, 1) == nil {
			t.Fatal("no root")
		}
		expect("after a replacement", 0)
		find(9000, 0)
		st.Changed()
		expect("after a change", 0)
		find(9000, 0)
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		before -= min(before, 1) // the nodes
		if p.rt == nil {
			before = ffi.LiveHandles(ffi.NodeArrayHandle)
		}
		expect("after closing", 0)
	}
}
