package server

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// What the limit on open files has to hold beside streams.
const (
	// ownFiles are listeners, logs, epoll and such, and what is between two states.
	ownFiles = 64
	// reservedFiles is the default distance of MAX_CONNECTIONS from the limit:
	// ownFiles, two times the default of 256 callbacks, and 192 for requests that
	// are no streams (health, internal calls, clients that are refused).
	reservedFiles = 768
)

// waitingRoom keeps the connections of the public listener, streams included,
// within the descriptors there are for them: when there are too many, the one
// that has been silent longest, without any request, has to go. Such are a slow
// attacker's rather than a client's or a health check's, which send at once.
type waitingRoom struct {
	limit   int
	streams func() int // descriptors that streams have, beside those of net/http

	mu     sync.Mutex
	open   int                        // connections that net/http has
	silent *list.List                 // those of them, a net.Conn each, that never sent a request; the oldest first
	places map[net.Conn]*list.Element // in silent
}

func newWaitingRoom(limit int, streams func() int) *waitingRoom {
	return &waitingRoom{limit: max(limit, 1), streams: streams, silent: list.New(), places: map[net.Conn]*list.Element{}}
}

// track is the server's ConnState hook.
func (w *waitingRoom) track(c net.Conn, state http.ConnState) {
	if evicted := w.move(c, state); evicted != nil {
		_ = evicted.Close()
	}
}

func (w *waitingRoom) move(c net.Conn, state http.ConnState) (evicted net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.speak(c)
	switch state {
	case http.StateNew:
		w.open++
		w.places[c] = w.silent.PushBack(c)
		if w.open+w.streams() > w.limit {
			evicted, _ = w.silent.Front().Value.(net.Conn)
			w.speak(evicted)
		}
	case http.StateClosed, http.StateHijacked:
		w.open--
	case http.StateActive, http.StateIdle:
	}
	return evicted
}

// speak takes a connection out of the silent ones, if it is one of them.
func (w *waitingRoom) speak(c net.Conn) {
	if place, ok := w.places[c]; ok {
		w.silent.Remove(place)
		delete(w.places, c)
	}
}
