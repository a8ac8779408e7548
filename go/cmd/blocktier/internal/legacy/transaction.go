package legacy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"math/bits"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Tx is what blocktier needs of a transaction.
type Tx struct {
	ID   chainhash.Hash
	Size uint64 // bytes of the standard form
	// Inputs in order; empty for a coinbase. Valid until the next transaction is read.
	Inputs   []wire.OutPoint
	Coinbase bool
	// Fee is known when the transaction came in extended form; 0 for a coinbase.
	Fee      uint64
	FeeKnown bool
}

// txReader reads transactions from an input.
type txReader struct {
	in       *input
	extended bool // whether the extended form is allowed
	raw      bytes.Buffer
	message  wire.MsgTx
	walker   walker
}

// extendedMark follows the version of a transaction in extended form: no inputs, no outputs, and a
// lock time that no such transaction would have.
var extendedMark = []byte{0, 0, 0, 0, 0, 0xef}

const versionSize = 4

// next reads the transaction that starts here into tx.
func (r *txReader) next(tx *Tx) error {
	head, err := r.in.peek(versionSize + len(extendedMark))
	if err != nil {
		return r.in.failed(err, "transaction")
	}
	*tx = Tx{Inputs: tx.Inputs[:0]}
	switch {
	case r.extended && len(head) > versionSize && bytes.Equal(head[versionSize:], extendedMark):
		err = r.walker.walk(r.in, r.in, true, tx)
	case len(head) > versionSize && head[versionSize] == 0:
		return r.in.wrong("transaction without inputs, or with witness data")
	default:
		err = r.standard(tx)
	}
	if err != nil {
		return r.in.failed(err, "transaction")
	}
	if len(tx.Inputs) == 1 && tx.Inputs[0].Hash == (chainhash.Hash{}) &&
		tx.Inputs[0].Index == wire.MaxPrevOutIndex {
		tx.Coinbase, tx.Inputs, tx.Fee = true, tx.Inputs[:0], 0
	}
	return nil
}

// standard lets the wire package parse. What is too large for it (4 MiB of scripts, 32 MiB of
// inputs) is walked from the same bytes again, without keeping scripts.
func (r *txReader) standard(tx *Tx) error {
	r.raw.Reset()
	err := r.message.DeserializeNoWitness(io.TeeReader(r.in, &r.raw))
	if isMessageError(err) {
		return r.walker.walk(io.MultiReader(&r.raw, r.in), r.in, false, tx)
	}
	if err != nil {
		return err
	}
	tx.ID = chainhash.DoubleHashH(r.raw.Bytes())
	tx.Size = uint64(r.raw.Len())
	for _, in := range r.message.TxIn {
		tx.Inputs = append(tx.Inputs, in.PreviousOutPoint)
	}
	return nil
}

func isMessageError(err error) bool {
	var m *wire.MessageError
	return errors.As(err, &m)
}

// walker goes through one transaction and hashes its standard form, without keeping any script.
type walker struct {
	from     io.Reader
	in       *input // for the offset in errors
	digest   hash.Hash
	size     uint64
	scratch  [8]byte
	buffer   [4096]byte
	satoshis uint64 // of the spent outputs, extended form only
	err      error
}

// walk reads one transaction from r, which ends up reading in.
func (w *walker) walk(r io.Reader, in *input, extended bool, tx *Tx) error {
	if w.digest == nil {
		w.digest = sha256.New()
	}
	w.digest.Reset()
	w.from, w.in, w.size, w.satoshis, w.err = r, in, 0, 0, nil
	w.copy(versionSize)
	if extended {
		w.skip(uint64(len(extendedMark)))
	}
	inputs := w.count()
	if w.err == nil && inputs == 0 {
		return in.wrong("transaction without inputs")
	}
	for range inputs {
		var p wire.OutPoint
		w.input(&p, extended)
		if w.err != nil {
			return w.err
		}
		tx.Inputs = append(tx.Inputs, p)
	}
	paid := uint64(0)
	for range w.count() {
		w.add(&paid, w.uint64())
		w.copy(w.count()) // script
		if w.err != nil {
			return w.err
		}
	}
	w.copy(4) // lock time
	if w.err != nil {
		return w.err
	}
	inner := w.digest.Sum(nil)
	tx.ID, tx.Size = sha256.Sum256(inner), w.size
	if extended {
		tx.FeeKnown = true
		if paid > w.satoshis && !isCoinbaseInput(tx.Inputs) {
			return in.wrong("transaction %v: outputs of %d satoshis exceed inputs of %d", tx.ID,
				paid, w.satoshis)
		}
		tx.Fee = w.satoshis - paid
	}
	return nil
}

func isCoinbaseInput(inputs []wire.OutPoint) bool {
	return len(inputs) == 1 && inputs[0].Hash == (chainhash.Hash{}) &&
		inputs[0].Index == wire.MaxPrevOutIndex
}

func (w *walker) input(p *wire.OutPoint, extended bool) {
	w.read(p.Hash[:])
	w.read(w.scratch[:4])
	p.Index = binary.LittleEndian.Uint32(w.scratch[:4])
	w.copy(w.count()) // script
	w.copy(4)         // sequence
	if extended {
		w.readOnly(w.scratch[:8])
		w.add(&w.satoshis, binary.LittleEndian.Uint64(w.scratch[:8]))
		w.skip(w.countOnly())
	}
}

func (w *walker) add(sum *uint64, v uint64) {
	total, carry := bits.Add64(*sum, v, 0)
	if carry != 0 && w.err == nil {
		w.err = w.in.wrong("the satoshis of a transaction exceed 64 bits")
	}
	*sum = total
}

// readOnly fills p; read also hashes it as part of the standard form.
func (w *walker) readOnly(p []byte) {
	if w.err == nil {
		_, w.err = io.ReadFull(w.from, p)
	}
}

func (w *walker) read(p []byte) {
	w.readOnly(p)
	if w.err == nil {
		w.digest.Write(p)
		w.size += uint64(len(p))
	}
}

func (w *walker) uint64() uint64 {
	w.read(w.scratch[:8])
	return binary.LittleEndian.Uint64(w.scratch[:8])
}

// countOnly reads a varint in its shortest form, 0 after an error.
func (w *walker) countOnly() uint64 {
	if w.err != nil {
		return 0
	}
	var n uint64
	n, w.err = wire.ReadVarIntBuf(w.from, 0, w.scratch[:])
	if w.err != nil {
		return 0
	}
	return n
}

func (w *walker) count() uint64 {
	n := w.countOnly()
	if w.err == nil {
		w.err = wire.WriteVarInt(w.digest, 0, n)
		w.size += uint64(wire.VarIntSerializeSize(n))
	}
	return n
}

// copy hashes n bytes of the standard form; skip reads over n bytes that are not part of it.
func (w *walker) copy(n uint64) { w.over(n, w.read) }

func (w *walker) skip(n uint64) { w.over(n, w.readOnly) }

func (w *walker) over(n uint64, read func([]byte)) {
	for n > 0 && w.err == nil {
		part := min(n, uint64(len(w.buffer)))
		read(w.buffer[:part])
		n -= part
	}
}
