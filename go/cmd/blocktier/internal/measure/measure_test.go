package measure

import (
	"runtime"
	"testing"
)

func TestFiguresSeeTheHeap(t *testing.T) {
	m := Start()
	const size = 64 << 20
	block := make([]byte, size)
	for i := range block {
		block[i] = byte(i)
	}
	f := m.Stop()
	runtime.KeepAlive(block)
	if f.HeapLive < size || f.Seconds <= 0 || f.CPUSeconds < 0 || f.GCShare < 0 || f.GCShare > 1 {
		t.Errorf("%+v with %d bytes in use", f, size)
	}
	if runtime.GOOS == "linux" && f.ResidentPeak < size {
		t.Errorf("resident peak %d with %d bytes touched", f.ResidentPeak, size)
	}
}

func TestKilobytesOf(t *testing.T) {
	status := []byte("Name:\tx\nVmPeak:\t  10 kB\nVmHWM:\t  1234 kB\n")
	if got := kilobytesOf(status, "VmHWM:"); got != 1234 {
		t.Errorf("%d, want 1234", got)
	}
	if got := kilobytesOf([]byte("VmHWM:\tmany kB\n"), "VmHWM:"); got != 0 {
		t.Errorf("%d of nonsense, want 0", got)
	}
}
