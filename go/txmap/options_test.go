package txmap_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/txmap"
)

// The library must understand what the options write, whatever Go's way to print a value.
func TestDurationOptions(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	rt := openRuntime(t)
	for _, good := range []time.Duration{time.Minute, 1500 * time.Millisecond, time.Hour} {
		openMap(t, rt, txmap.WithDirs(t.TempDir()), txmap.WithWriteTimeout(good),
			txmap.WithFlushAge(good))
	}
	openMap(t, rt, txmap.WithDirs(t.TempDir()), txmap.WithFlushAge(0))
	for _, bad := range []time.Duration{-time.Second, 1500 * time.Microsecond, 25 * time.Hour} {
		for name, option := range map[string]txmap.Option{
			"txMapWriteTimeout": txmap.WithWriteTimeout(bad), "txMapFlushAge": txmap.WithFlushAge(bad),
		} {
			m, err := txmap.Open[hash](rt, codec{}, txmap.WithDirs(t.TempDir()), option)
			if m != nil || err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s of %v: %v", name, bad, err)
			}
		}
	}
}

func TestDirectoryOptions(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	rt := openRuntime(t)
	dirs := txmap.WithDirs(t.TempDir(), t.TempDir())
	openMap(t, rt, dirs, txmap.WithDirWeights(3, 1), txmap.WithDirQuotas(1<<40, 0),
		txmap.WithDirFloors(1<<20))
	openMap(t, rt, dirs, txmap.WithDirWeights(), txmap.WithDirQuotas(0))
	for name, option := range map[string]txmap.Option{
		"txMapDirWeights": txmap.WithDirWeights(1, 2, 3),
		"txMapDirQuotas":  txmap.WithDirQuotas(1, 2),
	} {
		m, err := txmap.Open[hash](rt, codec{}, dirs, option)
		if m != nil || err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := txmap.Open[hash](rt, codec{}, txmap.WithDirs(t.TempDir()), txmap.WithTail(256<<10),
		txmap.WithSegment(64<<10), txmap.WithDirFloors(1<<50))
	if err != nil {
		t.Fatal(err)
	}
	// Closing a map that has failed says so once more.
	defer func() { _ = m.Close() }()
	var full error
	for i := 0; full == nil && i < 100_000; i++ {
		_, _, full = m.SetIfNotExistsErr(numbered(i), valueOf(i, 2))
	}
	if !errors.Is(full, blocktier.ErrFailed) || !strings.Contains(full.Error(), "txMapDirFloors") {
		t.Errorf("a floor above what is free: %v", full)
	}
}

func TestWithName(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	rt, dir := openRuntime(t), t.TempDir()
	openMap(t, rt, txmap.WithDirs(dir), txmap.WithName("assembly"))
	if _, err := os.Stat(filepath.Join(dir, "blocktier-map-assembly")); err != nil {
		t.Error(err)
	}
	m, err := txmap.Open[hash](rt, codec{}, txmap.WithDirs(dir), txmap.WithName("assembly"))
	if m != nil || !errors.Is(err, blocktier.ErrLocked) {
		t.Errorf("a second map of that name: %v", err)
	}
	openMap(t, rt, txmap.WithDirs(dir), txmap.WithName("validation"))
	openMap(t, rt, txmap.WithDirs(dir), txmap.WithName(""))
	m, err = txmap.Open[hash](rt, codec{}, txmap.WithDirs(dir), txmap.WithName("../x"))
	if m != nil || err == nil || !strings.Contains(err.Error(), "txMapName") {
		t.Errorf("a path as name: %v", err)
	}
}

// The tail is in RAM right after opening exactly if that was asked for.
func TestWithPrefault(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	const tail = 256 << 20
	rt := openRuntime(t)
	for _, on := range []bool{false, true, false} {
		before := residentBytes(t)
		m, err := txmap.Open[hash](rt, codec{}, txmap.WithDirs(t.TempDir()), txmap.WithTail(tail),
			txmap.WithPrefault(on))
		if err != nil {
			t.Fatal(err)
		}
		touched := residentBytes(t) - before
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if on != (touched > tail/2) {
			t.Errorf("prefault %v: %d bytes more in RAM", on, touched)
		}
	}
}

// residentBytes is the memory of this process that is in RAM, garbage aside.
func residentBytes(t *testing.T) int {
	t.Helper()
	runtime.GC()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// What was synced or closed is there when the map is opened again, and what was deleted is not.
func TestDurableMapIsReopened(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	rt, dir := openRuntime(t), t.TempDir()
	open := func() *txmap.DiskTxMap[hash, *inpoints] {
		m, err := txmap.Open[hash](rt, codec{}, txmap.WithDirs(dir), txmap.WithName("pool"),
			txmap.WithDurability(true))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := open()
	for i := range 3 {
		if _, inserted, err := m.SetIfNotExistsErr(numbered(i), valueOf(i, 1)); !inserted {
			t.Fatal(err)
		}
	}
	if err := m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !m.Delete(numbered(1)) {
		t.Fatal(m.Err())
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = open()
	if !m.Exists(numbered(2)) || m.Exists(numbered(1)) || m.Length() != 2 {
		t.Errorf("%d keys: %v", m.Length(), m.Err())
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	ephemeral, err := txmap.Open[hash](rt, codec{}, txmap.WithDirs(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := ephemeral.Sync(t.Context()); err == nil {
		t.Error("an ephemeral map says that it is durable")
	}
	if err := ephemeral.Close(); err != nil {
		t.Fatal(err)
	}
}

// What was acknowledged is there after a kill: the files, ring included, as they are at a moment
// are what a killed process leaves.
func TestProcessMapLosesNothing(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	rt, dir, ringDir := openRuntime(t), t.TempDir(), t.TempDir()
	open := func(dir string, options ...txmap.Option) *txmap.DiskTxMap[hash, *inpoints] {
		options = append(options, txmap.WithDirs(dir), txmap.WithName("pool"),
			txmap.WithProcessDurability(true), txmap.WithSyncOnSeal(true),
			txmap.WithTail(1<<20))
		m, err := txmap.Open[hash](rt, codec{}, options...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := open(dir)
	for i := range 100 {
		if _, inserted, err := m.SetIfNotExistsErr(numbered(i), valueOf(i, 1)); !inserted {
			t.Fatal(err)
		}
	}
	if !m.Delete(numbered(7)) {
		t.Fatal(m.Err())
	}
	killed := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := open(killed, txmap.WithRingDir(ringDir))
	for i := range 100 {
		if again.Exists(numbered(i)) != (i != 7) {
			t.Errorf("key %d: %v", i, again.Err())
		}
	}
	rings, err := filepath.Glob(filepath.Join(ringDir, "RING-*"))
	if len(rings) != 1 {
		t.Errorf("rings %v: %v", rings, err)
	}
	for _, m := range []*txmap.DiskTxMap[hash, *inpoints]{m, again} {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if rings, _ = filepath.Glob(filepath.Join(ringDir, "RING-*")); len(rings) != 0 {
		t.Errorf("a closed map leaves %v", rings)
	}
	_, err = txmap.Open[hash](rt, codec{}, txmap.WithDirs(dir), txmap.WithRingDir(ringDir))
	if err == nil || !strings.Contains(err.Error(), "txMapRingDir") {
		t.Errorf("a ring for an ephemeral map: %v", err)
	}
}
