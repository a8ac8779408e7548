package tree

// TEMPORARY stand-in

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"

	"github.com/btcsuite/btcd/chainhash/v2"
)

type Hash = chainhash.Hash

type Node struct {
	Hash        Hash
	Fee         uint64
	SizeInBytes uint64
}

type Maker struct{}

type Tree struct {
	nodes      []Node
	Fees, Size uint64
	Stored     Hash
}

var Placeholder = func() (h Hash) {
	for i := range h {
		h[i] = 0xff
	}
	return
}()

func (m *Maker) New(leaves int) (*Tree, error) { return &Tree{nodes: make([]Node, 0, leaves)}, nil }
func (t *Tree) Nodes() []Node                  { return t.nodes }
func (t *Tree) Full() bool                     { return len(t.nodes) == cap(t.nodes) }
func (t *Tree) AddCoinbase() error             { return t.Add(Placeholder, 0, 0) }
func (t *Tree) Add(id Hash, fee, size uint64) error {
	t.nodes = append(t.nodes, Node{id, fee, size})
	t.Fees += fee
	t.Size += size
	return nil
}
func (t *Tree) Mapped() bool { return false }
func (t *Tree) Close() error { return nil }

func merkle(h []Hash) Hash {
	for len(h) > 1 {
		if len(h)&1 == 1 {
			h = append(h, h[len(h)-1])
		}
		n := make([]Hash, 0, len(h)/2)
		for i := 0; i < len(h); i += 2 {
			n = append(n, pair(h[i], h[i+1]))
		}
		h = n
	}
	return h[0]
}
func pair(a, b Hash) Hash {
	x := sha256.Sum256(append(a[:], b[:]...))
	return sha256.Sum256(x[:])
}
func (t *Tree) Root(coinbase *Hash) (Hash, error) {
	var h []Hash
	for _, n := range t.nodes {
		h = append(h, n.Hash)
	}
	if coinbase != nil {
		h[0] = *coinbase
	}
	return merkle(h), nil
}
func BlockRoot(roots []Hash, height int, lastLeaves int) (Hash, error) {
	r := append([]Hash{}, roots...)
	if len(r) > 1 {
		for range height - bits.Len(uint(lastLeaves-1)) {
			r[len(r)-1] = pair(r[len(r)-1], r[len(r)-1])
		}
	}
	return merkle(r), nil
}
func (t *Tree) Write(w io.Writer, magic bool) error {
	if magic {
		io.WriteString(w, "S-1.0   ")
	}
	r, _ := t.Root(nil)
	w.Write(r[:])
	binary.Write(w, binary.LittleEndian, []uint64{t.Fees, t.Size, uint64(len(t.nodes))})
	binary.Write(w, binary.LittleEndian, t.nodes)
	return binary.Write(w, binary.LittleEndian, uint64(0))
}
func (m *Maker) Read(r io.Reader) (*Tree, error) {
	b := bufio.NewReader(r)
	p, _ := b.Peek(8)
	if string(p) == "S-1.0   " {
		b.Discard(8)
	}
	t := new(Tree)
	var n uint64
	for _, x := range []any{&t.Stored, &t.Fees, &t.Size, &n} {
		if err := binary.Read(b, binary.LittleEndian, x); err != nil {
			return nil, err
		}
	}
	if n > 1<<24 {
		return nil, errors.New("too many")
	}
	t.nodes = make([]Node, n)
	return t, binary.Read(b, binary.LittleEndian, t.nodes)
}

func (t *Tree) Sums() (fees, size uint64) { return t.Fees, t.Size }

func NewMaker(rt any, dir string) *Maker { return &Maker{} }
