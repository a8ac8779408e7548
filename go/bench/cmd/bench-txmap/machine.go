package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what the table says of where it was made.
type machine struct {
	cpu        string
	cpus       int
	memory     uint64
	kernel     string
	fileSystem string
}

func describeMachine(dir string) machine {
	m := machine{cpu: "unknown CPU", cpus: runtime.NumCPU()}
	m.memory = fileField("/proc/meminfo", "MemTotal")
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "model name" {
			m.cpu = strings.TrimSpace(value)
			break
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.kernel = unix.ByteSliceToString(name.Release[:])
	}
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil {
		m.fileSystem = fmt.Sprintf("file system type 0x%x", fs.Type)
		if known, ok := fileSystems[fs.Type]; ok {
			m.fileSystem = known
		}
	}
	return m
}

var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay",
}

// fileField reads a line "name: 123 kB" of a file in /proc, in bytes; 0 if it isn't there.
func fileField(path, name string) uint64 {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == name+":" {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// memoryStatus is a figure of this process's memory: VmRSS or VmHWM, in bytes.
func memoryStatus(name string) uint64 { return fileField("/proc/self/status", name) }

// pageCache is the page cache of the machine, in bytes.
func pageCache() uint64 { return fileField("/proc/meminfo", "Cached") }

// userHz is the unit of /proc/stat on every Linux.
const userHz = 100

// busyTime is the CPU time that was not idle, of all CPUs since boot, time stolen by the host
// included.
func busyTime() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	var ticks uint64
	// cpu user nice system idle iowait irq softirq steal guest guest_nice; guests are part of user
	// and nice.
	for _, field := range []int{1, 2, 3, 6, 7, 8} {
		if field < len(fields) {
			value, _ := strconv.ParseUint(fields[field], 10, 64)
			ticks += value
		}
	}
	return time.Duration(ticks) * time.Second / userHz
}

// raiseWeight asks for a larger share of CPU time for this process's group; where that isn't
// allowed nothing changes.
func raiseWeight() { _ = os.WriteFile("/proc/self/autogroup", []byte("-20"), 0) }

// pin binds the calling goroutine to a thread of its own and that to a CPU. unpin undoes it.
func pin(cpu int) (unpin func()) {
	runtime.LockOSThread()
	var old, one unix.CPUSet
	if unix.SchedGetaffinity(0, &old) != nil || old.Count() < 2 {
		return runtime.UnlockOSThread
	}
	for candidate := range 1024 {
		if !old.IsSet(candidate) {
			continue
		}
		if cpu == 0 {
			one.Set(candidate)
			break
		}
		cpu--
	}
	if one.Count() != 1 || unix.SchedSetaffinity(0, &one) != nil {
		return runtime.UnlockOSThread
	}
	return func() {
		_ = unix.SchedSetaffinity(0, &old)
		runtime.UnlockOSThread()
	}
}

// startProfile writes a CPU profile to path until stop; an empty path is none.
func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		file.Close()
	}, nil
}
