// Package ffi is the only package that calls C.
//
// Model: every function of the C ABI has one Go function or method of the same meaning, with C
// types kept inside. On builds without the library (no cgo, other platforms) the same names exist
// and fail with Unsupported.
//
// Memory: all buffers belong to the caller and are only used during the call; the library keeps no
// Go pointer and calls no Go function, which is what the noescape and nocallback directives
// promise. A call with pointers to locals then allocates nothing.
//
// Threads: all methods except Close and Free may run concurrently. This package does not guard
// against use after Close: callers hold a Gate for that.
//
// Errors: nil, a bare Status for the outcomes of hot calls (NotFound, BufferTooSmall), one of the
// two WouldBlock values, or an *Error with the library's text.
package ffi
