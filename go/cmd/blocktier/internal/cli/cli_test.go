package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/golden"
)

// TestMain lets this binary stand in for the command that the demo starts for each engine.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "measure" {
		if err := Command().ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// execute runs a command and returns what it printed.
func execute(ctx context.Context, arguments ...string) (string, error) {
	c := Command()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(arguments)
	err := c.ExecuteContext(ctx)
	return out.String(), err
}

func entries(t *testing.T, directory string) []string {
	t.Helper()
	list, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestAssembleThenValidate(t *testing.T) {
	data, out := golden.Dir(t), t.TempDir()
	text, err := execute(t.Context(), "assemble", "--heap", "--json", "--leaves", "64",
		"--out", out, "--fees", filepath.Join(data, "expected", "block-277647.json"),
		filepath.Join(data, "blocks", "block-277647.bin"))
	if err != nil {
		t.Fatal(err, text)
	}
	var result struct {
		Blocks []struct {
			Hash     string `json:"hash"`
			Verified bool   `json:"verified"`
			Subtrees []struct {
				Root string `json:"root"`
				Fees uint64 `json:"fees"`
			} `json:"subtrees"`
		} `json:"blocks"`
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		t.Fatal(err)
	}
	want := golden.Load[golden.Block](t, "expected/block-277647.json")
	b := result.Blocks[0]
	fees := uint64(0)
	for _, s := range b.Subtrees {
		fees += s.Fees
	}
	if b.Hash != want.Hash || !b.Verified || len(b.Subtrees) != 4 || fees != 4_737_355 {
		t.Errorf("%s", text)
	}
	if n := len(entries(t, out)); n != 9 {
		t.Errorf("%d files, want 4 subtrees, 4 of inpoints and the block", n)
	}
	block := filepath.Join(out, want.Hash+".block")
	if text, err = execute(t.Context(), "validate", "--heap", block); err != nil ||
		!strings.HasPrefix(text, "valid: 213 transactions, 732 inputs") {
		t.Errorf("%s %v", text, err)
	}
	path := filepath.Join(out, b.Subtrees[1].Root+".subtree")
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file[64] ^= 1
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err = execute(t.Context(), "validate", "--heap", block)
	if !errors.Is(err, ErrRefused) || !strings.Contains(text, "root: subtree 1: its leaves give") ||
		!strings.Contains(text, "REFUSED") {
		t.Errorf("%s %v", text, err)
	}
}

func TestValidateRecords(t *testing.T) {
	data := filepath.Join(golden.Dir(t), "doublespend")
	text, err := execute(t.Context(), "validate", filepath.Join(data, "clean.rec"))
	if err != nil || !strings.HasPrefix(text, "valid: 1356 transactions") {
		t.Errorf("%s %v", text, err)
	}
	text, err = execute(t.Context(), "validate", "--failures", "2",
		filepath.Join(data, "respend-all.rec"))
	if !errors.Is(err, ErrRefused) || strings.Count(text, "double spend: record 223") != 2 ||
		!strings.Contains(text, "and 633 more") {
		t.Errorf("%s %v", text, err)
	}
}

func TestChainAndNodeBlock(t *testing.T) {
	data := golden.Dir(t)
	text, err := execute(t.Context(), "assemble", "--heap",
		filepath.Join(data, "blocks", "chain-0-9999.dat"))
	if err != nil || !strings.Contains(text, "10000 blocks, 10092 transactions") {
		t.Errorf("%s %v", text, err)
	}
	files, err := filepath.Glob(filepath.Join(data, "subtrees", "b171-*.subtreeData"))
	if err != nil {
		t.Fatal(err)
	}
	text, err = execute(t.Context(), "assemble", "--heap", "--leaves", "32", "--data",
		strings.Join(files, ","), filepath.Join(data, "subtrees", "teranode-block-171.block"))
	if err != nil || !strings.Contains(text, "1024 transactions, 1023 inputs, 32 subtrees") {
		t.Errorf("%s %v", text, err)
	}
}

func TestWorkloadFiles(t *testing.T) {
	out := t.TempDir()
	prefix := filepath.Join(out, "w")
	text, err := execute(t.Context(), "workload", "--txs", "30000", "--heavy", "1000",
		"--out", prefix)
	if err != nil || !strings.HasPrefix(text, "30000 records") {
		t.Fatal(text, err)
	}
	if n := len(entries(t, out)); n != 4 {
		t.Errorf("files %v", entries(t, out))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	empty := t.TempDir()
	if _, err := execute(ctx, "workload", "--out", filepath.Join(empty, "w")); !errors.Is(err,
		context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left := entries(t, empty); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRefusedLeavesNothing(t *testing.T) {
	raw := golden.Read(t, "blocks/block-384189.bin")
	raw[len(raw)-1] ^= 1
	dir := t.TempDir()
	block, out := filepath.Join(dir, "b.bin"), filepath.Join(dir, "out")
	if err := os.WriteFile(block, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := execute(t.Context(), "assemble", "--heap", "--out", out, block)
	if err == nil || !strings.Contains(err.Error(), "merkle root mismatch") {
		t.Errorf("error %v", err)
	}
	if left := entries(t, out); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDemo(t *testing.T) {
	arguments := []string{"demo", "--json", "--txs", "100000", "--data", golden.Dir(t), "--scratch",
		t.TempDir(), "--tail", "1M"}
	if blocktier.Version() == "" {
		if _, err := execute(t.Context(), arguments...); err == nil ||
			!strings.Contains(err.Error(), "no library") {
			t.Errorf("without the library: %v", err)
		}
		arguments = append(arguments, "--heap")
	}
	text, err := execute(t.Context(), arguments...)
	var r demoReport
	if e := json.Unmarshal([]byte(text), &r); e != nil {
		t.Fatalf("%v, %v: %s", err, e, text)
	}
	if err != nil || !r.OK || r.Real.Blocks != 10_005 || len(r.Refused) != 4 ||
		r.Heap.Duplicates < 900 {
		t.Errorf("%v %+v", err, r)
	}
	if left := entries(t, arguments[7]); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSettingsFlags(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"--heap", "--subtree-dir", "x"}, "--heap goes without directories"},
		{[]string{"--set", "txMapTial=1M"}, "did you mean txMapTail"},
		{[]string{"--set", "txMapTail"}, "not of the form key=value"},
		{[]string{"--tail", "many"}, "not a size"},
	} {
		_, err := execute(t.Context(), append([]string{"assemble", "x"}, c.arguments...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %q", c.arguments, err, c.want)
		}
	}
}
