package subtree_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

// indexes is the part of a transaction map that a chain needs. fail makes the n-th update fail,
// blind every batch of lookups.
type indexes struct {
	mu    sync.Mutex
	of    map[hash]int16
	calls int
	fail  int
	blind bool
}

var errOnPurpose = errors.New("on purpose")

func (x *indexes) SubtreeIndex(h hash) (int16, bool, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	index, found := x.of[h]
	return index, found, nil
}

func (x *indexes) SubtreeIndexBatch(hashes []hash, indexes []int16, found []bool) (int, error) {
	if x.blind {
		return 0, errOnPurpose
	}
	count := 0
	for i, h := range hashes {
		if indexes[i], found[i], _ = x.SubtreeIndex(h); found[i] {
			count++
		}
	}
	return count, nil
}

func (x *indexes) UpdateSubtreeIndexKeys(keys []byte, stride int, index int16) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.calls++; x.calls == x.fail {
		return 0, errOnPurpose
	}
	there := 0
	for at := 0; at < len(keys); at += stride {
		key := hash(keys[at : at+32])
		if _, found := x.of[key]; found {
			x.of[key] = index
			there++
		}
	}
	return there, nil
}

type chain = subtree.Chain[hash, node]

func newChain(t *testing.T, height int, place place) (*chain, *indexes) {
	t.Helper()
	x := &indexes{of: map[hash]int16{}}
	c, err := subtree.NewChain(x, func() (*tree, error) { return place.tree(t, height), nil })
	if err != nil {
		t.Fatal(err)
	}
	return c, x
}

func ExampleChain() {
	type Hash [32]byte
	type Node = subtree.Node[Hash]
	positions := &exampleMap[Hash]{of: map[Hash]int16{}}
	chain, err := subtree.NewChain(positions, func() (*subtree.Subtree[Hash, Node], error) {
		return subtree.NewTree[Hash, Node](1)
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 5 {
		hash := Hash{byte(i)}
		positions.of[hash] = 0
		_ = chain.Add(Node{Hash: hash, Fee: 1})
	}
	fmt.Println(chain.Find(Hash{3}))
	places := make([]subtree.Place, 3)
	fmt.Println(chain.FindBatch([]Hash{{4}, {9}, {0}}, places))
	fmt.Println(places)
	fmt.Println(chain.Remove(Hash{0}))
	fmt.Println(chain.Find(Hash{3}))
	fmt.Println(chain.Length(), len(chain.Subtrees()))
	// Output:
	// 1 1 <nil>
	// 2 <nil>
	// [{2 0} {-1 -1} {0 0}]
	// <nil>
	// 1 0 <nil>
	// 4 3
}

// exampleMap stands for a transaction map.
type exampleMap[H ~[32]byte] struct{ of map[H]int16 }

func (m *exampleMap[H]) SubtreeIndex(hash H) (int16, bool, error) {
	index, found := m.of[hash]
	return index, found, nil
}

func (m *exampleMap[H]) SubtreeIndexBatch(hashes []H, indexes []int16, found []bool) (count int,
	err error) {
	for i, hash := range hashes {
		if indexes[i], found[i] = m.of[hash]; found[i] {
			count++
		}
	}
	return count, nil
}

func (m *exampleMap[H]) UpdateSubtreeIndexKeys(keys []byte, stride int, index int16) (int, error) {
	there := 0
	for at := 0; at < len(keys); at += stride {
		hash := H(keys[at : at+32])
		if _, found := m.of[hash]; found {
			m.of[hash] = index
			there++
		}
	}
	return there, nil
}

// checkChain compares a chain with one that is built from nodes.
func checkChain(t *testing.T, c *chain, nodes []node, height int, conflicting map[hash]bool) {
	t.Helper()
	size := 1 << height
	if c.Length() != len(nodes) {
		t.Fatalf("%d nodes; want %d", c.Length(), len(nodes))
	}
	subtrees := c.Subtrees()
	if len(subtrees) != len(nodes)/size+1 {
		t.Fatalf("%d subtrees of %d nodes each for %d", len(subtrees), size, len(nodes))
	}
	for number, st := range subtrees {
		want := nodes[number*size : min((number+1)*size, len(nodes))]
		if !slices.Equal(st.Nodes, want) {
			t.Fatalf("subtree %d differs", number)
		}
		fresh := place{}.tree(t, height)
		var conflicts []hash
		for _, n := range want {
			err := fresh.AddSubtreeNode(n)
			if n.Hash == hash(subtree.CoinbasePlaceholder) {
				err = fresh.AddCoinbaseNode()
			}
			if err != nil {
				t.Fatal(err)
			}
			if conflicting[n.Hash] {
				conflicts = append(conflicts, n.Hash)
			}
		}
		if st.Fees != fresh.Fees || st.SizeInBytes != fresh.SizeInBytes {
			t.Fatalf("the sums of subtree %d", number)
		}
		if !slices.Equal(st.ConflictingNodes, conflicts) {
			t.Fatalf("conflicting nodes of subtree %d: %x; want %x", number, st.ConflictingNodes,
				conflicts)
		}
		if len(want) > 0 && *st.RootHash() != *fresh.RootHash() {
			t.Fatalf("the root of subtree %d", number)
		}
	}
	checkPlaces(t, c, nodes, size)
	if len(nodes) > 0 {
		hashes := make([]hash, len(nodes))
		for i, n := range nodes {
			hashes[i] = n.Hash
		}
		if hashes[0] == hash(subtree.CoinbasePlaceholder) {
			hashes[0] = hash{1}
		}
		root, err := c.MerkleRoot(hash{1})
		if want := blockRootOf(t, hashes, height); err != nil || root != want {
			t.Fatalf("Merkle root %x, %v; want %x", root, err, want)
		}
	}
}

// checkPlaces looks for all nodes, one by one and in batches.
func checkPlaces(t *testing.T, c *chain, nodes []node, size int) {
	t.Helper()
	absent := numbered(-1)
	hashes := []hash{absent}
	for i, n := range nodes {
		hashes = append(hashes, n.Hash)
		number, position, err := c.Find(n.Hash)
		if n.Hash == hash(subtree.CoinbasePlaceholder) {
			continue
		}
		if err != nil || number*size+position != i {
			t.Fatalf("node %d is found at %d %d: %v", i, number, position, err)
		}
	}
	// Backwards, so that no subtree's come one after the other, and one of them twice.
	hashes = append(hashes, hashes[len(nodes)])
	slices.Reverse(hashes)
	places := make([]subtree.Place, len(hashes))
	found, err := c.FindBatch(hashes, places)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hashes {
		at, want := len(nodes)-i, subtree.Place{Subtree: -1, Position: -1}
		if i == 0 {
			at = len(nodes) - 1
		}
		if h != absent && h != hash(subtree.CoinbasePlaceholder) {
			want = subtree.Place{Subtree: at / size, Position: at % size}
			found--
		}
		if places[i] != want {
			t.Fatalf("hash %d of a batch: %v; want %v", i, places[i], want)
		}
	}
	if found != 0 {
		t.Fatalf("%d more than there are were found", found)
	}
}

// blockRootOf computes the root of a block hash by hash, after the rules of docs/format.md.
func blockRootOf(t *testing.T, hashes []hash, height int) hash {
	t.Helper()
	var roots []hash
	for part := range slices.Chunk(hashes, 1<<height) {
		root, err := subtree.MerkleRoot(part)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	root, err := subtree.BlockRoot(roots, height, uint64(1+(len(hashes)-1)%(1<<height)))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestChainIsAlwaysTheOneBuiltAnew(t *testing.T) {
	for number, p := range places(t) {
		for height := 1; height <= 4; height++ {
			rng := rand.New(rand.NewPCG(uint64(number), uint64(height)))
			c, x := newChain(t, height, p)
			var nodes []node
			conflicting := map[hash]bool{}
			if height%2 == 0 {
				if err := c.AddCoinbase(); err != nil {
					t.Fatal(err)
				}
				nodes = append(nodes, node{Hash: hash(subtree.CoinbasePlaceholder)})
			}
			next := 1
			for step := range 60 {
				if step%3 != 2 {
					for range rng.IntN(3 << height) {
						n := node{Hash: numbered(next), Fee: uint64(next), SizeInBytes: 7}
						next++
						x.of[n.Hash] = 0
						if err := c.Add(n); err != nil {
							t.Fatal(err)
						}
						nodes = append(nodes, n)
						if rng.IntN(5) == 0 {
							all := c.Subtrees()
							st := all[(len(nodes)-1)>>height]
							if err := st.AddConflictingNode(n.Hash); err != nil {
								t.Fatal(err)
							}
							conflicting[n.Hash] = true
						}
					}
				} else {
					nodes = removeSome(t, rng, c, x, nodes)
				}
				checkChain(t, c, nodes, height, conflicting)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.Add(node{}); !errors.Is(err, blocktier.ErrClosed) {
				t.Fatalf("%v", err)
			}
			if _, err := c.FindBatch(nil, nil); !errors.Is(err, blocktier.ErrClosed) {
				t.Fatalf("%v", err)
			}
		}
	}
}

// removeSome removes some transactions at once; the map may have forgotten them afterwards.
func removeSome(t *testing.T, rng *rand.Rand, c *chain, x *indexes, nodes []node) []node {
	t.Helper()
	var hashes []hash
	kept := slices.DeleteFunc(slices.Clone(nodes), func(n node) bool {
		removed := n.Hash != hash(subtree.CoinbasePlaceholder) && rng.IntN(4) == 0
		if removed {
			hashes = append(hashes, n.Hash)
		}
		return removed
	})
	rng.Shuffle(len(hashes), func(i, j int) { hashes[i], hashes[j] = hashes[j], hashes[i] })
	if err := c.Remove(hashes...); err != nil {
		t.Fatal(err)
	}
	for _, h := range hashes {
		if x.of[h] != 0 {
			t.Fatal("a removed transaction has a subtree index")
		}
		delete(x.of, h)
		if _, _, err := c.Find(h); !errors.Is(err, blocktier.ErrNotFound) {
			t.Fatalf("a removed transaction: %v", err)
		}
	}
	return kept
}

func TestChainRefusesWhatItCannotDoAndChangesNothing(t *testing.T) {
	c, x := newChain(t, 1, place{})
	var nodes []node
	add := func(n node) error {
		err := c.Add(n)
		if err == nil {
			nodes = append(nodes, n)
		}
		return err
	}
	for i := range 7 {
		x.of[numbered(i)] = 0
		if err := add(node{Hash: numbered(i), Fee: 1 << 61}); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		checkChain(t, c, nodes, 1, nil)
	}
	// The last one of a subtree that the map does not have.
	if err := add(node{Hash: numbered(100)}); !errors.Is(err, blocktier.ErrNotFound) {
		t.Errorf("%v", err)
	}
	check()
	if err := c.AddCoinbase(); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
	if err := c.Remove(numbered(2), numbered(100)); !errors.Is(err, blocktier.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if err := c.Remove(numbered(2), numbered(2)); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
	if err := c.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := c.FindBatch(make([]hash, 2), make([]subtree.Place, 1)); !errors.Is(err,
		blocktier.ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
	x.blind = true
	if _, err := c.FindBatch(make([]hash, 1), make([]subtree.Place, 1)); err != errOnPurpose {
		t.Errorf("%v", err)
	}
	if err := c.Remove(numbered(2)); err != errOnPurpose {
		t.Errorf("%v", err)
	}
	x.blind = false
	check()
	// Shared out in another way, the fees of subtrees could exceed 64 bits.
	x.of[numbered(7)] = 0
	if err := add(node{Hash: numbered(7), Fee: 1 << 62}); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(numbered(0)); err == nil {
		t.Error("fees of more than 64 bits")
	}
	check()
	if err := c.Remove(numbered(6)); err != nil {
		t.Error(err)
	}
	odd := func() (*tree, error) {
		return &tree{Nodes: make([]node, 0, 3)}, nil
	}
	if _, err := subtree.NewChain(x, odd); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
	failing := func() (*tree, error) { return nil, errOnPurpose }
	if _, err := subtree.NewChain(x, failing); !errors.Is(err, errOnPurpose) {
		t.Errorf("%v", err)
	}
}

func TestChainThatLostTheMapIsMended(t *testing.T) {
	const height, count = 2, 23
	for fail := 1; ; fail++ {
		c, x := newChain(t, height, place{})
		var nodes []node
		for i := range count {
			n := node{Hash: numbered(i), Fee: uint64(i)}
			x.of[n.Hash] = 0
			if err := c.Add(n); err != nil {
				t.Fatal(err)
			}
			if i%4 != 1 {
				nodes = append(nodes, n)
			}
		}
		var removed []hash
		for i := 1; i < count; i += 4 {
			removed = append(removed, numbered(i))
		}
		x.calls, x.fail = 0, fail
		err := c.Remove(removed...)
		if err == nil {
			if fail < 5 {
				t.Fatalf("the map was told %d times", x.calls)
			}
			return
		}
		if !errors.Is(err, errOnPurpose) {
			t.Fatal(err)
		}
		if _, _, again := c.Find(numbered(0)); !errors.Is(again, errOnPurpose) {
			t.Fatalf("a chain of uncertain positions answers: %v", again)
		}
		if err := c.Reindex(); err != nil {
			t.Fatal(err)
		}
		checkChain(t, c, nodes, height, nil)
	}
}

func TestChainBesideReaders(t *testing.T) {
	c, x := newChain(t, 5, place{})
	for i := range 400 {
		x.of[numbered(i)] = 0
		if err := c.Add(node{Hash: numbered(i)}); err != nil {
			t.Fatal(err)
		}
	}
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for range 50 {
				if _, err := c.MerkleRoot(hash{1}); err != nil {
					t.Error(err)
				}
				for _, st := range c.Subtrees() {
					st.HasNode(numbered(7))
				}
				if _, _, err := c.Find(numbered(0)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := 1; i < 400; i += 3 {
		if err := c.Remove(numbered(i)); err != nil {
			t.Error(err)
		}
	}
	readers.Wait()
	if c.Length() != 267 {
		t.Errorf("%d left", c.Length())
	}
}
