package assemble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/record"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/workload"
)

// Block is what is assembled: transactions in order, the coinbase first, and what they must give.
type Block struct {
	// Header is the header whose merkle root the transactions must give; nil: there is none.
	Header *legacy.Header
	// Count is the number of transactions, the coinbase included; 0: not known.
	Count uint64
	// Next reads the next transaction into tx; io.EOF after the last one.
	Next func(tx *legacy.Tx) error
	// CoinbaseRaw returns the coinbase's bytes once it was read; nil: they are not known.
	CoinbaseRaw func() []byte
	// Roots are the roots that the subtrees must have; nil: not known.
	Roots []chainhash.Hash
	// Size is the size that the block must have in bytes; 0: not known.
	Size uint64
	// Height is 0 where the block does not tell.
	Height uint64
}

// FromLegacy is a legacy block.
func FromLegacy(r *legacy.BlockReader) *Block {
	b := &Block{Header: &r.Header, Count: r.Count}
	b.Next = func(tx *legacy.Tx) error {
		err := r.Next(tx)
		if err == nil && tx.Coinbase && b.Height == 0 && r.Header.Version >= 2 {
			b.Height = heightOf(r.CoinbaseScript())
		}
		return err
	}
	b.CoinbaseRaw = r.CoinbaseRaw
	return b
}

// heightOf reads the height that a coinbase's script begins with from version 2 on; 0 if it does
// not.
func heightOf(script []byte) uint64 {
	if len(script) == 0 || script[0] == 0 || script[0] > 8 || int(script[0]) >= len(script) {
		return 0
	}
	var b [8]byte
	copy(b[:], script[1:1+script[0]])
	return binary.LittleEndian.Uint64(b[:])
}

// FromNodeBlock is a block that names its subtrees, with the data of those subtrees in order: the
// transactions without the coinbase, or with it.
func FromNodeBlock(n *legacy.NodeBlock, data []io.Reader) (*Block, error) {
	if len(data) != len(n.Subtrees) {
		return nil, fmt.Errorf("%d data files for a block with %d subtrees", len(data),
			len(n.Subtrees))
	}
	s := &dataSource{block: n, data: data}
	return &Block{Header: &n.Header, Count: n.Txs, Roots: n.Subtrees, Size: n.Size,
		Height: n.Height, Next: s.next,
		CoinbaseRaw: func() []byte { return n.CoinbaseRaw }}, nil
}

// dataSource yields the block's coinbase and then what is in the data files.
type dataSource struct {
	block   *legacy.NodeBlock
	data    []io.Reader
	current *legacy.DataReader
	file    int
	read    uint64 // of the current file
	started bool
}

func (s *dataSource) next(tx *legacy.Tx) error {
	if !s.started {
		s.started = true
		inputs := tx.Inputs[:0]
		*tx = s.block.Coinbase
		tx.Inputs = inputs
		return nil
	}
	for {
		if s.current == nil {
			if s.file == len(s.data) {
				return io.EOF
			}
			s.current, s.read = legacy.NewDataReader(s.data[s.file]), 0
		}
		err := s.current.Next(tx)
		if errors.Is(err, io.EOF) {
			s.current = nil
			s.file++
			continue
		}
		if err != nil {
			return fmt.Errorf("data of subtree %d, transaction %d: %w", s.file, s.read, err)
		}
		s.read++
		if s.file == 0 && s.read == 1 && tx.Coinbase {
			if tx.ID != s.block.Coinbase.ID {
				return fmt.Errorf("the coinbase in the data is %v, that of the block %v", tx.ID,
					s.block.Coinbase.ID)
			}
			continue // the data repeats the block's coinbase
		}
		return nil
	}
}

// FromWorkload is a synthetic block, which has no header. truth, if not nil, is called with every
// record before it is assembled. A record's size stands for the transaction's.
func FromWorkload(g *workload.Generator, count uint64, truth func(*workload.Record)) *Block {
	var decoded record.Record
	return &Block{Count: count, Next: func(tx *legacy.Tx) error {
		r, err := g.Next()
		if err != nil {
			return err
		}
		if r == nil {
			return io.EOF
		}
		if truth != nil {
			truth(r)
		}
		decoded.Inputs = tx.Inputs
		if err := decoded.Decode(r.Raw); err != nil {
			return err
		}
		*tx = legacy.Tx{ID: decoded.Txid, Size: uint64(len(r.Raw)), Inputs: decoded.Inputs,
			Coinbase: len(decoded.Inputs) == 0}
		return nil
	}}
}
