package output

import (
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

func TestFilesAppearTogether(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "out")
	s, err := NewStage(directory)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write("b", []byte("22")); err != nil {
		t.Fatal(err)
	}
	f, err := s.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("333"); err != nil {
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
	if err := s.Write("c", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write("d", []byte("4")); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write("e", nil); err != nil {
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
