package subtree

import (
	"bytes"
	"math/bits"
	"unsafe"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// VerifyOptions says what Verify checks. The zero value checks everything that the subtree itself
// can be held to.
type VerifyOptions[H ~[32]byte] struct {
	// Root, if not nil, must be the root, beside the one that the subtree's file claims.
	Root *H
	// SkipRoot leaves out the root, SkipSums the sums of fees and sizes, SkipPolicy the rules about
	// leaves: the placeholder only first and without fee and size, no zero hash, no leaf twice,
	// conflicting hashes are leaves and listed once.
	SkipRoot, SkipSums, SkipPolicy bool
}

// Verify recomputes and checks. The first failure is an ErrFormat whose Kind says which rule is
// broken and whose text says where.
func (st *Subtree[H, N]) Verify(options VerifyOptions[H]) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return errClosed()
	}
	c := content{nodes: raw(st.Nodes), conflicting: hashBytes(st.ConflictingNodes),
		stored: st.stored, fees: st.Fees, size: st.SizeInBytes, root: !options.SkipRoot,
		sums: !options.SkipSums, policy: !options.SkipPolicy}
	if options.Root != nil {
		expected := [32]byte(*options.Root)
		c.expected = &expected
	}
	if len(c.nodes) == 0 {
		return ffi.FormatError(ffi.ZeroNodes, "a subtree without nodes")
	}
	if ffi.Available() == nil {
		return c.verifyByLibrary()
	}
	return c.verify()
}

// content is what is checked of a subtree, and how.
type content struct {
	nodes            []rawNode
	conflicting      []byte // one hash behind the other
	stored, expected *[32]byte
	fees, size       uint64

	root, sums, policy bool
}

func (c *content) verifyByLibrary() error {
	header := ffi.SubtreeHeader{Fees: c.fees, SizeInBytes: c.size}
	var checks uint32
	expected := c.expected
	if !c.root {
		expected = nil
	} else if c.stored != nil {
		header.Root = *c.stored
		checks |= ffi.VerifyRoot
	}
	if c.sums {
		checks |= ffi.VerifySums
	}
	if c.policy {
		checks |= ffi.VerifyPolicy
	}
	return ffi.VerifySubtree(&header, unsafe.Pointer(unsafe.SliceData(c.nodes)), len(c.nodes),
		c.conflicting, checks, expected)
}

// verify is the same in Go.
func (c *content) verify() error {
	if c.root {
		if err := c.verifyRoot(); err != nil {
			return err
		}
	}
	if c.sums {
		if err := verifySums(c.nodes, c.fees, c.size); err != nil {
			return err
		}
	}
	if !c.policy {
		return nil
	}
	if err := verifySpecialHashes(c.nodes); err != nil {
		return err
	}
	index, duplicate, first := newHashIndex(nil, c.nodes, 0)
	if duplicate >= 0 {
		return ffi.FormatError(ffi.DuplicateLeaf, "leaf %d equals leaf %d: %s", duplicate, first,
			display(c.nodes[duplicate].hash))
	}
	return verifyConflicting(c.nodes, index, c.conflicting)
}

func (c *content) verifyRoot() error {
	// Computed anew: what is remembered may be older than a change made through Nodes.
	root, err := nodesRoot(c.nodes, nil, 0)
	if err != nil {
		return err
	}
	if c.stored != nil && *c.stored != root {
		return ffi.FormatError(ffi.RootMismatch, "the stored root is %s, that of the leaves %s",
			display(*c.stored), display(root))
	}
	if c.expected != nil && *c.expected != root {
		return ffi.FormatError(ffi.RootMismatch, "the root should be %s, that of the leaves is %s",
			display(*c.expected), display(root))
	}
	return nil
}

func verifySums(nodes []rawNode, fees, size uint64) error {
	var feeSum, sizeSum, sizeCarry uint64
	sizeOverflow := -1
	for i := range nodes {
		var carry uint64
		if feeSum, carry = bits.Add64(feeSum, nodes[i].fee, 0); carry != 0 {
			return ffi.FormatError(ffi.FeeSumOverflow, "the fees up to leaf %d exceed 64 bits", i)
		}
		if sizeSum, sizeCarry = bits.Add64(sizeSum, nodes[i].size, 0); sizeCarry != 0 &&
			sizeOverflow < 0 {
			sizeOverflow = i
		}
	}
	switch {
	case feeSum != fees:
		return ffi.FormatError(ffi.FeeSumMismatch, "the stored fees are %d, the sum is %d", fees,
			feeSum)
	case sizeOverflow >= 0:
		return ffi.FormatError(ffi.SizeSumOverflow, "the sizes up to leaf %d exceed 64 bits",
			sizeOverflow)
	case sizeSum != size:
		return ffi.FormatError(ffi.SizeSumMismatch, "the stored size is %d, the sum is %d", size,
			sizeSum)
	}
	return nil
}

func verifySpecialHashes(nodes []rawNode) error {
	for i := 1; i < len(nodes); i++ {
		if nodes[i].isPlaceholder() {
			return ffi.FormatError(ffi.PlaceholderMisplaced,
				"the coinbase placeholder is leaf %d, not leaf 0", i)
		}
	}
	if first := &nodes[0]; first.isPlaceholder() && (first.fee != 0 || first.size != 0) {
		return ffi.FormatError(ffi.PlaceholderNotZero,
			"the coinbase placeholder has fee %d and size %d", first.fee, first.size)
	}
	for i := range nodes {
		if nodes[i].hash == ([32]byte{}) {
			return ffi.FormatError(ffi.ZeroHash, "leaf %d is all zero", i)
		}
	}
	return nil
}

func verifyConflicting(nodes []rawNode, index *hashIndex, conflicting []byte) error {
	hashes := unsafe.Slice((*[32]byte)(unsafe.Pointer(unsafe.SliceData(conflicting))),
		len(conflicting)/32)
	for i, hash := range hashes {
		if index.find(nodes, &hash) < 0 {
			return ffi.FormatError(ffi.ConflictNotALeaf, "conflicting hash %d is no leaf: %s", i,
				display(hash))
		}
	}
	seen := make(map[[32]byte]int, len(hashes))
	for i, hash := range hashes {
		if first, twice := seen[hash]; twice {
			return ffi.FormatError(ffi.ConflictDuplicate,
				"conflicting hash %d equals conflicting hash %d", i, first)
		}
		seen[hash] = i
	}
	return nil
}

// display is a hash as people write it: hexadecimal, bytes reversed.
func display(hash [32]byte) string {
	const digits = "0123456789abcdef"
	var text bytes.Buffer
	for i := len(hash) - 1; i >= 0; i-- {
		text.WriteByte(digits[hash[i]>>4])
		text.WriteByte(digits[hash[i]&15])
	}
	return text.String()
}
