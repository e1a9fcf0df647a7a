package browser

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"ssegateway/e2e/harness"
)

// chromium is a headless Chromium, driven by the DevTools protocol over two pipes:
// it listens nowhere, and ends with this process at the latest.
type chromium struct {
	cmd    *exec.Cmd
	output *os.File // what it prints
	down   *os.File // commands
	gone   chan struct{}

	mu       sync.Mutex
	lastID   int
	calls    map[int]chan message // by id
	sessions map[string]func(method string, params json.RawMessage)
}

// message is what comes from the browser: the answer to a command, or an event.
type message struct {
	ID        int             `json:"id"`
	SessionID string          `json:"sessionId"`
	Method    string          `json:"method"`
	Params    json.RawMessage `json:"params"`
	Result    json.RawMessage `json:"result"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// startChromium runs a Chromium that keeps everything in dir and trusts the
// certificate with this fingerprint of its key.
func startChromium(dir, trusted string) (*chromium, error) {
	path, err := findChromium()
	if err != nil {
		return nil, err
	}
	c := &chromium{
		gone: make(chan struct{}), calls: map[int]chan message{},
		sessions: map[string]func(string, json.RawMessage){},
	}
	if c.output, err = os.Create(filepath.Join(dir, "chromium.log")); err != nil {
		return nil, err
	}
	theirDown, down, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	up, theirUp, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.down = down
	c.cmd = exec.Command(path,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-breakpad", "--user-data-dir="+filepath.Join(dir, "profile"),
		"--host-resolver-rules=MAP *.rebinding.example 127.0.0.1", // as a hostile name server answers
		"--ignore-certificate-errors-spki-list="+trusted, "--remote-debugging-pipe")
	c.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	c.cmd.Stdout, c.cmd.Stderr = c.output, c.output
	c.cmd.ExtraFiles = []*os.File{theirDown, theirUp} // descriptors 3 and 4
	err = c.cmd.Start()
	theirDown.Close()
	theirUp.Close()
	if err != nil {
		return nil, err
	}
	go c.read(up)
	return c, nil
}

func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no chromium is installed, and these tests need a real browser: run `make test-deps`")
}

// stop ends the browser; its further processes end with it.
func (c *chromium) stop() error {
	_ = c.call("", "Browser.close", nil, nil)
	killer := time.AfterFunc(harness.Patience, func() { _ = c.cmd.Process.Kill() })
	defer killer.Stop()
	err := c.cmd.Wait()
	<-c.gone
	c.down.Close()
	c.output.Close()
	return err
}

// read takes the browser's messages until it is gone.
func (c *chromium) read(up *os.File) {
	defer close(c.gone)
	defer up.Close()
	in := bufio.NewReader(up)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			return
		}
		c.mu.Lock()
		answered, handle := c.calls[m.ID], c.sessions[m.SessionID]
		delete(c.calls, m.ID)
		c.mu.Unlock()
		switch {
		case m.Method == "" && answered != nil:
			answered <- m
		case m.Method != "" && handle != nil:
			handle(m.Method, m.Params)
		}
	}
}

// handle has the events of a session handled. The function must not block.
func (c *chromium) handle(session string, f func(method string, params json.RawMessage)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[session] = f
}

// object is a JSON object.
type object = map[string]any

// call runs a command and waits for its answer.
func (c *chromium) call(session, method string, params object, result any) error {
	answered := make(chan message, 1)
	c.mu.Lock()
	c.lastID++
	command := object{"id": c.lastID, "method": method}
	if params != nil {
		command["params"] = params
	}
	if session != "" {
		command["sessionId"] = session
	}
	c.calls[c.lastID] = answered
	text, err := json.Marshal(command)
	if err == nil {
		_, err = c.down.Write(append(text, 0))
	}
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	timer := time.NewTimer(harness.Patience)
	defer timer.Stop()
	select {
	case m := <-answered:
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-c.gone:
		return fmt.Errorf("%s: the browser is gone", method)
	case <-timer.C:
		return fmt.Errorf("%s: %w after %v", method, harness.ErrTimeout, harness.Patience)
	}
}
