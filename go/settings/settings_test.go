package settings_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/blocktier/blocktier/go/settings"
)

func TestParse(t *testing.T) {
	s, err := settings.Parse("# a node\nblockassembly_txMapDirs = /a | /b\n\n" +
		"subtreeMmapDir=/c # mapped\ntxMapTail = 512M\n" +
		"txMapFlushAge = 500ms\n")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.AssemblyTxMapDirs(), []string{"/a", "/b"}) || s.ValidationMapDirs() != nil {
		t.Errorf("map directories %q and %q", s.AssemblyTxMapDirs(), s.ValidationMapDirs())
	}
	if s.AssemblySubtreeDir() != "/c" || s.ValidationSubtreeDir() != "/c" || !s.UsesDisk() {
		t.Errorf("subtree directories %q and %q", s.AssemblySubtreeDir(), s.ValidationSubtreeDir())
	}
	if got, want := s.Text(), "txMapTail = 512M\ntxMapFlushAge = 500ms\n"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	var empty settings.Settings
	if empty.UsesDisk() || empty.Text() != "" {
		t.Error("empty settings use a disk or set something")
	}
}

func TestLongNamesWin(t *testing.T) {
	s := settings.Settings{SubtreeMmapDir: "/short", BlockAssemblySubtreeMmapDir: "/long",
		TxMapDirs: []string{"/t"}, BlockDiskMapDirs: []string{"/v"}}
	if s.AssemblySubtreeDir() != "/long" || s.ValidationSubtreeDir() != "/short" {
		t.Error("subtree directories")
	}
	if s.AssemblyTxMapDirs()[0] != "/t" || s.ValidationMapDirs()[0] != "/v" {
		t.Error("map directories")
	}
}

func TestErrorsNameLineKeyAndRemedy(t *testing.T) {
	for text, want := range map[string]string{
		"txMapTale = 1G":                  "did you mean txMapTail?",
		"blockassembly_txmapdir = /a":     "did you mean blockassembly_txMapDirs?",
		"\ntxMapTail 1G":                  "line 2",
		"txMapTail = 1X":                  "txMapTail: ",
		"txMapTail = 99999999999T":        "is not a size",
		"txMapFlushAge = soon":            "is not a duration",
		"txMapFlushAge = -1s":             "is not a duration",
		"txMapFlushAge = 1500us":          "is not a whole number of milliseconds",
		"txMapName = a/b":                 "is not a name",
		"txMapPrefault = yes":             "is not one of off, on",
		"directIo = yes":                  "is not one of auto, off",
		"txMapTail = 1G\ntxMapTail = 2G":  "was set in line 1 already",
		"txMapDirs = /a|/b|/a":            "listed twice",
		"subtreeMmapDir = /a|/b":          "takes one directory",
		"txMapExpectedEntries = a little": "txMapExpectedEntries",
	} {
		_, err := settings.Parse(text)
		if err == nil || !errors.Is(err, settings.ErrSetting) || !strings.Contains(err.Error(),
			want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

func TestEnvironmentFileAndStructAgree(t *testing.T) {
	t.Setenv("txMapDirs", "/a|/b")
	t.Setenv("txMapTail", "1G")
	fromEnvironment, err := settings.FromEnviron()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "node.conf")
	if err := os.WriteFile(path, []byte("txMapDirs = /a|/b\ntxMapTail = 1G\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile, err := settings.FromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	type nodeMaps struct {
		Dirs []string      `key:"txMapDirs"`
		Tail string        `key:"txMapTail"`
		Age  time.Duration `key:"txMapFlushAge"`
	}
	node := struct {
		Name string `key:"node_name"`
		Maps nodeMaps
	}{"x", nodeMaps{Dirs: []string{"/a", "/b"}, Tail: "1G"}}
	fromStruct, err := settings.FromStruct(&node)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []settings.Settings{fromFile, fromStruct} {
		if fmt.Sprint(other) != fmt.Sprint(fromEnvironment) {
			t.Errorf("%v, want %v", other, fromEnvironment)
		}
	}
	if _, err := settings.FromStruct("text"); !errors.Is(err, settings.ErrSetting) {
		t.Errorf("a string is no struct: %v", err)
	}
	t.Setenv("txMapTail", "huge")
	if _, err := settings.FromEnviron(); !errors.Is(err, settings.ErrSetting) {
		t.Errorf("environment: %v", err)
	}
}

// Go writes a minute as 1m0s, which the library does not read.
func TestDurationsReachTheLibraryInOneUnit(t *testing.T) {
	for given, want := range map[string]string{"1m0s": "60000ms", "1.5s": "1500ms", "0": "0ms",
		"1h": "3600000ms", "500ms": "500ms"} {
		var s settings.Settings
		if err := s.Set("txMapFlushAge", given); err != nil {
			t.Fatal(err)
		}
		if got := s.Text(); got != "txMapFlushAge = "+want+"\n" {
			t.Errorf("%s: %q, want %s", given, got, want)
		}
	}
	node := struct {
		Timeout time.Duration `key:"txMapWriteTimeout"`
	}{90 * time.Second}
	s, err := settings.FromStruct(node)
	if want := "txMapWriteTimeout = 90000ms\n"; err != nil || s.Text() != want {
		t.Errorf("%q, %v; want %q", s.Text(), err, want)
	}
}

func TestNames(t *testing.T) {
	var s settings.Settings
	for name, good := range map[string]bool{"": true, "assembly-2.map_A": true,
		strings.Repeat("x", 64): true, strings.Repeat("x", 65): false, "a b": false, "a/b": false,
		"caf\u00e9": false} {
		if err := s.Set("txMapName", name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "4096": 4096, "64K": 64 << 10, "2g": 2 << 30,
		"1T": 1 << 40} {
		if got, err := settings.ParseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "K", "-1", "1.5G", "1GB", "18446744073709551615K"} {
		if got, err := settings.ParseSize(text); err == nil {
			t.Errorf("%s: %d", text, got)
		}
	}
}

func ExampleParse() {
	s, err := settings.Parse("txMapDirs = /disk1|/disk2\ntxMapTail = 2G")
	fmt.Println(s.AssemblyTxMapDirs(), s.TxMapTail, err)
	_, err = settings.Parse("txMapDir = /disk1")
	fmt.Println(err)
	// Output:
	// [/disk1 /disk2] 2G <nil>
	// line 1: bad setting: txMapDir is not known; did you mean txMapDirs?
}

// The one directory of the library's own goes to it with the other keys.
func TestRingDirectoryIsTheLibrarys(t *testing.T) {
	s, err := settings.Parse("txMapRingDir = /dev/shm/pool\ntxMapDurability = process")
	want := "txMapDurability = process\ntxMapRingDir = /dev/shm/pool\n"
	if err != nil || s.Text() != want {
		t.Errorf("%q, %v; want %q", s.Text(), err, want)
	}
	if err := new(settings.Settings).Set("txMapRingDir", "/a|/b"); err == nil {
		t.Error("two directories for one ring")
	}
}
