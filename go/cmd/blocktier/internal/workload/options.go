// Package workload makes synthetic transaction streams for inpoint maps and spent-outpoint sets,
// the same bytes for the same options on every machine.
//
// All randomness comes from SHAKE-128 streams named by the seed. A [Generator] yields records one
// by one together with what is wrong with them (the ground truth); [WriteFiles] stores both.
//
// # Record
//
// Integers are little-endian:
//
//	txid 32 | n u16 | n x (parent txid 32 | vout u32)
//
// n is 0 only for the coinbase that opens each block.
//
// # Ground truth
//
// Records are read in order. A record whose txid was seen before is a duplicate: it repeats the
// first one byte for byte and its inputs count neither as spends nor as conflicts. Of any other
// record, each input whose outpoint was spent before is a conflict. Outpoints that are spent again
// belong to records without conflicts of their own, and the other inputs of a conflicting record
// are never spent again, so the truth does not depend on what is done with the rest of a
// conflicting transaction.
//
// Memory is constant, a few ten megabytes, however many records are made.
package workload

import (
	"errors"
	"fmt"
)

// Options choose a workload. The JSON names are those of the stored arguments.
type Options struct {
	BlockTxs   uint64  `json:"block_txs"`   // records per block
	ChainEvery uint64  `json:"chain_every"` // a chain of dependent transactions starts so often
	ChainLen   uint64  `json:"chain_len"`   // links per chain; 0: no chains
	DupInput   float64 `json:"dup_input"`   // share of records that name an outpoint twice
	DupSpend   float64 `json:"dup_spend"`   // share of records that spend a spent outpoint
	DupTx      float64 `json:"dup_tx"`      // share of records that repeat an earlier record
	Heavy      uint64  `json:"heavy"`       // outputs of the heavy parent; 0: none
	HeavyBlock uint64  `json:"heavy_block"` // the block in which all of them are spent
	MaxInputs  uint64  `json:"max_inputs"`  // more inputs in one record are an error
	Seed       int64   `json:"seed"`
	Txs        uint64  `json:"txs"` // records, coinbases and duplicates included
}

// Defaults is one million records with 1.5 % of them wrong in some way.
func Defaults() Options {
	return Options{
		BlockTxs: 1_000_000, ChainEvery: 50_000, ChainLen: 1_000,
		DupInput: 0.0002, DupSpend: 0.005, DupTx: 0.01,
		Heavy: 65_536, MaxInputs: 65_535, Seed: 1, Txs: 1_000_000,
	}
}

// Errors of options that contradict each other. They are found while generating.
var (
	ErrTooManyInputs = errors.New("a record would have more inputs than max-inputs allows")
	ErrHeavyBlock    = errors.New("the block is too small for the heavy parent's outputs")
)

func (o Options) check() error {
	share := func(name string, v float64) error {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("workload: %s = %v, must be from 0 to 1", name, v)
		}
		return nil
	}
	err := errors.Join(share("dup-tx", o.DupTx), share("dup-spend", o.DupSpend),
		share("dup-input", o.DupInput))
	switch {
	case err != nil:
		return err
	case o.DupTx+o.DupSpend+o.DupInput > 1:
		return errors.New("workload: dup-tx, dup-spend and dup-input together exceed 1")
	case o.BlockTxs == 0:
		return errors.New("workload: block-txs = 0, must be at least 1")
	case o.ChainLen != 0 && o.ChainEvery == 0:
		return errors.New("workload: chain-every = 0, must be at least 1 when chain-len is set")
	case o.MaxInputs > 65_535:
		return fmt.Errorf("workload: max-inputs = %d, a record counts up to 65535", o.MaxInputs)
	case o.Heavy > 1<<32:
		return fmt.Errorf("workload: heavy = %d, an output index has 32 bits", o.Heavy)
	}
	return nil
}
