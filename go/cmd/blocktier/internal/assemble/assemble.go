// Package assemble turns a block's transactions into subtrees, with a map from every transaction to
// its inpoints beside them.
//
// Transactions are taken in batches: the batch goes to the map, which refuses what it already
// has, and what is new is appended to the last subtree. A subtree that is complete gets its root,
// the map learns in which subtree its transactions are, and its files are staged, with the
// inpoints read back from the map. When the block has ended, its merkle root is composed from the
// subtrees' roots and compared with the header's; only then do the files appear. A failure of the
// map or of a mapping fails assembling.
//
// An [Assembler] is not for concurrent use.
package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/tree"
	"github.com/blocktier/blocktier/go/txmap"
)

// Hash is a transaction id or root.
type Hash = chainhash.Hash

// Inpoints is the value type of the map.
type Inpoints = txmap.TxInpoints[Hash]

// TxMap is the map that transactions go to.
type TxMap = txmap.TxMap[Hash, *Inpoints]

// Errors that say why a block was refused; errors.Is finds them.
var (
	ErrDuplicate = errors.New("duplicate transaction")
	ErrCoinbase  = errors.New("coinbase out of place")
	ErrRoot      = errors.New("merkle root mismatch")
	ErrCount     = errors.New("count mismatch")
)

// Options of an Assembler.
type Options struct {
	Map   TxMap
	Trees *tree.Maker
	// Leaves per subtree, a power of two.
	Leaves int
	// Batch is how many transactions go to the map at once; 0: DefaultBatch.
	Batch int
	// SkipDuplicates counts transactions that the map already has instead of refusing the block.
	SkipDuplicates bool
	// Out takes the files of each block; nil: none are written.
	Out output.Output
	// Plain leaves the magic number out of subtree files.
	Plain bool
	// Fees of the block's transactions where they do not tell them themselves; nil: 0.
	Fees []uint64
	// Decided, if not nil, is called for every transaction in order with what became of it.
	Decided func(record uint64, inserted bool)
	// Progress, if not nil, is called now and then with the number of transactions.
	Progress func(uint64)
}

// Batches of such sizes let the map's disk reads be put together.
const (
	MinBatch     = 256
	DefaultBatch = 2048
	MaxBatch     = 4096
)

// Subtree is one assembled subtree.
type Subtree struct {
	// Root is that of the leaves as stored, with the placeholder in the coinbase's place.
	Root   Hash   `json:"root"`
	Leaves int    `json:"leaves"`
	Fees   uint64 `json:"fees"`
	Size   uint64 `json:"size"`
	Mapped bool   `json:"mapped"`
}

// Result is an assembled block.
type Result struct {
	Hash       *Hash     `json:"hash,omitempty"`
	Height     uint64    `json:"height"`
	MerkleRoot Hash      `json:"merkle_root"`
	Verified   bool      `json:"verified"` // against the header
	Txs        uint64    `json:"transactions"`
	Inputs     uint64    `json:"inputs"`
	Duplicates uint64    `json:"duplicates"` // skipped
	Size       uint64    `json:"size"`       // of the legacy block in bytes
	Subtrees   []Subtree `json:"subtrees"`
	// Written is the time it took to read inpoints back from the map and stage the files.
	Written time.Duration `json:"written_ns"`
}

// Assembler assembles blocks into one map: a transaction of an earlier block is a duplicate too.
type Assembler struct {
	options Options
	batch   batch
	meta    txmap.RawBatch[Hash]
	encoder Encoder
	block   *block
}

// batch are the transactions that go to the map together.
type batch struct {
	raw   txmap.RawBatch[Hash]
	fees  []uint64
	sizes []uint64
	value []byte
}

func (b *batch) reset() {
	b.raw.Reset()
	b.fees, b.sizes = b.fees[:0], b.sizes[:0]
}

// block is the block in the making.
type block struct {
	source   *Block
	trees    []*tree.Tree
	roots    []Hash // of complete subtrees, with the coinbase in its place
	coinbase legacy.Tx
	read     uint64 // transactions
	decided  uint64 // of them, those that went to the map
	result   Result
}

// New makes an Assembler.
func New(o Options) (*Assembler, error) {
	if o.Batch == 0 {
		o.Batch = DefaultBatch
	}
	switch {
	case o.Leaves < 2 || o.Leaves&(o.Leaves-1) != 0:
		return nil, fmt.Errorf("%d leaves per subtree: must be a power of two from 2 on", o.Leaves)
	case o.Batch < MinBatch || o.Batch > MaxBatch:
		return nil, fmt.Errorf("batches of %d transactions: must be %d to %d", o.Batch, MinBatch,
			MaxBatch)
	}
	return &Assembler{options: o}, nil
}

// Assemble takes all transactions of a block. When it fails, nothing of the block is written; its
// transactions up to the failure are in the map.
func (a *Assembler) Assemble(ctx context.Context, source *Block) (result *Result, err error) {
	a.block = &block{source: source}
	defer func() {
		err = errors.Join(err, a.block.close())
		if err != nil {
			result = nil
			if a.options.Out != nil {
				err = errors.Join(err, a.options.Out.Discard())
			}
		}
		a.block = nil
	}()
	if err := a.readAll(ctx); err != nil {
		return nil, err
	}
	if err := a.complete(ctx); err != nil {
		return nil, err
	}
	if err := a.options.Map.Err(); err != nil {
		return nil, fmt.Errorf("transaction map: %w", err)
	}
	if err := a.verify(); err != nil {
		return nil, err
	}
	if a.options.Out != nil {
		if err := a.commit(); err != nil {
			return nil, err
		}
	}
	return &a.block.result, nil
}

func (b *block) close() error {
	var err error
	for _, t := range b.trees {
		err = errors.Join(err, t.Close())
	}
	b.trees = nil
	return err
}

func (a *Assembler) readAll(ctx context.Context) error {
	b := a.block
	a.batch.reset()
	var tx legacy.Tx
	for {
		err := b.source.Next(&tx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := a.take(&tx); err != nil {
			return err
		}
		if a.batch.raw.Len() < a.options.Batch {
			continue
		}
		if err := a.decide(ctx); err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if a.options.Progress != nil {
			a.options.Progress(b.read)
		}
	}
	if err := a.decide(ctx); err != nil {
		return err
	}
	if want := b.source.Count; want != 0 && b.read != want {
		return fmt.Errorf("%w: %d transactions, the block says %d", ErrCount, b.read, want)
	}
	if b.read == 0 {
		return fmt.Errorf("%w: no transactions", ErrCount)
	}
	return nil
}

// take puts a transaction into the batch.
func (a *Assembler) take(tx *legacy.Tx) error {
	b := a.block
	record := b.read
	if b.source.Count != 0 && record == b.source.Count {
		return fmt.Errorf("%w: more transactions than the %d that the block says", ErrCount, record)
	}
	if tx.Coinbase != (record == 0) && !a.options.SkipDuplicates {
		return fmt.Errorf("%w: record %d: transaction %v", ErrCoinbase, record, tx.ID)
	}
	if record == 0 {
		b.coinbase = *tx
		b.coinbase.Inputs = nil
	}
	b.read++
	fee := tx.Fee
	if !tx.FeeKnown && a.options.Fees != nil {
		if record >= uint64(len(a.options.Fees)) {
			return fmt.Errorf("%w: %d fees, but there is a transaction %d", ErrCount,
				len(a.options.Fees), record)
		}
		fee = a.options.Fees[record]
	}
	b.result.Inputs += uint64(len(tx.Inputs))
	b.result.Size += tx.Size
	a.batch.value = a.encoder.Append(a.batch.value[:0], tx.Inputs)
	a.batch.raw.Add(tx.ID, a.batch.value, 0)
	a.batch.fees = append(a.batch.fees, fee)
	a.batch.sizes = append(a.batch.sizes, tx.Size)
	return nil
}

// decide hands the batch to the map and appends what is new to the subtrees.
func (a *Assembler) decide(ctx context.Context) error {
	raw := &a.batch.raw
	if raw.Len() == 0 {
		return nil
	}
	if _, err := a.options.Map.SetIfNotExistsRaw(raw); err != nil {
		return fmt.Errorf("transaction map: records %d to %d: %w", a.block.decided, a.block.read-1,
			err)
	}
	a.batch.keepFirst()
	for i, state := range raw.States {
		inserted := state == txmap.StateNew
		if !inserted && state != txmap.StatePresent {
			return fmt.Errorf("transaction map: record %d was not decided", a.block.decided)
		}
		if a.options.Decided != nil {
			a.options.Decided(a.block.decided, inserted)
		}
		if err := a.place(ctx, i, inserted); err != nil {
			return err
		}
		a.block.decided++
	}
	a.batch.reset()
	return nil
}

// keepFirst makes the first of two equal transactions in one batch the one that counts, whichever
// of them the map took: their values are the same, their places are not.
func (b *batch) keepFirst() {
	for i, state := range b.raw.States {
		if state != txmap.StatePresent {
			continue
		}
		later := slices.Index(b.raw.Keys[i+1:], b.raw.Keys[i])
		if later >= 0 && b.raw.States[i+1+later] == txmap.StateNew {
			b.raw.States[i], b.raw.States[i+1+later] = txmap.StateNew, txmap.StatePresent
		}
	}
}

// place appends transaction i of the batch to the last subtree, or refuses it.
func (a *Assembler) place(ctx context.Context, i int, inserted bool) error {
	b := a.block
	id := a.batch.raw.Keys[i]
	if !inserted {
		if a.options.SkipDuplicates && b.decided != 0 {
			b.result.Duplicates++
			return nil
		}
		return b.refuse(id)
	}
	t, err := a.open(ctx)
	if err != nil {
		return err
	}
	if b.decided == 0 {
		err = t.AddCoinbase()
	} else {
		err = t.Add(id, a.batch.fees[i], a.batch.sizes[i])
	}
	if err != nil {
		return fmt.Errorf("subtree %d, record %d: %w", len(b.trees)-1, b.decided, err)
	}
	return nil
}

// open returns the subtree that takes the next leaf; one that is full is completed.
func (a *Assembler) open(ctx context.Context) (*tree.Tree, error) {
	b := a.block
	if n := len(b.trees); n > 0 {
		if !b.trees[n-1].Full() {
			return b.trees[n-1], nil
		}
		if err := a.complete(ctx); err != nil {
			return nil, err
		}
	}
	leaves := a.options.Leaves
	if b.source.Count != 0 { // no more memory than the block needs
		left := min(b.source.Count-b.decided, uint64(leaves))
		leaves = 1 << bits.Len64(left-1)
	}
	t, err := a.options.Trees.New(leaves)
	if err != nil {
		return nil, fmt.Errorf("subtree %d: %w", len(b.trees), err)
	}
	b.trees = append(b.trees, t)
	return t, nil
}

// refuse is the error about a transaction that the map already has, with the place of the first.
func (b *block) refuse(id Hash) error {
	if id == b.coinbase.ID && b.decided != 0 {
		return fmt.Errorf("%w: record %d: transaction %v is already record 0", ErrDuplicate,
			b.decided, id)
	}
	record := uint64(0)
	for _, t := range b.trees {
		for i := range t.Nodes() {
			if t.Nodes()[i].Hash == id {
				return fmt.Errorf("%w: record %d: transaction %v is already record %d",
					ErrDuplicate, b.decided, id, record+uint64(i))
			}
		}
		record += uint64(len(t.Nodes()))
	}
	return fmt.Errorf("%w: record %d: transaction %v is in an earlier block", ErrDuplicate,
		b.decided, id)
}
