//go:build cgo && linux && (amd64 || arm64)

package txmap_test

import (
	"fmt"
	"os"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/txmap"
)

// A map that is opened again with what its calls have acknowledged, also after a kill.
func ExampleWithProcessDurability() {
	type Hash [32]byte
	dir, err := os.MkdirTemp("", "blocktier-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	rt, err := blocktier.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close()
	for life := range 2 {
		m, err := txmap.Open[Hash](rt, txmap.TxInpointsCodec[Hash]{}, txmap.WithDirs(dir),
			txmap.WithName("pool"), txmap.WithProcessDurability(true), txmap.WithRingDir(dir),
			txmap.WithSyncOnSeal(true), txmap.WithTail(1<<20))
		if err != nil {
			fmt.Println(err)
			return
		}
		_, inserted := m.SetIfNotExists(Hash{1}, &txmap.TxInpoints[Hash]{})
		fmt.Println(life, inserted, m.Length())
		if err := m.Close(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// 0 true 1
	// 1 false 1
}
