package cluster

import (
	"context"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

// reapAtOnce bounds how many connections of dead nodes are being told of.
const reapAtOnce = 512

// adoption is a connection that this node tells of though its token has another number.
type adoption struct {
	node uint32 // whose record there is
	done func() // when it was told and the record removed; may be nil
}

// dispute is a connection of a number that was lost, of which it is not known whether
// others found its record.
type dispute struct {
	notice gateway.Notice
	node   uint32 // whose record it would be
}

// Permit says whether the backend may be told of a connection's end. A node may speak
// for a token only while its lease holds for certain; and never for one of a number
// that it has lost, unless nobody else did.
func (n *Node) Permit(token gateway.Token) gateway.Permission {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, adopted := n.adopted[token]; !adopted && (!n.claimed || token.Node() != n.number) {
		return gateway.Denied
	}
	if !n.holdsLocked() {
		return gateway.Deferred
	}
	return gateway.Granted
}

// Settled takes note that a disconnect is done with.
func (n *Node) Settled(notice gateway.Notice, denied bool) {
	token := notice.Token
	if denied {
		if node, ok := n.ledger.held(token); ok {
			n.mu.Lock()
			n.disputed = append(n.disputed, dispute{notice, node})
			n.mu.Unlock()
			signal(n.disputes)
		}
		return
	}
	n.mu.Lock()
	a, adopted := n.adopted[token]
	if !adopted {
		a.node = token.Node()
	}
	delete(n.adopted, token)
	own := a.node == n.number
	n.mu.Unlock()
	if adopted && !own {
		n.stats.Reaped.Add(1)
	}
	n.ledger.release(a.node, token, !own, a.done)
}

// adopt makes this node tell of a connection, unless its own number is another one by now.
func (n *Node) adopt(as uint32, notice gateway.Notice, a adoption) bool {
	n.mu.Lock()
	if !n.claimed || n.number != as {
		n.mu.Unlock()
		return false
	}
	_, already := n.adopted[notice.Token]
	if !already {
		n.adopted[notice.Token] = a
	}
	n.mu.Unlock()
	if already {
		return false
	}
	n.teller.Disconnect(notice)
	return true
}

// reapAll tells of what lost nodes held, one node after the other.
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
			lostNode, revision, ok := n.mine()
			if !ok || n.reap(ctx, store, lostNode, revision) != nil {
				break
			}
		}
	}
}

// mine is a lost node that is this one's to tell of.
func (n *Node) mine() (node uint32, revision uint64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for number, k := range n.keys {
		if k.State == lost && k.By == n.number && n.claimed {
			return number, k.revision, true
		}
	}
	return 0, 0, false
}

// reap tells of everything that a lost node held, then removes its key. Records are
// read as the backend is told, so that not many wait in memory.
func (n *Node) reap(ctx context.Context, store broker.Nodes, node uint32, revision uint64) error {
	n.mu.Lock()
	session, slots, as, name := n.session, n.slots, n.number, n.keys[node].Name
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(session, cancel)()

	begin, all := time.Now(), 0
	for {
		found := 0
		err := store.Held(ctx, node, func(token broker.Token, request []byte) error {
			t := gateway.Token(token)
			if n.ledger.releasing(t) {
				return nil
			}
			found++
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			notice := gateway.Notice{Token: t, Request: request, Reason: gateway.Error, Detail: gateway.GatewayLost}
			if !n.adopt(as, notice, adoption{node: node, done: func() { <-slots }}) {
				<-slots // told already, or not ours any more
			}
			return nil
		})
		if told := full(ctx, slots); !told {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if all += found; found == 0 {
			break
		}
	}
	if err := store.Remove(ctx, node, revision); err != nil {
		return err
	}
	n.mu.Lock()
	if k := n.keys[node]; k.revision == revision {
		k.State = gone
		n.keys[node] = k
	}
	n.mu.Unlock()
	n.cfg.Log.Info("lost node told of", "node", nameOf(name, node), "connections", all, "ms", time.Since(begin).Milliseconds())
	return nil
}

// full waits until all slots are free, and answers false when ctx ended before.
func full(ctx context.Context, slots chan struct{}) bool {
	taken := 0
	defer func() {
		for range taken {
			<-slots
		}
	}()
	for taken < cap(slots) {
		select {
		case slots <- struct{}{}:
			taken++
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// settleDisputes finds out who tells of the connections whose record may have come too
// late for others, or not at all.
func (n *Node) settleDisputes(ctx context.Context, store broker.Nodes) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.disputes:
		}
		for {
			d, ok := n.nextDispute()
			if !ok {
				break
			}
			if n.settle(ctx, store, d) {
				continue
			}
			n.mu.Lock()
			n.disputed = append(n.disputed, d)
			n.mu.Unlock()
			if wait(ctx, ledgerRepeat); ctx.Err() != nil {
				return
			}
		}
	}
}

func (n *Node) nextDispute() (d dispute, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.claimed || len(n.disputed) == 0 {
		return d, false // a number calls again
	}
	d = n.disputed[0]
	n.disputed = n.disputed[1:]
	return d, true
}

// settle decides a dispute. The record under the present number comes first: should
// this node die in between, the next one tells.
func (n *Node) settle(ctx context.Context, store broker.Nodes, d dispute) bool {
	n.mu.Lock()
	number := n.number
	n.mu.Unlock()
	token := d.notice.Token
	if !n.ledger.hold(ctx, number, token, d.notice.Request) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	first, err := store.TakeOver(ctx, d.node, broker.Token(token))
	if err != nil {
		return false
	}
	if !first {
		n.ledger.release(number, token, false, nil)
		return true
	}
	return n.adopt(number, d.notice, adoption{node: number})
}
