package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// warmFirst is the number of the first key that only warms a store up.
const warmFirst = 1 << 41

// openWarm opens a store whose memory has been touched: it has had n other entries before. The
// clock then shows the store and not how fast the machine supplies memory.
func openWarm(t *task, n int) (store, error) {
	warm := *t
	warm.Prefault = true
	s, err := open(&warm)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fill(s, warmFirst, n), s.empty()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	runtime.GC()
	return s, nil
}

// waited is how long writers have waited for space in a store so far; only ours makes them.
func waited(s store) (time.Duration, error) {
	ours, ok := s.(*blocktierStore)
	if !ok {
		return 0, nil
	}
	stats, err := ours.m.Stats()
	return stats.SpaceWaited, err
}

// measureInsert fills a warm but empty map with t.N new keys by one operation, flush included.
func measureInsert(t *task, o *outcome) error {
	keys := makeKeys(0, t.N)
	s, err := openWarm(t, t.N)
	if err != nil {
		return err
	}
	before, err := waited(s)
	if err != nil {
		return errors.Join(err, s.close())
	}
	op := t.Ops[0].Op
	newOp := func() (operation, error) { return s.operation(op) }
	took, err := measure(t.Threads, keys, t.N, newOp, s.flush)
	if err != nil {
		return errors.Join(err, s.close())
	}
	o.Figures[op] = perMicrosecond(t.N, took)
	if ours, ok := s.(*blocktierStore); ok {
		stats, err := ours.m.Stats()
		if err != nil {
			return err
		}
		o.Figures["waited"] = (stats.SpaceWaited - before).Seconds() / took.Seconds()
		if per := float64(stats.LiveBytes) / float64(t.N); per != recordBytes {
			return fmt.Errorf("a record takes %v bytes, not %d", per, recordBytes)
		}
	}
	return s.close()
}

// fill inserts the n keys from number first, as fast as the store can.
func fill(s store, first, n int) error {
	insert, err := s.operation("insert-raw")
	if err != nil {
		if insert, err = s.operation("insert"); err != nil {
			return err
		}
	}
	keys := make([]Hash, min(n, 64*batchSize))
	for done := 0; done < n; done += len(keys) {
		part := keys[:min(len(keys), n-done)]
		fillKeys(part, first+done)
		inserted, err := insert(part)
		if err == nil && inserted != len(part) {
			err = fmt.Errorf("%d of %d keys inserted", inserted, len(part))
		}
		if err != nil {
			return err
		}
	}
	return s.flush()
}

// measurePhases fills a map and measures operations on it, each t.Reps times. One that removes keys
// gets others each time.
func measurePhases(t *task, o *outcome) error {
	s, err := open(t)
	if err != nil {
		return err
	}
	if err := fill(s, 0, t.N); err != nil {
		return errors.Join(err, s.close())
	}
	for _, p := range t.Ops {
		if err := p.measure(t, s, o); err != nil {
			return errors.Join(fmt.Errorf("%s of %s keys: %w", p.Op, p.Keys, err), s.close())
		}
	}
	return s.close()
}

func (p *phase) measure(t *task, s store, o *outcome) error {
	keys, err := p.choose(t)
	if err != nil {
		return err
	}
	ours, isOurs := s.(*blocktierStore)
	var before, operations uint64
	if isOurs {
		stats, err := ours.m.Stats()
		if err != nil {
			return err
		}
		before = stats.FileReads
	}
	var rates []float64
	for rep := range t.Reps {
		part := keys
		if p.removes() || p.Keys == "cold" {
			part = keys[len(keys)*rep/t.Reps : len(keys)*(rep+1)/t.Reps]
		}
		want := 0
		if p.Hits {
			want = len(part)
		}
		newOp := func() (operation, error) { return s.operation(p.Op) }
		finish := func() error { return nil }
		if p.removes() {
			finish = s.flush
		}
		took, err := measure(t.Threads, part, want, newOp, finish)
		if err != nil {
			return err
		}
		rates = append(rates, perMicrosecond(len(part), took))
		operations += uint64(len(part))
	}
	o.Figures[p.name()] = median(rates)
	if !isOurs {
		return nil
	}
	stats, err := ours.m.Stats()
	if err != nil {
		return err
	}
	return checkReads(p, stats.FileReads-before, operations)
}

// checkReads makes sure that a row measures what it says: cold keys come from the disk, the others
// never do.
func checkReads(p *phase, reads, operations uint64) error {
	if p.Keys == "cold" && reads < operations*9/10 {
		return fmt.Errorf("%d reads of files for %d cold keys", reads, operations)
	}
	if p.Keys != "cold" && reads > operations/1000 {
		return fmt.Errorf("%d reads of files for %d keys", reads, operations)
	}
	return nil
}

func (p *phase) removes() bool { return p.Op == "delete" || p.Op == "delete-batch" }

// name tells a duplicate from an insertion.
func (p *phase) name() string {
	if !p.Hits && p.Keys != "absent" {
		return p.Op + " duplicate"
	}
	return p.Op
}

// choose makes the keys of a phase, in random order. Recent ones fill at most half of the tail.
func (p *phase) choose(t *task) ([]Hash, error) {
	tail := int(t.Tail / recordBytes)
	first, limit := 0, 0
	switch p.Keys {
	case "recent":
		limit = min(t.N, tail/2)
	case "cold":
		limit = t.N - 2*tail
	case "absent":
		first, limit = t.N, t.N
	}
	if limit <= 0 {
		return nil, fmt.Errorf("no such keys among %d entries and a tail of %d bytes", t.N, t.Tail)
	}
	count := limit
	if t.Count > 0 {
		count = min(limit, t.Count)
	}
	if p.Keys == "recent" {
		first = t.N - count
	}
	keys := makeKeys(first, limit)
	if p.Keys == "recent" {
		keys = keys[:count]
	}
	shuffle(keys)
	if p.Keys == "cold" && p.removes() {
		// Keys are taken from the other end, so that the phases before have read different ones.
		return keys[limit-count:], nil
	}
	return keys[:count], nil
}

// measureMemory fills a map and tells its memory per entry.
func measureMemory(t *task, o *outcome) error {
	before := memoryStatus("VmRSS")
	s, err := open(t)
	if err != nil {
		return err
	}
	insert := fill
	if t.Indexed {
		insert = fillIndexed
	}
	start := time.Now()
	if err := insert(s, 0, t.N); err != nil {
		return errors.Join(err, s.close())
	}
	o.Figures["rate"] = perMicrosecond(t.N, time.Since(start))
	releaseMemory()
	process := float64(memoryStatus("VmRSS")) - float64(before)
	if ours, ok := s.(*blocktierStore); ok {
		stats, err := ours.m.Stats()
		if err != nil {
			return err
		}
		// The subtree indexes are part of it.
		o.Figures["index"] = float64(stats.FilterRAMBytes) / float64(t.N)
		// What of the tail has been used.
		process -= float64(min(stats.TailBytes, uint64(t.N)*recordBytes))
	}
	o.Figures["process"] = process / float64(t.N)
	return s.close()
}

// fillIndexed fills like fill and gives every entry a subtree index while it is recent.
func fillIndexed(s store, first, n int) error {
	insert, err := s.operation("insert-raw")
	if err != nil {
		return err
	}
	update, err := s.operation("update-batch")
	if err != nil {
		return err
	}
	keys := make([]Hash, 64*batchSize)
	for done := 0; done < n; done += len(keys) {
		part := keys[:min(len(keys), n-done)]
		fillKeys(part, first+done)
		for _, op := range []operation{insert, update} {
			if answered, err := op(part); err != nil || answered != len(part) {
				return errors.Join(err, fmt.Errorf("%d of %d keys done", answered, len(part)))
			}
		}
	}
	return s.flush()
}

// measureFalseMatches counts tags that matched although the key was absent.
func measureFalseMatches(t *task, o *outcome) error {
	s, err := open(t)
	if err != nil {
		return err
	}
	if err := fill(s, 0, t.N); err != nil {
		return errors.Join(err, s.close())
	}
	ours, ok := s.(*blocktierStore)
	if !ok {
		return fmt.Errorf("no counter of false matches in %s", t.Store)
	}
	before, err := ours.m.Stats()
	if err != nil {
		return err
	}
	keys := makeKeys(t.N, t.N)
	newOp := func() (operation, error) { return s.operation("exists-batch") }
	if _, err := measure(t.Threads, keys, 0, newOp, func() error { return nil }); err != nil {
		return err
	}
	after, err := ours.m.Stats()
	if err != nil {
		return err
	}
	o.Figures["false"] = float64(after.FalseMatches-before.FalseMatches) / float64(t.N)
	o.Figures["splits"] = float64(after.Splits)
	return s.close()
}
