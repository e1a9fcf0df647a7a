package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Freeze stops the process where it stands, until SIGCONT. It returns when all threads stand still: on a busy machine a
// thread may run on for a while after the signal was sent.
func (p *Process) Freeze() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for begin := time.Now(); time.Since(begin) < Patience; <-poll.C {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid()))
		if err != nil {
			return err
		}
		running := 0
		for _, stat := range stats {
			text, err := os.ReadFile(stat)
			_, state, found := strings.Cut(string(text), ") ")
			if err == nil && found && !strings.HasPrefix(state, "T") {
				running++
			}
		}
		if running == 0 {
			return nil
		}
	}
	return errors.New("the process does not stand still")
}
