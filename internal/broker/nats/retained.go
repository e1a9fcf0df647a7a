package nats

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

// Subjects of retained events and removals, below the log's own: the digest of the topic, "r", and
// that of the key. JetStream copies them from the log into the store of retained events.
const (
	severalTopics = "m" // instead of one topic's digest
	retainedToken = "r"
	noKey         = "-"   // instead of a key's digest
	allKeys       = "all" // of a removal without a key

	sourceHeader = "Nats-Stream-Source" // of a copy: the stream, the sequence there, and the filter
	storeHeader  = "Ssegateway-Store"   // of a message to be copied: the epoch of the store
	leastIDs     = 100 * time.Millisecond

	// readsKey is in the metadata of the log's readers that take messages with subjects below the log's own.
	readsKey      = "ssegateway_reads"
	readsSubjects = "subjects"

	firstLook    = time.Millisecond // for a copy; doubled up to lastLook
	lastLook     = 50 * time.Millisecond
	copyTimeout  = 4 * time.Second
	copyPatience = 250 * time.Millisecond // where the log keeps events for longer than
	longestPause = 2 * time.Minute        // of JetStream's copying, after a leader of the log was lost: up to 40 s were seen
)

var (
	errStoreLost = fmt.Errorf("%w: the store of retained events is gone", errLogLost)
	errOldNode   = errors.New("a node of the version before reads the log: events can be retained when all nodes have this one")
	errRetaining = errors.New("retained events")
	errNotCopied = errors.New("JetStream did not copy the event into the store of retained events in time")
	errNotTheirs = errors.New("is not this gateway's: it has no epoch")
	errTooFar    = fmt.Errorf("%w: events of another log are retained whose numbers it will give out", errCutShort)
)

// digestOf returns a token of a subject that stands for a sequence of strings.
func digestOf(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // it never fails
		_, _ = h.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// subjectOf returns the subject of an event's message.
func (e *session) subjectOf(p broker.Publication) string {
	if !p.Retain && !p.Remove {
		if len(p.Topics) == 1 && e.own != nil && !e.own.isAll() {
			return e.eventSubject(digestOf(p.Topics[0]))
		}
		return e.subject
	}
	key := noKey
	switch {
	case p.Key != "":
		key = digestOf(p.Key)
	case p.Remove:
		key = allKeys
	}
	topic := severalTopics
	if len(p.Topics) == 1 {
		topic = digestOf(p.Topics[0])
	} else {
		key = digestOf(append([]string{key}, p.Topics...)...)
	}
	return strings.Join([]string{e.subject, topic, retainedToken, key}, ".")
}

// isMine reports whether a message with that subject belongs to the log.
func (e *session) isMine(subject string) bool {
	rest, ok := strings.CutPrefix(subject, e.subject)
	return ok && (rest == "" || rest[0] == '.')
}

// storeSubject returns the subject of the copy of a message.
func (e *session) storeSubject(subject string) string {
	tokens := strings.Split(strings.TrimPrefix(subject, e.subject+"."), ".")
	return e.prefix + ".retained." + tokens[0] + "." + tokens[2]
}

func (e *session) storeName() string { return e.prefix + "_retained" }

// openStore makes the store of retained events if there is none, and has it copy from this log. It
// fails while a node reads the log that would take a retained event for another log's.
func (e *session) openStore(ctx context.Context) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	if e.oldReader.Load() {
		return errOldNode
	}
	if e.copies.Load() {
		return nil
	}
	stream, err := e.current(ctx)
	if err != nil {
		return err
	}
	if err := noOldReader(ctx, stream); err != nil {
		return fmt.Errorf("who reads the log: %w", err)
	}
	have := stream.CachedInfo().Config
	if e.takeBelow(&have) {
		if _, err := e.js.UpdateStream(ctx, have); err != nil {
			return fmt.Errorf("the log's subjects: %w", err)
		}
	}
	if err := e.followLog(ctx); err != nil {
		return fmt.Errorf("their store: %w", err)
	}
	e.copies.Store(true)
	return nil
}

// takeBelow has the log's stream take messages with subjects below the log's own. It reports whether that is new.
func (e *session) takeBelow(log *jetstream.StreamConfig) bool {
	below := e.subject + ".>"
	if slices.Contains(log.Subjects, below) {
		return false
	}
	log.Subjects = append(log.Subjects, below)
	return true
}

// lookAfterStore finds out whether a node of the version before has come or gone since, and, if JetStream
// did not copy in time, whether it still has to.
func (e *session) lookAfterStore(ctx context.Context, stream jetstream.Stream) {
	if !e.copies.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	if err := noOldReader(ctx, stream); err == nil || errors.Is(err, errOldNode) {
		e.oldReader.Store(err != nil)
	}
	if e.lags.Load() {
		_ = e.followLog(ctx) // the next event finds out whether that was enough
		e.lags.Store(false)
	}
}

// noOldReader returns errOldNode if a node of the version before reads the log. Readers that are not
// made like a node's do not count.
func noOldReader(ctx context.Context, stream jetstream.Stream) error {
	list, old := stream.ListConsumers(ctx), false
	for reader := range list.Info() { // to its end: the library's goroutine would wait for ever
		c := reader.Config
		old = old || c.Metadata[readsKey] == "" && c.InactiveThreshold == readerIdle && c.MemoryStorage && c.FilterSubject == "" && c.AckPolicy == jetstream.AckNonePolicy
	}
	if old {
		return errOldNode
	}
	return list.Err()
}

// followLog makes the store, or changes the one there is, so that it copies from this log.
func (e *session) followLog(ctx context.Context) error {
	want := jetstream.StreamConfig{
		Name: e.storeName(), Storage: jetstream.FileStorage, Replicas: max(e.replicas, 1),
		Duplicates: leastIDs, // the log has seen to repeats
		Metadata:   map[string]string{epochKey: broker.NewEpoch()},
		Sources: []*jetstream.StreamSource{{Name: e.name, SubjectTransforms: []jetstream.SubjectTransformConfig{{
			Source:      e.subject + ".*." + retainedToken + ".*",
			Destination: e.prefix + ".retained.{{wildcard(1)}}.{{wildcard(2)}}",
		}}}},
	}
	known := e.storeID()
	if known == "" {
		stream, err := e.js.CreateStream(ctx, want)
		if err == nil {
			e.knowStore(stream)
			return nil
		}
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
	}
	store, err := e.js.Stream(ctx, want.Name)
	if err != nil {
		return err
	}
	have := store.CachedInfo().Config
	id := have.Metadata[epochKey]
	switch {
	case id == "":
		return fmt.Errorf("the stream %s on NATS %w", want.Name, errNotTheirs)
	case known != "" && id != known:
		return errStoreLost // watch finds it too, and ends the session
	}
	e.knowStore(store)
	if follows(have, want) && have.Replicas >= want.Replicas {
		return nil
	}
	have.Sources, have.Replicas = want.Sources, max(have.Replicas, want.Replicas)
	_, err = e.js.UpdateStream(ctx, have)
	return err
}

func follows(have, want jetstream.StreamConfig) bool {
	return len(have.Sources) == 1 && have.Sources[0].Name == want.Sources[0].Name &&
		slices.Equal(have.Sources[0].SubjectTransforms, want.Sources[0].SubjectTransforms)
}

// storeID returns the epoch of the store that this log's retained events are in; "": it is not known
// yet, or there is none.
func (e *session) storeID() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.storeEpoch
}

// hearOfStore sets the epoch of the store as a message has it, if it is not known.
func (e *session) hearOfStore(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.storeEpoch == "" {
		e.storeEpoch = id
	}
}

func (e *session) knowStore(store jetstream.Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.store, e.storeEpoch = store, store.CachedInfo().Config.Metadata[epochKey]
}

// checkStore returns errStoreLost if the store of what this node retains is not there any more.
func (e *session) checkStore(ctx context.Context) error {
	known := e.storeID()
	if known == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	store, err := e.js.Stream(ctx, e.storeName())
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return errStoreLost
	case err != nil:
		return nil // it is away, or has no leader now
	case store.CachedInfo().Config.Metadata[epochKey] != known:
		return errStoreLost
	}
	return nil
}

// copied waits until the store has the message of an event that is at that position, or a newer one of its subject, or
// until others have taken its place. When a server of a cluster is lost JetStream may not copy for a while. Then the
// log has the event, and that is enough if it keeps it for long.
func (e *session) copied(ctx context.Context, a *appending, at broker.Position) error {
	patience := copyTimeout
	if e.maxAge >= longestPause {
		patience = copyPatience
	}
	ctx, timedOut := context.WithTimeout(ctx, patience)
	defer timedOut()
	ctx, cancel := e.conn.linked(ctx)
	defer cancel()
	for look := firstLook; ; look = min(2*look, lastLook) {
		if e.lags.Load() && patience == copyPatience || e.isCopied(ctx, a.message.Subject, at) ||
			a.p.Retain && !e.log.Retains(a.p.Topics, a.p.Key, at.Offset) {
			return nil
		}
		select {
		case <-e.closed:
			return broker.ErrUnavailable
		case <-ctx.Done():
			if patience == copyTimeout {
				e.copies.Store(false) // the next one looks what there is
				return fmt.Errorf("%w: %w: %w", broker.ErrUnavailable, errRetaining, errNotCopied)
			}
			e.lags.Store(true)
			e.conn.lines.lags.Log(e.conn.log, slog.LevelWarn, "JetStream does not copy retained events into their store now: only the log has the newest")
			return nil
		case <-time.After(look):
		}
	}
}

func (e *session) isCopied(ctx context.Context, subject string, at broker.Position) bool {
	e.mu.Lock()
	store := e.store
	e.mu.Unlock()
	last, err := store.GetLastMsgForSubject(ctx, e.storeSubject(subject))
	if err != nil {
		return false
	}
	from, ok := e.source(last.Header.Get(sourceHeader))
	return ok && from.Epoch == at.Epoch && from.Offset >= at.Offset
}

// copyOf is a message of the store.
type copyOf struct {
	broker.Publication
	at       broker.Position // in its log
	subject  string          // in the store
	sequence uint64          // in the store
}

// source returns where in a log a copy is from.
func (e *session) source(header string) (at broker.Position, ok bool) {
	fields := strings.Fields(header)
	if len(fields) < 3 {
		return at, false
	}
	epoch, ok := strings.CutPrefix(fields[2], e.prefix+".log.")
	epoch, _, _ = strings.Cut(epoch, ".")
	offset, err := strconv.ParseUint(fields[1], 10, 64)
	return broker.Position{Epoch: epoch, Offset: offset}, ok && err == nil
}

// readStore reads all copies, in the order of the logs.
func (e *session) readStore(ctx context.Context) (copies []copyOf, err error) {
	store, err := e.js.Stream(ctx, e.storeName())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id := store.CachedInfo().Config.Metadata[epochKey]
	if id == "" {
		return nil, fmt.Errorf("the stream %s on NATS %w", e.storeName(), errNotTheirs)
	}
	e.knowStore(store)
	err = e.each(ctx, store, func(m jetstream.Msg, meta *jetstream.MsgMetadata) {
		at, ok := e.source(m.Headers().Get(sourceHeader))
		p, _, err := decode(m.Data())
		if !ok || err != nil || !p.Retain && !p.Remove {
			e.passOver(meta.Sequence.Stream, fmt.Errorf("%w: a copy in the store of retained events", errBadMessage))
			return
		}
		copies = append(copies, copyOf{p, at, m.Subject(), meta.Sequence.Stream})
	})
	// JetStream may have copied a message twice, and then what was behind it.
	slices.SortStableFunc(copies, func(a, b copyOf) int { return cmp.Compare(a.at.Offset, b.at.Offset) })
	copies = slices.CompactFunc(copies, func(a, b copyOf) bool { return a.at == b.at })
	return copies, err
}

// each calls f with each message of a stream, in order, up to its end now.
func (e *session) each(ctx context.Context, stream jetstream.Stream, f func(jetstream.Msg, *jetstream.MsgMetadata)) error {
	if stream.CachedInfo().State.Msgs == 0 {
		return nil
	}
	from, err := e.messages(ctx, stream, 1)
	if err != nil {
		return err
	}
	defer from.Stop()
	for next := uint64(1); ; {
		m, err := within(ctx, from, loadWait)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // what was there may have been purged
			info, err := stream.Info(ctx)
			if err != nil || info.State.Msgs == 0 || info.State.LastSeq < next {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		f(m, meta)
		if next = meta.Sequence.Stream + 1; meta.NumPending == 0 {
			return nil
		}
	}
}

// restore retains what was retained before the log begins, once it is known where that is.
func (e *session) restore() error {
	if e.restored {
		return nil
	}
	e.restored = true
	begin := e.log.Stats().Trimmed
	for _, c := range e.stored {
		switch {
		case c.at.Offset <= begin:
			e.log.Restore(c.Publication, c.at)
		case c.at.Epoch != e.log.Epoch():
			return errTooFar
		}
	}
	return nil
}

// passOver logs that a message is ignored because it is not the gateway's.
func (e *session) passOver(sequence uint64, err error) {
	e.conn.lines.foreign.Log(e.conn.log, slog.LevelError, "a message in the log is passed over",
		slog.Uint64("sequence", sequence), slog.String("error", err.Error()))
}
