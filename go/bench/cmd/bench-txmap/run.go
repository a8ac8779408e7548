package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
)

// run is one run of the benchmark: what has been measured, and what was measured once for several
// rows.
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
	// found are rates of the machine, and writes those of sequential writing to the disk, in bytes
	// per second.
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
	e := &entry{ID: r.row, Case: name, N: n, Threads: threads, Measured: measured, Unit: unit}
	e.RSS, e.Tail, e.Cached, e.Others = o.RSS, defaultTail, o.Cached, o.others
	r.entries = append(r.entries, e)
	return e
}

func (e *entry) limitBy(limit float64, name string) { e.Limit, e.LimitName = &limit, name }

func (e *entry) besides(baseline float64, name string) {
	e.Baseline, e.BaselineName = &baseline, name
}

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

// writeLimit is how many millions of records a directory takes per second, if n are written as one
// run of bytes.
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

// answered are the operations that every store has, measured on a filled map.
var answered = []phase{
	{"insert", "recent", false}, {"exists", "absent", false}, {"get", "recent", true},
	{"update", "recent", true}, {"delete", "recent", true},
}

// all measures insertion into a store and the operations of phases, all one by one, once per run.
func (r *run) all(t task, phases []phase) (outcome, error) {
	key := fmt.Sprintf("%s %d %d %d %v", t.Store, t.N, t.Threads, t.Count, t.Grown)
	if o, known := r.figures[key]; known {
		return o, nil
	}
	t.Kind, t.Ops = "insert", []phase{{Op: "insert"}}
	filled, err := r.child(t)
	if err != nil {
		return outcome{}, err
	}
	o := filled
	if len(phases) > 0 {
		t.Kind, t.Ops = "phases", phases
		if o, err = r.child(t); err != nil {
			return outcome{}, err
		}
	}
	o.Figures["insert"] = filled.Figures["insert"]
	r.figures[key] = o
	return o, nil
}

// besideGoMap sets the Go map's rate of the operation as the entry's baseline.
func (r *run) besideGoMap(e *entry, op string) error { return r.besideGoMapGrown(e, op, false) }

// besideGoMapGrown is besideGoMap; if grown is true it is of maps that were not sized in advance,
// of which only insertion is measured.
func (r *run) besideGoMapGrown(e *entry, op string, grown bool) error {
	if !r.config.baselines {
		return nil
	}
	phases := answered
	if grown {
		phases = nil
	}
	t := task{Store: plainMap, N: e.N, Threads: e.Threads, Grown: grown}
	o, err := r.all(t, phases)
	if err != nil {
		return err
	}
	e.besides(o.Figures[op], plainMap)
	return nil
}

// besideBadger makes an entry of an operation at the size at which the filter with the store behind
// it finishes.
func (r *run) besideBadger(name, op string, threads int) error {
	if !r.config.baselines {
		return nil
	}
	isUpdate := func(p phase) bool { return p.Op == "update" }
	phases := slices.DeleteFunc(slices.Clone(answered), isUpdate)
	t := task{Store: ours, N: min(badgerN, r.config.n), Threads: threads, Count: badgerReads}
	o, err := r.all(t, phases)
	if err != nil {
		return err
	}
	t.Store = filterBadger
	baseline, err := r.all(t, phases)
	if err != nil {
		return err
	}
	e := r.entry(name, t.N, threads, o.Figures[op], "M/s", o)
	e.besides(baseline.Figures[op], filterBadger)
	return nil
}
