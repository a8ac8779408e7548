package assemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/engine"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/golden"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/workload"
	"github.com/blocktier/blocktier/go/settings"
)

// onEveryEngine runs a test on the Go heap and, where the library is part of the build, on disk
// with a tail so small that records are read back from files.
func onEveryEngine(t *testing.T, test func(t *testing.T, open func(t *testing.T) *engine.Engine)) {
	t.Run("heap", func(t *testing.T) {
		test(t, func(t *testing.T) *engine.Engine { return open(t, settings.Settings{}) })
	})
	t.Run("disk", func(t *testing.T) {
		if blocktier.Version() == "" {
			t.Skip("this build has no library: no disk engine")
		}
		test(t, func(t *testing.T) *engine.Engine {
			var s settings.Settings
			dir := t.TempDir()
			for key, value := range map[string]string{
				"txMapDirs":      filepath.Join(dir, "a") + "|" + filepath.Join(dir, "b"),
				"subtreeMmapDir": filepath.Join(dir, "trees"),
				"txMapTail":      "256K", "txMapSegment": "1M",
			} {
				if err := s.Set(key, value); err != nil {
					t.Fatal(err)
				}
			}
			return open(t, s)
		})
	})
}

func open(t *testing.T, s settings.Settings) *engine.Engine {
	t.Helper()
	e, err := engine.Open(s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func assembler(t *testing.T, e *engine.Engine, change func(*Options)) *Assembler {
	t.Helper()
	o := Options{Map: e.Map, Trees: e.Trees, Leaves: 1024}
	if change != nil {
		change(&o)
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func stage(t *testing.T) *output.Stage {
	t.Helper()
	s, err := output.NewStage(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// left are the files that remain once the stage is closed.
func left(t *testing.T, s *output.Stage) []os.DirEntry {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.Directory())
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func blockOf(t *testing.T, raw []byte) *Block {
	t.Helper()
	r, err := legacy.NewBlockReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return FromLegacy(r)
}

func TestRealBlocks(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, open func(t *testing.T) *engine.Engine) {
		for _, name := range golden.BlockNames {
			want := golden.Load[golden.Block](t, "expected/"+name+".json")
			for leaves, compose := range want.Compose {
				t.Run(name+"/"+leaves, func(t *testing.T) {
					n, err := strconv.Atoi(leaves)
					if err != nil {
						t.Fatal(err)
					}
					checkRealBlock(t, open(t), name, n, &want, &compose)
				})
			}
		}
	})
}

func checkRealBlock(t *testing.T, e *engine.Engine, name string, leaves int, want *golden.Block,
	compose *golden.Compose) {
	out := stage(t)
	a := assembler(t, e, func(o *Options) {
		o.Leaves, o.Out, o.Fees, o.Plain = leaves, out, want.Fees, true
		o.Batch = MinBatch
	})
	r, err := a.Assemble(t.Context(), blockOf(t, golden.Read(t, want.File)))
	if err != nil {
		t.Fatal(err)
	}
	last := r.Subtrees[len(r.Subtrees)-1]
	if !r.Verified || r.Hash.String() != want.Hash || r.MerkleRoot.String() != want.MerkleRoot ||
		r.Txs != uint64(len(want.Txids)) || r.Size != want.FileSize || r.Height != want.Height {
		t.Errorf("%+v", r)
	}
	if len(r.Subtrees) != compose.Subtrees || last.Leaves != compose.LastLeaves ||
		r.Subtrees[0].Root.String() != compose.FirstRootWithPlaceholder {
		t.Errorf("%d subtrees, the last of %d leaves, the first %v; want %+v", len(r.Subtrees),
			last.Leaves, r.Subtrees[0].Root, compose)
	}
	if len(r.Subtrees) > 1 && last.Root.String() != compose.LastRootNatural {
		t.Errorf("last root %v, want %s", last.Root, compose.LastRootNatural)
	}
	for _, s := range r.Subtrees {
		if s.Mapped != (e.Runtime != nil && s.Leaves > 8) {
			t.Errorf("subtree %v mapped: %v", s.Root, s.Mapped)
		}
	}
	compareDerived(t, out.Directory(), name, leaves, r)
	checkSubtreeIndexes(t, e, want, leaves)
}

// compareDerived compares with the stored files of the same subtrees, where there are some.
func compareDerived(t *testing.T, directory, name string, leaves int, r *Result) {
	t.Helper()
	stored, err := filepath.Glob(filepath.Join(golden.Dir(t), "derived",
		fmt.Sprintf("%s-c%d-*.subtree*", name, leaves)))
	if err != nil || (len(stored) != 0 && len(stored) != 2*len(r.Subtrees)) {
		t.Fatalf("%d stored files for %d subtrees, %v", len(stored), len(r.Subtrees), err)
	}
	for _, path := range stored {
		base := filepath.Base(path)
		i, err := strconv.Atoi(base[strings.LastIndex(base, "-")+1 : strings.LastIndex(base, ".")])
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(directory, r.Subtrees[i].Root.String()+
			filepath.Ext(base)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, bytes.TrimPrefix(want, []byte("S-1.0   "))) {
			t.Errorf("%s differs from what was assembled", base)
		}
	}
}

func checkSubtreeIndexes(t *testing.T, e *engine.Engine, want *golden.Block, leaves int) {
	t.Helper()
	for i, id := range want.Txids {
		v, found, err := e.Map.GetWithErr(golden.Hash(t, id))
		if err != nil || !found {
			t.Fatalf("transaction %d: %v, %v", i, found, err)
		}
		if int(v.SubtreeIndex) != i/leaves+1 || v.Inputs() != len(want.Inpoints[i])/2 {
			t.Fatalf("transaction %d: subtree index %d, %d inputs", i, v.SubtreeIndex, v.Inputs())
		}
	}
	if n := e.Map.Length(); n != len(want.Txids) {
		t.Errorf("%d transactions in the map, want %d", n, len(want.Txids))
	}
}

// The 32 subtrees of block 171, whose transactions come in extended form.
func TestNodeBlock(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, open func(t *testing.T) *engine.Engine) {
		n, err := legacy.ReadNodeBlock(bytes.NewReader(
			golden.Read(t, "subtrees/teranode-block-171.block")))
		if err != nil {
			t.Fatal(err)
		}
		paths, err := filepath.Glob(filepath.Join(golden.Dir(t), "subtrees", "b171-*.subtreeData"))
		if err != nil {
			t.Fatal(err)
		}
		var data []io.Reader
		for _, p := range paths {
			data = append(data, bytes.NewReader(golden.Read(t, "subtrees/"+filepath.Base(p))))
		}
		b, err := FromNodeBlock(n, data)
		if err != nil {
			t.Fatal(err)
		}
		out := stage(t)
		a := assembler(t, open(t), func(o *Options) { o.Leaves, o.Out = 32, out })
		r, err := a.Assemble(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Verified || len(r.Subtrees) != 32 || r.Txs != 1024 || r.Height != 171 {
			t.Errorf("%+v", r)
		}
		for i, s := range r.Subtrees {
			for _, kind := range []string{".subtree", ".subtreeMeta"} {
				want := golden.Read(t, fmt.Sprintf("derived/b171-%02d%s", i, kind))
				got, err := os.ReadFile(filepath.Join(out.Directory(), s.Root.String()+kind))
				if err != nil {
					t.Fatal(err)
				}
				if kind == ".subtree" && !bytes.HasPrefix(want, []byte("S-1.0   ")) {
					got = bytes.TrimPrefix(got, []byte("S-1.0   "))
				}
				if !bytes.Equal(got, want) {
					t.Errorf("subtree %d: %s differs from what was assembled", i, kind)
				}
			}
		}
		written, err := os.ReadFile(filepath.Join(out.Directory(), r.Hash.String()+".block"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(written, golden.Read(t, "subtrees/teranode-block-171.block")) {
			t.Error("the block that was written differs from the one that was read")
		}
	})
}

func TestChain(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, open func(t *testing.T) *engine.Engine) {
		want := golden.Load[golden.Chain](t, "expected/chain-0-9999.json")
		e := open(t)
		a := assembler(t, e, nil)
		c := legacy.NewChainReader(bytes.NewReader(golden.Read(t, want.File)))
		total := 0
		for i := range want.Blocks {
			b, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			r, err := a.Assemble(t.Context(), FromLegacy(b))
			if err != nil {
				t.Fatalf("block %d: %v", i, err)
			}
			if r.Hash.String() != want.Blocks[i] || r.Txs != want.Counts[i] || !r.Verified {
				t.Fatalf("block %d: %+v", i, r)
			}
			total += int(r.Txs)
		}
		if n := e.Map.Length(); n != total {
			t.Errorf("%d transactions in the map, want %d", n, total)
		}
		// A block of the chain once more: its coinbase is known.
		again := legacy.NewChainReader(bytes.NewReader(golden.Read(t, want.File)))
		b, err := again.Next()
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Assemble(t.Context(), FromLegacy(b))
		if !errors.Is(err, ErrDuplicate) || !strings.Contains(err.Error(), "in an earlier block") {
			t.Errorf("a block twice: %v", err)
		}
	})
}

// insertTx returns a legacy block in which a copy of transaction from stands in front of
// transaction at.
func insertTx(t *testing.T, raw []byte, from, at int) []byte {
	t.Helper()
	r, err := legacy.NewBlockReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	starts := []int{legacy.HeaderSize + int(legacy.VarIntSize(r.Count))}
	var tx legacy.Tx
	for range r.Count {
		if err := r.Next(&tx); err != nil {
			t.Fatal(err)
		}
		starts = append(starts, starts[len(starts)-1]+int(tx.Size))
	}
	n := r.Count + 1
	out := slices.Clone(raw[:legacy.HeaderSize])
	if n < 0xfd {
		out = append(out, byte(n))
	} else {
		out = append(out, 0xfd, byte(n), byte(n>>8))
	}
	out = append(out, raw[starts[0]:starts[at]]...)
	out = append(out, raw[starts[from]:starts[from+1]]...)
	return append(out, raw[starts[at]:]...)
}

func TestRefused(t *testing.T) {
	odd := golden.Read(t, "blocks/block-379389.bin") // 485 transactions
	even := golden.Read(t, "blocks/block-384189.bin")
	flipped := slices.Clone(even)
	flipped[len(flipped)/2] ^= 1
	header := slices.Clone(even)
	header[40] ^= 0x10
	for _, c := range []struct {
		name  string
		bytes []byte
		want  error
		text  string
	}{
		// The merkle root is that of the header: an odd last leaf pairs with itself.
		{"last transaction twice", insertTx(t, odd, 484, 485), ErrDuplicate,
			"record 485: transaction"},
		{"a transaction twice", insertTx(t, odd, 10, 400), ErrDuplicate, "is already record 10"},
		{"twice in a row", insertTx(t, odd, 3, 4), ErrDuplicate, "record 4: transaction"},
		{"the coinbase twice", insertTx(t, odd, 0, 7), ErrCoinbase, "record 7"},
		{"one bit of a transaction", flipped, ErrRoot, "the header says"},
		{"one bit of the header's root", header, ErrRoot, "the header says"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, open func(t *testing.T) *engine.Engine) {
				for _, leaves := range []int{16, 1024} {
					out := stage(t)
					a := assembler(t, open(t), func(o *Options) { o.Leaves, o.Out = leaves, out })
					_, err := a.Assemble(t.Context(), blockOf(t, c.bytes))
					if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
						t.Errorf("error %v, want %v with %q", err, c.want, c.text)
					}
					if files := left(t, out); len(files) != 0 {
						t.Errorf("files of a refused block: %v", files)
					}
				}
			})
		})
	}
}

func TestFeesMustMatch(t *testing.T) {
	want := golden.Load[golden.Block](t, "expected/block-277647.json")
	for _, n := range []int{len(want.Fees) - 1, len(want.Fees) + 1} {
		fees := append(slices.Clone(want.Fees), 1)[:n]
		a := assembler(t, open(t, settings.Settings{}), func(o *Options) { o.Fees = fees })
		_, err := a.Assemble(t.Context(), blockOf(t, golden.Read(t, want.File)))
		if !errors.Is(err, ErrCount) {
			t.Errorf("%d fees: %v", n, err)
		}
	}
}

// Duplicates that are skipped must be exactly those that the workload made.
func TestWorkloadDuplicates(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, open func(t *testing.T) *engine.Engine) {
		o := workload.Defaults()
		o.Txs, o.BlockTxs, o.Heavy, o.DupTx = 50_000, 50_000, 3000, 0.05
		g, err := workload.New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		var truth, got []bool
		out := stage(t)
		a := assembler(t, open(t), func(opt *Options) {
			opt.SkipDuplicates, opt.Leaves, opt.Out = true, 4096, out
			opt.Decided = func(_ uint64, inserted bool) { got = append(got, inserted) }
		})
		b := FromWorkload(g, o.Txs, func(r *workload.Record) {
			truth = append(truth, !r.Duplicate)
		})
		r, err := a.Assemble(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(truth, got) || r.Duplicates != g.Summary().DuplicateRecords ||
			r.Duplicates < 2000 {
			t.Errorf("%d duplicates, want %d", r.Duplicates, g.Summary().DuplicateRecords)
		}
		leaves := uint64(0)
		for _, s := range r.Subtrees {
			leaves += uint64(s.Leaves)
		}
		if leaves != o.Txs-r.Duplicates {
			t.Errorf("%d leaves, want %d", leaves, o.Txs-r.Duplicates)
		}
	})
}

func TestCancelled(t *testing.T) {
	g, err := workload.New(workload.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithCancel(t.Context())
	out := stage(t)
	a := assembler(t, open(t, settings.Settings{}), func(o *Options) {
		o.SkipDuplicates, o.Out = true, out
		o.Progress = func(n uint64) {
			if n > 20_000 {
				cancel()
			}
		}
	})
	_, err = a.Assemble(ctx, FromWorkload(g, 0, nil))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if files := left(t, out); len(files) != 0 {
		t.Errorf("files of a cancelled block: %v", files)
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{Leaves: 0}, {Leaves: 3}, {Leaves: 4, Batch: 255},
		{Leaves: 4, Batch: 4097}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}
