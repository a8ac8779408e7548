package subtree

import (
	"cmp"
	"runtime"
	"slices"
	"unsafe"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// RootHashes are the Merkle roots of subtrees, those that are not known yet computed at once on all
// processors. Each must have a node. A subtree may be listed more than once.
//
// It locks the subtrees until it returns, always in the same order, so that concurrent calls do
// not wait for each other forever.
func RootHashes[H ~[32]byte, N any](subtrees []*Subtree[H, N]) ([]H, error) {
	for i, st := range subtrees {
		if st == nil {
			return nil, ffi.Errorf(ffi.InvalidArgument, "subtree %d of %d is nil", i, len(subtrees))
		}
	}
	locked := lockAll(subtrees)
	defer unlockAll(locked)
	for i, st := range subtrees {
		if st.closed {
			return nil, errClosed()
		}
		if len(st.Nodes) == 0 {
			return nil, ffi.Errorf(ffi.InvalidArgument, "subtree %d of %d has no nodes", i,
				len(subtrees))
		}
	}
	if err := computeRoots(locked); err != nil {
		return nil, err
	}
	roots := make([]H, len(subtrees))
	for i, st := range subtrees {
		root, err := st.rootLocked()
		if err != nil {
			return nil, err
		}
		roots[i] = *root
	}
	return roots, nil
}

// lockAll locks subtrees for writing, each once and in the order of their addresses, as everybody
// does who locks several.
func lockAll[H ~[32]byte, N any](subtrees []*Subtree[H, N]) []*Subtree[H, N] {
	locked := slices.Clone(subtrees)
	slices.SortFunc(locked, func(a, b *Subtree[H, N]) int {
		return cmp.Compare(uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(b)))
	})
	locked = slices.Compact(locked)
	for _, st := range locked {
		st.mu.Lock()
	}
	return locked
}

func unlockAll[H ~[32]byte, N any](locked []*Subtree[H, N]) {
	for _, st := range locked {
		st.mu.Unlock()
	}
}

// computeRoots remembers the roots of those subtrees whose nodes must be hashed for it, if the
// library is there to do it. They are locked and have nodes.
func computeRoots[H ~[32]byte, N any](locked []*Subtree[H, N]) error {
	if ffi.Available() != nil {
		return nil
	}
	var pinner runtime.Pinner
	defer pinner.Unpin()
	var unknown []*Subtree[H, N]
	var nodes []unsafe.Pointer
	var counts []uintptr
	for _, st := range locked {
		if st.root != nil && st.rootOf == len(st.Nodes) || st.levelsFit() {
			continue
		}
		first := unsafe.SliceData(st.Nodes)
		if st.array == nil {
			pinner.Pin(first)
		}
		unknown = append(unknown, st)
		nodes = append(nodes, unsafe.Pointer(first))
		counts = append(counts, uintptr(len(st.Nodes)))
	}
	roots := make([][32]byte, len(unknown))
	if err := ffi.SubtreeRoots(nodes, counts, roots); err != nil {
		return err
	}
	for i, st := range unknown {
		st.root, st.rootOf = &roots[i], len(st.Nodes)
	}
	return nil
}
