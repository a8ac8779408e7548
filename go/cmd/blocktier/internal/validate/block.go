package validate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/tree"
)

// Block is what is checked.
type Block struct {
	Header *legacy.Header
	// Coinbase is the id of the coinbase, which stands in for the placeholder.
	Coinbase     chainhash.Hash
	CoinbaseSize uint64
	// Txs and Size are what the block says about itself; 0: nothing.
	Txs, Size uint64
	// Roots are the roots of the subtrees as the block lists them.
	Roots []chainhash.Hash
	// Subtree opens the file of subtree i, Inpoints that of its inpoints; both are closed by the
	// check.
	Subtree  func(i int) (io.ReadCloser, error)
	Inpoints func(i int) (io.ReadCloser, error)
}

// BlockOptions change how a block is checked.
type BlockOptions struct {
	Trees *tree.Maker
	// Limit is how many failures are collected; all are counted.
	Limit int
	// Progress, if not nil, is called now and then with the number of transactions whose inputs
	// were checked.
	Progress func(uint64)
}

// check is the state of checking one block.
type check struct {
	block   *Block
	options BlockOptions
	verdict *Verdict
	trees   []*tree.Tree
	// first is the record of each subtree's first leaf, and at the end the number of records.
	first  []uint64
	leaves uint64 // of all subtrees but the last
	// misshapen: the subtrees' sizes differ, so that they have no block root.
	misshapen bool
	known     *idTable
	spends    *spendTable
	// recomputed are the roots of the leaves, with the coinbase in the placeholder's place.
	recomputed []chainhash.Hash
}

// CheckBlock checks a block in this order: every subtree's root, sums and leaves, duplicates, the
// coinbase, the block's counts and root, and then with the inpoints double spends and whether every
// parent that is in the block comes first. An error means that the check could not be finished.
func CheckBlock(ctx context.Context, b *Block, o BlockOptions) (*Verdict, error) {
	if len(b.Roots) == 0 {
		return nil, fmt.Errorf("a block without subtrees")
	}
	c := &check{block: b, options: o, verdict: newVerdict(o.Limit), first: []uint64{0}}
	c.verdict.Block = b.Header.Hash
	c.verdict.Subtrees = len(b.Roots)
	c.known = newIDTable(b.Txs, func(i uint64) *chainhash.Hash { return c.id(i) })
	defer c.close()
	for i := range b.Roots {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := c.subtree(i); err != nil {
			return nil, fmt.Errorf("subtree %d (%v): %w", i, b.Roots[i], err)
		}
	}
	c.verdict.Records = c.first[len(c.first)-1]
	c.counts()
	if err := c.blockRoot(); err != nil {
		return nil, err
	}
	if err := c.inputs(ctx); err != nil {
		return nil, err
	}
	return c.verdict, nil
}

func (c *check) close() {
	for _, t := range c.trees {
		_ = t.Close() // only read from; nothing can be lost
	}
}

// id returns the txid of a record. Record 0 is the coinbase, whose leaf is the placeholder.
func (c *check) id(record uint64) *chainhash.Hash {
	if record == 0 {
		return &c.block.Coinbase
	}
	i := int(record / c.leaves)
	if i >= len(c.trees) || record < c.first[i] || record >= c.first[i]+c.length(i) {
		i = c.search(record)
	}
	return &c.trees[i].Nodes()[record-c.first[i]].Hash
}

func (c *check) length(i int) uint64 { return uint64(len(c.trees[i].Nodes())) }

// search finds the subtree of a record where subtrees are not all of one size, which is a failure.
func (c *check) search(record uint64) int {
	low, high := 0, len(c.trees)-1
	for low < high {
		middle := (low + high + 1) / 2
		if c.first[middle] <= record {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}

// subtree reads subtree i and checks it by itself and against the leaves before it.
func (c *check) subtree(i int) error {
	file, err := c.block.Subtree(i)
	if err != nil {
		return err
	}
	t, err := c.options.Trees.Read(file)
	if e := file.Close(); err == nil && e != nil {
		err = e
	}
	if t != nil {
		c.trees = append(c.trees, t)
	}
	if err != nil {
		return err
	}
	n := c.length(i)
	if n == 0 {
		return errors.New("a subtree without leaves")
	}
	if i == 0 {
		c.leaves = n
	}
	c.first = append(c.first, c.first[i]+n)
	c.shape(i, n)
	if err := c.root(i); err != nil {
		return err
	}
	c.sums(i)
	c.leavesOf(i)
	return nil
}

// shape: all subtrees but the last have the same power of two of leaves, the last at most as many.
func (c *check) shape(i int, n uint64) {
	last := i == len(c.block.Roots)-1
	switch {
	case i == 0 && !last && bits.OnesCount64(n) != 1:
		c.misshapen = true
		c.fail(Count, i, fmt.Sprintf("%d leaves, not a power of two, but not the only subtree", n))
	case n > c.leaves || n < c.leaves && !last:
		c.misshapen = true
		c.fail(Count, i, fmt.Sprintf("%d leaves, the first subtree has %d", n, c.leaves))
	}
}

func (c *check) fail(kind Kind, subtree int, detail string) {
	c.verdict.fail(Failure{Kind: kind, Subtree: &subtree, Detail: detail})
}

func (c *check) failAt(kind Kind, subtree int, record uint64, id chainhash.Hash, detail string) {
	c.verdict.fail(Failure{Kind: kind, Subtree: &subtree, Record: &record, Txid: &id,
		Detail: detail})
}

func (c *check) root(i int) error {
	t := c.trees[i]
	leaves, err := t.Root(nil)
	if err != nil {
		return err
	}
	if leaves != t.Stored() {
		c.fail(Root, i, fmt.Sprintf("its leaves give %v, the file says %v", leaves, t.Stored()))
	}
	if leaves != c.block.Roots[i] {
		c.fail(Root, i, fmt.Sprintf("its leaves give %v, the block lists %v", leaves,
			c.block.Roots[i]))
	}
	if i == 0 {
		if leaves, err = t.Root(&c.block.Coinbase); err != nil {
			return err
		}
	}
	c.recomputed = append(c.recomputed, leaves)
	return nil
}

func (c *check) sums(i int) {
	t := c.trees[i]
	var fees, size, feesCarry, sizeCarry uint64
	nodes := t.Nodes()
	for k := range nodes {
		var carry uint64
		fees, carry = bits.Add64(fees, nodes[k].Fee, 0)
		feesCarry += carry
		size, carry = bits.Add64(size, nodes[k].SizeInBytes, 0)
		sizeCarry += carry
	}
	storedFees, storedSize := t.Sums()
	if feesCarry != 0 || fees != storedFees {
		c.fail(Sum, i, sumDetail("fees", feesCarry, fees, storedFees))
	}
	if sizeCarry != 0 || size != storedSize {
		c.fail(Sum, i, sumDetail("sizes", sizeCarry, size, storedSize))
	}
}

func sumDetail(what string, carry, sum, stored uint64) string {
	if carry != 0 {
		return fmt.Sprintf("the %s of its leaves exceed 64 bits", what)
	}
	return fmt.Sprintf("the %s of its leaves add up to %d, the file says %d", what, sum, stored)
}

// leavesOf checks every leaf of subtree i and notes its txid.
func (c *check) leavesOf(i int) {
	nodes := c.trees[i].Nodes()
	for k := range nodes {
		record, id := c.first[i]+uint64(k), nodes[k].Hash
		switch {
		case record == 0:
			c.placeholder(&nodes[0])
		case id == tree.Placeholder:
			c.failAt(Coinbase, i, record, id, "a coinbase placeholder that is not the first leaf")
			continue
		case id == chainhash.Hash{}:
			c.failAt(Leaf, i, record, id, "a txid that is all zero")
			continue
		case id == c.block.Coinbase:
			c.failAt(Coinbase, i, record, id, "the coinbase is there once more")
			continue
		}
		if first, duplicate := c.known.insert(record); duplicate {
			c.verdict.duplicate(record, first, id)
		}
	}
}

func (c *check) placeholder(n *tree.Node) {
	if n.Hash != tree.Placeholder {
		c.failAt(Coinbase, 0, 0, n.Hash, "the first leaf is not the coinbase placeholder")
	}
	if n.Fee != 0 || n.SizeInBytes != 0 {
		c.failAt(Coinbase, 0, 0, n.Hash, fmt.Sprintf("the placeholder has a fee of %d and a size "+
			"of %d, not 0", n.Fee, n.SizeInBytes))
	}
}

// counts compares what the block says about itself.
func (c *check) counts() {
	b, v := c.block, c.verdict
	if b.Txs != 0 && b.Txs != v.Records {
		v.fail(Failure{Kind: Count, Detail: fmt.Sprintf("%d leaves, the block says %d transactions",
			v.Records, b.Txs)})
	}
	if b.Size == 0 {
		return
	}
	size := legacy.HeaderSize + legacy.VarIntSize(v.Records) + b.CoinbaseSize
	for _, t := range c.trees {
		_, part := t.Sums()
		size += part
	}
	if size != b.Size {
		v.fail(Failure{Kind: Sum, Detail: fmt.Sprintf("the transactions give a block of %d bytes, "+
			"the block says %d", size, b.Size)})
	}
}

func (c *check) blockRoot() error {
	if c.misshapen {
		return nil
	}
	last := len(c.trees) - 1
	height := bits.Len64(c.leaves - 1)
	root, err := tree.BlockRoot(c.recomputed, height, c.length(last))
	if err != nil {
		return fmt.Errorf("block root: %w", err)
	}
	if want := c.block.Header.MerkleRoot; root != want {
		c.verdict.fail(Failure{Kind: BlockRoot,
			Detail: fmt.Sprintf("the subtrees give %v, the header says %v", root, want)})
	}
	return nil
}
