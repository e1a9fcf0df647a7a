package nats

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/internal/guard"
	"ssegateway/internal/logging"
)

const (
	traceTTL = time.Hour // of removed keys, and of records that were taken over

	takenBy = "Taken-By" // header of a trace: the number of the node

	listenTimeout = time.Second // for the server to confirm the subscription
	answersAtOnce = 10_000      // requests of other nodes in progress
	heldAtOnce    = 256         // records that are read together
	heldTimeout   = time.Second // for them to come; fewer may come than NATS counted, since some are replaced or removed meanwhile
)

// Nodes implements broker.Nodes. Keys and records are messages of one stream, one for
// each subject. The subjects contain the stream's epoch, so that a message of one stream is
// never taken for one of another stream of the same name.
type Nodes struct {
	owner  *Conn
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	name   string // of the stream
	prefix string // of messages
	epoch  string
	base   string    // of the stream's subjects
	made   time.Time // when the stream was made, by this node's clock
	marks  marks
}

// OpenNodes opens the stream of the nodes, and makes it if there is none.
func OpenNodes(ctx context.Context, c *Conn, prefix string, replicas int) (*Nodes, error) {
	conn := c.nats
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, fmt.Errorf("NATS JetStream: %w", err)
	}
	n := &Nodes{owner: c, conn: conn, js: js, name: prefix + "_nodes", prefix: prefix, epoch: rand.Text()[:10]}
	want := jetstream.StreamConfig{
		Name: n.name, Subjects: []string{prefix + ".nodes." + n.epoch + ".>"}, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: 1, AllowMsgTTL: true, Replicas: max(replicas, 1), Metadata: map[string]string{epochKey: n.epoch},
	}
	n.stream, err = js.CreateStream(ctx, want)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		if n.stream, err = js.Stream(ctx, n.name); err == nil {
			n.epoch = n.stream.CachedInfo().Config.Metadata[epochKey]
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the nodes' stream on NATS: %w", err)
	}
	if n.epoch == "" {
		return nil, fmt.Errorf("the stream %s on NATS is not this gateway's: it has no epoch", n.name)
	}
	n.base = prefix + ".nodes." + n.epoch
	info := n.stream.CachedInfo()
	n.made = time.Now().Add(-max(info.TimeStamp.Sub(info.Created), 0))
	n.marks.acked, n.marks.reconnects = info.State.LastSeq, conn.Stats().Reconnects
	return n, nil
}

// Age implements broker.Nodes.
func (n *Nodes) Age() time.Duration { return time.Since(n.made) }

func hexOf(node uint32) string { return fmt.Sprintf("%08x", node) }

func (n *Nodes) keySubject(node uint32) string { return n.base + ".key." + hexOf(node) }

func (n *Nodes) heldSubject(node uint32, token string) string {
	return n.base + ".held." + hexOf(node) + "." + token
}

func (n *Nodes) recordSubject(node uint32, token broker.Token) string {
	return n.heldSubject(node, hex.EncodeToString(token[:]))
}

// failure translates an error of NATS. If there is no stream for the subject or name, either
// another stream has replaced it, or NATS has not started completely.
func (n *Nodes) failure(ctx context.Context, err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == wrongLastSequence):
		return broker.ErrConflict
	case isFull(err):
		n.owner.fill(err)
		return broker.ErrFull
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrMsgNotFound):
		if n.isLost(ctx) {
			return broker.ErrStoreLost
		}
	}
	return err
}

// wrongLastSequence is NATS' code for a wrong revision in an answer without the right one.
const wrongLastSequence = 10164

func (n *Nodes) isLost(ctx context.Context) bool {
	stream, err := n.js.Stream(ctx, n.name)
	return errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && stream.CachedInfo().Config.Metadata[epochKey] != n.epoch
}

func (n *Nodes) publish(ctx context.Context, m *nats.Msg, options ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := n.owner.whileUp(ctx)
	defer cancel()
	floor, err := n.expect(ctx)
	if err != nil {
		return 0, err
	}
	ack, err := n.js.PublishMsg(ctx, m, options...)
	if errors.Is(err, nats.ErrReconnectBufExceeded) { // the connection is down, and the library buffers nothing
		return 0, fmt.Errorf("%w: %w", broker.ErrUnsent, err)
	}
	if err != nil {
		return 0, n.failure(ctx, err)
	}
	return ack.Sequence, n.marks.acknowledged(m.Subject, ack.Sequence, floor)
}

// last returns the newest message of a subject; nil: there is none.
func (n *Nodes) last(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := n.owner.whileUp(ctx)
	defer cancel()
	m, err := n.stream.GetLastMsgForSubject(ctx, subject)
	if err = n.failure(ctx, err); errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// Set implements broker.Nodes.
func (n *Nodes) Set(ctx context.Context, node uint32, value []byte, last uint64) (revision uint64, err error) {
	err = n.within(ctx, 0, func() error {
		revision, err = n.publish(ctx, &nats.Msg{Subject: n.keySubject(node), Data: value}, jetstream.WithExpectLastSequencePerSubject(last))
		return err
	})
	return revision, err
}

// Remove implements broker.Nodes.
func (n *Nodes) Remove(ctx context.Context, node uint32, last uint64) error {
	return n.within(ctx, 0, func() error {
		_, err := n.publish(ctx, &nats.Msg{Subject: n.keySubject(node)},
			jetstream.WithExpectLastSequencePerSubject(last), jetstream.WithMsgTTL(traceTTL))
		return err
	})
}

// Get implements broker.Nodes.
func (n *Nodes) Get(ctx context.Context, node uint32) (broker.Key, error) {
	m, err := n.last(ctx, n.keySubject(node))
	if err != nil || m == nil {
		return broker.Key{Node: node}, err
	}
	return key(node, m.Sequence, m.Data), nil
}

func key(node uint32, revision uint64, data []byte) broker.Key {
	k := broker.Key{Node: node, Revision: revision}
	if len(data) > 0 {
		k.Value = data
	}
	return k
}

// consumer makes a reader of the stream's messages with the given subjects, in order.
func (n *Nodes) consumer(ctx context.Context, subjects string, policy jetstream.DeliverPolicy) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if n.isLost(ctx) { // a consumer of another stream would never get a message
		return nil, broker.ErrStoreLost
	}
	c, err := n.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: policy, FilterSubject: subjects,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readerIdle,
	})
	return c, n.failure(ctx, err)
}

// Watch implements broker.Nodes.
func (n *Nodes) Watch(ctx context.Context, f func(broker.Key)) error {
	prefix := n.base + ".key."
	c, err := n.consumer(ctx, prefix+"*", jetstream.DeliverLastPerSubjectPolicy)
	if err != nil {
		return err
	}
	from, err := c.Messages(jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer from.Stop()
	for next := uint64(1); ; next++ {
		m, err := from.Next(jetstream.NextContext(ctx))
		if err != nil {
			return n.failure(ctx, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != next {
			return errOutOfOrder
		}
		node, ok := parseHex(m.Subject()[len(prefix):])
		if !ok {
			n.passOver(m.Subject())
			continue
		}
		f(key(node, meta.Sequence.Stream, m.Data()))
	}
}

// parseHex parses the result of hexOf. It returns false for anything else.
func parseHex(name string) (node uint32, ok bool) {
	v, err := strconv.ParseUint(name, 16, 32)
	node = uint32(v)
	return node, err == nil && node != 0 && hexOf(node) == name
}

// parseToken parses a token as recordSubject writes it. It returns false for anything else.
func parseToken(name string) (token broker.Token, ok bool) {
	b, err := hex.DecodeString(name)
	if err != nil || len(b) != len(token) || hex.EncodeToString(b) != name {
		return token, false
	}
	return broker.Token(b), true
}

// passOver logs that a message is ignored because it is not the gateway's.
func (n *Nodes) passOver(subject string) {
	n.owner.lines.foreign.Log(n.owner.log, slog.LevelWarn, "a message in the store of the nodes is passed over: it is not the gateway's", slog.String("subject", logging.Cut(subject)))
}

// Hold implements broker.Nodes.
func (n *Nodes) Hold(ctx context.Context, node uint32, token broker.Token, request []byte) error {
	subject, keep := n.recordSubject(node, token), reservePieces
	if broker.NodeOf(token) != node {
		keep = piecesForKeys // the connection is taken over
	}
	err := n.within(ctx, keep, func() error {
		_, err := n.publish(ctx, &nats.Msg{Subject: subject, Data: request}, jetstream.WithExpectLastSequencePerSubject(0))
		return err
	})
	if !errors.Is(err, broker.ErrConflict) {
		return err
	}
	m, err := n.last(ctx, subject)
	if err != nil {
		return err
	}
	switch {
	case m == nil:
		return nil
	case m.Header.Get(takenBy) != "":
		return broker.ErrTaken
	}
	n.marks.found(subject, m.Sequence) // an earlier attempt has written the record
	return nil
}

// Release implements broker.Nodes.
func (n *Nodes) Release(ctx context.Context, node uint32, token broker.Token) error {
	return n.purge(ctx, n.recordSubject(node, token))
}

// TakeOver implements broker.Nodes.
func (n *Nodes) TakeOver(ctx context.Context, node uint32, token broker.Token, by uint32) (taken, before bool, err error) {
	subject := n.recordSubject(node, token)
	for ctx.Err() == nil {
		m, err := n.last(ctx, subject)
		if err != nil {
			return false, false, err
		}
		revision := uint64(0)
		if m != nil {
			if other := m.Header.Get(takenBy); other != "" {
				if taken = other == hexOf(by); taken {
					n.marks.found(subject, m.Sequence)
				}
				return taken, true, nil
			}
			revision = m.Sequence
		}
		err = n.within(ctx, piecesForKeys, func() error {
			_, err := n.publish(ctx, &nats.Msg{Subject: subject, Header: nats.Header{takenBy: {hexOf(by)}}},
				jetstream.WithExpectLastSequencePerSubject(revision), jetstream.WithMsgTTL(traceTTL))
			return err
		})
		if !errors.Is(err, broker.ErrConflict) {
			return err == nil, false, err
		}
	}
	return false, false, ctx.Err()
}

// Held implements broker.Nodes.
func (n *Nodes) Held(ctx context.Context, node uint32, f func(token broker.Token, request []byte) error) error {
	c, err := n.consumer(ctx, n.heldSubject(node, "*"), jetstream.DeliverAllPolicy)
	if err != nil {
		return err
	}
	prefix := len(n.heldSubject(node, ""))
	for left := c.CachedInfo().NumPending; left > 0; {
		fetching, cancel := context.WithTimeout(ctx, heldTimeout)
		batch, err := c.Fetch(int(min(left, heldAtOnce)), jetstream.FetchContext(fetching))
		if err != nil {
			cancel()
			return err
		}
		got := 0
		for m := range batch.Messages() {
			got++
			meta, err := m.Metadata()
			if err != nil {
				cancel()
				return err
			}
			left = meta.NumPending
			token, ok := parseToken(m.Subject()[prefix:])
			if !ok {
				n.passOver(m.Subject())
				continue
			}
			if len(m.Data()) > 0 {
				if err := f(token, m.Data()); err != nil {
					cancel()
					return err
				}
			}
		}
		cancel()
		if err := batch.Error(); err != nil {
			return err
		}
		if got == 0 {
			return context.DeadlineExceeded
		}
	}
	return nil
}

// Forget implements broker.Nodes.
func (n *Nodes) Forget(ctx context.Context, node uint32) error {
	return n.purge(ctx, n.heldSubject(node, "*"))
}

func (n *Nodes) messageSubject(node uint32) string { return n.prefix + ".node." + hexOf(node) }

// MaxMessage implements broker.Nodes.
func (n *Nodes) MaxMessage() int { return int(n.conn.MaxPayload()) }

// Ask implements broker.Nodes.
func (n *Nodes) Ask(ctx context.Context, node uint32, message []byte) ([]byte, error) {
	if limit := n.MaxMessage(); len(message) > limit {
		return nil, fmt.Errorf("%w: %d bytes, and NATS (max_payload) at most %d", broker.ErrTooLarge, len(message), limit)
	}
	m, err := n.conn.RequestWithContext(ctx, n.messageSubject(node), message)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, broker.ErrNobody
	}
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

// Answer implements broker.Nodes.
func (n *Nodes) Answer(node uint32, f func(ctx context.Context, message []byte) []byte) (func(), error) {
	ctx, cancel := context.WithCancel(context.Background())
	slots := make(chan struct{}, answersAtOnce)
	sub, err := n.conn.Subscribe(n.messageSubject(node), func(m *nats.Msg) {
		defer guard.Recover()
		select {
		case slots <- struct{}{}:
		default:
			return // too many requests: the caller times out
		}
		go func() {
			defer guard.Recover()
			defer func() { <-slots }()
			_ = m.Respond(f(ctx, m.Data))
		}()
	})
	if err != nil {
		cancel()
		return nil, err
	}
	stop := func() {
		cancel()
		_ = sub.Unsubscribe()
	}
	if err := n.conn.FlushTimeout(listenTimeout); err != nil { // requests that are sent from now on arrive
		stop()
		return nil, err
	}
	return stop, nil
}
