package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/demo"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/measure"
)

type demoFlags struct {
	txs     uint64
	data    string
	scratch string
	tail    string
	heap    bool
}

func demoCommand() *cobra.Command {
	f := new(demoFlags)
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show assembling and validating on real blocks, and what it costs",
		Long: `Demo assembles and validates real blocks with a transaction map in two directories
and a tail so small that records are read back from disk, shows that tampered blocks are refused and
where, and assembles a synthetic block once off the heap and once on it, in processes of their own.
Its files are in a scratch directory that is removed at the end.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	c.Flags().Uint64Var(&f.txs, "txs", 1_000_000, "transactions of the synthetic block")
	c.Flags().StringVar(&f.data, "data", "tests/data", "directory of the real blocks")
	c.Flags().StringVar(&f.scratch, "scratch", ".",
		"directory in which the scratch directory is made")
	c.Flags().StringVar(&f.tail, "tail", "16M", "RAM for recent records with the synthetic block")
	c.Flags().BoolVar(&f.heap, "heap", false, "show the Go-heap implementation alone")
	return c
}

// demoReport is the demo as JSON.
type demoReport struct {
	Real    *demo.RealBlocks `json:"real_blocks"`
	Refused []demo.Refusal   `json:"refused"`
	Disk    *measured        `json:"synthetic_off_heap,omitempty"`
	Heap    *measured        `json:"synthetic_on_heap"`
	OK      bool             `json:"ok"`
	Wrong   []string         `json:"wrong,omitempty"`
}

func (f *demoFlags) run(c *cobra.Command) (err error) {
	if !f.heap && blocktier.Version() == "" {
		return errors.New("this build has no library: run make, or show the Go heap with --heap")
	}
	if err := os.MkdirAll(f.scratch, 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(f.scratch, "demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	to := c.OutOrStdout()
	if wantsJSON(c) {
		to = io.Discard
	}
	started := time.Now()
	r, err := f.show(c.Context(), to, scratch)
	if err != nil {
		return err
	}
	r.OK = len(r.Wrong) == 0
	if wantsJSON(c) {
		err = printJSON(c.OutOrStdout(), r)
	} else {
		conclude(to, r, time.Since(started))
	}
	if err == nil && !r.OK {
		err = ErrRefused
	}
	return err
}

func (f *demoFlags) show(ctx context.Context, to io.Writer, scratch string) (*demoReport, error) {
	r := new(demoReport)
	place := demo.Place{Data: f.data, Scratch: scratch, Heap: f.heap}
	fmt.Fprintf(to, "1. Real blocks, assembled and validated\n\n")
	var err error
	if r.Real, err = demo.AssembleReal(ctx, place, to); err != nil {
		return nil, fmt.Errorf("real blocks: %w", err)
	}
	r.Wrong = append(r.Wrong, r.Real.Wrong...)
	fmt.Fprintf(to, "\n2. Tampered blocks, refused with their places\n\n")
	if r.Refused, err = demo.Refuse(ctx, place, to); err != nil {
		return nil, fmt.Errorf("tampered blocks: %w", err)
	}
	for _, x := range r.Refused {
		if !x.Refused {
			r.Wrong = append(r.Wrong, x.What+" was not refused")
		}
	}
	fmt.Fprintf(to, "\n3. A synthetic block of %d transactions\n\n", f.txs)
	if !f.heap {
		in := func(name string) string { return filepath.Join(scratch, name) }
		r.Disk, err = f.child(ctx, scratch, "--tail", f.tail, "--txmap-dir", in("map-a"),
			"--txmap-dir", in("map-b"), "--subtree-dir", in("trees"))
		if err != nil {
			return nil, fmt.Errorf("synthetic block off the heap: %w", err)
		}
	}
	if r.Heap, err = f.child(ctx, scratch, "--heap"); err != nil {
		return nil, fmt.Errorf("synthetic block on the heap: %w", err)
	}
	compare(to, r.Disk, r.Heap)
	if r.Disk != nil {
		demo.PrintDisks(to, r.Disk.Disks)
	}
	r.Wrong = append(r.Wrong, f.check(r)...)
	return r, nil
}

// child assembles the synthetic block in a process of its own and removes its files.
func (f *demoFlags) child(ctx context.Context, scratch string, arguments ...string) (*measured,
	error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out := filepath.Join(scratch, "synthetic")
	arguments = append([]string{"measure", "--txs", fmt.Sprint(f.txs), "--out", out}, arguments...)
	cmd := exec.CommandContext(ctx, self, arguments...)
	var result bytes.Buffer
	cmd.Stdout, cmd.Stderr = &result, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	m := new(measured)
	if err := json.Unmarshal(result.Bytes(), m); err != nil {
		return nil, err
	}
	return m, os.RemoveAll(out)
}

// check compares the runs with the truth and with each other.
func (f *demoFlags) check(r *demoReport) []string {
	var wrong []string
	for _, m := range []*measured{r.Disk, r.Heap} {
		if m == nil {
			continue
		}
		if m.Mismatches != 0 || m.Duplicates != m.Truth || m.Txs != f.txs {
			wrong = append(wrong, fmt.Sprintf("%s: %d of %d duplicates found, %d decided wrongly",
				m.Engine, m.Duplicates, m.Truth, m.Mismatches))
		}
		if uint64(m.Entries) != m.Txs-m.Truth {
			wrong = append(wrong, fmt.Sprintf("%s: %d entries in the map, want %d", m.Engine,
				m.Entries, m.Txs-m.Truth))
		}
	}
	if r.Disk == nil {
		return wrong
	}
	if r.Disk.Root != r.Heap.Root {
		wrong = append(wrong, fmt.Sprintf("the merkle roots differ: %s off the heap, %s on it",
			r.Disk.Root, r.Heap.Root))
	}
	for _, d := range r.Disk.Disks {
		if d.BytesWritten == 0 || d.BytesRead == 0 {
			wrong = append(wrong, d.Path+" was not both written and read")
		}
	}
	return wrong
}

func conclude(to io.Writer, r *demoReport, took time.Duration) {
	fmt.Fprintf(to, "\nWhat was proven\n\n")
	real := r.Real
	fmt.Fprintf(to, "  %d real blocks with %d transactions gave the merkle root of their header\n",
		real.Blocks, real.Txs)
	fmt.Fprintf(to, "  their %d subtrees were validated: roots, sums, duplicates, double spends, "+
		"order\n", real.Subtrees)
	fmt.Fprintf(to, "  the inpoints of %d transactions were read back and were the same bytes\n",
		real.ReadBack)
	fmt.Fprintf(to, "  %d tampered blocks were refused, each for its defect and at its place\n",
		len(r.Refused))
	fmt.Fprintf(to, "  of %d synthetic transactions the %d duplicates were found, and no other\n",
		r.Heap.Txs, r.Heap.Truth)
	if r.Disk != nil {
		fmt.Fprintf(to, "  off the heap and on it the block has the same merkle root, %s\n",
			r.Disk.Root)
	}
	for _, w := range r.Wrong {
		fmt.Fprintln(to, "  WRONG:", w)
	}
	fmt.Fprintf(to, "\n%.1f s; this process used %.0f MiB at most\n", took.Seconds(),
		float64(measure.ResidentPeak())/(1<<20))
}
