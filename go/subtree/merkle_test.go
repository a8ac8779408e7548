package subtree

import (
	"testing"
	"unsafe"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// naiveRoot is Bitcoin's rule word for word.
func naiveRoot(level [][32]byte) [32]byte {
	if len(level) == 1 {
		return level[0]
	}
	var above [][32]byte
	for i := 0; i < len(level); i += 2 {
		above = append(above, pair(&level[i], &level[min(i+1, len(level)-1)]))
	}
	return naiveRoot(above)
}

func someNodes(n int) ([]rawNode, [][32]byte) {
	nodes := make([]rawNode, n)
	hashes := make([][32]byte, n)
	for i := range nodes {
		nodes[i].hash = pair(&[32]byte{byte(i), byte(i >> 8)}, &[32]byte{7})
		hashes[i] = nodes[i].hash
	}
	return nodes, hashes
}

// TestRootsAndProofsAgree compares all ways to a root, for every count of leaves around the powers
// of two.
func TestRootsAndProofsAgree(t *testing.T) {
	for n := 1; n <= 70; n++ {
		nodes, hashes := someNodes(n)
		want := naiveRoot(hashes)
		if goNodesRoot(nodes, nil) != want || goRoot(hashes) != want {
			t.Fatalf("%d leaves: the folded root differs", n)
		}
		levels := newHeapLevels(nodes)
		if root, _ := levels.root(); root != want {
			t.Fatalf("%d leaves: the root of the levels differs", n)
		}
		for index := range n {
			checkProof(t, levels, index, hashes[index], want)
		}
		root, err := MerkleRoot(hashes)
		if err != nil || root != want {
			t.Fatalf("%d leaves: MerkleRoot: %v", n, err)
		}
		padded, err := nodesRoot(nodes, &[32]byte{9}, heightOf(n)+2)
		hashes[0] = [32]byte{9}
		if err != nil || padded != lift(naiveRoot(hashes), 2) {
			t.Fatalf("%d leaves: padded root with another first leaf: %v", n, err)
		}
	}
}

func checkProof(t *testing.T, l levels, index int, leaf, root [32]byte) {
	t.Helper()
	var path [maxHeight + 1][32]byte
	count, err := l.proof(index, path[:])
	if err != nil || FoldProof(leaf, uint64(index), path[:count]) != root {
		t.Fatalf("the proof of leaf %d of %d leads elsewhere: %v", index, l.leaves(), err)
	}
}

func TestSetLeafEqualsARebuild(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 8, 13, 64} {
		nodes, _ := someNodes(n)
		levels := newHeapLevels(nodes)
		for index := range n {
			nodes[index].hash = [32]byte{byte(index), 1, 1}
			if err := levels.setLeaf(index, &nodes[index].hash); err != nil {
				t.Fatal(err)
			}
			if root, _ := levels.root(); root != goNodesRoot(nodes, nil) {
				t.Fatalf("%d leaves: leaf %d set", n, index)
			}
		}
	}
}

// TestGoAndLibraryAgree compares the code in Go with the library's.
func TestGoAndLibraryAgree(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	for n := 1; n <= 130; n++ {
		nodes, hashes := someNodes(n)
		height := heightOf(n)
		native, err := ffi.SubtreeRoot(unsafe.Pointer(&nodes[0]), n, nil, uint32(height+1))
		if err != nil || native != lift(goNodesRoot(nodes, nil), 1) {
			t.Fatalf("%d leaves: root: %v", n, err)
		}
		last := uint64(n)
		block, err := ffi.BlockRoot(hashBytes(hashes), uint32(height), last)
		if err != nil || block != goBlockRoot(hashes, height, last) {
			t.Fatalf("%d subtrees, the last of %d leaves: block root: %v", n, last, err)
		}
		leaf := hashes[n-1]
		folded, err := ffi.FoldProof(&leaf, uint64(n-1), hashBytes(hashes))
		if err == nil && folded != FoldProof(leaf, uint64(n-1), hashes) {
			t.Fatalf("%d siblings: fold", n)
		}
	}
}

func TestHashIndexOfManyAndOfDuplicates(t *testing.T) {
	nodes, _ := someNodes(5000)
	index, duplicate, _ := newHashIndex(nil, nodes[:10], 0)
	if duplicate != -1 {
		t.Fatal("a duplicate among distinct nodes")
	}
	for i := 10; i < len(nodes); i++ {
		if index.add(nodes[:i+1], i) != -1 {
			t.Fatalf("node %d is no duplicate", i)
		}
	}
	for i := range nodes {
		if got := index.find(nodes, &nodes[i].hash); got != i {
			t.Fatalf("node %d found at %d", i, got)
		}
	}
	if index.find(nodes, &[32]byte{1, 2, 3}) != -1 {
		t.Fatal("found what is not there")
	}
	nodes[4000] = nodes[17]
	if _, duplicate, first := newHashIndex(nil, nodes, 0); duplicate != 4000 || first != 17 {
		t.Fatalf("duplicate %d of %d", duplicate, first)
	}
}
