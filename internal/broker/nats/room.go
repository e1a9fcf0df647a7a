package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

// The reserve is storage that is kept for keys and for taking over. It consists of
// messages in the nodes' stream without a meaning. When a key does not fit, one of them is
// removed and the key is written in its place. So the reserve holds against every bound on
// storage that NATS answers with: that of the account, of the server, and of the stream.
const (
	reservePieces = 32
	pieceBytes    = 32 << 10
	piecesForKeys = reservePieces / 2 // taking over leaves at least this many
)

// Codes of NATS' errors when there is no room.
const (
	accountFull = 10002
	serverFull  = 10023
	storageFull = 10047
	storeFailed = 10077 // the description has the reason
)

// isFull reports whether a write failed because the storage is full.
func isFull(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case accountFull, serverFull, storageFull:
		return true
	case storeFailed:
		return strings.Contains(api.Description, "maximum bytes") || strings.Contains(api.Description, "maximum messages")
	}
	return false
}

// fill records that the storage is full.
func (c *Conn) fill(err error) {
	c.full.Store(true)
	c.lines.full.Log(c.log, slog.LevelWarn, "the storage of NATS is full", slog.String("error", err.Error()))
}

// Full reports whether NATS has answered that its storage is full, and Reserve has not succeeded since.
func (c *Conn) Full() bool { return c.full.Load() }

// Full implements broker.Nodes.
func (n *Nodes) Full() bool { return n.owner.Full() }

// Reserve implements broker.Nodes. After the storage was full, one piece more has to fit.
func (n *Nodes) Reserve(ctx context.Context) error {
	there, err := n.reserve(ctx)
	if err != nil {
		return err
	}
	pieces := reservePieces
	if n.Full() {
		pieces++
	}
	for i := range pieces {
		if there[n.pieceSubject(i)] > 0 {
			continue
		}
		_, err := n.publish(ctx, &nats.Msg{Subject: n.pieceSubject(i), Data: make([]byte, pieceBytes)}, jetstream.WithExpectLastSequencePerSubject(0))
		if err != nil && !errors.Is(err, broker.ErrConflict) { // another node was first
			return err
		}
	}
	if pieces > reservePieces {
		if err := n.purge(ctx, n.pieceSubject(reservePieces)); err != nil {
			return err
		}
	}
	if n.owner.full.CompareAndSwap(true, false) {
		n.owner.lines.room.Log(n.owner.log, slog.LevelInfo, "the storage of NATS has room again")
	}
	return nil
}

func (n *Nodes) pieceSubject(i int) string { return fmt.Sprintf("%s.room.%d", n.base, i) }

// reserve returns how many messages each subject of the reserve has.
func (n *Nodes) reserve(ctx context.Context) (map[string]uint64, error) {
	info, err := n.stream.Info(ctx, jetstream.WithSubjectFilter(n.base+".room.*"))
	if err != nil {
		return nil, n.failure(ctx, err)
	}
	return info.State.Subjects, nil
}

// within calls write. While the storage is full and more than keep pieces of the reserve are
// left, it removes a piece and calls write again.
func (n *Nodes) within(ctx context.Context, keep int, write func() error) error {
	for {
		err := write()
		if !errors.Is(err, broker.ErrFull) {
			return err
		}
		there, missing := n.reserve(ctx)
		if missing != nil || len(there) <= keep {
			return err
		}
		for subject := range there { // any
			if n.purge(ctx, subject) != nil {
				return err
			}
			break
		}
	}
}

func (n *Nodes) purge(ctx context.Context, subject string) error {
	return n.failure(ctx, n.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)))
}
