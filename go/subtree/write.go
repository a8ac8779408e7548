package subtree

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Serialize gives the plain format with the root over the nodes as they are.
func (st *Subtree[H, N]) Serialize() ([]byte, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	var buffer bytes.Buffer
	buffer.Grow(headerBytes + NodeBytes*len(st.Nodes) + 8 + 32*len(st.ConflictingNodes))
	err := st.write(&buffer, Plain)
	return buffer.Bytes(), err
}

// SerializeNodes gives the hashes of the nodes, the format HashList.
func (st *Subtree[H, N]) SerializeNodes() ([]byte, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	var buffer bytes.Buffer
	buffer.Grow(32 * len(st.Nodes))
	err := st.write(&buffer, HashList)
	return buffer.Bytes(), err
}

// Write writes the subtree in a format. It copies no nodes; the subtree cannot change meanwhile.
func (st *Subtree[H, N]) Write(w io.Writer, format Format) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.write(w, format)
}

func (st *Subtree[H, N]) write(w io.Writer, format Format) error {
	if st.closed {
		return errClosed()
	}
	if len(st.Nodes) == 0 {
		return errNoNodes()
	}
	switch format {
	case HashList:
		return writeHashes(w, raw(st.Nodes))
	case WithMagic:
		if _, err := io.WriteString(w, Magic); err != nil {
			return err
		}
	case Plain:
	default:
		return ffi.Errorf(ffi.InvalidArgument, "format %d is not known", format)
	}
	root, err := st.rootLocked()
	if err != nil {
		return err
	}
	hash := [32]byte(*root)
	header := append(make([]byte, 0, headerBytes), hash[:]...)
	header = binary.LittleEndian.AppendUint64(header, st.Fees)
	header = binary.LittleEndian.AppendUint64(header, st.SizeInBytes)
	header = binary.LittleEndian.AppendUint64(header, uint64(len(st.Nodes)))
	if _, err := w.Write(header); err != nil {
		return err
	}
	if err := writeNodes(w, raw(st.Nodes)); err != nil {
		return err
	}
	count := binary.LittleEndian.AppendUint64(nil, uint64(len(st.ConflictingNodes)))
	if _, err := w.Write(count); err != nil {
		return err
	}
	_, err = w.Write(hashBytes(st.ConflictingNodes))
	return err
}

func writeNodes(w io.Writer, nodes []rawNode) error {
	if !bigEndian {
		_, err := w.Write(rawBytes(nodes))
		return err
	}
	for chunk := range slices.Chunk(nodes, readChunk/NodeBytes) {
		swapped := slices.Clone(chunk)
		swapIntegers(swapped)
		if _, err := w.Write(rawBytes(swapped)); err != nil {
			return err
		}
	}
	return nil
}

func writeHashes(w io.Writer, nodes []rawNode) error {
	buffer := make([]byte, 0, min(readChunk, 32*len(nodes)))
	for chunk := range slices.Chunk(nodes, readChunk/32) {
		buffer = buffer[:0]
		for i := range chunk {
			buffer = append(buffer, chunk[i].hash[:]...)
		}
		if _, err := w.Write(buffer); err != nil {
			return err
		}
	}
	return nil
}
