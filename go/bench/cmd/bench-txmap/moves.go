package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/blocktier/blocktier/go/txmap"
)

// moves measures MoveFrom into an empty map that has been written before, of recent records and of
// such that are only on disk.
func (r *run) moves() error {
	for _, threads := range bothThreads {
		n := min(r.config.n, defaultTail/2/recordBytes)
		t := task{Kind: "move", Store: ours, N: n, Threads: threads}
		t.Ops = []phase{{"move", "recent", true}}
		o, err := r.child(t)
		if err != nil {
			return err
		}
		copies, err := r.memoryLimit("copy_bytes_per_second", threads)
		if err != nil {
			return err
		}
		e := r.entry("recent", n, threads, o.Figures["move"], "M/s", o)
		e.limitBy(copies/recordBytes/1e6, "copying the records in memory")
		if err := r.moveCold(threads); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) moveCold(threads int) error {
	t := task{Kind: "move", Store: ours, N: coldN, Threads: threads, Tail: coldTail}
	t.Ops = []phase{{"move", "cold", true}}
	var measured, limits []float64
	var last outcome
	for range r.config.reps {
		figures, err := r.limits("sequential", r.disk, fmt.Sprint(coldN*recordBytes))
		if err != nil {
			return err
		}
		perRecord := recordBytes/figures["read_bytes_per_second"] +
			recordBytes/figures["write_bytes_per_second"]
		limits = append(limits, 1/perRecord/1e6)
		t.Reps = 1
		if last, err = r.child(t); err != nil {
			return err
		}
		measured = append(measured, last.Figures["move"])
	}
	e := r.entry("cold", coldN, threads, median(measured), "M/s", last)
	e.Tail = coldTail
	e.limitBy(median(limits), "reading, then writing the same bytes in order")
	return nil
}

// measureMove moves the phase's keys out of a rotated map, t.Reps times, each time to another map,
// flush included.
func measureMove(t *task, o *outcome) error {
	s, err := open(t)
	if err != nil {
		return err
	}
	if err := fill(s, 0, t.N); err != nil {
		return errors.Join(err, s.close())
	}
	keys, err := t.Ops[0].choose(t)
	if err != nil {
		return errors.Join(err, s.close())
	}
	source := s.(*blocktierStore)
	old, err := source.m.Rotate()
	if err != nil {
		return errors.Join(err, s.close())
	}
	var rates []float64
	for range t.Reps {
		took, err := moveOnce(t, old, keys)
		if err != nil {
			return errors.Join(err, old.Close(), s.close())
		}
		rates = append(rates, perMicrosecond(len(keys), took))
	}
	o.Figures["move"] = median(rates)
	stats, err := old.Stats()
	if err == nil && (stats.FileReads > 0) != (t.Ops[0].Keys == "cold") {
		err = fmt.Errorf("%d reads of files for %s keys", stats.FileReads, t.Ops[0].Keys)
	}
	return errors.Join(err, old.Close(), s.close())
}

func moveOnce(t *task, old txmap.TxMap[Hash, *Inpoints], keys []Hash) (time.Duration, error) {
	s, err := openWarm(t, t.N)
	if err != nil {
		return 0, err
	}
	m := s.(*blocktierStore).m
	newOp := func() (operation, error) {
		return func(keys []Hash) (int, error) {
			missing, err := m.MoveFrom(old, keys, nil)
			if err == nil && missing >= 0 {
				err = fmt.Errorf("key %d is missing", missing)
			}
			return len(keys), err
		}, nil
	}
	// One call for all keys of a thread, as a node makes it: what is read from files in one piece is
	// what one call asks for.
	share := (len(keys) + t.Threads - 1) / t.Threads
	took, err := measurePieces(share, t.Threads, keys, len(keys), newOp, s.flush)
	if err == nil && m.Length() != len(keys) {
		err = fmt.Errorf("%d of %d keys were moved", m.Length(), len(keys))
	}
	return took, errors.Join(err, s.close())
}
