package txmap_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/settings"
	"github.com/blocktier/blocktier/go/subtree"
	"github.com/blocktier/blocktier/go/txmap"
)

// The types of some node, of which this module knows nothing.

type nodeHash [32]byte

type nodeInpoint struct {
	Hash  nodeHash
	Index uint32
}

type nodeInpoints struct {
	Spent        []nodeInpoint
	SubtreeIndex int16
}

type nodeNode struct {
	TxID     nodeHash
	Satoshis uint64
	Bytes    uint64
}

// The interfaces of that node.

type nodeTxMap interface {
	Delete(hash nodeHash) bool
	Exists(hash nodeHash) bool
	Get(hash nodeHash) (*nodeInpoints, bool)
	Length() int
	Set(hash nodeHash, inpoints *nodeInpoints)
	SetIfNotExists(hash nodeHash, inpoints *nodeInpoints) (*nodeInpoints, bool)
	Clear()
}

type nodeDiskMap interface {
	nodeTxMap
	GetWithErr(hash nodeHash) (*nodeInpoints, bool, error)
	SetBatch(hashes []nodeHash, inpoints []*nodeInpoints) error
	UpdateSubtreeIndex(hash nodeHash, index int16)
	UpdateSubtreeIndexBatch(hashes []nodeHash, index int16) (int, error)
	MoveFrom(source txmap.TxMap[nodeHash, *nodeInpoints], hashes []nodeHash,
		wasSet []bool) (int, error)
	Keys() []nodeHash
	Iter(f func(nodeHash, *nodeInpoints) bool)
	Freeze()
	TakeErr() error
	TakeCloseWarn() error
	Close() error
}

type nodeSubtree interface {
	AddNode(hash nodeHash, fee, size uint64) error
	AddSubtreeNode(node nodeNode) error
	AddSubtreeNodeWithoutLock(node nodeNode) error
	AddCoinbaseNode() error
	AddConflictingNode(hash nodeHash) error
	RemoveNodeAtIndex(index int) error
	ReplaceRootNode(hash *nodeHash, fee, size uint64) *nodeHash
	RootHash() *nodeHash
	RootHashPadded(height int) (*nodeHash, error)
	RootHashWithReplaceRootNode(hash *nodeHash, fee, size uint64) (*nodeHash, error)
	GetMerkleProof(index int) ([]*nodeHash, error)
	NodeIndex(hash nodeHash) int
	HasNode(hash nodeHash) bool
	GetNode(hash nodeHash) (*nodeNode, error)
	IsComplete() bool
	Length() int
	Size() int
	Serialize() ([]byte, error)
	SerializeNodes() ([]byte, error)
	Close() error
	IsMmapBacked() bool
}

// nodeCodec is what the node writes to use its own type: p times (hash, index).
type nodeCodec struct{}

func (nodeCodec) AppendValue(dst []byte, v *nodeInpoints) ([]byte, error) {
	if v == nil {
		return dst, errors.New("nil inpoints")
	}
	for _, spent := range v.Spent {
		dst = append(dst, spent.Hash[:]...)
		dst = binary.LittleEndian.AppendUint32(dst, spent.Index)
	}
	return dst, nil
}

func (nodeCodec) DecodeValue(b []byte) (*nodeInpoints, error) {
	if len(b)%36 != 0 {
		return nil, errors.New("not a multiple of 36")
	}
	v := &nodeInpoints{}
	for ; len(b) > 0; b = b[36:] {
		v.Spent = append(v.Spent, nodeInpoint{nodeHash(b[:32]), binary.LittleEndian.Uint32(b[32:])})
	}
	return v, nil
}

func (nodeCodec) SubtreeIndex(v *nodeInpoints) int16 { return v.SubtreeIndex }

func (nodeCodec) SetSubtreeIndex(v *nodeInpoints, index int16) { v.SubtreeIndex = index }

var (
	_ nodeDiskMap = (*txmap.DiskTxMap[nodeHash, *nodeInpoints])(nil)
	_ nodeDiskMap = (*txmap.HeapTxMap[nodeHash, *nodeInpoints])(nil)
	_ nodeSubtree = (*subtree.Subtree[nodeHash, nodeNode])(nil)
)

func TestForeignTypesFromSettings(t *testing.T) {
	all := map[string]settings.Settings{"heap": {}}
	var rt *blocktier.Runtime
	if ffi.Available() == nil {
		rt = openRuntime(t)
		all["disk"] = settings.Settings{BlockAssemblyTxMapDirs: []string{t.TempDir()},
			TxMapTail: "1M"}
	}
	for name, s := range all {
		m, err := txmap.New[nodeHash](rt, s, nodeCodec{})
		if err != nil {
			t.Fatal(err)
		}
		var theirs nodeTxMap = m
		a, b := nodeHash{1}, nodeHash{2}
		first := &nodeInpoints{Spent: []nodeInpoint{{b, 3}}, SubtreeIndex: 4}
		if got, inserted := theirs.SetIfNotExists(a, first); !inserted || got != first {
			t.Errorf("%s: not inserted: %v", name, m.Err())
		}
		got, inserted := theirs.SetIfNotExists(a, &nodeInpoints{})
		if inserted || got == nil || len(got.Spent) != 1 || got.Spent[0] != first.Spent[0] ||
			got.SubtreeIndex != 4 {
			t.Errorf("%s: a duplicate gives %v", name, got)
		}
		nodes := []nodeNode{{TxID: a}, {TxID: b}}
		if count, err := txmap.UpdateSubtreeIndexNodes(m, nodes, 9); count != 1 || err != nil {
			t.Errorf("%s: %d nodes updated, %v", name, count, err)
		}
		if got, _ := theirs.Get(a); got == nil || got.SubtreeIndex != 9 {
			t.Errorf("%s: subtree index of %v", name, got)
		}
		st, err := subtree.NewTree[nodeHash, nodeNode](1)
		if err != nil || st.AddNode(a, 5, 6) != nil || st.AddSubtreeNode(nodeNode{b, 7, 8}) != nil {
			t.Fatal(err)
		}
		if st.Nodes[0] != (nodeNode{a, 5, 6}) || st.Fees != 12 || st.SizeInBytes != 14 {
			t.Errorf("nodes %v", st.Nodes)
		}
		missing, err := st.Difference(theirs)
		if err != nil || len(missing) != 1 || missing[0].TxID != b {
			t.Errorf("%s: difference %v, %v", name, missing, err)
		}
		old, err := m.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		wasSet := make([]bool, 1)
		if missing, err := m.MoveFrom(old, []nodeHash{a, b}, nil); missing != 1 || err != nil {
			t.Errorf("%s: moved, missing %d, %v", name, missing, err)
		}
		if missing, err := m.MoveFrom(old, []nodeHash{a}, wasSet); missing != -1 || err != nil ||
			!wasSet[0] {
			t.Errorf("%s: missing %d, set %v, %v", name, missing, wasSet, err)
		}
		for hash, inpoints := range m.All() {
			if hash != a || inpoints.SubtreeIndex != 9 || inpoints.Spent[0] != first.Spent[0] {
				t.Errorf("%s: visits %v: %v", name, hash, inpoints)
			}
		}
		if keys := m.Keys(); len(keys) != 1 || keys[0] != a {
			t.Errorf("%s: keys %v", name, keys)
		}
		if err := errors.Join(m.Err(), old.Err(), m.Close(), old.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestNodeTypesWithAnotherLayoutAreRefused(t *testing.T) {
	type withPointer struct {
		Hash nodeHash
		Fee  *uint64
		Size uint64
	}
	type tooLong struct {
		nodeNode
		More uint64
	}
	type hashLast struct {
		Fee, Size uint64
		Hash      nodeHash
	}
	_, pointer := subtree.NewTree[nodeHash, withPointer](1)
	_, long := subtree.NewTree[nodeHash, tooLong](1)
	_, last := subtree.NewTree[nodeHash, hashLast](1)
	for i, err := range []error{pointer, long, last} {
		if !errors.Is(err, blocktier.ErrInvalidArgument) {
			t.Errorf("type %d: %v", i, err)
		}
	}
}
