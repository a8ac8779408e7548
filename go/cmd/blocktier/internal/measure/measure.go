// Package measure tells what a piece of work cost this process.
package measure

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"time"
)

// Figures are the costs of a piece of work. Bytes and seconds.
type Figures struct {
	Seconds float64 `json:"seconds"`
	// CPUSeconds of Go code, GC included; time in C is counted with it. GCSeconds of the garbage
	// collector; GCShare is their quotient.
	CPUSeconds float64 `json:"cpu_seconds"`
	GCSeconds  float64 `json:"gc_cpu_seconds"`
	GCShare    float64 `json:"gc_share"`
	GCCycles   uint64  `json:"gc_cycles"`
	// HeapPeak is the most that live and dead objects on the Go heap took together, sampled every
	// 20 ms. HeapLive is what is alive at the end.
	HeapPeak uint64 `json:"go_heap_peak_bytes"`
	HeapLive uint64 `json:"go_heap_live_bytes"`
	// FullGC is how long one whole collection takes with everything in place.
	FullGCSeconds float64 `json:"full_gc_seconds"`
	// ResidentPeak is the most physical memory that the process ever had; 0 where the system does
	// not tell.
	ResidentPeak uint64 `json:"resident_peak_bytes"`
}

// Meter measures from Start to Stop.
type Meter struct {
	started time.Time
	before  []metrics.Sample
	peak    uint64
	end     chan struct{}
	sampler sync.WaitGroup
}

const (
	gcCPU     = "/cpu/classes/gc/total:cpu-seconds"
	idleCPU   = "/cpu/classes/idle:cpu-seconds"
	totalCPU  = "/cpu/classes/total:cpu-seconds"
	gcCycles  = "/gc/cycles/total:gc-cycles"
	heapBytes = "/memory/classes/heap/objects:bytes"
)

const sampleEvery = 20 * time.Millisecond

func read() []metrics.Sample {
	s := []metrics.Sample{{Name: gcCPU}, {Name: idleCPU}, {Name: totalCPU}, {Name: gcCycles}}
	metrics.Read(s)
	return s
}

// Start begins to measure.
func Start() *Meter {
	runtime.GC() // brings the CPU figures up to date, which are those of the last collection
	m := &Meter{started: time.Now(), before: read(), end: make(chan struct{})}
	m.sampler.Go(m.sample)
	return m
}

func (m *Meter) sample() {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	s := []metrics.Sample{{Name: heapBytes}}
	for {
		metrics.Read(s)
		m.peak = max(m.peak, s[0].Value.Uint64())
		select {
		case <-ticker.C:
		case <-m.end:
			return
		}
	}
}

// Stop ends measuring. The data whose cost is asked for must still be in use.
func (m *Meter) Stop() Figures {
	f := Figures{Seconds: time.Since(m.started).Seconds()}
	close(m.end)
	m.sampler.Wait()
	cycles := read()[3].Value.Uint64() - m.before[3].Value.Uint64()
	started := time.Now()
	runtime.GC()
	f.FullGCSeconds = time.Since(started).Seconds()
	after := read()
	seconds := func(i int) float64 { return after[i].Value.Float64() - m.before[i].Value.Float64() }
	f.GCSeconds = seconds(0)
	f.CPUSeconds = seconds(2) - seconds(1)
	if f.CPUSeconds > 0 {
		f.GCShare = f.GCSeconds / f.CPUSeconds
	}
	f.GCCycles = cycles
	f.HeapPeak = m.peak
	heap := []metrics.Sample{{Name: heapBytes}}
	metrics.Read(heap)
	f.HeapLive = heap[0].Value.Uint64()
	f.ResidentPeak = ResidentPeak()
	return f
}

// ResidentPeak returns the most physical memory that this process ever had in bytes, 0 where the
// system does not tell.
func ResidentPeak() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return kilobytesOf(status, "VmHWM:") << 10
}

func kilobytesOf(status []byte, key string) uint64 {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) >= 2 && string(fields[0]) == key {
			n, err := strconv.ParseUint(string(fields[1]), 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
