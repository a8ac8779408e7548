// Command bench-txmap measures the transaction map as a Go node calls it, beside baselines and
// beside what the machine gives in the same run. Every measurement is a child process of its own,
// so that memory and garbage collection of one don't reach the next. It prints one table and writes
// the same rows as JSON.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// config is what the flags say.
type config struct {
	n         int
	full      int
	rows      map[string]bool
	dir       string
	out       string
	limits    string
	baselines bool
	reps      int
	profile   string
}

func main() {
	// The one argument of a child is its task; flags are for the parent.
	if len(os.Args) == 3 && os.Args[1] == "-child" {
		exitOn(runChild(os.Args[2]))
		return
	}
	var c config
	var rows string
	flag.IntVar(&c.n, "n", 10_000_000, "entries")
	flag.IntVar(&c.full, "full", 0, "entries of the large runs, which have no baselines; 0: none")
	flag.StringVar(&rows, "rows", "", "rows to run, such as A1,A2,tick; empty: all")
	flag.StringVar(&c.dir, "dir", os.TempDir(), "directory on the disk to measure")
	flag.StringVar(&c.out, "out", "target/bench/txmap.json", "file for the rows as JSON")
	flag.StringVar(&c.limits, "limits", "", "the program of benches/limits.rs")
	flag.BoolVar(&c.baselines, "baselines", true, "measure the baselines too")
	flag.IntVar(&c.reps, "reps", 2, "repetitions, of which the median counts")
	flag.StringVar(&c.profile, "profile", "", "directory for CPU profiles of the children")
	flag.Parse()
	if flag.NArg() > 0 || c.n < 1000 || c.reps < 1 || c.limits == "" {
		fmt.Fprintln(os.Stderr, "bench-txmap: wants -limits, -n from 1000 up and -reps from 1 up")
		flag.Usage()
		os.Exit(2)
	}
	exitOn(c.chooseRows(rows))
	exitOn(runAll(&c))
}

func (c *config) chooseRows(text string) error {
	c.rows = map[string]bool{}
	for _, row := range allRows {
		c.rows[row.id] = text == ""
	}
	for id := range strings.SplitSeq(text, ",") {
		if _, known := c.rows[id]; !known && id != "" {
			return fmt.Errorf("no row %q", id)
		}
		c.rows[id] = id != ""
	}
	return nil
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-txmap:", err)
		os.Exit(1)
	}
}

// runAll runs the rows. One that fails does not stop the others, but the whole then fails.
func runAll(c *config) error {
	dir, err := os.MkdirTemp(c.dir, "bench-txmap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tmpfs, err := os.MkdirTemp("/dev/shm", "bench-txmap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmpfs)
	r := &run{config: c, disk: dir, tmpfs: tmpfs, machine: describeMachine(dir)}
	r.figures, r.rates = map[string]outcome{}, map[string]float64{}
	r.found = limitFigures{}
	var failed error
	for _, row := range allRows {
		if !c.rows[row.id] {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", row.id, row.about)
		r.row = row.id
		if err := row.run(r); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", row.id, err))
			fmt.Fprintln(os.Stderr, "bench-txmap:", row.id, err)
		}
	}
	r.print(os.Stdout)
	return errors.Join(failed, r.save())
}

func (r *run) save() error {
	if err := os.MkdirAll(filepath.Dir(r.config.out), 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r.entries, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.config.out, append(text, '\n'), 0o644)
}
