package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// run is one run of the benchmark: what has been measured, and what was measured once for several rows.
type run struct {
	config   *config
	disk     string
	tmpfs    string
	machine  machine
	row      string
	entries  []*entry
	notes    []string
	children int

	figures map[string]outcome // of baselines
	// found are rates of the machine, and writes those of sequential writing to the disk, in bytes per second.
	found  limitFigures
	writes []float64
	rates  map[string]float64 // by row, operation, threads and n
}

// entry is one line of the table. Fields without a figure are null.
type entry struct {
	ID           string   `json:"id"`
	Case         string   `json:"case"`
	N            int      `json:"n"`
	Threads      int      `json:"threads"`
	Measured     float64  `json:"measured"`
	Unit         string   `json:"unit"`
	Baseline     *float64 `json:"baseline"`
	BaselineName string   `json:"baseline_name"`
	Limit        *float64 `json:"limit"`
	LimitName    string   `json:"limit_name"`
	RSS          uint64   `json:"rss_bytes"`
	Tail         uint64   `json:"tail_bytes"`
	Cached       int64    `json:"page_cache_bytes"`
	// Others is the share of the machine's CPU time that went to other processes or to the host.
	Others float64 `json:"others"`
}

func (r *run) entry(name string, n, threads int, measured float64, unit string, o outcome) *entry {
	e := &entry{ID: r.row, Case: name, N: n, Threads: threads, Measured: measured, Unit: unit, RSS: o.RSS,
		Tail: defaultTail, Cached: o.Cached, Others: o.others}
	r.entries = append(r.entries, e)
	return e
}

func (e *entry) limitBy(limit float64, name string) { e.Limit, e.LimitName = &limit, name }

func (e *entry) besides(baseline float64, name string) { e.Baseline, e.BaselineName = &baseline, name }

func (r *run) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

type limitFigures map[string]float64

// limits runs the program that measures the machine.
func (r *run) limits(arguments ...string) (limitFigures, error) {
	var stdout bytes.Buffer
	command := exec.Command(r.config.limits, arguments...)
	command.Stdout, command.Stderr = &stdout, os.Stderr
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("%s %v: %w", r.config.limits, arguments, err)
	}
	var all map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &all); err != nil {
		return nil, err
	}
	figures := limitFigures{}
	for name, value := range all {
		switch value := value.(type) {
		case float64:
			figures[name] = value
		case bool:
			if value {
				figures[name] = 1
			}
		}
	}
	return figures, nil
}

// writeLimit is how many millions of records a directory takes per second, if n are written as one run of bytes.
func (r *run) writeLimit(dir string, n int) (float64, error) {
	figures, err := r.limits("write", dir, fmt.Sprint(n*recordBytes))
	if err != nil {
		return 0, err
	}
	rate := figures["write_bytes_per_second"]
	if dir == r.disk {
		r.writes = append(r.writes, rate)
	}
	return rate / recordBytes / 1e6, nil
}

// memoryLimit is a rate of the machine's memory, measured once.
func (r *run) memoryLimit(name string, threads int) (float64, error) {
	key := fmt.Sprintf("%s_threads_%d", name, threads)
	if _, known := r.found[key]; !known {
		figures, err := r.limits("memory", "1")
		if err != nil {
			return 0, err
		}
		for name, value := range figures {
			r.found[name] = value
		}
	}
	return r.found[key], nil
}

// besideGoMap sets the Go map's rate of the operation as the entry's baseline.
func (r *run) besideGoMap(e *entry, op string) error {
	if !r.config.baselines {
		return nil
	}
	key := fmt.Sprintf("%s %d %d", plainMap, e.N, e.Threads)
	if _, known := r.figures[key]; !known {
		filled, err := r.child(task{Kind: "insert", Store: plainMap, N: e.N, Threads: e.Threads, Ops: []phase{{Op: "insert"}}})
		if err != nil {
			return err
		}
		o, err := r.child(task{Kind: "phases", Store: plainMap, N: e.N, Threads: e.Threads, Ops: []phase{
			{"insert", "recent", false}, {"exists", "absent", false}, {"get", "recent", true},
			{"update", "recent", true}, {"delete", "recent", true},
		}})
		if err != nil {
			return err
		}
		o.Figures["insert"] = filled.Figures["insert"]
		r.figures[key] = o
	}
	e.besides(r.figures[key].Figures[op], plainMap)
	return nil
}

// besideBadger makes an entry of an operation at the size at which the filter with the store behind it finishes.
func (r *run) besideBadger(name, op string, threads int) error {
	if !r.config.baselines {
		return nil
	}
	n := min(badgerN, r.config.n)
	both := map[string]outcome{}
	for _, store := range []string{ours, filterBadger} {
		key := fmt.Sprintf("%s %d small", store, threads)
		if _, known := r.figures[key]; !known {
			filled, err := r.child(task{Kind: "insert", Store: store, N: n, Threads: threads, Ops: []phase{{Op: "insert"}}})
			if err != nil {
				return err
			}
			o, err := r.child(task{Kind: "phases", Store: store, N: n, Threads: threads, Count: badgerReads, Ops: []phase{
				{"insert", "recent", false}, {"exists", "absent", false}, {"get", "recent", true},
				{"delete", "recent", true},
			}})
			if err != nil {
				return err
			}
			o.Figures["insert"] = filled.Figures["insert"]
			r.figures[key] = o
		}
		both[store] = r.figures[key]
	}
	e := r.entry(name, n, threads, both[ours].Figures[op], "M/s", both[ours])
	e.besides(both[filterBadger].Figures[op], filterBadger)
	return nil
}
