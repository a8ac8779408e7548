package blocktier_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/settings"
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

func needsLibrary(t *testing.T) {
	t.Helper()
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
}

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

func TestWithoutTheLibraryOpenSaysWhatIsMissing(t *testing.T) {
	if ffi.Available() == nil {
		t.Skip("this build has the library; the build without cgo runs this test")
	}
	_, err := blocktier.Open()
	if !errors.Is(err, blocktier.ErrUnsupported) || !strings.Contains(err.Error(),
		"to use the Go heap") {
		t.Fatal(err)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for name, option := range map[string]blocktier.Option{
		"key":   blocktier.WithSetting("memoryBudgets", "1G"),
		"value": blocktier.WithSetting("directIo", "maybe"),
		"whole": blocktier.WithSettings(settings.Settings{MemoryBudget: "much"}),
	} {
		if _, err := blocktier.Open(option); !errors.Is(err, blocktier.ErrSetting) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenStatsCloseTwice(t *testing.T) {
	needsLibrary(t)
	rt, err := blocktier.Open(blocktier.WithMemoryBudget(64 << 20))
	if err != nil {
		t.Fatal(err)
	}
	stats, err := rt.Stats()
	if err != nil || stats.MemoryLimitBytes != 64<<20 {
		t.Errorf("%+v, %v", stats, err)
	}
	if disks, err := rt.Disks(); err != nil || len(disks) != 0 {
		t.Errorf("%v, %v", disks, err)
	}
	for range 2 {
		if err := rt.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rt.Stats(); !errors.Is(err, blocktier.ErrClosed) {
		t.Errorf("stats of a closed runtime: %v", err)
	}
	if blocktier.Version() == "" || blocktier.BuildID() == "" {
		t.Error("no version or build id")
	}
}

// TestAMapOutlivesItsRuntime: what was made from a runtime keeps what it needs, and its traffic
// shows per directory.
func TestAMapOutlivesItsRuntime(t *testing.T) {
	needsLibrary(t)
	rt, err := blocktier.Open()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m, err := txmap.Open[[32]byte](rt, txmap.TxInpointsCodec[[32]byte]{}, txmap.WithDirs(dir))
	if err != nil {
		t.Fatal(err)
	}
	m.Set([32]byte{1}, &txmap.TxInpoints[[32]byte]{})
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	disks, err := rt.Disks()
	if err != nil || len(disks) != 1 || disks[0].Path != dir || disks[0].BytesWritten == 0 {
		t.Errorf("disks %+v, %v", disks, err)
	}
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	m.Set([32]byte{2}, &txmap.TxInpoints[[32]byte]{})
	if !m.Exists([32]byte{1}) || m.Length() != 2 {
		t.Errorf("the map died with its runtime: %v", m.Err())
	}
	if err := errors.Join(m.Err(), m.Close()); err != nil {
		t.Error(err)
	}
}

func TestForgottenRuntimeIsFreedAndReported(t *testing.T) {
	needsLibrary(t)
	log := new(lockedBuffer)
	func() {
		if _, err := blocktier.Open(blocktier.WithLogger(slog.New(slog.NewTextHandler(log,
			nil)))); err != nil {
			t.Fatal(err)
		}
	}()
	for range 200 {
		runtime.GC()
		runtime.Gosched()
		if ffi.LiveHandles(ffi.RuntimeHandle) == 0 {
			break
		}
	}
	if live := ffi.LiveHandles(ffi.RuntimeHandle); live != 0 || !strings.Contains(log.String(),
		"was not closed") {
		t.Fatalf("%d runtimes live after 200 collections, log %q", live, log.String())
	}
}

func TestConcurrentUseAndClose(t *testing.T) {
	needsLibrary(t)
	for range 50 {
		rt, err := blocktier.Open()
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					if _, err := rt.Disks(); err != nil {
						if !errors.Is(err, blocktier.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	}
}

func ExampleOpen() {
	rt, err := blocktier.Open(blocktier.WithMemoryBudget(1 << 30))
	if errors.Is(err, blocktier.ErrUnsupported) {
		fmt.Println("open") // built without the library: use the heap implementations
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close()
	fmt.Println("open")
	// Output: open
}
