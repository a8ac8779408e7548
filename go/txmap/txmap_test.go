package txmap_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/settings"
	"github.com/blocktier/blocktier/go/txmap"
)

// TestAgainstAGoMap drives every implementation and a plain map through the same random history of
// all operations.
func TestAgainstAGoMap(t *testing.T) {
	for name, m := range maps(t) {
		t.Run(name, func(t *testing.T) {
			h := &history{t: t, m: m, model: map[hash]*inpoints{},
				random: rand.New(rand.NewPCG(3, 4))}
			for range 3000 {
				h.step()
			}
			if err := m.Flush(); err != nil {
				t.Fatal(err)
			}
			h.compareAll()
			m.Clear()
			clear(h.model)
			h.compareAll()
			for range 200 {
				h.step()
			}
			h.compareAll()
			if err := m.Err(); err != nil {
				t.Fatal(err)
			}
			if stats, err := m.Stats(); name == "disk" && (err != nil || stats.FileReads == 0 ||
				stats.DiskWaits == 0) {
				t.Fatalf("nothing was read from disk: %+v, %v", stats, err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

const historyKeys = 6000

type history struct {
	t       *testing.T
	m       testMap
	model   map[hash]*inpoints
	random  *rand.Rand
	version int
}

func (h *history) key() int { return h.random.IntN(historyKeys) }

func (h *history) fresh(key int) *inpoints {
	h.version++
	return valueOf(key, h.version)
}

func (h *history) step() {
	key := h.key()
	k, want := numbered(key), h.model[numbered(key)]
	switch h.random.IntN(12) {
	case 0, 1:
		v := h.fresh(key)
		got, inserted := h.m.SetIfNotExists(k, v)
		if inserted != (want == nil) || want != nil && !same(h.t, got, want) {
			h.t.Fatalf("SetIfNotExists of %d: inserted %v, present %v", key, inserted, want)
		}
		if want == nil {
			h.model[k] = v
		}
	case 2:
		v := h.fresh(key)
		h.m.Set(k, v)
		h.model[k] = v
	case 3:
		if got, found := h.m.Get(k); found != (want != nil) || !same(h.t, got, want) {
			h.t.Fatalf("Get of %d: %v, want %v", key, got, want)
		}
	case 4:
		if h.m.Exists(k) != (want != nil) {
			h.t.Fatalf("Exists of %d", key)
		}
	case 5:
		if h.m.Delete(k) != (want != nil) {
			h.t.Fatalf("Delete of %d", key)
		}
		delete(h.model, k)
	case 6:
		index := int16(h.random.IntN(100) - 1)
		h.m.UpdateSubtreeIndex(k, index)
		h.index(k, index)
	default:
		h.batch()
	}
}

// index changes the model's copy; values that a map was given are left alone.
func (h *history) index(k hash, index int16) {
	if v := h.model[k]; v != nil {
		h.model[k] = codec{}.CloneValue(v)
		h.model[k].SubtreeIndex = index
	}
}

func (h *history) batch() {
	n := h.random.IntN(64)
	keys, values := make([]hash, n), make([]*inpoints, n)
	for i := range keys {
		key := h.key()
		keys[i], values[i] = numbered(key), h.fresh(key)
	}
	results := make([]bool, n)
	want := 0
	var got int
	var err error
	switch h.random.IntN(6) {
	case 0:
		got, err = h.m.SetIfNotExistsBatch(keys, values, results)
		for i, k := range keys {
			if (h.model[k] == nil) != results[i] {
				h.t.Fatalf("item %d of a batch: inserted %v", i, results[i])
			}
			if results[i] {
				h.model[k] = values[i]
				want++
			}
		}
	case 1:
		err = h.m.SetBatch(keys, values)
		for i, k := range keys {
			h.model[k] = values[i]
		}
	case 2:
		h.compare(keys)
	case 3:
		got, err = h.m.DeleteBatch(keys, results)
		for i, k := range keys {
			if (h.model[k] != nil) != results[i] {
				h.t.Fatalf("item %d of a batch: removed %v", i, results[i])
			}
			if results[i] {
				want++
			}
			delete(h.model, k)
		}
	case 4:
		index := int16(h.random.IntN(100))
		got, err = h.m.UpdateSubtreeIndexBatch(keys, index)
		for _, k := range keys {
			if h.model[k] != nil {
				want++
			}
			h.index(k, index)
		}
	case 5:
		got, err = h.m.ExistsBatch(keys, results)
		for i, k := range keys {
			if (h.model[k] != nil) != results[i] {
				h.t.Fatalf("item %d of a batch: exists %v", i, results[i])
			}
			if results[i] {
				want++
			}
		}
	}
	if err != nil || got != want {
		h.t.Fatalf("a batch of %d: %d, want %d, %v", n, got, want, err)
	}
}

func (h *history) compareAll() {
	if h.m.Length() != len(h.model) {
		h.t.Fatalf("length %d, want %d", h.m.Length(), len(h.model))
	}
	keys := make([]hash, historyKeys)
	for i := range keys {
		keys[i] = numbered(i)
	}
	h.compare(keys)
}

// compare reads the keys as values and raw.
func (h *history) compare(keys []hash) {
	values, found := make([]*inpoints, len(keys)), make([]bool, len(keys))
	if _, err := h.m.GetBatch(keys, values, found); err != nil {
		h.t.Fatal(err)
	}
	var raw txmap.RawBatch[hash]
	for _, k := range keys {
		raw.AddKey(k)
	}
	there, err := h.m.GetRaw(&raw)
	if err != nil {
		h.t.Fatal(err)
	}
	indexes, indexed := make([]int16, len(keys)), make([]bool, len(keys))
	for i := range indexes {
		indexes[i] = -7 // of an earlier use
	}
	if count, err := h.m.SubtreeIndexBatch(keys, indexes, indexed); err != nil || count != there {
		h.t.Fatalf("SubtreeIndexBatch: %d, want %d, %v", count, there, err)
	}
	for i, k := range keys {
		want := h.model[k]
		if found[i] != (want != nil) || !same(h.t, values[i], want) {
			h.t.Fatalf("item %d of GetBatch: %v, want %v", i, values[i], want)
		}
		index := int16(0)
		if want != nil {
			index = want.SubtreeIndex
		}
		if indexed[i] != (want != nil) || indexes[i] != index {
			h.t.Fatalf("item %d of SubtreeIndexBatch: %d, %v", i, indexes[i], indexed[i])
		}
		if (raw.States[i] == txmap.StatePresent) != (want != nil) {
			h.t.Fatalf("item %d of GetRaw: state %d", i, raw.States[i])
		}
		if want != nil && (string(raw.Value(i)) != string(encode(h.t, want)) ||
			raw.SubtreeIndexes[i] != want.SubtreeIndex) {
			h.t.Fatalf("item %d of GetRaw: %x", i, raw.Value(i))
		}
	}
}

func TestABatchWithDuplicatesKeepsTheFirst(t *testing.T) {
	for name, m := range maps(t) {
		keys := []hash{numbered(1), numbered(2), numbered(1)}
		values := []*inpoints{valueOf(1, 1), valueOf(2, 1), valueOf(1, 2)}
		inserted := make([]bool, 3)
		count, err := m.SetIfNotExistsBatch(keys, values, inserted)
		if err != nil || count != 2 || !inserted[0] || !inserted[1] || inserted[2] {
			t.Errorf("%s: %d %v %v", name, count, inserted, err)
		}
		if got, _ := m.Get(keys[0]); !same(t, got, values[0]) {
			t.Errorf("%s: the later value is there", name)
		}
	}
}

func TestRawBatchOfBadShapeIsRefused(t *testing.T) {
	for name, m := range maps(t) {
		var batch txmap.RawBatch[hash]
		batch.Add(numbered(1), encode(t, valueOf(1, 1)), 0)
		for _, spoil := range []func(b *txmap.RawBatch[hash]){
			func(b *txmap.RawBatch[hash]) { b.Offsets[1]++ },
			func(b *txmap.RawBatch[hash]) { b.Offsets[0] = 5; b.Offsets[1] = 4 },
			func(b *txmap.RawBatch[hash]) { b.Offsets = b.Offsets[:1] },
			func(b *txmap.RawBatch[hash]) { b.SubtreeIndexes = nil },
		} {
			bad := txmap.RawBatch[hash]{Keys: batch.Keys, Values: batch.Values,
				SubtreeIndexes: batch.SubtreeIndexes, Offsets: append([]uint64(nil),
					batch.Offsets...)}
			spoil(&bad)
			if _, err := m.SetIfNotExistsRaw(&bad); !errors.Is(err, blocktier.ErrInvalidArgument) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := m.SubtreeIndexBatch(make([]hash, 2), make([]int16, 1),
			make([]bool, 2)); !errors.Is(err, blocktier.ErrInvalidArgument) {
			t.Errorf("%s: fewer indexes than hashes: %v", name, err)
		}
		if _, err := m.GetBatch(make([]hash, 2), nil, nil); !errors.Is(err,
			blocktier.ErrInvalidArgument) {
			t.Errorf("%s: lengths: %v", name, err)
		}
		if _, err := m.UpdateSubtreeIndexKeys(make([]byte, 47), 48, 1); !errors.Is(err,
			blocktier.ErrInvalidArgument) {
			t.Errorf("%s: stride: %v", name, err)
		}
	}
}

func TestUseAfterCloseIsAnError(t *testing.T) {
	for name, m := range maps(t) {
		for range 2 {
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
		k, v := numbered(1), valueOf(1, 1)
		if m.Exists(k) || !errors.Is(m.TakeErr(), blocktier.ErrClosed) || m.TakeErr() != nil {
			t.Errorf("%s: Exists leaves no error, or TakeErr does not take it", name)
		}
		if _, inserted := m.SetIfNotExists(k, v); inserted || !errors.Is(m.TakeErr(),
			blocktier.ErrClosed) {
			t.Errorf("%s: SetIfNotExists leaves no error", name)
		}
		m.Set(k, v)
		if m.Length() != 0 || !errors.Is(m.Err(), blocktier.ErrClosed) {
			t.Errorf("%s: Set leaves no error", name)
		}
		_, _, get := m.GetWithErr(k)
		_, exists := m.ExistsErr(k)
		_, _, insert := m.SetIfNotExistsErr(k, v)
		_, remove := m.DeleteErr(k)
		_, batch := m.SetIfNotExistsBatch([]hash{k}, []*inpoints{v}, nil)
		_, read := m.GetBatch([]hash{k}, make([]*inpoints, 1), make([]bool, 1))
		_, update := m.UpdateSubtreeIndexBatch([]hash{k}, 1)
		_, indexes := m.SubtreeIndexBatch([]hash{k}, make([]int16, 1), make([]bool, 1))
		_, stats := m.Stats()
		for i, err := range []error{get, exists, insert, remove, batch, read, update, indexes, stats,
			m.SetErr(k, v), m.Flush()} {
			if !errors.Is(err, blocktier.ErrClosed) {
				t.Errorf("%s: call %d on a closed map: %v", name, i, err)
			}
		}
	}
}

func TestAValueThatCannotBeEncodedIsNotInserted(t *testing.T) {
	for name, m := range maps(t) {
		if name == "heap" {
			continue // keeps values as they are
		}
		bad := &inpoints{ParentTxHashes: make([]hash, 1)}
		if _, inserted := m.SetIfNotExists(numbered(1), bad); inserted || m.Exists(numbered(1)) ||
			m.TakeErr() == nil {
			t.Errorf("%s: inserted", name)
		}
		if _, err := m.SetIfNotExistsBatch([]hash{numbered(1)}, []*inpoints{nil},
			nil); err == nil || m.Length() != 0 {
			t.Errorf("%s: nil inserted by a batch: %v", name, err)
		}
	}
}

func TestLargeAndEmptyValues(t *testing.T) {
	for name, m := range maps(t) {
		large := &inpoints{}
		for i := range 30_000 {
			large.Add(numbered(7), uint32(i))
		}
		for key, v := range map[int]*inpoints{1: large, 2: {}} {
			if _, inserted, err := m.SetIfNotExistsErr(numbered(key), v); !inserted || err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, inserted, err := m.SetIfNotExistsErr(numbered(key), &inpoints{})
			if inserted || err != nil || !same(t, got, v) {
				t.Errorf("%s: the value that is there, %d inputs: %v", name, v.Inputs(), err)
			}
			if got, _ := m.Get(numbered(key)); !same(t, got, v) {
				t.Errorf("%s: value of %d inputs", name, v.Inputs())
			}
		}
		if err := m.Err(); err != nil {
			t.Error(err)
		}
	}
}

// TestEachKeyIsInsertedOnce: many goroutines insert the same keys; exactly one wins each, all see
// the winner's value.
func TestEachKeyIsInsertedOnce(t *testing.T) {
	const keys, goroutines = 4000, 8
	for name, m := range maps(t) {
		var wins [keys]atomic.Int32
		var winner [keys]atomic.Int32
		var all sync.WaitGroup
		for g := range goroutines {
			all.Go(func() {
				for i := range keys {
					v := &inpoints{}
					v.Add(numbered(i), uint32(g))
					present, inserted := m.SetIfNotExists(numbered(i), v)
					if inserted {
						wins[i].Add(1)
						winner[i].Store(int32(g))
					}
					if present == nil {
						t.Errorf("%s: no value: %v", name, m.Err())
						return
					}
				}
			})
		}
		all.Wait()
		for i := range keys {
			got, found := m.Get(numbered(i))
			if wins[i].Load() != 1 || !found || got.Idxs[0][0] != uint32(winner[i].Load()) {
				t.Fatalf("%s: key %d was inserted %d times", name, i, wins[i].Load())
			}
		}
		if m.Length() != keys || m.Err() != nil {
			t.Fatalf("%s: %d keys, %v", name, m.Length(), m.Err())
		}
	}
}

// TestCloseUnderLoad: calls that run when the map is closed end with ErrClosed or have their
// effect; nothing crashes.
func TestCloseUnderLoad(t *testing.T) {
	for name, m := range maps(t) {
		var all sync.WaitGroup
		started := make(chan struct{}, 4)
		for g := range 4 {
			all.Go(func() {
				for i := 0; ; i++ {
					_, _, err := m.SetIfNotExistsErr(numbered(g*1_000_000+i), valueOf(i, 1))
					if i == 100 {
						started <- struct{}{}
					}
					if err != nil {
						if !errors.Is(err, blocktier.ErrClosed) {
							t.Errorf("%s: %v", name, err)
						}
						return
					}
				}
			})
		}
		for range 4 {
			<-started
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	}
}

func TestForgottenMapIsFreedAndReported(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	log := new(lockedBuffer)
	rt := openRuntime(t, blocktier.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	dir := t.TempDir()
	func() {
		m, err := txmap.Open[hash](rt, codec{}, txmap.WithDirs(dir))
		if err != nil {
			t.Fatal(err)
		}
		m.InContext(t.Context()).Set(numbered(1), valueOf(1, 1))
	}()
	collect(t, "freeing a forgotten map",
		func() bool { return ffi.LiveHandles(ffi.TxMapHandle) == 0 })
	if !strings.Contains(log.String(), "was not closed") {
		t.Errorf("no report: %q", log.String())
	}
}

func TestOpenErrorsSayWhatToDo(t *testing.T) {
	s := settings.Settings{TxMapDirs: []string{t.TempDir()}}
	if ffi.Available() != nil {
		if _, err := txmap.New[hash](nil, s, codec{}); !errors.Is(err, blocktier.ErrUnsupported) {
			t.Errorf("without the library: %v", err)
		}
		return
	}
	if m, err := txmap.New[hash](nil, s, codec{}); !errors.Is(err, blocktier.ErrInvalidArgument) ||
		m != nil {
		t.Errorf("without a runtime: %v, %v", m, err)
	}
	rt := openRuntime(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]txmap.Option{
		"no directory": nil,
		"missing":      {txmap.WithDirs(filepath.Join(t.TempDir(), "missing"))},
		"a file":       {txmap.WithDirs(file)},
		"odd name":     {txmap.WithDirs("a|b")},
		"tail":         {txmap.WithDirs(t.TempDir()), txmap.WithTail(1)},
		"segment":      {txmap.WithDirs(t.TempDir()), txmap.WithSegment(12345)},
	} {
		m, err := txmap.Open[hash](rt, codec{}, options...)
		var failure *blocktier.Error
		if m != nil || !errors.As(err, &failure) || failure.Text == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCanceledContextEndsWaiting: a call that must go to the disk returns the context's cause
// instead.
func TestCanceledContextEndsWaiting(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	m := openMap(t, openRuntime(t), smallTail(t)...)
	for i := range 20_000 {
		if err := m.SetErr(numbered(i), valueOf(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	// The disk's slots may be free, so that some calls succeed; in RAM they all do.
	canceled := 0
	for i := range 1000 {
		_, _, err := m.InContext(ctx).GetWithErr(numbered(i))
		if err != nil && !errors.Is(err, why) {
			t.Fatal(err)
		}
		if err != nil {
			canceled++
		}
	}
	if canceled == 0 {
		t.Error("no call noticed the context")
	}
	if v, found, err := m.GetWithErr(numbered(0)); !found || err != nil || !same(t, v,
		valueOf(0, 1)) {
		t.Errorf("the map itself: %v", err)
	}
	deadline, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := m.FlushContext(deadline); err != nil {
		t.Error(err)
	}
}
