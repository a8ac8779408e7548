// Command bench-subtree measures subtrees as a Go node uses them (rows B1, B5, B6, B9 and B10 of
// docs/benchmarks.md): what appending a node costs in each kind of memory, what the Go heap holds,
// and how long it takes to find a transaction in a chain of subtrees. Beside it stands a subtree as
// one would write it plainly: a slice of nodes, appended to under a mutex.
//
// All rows run in one process, five times each by default, in turn; the table has the best and the
// median. It prints a table and writes subtree-go.json into the directory given.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
	"github.com/blocktier/blocktier/go/txmap"
)

type (
	hash = [32]byte
	node = subtree.Node[hash]
	tree = subtree.Subtree[hash, node]
)

const (
	height = 20
	nodes  = 1 << height
	// Many subtrees: so many, and of so many nodes each.
	many, manyHeight = 128, 16
	// A chain of so many subtrees, each of 2^chainHeight nodes.
	chained, chainHeight = 1000, 10
	finds                = 200_000
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

// row is one line of the table; a turn returns its figure.
type row struct {
	ID      string  `json:"id"`
	Case    string  `json:"case"`
	N       int     `json:"n"`
	Unit    string  `json:"unit"`
	Best    float64 `json:"best"`
	Median  float64 `json:"measured"`
	turn    func() (float64, error)
	figures []float64
}

func main() {
	reps := flag.Int("reps", 5, "turns of each row")
	dir := flag.String("dir", ".", "directory of mapped files, maps and the JSON")
	only := flag.String("rows", "", "the rows to run, such as B1,B10; empty for all")
	flag.Parse()
	if err := run(*dir, *reps, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench-subtree:", err)
		os.Exit(1)
	}
}

func run(dir string, reps int, only string) error {
	rt, err := blocktier.Open()
	if err != nil {
		return err
	}
	defer rt.Close()
	files, err := os.MkdirTemp(dir, "bench-subtree-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(files)
	rows := append(appends(rt, files), heaps(rt, files)...)
	read, err := reads(rt, files)
	if err != nil {
		return err
	}
	opened, closeFiles, err := opens(rt, dir)
	if err != nil {
		return err
	}
	defer closeFiles()
	rows = append(append(rows, opened...), read...)
	find, closeChain, err := chain(rt, files)
	if err != nil {
		return err
	}
	defer closeChain()
	rows = append(rows, find...)
	if only != "" {
		wanted := strings.Split(only, ",")
		rows = slices.DeleteFunc(rows, func(r *row) bool { return !slices.Contains(wanted, r.ID) })
	}
	if len(rows) == 0 {
		return fmt.Errorf("no row is called %s", only)
	}
	for range reps {
		for _, r := range rows {
			runtime.GC()
			figure, err := r.turn()
			if err != nil {
				return fmt.Errorf("%s, %s: %w", r.ID, r.Case, err)
			}
			r.figures = append(r.figures, figure)
		}
	}
	return report(dir, rows)
}

func report(dir string, rows []*row) error {
	fmt.Printf("%s, %d CPUs, %s\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		runtime.NumCPU(), runtime.Version())
	fmt.Printf("| row | case | n | best | median | unit |\n| - | - | -: | -: | -: | - |\n")
	for _, r := range rows {
		slices.Sort(r.figures)
		r.Best, r.Median = r.figures[0], r.figures[len(r.figures)/2]
		fmt.Printf("| %s | %s | %d | %.2f | %.2f | %s |\n", r.ID, r.Case, r.N, r.Best, r.Median,
			r.Unit)
	}
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "subtree-go.json"), text, 0o644)
}

func numbered(i int) node {
	var h hash
	for at := range 4 {
		z := uint64(4*i+at+1) * 0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
		for b := range 8 {
			h[8*at+b] = byte(z >> (8 * b))
		}
	}
	return node{Hash: h, Fee: uint64(i), SizeInBytes: 250}
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

// each is the time since began in nanoseconds, for each of count.
func each(began time.Time, count int) float64 {
	return float64(time.Since(began).Nanoseconds()) / float64(count)
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
	next := 0
	keys := make([]hash, finds)
	others := func() {
		for i := range keys {
			next = (next + 7_919) % (chained << chainHeight)
			keys[i] = numbered(next).Hash
		}
	}
	find := func() (float64, error) {
		others()
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
				others()
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
