package txmap_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/txmap"
)

// TestMain asserts that no test leaves a native object behind.
func TestMain(m *testing.M) {
	code := m.Run()
	for kind, name := range ffi.HandleKinds {
		if live := ffi.LiveHandles(kind); live != 0 {
			fmt.Fprintln(os.Stderr, "live handles at the end:", name, live)
			code = 1
		}
	}
	os.Exit(code)
}

type hash = [32]byte

type inpoints = txmap.TxInpoints[hash]

type codec = txmap.TxInpointsCodec[hash]

type testMap = txmap.TxMap[hash, *inpoints]

// maps are the heap's and, where the library is part of the build, one whose records mostly live on
// disk, and one in RAM.
func maps(t *testing.T) map[string]testMap {
	t.Helper()
	all := map[string]testMap{"heap": txmap.NewHeap[hash](codec{}, 0)}
	if err := ffi.Available(); err != nil {
		t.Logf("only on the heap: %v", err)
		return all
	}
	all["ram"] = openMap(t, openRuntime(t), txmap.WithDirs(t.TempDir()))
	all["disk"] = openMap(t, openRuntime(t), smallTail(t)...)
	return all
}

func smallTail(t *testing.T) []txmap.Option {
	return []txmap.Option{txmap.WithDirs(t.TempDir(), t.TempDir()), txmap.WithTail(256 << 10),
		txmap.WithBlock(16 << 10), txmap.WithSegment(1 << 20)}
}

func openRuntime(t *testing.T, options ...blocktier.Option) *blocktier.Runtime {
	t.Helper()
	rt, err := blocktier.Open(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return rt
}

func openMap(t *testing.T, rt *blocktier.Runtime, options ...txmap.Option) *txmap.DiskTxMap[hash,
	*inpoints] {
	t.Helper()
	m, err := txmap.Open[hash](rt, codec{}, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// numbered is a hash that differs for every i.
func numbered(i int) (h hash) {
	for at := range h {
		h[at] = byte(i>>(8*(at%4))) ^ byte(at*37)
	}
	return h
}

// valueOf is a value of varying length; version tells overwritten ones apart.
func valueOf(i, version int) *inpoints {
	v := &inpoints{SubtreeIndex: int16(i % 5)}
	for parent := range 1 + i%3 {
		for output := range 1 + (i+parent)%4 {
			v.Add(numbered(1000+parent), uint32(version*10+output))
		}
	}
	return v
}

func encode(t *testing.T, v *inpoints) []byte {
	t.Helper()
	b, err := codec{}.AppendValue(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func same(t *testing.T, a, b *inpoints) bool {
	t.Helper()
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(encode(t, a), encode(t, b)) && a.SubtreeIndex == b.SubtreeIndex
}

// lockedBuffer takes log output from any goroutine.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// collect forces collections until the condition holds.
func collect(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for range 200 {
		runtime.GC()
		runtime.Gosched()
		if condition() {
			return
		}
	}
	t.Fatalf("%s did not happen after 200 collections", what)
}
