package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
	"github.com/blocktier/blocktier/go/txmap"
)

const (
	// A chain of so many subtrees, each of 2^chainHeight nodes.
	chained, chainHeight = 1000, 10
	finds                = 200_000
)

// chain is the rows of B10, in nanoseconds per transaction found, and what closes its chain.
func chain(rt *blocktier.Runtime, dir string) ([]*row, func(), error) {
	maps, err := os.MkdirTemp(filepath.Dir(dir), "bench-subtree-map-")
	if err != nil {
		return nil, nil, err
	}
	m, err := txmap.Open[hash, *txmap.TxInpoints[hash]](rt, txmap.TxInpointsCodec[hash]{},
		txmap.WithDirs(maps), txmap.WithExpectedEntries(chained<<chainHeight))
	if err != nil {
		return nil, nil, err
	}
	c, err := subtree.NewChain(m, func() (*tree, error) {
		return subtree.NewTreeMmap[hash, node](rt, chainHeight, "")
	})
	if err != nil {
		return nil, nil, err
	}
	closeAll := func() {
		c.Close()
		m.Close()
		os.RemoveAll(maps)
	}
	value := &txmap.TxInpoints[hash]{}
	for i := range chained << chainHeight {
		n := numbered(i)
		if err := m.SetErr(n.Hash, value); err != nil {
			return nil, closeAll, err
		}
		if err := c.Add(n); err != nil {
			return nil, closeAll, err
		}
	}
	keys, next := make([]hash, finds), 0
	find := func() (float64, error) {
		next = others(keys, next)
		began := time.Now()
		for _, key := range keys {
			if _, _, err := c.Find(key); err != nil {
				return 0, err
			}
		}
		return each(began, finds), nil
	}
	inBatches := func(size int) *row {
		return &row{ID: "B10", Case: fmt.Sprintf("find %d at once", size), N: chained << chainHeight,
			Unit: "ns", turn: func() (float64, error) {
				next = others(keys, next)
				places := make([]subtree.Place, size)
				began := time.Now()
				for batch := range slices.Chunk(keys, size) {
					if found, err := c.FindBatch(batch, places); err != nil || found != size {
						return 0, fmt.Errorf("%d of %d were found: %w", found, size, err)
					}
				}
				return each(began, finds), nil
			}}
	}
	// Each subtree makes its index once.
	if _, err := find(); err != nil {
		return nil, closeAll, err
	}
	return []*row{{ID: "B10", Case: "find a transaction in a chain of 1000 subtrees",
			N: chained << chainHeight, Unit: "ns", turn: find}, inBatches(1000), inBatches(finds)},
		closeAll, nil
}

// others fills keys with transactions of the chain, far from each other and from the last ones.
func others(keys []hash, next int) int {
	for i := range keys {
		next = (next + 7_919) % (chained << chainHeight)
		keys[i] = numbered(next).Hash
	}
	return next
}
