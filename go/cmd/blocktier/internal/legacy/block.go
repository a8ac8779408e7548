package legacy

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// HeaderSize is the size of a block header in bytes.
const HeaderSize = 80

// minTxSize is the smallest transaction: one input and one output with empty scripts.
const minTxSize = 4 + 1 + 41 + 1 + 9 + 4

// Header is a block header with its bytes and hash.
type Header struct {
	wire.BlockHeader
	Raw  [HeaderSize]byte
	Hash chainhash.Hash
}

func (in *input) header(h *Header) error {
	if _, err := io.ReadFull(in, h.Raw[:]); err != nil {
		return in.failed(err, "block header")
	}
	return h.decode(in)
}

// BlockReader reads the transactions of one block.
type BlockReader struct {
	Header Header
	Count  uint64 // transactions in the block
	txs    txReader
	read   uint64

	coinbaseRaw, coinbaseScript []byte
}

// NewBlockReader reads the header of a legacy block from r and yields its transactions. The bytes
// must end with the last transaction.
func NewBlockReader(r io.Reader) (*BlockReader, error) { return openBlock(newInput(r)) }

func openBlock(in *input) (*BlockReader, error) {
	b := &BlockReader{txs: txReader{in: in}}
	if err := in.header(&b.Header); err != nil {
		return nil, err
	}
	n, err := wire.ReadVarInt(in, 0)
	if err != nil {
		return nil, in.failed(err, "transaction count")
	}
	if n == 0 {
		return nil, in.wrong("a block without transactions")
	}
	if in.end >= 0 && n > uint64(in.end-in.offset)/minTxSize {
		return nil, in.wrong("%d transactions do not fit into %d bytes", n, in.end-in.offset)
	}
	b.Count = n
	return b, nil
}

// Next reads the next transaction into tx; io.EOF after the last one, when nothing follows it.
func (b *BlockReader) Next(tx *Tx) error {
	in := b.txs.in
	if b.read == b.Count {
		if err := in.finish("block"); err != nil {
			return err
		}
		return io.EOF
	}
	if err := b.txs.next(tx); err != nil {
		return in.at(err, "transaction %d of %d", b.read, b.Count)
	}
	if b.read == 0 && tx.Coinbase && uint64(b.txs.raw.Len()) == tx.Size {
		b.coinbaseRaw = bytes.Clone(b.txs.raw.Bytes())
		b.coinbaseScript = bytes.Clone(b.txs.message.TxIn[0].SignatureScript)
	}
	b.read++
	return nil
}

// CoinbaseRaw returns the bytes of the coinbase once it was read. It is nil for one that is too
// large for a coinbase.
func (b *BlockReader) CoinbaseRaw() []byte { return b.coinbaseRaw }

// CoinbaseScript returns the script of the coinbase's input once it was read.
func (b *BlockReader) CoinbaseScript() []byte { return b.coinbaseScript }

// ChainReader reads the blocks of a chain file.
type ChainReader struct {
	in      *input
	current *BlockReader
}

// NewChainReader reads blocks from r, each framed by a magic number and its length.
func NewChainReader(r io.Reader) *ChainReader { return &ChainReader{in: newInput(r)} }

// Next opens the next block; io.EOF when the file ended after a whole block. The block before must
// have been read to its end.
func (c *ChainReader) Next() (*BlockReader, error) {
	if b := c.current; b != nil {
		if err := b.Next(new(Tx)); err != io.EOF {
			if err == nil {
				err = c.in.wrong("the block before was not read to its end")
			}
			return nil, err
		}
		c.current = nil
	}
	c.in.end = -1
	end, err := c.in.atEnd()
	if err != nil {
		return nil, err
	}
	if end {
		return nil, io.EOF
	}
	var frame [8]byte
	if _, err := io.ReadFull(c.in, frame[:]); err != nil {
		return nil, c.in.failed(err, "frame of a block")
	}
	magic := wire.BitcoinNet(binary.LittleEndian.Uint32(frame[:4]))
	if magic != wire.MainNet {
		return nil, c.in.wrong("magic number %x before a block, want %x", frame[:4],
			[]byte{0xf9, 0xbe, 0xb4, 0xd9})
	}
	c.in.end = c.in.offset + int64(binary.LittleEndian.Uint32(frame[4:]))
	b, err := openBlock(c.in)
	if err != nil {
		return nil, err
	}
	c.current = b
	return b, nil
}

// DataReader reads transactions that lie back to back, in standard or extended form.
type DataReader struct{ txs txReader }

// NewDataReader reads the transactions of a subtree data file from r.
func NewDataReader(r io.Reader) *DataReader {
	return &DataReader{txReader{in: newInput(r), extended: true}}
}

// Next reads the next transaction into tx; io.EOF when the data ended after a whole one.
func (d *DataReader) Next(tx *Tx) error {
	end, err := d.txs.in.atEnd()
	if err != nil {
		return err
	}
	if end {
		return io.EOF
	}
	return d.txs.next(tx)
}
