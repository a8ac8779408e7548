package subtree

import (
	"bytes"
	"math/bits"

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
	nodes := raw(st.Nodes)
	if len(nodes) == 0 {
		return ffi.FormatError(ffi.ZeroNodes, "a subtree without nodes")
	}
	if !options.SkipRoot {
		if err := st.verifyRoot(options.Root); err != nil {
			return err
		}
	}
	if !options.SkipSums {
		if err := verifySums(nodes, st.Fees, st.SizeInBytes); err != nil {
			return err
		}
	}
	if options.SkipPolicy {
		return nil
	}
	if err := verifySpecialHashes(nodes); err != nil {
		return err
	}
	index, duplicate, first := newHashIndex(nodes, 0)
	if duplicate >= 0 {
		return ffi.FormatError(ffi.DuplicateLeaf, "leaf %d equals leaf %d: %s", duplicate, first,
			display(nodes[duplicate].hash))
	}
	return verifyConflicting(nodes, index, st.ConflictingNodes)
}

func (st *Subtree[H, N]) verifyRoot(expected *H) error {
	// Computed anew: what is remembered may be older than a change made through Nodes.
	root, err := nodesRoot(raw(st.Nodes), nil, 0)
	if err != nil {
		return err
	}
	if st.stored != nil && *st.stored != root {
		return ffi.FormatError(ffi.RootMismatch, "the stored root is %s, that of the leaves %s",
			display(*st.stored), display(root))
	}
	if expected != nil && [32]byte(*expected) != root {
		return ffi.FormatError(ffi.RootMismatch, "the root should be %s, that of the leaves is %s",
			display([32]byte(*expected)), display(root))
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

func verifyConflicting[H ~[32]byte](nodes []rawNode, index *hashIndex, conflicting []H) error {
	for i := range conflicting {
		hash := [32]byte(conflicting[i])
		if index.find(nodes, &hash) < 0 {
			return ffi.FormatError(ffi.ConflictNotALeaf, "conflicting hash %d is no leaf: %s", i,
				display(hash))
		}
	}
	seen := make(map[H]int, len(conflicting))
	for i, hash := range conflicting {
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
