package txmap

import (
	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/settings"
)

// New makes the map that the settings ask for: a DiskTxMap in the directories of block assembly's
// transaction map, or a HeapTxMap where there are none, which needs no runtime. Options come after
// the settings and win.
func New[H ~[32]byte, V any](rt *blocktier.Runtime, s settings.Settings, codec Codec[V],
	options ...Option) (TxMap[H, V], error) {
	all := append([]Option{WithSettings(s)}, options...)
	c := config{}
	for _, option := range all {
		if err := option(&c); err != nil {
			return nil, err
		}
	}
	if len(c.dirs) == 0 {
		return NewHeap[H](codec, 0), nil
	}
	m, err := Open[H](rt, codec, all...)
	if err != nil {
		return nil, err // not the nil map: an interface that holds it is not nil
	}
	return m, nil
}
