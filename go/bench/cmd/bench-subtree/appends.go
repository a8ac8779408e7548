package main

import (
	"sync"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

// plain is a subtree without anything.
type plain struct {
	mu         sync.Mutex
	nodes      []node
	fees, size uint64
}

func (p *plain) add(n node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fees += n.Fee
	p.size += n.SizeInBytes
	p.nodes = append(p.nodes, n)
}

// fill appends nodes until the subtree is full.
func fill(st *tree) error {
	n := numbered(1)
	for range st.Size() {
		if err := st.AddSubtreeNodeWithoutLock(n); err != nil {
			return err
		}
	}
	return nil
}

// fillByRuns appends 1024 nodes at a time.
func fillByRuns(st *tree) error {
	run := make([]node, 1024)
	for i := range run {
		run[i] = numbered(1)
	}
	for range st.Size() / len(run) {
		if err := st.AddSubtreeNodes(run); err != nil {
			return err
		}
	}
	return nil
}

// appends are the rows of B1, in nanoseconds per node.
func appends(rt *blocktier.Runtime, dir string) []*row {
	heap := func() (*tree, error) { return subtree.NewTree[hash, node](height) }
	anonymous := func() (*tree, error) { return subtree.NewTreeMmap[hash, node](rt, height, "") }
	mapped := func() (*tree, error) { return subtree.NewTreeMmap[hash, node](rt, height, dir) }
	fresh := func(name string, make func() (*tree, error)) *row {
		return &row{ID: "B1", Case: "append, " + name + ", made and filled", N: nodes, Unit: "ns",
			turn: func() (float64, error) {
				began := time.Now()
				st, err := make()
				if err != nil {
					return 0, err
				}
				err = fill(st)
				figure := each(began, nodes)
				if closed := st.Close(); err == nil {
					err = closed
				}
				return figure, err
			}}
	}
	again := func(name string, make func() (*tree, error), fill func(*tree) error) *row {
		return &row{ID: "B1", Case: "append, " + name + ", touched before", N: nodes, Unit: "ns",
			turn: func() (float64, error) {
				st, err := make()
				if err == nil {
					err = fill(st)
				}
				if err != nil {
					return 0, err
				}
				st.Nodes, st.Fees, st.SizeInBytes = st.Nodes[:0], 0, 0
				st.Changed()
				began := time.Now()
				err = fill(st)
				figure := each(began, nodes)
				if closed := st.Close(); err == nil {
					err = closed
				}
				return figure, err
			}}
	}
	byHand := &row{ID: "B1", Case: "append, plain Go subtree, made and filled", N: nodes,
		Unit: "ns", turn: func() (float64, error) {
			began := time.Now()
			p := &plain{nodes: make([]node, 0, nodes)}
			n := numbered(1)
			for range nodes {
				p.add(n)
			}
			return each(began, nodes), nil
		}}
	return []*row{writing(), inCache(), byHand, fresh("Go heap", heap),
		fresh("anonymous memory", anonymous), fresh("mapped file", mapped),
		again("Go heap", heap, fill), again("anonymous memory", anonymous, fill),
		again("mapped file", mapped, fill), again("mapped file, 1024 in a call", mapped, fillByRuns),
		pooled(rt, dir), manyLive(rt, dir)}
}

// writing is the limit of B1: nothing but writing the nodes to memory that was touched before.
func writing() *row {
	all := make([]node, nodes)
	return &row{ID: "limit", Case: "write the nodes by a plain loop, touched before", N: nodes,
		Unit: "ns", turn: func() (float64, error) {
			n := numbered(1)
			for i := range all {
				all[i] = n
			}
			began := time.Now()
			for i := range all {
				all[i] = n
			}
			return each(began, nodes), nil
		}}
}

// inCache is what appending costs without the memory: again and again to nodes that stay in the
// second-level cache.
func inCache() *row {
	const smallHeight, rounds = 12, 256
	return &row{ID: "B1", Case: "append, Go heap, 4096 nodes in the cache", N: rounds << smallHeight,
		Unit: "ns", turn: func() (float64, error) {
			st, err := subtree.NewTree[hash, node](smallHeight)
			if err == nil {
				err = fill(st)
			}
			if err != nil {
				return 0, err
			}
			began := time.Now()
			for range rounds {
				st.Nodes, st.Fees, st.SizeInBytes = st.Nodes[:0], 0, 0
				if err := fill(st); err != nil {
					return 0, err
				}
			}
			return each(began, rounds<<smallHeight), st.Close()
		}}
}

// pooled is the row of B1 in a mapped file from a pool that had the time to make it.
func pooled(rt *blocktier.Runtime, dir string) *row {
	return &row{ID: "B1", Case: "append, mapped file of a pool, taken and filled", N: nodes,
		Unit: "ns", turn: func() (float64, error) {
			pool, err := subtree.NewPool[node](rt, height, dir, 1)
			if err != nil {
				return 0, err
			}
			defer pool.Close()
			began := time.Now()
			st, err := subtree.NewTreeFromPool[hash](pool)
			if err == nil {
				err = fill(st)
			}
			figure := each(began, nodes)
			if err != nil {
				return 0, err
			}
			return figure, st.Close()
		}}
}

// manyLive is the row of B1 with an array after the other, none of which is given back.
func manyLive(rt *blocktier.Runtime, dir string) *row {
	const arrays, arrayHeight = 64, 14
	return &row{ID: "B1", Case: "append, 64 mapped subtrees of 16,384 that all live",
		N: arrays << arrayHeight, Unit: "ns", turn: func() (float64, error) {
			began := time.Now()
			var all []*tree
			for range arrays {
				st, err := subtree.NewTreeMmap[hash, node](rt, arrayHeight, dir)
				if err == nil {
					err = fill(st)
				}
				if err != nil {
					return 0, err
				}
				all = append(all, st)
			}
			figure := each(began, arrays<<arrayHeight)
			for _, st := range all {
				if err := st.Close(); err != nil {
					return 0, err
				}
			}
			return figure, nil
		}}
}
