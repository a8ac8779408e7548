package subtree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// firstNodes is the size of the array that the nodes of a reader of unknown length start in: 3 MiB.
const firstNodes = 1 << 16

// readChunk is the most that is read at once, in bytes; a multiple of the sizes of nodes and
// hashes.
const readChunk = 96 << 14

// NewSubtreeFromReader reads a subtree onto the Go heap. The result is full: its capacity is what
// was read. Structure is checked, root, sums and policy are not: see Verify.
func NewSubtreeFromReader[H ~[32]byte, N any](r io.Reader, options ...ReadOption) (*Subtree[H, N],
	error) {
	if err := checkLayout[N](); err != nil {
		return nil, err
	}
	st := new(Subtree[H, N])
	if err := st.read(r, newReadConfig(r, options), &place[N]{}); err != nil {
		return nil, err
	}
	return st, nil
}

// NewSubtreeFromReaderMmap reads a subtree into a mapped file in directory, or into anonymous
// memory outside the Go heap where directory is empty: the reader's bytes go straight there. Where
// that cannot be had the Go heap is used and the runtime's logger warned; the reader is read once
// in any case. The result must be closed.
func NewSubtreeFromReaderMmap[H ~[32]byte, N any](rt *blocktier.Runtime, r io.Reader,
	directory string, options ...ReadOption) (*Subtree[H, N], error) {
	if rt == nil {
		return nil, rt.Use(nil)
	}
	if err := checkLayout[N](); err != nil {
		return nil, err
	}
	st := new(Subtree[H, N])
	if err := st.read(r, newReadConfig(r, options), &place[N]{rt: rt, dir: directory}); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}

// NewSubtreeFromReaderPool reads a subtree into memory of the pool, which was touched before and
// which the pool gets back when the result is closed. A subtree of more nodes than the pool's is
// read as by NewSubtreeFromReaderMmap. The result must be closed.
func NewSubtreeFromReaderPool[H ~[32]byte, N any](p *Pool[N], r io.Reader,
	options ...ReadOption) (*Subtree[H, N], error) {
	st := new(Subtree[H, N])
	place := &place[N]{rt: p.rt, dir: p.directory, pool: p}
	if err := st.read(r, newReadConfig(r, options), place); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}

// Deserialize reads the plain format from b, which must end with it.
func (st *Subtree[H, N]) Deserialize(b []byte) error {
	return st.DeserializeFromReader(bytes.NewReader(b))
}

// DeserializeFromReader reads the plain format. The subtree's content is replaced, by what was read
// or, on an error, by nothing; a mapped subtree is mapped again, so slices of its old Nodes end
// here.
func (st *Subtree[H, N]) DeserializeFromReader(r io.Reader) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return errClosed()
	}
	if err := checkLayout[N](); err != nil {
		return err
	}
	rt, dir, old := st.rt, st.dir, st.array
	st.Nodes, st.ConflictingNodes, st.array = nil, nil, nil
	st.Height, st.Fees, st.SizeInBytes = 0, 0, 0
	err := st.forget()
	if old != nil {
		err = errors.Join(err, old.Close())
	}
	if err != nil {
		return err
	}
	return st.read(r, newReadConfig(r, nil), &place[N]{rt: rt, dir: dir})
}

// read fills an empty subtree. On an error it stays empty and holds no memory.
func (st *Subtree[H, N]) read(r io.Reader, c readConfig, place *place[N]) error {
	in := input{r, max(c.length, -1)}
	err := st.readInto(&in, c, place)
	if err == nil && !c.trailing {
		err = in.end()
	}
	if err != nil {
		st.Nodes, st.ConflictingNodes, st.stored = nil, nil, nil
		st.Height, st.Fees, st.SizeInBytes = 0, 0, 0
		return joinClose(err, place.array)
	}
	st.Height = heightOf(len(place.nodes))
	st.Nodes = place.nodes[:len(place.nodes):len(place.nodes)]
	if place.array != nil && place.array.IsMapped() {
		st.array, st.rt, st.dir = place.array, place.rt, place.dir
	}
	return nil
}

func joinClose[N any](err error, array *NodeArray[N]) error {
	if array == nil {
		return err
	}
	if failure := array.Close(); failure != nil {
		return errors.Join(err, failure)
	}
	return err
}

func (st *Subtree[H, N]) readInto(in *input, c readConfig, place *place[N]) error {
	switch c.format {
	case HashList:
		return readHashList(in, place)
	case WithMagic:
		var magic [len(Magic)]byte
		if err := in.full(magic[:], "magic"); err != nil {
			return err
		}
		if string(magic[:]) != Magic {
			return ffi.FormatError(ffi.BadMagic, "the file begins with %q, not with %q", magic[:],
				Magic)
		}
	case Plain:
	default:
		return ffi.Errorf(ffi.InvalidArgument, "format %d is not known", c.format)
	}
	var header [headerBytes]byte
	if err := in.full(header[:], "header"); err != nil {
		return err
	}
	stored := [32]byte(header[:32])
	st.stored = &stored
	st.Fees = binary.LittleEndian.Uint64(header[32:])
	st.SizeInBytes = binary.LittleEndian.Uint64(header[40:])
	if err := readNodes(in, place, binary.LittleEndian.Uint64(header[48:])); err != nil {
		return err
	}
	var word [8]byte
	if err := in.full(word[:], "count of conflicting hashes"); err != nil {
		return err
	}
	conflicting, err := readHashes[H](in, binary.LittleEndian.Uint64(word[:]))
	st.ConflictingNodes = conflicting
	return err
}

// input reads exactly, and knows how much is left where that can be known.
type input struct {
	r    io.Reader
	left int64 // -1 where unknown
}

// full fills b or says what was cut.
func (in *input) full(b []byte, what string) error {
	if !in.holds(uint64(len(b)), 1) {
		return ffi.FormatError(ffi.Truncated, "%s: %d of %d bytes are there", what, in.left, len(b))
	}
	n, err := io.ReadFull(in.r, b)
	if in.left >= 0 {
		in.left -= int64(n)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ffi.FormatError(ffi.Truncated, "%s: %d of %d bytes are there", what, n, len(b))
	}
	return err
}

// holds reports whether count items of unit bytes can be there.
func (in *input) holds(count, unit uint64) bool {
	if in.left >= 0 {
		return count <= uint64(in.left)/unit
	}
	return count <= 1<<62/unit
}

// end checks that nothing follows.
func (in *input) end() error {
	var extra [1]byte
	n, err := io.ReadFull(in.r, extra[:])
	if n > 0 {
		return ffi.FormatError(ffi.TrailingBytes, "bytes follow the subtree")
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// place is where nodes are read to: an array that grows where the length of the input is not known.
type place[N any] struct {
	rt    *blocktier.Runtime // nil for the heap
	dir   string
	pool  *Pool[N] // nil without one
	full  bool     // whether what is made next will be filled
	array *NodeArray[N]
	nodes []N
}

// grow moves the nodes to an array of capacity.
func (p *place[N]) grow(capacity int) error {
	var array *NodeArray[N]
	var err error
	if p.rt == nil {
		array, err = NewHeapArray[N](capacity)
	} else if p.pool != nil && capacity <= 1<<p.pool.height {
		array, err = p.pool.Array()
	} else {
		touched := p.full || touchAtOnce(capacity)
		array, err = newNodeArrayOrHeap[N](p.rt, capacity, p.dir, touched)
	}
	if err != nil {
		return err
	}
	nodes := append(array.Slice(), p.nodes...)
	if p.array != nil {
		if err := p.array.Close(); err != nil {
			return joinClose(err, array)
		}
	}
	p.array, p.nodes = array, nodes
	return nil
}

// more makes room behind the nodes: at most total nodes in all, at once if the input is known to
// hold them.
func (p *place[N]) more(in *input, total int) error {
	if len(p.nodes) < cap(p.nodes) {
		return nil
	}
	if in.left >= 0 {
		p.full = true
		return p.grow(total)
	}
	return p.grow(min(total, max(firstNodes, 2*cap(p.nodes))))
}

// readNodes reads count nodes straight into their place.
func readNodes[N any](in *input, place *place[N], count uint64) error {
	if count == 0 {
		return ffi.FormatError(ffi.ZeroNodes, "a subtree without nodes")
	}
	if !in.holds(count, NodeBytes) {
		return errCount("nodes", count, NodeBytes)
	}
	if count > 1<<maxHeight {
		return ffi.FormatError(ffi.CountTooLarge, "the count says %d nodes; the limit is %d", count,
			uint64(1)<<maxHeight)
	}
	total := int(count)
	for len(place.nodes) < total {
		if err := place.more(in, total); err != nil {
			return err
		}
		first := len(place.nodes)
		end := min(cap(place.nodes), first+readChunk/NodeBytes, total)
		fresh := raw(place.nodes[first:end])
		if err := in.full(rawBytes(fresh), "nodes"); err != nil {
			if errors.Is(err, ffi.Format) {
				return errCount("nodes", count, NodeBytes)
			}
			return err
		}
		swapIntegers(fresh)
		place.nodes = place.nodes[:end]
	}
	return nil
}

// readHashes reads count hashes; memory grows with the bytes that arrive.
func readHashes[H ~[32]byte](in *input, count uint64) ([]H, error) {
	if !in.holds(count, 32) {
		return nil, errCount("conflicting hashes", count, 32)
	}
	var hashes []H
	if in.left >= 0 {
		hashes = make([]H, 0, count)
	}
	for uint64(len(hashes)) < count {
		first := len(hashes)
		take := min(count-uint64(first), readChunk/32)
		hashes = append(hashes, make([]H, take)...)
		if err := in.full(hashBytes(hashes[first:]), "conflicting hashes"); err != nil {
			if errors.Is(err, ffi.Format) {
				return nil, errCount("conflicting hashes", count, 32)
			}
			return nil, err
		}
	}
	return hashes, nil
}

// readHashList reads hashes: as many as the input's length says, or until it ends where that is not
// known. Fees and sizes are not known and stay 0.
func readHashList[N any](in *input, place *place[N]) error {
	if in.left < 0 {
		return readHashesToEnd(in, place)
	}
	if in.left == 0 {
		return ffi.FormatError(ffi.Empty, "an empty hash list")
	}
	if in.left%32 != 0 {
		return ffi.FormatError(ffi.NotMultipleOf32, "a hash list of %d bytes", in.left)
	}
	if in.left/32 > 1<<maxHeight {
		return ffi.FormatError(ffi.CountTooLarge, "a list of %d hashes; the limit is %d",
			in.left/32, 1<<maxHeight)
	}
	total := int(in.left / 32)
	place.full = true
	if err := place.grow(total); err != nil {
		return err
	}
	buffer := make([]byte, min(readChunk, 32*total))
	for len(place.nodes) < total {
		part := buffer[:min(len(buffer), 32*(total-len(place.nodes)))]
		if err := in.full(part, "hashes"); err != nil {
			return err
		}
		place.appendHashes(part)
	}
	return nil
}

func readHashesToEnd[N any](in *input, place *place[N]) error {
	buffer := make([]byte, readChunk)
	for {
		n, err := io.ReadFull(in.r, buffer)
		if n%32 != 0 {
			if err == io.ErrUnexpectedEOF {
				return ffi.FormatError(ffi.NotMultipleOf32, "a hash list of %d hashes and %d bytes",
					len(place.nodes)+n/32, n%32)
			}
			return err
		}
		for left := buffer[:n]; len(left) > 0; {
			if len(place.nodes) == 1<<maxHeight {
				return ffi.FormatError(ffi.CountTooLarge, "more than %d hashes", 1<<maxHeight)
			}
			if err := place.more(in, 1<<maxHeight); err != nil {
				return err
			}
			part := min(len(left), 32*(cap(place.nodes)-len(place.nodes)))
			place.appendHashes(left[:part])
			left = left[part:]
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			if len(place.nodes) == 0 {
				return ffi.FormatError(ffi.Empty, "an empty hash list")
			}
			return nil
		case err != nil:
			return err
		}
	}
}

// appendHashes puts hashes behind the nodes, in whose array there is room for them.
func (p *place[N]) appendHashes(hashes []byte) {
	first := len(p.nodes)
	p.nodes = p.nodes[:first+len(hashes)/32]
	fresh := raw(p.nodes[first:])
	for i := range fresh {
		fresh[i] = rawNode{hash: [32]byte(hashes[32*i:])}
	}
}
