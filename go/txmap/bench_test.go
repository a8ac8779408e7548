package txmap_test

import (
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/txmap"
)

// spread is a hash as sha256d would give: all bytes vary with i.
func spread(i int) (h hash) {
	x := uint64(i) + 1
	for at := range h {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		h[at] = byte(x >> 32)
	}
	return h
}

func benchmarkMap(b *testing.B) *txmap.DiskTxMap[hash, *inpoints] {
	b.Helper()
	if err := ffi.Available(); err != nil {
		b.Skip(err)
	}
	rt, err := blocktier.Open()
	if err != nil {
		b.Fatal(err)
	}
	m, err := txmap.Open[hash](rt, codec{}, txmap.WithDirs(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
		if err := rt.Close(); err != nil {
			b.Error(err)
		}
	})
	return m
}

// BenchmarkSetIfNotExists inserts new keys one by one.
func BenchmarkSetIfNotExists(b *testing.B) {
	m := benchmarkMap(b)
	v := &inpoints{}
	v.Add(spread(-5), 1)
	v.Add(spread(-6), 2)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, inserted := m.SetIfNotExists(spread(i), v); !inserted {
			b.Fatal(m.Err())
		}
	}
}

// BenchmarkSetIfNotExistsRaw inserts new keys in batches of 1024; one operation is one key.
func BenchmarkSetIfNotExistsRaw(b *testing.B) {
	m := benchmarkMap(b)
	value := make([]byte, 100)
	var batch txmap.RawBatch[hash]
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; {
		batch.Reset()
		for range 1024 {
			batch.Add(spread(i), value, 0)
			i++
		}
		if n, err := m.SetIfNotExistsRaw(&batch); n != 1024 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkExists asks for keys of which half are there.
func BenchmarkExists(b *testing.B) {
	m := benchmarkMap(b)
	for i := range 100_000 {
		m.Set(spread(i), &inpoints{})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Exists(spread(i % 200_000))
	}
}

// TestHotCallsDoNotAllocate holds the border to its promise.
func TestHotCallsDoNotAllocate(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	if raceEnabled {
		t.Skip("the race detector allocates; the run without it has this test")
	}
	m := openMap(t, openRuntime(t), txmap.WithDirs(t.TempDir()))
	next := 0
	var batch txmap.RawBatch[hash]
	fill := func() {
		batch.Reset()
		for range 64 {
			batch.Add(spread(next), []byte{0, 0, 0, 0}, 0)
			next++
		}
	}
	for name, call := range map[string]func(){
		"Exists":             func() { m.Exists(spread(3)) },
		"Delete":             func() { m.Delete(spread(-3)) },
		"UpdateSubtreeIndex": func() { m.UpdateSubtreeIndex(spread(3), 1) },
		"SetIfNotExistsRaw":  func() { fill(); m.SetIfNotExistsRaw(&batch) },
		"GetRaw":             func() { batch.Offsets = batch.Offsets[:0]; m.GetRaw(&batch) },
	} {
		fill()
		call()
		// Fewer than one in a call: pools and arrays grow now and then.
		if allocations := testing.AllocsPerRun(200, call); allocations >= 1 {
			t.Errorf("%s allocates %v times a call", name, allocations)
		}
	}
	if err := m.Err(); err != nil {
		t.Error(err)
	}
}
