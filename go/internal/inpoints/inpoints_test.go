package inpoints

import (
	"errors"
	"testing"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

func TestCheck(t *testing.T) {
	parent := make([]byte, 32)
	good := append([]byte{1, 0, 0, 0}, parent...)
	good = append(good, 2, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0)
	if err := Check(good); err != nil {
		t.Fatal(err)
	}
	if length, err := Length(append(good, 1, 2, 3)); err != nil || length != len(good) {
		t.Fatalf("length %d, %v", length, err)
	}
	for cut := range len(good) {
		if err := Check(good[:cut]); !errors.Is(err, ffi.Format) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	for _, bad := range []struct {
		bytes []byte
		kind  ffi.FormatKind
	}{
		{[]byte{0xff, 0xff, 0xff, 0xff}, ffi.CountTooLarge},
		{[]byte{1, 0, 0, 0}, ffi.Truncated},
		{[]byte{0, 0, 0, 0, 9}, ffi.TrailingBytes},
		{append(append([]byte{1, 0, 0, 0}, parent...), 0xff, 0xff, 0xff, 0xff), ffi.CountTooLarge},
	} {
		var failure *ffi.Error
		if err := Check(bad.bytes); !errors.As(err, &failure) || failure.Kind() != bad.kind {
			t.Errorf("%x: %v, want %v", bad.bytes, err, bad.kind)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if length, err := Length(b); err == nil && (length < 4 || length > len(b)) {
			t.Fatalf("length %d of %d bytes", length, len(b))
		}
	})
}
