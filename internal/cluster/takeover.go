package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// reapAtOnce bounds how many ends of dead nodes' connections are reported at a time. It is more where that would not
// fill two batches.
const reapAtOnce = 512

func newSlots(cfg Config) chan struct{} { return make(chan struct{}, max(reapAtOnce, 2*cfg.Batch)) }

var (
	errInDoubt = errors.New("the lease is in doubt")
	errRetired = errors.New("the node leaves the cluster")
	// errUnderWay: the node has come to the connection in another way, too.
	errUnderWay = errors.New("a take-over is under way")
	// errUnsure: the record may have been taken over, or not, so it may not be found again.
	errUnsure = errors.New("no answer to a take-over")
)

// dispute is a connection of a number that was lost. It is not known whether others found its
// record, or whether they reported its end before the backend was asked about it.
type dispute struct {
	notice gateway.Notice
	node   uint32 // the number of the record
	late   bool   // it is reported in any case
}

// record names a connection's record.
type record struct {
	node  uint32
	token gateway.Token
}

// adoption is a connection of another number whose end this node reports.
type adoption struct {
	request []byte
	done    func() // called when the end is reported; may be nil
}

// cost returns what a dispute takes, in bytes.
func (d dispute) cost() int64 { return int64(operationOverhead + len(d.notice.Request)) }

// Permit reports whether the end of a connection may be reported to the backend. A node may report
// only while its lease holds for certain, and only connections of its own number and those whose
// record it has taken over from a node that holds no lease. A connection whose record was never
// sent may always be reported, since no other node can know it.
func (n *Node) Permit(token gateway.Token) gateway.Permission {
	if n.ledger.neverSent(token) {
		return gateway.Granted
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, adopted := n.adopted[token]; !adopted && (!n.claimed || token.Node() != n.number) {
		return gateway.Denied
	}
	if !n.holdsLocked() || n.mayReturnLocked(token.Node()) {
		return gateway.Deferred
	}
	return gateway.Granted
}

// mayReturnLocked reports whether a node that counts as lost or gone may still hold a lease on this
// store. On a store that was made anew it can be the first to write its key. That is over when its
// key says that it is lost, and any lease from before that has run out.
func (n *Node) mayReturnLocked(number uint32) bool {
	switch k := n.keys[number]; k.State {
	case lost:
		return k.revision == 0 || k.By == 0 || time.Since(k.alive) < n.leaseOf(k)
	case gone:
		return k.revision == 0
	default:
		return false
	}
}

// OnFinished records that a disconnect is done with.
func (n *Node) OnFinished(notice gateway.Notice, denied bool) {
	token := notice.Token
	n.mu.Lock()
	adoption, adopted := n.adopted[token]
	delete(n.adopted, token)
	_, late := n.late[token]
	delete(n.late, token)
	maker, orphaned := n.orphaned[token]
	delete(n.orphaned, token)
	own := adopted || n.claimed && token.Node() == n.number
	number := n.number
	n.mu.Unlock()
	node, unsettled := n.ledger.held(token)
	if orphaned {
		node = maker
	} else if !unsettled {
		node = token.Node()
	}
	switch d := (dispute{notice: notice, node: node, late: late}); {
	case own && !denied:
		n.ledger.release(number, token, adoption.done)
	case !denied:
		n.ledger.drop(token) // the end was reported just before the number was lost
	case unsettled || late:
		n.dispute(d)
	default:
		n.hand(d)
	}
}

// hand leaves a connection of a number that was lost to those who find its record. It is kept until they have found all,
// since it becomes a dispute if the store is lost before that.
func (n *Node) hand(d dispute) {
	n.mu.Lock()
	_, outlived := n.outlived[d.node]
	handed, waits := n.handed[d.node]
	room := n.Held()+d.cost() <= n.cfg.HeldBytes
	if waits && room {
		n.handed[d.node] = append(handed, d)
		n.handedBytes.Add(d.cost())
	}
	n.mu.Unlock()
	switch {
	case outlived:
		n.dispute(d)
	case waits && !room:
		unkept := n.stats.Unkept.Add(1)
		n.unkept.Log(n.cfg.Log, slog.LevelWarn, "ends that other nodes are to tell are not kept here: if the store of the nodes is lost now, nobody tells of them",
			slog.Int64("bytes", n.Held()), slog.Int64("bound", n.cfg.HeldBytes), slog.Uint64("unkept", unkept))
	}
}

// takeBackLocked returns what was handed to others under a number, which is over: they have found all, or cannot any more.
func (n *Node) takeBackLocked(number uint32) []dispute {
	handed := n.handed[number]
	delete(n.handed, number)
	for _, d := range handed {
		n.handedBytes.Add(-d.cost())
	}
	return handed
}

// adopt makes this node report the end of a connection whose record it has taken over, unless its
// own number has changed.
func (n *Node) adopt(as uint32, notice gateway.Notice, done func()) bool {
	n.mu.Lock()
	ok := n.claimed && n.number == as
	before, already := n.adopted[notice.Token] // it may have been taken over from another lost node too
	if ok {
		n.adopted[notice.Token] = adoption{notice.Request, chain(before.done, done)}
	}
	n.mu.Unlock()
	if ok && !already {
		n.teller.Disconnect(notice)
	}
	return ok
}

// forgo gives up a take-over, since another node reports the end, or this node does or has done already.
// Its record stays while this node has yet to report.
func (n *Node) forgo(as uint32, token gateway.Token, done func()) {
	n.mu.Lock()
	before, adopted := n.adopted[token]
	if adopted {
		n.adopted[token] = adoption{before.request, chain(before.done, done)}
	}
	n.mu.Unlock()
	if !adopted {
		n.ledger.release(as, token, done)
	}
}

// chain returns a function that calls both; each may be nil.
func chain(f, g func()) func() {
	if f == nil {
		return g
	}
	if g == nil {
		return f
	}
	return func() { f(); g() }
}

// takeOver makes this node report the end of a connection that is recorded for another number. If
// another node has taken the record already, that one reports it; a late dispute is reported in any
// case. The record under its own number is written first, so that the next node reports the end if
// this one dies in between. done is called when the end was reported, or is another node's to
// report. A node can come to a connection in two ways, since a record of its own former number is
// found and in dispute: one of them waits for the other.
func (n *Node) takeOver(ctx context.Context, store broker.Nodes, d dispute, done func()) error {
	number, token := n.numberNow(), d.notice.Token
	if !n.begin(token) {
		return errUnderWay
	}
	defer n.finish(token)
	if err := n.ledger.hold(ctx, number, token, d.notice.Request, true); err != nil {
		return err
	}
	if _, certain := n.lease(number); !certain {
		return errInDoubt // the record is in doubt too
	}
	taken, err := n.leaveTrace(ctx, store, record{d.node, token}, number)
	if err == nil && !taken && !d.late {
		n.forgo(number, token, done)
		return nil
	}
	if err == nil && !n.adopt(number, d.notice, done) {
		err = errNumberTaken
	}
	if errors.Is(err, errNumberTaken) {
		n.hand(dispute{notice: d.notice, node: number, late: d.late})
	}
	return err
}

// begin claims a connection for one way to it. It returns false while the other way has it.
func (n *Node) begin(token gateway.Token) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, busy := n.underWay[token]
	n.underWay[token] = struct{}{}
	return !busy
}

func (n *Node) finish(token gateway.Token) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.underWay, token)
}

// leaveTrace takes a record over in the name of a number of this node. Without an answer nobody
// knows whether the record is gone. So it is tried again until there is one, or the number is lost,
// whose records others find. It fails with errUnsure if ctx ends or the node leaves before that.
// A trace of that name that was there before, though no try was without an answer, means that this
// node has told of the connection, or will: then it is not taken again.
func (n *Node) leaveTrace(ctx context.Context, store broker.Nodes, r record, as uint32) (taken bool, err error) {
	for {
		trying, cancel := context.WithTimeout(ctx, ledgerTimeout)
		taken, before, err := store.TakeOver(trying, r.node, broker.Token(r.token), as)
		cancel()
		switch {
		case err == nil:
			unsure := n.settle(r)
			return taken && (unsure || !before), nil
		case !errors.Is(err, broker.ErrFull):
			n.markUnsure(r, as)
		case !n.isUnsure(r):
			return false, err // nothing was written
		}
		wait(ctx, ledgerRepeat)
		if own, _ := n.lease(as); !own {
			return false, errNumberTaken
		}
		if ctx.Err() != nil || n.leaves() {
			return false, fmt.Errorf("%w: %w", errUnsure, err)
		}
	}
}

// markUnsure records that nobody knows whether a record was taken over in the name of a number of this node.
func (n *Node) markUnsure(r record, as uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.number == as {
		n.unsure[r] = struct{}{}
	}
}

func (n *Node) isUnsure(r record) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, unsure := n.unsure[r]
	return unsure
}

// settle records that it is known who has taken a record over. It reports whether that was in doubt.
func (n *Node) settle(r record) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, unsure := n.unsure[r]
	delete(n.unsure, r)
	return unsure
}

// takeOverFound takes over a connection whose record a lost node has left.
func (n *Node) takeOverFound(ctx context.Context, store broker.Nodes, d dispute, done func()) error {
	n.mu.Lock()
	if n.retired {
		n.mu.Unlock()
		return errRetired
	}
	n.taking++
	n.mu.Unlock()
	defer n.takeoverDone()
	err := n.takeOver(ctx, store, d, done)
	if errors.Is(err, errUnsure) { // it may not be found again
		n.dispute(d)
	}
	return err
}

// leaves reports whether nothing is taken over any more.
func (n *Node) leaves() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.retired
}

func (n *Node) takeoverDone() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.taking--; n.taking == 0 && n.retired {
		close(n.taken)
	}
}

// reapAll takes over what lost nodes held, one node after the other.
func (n *Node) reapAll(ctx context.Context, store broker.Nodes) {
	tick := time.NewTicker(n.interval())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for {
			node, revision, ok := n.nextAssigned()
			if !ok || n.reap(ctx, store, node, revision) != nil {
				break
			}
		}
	}
}

// nextAssigned returns a lost node whose connections this node has to report, once that node
// cannot hold a lease any more.
func (n *Node) nextAssigned() (node uint32, revision uint64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for number, k := range n.keys {
		if k.State == lost && k.By == n.number && n.claimed && !n.mayReturnLocked(number) {
			return number, k.revision, true
		}
	}
	return 0, 0, false
}

// reap takes over everything that a lost node held, then removes its key. It reads records no
// faster than ends are reported, so that few of them are in memory.
func (n *Node) reap(ctx context.Context, store broker.Nodes, node uint32, revision uint64) error {
	n.mu.Lock()
	session, slots, name := n.session, n.slots, n.keys[node].Name
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(session, cancel)()

	begin, all := time.Now(), 0
	for found := -1; found != 0; {
		found = 0
		var group sync.WaitGroup
		var failed, full atomic.Bool
		err := store.Held(ctx, node, func(token broker.Token, request []byte) error {
			if !isRequest(request) {
				return n.passOver(ctx, store, node, token, len(request))
			}
			if full.Load() {
				return broker.ErrFull // reported ends make room; until then each try would only load the store
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			found++
			group.Go(func() {
				defer guard.Recover()
				notice := gateway.Notice{Token: gateway.Token(token), Request: request, Reason: gateway.Error, Detail: gateway.GatewayLost}
				done := func() {
					n.stats.Reaped.Add(1)
					<-slots
				}
				if err := n.takeOverFound(ctx, store, dispute{notice: notice, node: node}, done); err != nil {
					<-slots
					failed.Store(true)
					if errors.Is(err, broker.ErrFull) {
						full.Store(true)
					}
				}
			})
			if store.Full() {
				group.Wait() // the room that is left suffices for one at a time
			}
			return nil
		})
		if group.Wait(); err != nil {
			return err
		}
		if failed.Load() {
			return errInDoubt // the rest is found again
		}
		all += found
	}
	removing, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	if err := store.Remove(removing, node, revision); err != nil {
		return err
	}
	n.mu.Lock()
	if k := n.keys[node]; k.revision == revision {
		k.State = gone
		n.keys[node] = k
		n.takeBackLocked(node)
	}
	n.mu.Unlock()
	n.cfg.Log.Info("lost node taken over", "node", nameOf(name, node), "connections", all, "ms", time.Since(begin).Milliseconds())
	return nil
}

// isRequest reports whether a record may be repeated to the backend. It has to be a JSON object, so
// that it cannot change the meaning of the callback.
func isRequest(record []byte) bool {
	v := jsontext.Value(record)
	return v.IsValid() && v.Kind() == '{'
}

// passOver leaves a trace in the place of a record that no gateway wrote, so that it is not found
// again.
func (n *Node) passOver(ctx context.Context, store broker.Nodes, node uint32, token broker.Token, size int) error {
	n.garbled.Log(n.cfg.Log, slog.LevelWarn, "a connection's record on the broker cannot be read, and is passed over",
		slog.String("node", nameOf("", node)), slog.Int("bytes", size))
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	_, _, err := store.TakeOver(ctx, node, token, n.numberNow())
	return err
}

func (n *Node) numberNow() uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.number
}

// resolveDisputes finds out which node reports the connections in dispute.
func (n *Node) resolveDisputes(ctx context.Context, store broker.Nodes) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.disputes:
		}
		for d, ok := n.nextDispute(); ok; d, ok = n.nextDispute() {
			err := n.takeOver(ctx, store, d, nil)
			if err != nil {
				n.dispute(d)
			}
			n.takeoverDone()
			if err == nil {
				continue
			}
			if wait(ctx, ledgerRepeat); ctx.Err() != nil {
				return // the next store continues
			}
		}
	}
}

// dispute adds a dispute, which this or the next store decides.
func (n *Node) dispute(d dispute) {
	n.mu.Lock()
	n.disputed = append(n.disputed, d)
	n.mu.Unlock()
	signal(n.disputes)
}

// nextDispute returns a dispute, which counts as being taken over until takeoverDone is called: a
// node that leaves has to know of it.
func (n *Node) nextDispute() (d dispute, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.claimed || n.retired || len(n.disputed) == 0 {
		return d, false // the next number signals again
	}
	d = n.disputed[0]
	n.disputed = n.disputed[1:]
	n.taking++
	return d, true
}
