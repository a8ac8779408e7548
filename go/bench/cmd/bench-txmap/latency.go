package main

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blocktier/blocktier/go/txmap"
)

// histogram counts durations in buckets of at most 1/32 of their size.
type histogram struct {
	counts [64 * 32]uint64
	total  uint64
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// bucketOf is the top five bits below the leading one, and the position of that.
func bucketOf(n uint64) int {
	if n < 32 {
		return int(n)
	}
	shift := bits.Len64(n) - 6
	return 32*(shift+1) + int(n>>shift) - 32
}

// bucketEnd is the largest duration of a bucket.
func bucketEnd(bucket int) time.Duration {
	if bucket < 32 {
		return time.Duration(bucket)
	}
	shift := bucket/32 - 1
	return time.Duration(uint64(bucket%32+33)<<shift - 1)
}

// quantile is a duration that the given share of all is not above, in microseconds.
func (h *histogram) quantile(share float64) float64 {
	want := uint64(share * float64(h.total))
	seen := uint64(0)
	for bucket, count := range h.counts {
		if seen += count; seen > want {
			return microseconds(min(bucketEnd(bucket), h.max))
		}
	}
	return microseconds(h.max)
}

func microseconds(d time.Duration) float64 { return float64(d) / 1e3 }

func (h *histogram) report(name string, o *outcome) {
	o.Figures[name+" p50"] = h.quantile(0.5)
	o.Figures[name+" p99"] = h.quantile(0.99)
	o.Figures[name+" p99.9"] = h.quantile(0.999)
	o.Figures[name+" p99.99"] = h.quantile(0.9999)
	o.Figures[name+" max"] = microseconds(h.max)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

func releaseMemory() { debug.FreeOSMemory() }

// rateProbe is how many keys the full rate is measured with.
const rateProbe = 1_000_000

// measureLatency inserts one by one at half the full rate into a map that grows, after finding out
// what the full rate is. An idle spinner on the same CPU says how long the machine itself
// interrupts, before and after.
func measureLatency(t *task, o *outcome) error {
	rate, err := fullRate(t)
	if err != nil {
		return err
	}
	keys := makeKeys(0, t.N)
	s, err := openWarm(t, t.N)
	if err != nil {
		return err
	}
	insert, err := s.operation("insert")
	if err != nil {
		return errors.Join(err, s.close())
	}
	runtime.GC()
	defer pin(1)()
	interval := time.Duration(2e9 / rate)
	var idle, call, schedule histogram
	length := time.Duration(t.N) * interval
	spin(length/2, &idle)
	start := time.Now()
	for i := range keys {
		due := time.Duration(i) * interval
		began := time.Since(start)
		for began < due {
			began = time.Since(start)
		}
		if inserted, err := insert(keys[i : i+1]); err != nil || inserted != 1 {
			return errors.Join(err, s.close(), fmt.Errorf("key %d: %d inserted", i, inserted))
		}
		ended := time.Since(start)
		call.add(ended - began)
		schedule.add(ended - due)
	}
	spin(length/2, &idle)
	o.Figures["rate"] = rate / 1e6
	idle.report("idle", o)
	call.report("call", o)
	schedule.report("schedule", o)
	return errors.Join(s.flush(), s.close())
}

// fullRate is how many keys per second are inserted one by one without pause.
func fullRate(t *task) (float64, error) {
	count := min(t.N, rateProbe)
	keys := makeKeys(0, count)
	s, err := openWarm(t, count)
	if err != nil {
		return 0, err
	}
	newOp := func() (operation, error) { return s.operation("insert") }
	took, err := measure(1, keys, count, newOp, s.flush)
	return float64(count) / took.Seconds(), errors.Join(err, s.close())
}

// spin reads the clock for length and notes the time between readings.
func spin(length time.Duration, h *histogram) {
	start := time.Now()
	last := time.Duration(0)
	for last < length {
		now := time.Since(start)
		h.add(now - last)
		last = now
	}
}

const (
	tickInterval = time.Millisecond
	// tickLength is short because the writers fill the disk meanwhile.
	tickLength  = 5 * time.Second
	tickWriters = 8
	tickTail    = 8 << 20
	// tickValue is so long that the disk is slower than the writers.
	tickValue = 16 << 10
)

// measureTick notes how late a goroutine is woken every millisecond, first in an idle process and
// then beside writers that wait for a full tail.
func measureTick(t *task, o *outcome) error {
	t.Tail = tickTail
	s, err := open(t)
	if err != nil {
		return err
	}
	ours, ok := s.(*blocktierStore)
	if !ok {
		return fmt.Errorf("no tail in %s", t.Store)
	}
	var idle, pressed histogram
	tick(&idle)
	writers, stop := startWriters(ours.m)
	time.Sleep(time.Second)
	before, err := ours.m.Stats()
	if err != nil {
		return err
	}
	tick(&pressed)
	after, err := ours.m.Stats()
	if err != nil {
		return err
	}
	written := stop()
	if err := writers(); err != nil {
		return errors.Join(err, s.close())
	}
	idle.report("idle", o)
	pressed.report("pressed", o)
	waited := (after.SpaceWaited - before.SpaceWaited).Seconds()
	waited /= tickWriters * tickLength.Seconds()
	o.Figures["waited"] = waited
	o.Figures["written"] = float64(written)
	if waited < 0.05 {
		err = fmt.Errorf("no backpressure: the writers waited for %.1f %% of the time", 100*waited)
	}
	return errors.Join(err, s.close())
}

// tick sleeps to each multiple of the interval and notes how late it wakes.
func tick(h *histogram) {
	start := time.Now()
	for due := tickInterval; due < tickLength; {
		time.Sleep(due - time.Since(start))
		now := time.Since(start)
		h.add(now - due)
		// Multiples that were slept through are late as well.
		for due += tickInterval; due <= now; due += tickInterval {
			h.add(now - due)
		}
	}
}

// startWriters writes long values in batches until stop, which returns how many; wait returns the
// first error.
func startWriters(m *txmap.DiskTxMap[Hash, *Inpoints]) (wait func() error, stop func() int64) {
	var running sync.WaitGroup
	var stopped atomic.Bool
	var count atomic.Int64
	failures := make(chan error, tickWriters)
	for range tickWriters {
		running.Go(func() {
			batch := new(txmap.RawBatch[Hash])
			keys := make([]Hash, 32)
			value := make([]byte, tickValue)
			for !stopped.Load() {
				fillKeys(keys, int(count.Add(int64(len(keys)))))
				batch.Reset()
				for _, key := range keys {
					batch.Add(key, value, 0)
				}
				if _, err := m.SetIfNotExistsRaw(batch); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	wait = func() error {
		running.Wait()
		close(failures)
		return <-failures
	}
	stop = func() int64 {
		stopped.Store(true)
		return count.Load()
	}
	return wait, stop
}
