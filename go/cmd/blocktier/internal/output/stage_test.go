package output

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func names(t *testing.T, directory string) []string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func put(o Output, name string, content []byte) error {
	f, err := o.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

func TestMemory(t *testing.T) {
	m := NewMemory()
	if err := errors.Join(put(m, "a", []byte("1")), m.Commit(), put(m, "b", nil), m.Discard(),
		put(m, "c", nil)); err != nil {
		t.Fatal(err)
	}
	f, err := m.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	if content, err := io.ReadAll(f); string(content) != "1" || err != nil {
		t.Errorf("content %q, %v", content, err)
	}
	for _, name := range []string{"b", "c"} {
		if _, err := m.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was not committed, but: %v", name, err)
		}
	}
}

func TestFilesAppearTogether(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "out")
	s, err := NewStage(directory)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(s, "b", []byte("22")); err != nil {
		t.Fatal(err)
	}
	f, err := s.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("333")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if list := names(t, directory); len(list) != 1 || list[0] == "a" {
		t.Errorf("before the commit: %v", list)
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := put(s, "c", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := put(s, "d", []byte("4")); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := put(s, "e", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if list := names(t, directory); !slices.Equal(list, []string{"a", "b", "d"}) {
		t.Errorf("after closing: %v, want a, b and d", list)
	}
	if content, err := os.ReadFile(filepath.Join(directory, "a")); string(content) != "333" {
		t.Errorf("content %q, %v", content, err)
	}
	if s.Bytes() != 6 {
		t.Errorf("%d bytes staged, want 6", s.Bytes())
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
