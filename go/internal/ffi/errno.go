//go:build !plan9

package ffi

import "syscall"

// errnoError is the error number as an error, nil for 0.
func errnoError(number int32) error {
	if number == 0 {
		return nil
	}
	return syscall.Errno(number)
}
