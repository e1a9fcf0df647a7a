package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// publisher sends events, one request each, on one connection that is kept.
type publisher struct {
	server *server
	size   int
	conn   net.Conn
	reader *bufio.Reader
	buf    []byte
}

func newPublisher(ctx context.Context, o *Options, s *server) (*publisher, error) {
	u, err := url.Parse(s.publishURL)
	if err != nil {
		return nil, err
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "80")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	return &publisher{server: s, size: o.Size, conn: conn, reader: bufio.NewReader(conn)}, nil
}

// publish sends one event, and waits until the server has answered 2xx.
func (p *publisher) publish(stream int, sequence uint64, sent int64) error {
	p.buf = appendData(p.buf[:0], stream, sequence, sent, p.size)
	n := strconv.Itoa(stream)
	body := strings.ReplaceAll(strings.ReplaceAll(p.server.publishBody, "{data}", string(p.buf)), "{n}", n)
	target := strings.ReplaceAll(p.server.publishURL, "{n}", n)
	if strings.Contains(body, "{token}") {
		body = strings.ReplaceAll(body, "{token}", p.server.token(stream))
	}
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	p.conn.SetDeadline(time.Now().Add(patience))
	p.buf = fmt.Appendf(p.buf[:0], "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		u.RequestURI(), u.Host, len(body), body)
	if _, err := p.conn.Write(p.buf); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.reader, nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the publisher was answered %s: %.200s", resp.Status, text)
	}
	return nil
}

// unicast is many publishers, each with streams of its own, so that every
// stream has one publisher, and an order.
type unicast struct {
	publishers []*publisher
	sequences  []uint64 // by stream: events sent to it
}

// run sends for that long and says how many were sent. With a rate each event has
// its time, and carries it however late the publisher is: what had to wait for a
// slow answer before it counts as slow too. With rate 0 publishers send as they can.
func (u *unicast) run(ctx context.Context, d time.Duration, rate int) (sends int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	counts := make([]int64, len(u.publishers))
	from := clock()
	var wg sync.WaitGroup
	for i, p := range u.publishers {
		wg.Go(func() {
			stream := i
			for k := int64(0); ctx.Err() == nil; k++ {
				sent := clock()
				if rate > 0 {
					sent = from + (k*int64(len(u.publishers))+int64(i))*int64(time.Second)/int64(rate)
				}
				if sent-from >= int64(d) {
					return
				}
				sleepUntil(ctx, sent)
				u.sequences[stream]++
				if err := p.publish(stream, u.sequences[stream], sent); err != nil {
					cancel(err)
					return
				}
				counts[i]++
				if stream += len(u.publishers); stream >= len(u.sequences) {
					stream = i
				}
			}
		})
	}
	wg.Wait()
	for _, n := range counts {
		sends += n
	}
	return sends, context.Cause(ctx)
}

// sleepUntil is more exact than a timer of the runtime, which may be a millisecond late.
func sleepUntil(ctx context.Context, at int64) {
	for left := at - clock(); left > 0 && ctx.Err() == nil; left = at - clock() {
		t := unix.NsecToTimespec(min(left, int64(100*time.Millisecond)))
		_ = unix.Nanosleep(&t, nil) // woken early it goes on
	}
}
