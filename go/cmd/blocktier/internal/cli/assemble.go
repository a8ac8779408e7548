package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/assemble"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/engine"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/progress"
)

type assembleFlags struct {
	engine engineFlags
	out    string
	leaves int
	batch  int
	plain  bool
	chain  bool
	fees   string
	data   []string
}

func assembleCommand() *cobra.Command {
	f := new(assembleFlags)
	c := &cobra.Command{
		Use:   "assemble BLOCK",
		Short: "Turn a block into subtrees and check its root against the header",
		Long: `Assemble reads a legacy block, a chain file (.dat), or a node block (.block) with the
data files of its subtrees, and puts every transaction into the transaction map and the subtrees.
A transaction that is there already, a coinbase out of place and a root that is not the header's are
refused, with the place. With --out it writes ROOT.subtree and ROOT.subtreeMeta for each subtree and
HASH.block, all of them or none.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, arguments []string) error {
			return f.run(c, arguments[0])
		},
	}
	f.engine.register(c)
	c.Flags().StringVarP(&f.out, "out", "o", "", "directory for the files; empty: none are written")
	c.Flags().IntVar(&f.leaves, "leaves", 1<<20, "leaves per subtree, a power of two")
	c.Flags().IntVar(&f.batch, "batch", assemble.DefaultBatch,
		"transactions that go to the map together")
	c.Flags().BoolVar(&f.plain, "plain", false, "write subtree files without magic number")
	c.Flags().BoolVar(&f.chain, "chain", false, "the file is a chain file whatever its name")
	c.Flags().StringVar(&f.fees, "fees", "",
		"JSON file with the fees in order: an array, or an object with an array \"fee\"")
	c.Flags().StringSliceVar(&f.data, "data", nil,
		"data files of a node block's subtrees, in order")
	return c
}

func (f *assembleFlags) run(c *cobra.Command, path string) (err error) {
	e, err := f.engine.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	o := assemble.Options{Map: e.Map, Trees: e.Trees, Leaves: f.leaves, Batch: f.batch,
		Plain: f.plain}
	if f.fees != "" {
		if o.Fees, err = readFees(f.fees); err != nil {
			return err
		}
	}
	if f.out != "" {
		stage, e := output.NewStage(f.out)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, stage.Close()) }()
		o.Out = stage
	}
	results, err := f.assemble(c.Context(), o, path)
	if err != nil {
		return err
	}
	return report(c, results, e)
}

// readFees reads fees in satoshis.
func readFees(path string) ([]uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []uint64
	if json.Unmarshal(text, &list) == nil {
		return list, nil
	}
	var object struct {
		Fee []uint64 `json:"fee"`
	}
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if object.Fee == nil {
		return nil, fmt.Errorf("%s: no array of fees", path)
	}
	return object.Fee, nil
}

func (f *assembleFlags) assemble(ctx context.Context, o assemble.Options, path string) (
	[]*assemble.Result, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read from
	switch {
	case f.chain || filepath.Ext(path) == ".dat":
		return assembleChain(ctx, o, path, file)
	case filepath.Ext(path) == ".block":
		return assembleNodeBlock(ctx, o, path, file, f.data)
	}
	r, err := legacy.NewBlockReader(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return assembleOne(ctx, o, path, assemble.FromLegacy(r))
}

func assembleOne(ctx context.Context, o assemble.Options, path string, b *assemble.Block) (
	[]*assemble.Result, error) {
	bar := progress.New("assembling", "transactions", b.Count)
	defer bar.Done()
	o.Progress = bar.Set
	a, err := assemble.New(o)
	if err != nil {
		return nil, err
	}
	r, err := a.Assemble(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return []*assemble.Result{r}, nil
}

func assembleChain(ctx context.Context, o assemble.Options, path string, file io.Reader) (
	[]*assemble.Result, error) {
	bar := progress.New("assembling", "blocks", 0)
	defer bar.Done()
	a, err := assemble.New(o)
	if err != nil {
		return nil, err
	}
	var results []*assemble.Result
	chain := legacy.NewChainReader(file)
	for {
		b, err := chain.Next()
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		var r *assemble.Result
		if err == nil {
			r, err = a.Assemble(ctx, assemble.FromLegacy(b))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: block %d: %w", path, len(results), err)
		}
		results = append(results, r)
		bar.Set(uint64(len(results)))
	}
}

func assembleNodeBlock(ctx context.Context, o assemble.Options, path string, file io.Reader,
	data []string) ([]*assemble.Result, error) {
	n, err := legacy.ReadNodeBlock(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	readers := make([]io.Reader, len(data))
	for i := range data {
		l := &lazyFile{path: data[i]}
		defer l.close()
		readers[i] = l
	}
	b, err := assemble.FromNodeBlock(n, readers)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return assembleOne(ctx, o, path, b)
}

// lazyFile opens a file at the first read and closes it at its end, so that a block of thousands of
// subtrees needs one descriptor.
type lazyFile struct {
	path string
	file *os.File
	done bool
}

func (l *lazyFile) Read(p []byte) (n int, err error) {
	if l.done {
		return 0, io.EOF
	}
	if l.file == nil {
		if l.file, err = os.Open(l.path); err != nil {
			return 0, err
		}
	}
	n, err = l.file.Read(p)
	if errors.Is(err, io.EOF) {
		l.close()
	}
	return n, err
}

func (l *lazyFile) close() {
	if l.file != nil {
		_ = l.file.Close() // only read from
	}
	l.file, l.done = nil, true
}

// report prints what was assembled.
func report(c *cobra.Command, results []*assemble.Result, e *engine.Engine) error {
	disks, err := e.Disks()
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return printJSON(c.OutOrStdout(), struct {
			Blocks []*assemble.Result    `json:"blocks"`
			Disks  []blocktier.DiskStats `json:"disks,omitempty"`
		}{results, disks})
	}
	to := c.OutOrStdout()
	txs, subtrees := uint64(0), 0
	for _, r := range results {
		txs += r.Txs
		subtrees += len(r.Subtrees)
		if len(results) > 16 {
			continue
		}
		fmt.Fprintf(to, "block %v: %d transactions, %d inputs, %d subtrees, merkle root %v as in "+
			"the header\n", r.Hash, r.Txs, r.Inputs, len(r.Subtrees), r.MerkleRoot)
	}
	fmt.Fprintf(to, "%d blocks, %d transactions in %d subtrees\n", len(results), txs, subtrees)
	for _, d := range disks {
		fmt.Fprintf(to, "%s: %d bytes written, %d read\n", d.Path, d.BytesWritten, d.BytesRead)
	}
	return nil
}
