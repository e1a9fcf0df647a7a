//go:build linux && !portable

package stream

import (
	"context"
	"errors"
	"testing"

	"ssegateway/internal/gateway"
)

// The context of a first request does what those of package context do.
func TestFirstContext(t *testing.T) {
	c := &firstContext{}
	if _, ok := c.Deadline(); ok || c.Err() != nil || c.Value("other") != nil || ClientOf(c) != c {
		t.Error("it has something that it should not have, or lacks itself")
	}
	child, cancel := context.WithCancel(c)
	defer cancel()
	called := make(chan string, 3)
	stop := c.AfterFunc(func() { called <- "stopped" })
	context.AfterFunc(c, func() { called <- "by context" })
	c.AfterFunc(func() { called <- "by itself" })
	if !stop() || stop() {
		t.Error("stop has to succeed once")
	}
	early := c.Done()
	select {
	case <-early:
		t.Fatal("it is over")
	default:
	}

	c.end(gateway.Error, gateway.UnexpectedData)
	c.end(gateway.ClientClosed, 0)
	for _, done := range []<-chan struct{}{early, c.Done(), child.Done()} {
		<-done
	}
	if !errors.Is(c.Err(), context.Canceled) {
		t.Error(c.Err())
	}
	if reason, detail := c.Left(); reason != gateway.Error || detail != gateway.UnexpectedData {
		t.Errorf("it left by %s, %s", reason, detail)
	}
	got := map[string]int{<-called: 1, <-called: 1}
	if got["by context"] != 1 || got["by itself"] != 1 {
		t.Errorf("called: %v", got)
	}
	if c.AfterFunc(func() { called <- "late" })() {
		t.Error("what is called at once cannot be stopped")
	}
	if late := <-called; late != "late" {
		t.Error(late)
	}
	<-(&firstContext{ended: true}).Done()
}
