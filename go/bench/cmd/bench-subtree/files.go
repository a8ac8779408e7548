package main

import (
	"bytes"
	"errors"
	"os"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

// opens are the rows of B5, in milliseconds for a subtree's file; done is to be called after them.
func opens(rt *blocktier.Runtime, dir string) (rows []*row, done func(), err error) {
	path, err := os.MkdirTemp(dir, "bench-subtree-files-")
	if err != nil {
		return nil, nil, err
	}
	subtrees, err := subtree.OpenDirectory[hash, node](rt, path)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(path))
	}
	done = func() {
		subtrees.Close()
		os.RemoveAll(path)
	}
	full, err := subtree.NewTree[hash, node](height)
	for i := 0; err == nil && i < nodes; i++ {
		err = full.AddSubtreeNode(numbered(i))
	}
	if err == nil {
		err = subtrees.Store("subtree", full, subtree.Plain)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	measure := func(name string, then func(*tree) error) *row {
		return &row{ID: "B5", Case: name, N: nodes, Unit: "ms", turn: func() (float64, error) {
			began := time.Now()
			st, err := subtrees.Open("subtree", subtree.Plain)
			if err == nil {
				err = then(st)
			}
			figure := float64(time.Since(began).Nanoseconds()) / 1e6
			if err != nil {
				return 0, err
			}
			return figure, st.Close()
		}}
	}
	return []*row{
		measure("open a file by mapping it", func(*tree) error { return nil }),
		measure("open, root", func(st *tree) error {
			st.RootHash()
			return nil
		}),
		measure("open, Verify", func(st *tree) error {
			return st.Verify(subtree.VerifyOptions[hash]{})
		}),
	}, done, nil
}

// reads are the rows of B6, in milliseconds for a subtree.
func reads(rt *blocktier.Runtime, dir string) ([]*row, error) {
	full, err := subtree.NewTree[hash, node](height)
	if err != nil {
		return nil, err
	}
	if err := fill(full); err != nil {
		return nil, err
	}
	written, err := full.Serialize()
	if err != nil {
		return nil, err
	}
	source := func() *bytes.Reader { return bytes.NewReader(written) }
	measure := func(name string, read func() (*tree, error)) *row {
		return &row{ID: "B6", Case: "read from an io.Reader, " + name, N: nodes, Unit: "ms",
			turn: func() (float64, error) {
				began := time.Now()
				st, err := read()
				if err != nil {
					return 0, err
				}
				figure := float64(time.Since(began).Microseconds()) / 1e3
				return figure, st.Close()
			}}
	}
	onHeap := measure("Go heap", func() (*tree, error) {
		return subtree.NewSubtreeFromReader[hash, node](source())
	})
	mapped := measure("mapped file", func() (*tree, error) {
		return subtree.NewSubtreeFromReaderMmap[hash, node](rt, source(), dir)
	})
	var pool *subtree.Pool[node]
	pooled := measure("mapped file of a pool", func() (*tree, error) {
		return subtree.NewSubtreeFromReaderPool[hash](pool, source())
	})
	inPool := pooled.turn
	pooled.turn = func() (figure float64, err error) {
		if pool, err = subtree.NewPool[node](rt, height, dir, 1); err != nil {
			return 0, err
		}
		figure, err = inPool()
		return figure, errors.Join(err, pool.Close())
	}
	return []*row{onHeap, mapped, pooled}, nil
}
