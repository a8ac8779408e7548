// Package demo shows assembling and validating on real blocks, and that tampered ones are refused.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/assemble"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/engine"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/progress"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/validate"
	"github.com/blocktier/blocktier/go/settings"
	"github.com/blocktier/blocktier/go/txmap"
)

// Place says where the blocks are and where files may be made.
type Place struct {
	Data, Scratch string
	Heap          bool
}

// smallTail is the least that a map takes, so that records of real blocks are read back from disk.
const smallTail = "256K"

// leaves per subtree of the legacy blocks: small, so that they have several.
const leaves = 256

func (p *Place) open(name string) (*engine.Engine, error) {
	var s settings.Settings
	if !p.Heap {
		dir := filepath.Join(p.Scratch, name)
		s.BlockAssemblyTxMapDirs = []string{filepath.Join(dir, "map-a"),
			filepath.Join(dir, "map-b")}
		s.BlockAssemblySubtreeMmapDir = filepath.Join(dir, "trees")
		s.TxMapTail, s.TxMapSegment = smallTail, "1M"
	}
	return engine.Open(s, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// RealBlocks is what assembling and validating the real blocks gave.
type RealBlocks struct {
	Blocks   int                   `json:"blocks"`
	Txs      uint64                `json:"transactions"`
	Inputs   uint64                `json:"inputs"`
	Subtrees int                   `json:"subtrees"`
	ReadBack uint64                `json:"read_back"`
	Disks    []blocktier.DiskStats `json:"disks,omitempty"`
	Wrong    []string              `json:"wrong,omitempty"`
}

// real is the state of that work.
type real struct {
	place  Place
	engine *engine.Engine
	to     io.Writer
	sum    RealBlocks
	done   []done
}

// done is an assembled block with its files.
type done struct {
	open   func(name string) (io.ReadCloser, error)
	result *assemble.Result
}

// AssembleReal assembles and validates every real block, with one map for all of them, and reads
// all inpoints back at the end.
func AssembleReal(ctx context.Context, place Place, to io.Writer) (sum *RealBlocks, err error) {
	e, err := place.open("real")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	r := &real{place: place, engine: e, to: to}
	fmt.Fprintf(to, "  %-24s%8s%8s%9s%10s%14s%14s\n", "", "blocks", "txs", "inputs", "subtrees",
		"assemble (s)", "validate (s)")
	for _, name := range []string{"block-277647", "block-379389", "block-384188", "block-384189"} {
		if err := r.directory(ctx, name, leaves, r.legacy("blocks/"+name+".bin")); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := r.chainInMemory(ctx); err != nil {
		return nil, fmt.Errorf("chain-0-9999: %w", err)
	}
	if err := r.directory(ctx, "block 171, 32 subtrees", 32, r.nodeBlock); err != nil {
		return nil, fmt.Errorf("block 171: %w", err)
	}
	if err := r.readBack(ctx); err != nil {
		return nil, fmt.Errorf("reading back: %w", err)
	}
	fmt.Fprintf(to, "\n  inpoints of %d transactions read back from the map: the same bytes\n",
		r.sum.ReadBack)
	if r.sum.Disks, err = e.Disks(); err != nil {
		return nil, err
	}
	PrintDisks(to, r.sum.Disks)
	for _, d := range r.sum.Disks {
		if d.BytesWritten == 0 || d.BytesRead == 0 {
			r.sum.Wrong = append(r.sum.Wrong, d.Path+" was not both written and read")
		}
	}
	return &r.sum, nil
}

// PrintDisks prints the traffic of every directory.
func PrintDisks(to io.Writer, disks []blocktier.DiskStats) {
	for _, d := range disks {
		fmt.Fprintf(to, "  %-40s %12d bytes written, %12d read\n", d.Path, d.BytesWritten,
			d.BytesRead)
	}
}

// blocks calls each with the blocks of a file in order.
type blocks func(ctx context.Context, each func(*assemble.Block) error) error

func (r *real) legacy(name string) blocks {
	return func(_ context.Context, each func(*assemble.Block) error) error {
		f, err := os.Open(filepath.Join(r.place.Data, name))
		if err != nil {
			return err
		}
		defer f.Close() // only read from
		b, err := legacy.NewBlockReader(f)
		if err != nil {
			return err
		}
		return each(assemble.FromLegacy(b))
	}
}

func (r *real) chain(name string) blocks {
	return func(ctx context.Context, each func(*assemble.Block) error) error {
		f, err := os.Open(filepath.Join(r.place.Data, name))
		if err != nil {
			return err
		}
		defer f.Close() // only read from
		c := legacy.NewChainReader(f)
		for height := uint64(0); ; height++ {
			b, err := c.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return err
			}
			block := assemble.FromLegacy(b)
			block.Height = height
			if err := each(block); err != nil {
				return fmt.Errorf("height %d: %w", height, err)
			}
		}
	}
}

func (r *real) nodeBlock(_ context.Context, each func(*assemble.Block) error) error {
	raw, err := os.ReadFile(filepath.Join(r.place.Data, "subtrees", "teranode-block-171.block"))
	if err != nil {
		return err
	}
	n, err := legacy.ReadNodeBlock(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(r.place.Data, "subtrees", "b171-*.subtreeData"))
	if err != nil {
		return err
	}
	var data []io.Reader
	for _, p := range paths { // 32 small files
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		data = append(data, bytes.NewReader(content))
	}
	b, err := assemble.FromNodeBlock(n, data)
	if err != nil {
		return err
	}
	return each(b)
}

// directory is group with the files in a directory.
func (r *real) directory(ctx context.Context, name string, leaves int, source blocks) (err error) {
	directory := filepath.Join(r.place.Scratch, "out", name)
	out, err := output.NewStage(directory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return r.group(ctx, name, leaves, source, out, func(name string) (io.ReadCloser, error) {
		return os.Open(filepath.Join(directory, name))
	})
}

// chainInMemory is group for 10,000 blocks: making 30,000 tiny files would take longer than all the
// rest.
func (r *real) chainInMemory(ctx context.Context) error {
	out := output.NewMemory()
	return r.group(ctx, "chain-0-9999", leaves, r.chain("blocks/chain-0-9999.dat"), out, out.Open)
}

// group assembles the blocks of one file, validates them from the files that were written, and
// prints a line.
func (r *real) group(ctx context.Context, name string, leaves int, source blocks,
	out output.Output, open func(string) (io.ReadCloser, error)) error {
	a, err := assemble.New(assemble.Options{Map: r.engine.Map, Trees: r.engine.Trees,
		Leaves: leaves, Out: out, Batch: assemble.MinBatch})
	if err != nil {
		return err
	}
	bar := progress.New(name, "blocks", 0)
	defer bar.Done()
	first := len(r.done)
	started := time.Now()
	err = source(ctx, func(b *assemble.Block) error {
		result, err := a.Assemble(ctx, b)
		if err != nil {
			return err
		}
		r.done = append(r.done, done{open, result})
		bar.Set(uint64(len(r.done) - first))
		return nil
	})
	if err != nil {
		return err
	}
	assembled := time.Since(started)
	started = time.Now()
	var txs, inputs uint64
	subtrees := 0
	for _, d := range r.done[first:] {
		if err := r.validate(ctx, d); err != nil {
			return fmt.Errorf("block %v: %w", d.result.Hash, err)
		}
		txs, inputs = txs+d.result.Txs, inputs+d.result.Inputs
		subtrees += len(d.result.Subtrees)
	}
	n := len(r.done) - first
	fmt.Fprintf(r.to, "  %-24s%8d%8d%9d%10d%14.3f%14.3f\n", name, n, txs, inputs, subtrees,
		assembled.Seconds(), time.Since(started).Seconds())
	r.sum.Blocks, r.sum.Txs, r.sum.Inputs = r.sum.Blocks+n, r.sum.Txs+txs, r.sum.Inputs+inputs
	r.sum.Subtrees += subtrees
	return nil
}

func (r *real) validate(ctx context.Context, d done) error {
	f, err := d.open(d.result.Hash.String() + ".block")
	if err != nil {
		return err
	}
	defer f.Close() // only read from
	n, err := legacy.ReadNodeBlock(f)
	if err != nil {
		return err
	}
	v, err := validate.CheckBlock(ctx, validate.In(n, d.open),
		validate.BlockOptions{Trees: r.engine.Trees, Limit: 3})
	if err != nil {
		return err
	}
	if !v.OK {
		return fmt.Errorf("refused: %v", v.Failures)
	}
	if v.Records != d.result.Txs || v.Inputs != d.result.Inputs {
		return fmt.Errorf("%d transactions with %d inputs validated, %d with %d assembled",
			v.Records, v.Inputs, d.result.Txs, d.result.Inputs)
	}
	return nil
}

// readBack reads the inpoints of every transaction from the map once more, oldest first, and
// compares them with the files.
func (r *real) readBack(ctx context.Context) error {
	var batch txmap.RawBatch[chainhash.Hash]
	for _, d := range r.done {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		for i, s := range d.result.Subtrees {
			n, err := r.compareSubtree(d, s.Root.String(), i == 0, &batch)
			if err != nil {
				return fmt.Errorf("subtree %v: %w", s.Root, err)
			}
			r.sum.ReadBack += n
		}
	}
	return nil
}

func (r *real) compareSubtree(d done, name string, first bool,
	batch *txmap.RawBatch[chainhash.Hash]) (uint64, error) {
	f, err := d.open(name + ".subtree")
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read from
	t, err := r.engine.Trees.Read(f)
	if err != nil {
		return 0, err
	}
	defer t.Close() // only read from
	m, err := d.open(name + ".subtreeMeta")
	if err != nil {
		return 0, err
	}
	defer m.Close() // only read from
	want, err := io.ReadAll(m)
	if err != nil {
		return 0, err
	}
	nodes := t.Nodes()
	want = want[chainhash.HashSize+4:]
	if first { // the placeholder is in the file, not in the map
		nodes, want = nodes[1:], want[4:]
	}
	batch.Reset()
	for i := range nodes {
		batch.AddKey(nodes[i].Hash)
	}
	if batch.Len() == 0 {
		return 0, nil
	}
	found, err := r.engine.Map.GetRaw(batch)
	if err != nil {
		return 0, err
	}
	if found != len(nodes) {
		return 0, fmt.Errorf("%d of %d transactions are in the map", found, len(nodes))
	}
	for i := range nodes {
		value := batch.Value(i)
		if !bytes.HasPrefix(want, value) {
			return 0, fmt.Errorf("the inpoints of %v differ", nodes[i].Hash)
		}
		want = want[len(value):]
	}
	if len(want) != 0 {
		return 0, fmt.Errorf("%d bytes of inpoints are left", len(want))
	}
	return uint64(len(nodes)), nil
}
