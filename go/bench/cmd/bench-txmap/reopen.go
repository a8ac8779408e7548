package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// reopenSample is how many keys are looked up after a reopening.
const reopenSample = 200_000

// reopens measures opening a map with process durability again: after its process was killed, and
// after it was closed.
func (r *run) reopens() error {
	for _, n := range r.sizes() {
		for _, killed := range []bool{true, false} {
			name := map[bool]string{true: "reopened after kill -9", false: "reopened after close"}[killed]
			t := task{Kind: "reopen", Store: ours, N: n, Threads: 1, Process: true, Killed: killed}
			o, err := r.child(t)
			if err != nil {
				return err
			}
			figures, err := r.limits("sequential", r.disk, fmt.Sprint(coldN*recordBytes))
			if err != nil {
				return err
			}
			e := r.entry(name, n, 1, o.Figures["seconds"], "s", o)
			bytes := o.Figures["summaries"] + o.Figures["unsummarized"]
			e.limitBy(bytes/figures["read_bytes_per_second"], fmt.Sprintf("reading %.0f MB of "+
				"summaries and %.0f MB of segments without", o.Figures["summaries"]/1e6,
				o.Figures["unsummarized"]/1e6))
			r.entry(name+", verifying a sample", n, 1, o.Figures["sample"], "keys", o)
		}
	}
	return nil
}

// measureReopen has another process fill a map and end, then opens it.
func measureReopen(t *task, o *outcome) error {
	writer := *t
	writer.Kind = "fill"
	text, err := json.Marshal(writer)
	if err != nil {
		return err
	}
	command := exec.Command("/proc/self/exe", "-child", string(text))
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := endedAsMeant(command.Run(), t.Killed); err != nil {
		return err
	}
	if err := whatToRead(t.Dir, o); err != nil {
		return err
	}
	start := time.Now()
	s, err := open(t)
	if err != nil {
		return err
	}
	o.Figures["seconds"] = time.Since(start).Seconds()
	ours, ok := s.(*blocktierStore)
	if !ok {
		return fmt.Errorf("%s cannot be opened again", t.Store)
	}
	return errors.Join(checkReopened(t, ours, o), s.close())
}

// endedAsMeant is the error of a process that should have ended in the other way.
func endedAsMeant(err error, killed bool) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		if err == nil && killed {
			err = errors.New("the process that fills the map was not killed")
		}
		return err
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if killed && ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return nil
	}
	return err
}

// measureFill fills a map and ends, as the task says.
func measureFill(t *task, _ *outcome) error {
	s, err := open(t)
	if err != nil {
		return err
	}
	insert, err := s.operation("insert-raw")
	if err != nil {
		return errors.Join(err, s.close())
	}
	keys := make([]Hash, pieceSize)
	for done := 0; done < t.N; done += len(keys) {
		part := keys[:min(len(keys), t.N-done)]
		fillKeys(part, done)
		if inserted, err := insert(part); err != nil || inserted != len(part) {
			return errors.Join(err, s.close(), fmt.Errorf("%d of %d inserted", inserted, len(part)))
		}
	}
	if t.Killed {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return s.close()
}

// whatToRead is how many bytes of summaries there are, and of segments that have none.
func whatToRead(dir string, o *outcome) error {
	segments, summaries := map[string]int64{}, map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		extension := filepath.Ext(path)
		name := strings.TrimSuffix(path, extension)
		switch extension {
		case ".seg":
			segments[name] = info.Size()
		case ".sum":
			summaries[name] = info.Size()
		}
		return nil
	})
	if len(segments) == 0 {
		return errors.Join(err, fmt.Errorf("no segments in %s", dir))
	}
	for name, size := range segments {
		if summary, ok := summaries[name]; ok {
			o.Figures["summaries"] += float64(summary)
		} else {
			o.Figures["unsummarized"] += float64(size)
		}
	}
	return err
}

// checkReopened makes sure that nothing that was acknowledged is missing: by the number of entries,
// and by the values of a sample that has the first keys and the last ones.
func checkReopened(t *task, s *blocktierStore, o *outcome) error {
	if s.m.Length() != t.N {
		return fmt.Errorf("%d of %d entries are there", s.m.Length(), t.N)
	}
	get, err := s.operation("get-raw")
	if err != nil {
		return err
	}
	half := min(reopenSample, t.N) / 2
	for _, first := range []int{0, t.N - half} {
		found, err := get(makeKeys(first, half))
		if err != nil || found != half {
			return errors.Join(err, fmt.Errorf("%d of %d values are there", found, half))
		}
		o.Figures["sample"] += float64(found)
	}
	return nil
}
