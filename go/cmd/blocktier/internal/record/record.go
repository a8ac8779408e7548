// Package record reads inpoint records: transactions reduced to their id and what they spend.
//
//	txid 32 | n u16 | n x (parent txid 32 | vout u32)    back to back, integers little-endian
package record

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	headSize  = chainhash.HashSize + 2
	inputSize = chainhash.HashSize + 4
)

// ErrTruncated means that the bytes end within a record.
var ErrTruncated = errors.New("the bytes end within a record")

// Record is one transaction. Inputs are valid until the next one is read.
type Record struct {
	Txid   chainhash.Hash
	Inputs []wire.OutPoint
}

// Decode reads a record from bytes that hold exactly one.
func (r *Record) Decode(raw []byte) error {
	if len(raw) < headSize {
		return ErrTruncated
	}
	n := int(binary.LittleEndian.Uint16(raw[chainhash.HashSize:]))
	if len(raw) != headSize+n*inputSize {
		return fmt.Errorf("%d bytes for a record with %d inputs, want %d", len(raw), n,
			headSize+n*inputSize)
	}
	r.Txid = chainhash.Hash(raw)
	r.decodeInputs(raw[headSize:])
	return nil
}

func (r *Record) decodeInputs(raw []byte) {
	r.Inputs = r.Inputs[:0]
	for ; len(raw) > 0; raw = raw[inputSize:] {
		r.Inputs = append(r.Inputs, wire.OutPoint{
			Hash:  chainhash.Hash(raw),
			Index: binary.LittleEndian.Uint32(raw[chainhash.HashSize:]),
		})
	}
}

// Reader reads records from a stream. Not for concurrent use.
type Reader struct {
	from   *bufio.Reader
	buffer []byte
	count  uint64
	offset int64
}

// NewReader reads the records of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{from: bufio.NewReaderSize(r, 1<<20), buffer: make([]byte, 65_535*inputSize)}
}

// Offset returns how many bytes were read.
func (r *Reader) Offset() int64 { return r.offset }

// Next reads the next record; io.EOF when the stream ended after a whole one.
func (r *Reader) Next(to *Record) error {
	head := r.buffer[:headSize]
	if n, err := io.ReadFull(r.from, head); err == io.EOF && n == 0 {
		return io.EOF
	} else if err != nil {
		return r.failed(err)
	}
	to.Txid = chainhash.Hash(head)
	inputs := r.buffer[:int(binary.LittleEndian.Uint16(head[chainhash.HashSize:]))*inputSize]
	if _, err := io.ReadFull(r.from, inputs); err != nil {
		return r.failed(err)
	}
	to.decodeInputs(inputs)
	r.count++
	r.offset += int64(headSize + len(inputs))
	return nil
}

func (r *Reader) failed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrTruncated
	}
	return fmt.Errorf("record %d at offset %d: %w", r.count, r.offset, err)
}
