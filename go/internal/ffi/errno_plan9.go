package ffi

// errnoError is nil: this system has no error numbers.
func errnoError(int32) error { return nil }
