//go:build cgo && linux && (amd64 || arm64)

package txmap_test

import (
	"context"
	"fmt"
	"os"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/txmap"
)

// An example cannot be skipped, so these are built only where the library is.

func ExampleVerify() {
	type Hash [32]byte
	dir, err := os.MkdirTemp("", "pool")
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
	m, err := txmap.Open[Hash](rt, txmap.TxInpointsCodec[Hash]{}, txmap.WithDirs(dir),
		txmap.WithTail(1<<20), txmap.WithName("pool"), txmap.WithDurability(true))
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Set(Hash{1}, &txmap.TxInpoints[Hash]{})
	if err := m.Close(); err != nil {
		fmt.Println(err)
		return
	}
	report, err := txmap.Verify(context.Background(), []string{dir}, txmap.CheckOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(report.Findings), report.Worst, report.Totals.Live)
	// The plan of a repair that has nothing to do.
	plan, err := txmap.Repair(context.Background(), []string{dir}, txmap.RepairOptions{})
	fmt.Println(len(plan.Steps), len(plan.Losses), err)
	// Output:
	// 0 harmless 1
	// 0 0 <nil>
}

func ExampleDiskTxMap_Compact() {
	type Hash [32]byte
	dir, err := os.MkdirTemp("", "map")
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
	m, err := txmap.Open[Hash](rt, txmap.TxInpointsCodec[Hash]{}, txmap.WithDirs(dir),
		txmap.WithTail(1<<20))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	// During a burst, writers are to wait rather than let the disk fill.
	err = m.SetBackpressure(txmap.Thresholds{SlowdownBytes: 1 << 30, StopBytes: 4 << 30})
	fmt.Println(err)
	fmt.Println(m.Compact(context.Background()))
	now, err := m.Backpressure()
	fmt.Println(now.Stopped, now.Delay, err)
	// Output:
	// <nil>
	// <nil>
	// false 0s <nil>
}

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
