package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/bench"
	"ssegateway/e2e/harness"
)

const (
	openFiles  = 20_000           // limit of each process
	startLimit = 20 * time.Second // for a server to become ready
	runLimit   = 4 * time.Minute  // one scenario with one server
	originTime = 20 * time.Millisecond
)

// measure runs every chosen scenario with every chosen server. If it is interrupted, it
// returns the results so far.
func (o *options) measure(ctx context.Context, progress io.Writer) (r Results, err error) {
	if os.Geteuid() != 0 {
		return r, errors.New("only root can compare: each server becomes the first process of a PID namespace, so that all of its processes end with it")
	}
	bin, err := os.MkdirTemp("", "compare")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(bin) //nolint:errcheck // a temporary directory
	if r.Machine, err = thisMachine(); err != nil {
		return r, err
	}
	if r.Machine.OpenFiles, err = limitOpenFiles(); err != nil {
		return r, fmt.Errorf("limit on open files: %w", err)
	}
	if err := o.prepare(ctx, bin, progress); err != nil {
		return r, err
	}
	if r.Programs, err = o.programs(ctx); err != nil {
		return r, err
	}
	info, err := os.Stat(filepath.Join(bin, ours))
	if err != nil {
		return r, err
	}
	r.Began, r.Repetitions, r.BinaryBytes = time.Now().UTC().Truncate(time.Second), o.runs, info.Size()
	defer func() { r.Seconds = time.Since(r.Began).Seconds() }()
	for repetition := range o.runs {
		for _, sc := range o.chosenScenarios() {
			// Each repetition begins with another server.
			chosen := o.chosenServers()
			for i := range chosen {
				s := chosen[(i+repetition)%len(chosen)]
				if !s.has(sc.name) {
					continue
				}
				run := Run{Repetition: repetition + 1, Scenario: sc.name, Server: s.name}
				begin := time.Now()
				run.Result, err = runOnce(ctx, bin, s, sc, o.streams)
				if ctx.Err() != nil {
					return r, context.Cause(ctx)
				}
				told := fmt.Sprintf("%.0f s", time.Since(begin).Seconds())
				if err != nil {
					run.Error = err.Error()
					told = "failed: " + run.Error
				}
				fmt.Fprintf(progress, "%d/%d %s, %s: %s\n", repetition+1, o.runs, sc.name, s.name, told)
				r.Runs = append(r.Runs, run)
			}
		}
	}
	return r, nil
}

// prepare installs the missing servers, and builds this project's programs into bin.
func (o *options) prepare(ctx context.Context, bin string, progress io.Writer) error {
	root, err := output(ctx, "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	var commands [][]string
	for _, s := range o.chosenServers() {
		if s.packages {
			commands = [][]string{{filepath.Join(root, "bench", "compare", "peer-deps")}}
		}
	}
	commands = append(commands, []string{
		"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin + "/",
		"./cmd/ssegateway", "./bench/compare/plain", "./bench/compare/floor",
	})
	for _, command := range commands {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stdout, cmd.Stderr = progress, progress
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(command, " "), err)
		}
	}
	return nil
}

// runOnce starts the server, and runs the scenario of bench with it.
func runOnce(ctx context.Context, bin string, s server, sc scenario, streams int) (result bench.Result, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("it took longer than %v", runLimit))
	defer cancel()
	p, err := start(ctx, bin, s, sc)
	if err != nil {
		return result, err
	}
	defer p.stop()
	pids, err := p.pids()
	if err != nil {
		return result, err
	}
	args := append(sc.arguments(streams), p.fill(s.target)...)
	for _, pid := range pids {
		args = append(args, "--pid="+strconv.Itoa(pid))
	}
	if s.origin { // it runs in this process, which waits otherwise
		args = append(args, "--backend-pid="+strconv.Itoa(os.Getpid()))
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, ours), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	cmd.WaitDelay = startLimit
	failed := cmd.Run()
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	var report bench.Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || len(report.Results) != 1 {
		return result, fmt.Errorf("bench: %w: %.500s", errors.Join(failed, err), messages.String())
	}
	result = report.Results[0]
	switch {
	case result.Error != "":
		return result, errors.New(result.Error)
	case failed != nil:
		return result, fmt.Errorf("bench: %w: %.500s", failed, messages.String())
	}
	return result, nil
}

// process is a running server. It is the first process of a PID namespace, so when it
// ends, the kernel ends all its children. It ends with this program at the latest.
type process struct {
	dir    string
	values *strings.Replacer
	cmd    *exec.Cmd
	log    bytes.Buffer
	exited chan struct{}
	origin *http.Server
}

func (p *process) fill(texts []string) []string { return fillAll(p.values, texts) }

// start starts a server, and waits until it is ready.
func start(ctx context.Context, bin string, s server, sc scenario) (p *process, err error) {
	var ports [3]string
	for i := range ports {
		port, err := harness.FreePort()
		if err != nil {
			return nil, err
		}
		ports[i] = strconv.Itoa(port)
	}
	p = &process{exited: make(chan struct{})}
	if p.dir, err = os.MkdirTemp("", "compare"); err != nil {
		return nil, err
	}
	p.values = strings.NewReplacer("{port}", ports[0], "{publish}", ports[1], "{backend}", ports[2],
		"{dir}", p.dir, "{bin}", bin, "{heartbeat}", strconv.Itoa(sc.heartbeat), "{workers}", s.workers)
	defer func() {
		if err != nil {
			p.stop()
			err = fmt.Errorf("%s did not start: %w\n%.500s", s.name, err, p.log.String())
		}
	}()
	for _, name := range s.config {
		text, err := configs.ReadFile("config/" + name)
		if err != nil {
			return p, err
		}
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(p.values.Replace(string(text))), 0o600); err != nil {
			return p, err
		}
	}
	if s.origin {
		if p.origin, err = startOrigin(ctx, "127.0.0.1:"+ports[2], sc.heartbeat); err != nil {
			return p, err
		}
	}
	if err := p.run(s); err != nil {
		return p, err
	}
	if err := p.awaitReady(ctx, "http://127.0.0.1:"+ports[0]+s.ready); err != nil {
		return p, err
	}
	select {
	case <-ctx.Done():
		return p, context.Cause(ctx)
	case <-time.After(s.settle):
		return p, nil
	}
}

func (p *process) run(s server) error {
	command := p.fill(s.command)
	cmd := exec.Command(command[0], command[1:]...) // ended by stop
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin"}, p.fill(s.env)...)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd = cmd
	exited := p.exited
	go func() {
		_ = cmd.Wait() // killed by stop; if it ends before that, the log has the reason
		close(exited)
	}()
	return nil
}

func (p *process) awaitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	// A request that got lost while the server was starting is never answered, so it needs a timeout.
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.exited:
			return errors.New("it ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		}
	}
}

// stop ends the server, and removes its files.
func (p *process) stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.exited
	}
	if p.origin != nil {
		p.origin.Close() //nolint:errcheck // an error does not matter any more
	}
	_ = os.RemoveAll(p.dir) // a temporary directory
}

// pids returns all processes of the server.
func (p *process) pids() (pids []int, err error) {
	namespace := func(pid int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) }
	own, err := namespace(p.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, entry := range all {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if n, err := namespace(pid); err == nil && n == own { // on an error the process has ended
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// startOrigin starts the origin that Pushpin asks. It makes Pushpin hold every stream, with
// a heartbeat; the channel is the last part of the path.
func startOrigin(ctx context.Context, addr string, heartbeat int) (*http.Server, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stream/{channel}", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(originTime):
		}
		h := w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Grip-Hold", "stream")
		h.Set("Grip-Channel", r.PathValue("channel"))
		h.Set("Grip-Keep-Alive", fmt.Sprintf(`: heartbeat\n\n; format=cstring; timeout=%d`, heartbeat))
		_, _ = io.WriteString(w, ": open\n\n") // if the server has gone, bench reports it
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: startLimit}
	go s.Serve(l) //nolint:errcheck // ends by Close
	return s, nil
}

// limitOpenFiles sets the limit on open files of this process and of those that it starts.
func limitOpenFiles() (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = min(openFiles, limit.Max)
	return limit.Cur, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}
