package ffi

import "fmt"

// Status is a status code of the C ABI. As an error it is the sentinel of its code: every failure
// unwraps to one. The numbers are part of the ABI and never reused.
type Status int32

// The status codes. OK is never returned as an error.
const (
	OK              Status = 0
	InvalidArgument Status = 1
	NullPointer     Status = 2
	BufferTooSmall  Status = 3
	NotFound        Status = 4
	WouldBlock      Status = 5
	TimedOut        Status = 6
	IO              Status = 7
	DiskFull        Status = 8
	Corrupt         Status = 9
	Locked          Status = 10
	Unsupported     Status = 11
	OutOfMemory     Status = 12
	ValueTooLarge   Status = 13
	Closed          Status = 14
	Poisoned        Status = 15
	Panic           Status = 16
	Failed          Status = 17
	Setting         Status = 18
	Format          Status = 19
	Frozen          Status = 20
)

var statusTexts = [...]string{
	OK:              "ok",
	InvalidArgument: "invalid argument",
	NullPointer:     "null pointer",
	BufferTooSmall:  "buffer too small",
	NotFound:        "not found",
	WouldBlock:      "would block",
	TimedOut:        "timed out",
	IO:              "input/output error",
	DiskFull:        "disk full",
	Corrupt:         "corrupt data",
	Locked:          "locked by another owner",
	Unsupported:     "unsupported",
	OutOfMemory:     "out of memory",
	ValueTooLarge:   "value too large",
	Closed:          "closed",
	Poisoned:        "poisoned by an earlier panic",
	Panic:           "internal panic",
	Failed:          "failed by an earlier error",
	Setting:         "bad setting",
	Format:          "bad format",
	Frozen:          "frozen",
}

// Error returns the code in words.
func (s Status) Error() string {
	if s >= 0 && int(s) < len(statusTexts) {
		return "blocktier: " + statusTexts[s]
	}
	return fmt.Sprintf("blocktier: unknown status %d", int32(s))
}

// Error is a failure with what a person needs to act on it. errors.Is finds its code's sentinel
// and, where the operating system refused something, the syscall.Errno.
type Error struct {
	// Code is the status code; Unwrap yields it as the sentinel error.
	Code Status
	// Errno is the operating system's error number, 0 where there is none.
	Errno int32
	// Detail is the FormatKind of a Format error, else 0.
	Detail uint32
	// Text says what happened, where, and what to do.
	Text string
}

// Error returns the text.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Code.Error()
	}
	return "blocktier: " + e.Text
}

// Unwrap yields the sentinel of the code and the operating system's error, if there is one.
func (e *Error) Unwrap() []error {
	if system := errnoError(e.Errno); system != nil {
		return []error{e.Code, system}
	}
	return []error{e.Code}
}

// Kind is the broken rule of a Format error, 0 for every other code.
func (e *Error) Kind() FormatKind {
	if e.Code != Format {
		return 0
	}
	return FormatKind(e.Detail)
}

// Errorf makes an Error of the code.
func Errorf(code Status, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// FormatError makes a Format error of the kind; the text starts with the kind's name.
func FormatError(kind FormatKind, format string, args ...any) *Error {
	return &Error{
		Code:   Format,
		Detail: uint32(kind),
		Text:   kind.String() + ": " + fmt.Sprintf(format, args...),
	}
}
