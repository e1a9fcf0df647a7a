package programs

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// curl starts curl. It does not know events: the caller reads the lines, and comes back.
func curl(t *testing.T, s *session, base string) {
	t.Helper()
	wantCommand(t, "curl", "curl")
	reports := make(chan report, 1000)
	var running *exec.Cmd
	done := make(chan struct{})
	close(done)
	text := ""
	lastID := func() string { // the header
		ids := s.reports["id"]
		return "Last-Event-ID: " + ids[len(ids)-1]
	}
	start := func(args ...string) {
		<-done
		done = make(chan struct{})
		running = exec.Command("curl", append([]string{"--cacert", cert.CertFile, "--silent", "--include", "--no-buffer", base + "/events?" + s.query}, args...)...)
		out, err := running.StdoutPipe()
		if err == nil {
			err = running.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		go func(cmd *exec.Cmd, done chan<- struct{}) {
			defer close(done)
			head := read(out, &text, reports)
			if err := cmd.Wait(); err != nil {
				reports <- report{"cut", err.Error()}
				return
			}
			reports <- report{"end", text + "\n" + head}
		}(running, done)
	}
	start("--data", "question")
	t.Cleanup(func() {
		_ = running.Process.Kill()
		<-done
	})
	s.next = queue(reports)
	s.leave = func() { _ = running.Process.Kill() }
	s.stop = func() {
		stop := exec.Command("curl", "--silent", "--show-error", "--fail", "--request", "DELETE", "--header", lastID(), base+"/events")
		if out, err := stop.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	s.comeBack = func() { start("--header", lastID()) }
}

// read reads an answer as a shell script would. It returns the fields of the head that are the application's.
func read(out io.Reader, text *string, reports chan<- report) (head string) {
	var fields []string
	inHead, event := true, ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		field, value, _ := strings.Cut(strings.TrimSuffix(lines.Text(), "\r"), ": ")
		switch {
		case inHead:
			switch name := strings.ToLower(field); name {
			case "date", "connection", "keep-alive", "transfer-encoding", "x-accel-buffering", "sse-gateway-resume":
			case "":
				inHead = false
			default:
				if !strings.HasPrefix(name, "http/") {
					fields = append(fields, name+": "+value)
				}
			}
		case field == "id":
			reports <- report{"id", value}
		case field == "event":
			event = value
		case field == "data" && event == "piece":
			var piece string
			_ = json.Unmarshal([]byte(value), &piece)
			*text += piece
			reports <- report{"text", *text}
		}
	}
	slices.Sort(fields)
	return strings.Join(fields, "\n")
}
