package blocktier

import (
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// eventInterval is how often the events of a runtime are fetched when no call does it.
const eventInterval = time.Second

// Runtime is what a process has once: directories with one writer thread each, one memory budget
// and one stream of events. Maps and arrays made from it keep what they need; it may be closed
// before them. All methods may be called concurrently.
type Runtime struct {
	state   *runtimeState
	cleanup runtime.Cleanup
}

// runtimeState is the part that outlives the wrapper when a caller forgets to close it.
type runtimeState struct {
	gate   ffi.Gate
	handle ffi.Runtime
	logger *slog.Logger
	stop   chan struct{}
	events sync.Mutex
}

// Open opens a Runtime. It fails with ErrUnsupported where the library is not part of the build or
// does not fit this module, and with ErrSetting where a setting is wrong.
func Open(options ...Option) (*Runtime, error) {
	var c config
	if err := c.apply(options); err != nil {
		return nil, err
	}
	handle, err := ffi.OpenRuntime(c.settings.Text())
	if err != nil {
		return nil, err
	}
	state := &runtimeState{handle: handle, logger: c.logger, stop: make(chan struct{})}
	r := &Runtime{state: state}
	r.cleanup = runtime.AddCleanup(r, (*runtimeState).forgotten, state)
	state.drainEvents()
	go state.watch()
	return r, nil
}

// Close ends the Runtime after the calls that run on it. A second Close does nothing and returns
// nil.
func (r *Runtime) Close() error {
	r.cleanup.Stop()
	return r.state.close()
}

func (s *runtimeState) close() error {
	if !s.gate.Close() {
		return nil
	}
	close(s.stop)
	s.drainEvents()
	return s.handle.Close()
}

func (s *runtimeState) forgotten() {
	s.logger.Warn("blocktier: a Runtime was not closed; call Close")
	if err := s.close(); err != nil {
		s.logger.Error("blocktier: closing a forgotten Runtime", "error", err)
	}
}

// watch fetches events until the runtime is closed.
func (s *runtimeState) watch() {
	ticker := time.NewTicker(eventInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			if s.gate.Enter(0) {
				s.drainEvents()
				s.gate.Leave(0)
			}
		}
	}
}

// drainEvents hands the library's events to the logger. The caller has entered the gate, or has
// closed it.
func (s *runtimeState) drainEvents() {
	s.events.Lock()
	defer s.events.Unlock()
	buffer := make([]byte, 4096)
	for {
		length, err := s.handle.NextEvent(buffer)
		if err != nil {
			return
		}
		s.logger.Warn("blocktier: " + string(buffer[:length]))
	}
}

// RuntimeStats are the counters of a Runtime.
type RuntimeStats = ffi.RuntimeStats

// DiskStats are the counters of one directory.
type DiskStats = ffi.DiskStats

// Stats reads the Runtime's counters.
func (r *Runtime) Stats() (RuntimeStats, error) {
	var stats RuntimeStats
	err := r.Use(func(handle ffi.Runtime) (err error) {
		stats, err = handle.Stats()
		return err
	})
	return stats, err
}

// Disks reads the counters of every directory in use.
func (r *Runtime) Disks() ([]DiskStats, error) {
	var disks []DiskStats
	err := r.Use(func(handle ffi.Runtime) error {
		for index := 0; ; index++ {
			disk, err := handle.Disk(index)
			if err == error(ffi.NotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			disks = append(disks, disk)
		}
	})
	return disks, err
}

// Logger is where events and warnings go.
func (r *Runtime) Logger() *slog.Logger { return r.state.logger }

// Use calls f with the native runtime, which is not closed meanwhile, and fetches pending events.
// It is for the packages of this module. A nil Runtime fails with ErrUnsupported where the build
// has no library, and with ErrInvalidArgument otherwise.
func (r *Runtime) Use(f func(ffi.Runtime) error) error {
	if r == nil {
		if err := ffi.Available(); err != nil {
			return err
		}
		return ffi.Errorf(ffi.InvalidArgument, "needs a Runtime; call blocktier.Open first")
	}
	if !r.state.gate.Enter(0) {
		return ffi.Errorf(ffi.Closed, "the Runtime is closed")
	}
	defer r.state.gate.Leave(0)
	err := f(r.state.handle)
	r.state.drainEvents()
	return err
}

// Version is the version of the library, empty where there is none.
func Version() string { return ffi.Version() }

// BuildID identifies the library archive that this build is linked with, empty where there is none.
func BuildID() string { return ffi.BuildID }
