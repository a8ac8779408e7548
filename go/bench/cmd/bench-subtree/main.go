// Command bench-subtree measures subtrees as a Go node uses them (rows B1, B5, B6, B9 and B10 of
// docs/benchmarks.md): what appending a node costs in each kind of memory, what the Go heap holds,
// and how long it takes to find a transaction in a chain of subtrees. Beside it stands a subtree as
// one would write it plainly: a slice of nodes, appended to under a mutex.
//
// All rows run in one process, five times each by default, in turn; the table has the best and the
// median. It prints a table and writes subtree-go.json into the directory given.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

type (
	hash = [32]byte
	node = subtree.Node[hash]
	tree = subtree.Subtree[hash, node]
)

// Of one subtree, where there is no other number.
const (
	height = 20
	nodes  = 1 << height
)

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

// each is the time since began in nanoseconds, for each of count.
func each(began time.Time, count int) float64 {
	return float64(time.Since(began).Nanoseconds()) / float64(count)
}
