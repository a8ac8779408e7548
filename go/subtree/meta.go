package subtree

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"

	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/internal/inpoints"
)

// The subtreeMeta format: root 32 | n u32 | n x inpoints, one per node in order, as encoded by
// txmap.TxInpointsCodec:
//
//	p u32 | p x parent hash 32 | p x (k u32 | k x output index u32)
//
// The coinbase and its placeholder have p = 0.

// MetaWriter writes a subtreeMeta file. Call Append once per node, then Close.
type MetaWriter struct {
	w    *bufio.Writer
	left int
}

// NewMetaWriter begins a file for a subtree of n nodes, at least one, with this root.
func NewMetaWriter[H ~[32]byte](w io.Writer, root H, n int) (*MetaWriter, error) {
	if n < 1 || uint64(n) > math.MaxUint32 {
		return nil, ffi.Errorf(ffi.InvalidArgument, "a subtreeMeta of %d nodes", n)
	}
	m := &MetaWriter{w: bufio.NewWriterSize(w, 1<<16), left: n}
	hash := [32]byte(root)
	header := binary.LittleEndian.AppendUint32(hash[:], uint32(n))
	_, err := m.w.Write(header)
	return m, err
}

// Append writes the encoded inpoints of the next node. Bytes that are no inpoints are refused.
func (m *MetaWriter) Append(encoded []byte) error {
	if m.left == 0 {
		return ffi.Errorf(ffi.InvalidArgument, "more inpoints than the subtreeMeta has nodes")
	}
	if err := inpoints.Check(encoded); err != nil {
		return err
	}
	m.left--
	_, err := m.w.Write(encoded)
	return err
}

// Close ends the file; an error if nodes are missing. The underlying writer stays open.
func (m *MetaWriter) Close() error {
	if m.left != 0 {
		return ffi.Errorf(ffi.InvalidArgument, "the inpoints of %d nodes are missing", m.left)
	}
	return m.w.Flush()
}

// MetaReader reads a subtreeMeta file entry by entry. Its memory is bounded by the longest entry
// that is really there.
type MetaReader[H ~[32]byte] struct {
	// Root and Count are the file's header. The root is a claim.
	Root  H
	Count int

	in    input
	next  int
	entry []byte
}

// NewMetaReader reads the header.
func NewMetaReader[H ~[32]byte](r io.Reader) (*MetaReader[H], error) {
	m := &MetaReader[H]{in: input{bufio.NewReaderSize(r, 1<<16), lengthOf(r)}}
	var header [36]byte
	if err := m.in.full(header[:], "header of subtreeMeta"); err != nil {
		return nil, err
	}
	count := binary.LittleEndian.Uint32(header[32:])
	if count == 0 {
		return nil, ffi.FormatError(ffi.ZeroNodes, "a subtreeMeta without entries")
	}
	if !m.in.holds(uint64(count), 4) {
		return nil, errCount("inpoints", uint64(count), 4)
	}
	m.Root, m.Count = H(header[:32]), int(count)
	return m, nil
}

// Next returns the next node's encoded inpoints, valid until the next call; io.EOF after the last,
// when nothing follows.
func (m *MetaReader[H]) Next() ([]byte, error) {
	if m.next == m.Count {
		if err := m.in.end(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	m.entry = m.entry[:0]
	parents, err := m.count(32+4, "parents")
	if err != nil {
		return nil, err
	}
	if err := m.take(32*uint64(parents), "parents"); err != nil {
		return nil, err
	}
	for range parents {
		outputs, err := m.count(4, "outputs")
		if err != nil {
			return nil, err
		}
		if err := m.take(4*uint64(outputs), "outputs"); err != nil {
			return nil, err
		}
	}
	m.next++
	return m.entry, nil
}

// count appends a count to the entry and checks that its items can be there.
func (m *MetaReader[H]) count(unit uint64, what string) (uint32, error) {
	if err := m.take(4, "count of "+what); err != nil {
		return 0, err
	}
	count := binary.LittleEndian.Uint32(m.entry[len(m.entry)-4:])
	if !m.in.holds(uint64(count), unit) {
		return 0, errCount(what, uint64(count), unit)
	}
	return count, nil
}

// take appends n bytes to the entry, which grows with the bytes that arrive.
func (m *MetaReader[H]) take(n uint64, what string) error {
	for n > 0 {
		step := int(min(n, readChunk))
		first := len(m.entry)
		m.entry = append(m.entry, make([]byte, step)...)
		if err := m.in.full(m.entry[first:], what); err != nil {
			return err
		}
		n -= uint64(step)
	}
	return nil
}
