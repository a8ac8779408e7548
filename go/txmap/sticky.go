package txmap

import "sync/atomic"

// stickyError keeps the first error until it is taken.
type stickyError struct{ first atomic.Pointer[error] }

// keep stores err if there is none yet.
func (s *stickyError) keep(err error) {
	if err != nil {
		s.store(err)
	}
}

// store is apart from keep: its parameter is allocated, which a call without an error shall not
// pay.
func (s *stickyError) store(err error) { s.first.CompareAndSwap(nil, &err) }

func (s *stickyError) get() error { return deref(s.first.Load()) }

func (s *stickyError) take() error { return deref(s.first.Swap(nil)) }

func deref(err *error) error {
	if err == nil {
		return nil
	}
	return *err
}
