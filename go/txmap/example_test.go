package txmap_test

import (
	"fmt"

	"github.com/blocktier/blocktier/go/settings"
	"github.com/blocktier/blocktier/go/txmap"
)

func ExampleNew() {
	type Hash [32]byte
	// Without directories the map is on the Go heap and needs no runtime; with
	// settings.Settings{TxMapDirs: ...} and a blocktier.Runtime it is on disk.
	m, err := txmap.New[Hash](nil, settings.Settings{}, txmap.TxInpointsCodec[Hash]{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	v := &txmap.TxInpoints[Hash]{}
	v.Add(Hash{9}, 0)
	_, inserted := m.SetIfNotExists(Hash{1}, v)
	existing, again := m.SetIfNotExists(Hash{1}, &txmap.TxInpoints[Hash]{})
	fmt.Println(inserted, again, existing.Inputs(), m.Length())
	// Output: true false 1 1
}

// A block has been mined: the map is rotated, what is not in the block moves to the new content,
// and the old one is closed.
func ExampleTxMap_rotate() {
	type Hash [32]byte
	m, err := txmap.New[Hash](nil, settings.Settings{}, txmap.TxInpointsCodec[Hash]{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	for i := range 3 {
		m.Set(Hash{byte(i)}, &txmap.TxInpoints[Hash]{})
	}
	old, err := m.Rotate()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer old.Close()
	missing, err := m.MoveFrom(old, []Hash{{1}, {2}}, nil)
	fmt.Println(missing, err, m.Length(), old.Length())
	fmt.Println(old.SetErr(Hash{9}, &txmap.TxInpoints[Hash]{}))
	// Output:
	// -1 <nil> 2 3
	// blocktier: a rotated map is read-only
}

func ExampleTxMap_iterate() {
	type Hash [32]byte
	m := txmap.NewHeap[Hash](txmap.TxInpointsCodec[Hash]{}, 0)
	defer m.Close()
	m.Set(Hash{1}, &txmap.TxInpoints[Hash]{SubtreeIndex: 4})
	m.Freeze()
	for hash, inpoints := range m.All() {
		fmt.Println(hash[0], inpoints.SubtreeIndex)
	}
	m.Iter(func(hash Hash, _ *txmap.TxInpoints[Hash]) bool {
		fmt.Println(hash[0])
		return true // enough
	})
	fmt.Println(len(m.Keys()), m.IsFrozen())
	// Output:
	// 1 4
	// 1
	// 1 true
}
