package harness

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Log collects the output of a process, line by line.
type Log struct {
	mu      sync.Mutex
	changed chan struct{}
	partial []byte
	lines   []string
}

func newLog() *Log { return &Log{changed: make(chan struct{})} }

// Write adds output.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, b...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			break
		}
		l.lines = append(l.lines, strings.TrimRight(string(line), "\r"))
		l.partial = rest
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return len(b), nil
}

// Lines returns the complete lines so far, beginning with line number first.
func (l *Log) Lines(first int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines[min(first, len(l.lines)):]...)
}

// Text returns the output so far.
func (l *Log) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n") + "\n" + string(l.partial)
}

// Find waits for a line that matches every pattern, and returns it.
func (l *Log) Find(patience time.Duration, patterns ...*regexp.Regexp) (found string, ok bool) {
	ok = l.Until(patience, func(line string) bool {
		found = line
		return all(line, patterns)
	})
	if !ok {
		return "", false
	}
	return found, true
}

// Count waits for a line that matches the pattern, and returns how many do then. A gateway writes its log behind the
// answers, so a line may come after what it is about.
func (l *Log) Count(patience time.Duration, pattern *regexp.Regexp) (n int) {
	if _, ok := l.Find(patience, pattern); ok {
		n = len(pattern.FindAllString(l.Text(), -1))
	}
	return n
}

// Until goes through the lines, those to come too, until done says that this was the last one that is needed.
func (l *Log) Until(patience time.Duration, done func(line string) bool) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	next := 0
	for {
		l.mu.Lock()
		fresh, changed := l.lines[next:], l.changed
		l.mu.Unlock()
		for _, line := range fresh {
			if done(line) {
				return true
			}
		}
		next += len(fresh)
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

func all(line string, patterns []*regexp.Regexp) bool {
	for _, p := range patterns {
		if !p.MatchString(line) {
			return false
		}
	}
	return true
}
