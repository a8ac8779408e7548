package main

import (
	"fmt"
)

// row is a row of the table of targets; each makes one or more entries.
type row struct {
	id    string
	about string
	run   func(*run) error
}

var allRows = []row{
	{"A1", "SetIfNotExists, one by one", (*run).insertOneByOne},
	{"A2", "SetIfNotExists in batches, disk", (*run).insertBatches},
	{"A3", "SetIfNotExists in batches, tmpfs", (*run).insertTmpfs},
	{"A4", "SetIfNotExists of recent duplicates", (*run).duplicates},
	{"A5", "Exists of absent keys", (*run).absent},
	{"A6", "Get of recent keys", (*run).gets},
	{"A7", "cold keys", (*run).cold},
	{"A8", "MoveFrom between two maps", (*run).moves},
	{"A9", "UpdateSubtreeIndexBatch", (*run).updates},
	{"A10", "Delete of recent keys", (*run).deletes},
	{"A11", "memory per entry", (*run).memory},
	{"A12", "latency of one insert at half the full rate", (*run).latency},
	{"A13", "rates of the large run beside those of the small one", (*run).scaling},
	{"A14", "false matches of tags, and insertion while growing", (*run).falseMatches},
	{"A16", "turnover by deletes and overwrites", (*run).turnover},
	{"A17", "reopening a map of a process that ended", (*run).reopens},
	{"limit", "a map in less memory than its records take", (*run).limited},
	{"tick", "latency of a goroutine's tick in backpressure", (*run).tick},
}

// Sizes of rows that don't take -n.
const (
	badgerN      = 1_000_000
	badgerReads  = 100_000
	coldN        = 2_000_000
	coldTail     = 64 << 20
	coldOps      = 150_000
	absentOps    = 4_000_000
	latencyN     = 4_000_000
	ours         = "blocktier"
	plainMap     = "go map"
	filterBadger = "filter+badger"
)

var bothThreads = []int{1, 2}

// sizes are the n to run a row with that has a large form; baselines go with the first only.
func (r *run) sizes() []int {
	if r.config.full > 0 {
		return []int{r.config.n, r.config.full}
	}
	return []int{r.config.n}
}

// inserting measures one operation that fills the map, each time beside the disk's rate.
func (r *run) inserting(name, op string, t task) error {
	t.Kind, t.Store, t.Ops = "insert", ours, []phase{{Op: op}}
	var rates, limits, waited []float64
	var last outcome
	for range r.config.reps {
		rate, err := r.writeLimit(t.Dir, t.N)
		if err != nil {
			return err
		}
		if last, err = r.child(t); err != nil {
			return err
		}
		limits = append(limits, rate)
		rates = append(rates, last.Figures[op])
		waited = append(waited, last.Figures["waited"])
	}
	e := r.entry(name, t.N, t.Threads, median(rates), "M/s", last)
	e.limitBy(median(limits), "sequential write of the same bytes")
	if t.Dir == r.tmpfs {
		e.LimitName += ", tmpfs"
	}
	if share := median(waited); share > 0.01 {
		e.Case += fmt.Sprintf("; waits %.0f %%", 100*share)
	}
	if t.N == r.config.n {
		if err := r.besideGoMapGrown(e, "insert", t.Grown); err != nil {
			return err
		}
	}
	if !t.Grown {
		r.rates[fmt.Sprintf("%s %s %d %d", r.row, op, t.Threads, t.N)] = e.Measured
	}
	return nil
}

func (r *run) insertOneByOne() error {
	for _, threads := range bothThreads {
		for _, n := range r.sizes() {
			t := task{Dir: r.disk, N: n, Threads: threads}
			if err := r.inserting("one by one", "insert", t); err != nil {
				return err
			}
		}
		if err := r.besideBadger("one by one", "insert", threads); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) batchesIn(dir string) error {
	for _, threads := range bothThreads {
		for _, n := range r.sizes() {
			if dir == r.tmpfs && n != r.config.n {
				continue
			}
			t := task{Dir: dir, N: n, Threads: threads}
			if err := r.inserting("batch of encoded values", "insert-raw", t); err != nil {
				return err
			}
			if err := r.inserting("batch of Go values", "insert-batch", t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) insertBatches() error { return r.batchesIn(r.disk) }
func (r *run) insertTmpfs() error   { return r.batchesIn(r.tmpfs) }

// named is a phase with its name in the table and the operation of the baselines.
type named struct {
	phase
	name     string
	baseline string
}

// lookups measures phases on a filled map, beside the rate of random cache lines.
func (r *run) lookups(n, count int, phases ...named) error {
	for _, threads := range bothThreads {
		t := task{Kind: "phases", Store: ours, N: n, Threads: threads, Count: count}
		for _, p := range phases {
			t.Ops = append(t.Ops, p.phase)
		}
		o, err := r.child(t)
		if err != nil {
			return err
		}
		lines, err := r.memoryLimit("random_lines_per_second", threads)
		if err != nil {
			return err
		}
		for _, p := range phases {
			e := r.entry(p.name, n, threads, o.Figures[p.phase.name()], "M/s", o)
			e.limitBy(lines/1e6, "random cache lines, one per key")
			r.rates[fmt.Sprintf("%s %s %d %d", r.row, p.Op, threads, n)] = e.Measured
			if n != r.config.n {
				continue
			}
			if err := r.besideGoMap(e, p.baseline); err != nil {
				return err
			}
			if p.name != "one by one" {
				continue
			}
			if err := r.besideBadger(p.name, p.baseline, threads); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) duplicates() error {
	return r.lookups(r.config.n, 0,
		named{phase{"insert", "recent", false}, "one by one", "insert duplicate"},
		named{phase{"insert-raw", "recent", false}, "batch", "insert duplicate"})
}

func (r *run) absent() error {
	for _, n := range r.sizes() {
		err := r.lookups(n, absentOps,
			named{phase{"exists", "absent", false}, "one by one", "exists"},
			named{phase{"exists-batch", "absent", false}, "batch", "exists"})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) gets() error {
	return r.lookups(r.config.n, 0,
		named{phase{"get", "recent", true}, "one by one", "get"},
		named{phase{"get-raw", "recent", true}, "batch of encoded values", "get"})
}

func (r *run) updates() error {
	return r.lookups(r.config.n, 0, named{phase{"update-batch", "recent", true}, "batch", "update"})
}

func (r *run) deletes() error {
	err := r.lookups(r.config.n, 0, named{phase{"delete", "recent", true}, "one by one", "delete"})
	if err != nil {
		return err
	}
	return r.lookups(r.config.n, 0, named{phase{"delete-batch", "recent", true}, "batch", "delete"})
}

// cold measures keys whose records are only on disk, beside the disk's rate of random reads just
// before.
func (r *run) cold() error {
	phases := []named{
		{phase{"get-raw", "cold", true}, "cold Get, batch", ""},
		{phase{"exists-batch", "cold", true}, "cold Exists, batch", ""},
		{phase{"insert-raw", "cold", false}, "cold duplicate, batch", ""},
		{phase{"delete-batch", "cold", true}, "cold Delete, batch", ""},
	}
	limits, err := r.limits("read", r.disk, fmt.Sprint(coldN*recordBytes), "2")
	if err != nil {
		return err
	}
	for _, depth := range []int{1, 128} {
		for _, threads := range bothThreads {
			name := fmt.Sprintf("random 4 KiB reads, depth %d, threads %d", depth, threads)
			key := fmt.Sprintf("reads_per_second_depth_%d_threads_%d", depth, threads)
			r.found[name] = limits[key]
		}
	}
	for _, threads := range bothThreads {
		t := task{Kind: "phases", Store: ours, N: coldN, Threads: threads, Tail: coldTail}
		t.Count = coldOps
		for _, p := range phases {
			t.Ops = append(t.Ops, p.phase)
		}
		o, err := r.child(t)
		if err != nil {
			return err
		}
		limit := r.found[fmt.Sprintf("random 4 KiB reads, depth 128, threads %d", threads)]
		for _, p := range phases {
			e := r.entry(p.name, coldN, threads, o.Figures[p.phase.name()], "M/s", o)
			e.Tail = coldTail
			e.limitBy(limit/1e6, "random 4 KiB reads, depth 128")
		}
	}
	return nil
}

func (r *run) memory() error {
	for _, n := range r.sizes() {
		for _, grown := range []bool{false, true} {
			for _, indexed := range []bool{false, true} {
				name := map[bool]string{false: "sized in advance", true: "grown"}[grown]
				if indexed {
					name += ", with subtree indexes"
				}
				t := task{Kind: "memory", Store: ours, N: n, Threads: 1, Grown: grown}
				t.Indexed = indexed
				o, err := r.child(t)
				if err != nil {
					return err
				}
				r.entry("index, "+name, n, 1, o.Figures["index"], "B/entry", o)
				name = "process without tail, " + name
				e := r.entry(name, n, 1, o.Figures["process"], "B/entry", o)
				if !r.config.baselines || n != r.config.n || indexed {
					continue
				}
				t.Store = plainMap
				if o, err = r.child(t); err != nil {
					return err
				}
				e.besides(o.Figures["process"], plainMap)
			}
		}
	}
	return nil
}

func (r *run) latency() error {
	n := min(r.config.n, latencyN)
	t := task{Kind: "latency", Store: ours, N: n, Threads: 1, Grown: true}
	o, err := r.child(t)
	if err != nil {
		return err
	}
	var baseline outcome
	if r.config.baselines {
		t.Store = plainMap
		if baseline, err = r.child(t); err != nil {
			return err
		}
	}
	r.note("A12 inserts %.2f M/s, half of %.2f M/s.", o.Figures["rate"]/2, o.Figures["rate"])
	line := func(from, name, quantile string) {
		e := r.entry(name+quantile, n, 1, o.Figures[from+quantile], "us", o)
		e.limitBy(o.Figures["idle "+quantile], "idle spinner")
		if r.config.baselines {
			e.besides(baseline.Figures[from+quantile], plainMap)
		}
	}
	for _, quantile := range []string{"p50", "p99", "p99.9", "p99.99", "max"} {
		line("call ", "from the call, ", quantile)
	}
	for _, quantile := range []string{"p99.99", "max"} {
		line("schedule ", "from its due time, ", quantile)
	}
	return nil
}

// scaling compares entries of rows that ran before.
func (r *run) scaling() error {
	if r.config.full == 0 {
		return nil
	}
	for _, of := range []string{"A1 insert", "A2 insert-raw", "A5 exists", "A5 exists-batch"} {
		for _, threads := range bothThreads {
			small := r.rates[fmt.Sprintf("%s %d %d", of, threads, r.config.n)]
			large := r.rates[fmt.Sprintf("%s %d %d", of, threads, r.config.full)]
			if small == 0 || large == 0 {
				continue
			}
			r.entry(of, r.config.full, threads, large/small, "of the small run", outcome{})
		}
	}
	return nil
}

func (r *run) falseMatches() error {
	for _, grown := range []bool{false, true} {
		name := map[bool]string{false: "sized in advance", true: "grown"}[grown]
		o, err := r.child(task{Kind: "false", Store: ours, N: r.config.n, Threads: 1, Grown: grown})
		if err != nil {
			return err
		}
		r.entry("false matches per absent key, "+name, r.config.n, 1, o.Figures["false"], "", o)
	}
	for _, threads := range bothThreads {
		t := task{Dir: r.disk, N: r.config.n, Threads: threads, Grown: true}
		if err := r.inserting("A1 grown, one by one", "insert", t); err != nil {
			return err
		}
		if err := r.inserting("A2 grown, batch of encoded values", "insert-raw", t); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) tick() error {
	t := task{Kind: "tick", Store: ours, N: 1000, Threads: tickWriters, Grown: true, Tail: tickTail}
	o, err := r.child(t)
	if err != nil {
		return err
	}
	r.note("tick: %d goroutines wrote values of %d KiB against a tail of %d MiB and waited "+
		"%.0f %% of the time.", tickWriters, tickValue>>10, tickTail>>20, 100*o.Figures["waited"])
	for _, quantile := range []string{"p50", "p99", "p99.9", "max"} {
		e := r.entry("lateness of a 1 ms tick, "+quantile, int(o.Figures["written"]), tickWriters,
			o.Figures["pressed "+quantile], "us", o)
		e.Tail = tickTail
		e.limitBy(o.Figures["idle "+quantile], "idle process")
	}
	return nil
}
