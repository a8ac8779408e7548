// Package legacy reads blocks and transactions in the formats of Bitcoin nodes, one transaction at
// a time, so that memory depends on the largest transaction and not on the block.
//
//	legacy block   header 80 | varint n | n transactions
//	chain file     repeated: magic f9beb4d9 | u32 length | legacy block
//	subtree data   transactions back to back, no count, standard or extended (BIP-239)
//	node block     header 80 | varint transactions | varint size | varint s | s x root 32 |
//	               coinbase transaction | varint height
//
// Nothing is believed: counts are checked against the bytes that follow, every reader wants its
// bytes to the last one and not one more, and errors name the offset in the file. Readers are not
// for concurrent use.
package legacy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// ErrFormat is the class of all errors about the bytes themselves.
var ErrFormat = errors.New("malformed")

// FormatError tells where bytes are wrong. It unwraps to ErrFormat.
type FormatError struct {
	Offset int64 // of the byte at which reading stopped
	What   string
}

func (e *FormatError) Error() string { return fmt.Sprintf("offset %d: %s", e.Offset, e.What) }

// Unwrap returns ErrFormat.
func (e *FormatError) Unwrap() error { return ErrFormat }

// input counts what is read from a stream.
type input struct {
	buffer *bufio.Reader
	offset int64
	end    int64 // reading stops there as if the stream ended; negative: no such bound
}

func newInput(r io.Reader) *input {
	return &input{buffer: bufio.NewReaderSize(r, 1<<18), end: -1}
}

func (in *input) Read(p []byte) (int, error) {
	if in.end >= 0 {
		left := in.end - in.offset
		if left == 0 {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), left)]
	}
	n, err := in.buffer.Read(p)
	in.offset += int64(n)
	return n, err
}

// peek shows the next bytes without reading them: fewer than n at the end.
func (in *input) peek(n int) ([]byte, error) {
	if in.end >= 0 {
		n = int(min(int64(n), in.end-in.offset))
	}
	b, err := in.buffer.Peek(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b, err
}

// atEnd tells whether nothing is left.
func (in *input) atEnd() (bool, error) {
	b, err := in.peek(1)
	return len(b) == 0, err
}

// finish is an error unless everything was read.
func (in *input) finish(what string) error {
	end, err := in.atEnd()
	if err != nil {
		return err
	}
	if !end {
		return in.wrong("bytes after the end of the %s", what)
	}
	return nil
}

func (in *input) wrong(format string, arguments ...any) error {
	return &FormatError{Offset: in.offset, What: fmt.Sprintf(format, arguments...)}
}

// failed turns an error of reading what into one with its place. Errors of the disk stay what they
// are.
func (in *input) failed(err error, what string, arguments ...any) error {
	if err == nil {
		return nil
	}
	what = fmt.Sprintf(what, arguments...)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return in.wrong("the bytes end within the %s", what)
	}
	if isMessageError(err) {
		return in.wrong("%s: %v", what, err)
	}
	if errors.Is(err, ErrFormat) {
		return err
	}
	return fmt.Errorf("offset %d: %s: %w", in.offset, what, err)
}
