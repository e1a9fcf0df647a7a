package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPUOf returns the processor time that the processes have used. 0 stands for this process.
func CPUOf(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		clockID := int32(unix.CLOCK_PROCESS_CPUTIME_ID)
		if pid != 0 {
			clockID = int32(^pid)<<3 | 2 // as clock_getcpuclockid(3) makes it
		}
		var t unix.Timespec
		if err := unix.ClockGettime(clockID, &t); err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// memory holds sizes in bytes.
type memory struct {
	resident, proportional int64 // of the server
	sockets, slab          int64 // of the whole machine, so of both ends of each connection
}

func (m memory) minus(n memory) memory {
	return memory{
		resident: m.resident - n.resident, proportional: m.proportional - n.proportional,
		sockets: m.sockets - n.sockets, slab: m.slab - n.slab,
	}
}

func memoryOf(pids []int) (m memory, err error) {
	for _, pid := range pids {
		if err := eachField(fmt.Sprintf("/proc/%d/smaps_rollup", pid), func(name string, values []string) {
			switch name {
			case "Rss":
				m.resident += number(values) << 10
			case "Pss":
				m.proportional += number(values) << 10
			}
		}); err != nil {
			return m, err
		}
	}
	if err := eachField("/proc/net/sockstat", func(name string, values []string) {
		for i, v := range values {
			if name == "TCP" && v == "mem" {
				m.sockets = number(values[i+1:]) * int64(os.Getpagesize())
			}
		}
	}); err != nil {
		return m, err
	}
	return m, eachField("/proc/meminfo", func(name string, values []string) {
		if name == "Slab" {
			m.slab = number(values) << 10
		}
	})
}

// residentOf returns the resident memory of the processes, and is cheaper than memoryOf.
func residentOf(pids []int) (bytes int64, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, err
		}
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			bytes += number(fields[1:]) * int64(os.Getpagesize())
		}
	}
	return bytes, nil
}

// eachField reads a file of lines such as "Rss: 12 kB".
func eachField(path string, field func(name string, values []string)) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if name, values, ok := strings.Cut(lines.Text(), ":"); ok {
			field(name, strings.Fields(values))
		}
	}
	return nil
}

// number returns the first of the values; 0 where the kernel shows none.
func number(values []string) int64 {
	if len(values) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(values[0], 10, 64) // the kernel's own output
	return n
}
