package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"time"

	"github.com/blocktier/blocktier/go/txmap"
)

const (
	// turnoverN live entries fill half of the tail, and enough segments to choose from.
	turnoverN       = 2_000_000
	turnoverSegment = 16 << 20
	turnovers       = 10
	// payloadBytes is what a caller gives for an entry: key and value.
	payloadBytes = 32 + valueBytes
)

// turnover measures a map whose entries come and go.
func (r *run) turnover() error {
	n := min(r.config.n, turnoverN)
	t := task{Kind: "turnover", Store: ours, N: n, Threads: 1, Segment: turnoverSegment}
	o, err := r.child(t)
	if err != nil {
		return err
	}
	r.entry("bytes written per payload byte, without churn", n, 1, o.Figures["fill written"], "", o)
	name := fmt.Sprintf("bytes written per payload byte, %d turnovers", turnovers)
	r.entry(name, n, 1, o.Figures["written"], "", o)
	r.entry("disk space over live bytes, highest", n, 1, o.Figures["space max"], "", o)
	r.entry("disk space over live bytes, at the end", n, 1, o.Figures["space end"], "", o)
	e := r.entry("writes beside half as many deletes", n, 1, o.Figures["rate"], "M/s", o)
	e.limitBy(o.Figures["fill rate"], "the same batches into the empty map before")
	return nil
}

// churn is a map under turnover.
type churn struct {
	s     *blocktierStore
	t     *task
	live  []uint32 // numbers of the keys that are in the map
	next  uint32
	batch *txmap.RawBatch[Hash]
	space float64 // highest ratio of disk space to live bytes
}

// measureTurnover fills a map, then replaces its content ten times over: in each turnover half of
// the entries are overwritten, and the others removed and new ones inserted, in random order.
func measureTurnover(t *task, o *outcome) error {
	opened, err := openWarm(t, t.N)
	if err != nil {
		return err
	}
	s, ok := opened.(*blocktierStore)
	if !ok {
		return fmt.Errorf("no turnover of %s", t.Store)
	}
	c := churn{s: s, t: t, live: make([]uint32, t.N), batch: new(txmap.RawBatch[Hash])}
	for i := range c.live {
		c.live[i] = uint32(i)
	}
	c.next = uint32(t.N)
	if err := c.run(o); err != nil {
		return errors.Join(err, s.close())
	}
	return s.close()
}

func (c *churn) run(o *outcome) error {
	payload := float64(c.t.N) * payloadBytes
	written, err := c.written()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := fill(c.s, 0, c.t.N); err != nil {
		return err
	}
	filled, err := c.written()
	if err != nil {
		return err
	}
	o.Figures["fill rate"] = perMicrosecond(c.t.N, time.Since(start))
	o.Figures["fill written"] = float64(filled-written) / payload
	random := rand.New(rand.NewPCG(3, 4))
	var took time.Duration
	for range turnovers {
		random.Shuffle(len(c.live), func(i, j int) { c.live[i], c.live[j] = c.live[j], c.live[i] })
		start := time.Now()
		if err := c.once(); err != nil {
			return err
		}
		took += time.Since(start)
	}
	start = time.Now()
	if err := c.s.flush(); err != nil {
		return err
	}
	took += time.Since(start)
	churned, err := c.written()
	if err != nil {
		return err
	}
	o.Figures["written"] = float64(churned-filled) / payload / turnovers
	o.Figures["rate"] = perMicrosecond(turnovers*c.t.N, took)
	o.Figures["space max"] = c.space
	o.Figures["space end"], err = c.spaceRatio()
	if err != nil {
		return err
	}
	return c.check()
}

// once is one turnover. In each batch half of the writes are overwrites.
func (c *churn) once() error {
	half := batchSize / 2
	removed := make([]bool, half)
	keys := make([]Hash, 0, half)
	for first := 0; first+batchSize <= len(c.live); first += batchSize {
		part := c.live[first : first+batchSize]
		keys = keys[:0]
		c.batch.Reset()
		for _, number := range part[:half] {
			c.add(number)
		}
		for i, number := range part[half:] {
			keys = append(keys, numbered(number))
			part[half+i] = c.next
			c.add(c.next)
			c.next++
		}
		count, err := c.s.m.DeleteBatch(keys, removed)
		if err == nil && count != half {
			err = fmt.Errorf("%d of %d keys removed", count, half)
		}
		if err == nil {
			err = c.s.m.SetRaw(c.batch)
		}
		if err != nil {
			return err
		}
		if first/batchSize%512 == 0 {
			ratio, err := c.spaceRatio()
			if err != nil {
				return err
			}
			c.space = max(c.space, ratio)
		}
	}
	return nil
}

func numbered(number uint32) Hash {
	var key [1]Hash
	fillKeys(key[:], int(number))
	return key[0]
}

func (c *churn) add(number uint32) {
	key := numbered(number)
	c.batch.Add(key, c.s.values.encoded[place(&key)], 0)
}

// written is what all directories have written so far.
func (c *churn) written() (uint64, error) {
	disks, err := c.s.runtime.Disks()
	total := uint64(0)
	for _, disk := range disks {
		total += disk.BytesWritten
	}
	return total, err
}

// spaceRatio is the space of all files over the bytes of live records.
func (c *churn) spaceRatio() (float64, error) {
	space, err := diskSpace(c.t.Dir)
	if err != nil {
		return 0, err
	}
	stats, err := c.s.m.Stats()
	return float64(space) / float64(stats.LiveBytes), err
}

// check makes sure that the map has exactly the keys it should have.
func (c *churn) check() error {
	if c.s.m.Length() != len(c.live) {
		return fmt.Errorf("%d entries; want %d", c.s.m.Length(), len(c.live))
	}
	exists, err := c.s.operation("exists-batch")
	if err != nil {
		return err
	}
	keys := make([]Hash, len(c.live))
	for i, number := range c.live {
		keys[i] = numbered(number)
	}
	found, err := exists(keys)
	if err == nil && found != len(keys) {
		err = fmt.Errorf("%d of %d live keys are found", found, len(keys))
	}
	return err
}

// diskSpace is what the files below dir take of the disk.
func diskSpace(dir string) (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			total += stat.Blocks * 512
		}
		return nil
	})
	return total, err
}
