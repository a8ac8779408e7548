// Package engine opens what assembling needs: the library's runtime, the transaction map and the
// maker of subtrees, on disk or on the Go heap.
package engine

import (
	"errors"
	"log/slog"
	"os"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/tree"
	"github.com/blocktier/blocktier/go/settings"
	"github.com/blocktier/blocktier/go/txmap"
)

// TxMap is the map from transactions to inpoints.
type TxMap = txmap.TxMap[chainhash.Hash, *txmap.TxInpoints[chainhash.Hash]]

// Engine is one open map with a maker of subtrees. Close it.
type Engine struct {
	Map   TxMap
	Trees *tree.Maker
	// Runtime is nil on the Go heap.
	Runtime *blocktier.Runtime
}

// Open opens what the settings ask for; settings without directories mean the Go heap. Directories
// that are missing are made. Warnings go to logger.
func Open(s settings.Settings, logger *slog.Logger) (*Engine, error) {
	e := new(Engine)
	if s.UsesDisk() {
		for _, dir := range append(s.AssemblyTxMapDirs(), s.AssemblySubtreeDir()) {
			if dir == "" {
				continue
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
		}
		var err error
		e.Runtime, err = blocktier.Open(blocktier.WithSettings(s), blocktier.WithLogger(logger))
		if err != nil {
			return nil, err
		}
	}
	e.Trees = tree.NewMaker(e.Runtime, s.AssemblySubtreeDir())
	var err error
	e.Map, err = txmap.New[chainhash.Hash](e.Runtime, s, txmap.TxInpointsCodec[chainhash.Hash]{})
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Disks returns the traffic of every directory; none on the Go heap.
func (e *Engine) Disks() ([]blocktier.DiskStats, error) {
	if e.Runtime == nil {
		return nil, nil
	}
	return e.Runtime.Disks()
}

// Close closes the map and the runtime. Its error is part of the result of the work.
func (e *Engine) Close() error {
	var err error
	if e.Map != nil {
		err = errors.Join(e.Map.Close(), e.Map.TakeCloseWarn())
	}
	if e.Runtime != nil {
		err = errors.Join(err, e.Runtime.Close())
	}
	return err
}
