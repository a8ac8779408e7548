// Package output writes files that appear whole or not at all.
package output

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Output takes files that belong together.
type Output interface {
	// Create stages a file. It counts only once it is closed without error.
	Create(name string) (io.WriteCloser, error)
	// Commit lets the staged files appear, in the order in which they were completed.
	Commit() error
	// Discard drops what was staged since the last Commit.
	Discard() error
}

// Stage collects the files of one piece of work in a hidden directory beside their destination and
// moves them there together on Commit. Until then, and after Discard, none of them is visible. Not
// for concurrent use.
//
// A process that is killed leaves the hidden directory (".blocktier-" and a number), no file of
// another name. Files are not synced: after a power failure they have to be made again.
type Stage struct {
	directory string
	hidden    string
	names     []string
	bytes     int64
}

// NewStage creates the directory if it is missing and a stage in it.
func NewStage(directory string) (*Stage, error) {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, err
	}
	hidden, err := os.MkdirTemp(directory, ".blocktier-")
	if err != nil {
		return nil, err
	}
	return &Stage{directory: directory, hidden: hidden}, nil
}

// stagedFile writes through a buffer.
type stagedFile struct {
	*bufio.Writer
	file  *os.File
	stage *Stage
	name  string
}

// Create stages a file of that name. It counts only once it is closed without error.
func (s *Stage) Create(name string) (io.WriteCloser, error) {
	f, err := os.Create(filepath.Join(s.hidden, name))
	if err != nil {
		return nil, err
	}
	return &stagedFile{bufio.NewWriterSize(f, 1<<16), f, s, name}, nil
}

// Close completes the file.
func (f *stagedFile) Close() error {
	err := f.Flush()
	if err == nil {
		var size int64
		size, err = f.file.Seek(0, io.SeekCurrent)
		f.stage.bytes += size
	}
	if err = errors.Join(err, f.file.Close()); err == nil {
		f.stage.names = append(f.stage.names, f.name)
	}
	return err
}

// Commit moves the staged files to their destination in the order in which they were completed, so
// that a file that names others is to be completed last. The stage is empty afterwards.
func (s *Stage) Commit() error {
	for i, name := range s.names {
		err := os.Rename(filepath.Join(s.hidden, name), filepath.Join(s.directory, name))
		if err != nil {
			return fmt.Errorf("after %d of %d files: %w", i, len(s.names), err)
		}
	}
	s.names = s.names[:0]
	return nil
}

// Discard removes what was staged since the last Commit; the stage can be used again.
func (s *Stage) Discard() error {
	s.names = s.names[:0]
	if err := os.RemoveAll(s.hidden); err != nil {
		return err
	}
	return os.Mkdir(s.hidden, 0o700)
}

// Close removes the stage and everything in it that was not committed. A second Close does nothing.
func (s *Stage) Close() error { return os.RemoveAll(s.hidden) }

// Bytes returns how many bytes were staged in all.
func (s *Stage) Bytes() int64 { return s.bytes }

// Directory returns where the files go.
func (s *Stage) Directory() string { return s.directory }
