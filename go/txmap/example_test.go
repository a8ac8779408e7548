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
