package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/txmap"
)

func TestTxMapVerifyAndRepair(t *testing.T) {
	rt, err := blocktier.Open()
	if errors.Is(err, blocktier.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	dir := t.TempDir()
	m, err := txmap.Open[[32]byte](rt, txmap.TxInpointsCodec[[32]byte]{}, txmap.WithDirs(dir),
		txmap.WithTail(1<<20), txmap.WithSegment(1<<20), txmap.WithName("pool"),
		txmap.WithDurability(true))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		m.Set([32]byte{byte(i)}, &txmap.TxInpoints[[32]byte]{})
	}
	text, err := execute(t.Context(), "txmap", "verify", dir)
	if !errors.Is(err, blocktier.ErrLocked) || !strings.Contains(err.Error(), "pid") {
		t.Errorf("a map that is open: %s %v", text, err)
	}
	if err := errors.Join(m.Err(), m.Close()); err != nil {
		t.Fatal(err)
	}
	text, err = execute(t.Context(), "txmap", "verify", dir)
	if err != nil || !strings.HasPrefix(text, "sound: 0 findings; 9 keys in") {
		t.Errorf("%s %v", text, err)
	}
	segment := filepath.Join(dir, "blocktier-store-pool", "000-0000-00000000.seg")
	file, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	file[4096] ^= 1
	if err := os.WriteFile(segment, file, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err = execute(t.Context(), "txmap", "verify", "--json", dir)
	var r txmap.Report
	if failed := json.Unmarshal([]byte(text), &r); failed != nil || r.Worst != txmap.Lost ||
		len(r.Findings) != 1 || r.Totals.Live != 8 {
		t.Errorf("%+v %v", r, failed)
	}
	if !errors.Is(err, ErrRefused) || !strings.Contains(text, `"meaning": "lost"`) ||
		!strings.Contains(text, `"offset": 4096`) {
		t.Errorf("%s %v", text, err)
	}
	for _, step := range []struct {
		arguments []string
		err       error
		text      string
	}{
		{nil, ErrRefused, "planned: rewrite-segment " + segment},
		{[]string{"--apply"}, ErrRefused, "--accept-loss repairs the rest"},
		{[]string{"--apply", "--accept-loss"}, nil, "done: rewrite-segment " + segment},
		{[]string{"--apply"}, nil, "there is nothing to repair"},
	} {
		text, err := execute(t.Context(), append([]string{"txmap", "repair", dir},
			step.arguments...)...)
		if !errors.Is(err, step.err) || !strings.Contains(text, step.text) {
			t.Errorf("repair %v: %s %v", step.arguments, text, err)
		}
	}
	text, err = execute(t.Context(), "txmap", "verify", dir)
	if err != nil || !strings.Contains(text, "8 keys in") {
		t.Errorf("%s %v", text, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if text, err = execute(ended, "txmap", "verify", dir); err != nil && !errors.Is(err,
		context.Canceled) {
		t.Errorf("%s %v", text, err)
	}
	if text, err = execute(t.Context(), "txmap", "verify", t.TempDir()); !errors.Is(err,
		blocktier.ErrInvalidArgument) {
		t.Errorf("%s %v", text, err)
	}
}
