package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/assemble"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/engine"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/measure"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/progress"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/workload"
)

// measured is what assembling one synthetic block cost this process.
type measured struct {
	Engine     string  `json:"engine"` // disk or heap
	Txs        uint64  `json:"transactions"`
	Inputs     uint64  `json:"inputs"`
	Duplicates uint64  `json:"duplicates"`
	Truth      uint64  `json:"duplicates_made"`
	Mismatches uint64  `json:"mismatches"` // records decided otherwise than the truth
	Entries    int     `json:"map_entries"`
	Subtrees   int     `json:"subtrees"`
	Root       string  `json:"merkle_root"`
	FileBytes  int64   `json:"file_bytes"`
	Seconds    float64 `json:"seconds"`
	TxsPerSec  float64 `json:"transactions_per_second"`

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
		if options.Out, err = output.NewStage(out); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, options.Out.Close()) }()
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
	m.TxsPerSec = float64(r.Txs) / m.Seconds
	if options.Out != nil {
		m.FileBytes = options.Out.Bytes()
	}
	if m.Disks, err = e.Disks(); err != nil {
		return nil, err
	}
	return m, nil
}

// compare prints two runs side by side.
func compare(to io.Writer, disk, heap *measured) {
	const mib = 1 << 20
	row := func(what, unit string, value func(*measured) float64, digits int) {
		fmt.Fprintf(to, "  %-38s", what+" ("+unit+")")
		for _, m := range []*measured{disk, heap} {
			if m == nil {
				fmt.Fprintf(to, "%14s", "-")
			} else {
				fmt.Fprintf(to, "%14.*f", digits, value(m))
			}
		}
		fmt.Fprintln(to)
	}
	fmt.Fprintf(to, "  %-38s%14s%14s\n", "", "off-heap", "Go heap")
	row("time", "s", func(m *measured) float64 { return m.Seconds }, 2)
	row("rate", "transactions/s", func(m *measured) float64 { return m.TxsPerSec }, 0)
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
