package output

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
)

// Memory keeps files in RAM, for many small ones that nobody needs afterwards. Not for concurrent
// use, except Open.
type Memory struct {
	staged, files map[string][]byte
}

// NewMemory makes an empty one.
func NewMemory() *Memory {
	return &Memory{staged: map[string][]byte{}, files: map[string][]byte{}}
}

type memoryFile struct {
	bytes.Buffer
	memory *Memory
	name   string
}

func (f *memoryFile) Close() error {
	f.memory.staged[f.name] = f.Bytes()
	return nil
}

// Create stages a file of that name.
func (m *Memory) Create(name string) (io.WriteCloser, error) {
	return &memoryFile{memory: m, name: name}, nil
}

// Commit lets the staged files appear.
func (m *Memory) Commit() error {
	for name, content := range m.staged {
		m.files[name] = content
	}
	clear(m.staged)
	return nil
}

// Discard drops what was staged since the last Commit.
func (m *Memory) Discard() error {
	clear(m.staged)
	return nil
}

// memoryReader knows its length and can be closed.
type memoryReader struct{ *bytes.Reader }

func (memoryReader) Close() error { return nil }

// Open opens a file that was committed.
func (m *Memory) Open(name string) (io.ReadCloser, error) {
	content, found := m.files[name]
	if !found {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return memoryReader{bytes.NewReader(content)}, nil
}
