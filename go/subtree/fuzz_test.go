package subtree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/subtree"
)

// seeds are the files that match, and what becomes of each by simple damage.
func seeds(f *testing.F, patterns ...string) (all [][]byte) {
	f.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(dataPath(pattern))
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			input, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, input, input[:len(input)/2], append(input[:len(input):len(input)], 0))
			for _, place := range []int{0, 8, 32, 36, 48, 56, len(input) / 2, len(input) - 8} {
				if place < 0 || place+8 > len(input) {
					continue
				}
				for _, word := range []uint64{0, 1 << 32, math.MaxUint64} {
					damaged := bytes.Clone(input)
					binary.LittleEndian.PutUint64(damaged[place:], word)
					all = append(all, damaged)
				}
			}
		}
	}
	return all
}

// FuzzSubtree: what is read is written again, and a length that is not known changes nothing; nor
// does the library find anything else wrong.
func FuzzSubtree(f *testing.F) {
	for _, input := range seeds(f, "bad/*.subtree", "bad/*.hashes", "derived/b171-0*.subtree") {
		for format := range uint8(3) {
			f.Add(input, format)
		}
	}
	f.Fuzz(func(t *testing.T, input []byte, format uint8) {
		as := subtree.WithFormat(subtree.Format(format % 3))
		read := func(r io.Reader) (*tree, error) {
			return subtree.NewSubtreeFromReader[hash, node](r, as)
		}
		st, err := read(bytes.NewReader(input))
		trickled, errTrickled := read(iotest.HalfReader(bytes.NewReader(input)))
		if (err == nil) != (errTrickled == nil) {
			t.Fatalf("of known length: %v; of unknown length: %v", err, errTrickled)
		}
		if ffi.Available() == nil {
			if _, errLibrary := ffi.Inspect(input, uint32(format%3), false); (err == nil) !=
				(errLibrary == nil) {
				t.Fatalf("in Go: %v; by the library: %v", err, errLibrary)
			}
		}
		if err != nil {
			if !errors.Is(err, blocktier.ErrFormat) || !errors.Is(errTrickled, blocktier.ErrFormat) {
				t.Fatalf("%v and %v are no format errors", err, errTrickled)
			}
			return
		}
		if len(st.Nodes) != len(trickled.Nodes) || st.Fees != trickled.Fees {
			t.Fatal("what is read depends on how it arrives")
		}
		if st.Verify(subtree.VerifyOptions[hash]{}) != nil {
			return
		}
		var again bytes.Buffer
		if err := st.Write(&again, subtree.Format(format%3)); err != nil ||
			!bytes.Equal(again.Bytes(), input) {
			t.Fatalf("a verified subtree is written differently: %v", err)
		}
	})
}

// FuzzMeta: entries that are read are written again.
func FuzzMeta(f *testing.F) {
	for _, input := range seeds(f, "derived/b171-0*.subtreeMeta") {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		again, err := copyMeta(input)
		if err == nil && !bytes.Equal(again, input) {
			t.Fatal("a meta is written differently")
		} else if err != nil && !errors.Is(err, blocktier.ErrFormat) {
			t.Fatalf("%v is no format error", err)
		}
		trickled, errTrickled := readMeta(iotest.HalfReader(bytes.NewReader(input)))
		if (err == nil) != (errTrickled == nil) || err == nil && trickled != len(again)-36 {
			t.Fatalf("of known length: %v; of unknown length: %v", err, errTrickled)
		}
	})
}

// readMeta reads all entries and returns their length.
func readMeta(r io.Reader) (length int, err error) {
	meta, err := subtree.NewMetaReader[hash](r)
	for err == nil {
		var entry []byte
		entry, err = meta.Next()
		length += len(entry)
	}
	if err == io.EOF {
		err = nil
	}
	return length, err
}

func copyMeta(input []byte) ([]byte, error) {
	meta, err := subtree.NewMetaReader[hash](bytes.NewReader(input))
	if err != nil {
		return nil, err
	}
	var again bytes.Buffer
	writer, err := subtree.NewMetaWriter(&again, meta.Root, meta.Count)
	if err != nil {
		return nil, err
	}
	for {
		entry, err := meta.Next()
		if err == io.EOF {
			err = writer.Close()
			return again.Bytes(), err
		}
		if err != nil {
			return nil, err
		}
		if err := writer.Append(entry); err != nil {
			return nil, err
		}
	}
}
