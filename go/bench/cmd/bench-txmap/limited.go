package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// limitedMemory is less than a sixth of what 100M entries take on disk. Tail and index are a
	// gigabyte and a half of it.
	limitedMemory = 2 << 30
	limitedSample = 100_000
)

// limited fills a map with more than a memory limit of the kernel's allows to hold, and reads of
// it. Where no group with such a limit can be made, the row says so.
func (r *run) limited() error {
	if r.config.full == 0 {
		return nil
	}
	group, err := makeGroup(limitedMemory)
	if err != nil {
		r.note("limit: no memory limit can be set here (%v); the row is missing.", err)
		return nil
	}
	defer os.Remove(group)
	t := task{Kind: "limited", Store: ours, N: r.config.full, Threads: 1, Group: group}
	o, err := r.child(t)
	if err != nil {
		return err
	}
	rate, err := r.writeLimit(r.disk, coldN)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%.1f GB of records in %d MiB of memory", float64(t.N)*recordBytes/1e9,
		limitedMemory>>20)
	e := r.entry("filling, "+name, t.N, 1, o.Figures["rate"], "M/s", o)
	e.limitBy(rate, "sequential write of the same bytes")
	e = r.entry("highest use counted by the kernel, "+name, t.N, 1, o.Figures["highest"]/(1<<20),
		"MiB", o)
	e.limitBy(limitedMemory>>20, "the group's limit")
	r.entry("random keys found again, "+name, t.N, 1, o.Figures["sample"], "keys", o)
	return nil
}

// measureLimited joins the group before it takes any memory to speak of.
func measureLimited(t *task, o *outcome) error {
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(filepath.Join(t.Group, "cgroup.procs"), []byte(pid), 0); err != nil {
		return err
	}
	s, err := open(t)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := fill(s, 0, t.N); err != nil {
		return errors.Join(err, s.close())
	}
	o.Figures["rate"] = perMicrosecond(t.N, time.Since(start))
	if o.Figures["highest"], err = groupPeak(t.Group); err != nil {
		return errors.Join(err, s.close())
	}
	if ours, ok := s.(*blocktierStore); ok && ours.m.Length() != t.N {
		return errors.Join(s.close(), fmt.Errorf("%d entries", ours.m.Length()))
	}
	get, err := s.operation("get-raw")
	if err != nil {
		return errors.Join(err, s.close())
	}
	// One key of every so many, from the first to the last.
	count := min(limitedSample, t.N)
	keys := make([]Hash, count)
	for i := range keys {
		fillKeys(keys[i:i+1], i*(t.N/count))
	}
	shuffle(keys)
	found, err := get(keys)
	if err == nil && found != count {
		err = fmt.Errorf("%d of %d keys are found", found, count)
	}
	o.Figures["sample"] = float64(found)
	return errors.Join(err, s.close())
}

const groups = "/sys/fs/cgroup"

// makeGroup makes a control group whose processes may use so much memory, page cache included.
func makeGroup(bytes int) (string, error) {
	name := fmt.Sprintf("blocktier-bench-%d", os.Getpid())
	// Version 1 has a tree for memory, version 2 has one for all.
	group, limit := filepath.Join(groups, "memory", name), "memory.limit_in_bytes"
	if _, err := os.Stat(filepath.Join(groups, "cgroup.controllers")); err == nil {
		group, limit = filepath.Join(groups, name), "memory.max"
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		return "", err
	}
	err := os.WriteFile(filepath.Join(group, limit), []byte(strconv.Itoa(bytes)), 0)
	if err != nil {
		return "", errors.Join(err, os.Remove(group))
	}
	return group, nil
}

// groupPeak is the most that a group has used.
func groupPeak(group string) (float64, error) {
	for _, name := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
		text, err := os.ReadFile(filepath.Join(group, name))
		if err == nil {
			return strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		}
	}
	return 0, fmt.Errorf("%s does not say how much it has used", group)
}
