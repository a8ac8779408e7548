package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

// Many subtrees: so many, and of so many nodes each.
const many, manyHeight = 128, 16

// heaps are the rows of B9, in MiB.
func heaps(rt *blocktier.Runtime, dir string) []*row {
	measure := func(name string, make func() (*tree, error)) *row {
		return &row{ID: "B9", Case: "Go heap of 128 subtrees, " + name, N: many << manyHeight,
			Unit: "MiB", turn: func() (float64, error) {
				before := heapBytes()
				var all []*tree
				for range many {
					st, err := make()
					if err != nil {
						return 0, err
					}
					for range st.Size() {
						if err := st.AddSubtreeNodeWithoutLock(numbered(1)); err != nil {
							return 0, err
						}
					}
					all = append(all, st)
				}
				held := float64(int64(heapBytes()-before)) / (1 << 20)
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					return 0, fmt.Errorf("%d files have names: %v", len(left), err)
				}
				for _, st := range all {
					if err := st.Close(); err != nil {
						return 0, err
					}
				}
				return held, nil
			}}
	}
	return []*row{
		measure("Go heap", func() (*tree, error) { return subtree.NewTree[hash, node](manyHeight) }),
		measure("mapped files", func() (*tree, error) {
			return subtree.NewTreeMmap[hash, node](rt, manyHeight, filepath.Clean(dir))
		}),
	}
}

func heapBytes() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
