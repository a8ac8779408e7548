package legacy

import (
	"bytes"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// NodeBlock is a block that refers to its subtrees by their roots.
type NodeBlock struct {
	Header      Header
	Txs         uint64 // transactions, the coinbase included
	Size        uint64 // bytes of the legacy block
	Subtrees    []chainhash.Hash
	Coinbase    Tx
	CoinbaseRaw []byte // standard form
	Height      uint64
}

// maxSubtrees bounds what a count may claim before the bytes are there.
const maxSubtrees = 1 << 24

// ReadNodeBlock reads a node block from r, which must end with it.
func ReadNodeBlock(r io.Reader) (*NodeBlock, error) {
	in := newInput(r)
	b := new(NodeBlock)
	if err := in.header(&b.Header); err != nil {
		return nil, err
	}
	var subtrees uint64
	for _, field := range []struct {
		to   *uint64
		name string
	}{{&b.Txs, "transaction count"}, {&b.Size, "block size"}, {&subtrees, "subtree count"}} {
		var err error
		if *field.to, err = wire.ReadVarInt(in, 0); err != nil {
			return nil, in.failed(err, "%s", field.name)
		}
	}
	if subtrees > maxSubtrees {
		return nil, in.wrong("%d subtrees, at most %d are possible", subtrees, maxSubtrees)
	}
	for i := range subtrees {
		var root chainhash.Hash
		if _, err := io.ReadFull(in, root[:]); err != nil {
			return nil, in.failed(err, "root of subtree %d of %d", i, subtrees)
		}
		b.Subtrees = append(b.Subtrees, root)
	}
	txs := txReader{in: in}
	if err := txs.next(&b.Coinbase); err != nil {
		return nil, in.at(err, "coinbase")
	}
	if !b.Coinbase.Coinbase {
		return nil, in.wrong("the transaction %v in the coinbase's place is none", b.Coinbase.ID)
	}
	if uint64(txs.raw.Len()) != b.Coinbase.Size {
		return nil, in.wrong("a coinbase of %d bytes is too large", b.Coinbase.Size)
	}
	b.CoinbaseRaw = bytes.Clone(txs.raw.Bytes())
	var err error
	if b.Height, err = wire.ReadVarInt(in, 0); err != nil {
		return nil, in.failed(err, "height")
	}
	return b, in.finish("block")
}

// Encode returns the bytes of the block. CoinbaseRaw is what is stored of the coinbase.
func (b *NodeBlock) Encode() []byte {
	var out bytes.Buffer
	out.Write(b.Header.Raw[:])
	put := func(v uint64) { _ = wire.WriteVarInt(&out, 0, v) } // a buffer takes everything
	put(b.Txs)
	put(b.Size)
	put(uint64(len(b.Subtrees)))
	for i := range b.Subtrees {
		out.Write(b.Subtrees[i][:])
	}
	out.Write(b.CoinbaseRaw)
	put(b.Height)
	return out.Bytes()
}

func (h *Header) decode(in *input) error {
	if err := h.Deserialize(bytes.NewReader(h.Raw[:])); err != nil {
		return in.failed(err, "block header")
	}
	h.Hash = chainhash.DoubleHashH(h.Raw[:])
	return nil
}

// at puts what is being read in front of an error.
func (in *input) at(err error, what string, arguments ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(what, arguments...), err)
}

// VarIntSize is the size of a number in the variable-length form of blocks.
func VarIntSize(n uint64) uint64 { return uint64(wire.VarIntSerializeSize(n)) }
