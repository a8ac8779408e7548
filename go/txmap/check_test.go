package txmap_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/settings"
	"github.com/blocktier/blocktier/go/txmap"
)

const checked = 50

func durable(dirs ...string) []txmap.Option {
	return []txmap.Option{txmap.WithDirs(dirs...), txmap.WithTail(256 << 10),
		txmap.WithBlock(16 << 10), txmap.WithSegment(64 << 10), txmap.WithName("pool"),
		txmap.WithDurability(true)}
}

// durableDir is a directory with a durable map of some entries that nobody has open.
func durableDir(t *testing.T) string {
	t.Helper()
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	m, err := txmap.Open[hash](openRuntime(t), codec{}, durable(dir)...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range checked {
		m.Set(numbered(i), valueOf(i, 1))
	}
	if err := errors.Join(m.Err(), m.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// flip changes a bit of a file of the map.
func flip(t *testing.T, dir, name string, at int) string {
	t.Helper()
	path := filepath.Join(dir, "blocktier-store-pool", name)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file[at] ^= 4
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVerifyFindsAndRepairMends(t *testing.T) {
	dir := durableDir(t)
	dirs, ctx := []string{dir}, t.Context()
	calls := 0
	r, err := txmap.Verify(ctx, dirs, txmap.CheckOptions{Name: "pool", MemoryBytes: 1 << 20,
		Progress: func(done, total uint64) { calls++ }})
	if err != nil || len(r.Findings) != 0 || r.Worst != txmap.Harmless || r.Totals.Live != checked {
		t.Fatalf("%+v %v", r, err)
	}
	if calls == 0 {
		t.Error("no progress was told")
	}
	path := flip(t, dir, "000-0000-00000000.seg", 4096+50)
	flip(t, dir, "MANIFEST", 100)
	if r, err = txmap.Verify(ctx, dirs, txmap.CheckOptions{}); err != nil || len(r.Findings) != 2 {
		t.Fatalf("%+v %v", r, err)
	}
	damage := r.Findings[1]
	if damage.Path != path || damage.Offset != 4096 || damage.Kind != "record-damaged" ||
		damage.Meaning != txmap.Lost || !strings.Contains(damage.Text, "checksum") {
		t.Errorf("%+v", damage)
	}
	plan, err := txmap.Repair(ctx, dirs, txmap.RepairOptions{})
	if err != nil || len(plan.Steps) != 2 || plan.Done != 0 || len(plan.Losses) != 1 ||
		plan.Losses[0].Keys != 1 || plan.Steps[0].Action != "rewrite-segment" {
		t.Fatalf("%+v %v", plan, err)
	}
	refused, err := txmap.Repair(ctx, dirs, txmap.RepairOptions{Apply: true})
	if err != nil || !refused.NeedsConsent || refused.Done != 0 {
		t.Fatalf("%+v %v", refused, err)
	}
	done, err := txmap.Repair(ctx, dirs, txmap.RepairOptions{Apply: true, AcceptLoss: true})
	if err != nil || done.NeedsConsent || done.Done != 2 {
		t.Fatalf("%+v %v", done, err)
	}
	m := openMap(t, openRuntime(t), durable(dir)...)
	for i := range checked {
		want := valueOf(i, 1)
		want.SubtreeIndex = 0 // does not survive
		if got, found := m.Get(numbered(i)); found != (i != 0) || found && !same(t, got, want) {
			t.Errorf("entry %d: %v %v", i, got, found)
		}
	}
	if _, err := txmap.Verify(ctx, dirs, txmap.CheckOptions{}); !errors.Is(err,
		blocktier.ErrLocked) || !strings.Contains(err.Error(), "transaction map, pid") {
		t.Errorf("a map that is open: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	ctx := t.Context()
	for _, dirs := range [][]string{nil, {t.TempDir()}, {"a\nb"}} {
		if _, err := txmap.Verify(ctx, dirs, txmap.CheckOptions{}); !errors.Is(err,
			blocktier.ErrInvalidArgument) {
			t.Errorf("%q: %v", dirs, err)
		}
	}
	missing := filepath.Join(t.TempDir(), "no")
	if _, err := txmap.Verify(ctx, []string{missing}, txmap.CheckOptions{}); !errors.Is(err,
		blocktier.ErrIO) || !strings.Contains(err.Error(), missing) {
		t.Errorf("%v", err)
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	dir := durableDir(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	r, err := txmap.Verify(ctx, []string{dir}, txmap.CheckOptions{})
	// It may have been faster than the news.
	if err == nil && r.Totals.Live == checked {
		return
	}
	if !errors.Is(err, why) || r == nil || !r.Interrupted {
		t.Errorf("%+v %v", r, err)
	}
}

// checkTuning changes settings of a map whose compaction is behind; in the end writes wait for it.
func checkTuning(t *testing.T, m *txmap.DiskTxMap[hash, *inpoints]) {
	t.Helper()
	state := func() txmap.Backpressure {
		t.Helper()
		now, err := m.Backpressure()
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	for _, wrong := range []txmap.Thresholds{
		{SlowdownBytes: 2, StopBytes: 1}, {StopBytes: 1 << 60}, {MaxDelay: time.Hour},
		{MaxDelay: math.MaxInt64},
	} {
		if err := m.SetBackpressure(wrong); !errors.Is(err, blocktier.ErrSetting) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	// A delay is rounded up.
	slow := txmap.Thresholds{SlowdownBytes: 1, MaxDelay: time.Nanosecond}
	if err := m.SetBackpressure(slow); err != nil || state().Delay != time.Millisecond {
		t.Errorf("%v %+v", err, state())
	}
	if err := m.SetBackpressure(txmap.Thresholds{MaxDelay: -1}); !errors.Is(err,
		blocktier.ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
	if err := m.SetBackpressure(txmap.Thresholds{StopBytes: 1}); err != nil || !state().Stopped {
		t.Fatalf("%v %+v", err, state())
	}
	change := func(s settings.Settings) error { return m.SetCompaction(s) }
	if err := change(settings.Settings{TxMapCompactionMinWidth: "1"}); !errors.Is(err,
		blocktier.ErrSetting) {
		t.Errorf("%v", err)
	}
	if err := change(settings.Settings{TxMapTail: "1G"}); !errors.Is(err, blocktier.ErrSetting) {
		t.Errorf("%v", err)
	}
	// More dead bytes are allowed now than there are, so nobody waits for compaction.
	if err := change(settings.Settings{TxMapCompactionSpace: "100000"}); err != nil ||
		state().Stopped {
		t.Errorf("%v %+v", err, state())
	}
	if err := change(settings.Settings{TxMapCompactionSpace: "200"}); err != nil ||
		!state().Stopped {
		t.Errorf("%v %+v", err, state())
	}
}

func TestCompactAndBackpressure(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	// The background gets through a few records, then waits for minutes; a call does not.
	m := openMap(t, openRuntime(t),
		txmap.WithSettings(settings.Settings{TxMapCompactionRate: "64K"}),
		txmap.WithDirs(t.TempDir()), txmap.WithTail(256<<10), txmap.WithBlock(16<<10),
		txmap.WithSegment(64<<10))
	const entries, each = 10_000, 20
	for i := range entries {
		m.Set(numbered(i), valueOf(i, 1))
	}
	for i := range entries {
		if i%each != 0 {
			m.Delete(numbered(i))
		}
	}
	if err := errors.Join(m.Flush(), m.Err()); err != nil {
		t.Fatal(err)
	}
	checkTuning(t, m)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Compact(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := m.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, err := m.Backpressure(); err != nil || now != (txmap.Backpressure{}) {
		t.Errorf("%+v %v after compaction", now, err)
	}
	stats, err := m.Stats()
	if err != nil || stats.Compactions == 0 || stats.PendingCompactionBytes != 0 {
		t.Errorf("%+v %v", stats, err)
	}
	for i := 0; i < entries; i += each {
		if v, found := m.Get(numbered(i)); !found || !same(t, v, valueOf(i, 1)) {
			t.Fatalf("entry %d: %v", i, v)
		}
	}
	if m.Length() != entries/each {
		t.Errorf("%d entries", m.Length())
	}
	checkFrozen(t, m)
}

// checkFrozen wants of a map that a rotation returned that it changes nothing of the live one.
func checkFrozen(t *testing.T, m *txmap.DiskTxMap[hash, *inpoints]) {
	t.Helper()
	rotated, err := m.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	old, ok := rotated.(*txmap.DiskTxMap[hash, *inpoints])
	if !ok {
		t.Fatalf("%T", rotated)
	}
	for _, err := range []error{
		old.SetCompaction(settings.Settings{TxMapCompaction: "off"}),
		old.SetBackpressure(txmap.Thresholds{}), old.Compact(t.Context()),
	} {
		if !errors.Is(err, blocktier.ErrFrozen) {
			t.Errorf("%v", err)
		}
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
}
