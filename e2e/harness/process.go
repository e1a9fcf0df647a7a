package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Command is the command that starts a gateway.
type Command struct {
	Args []string
	Env  []string // NAME=value; the harness adds PORT, PATH and HOME; nothing else is inherited
	Dir  string   // the working directory; empty: this process's
	All  bool     // what the command starts is killed with it
}

// Process is a running gateway.
type Process struct {
	Port int
	Log  *Log // standard output and standard error

	cmd    *exec.Cmd
	kill   func() // what the command has started; nil: nothing is killed but the command
	exited chan struct{}
	code   int // once exited
	at     time.Time
}

// startPatience is long because the machine may be loaded. A start takes a fraction of a second.
const startPatience = 30 * time.Second

// ExitSoon is a variable of the environment: how long a program with the race detector lives on once main has returned,
// so that races of goroutines left behind are seen. Without it that is a second, at each of thousands of exits.
const ExitSoon = "GORACE=atexit_sleep_ms=20"

// Run starts the command, and does not wait until it serves. The process is always reaped,
// and killed at the latest when this process ends.
func Run(c Command) (*Process, error) {
	p := &Process{Log: newLog(), exited: make(chan struct{})}
	p.cmd = exec.Command(c.Args[0], c.Args[1:]...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), ExitSoon}, c.Env...)
	p.cmd.Dir = c.Dir
	p.cmd.Stdout, p.cmd.Stderr = p.Log, p.Log
	p.cmd.WaitDelay = 5 * time.Second
	dieWithParent(p.cmd)
	if c.All {
		p.kill = ownGroup(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		err := p.cmd.Wait()
		p.at = time.Now()
		p.code = p.cmd.ProcessState.ExitCode()
		if err != nil && p.code == 0 {
			p.code = -1
		}
		close(p.exited)
	}()
	return p, nil
}

// Start runs the command on a free port, and waits until /healthz is answered at the
// endpoint that the function endpoint returns for the port. If another process has taken
// the port before, Start tries another one.
func Start(c Command, endpoint func(port int) Endpoint) (*Process, error) {
	for attempt := 1; ; attempt++ {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		run := c
		run.Env = append([]string{"PORT=" + strconv.Itoa(port)}, c.Env...)
		p, err := Run(run)
		if err != nil {
			return nil, err
		}
		p.Port = port
		err = p.AwaitHealth(endpoint(port))
		if err == nil {
			return p, nil
		}
		p.Kill()
		text := p.Log.Text()
		lost := strings.Contains(text, "address already in use") || strings.Contains(text, "EADDRINUSE")
		if attempt == 3 || !lost {
			return nil, fmt.Errorf("%w\n%s", err, text)
		}
	}
}

// AwaitHealth waits until /healthz is answered at an endpoint.
func (p *Process) AwaitHealth(e Endpoint) error {
	client := e.Client()
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Scheme()+"://"+e.Addr+"/healthz", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			select {
			case <-p.exited: // so another process has answered
				return errors.New("the gateway exited at its start")
			default:
			}
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-poll.C:
		case <-p.exited:
			return fmt.Errorf("the gateway exited at its start with code %d", p.code)
		case <-ctx.Done():
			return errors.New("the gateway did not answer /healthz")
		}
	}
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Exit waits for the process to exit and returns its code.
func (p *Process) Exit(patience time.Duration) (code int, err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.exited:
		return p.code, nil
	case <-timer.C:
		return 0, fmt.Errorf("still running: %w after %v", ErrTimeout, patience)
	}
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Exited returns a channel that is closed once the process has exited.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// ExitedAt returns when the process exited. It may be called only after that.
func (p *Process) ExitedAt() time.Time { return p.at }

// Kill kills the process if it still runs, and waits until it has exited.
func (p *Process) Kill() {
	if p.kill != nil {
		p.kill()
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// Stop asks the process to end, and waits until it has exited. If it does not, Stop has it
// dump its stacks to the log (a Go program does that on SIGQUIT) and kills it.
func (p *Process) Stop(patience time.Duration) (code int, err error) {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	code, err = p.Exit(patience)
	if err != nil {
		_ = p.Signal(syscall.SIGQUIT)
		_, _ = p.Exit(2 * time.Second)
		p.Kill()
	}
	return code, err
}
