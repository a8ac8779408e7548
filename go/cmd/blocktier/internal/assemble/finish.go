package assemble

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"time"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/tree"
	"github.com/blocktier/blocktier/go/txmap"
)

// complete ends the last subtree: its root, its transactions' subtree indexes, its files.
func (a *Assembler) complete(ctx context.Context) error {
	b := a.block
	i := len(b.trees) - 1
	if i < 0 {
		return nil // nothing was read, which is refused later
	}
	t := b.trees[i]
	stored, err := t.Root(nil)
	if err != nil {
		return fmt.Errorf("subtree %d: %w", i, err)
	}
	root := stored
	if i == 0 {
		if root, err = t.Root(&b.coinbase.ID); err != nil {
			return fmt.Errorf("subtree 0: %w", err)
		}
	}
	b.roots = append(b.roots, root)
	fees, size := t.Sums()
	b.result.Subtrees = append(b.result.Subtrees, Subtree{Root: stored, Leaves: len(t.Nodes()),
		Fees: fees, Size: size, Mapped: t.Mapped()})
	if want := b.source.Roots; i < len(want) && want[i] != stored {
		return fmt.Errorf("%w: subtree %d: the transactions give %v, the block says %v", ErrRoot, i,
			stored, want[i])
	}
	if err := a.assign(i); err != nil {
		return err
	}
	if a.options.Out == nil {
		return nil
	}
	started := time.Now()
	defer func() { b.result.Written += time.Since(started) }()
	return a.write(ctx, i)
}

// verify composes the block's root and compares it and the counts with what the block says.
func (a *Assembler) verify() error {
	b := a.block
	r := &b.result
	if want := b.source.Roots; want != nil && len(want) != len(b.roots) {
		return fmt.Errorf("%w: %d subtrees of %d leaves, the block has %d", ErrCount, len(b.roots),
			a.options.Leaves, len(want))
	}
	last := uint64(len(b.trees[len(b.trees)-1].Nodes()))
	root, err := tree.BlockRoot(b.roots, bits.Len(uint(a.options.Leaves-1)), last)
	if err != nil {
		return fmt.Errorf("block root: %w", err)
	}
	r.MerkleRoot, r.Height = root, b.source.Height
	r.Txs = b.read
	r.Size += legacy.HeaderSize + legacy.VarIntSize(b.read)
	if want := b.source.Size; want != 0 && r.Size != want {
		return fmt.Errorf("%w: %d bytes of transactions, the block says %d", ErrCount, r.Size, want)
	}
	if fees := a.options.Fees; fees != nil && uint64(len(fees)) != b.read {
		return fmt.Errorf("%w: %d fees for %d transactions", ErrCount, len(fees), b.read)
	}
	h := b.source.Header
	if h == nil {
		return nil
	}
	if root != h.MerkleRoot {
		return fmt.Errorf("%w: block %v: the transactions give %v, the header says %v", ErrRoot,
			h.Hash, root, h.MerkleRoot)
	}
	r.Hash, r.Verified = &h.Hash, true
	return nil
}

// maxChained is how many subtrees a subtree index can tell apart.
const maxChained = 32_766

// assign tells the map in which subtree the transactions of subtree i are: i + 1.
func (a *Assembler) assign(i int) error {
	b := a.block
	if i >= maxChained {
		return fmt.Errorf("%w: more than %d subtrees cannot be told apart; take more leaves per "+
			"subtree", ErrCount, maxChained)
	}
	nodes := b.trees[i].Nodes()
	if i == 0 { // the placeholder is not in the map, the coinbase is
		nodes = nodes[1:]
		n, err := a.options.Map.UpdateSubtreeIndexBatch([]Hash{b.coinbase.ID}, 1)
		if err != nil {
			return fmt.Errorf("transaction map: subtree index of the coinbase: %w", err)
		}
		if n != 1 {
			return fmt.Errorf("transaction map: the coinbase %v is not in it", b.coinbase.ID)
		}
	}
	n, err := txmap.UpdateSubtreeIndexNodes(a.options.Map, nodes, int16(i+1))
	if err != nil {
		return fmt.Errorf("transaction map: subtree indexes of subtree %d: %w", i, err)
	}
	if n != len(nodes) {
		return fmt.Errorf("transaction map: %d of the %d transactions of subtree %d are in it", n,
			len(nodes), i)
	}
	return nil
}

// write stages the files of subtree i.
func (a *Assembler) write(ctx context.Context, i int) error {
	name := a.block.result.Subtrees[i].Root.String()
	err := create(a.options.Out, name+".subtree", func(f io.Writer) error {
		return a.block.trees[i].Write(f, !a.options.Plain)
	})
	if err != nil {
		return fmt.Errorf("subtree %d: %w", i, err)
	}
	err = create(a.options.Out, name+".subtreeMeta", func(f io.Writer) error {
		return a.writeInpoints(ctx, f, i)
	})
	if err != nil {
		return fmt.Errorf("inpoints of subtree %d: %w", i, err)
	}
	return nil
}

// commit lets the block's files appear, last the block that names them.
func (a *Assembler) commit() error {
	b := a.block
	if b.source.Header != nil && b.source.CoinbaseRaw != nil {
		if err := a.writeBlock(); err != nil {
			return err
		}
	}
	return a.options.Out.Commit()
}

func create(out output.Output, name string, fill func(io.Writer) error) error {
	f, err := out.Create(name)
	if err != nil {
		return err
	}
	if err := fill(f); err != nil {
		_ = f.Close() // the first error counts; the stage is discarded
		return err
	}
	return f.Close()
}

// writeInpoints reads the inpoints of a subtree's transactions back from the map.
func (a *Assembler) writeInpoints(ctx context.Context, f io.Writer, index int) error {
	nodes := a.block.trees[index].Nodes()
	root := a.block.result.Subtrees[index].Root
	var count [4]byte
	binary.LittleEndian.PutUint32(count[:], uint32(len(nodes)))
	if _, err := f.Write(append(root[:], count[:]...)); err != nil {
		return err
	}
	if index == 0 { // the placeholder spends nothing
		if _, err := f.Write(make([]byte, 4)); err != nil {
			return err
		}
		nodes = nodes[1:]
	}
	for len(nodes) > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		part := nodes[:min(len(nodes), a.options.Batch)]
		nodes = nodes[len(part):]
		a.meta.Reset()
		for i := range part {
			a.meta.AddKey(part[i].Hash)
		}
		n, err := a.options.Map.GetRaw(&a.meta)
		if err != nil {
			return fmt.Errorf("transaction map: %w", err)
		}
		if n != len(part) {
			return fmt.Errorf("transaction map: %d of %d transactions are there", n, len(part))
		}
		for i := range part {
			if _, err := f.Write(a.meta.Value(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Assembler) writeBlock() error {
	b := a.block
	n := legacy.NodeBlock{Header: *b.source.Header, Txs: b.read, Size: b.result.Size,
		Height: b.source.Height, CoinbaseRaw: b.source.CoinbaseRaw()}
	if uint64(len(n.CoinbaseRaw)) != b.coinbase.Size {
		return fmt.Errorf("%w: %d bytes are too many for a coinbase", ErrCoinbase, b.coinbase.Size)
	}
	for _, s := range b.result.Subtrees {
		n.Subtrees = append(n.Subtrees, s.Root)
	}
	return create(a.options.Out, n.Header.Hash.String()+".block", func(f io.Writer) error {
		_, err := f.Write(n.Encode())
		return err
	})
}
