package validate

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// inputs checks the inpoints of all transactions in order. The txids of the whole block are known
// by then, so that a parent that comes later is found.
func (c *check) inputs(ctx context.Context) error {
	c.spends = newSpendTable(c.verdict.Records)
	for i := range c.trees {
		if err := c.inputsOf(ctx, i); err != nil {
			return fmt.Errorf("inpoints of subtree %d (%v): %w", i, c.block.Roots[i], err)
		}
	}
	c.verdict.Distinct = c.spends.length
	return nil
}

func (c *check) inputsOf(ctx context.Context, i int) error {
	file, err := c.block.Inpoints(i)
	if err != nil {
		return err
	}
	defer file.Close() // only read from
	m := &metaReader{from: bufio.NewReaderSize(file, 1<<18)}
	root, count, err := m.header()
	if err != nil {
		return err
	}
	if root != c.trees[i].Stored() {
		c.fail(Inpoints, i, fmt.Sprintf("they are those of subtree %v, not of %v", root,
			c.trees[i].Stored()))
	}
	if uint64(count) != c.length(i) {
		c.fail(Inpoints, i, fmt.Sprintf("%d entries for %d leaves", count, c.length(i)))
		return nil
	}
	for k := range uint64(count) {
		record := c.first[i] + k
		if record%checkEvery == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if c.options.Progress != nil {
				c.options.Progress(record)
			}
		}
		if err := m.next(); err != nil {
			return fmt.Errorf("entry %d: %w", k, err)
		}
		c.transaction(i, record, m.inputs)
	}
	return m.finish()
}

// transaction checks the inputs of one record. Those of a duplicate were counted with the first.
func (c *check) transaction(subtree int, record uint64, inputs []wire.OutPoint) {
	c.verdict.Inputs += uint64(len(inputs))
	id := c.id(record)
	switch {
	case record == 0:
		if len(inputs) != 0 {
			c.failAt(Coinbase, subtree, 0, *id, fmt.Sprintf("the coinbase has %d inpoints",
				len(inputs)))
		}
		return
	case len(inputs) == 0:
		c.failAt(Inpoints, subtree, record, *id, "a transaction that spends nothing")
		return
	}
	if first, found := c.known.lookup(id); found && first != record {
		return
	}
	for k := range inputs {
		o := &inputs[k]
		if first, inserted := c.spends.insert(o, record, uint32(k)); !inserted {
			c.verdict.doubleSpend(record, uint32(k), *o, first)
		}
		if k > 0 && inputs[k-1].Hash == o.Hash {
			continue // the same parent again
		}
		if parent, found := c.known.lookup(&o.Hash); found && parent >= record {
			c.verdict.fail(Failure{Kind: Order, Subtree: &subtree, Record: &record,
				Input: new(uint32(k)), FirstRecord: &parent, Txid: new(*id), Outpoint: new(*o),
				Detail: fmt.Sprintf("its parent %v is record %d, not before it", o.Hash, parent)})
		}
	}
}

// metaReader reads a file of inpoints:
//
//	root 32 | n u32 | n x (p u32 | p x parent 32 | p x (k u32 | k x vout u32))
//
// Inputs come grouped by parent, so an input's number is its place in that order.
type metaReader struct {
	from    *bufio.Reader
	scratch [chainhash.HashSize]byte
	parents []chainhash.Hash
	inputs  []wire.OutPoint
}

// errMeta is the class of errors about the bytes of such a file.
var errMeta = errors.New("malformed inpoints")

func (m *metaReader) read(n int) ([]byte, error) {
	_, err := io.ReadFull(m.from, m.scratch[:n])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: the file ends too early", errMeta)
	}
	return m.scratch[:n], err
}

func (m *metaReader) uint32() (uint32, error) {
	b, err := m.read(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (m *metaReader) header() (root chainhash.Hash, count uint32, err error) {
	b, err := m.read(chainhash.HashSize)
	if err != nil {
		return root, 0, err
	}
	root = chainhash.Hash(b)
	count, err = m.uint32()
	return root, count, err
}

// next reads the inputs of one transaction. Memory grows with what is read, not with a count.
func (m *metaReader) next() error {
	m.parents, m.inputs = m.parents[:0], m.inputs[:0]
	parents, err := m.uint32()
	if err != nil {
		return err
	}
	for range parents {
		b, err := m.read(chainhash.HashSize)
		if err != nil {
			return err
		}
		m.parents = append(m.parents, chainhash.Hash(b))
	}
	for p := range m.parents {
		count, err := m.uint32()
		if err != nil {
			return err
		}
		if count == 0 {
			return fmt.Errorf("%w: parent %v without outputs", errMeta, m.parents[p])
		}
		for range count {
			vout, err := m.uint32()
			if err != nil {
				return err
			}
			m.inputs = append(m.inputs, wire.OutPoint{Hash: m.parents[p], Index: vout})
		}
	}
	return nil
}

func (m *metaReader) finish() error {
	if _, err := m.from.Peek(1); err == io.EOF {
		return nil
	} else if err != nil {
		return err
	}
	return fmt.Errorf("%w: bytes after the last entry", errMeta)
}
