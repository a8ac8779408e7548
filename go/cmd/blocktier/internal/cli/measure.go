package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/spf13/cobra"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/assemble"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/engine"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/measure"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/progress"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/workload"
	"github.com/blocktier/blocktier/go/txmap"
)

// measured is what assembling one synthetic block cost this process.
type measured struct {
	Engine     string `json:"engine"` // disk or heap
	Txs        uint64 `json:"transactions"`
	Inputs     uint64 `json:"inputs"`
	Duplicates uint64 `json:"duplicates"`
	Truth      uint64 `json:"duplicates_made"`
	Mismatches uint64 `json:"mismatches"` // records decided otherwise than the truth
	Entries    int    `json:"map_entries"`
	Subtrees   int    `json:"subtrees"`
	Root       string `json:"merkle_root"`
	FileBytes  int64  `json:"file_bytes"`
	// Seconds of assembling, of which WriteSeconds went into reading inpoints back and writing
	// files.
	Seconds      float64 `json:"seconds"`
	WriteSeconds float64 `json:"write_seconds"`
	TxsPerSec    float64 `json:"transactions_per_second"` // without writing files
	// The oldest ReadBack records were read from the map once more and compared.
	ReadBack       uint64  `json:"read_back"`
	ReadBackPerSec float64 `json:"read_back_per_second"`

	Figures measure.Figures       `json:"figures"`
	Disks   []blocktier.DiskStats `json:"disks,omitempty"`
}

// measureCommand is what the demo runs once per engine: a process of its own has its own heap,
// garbage collector and memory.
func measureCommand() *cobra.Command {
	f := new(engineFlags)
	o := workload.Defaults()
	var out string
	var leaves int
	c := &cobra.Command{
		Use:    "measure",
		Short:  "Assemble one synthetic block and print what it cost",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			e, err := f.open()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, e.Close()) }()
			o.BlockTxs = o.Txs
			m, err := measureBlock(c.Context(), e, o, leaves, out)
			if err != nil {
				return err
			}
			return printJSON(c.OutOrStdout(), m)
		},
	}
	f.register(c)
	c.Flags().Uint64Var(&o.Txs, "txs", o.Txs, "records of the block")
	c.Flags().Int64Var(&o.Seed, "seed", o.Seed, "seed of the workload")
	c.Flags().IntVar(&leaves, "leaves", 1<<16, "leaves per subtree")
	c.Flags().StringVar(&out, "out", "", "directory for the block's files")
	return c
}

func measureBlock(ctx context.Context, e *engine.Engine, o workload.Options, leaves int,
	out string) (m *measured, err error) {
	g, err := workload.New(o)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	m = &measured{Engine: "heap"}
	if e.Runtime != nil {
		m.Engine = "disk"
	}
	bar := progress.New(m.Engine+": assembling", "transactions", o.Txs)
	defer bar.Done()
	// Records come out of the generator up to a batch before they are decided.
	var pending []bool
	options := assemble.Options{Map: e.Map, Trees: e.Trees, Leaves: leaves, SkipDuplicates: true,
		Progress: bar.Set, Decided: func(_ uint64, inserted bool) {
			if inserted == pending[0] {
				m.Mismatches++
			}
			pending = pending[1:]
		}}
	if out != "" {
		stage, e := output.NewStage(out)
		if e != nil {
			return nil, e
		}
		defer func() {
			if m != nil {
				m.FileBytes = stage.Bytes()
			}
			err = errors.Join(err, stage.Close())
		}()
		options.Out = stage
	}
	a, err := assemble.New(options)
	if err != nil {
		return nil, err
	}
	meter := measure.Start()
	started := time.Now()
	r, err := a.Assemble(ctx, assemble.FromWorkload(g, o.Txs, func(r *workload.Record) {
		pending = append(pending, r.Duplicate)
	}))
	m.Seconds = time.Since(started).Seconds()
	m.Figures = meter.Stop()
	if err != nil {
		return nil, err
	}
	m.Txs, m.Inputs, m.Duplicates = r.Txs, r.Inputs, r.Duplicates
	m.Truth = g.Summary().DuplicateRecords
	m.Entries, m.Subtrees, m.Root = e.Map.Length(), len(r.Subtrees), r.MerkleRoot.String()
	m.WriteSeconds = r.Written.Seconds()
	m.TxsPerSec = float64(r.Txs) / (m.Seconds - m.WriteSeconds)
	if err := readBack(ctx, e, o, m); err != nil {
		return nil, fmt.Errorf("reading back: %w", err)
	}
	if m.Disks, err = e.Disks(); err != nil {
		return nil, err
	}
	return m, nil
}

// readBackMax is how many records are read back: the oldest, which left the tail long ago.
const readBackMax = 1 << 17

// readBack makes the oldest records once more and compares what the map has of them.
func readBack(ctx context.Context, e *engine.Engine, o workload.Options, m *measured) error {
	g, err := workload.New(o)
	if err != nil {
		return err
	}
	defer g.Close()
	var encoder assemble.Encoder
	var batch txmap.RawBatch[chainhash.Hash]
	var tx legacy.Tx
	var want []byte
	var took time.Duration
	source := assemble.FromWorkload(g, o.Txs, nil)
	for end := min(o.Txs, readBackMax); m.ReadBack < end; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		batch.Reset()
		want = want[:0]
		for ; m.ReadBack < end && batch.Len() < assemble.MaxBatch; m.ReadBack++ {
			if err := source.Next(&tx); err != nil {
				return err
			}
			batch.AddKey(tx.ID)
			want = encoder.Append(want, tx.Inputs)
		}
		started := time.Now()
		found, err := e.Map.GetRaw(&batch)
		took += time.Since(started)
		if err != nil {
			return err
		}
		if found != batch.Len() {
			return fmt.Errorf("%d of %d records are in the map", found, batch.Len())
		}
		rest := want
		for i := range found {
			value := batch.Value(i)
			if !bytes.HasPrefix(rest, value) {
				return fmt.Errorf("the inpoints of %v differ", batch.Keys[i])
			}
			rest = rest[len(value):]
		}
		if len(rest) != 0 {
			return fmt.Errorf("%d bytes of inpoints are missing", len(rest))
		}
	}
	m.ReadBackPerSec = float64(m.ReadBack) / took.Seconds()
	return nil
}

// compare prints two runs side by side.
func compare(to io.Writer, disk, heap *measured) {
	const mib = 1 << 20
	row := func(what, unit string, value func(*measured) float64, digits int) {
		fmt.Fprintf(to, "  %-48s", what+" ("+unit+")")
		for _, m := range []*measured{disk, heap} {
			if m == nil {
				fmt.Fprintf(to, "%14s", "-")
			} else {
				fmt.Fprintf(to, "%14.*f", digits, value(m))
			}
		}
		fmt.Fprintln(to)
	}
	fmt.Fprintf(to, "  %-48s%14s%14s\n", "", "off-heap", "Go heap")
	row("assembling", "s", func(m *measured) float64 { return m.Seconds - m.WriteSeconds }, 2)
	row("assembling", "transactions/s", func(m *measured) float64 { return m.TxsPerSec }, 0)
	row("writing subtrees and inpoints", "s", func(m *measured) float64 {
		return m.WriteSeconds
	}, 2)
	row("reading the oldest inpoints back", "records/s", func(m *measured) float64 {
		return m.ReadBackPerSec
	}, 0)
	row("Go heap at most", "MiB", func(m *measured) float64 {
		return float64(m.Figures.HeapPeak) / mib
	}, 1)
	row("Go heap in use at the end", "MiB", func(m *measured) float64 {
		return float64(m.Figures.HeapLive) / mib
	}, 1)
	row("garbage collector's share of CPU", "%", func(m *measured) float64 {
		return 100 * m.Figures.GCShare
	}, 2)
	row("one full garbage collection", "ms", func(m *measured) float64 {
		return 1000 * m.Figures.FullGCSeconds
	}, 1)
	row("process memory at most", "MiB", func(m *measured) float64 {
		return float64(m.Figures.ResidentPeak) / mib
	}, 1)
}
