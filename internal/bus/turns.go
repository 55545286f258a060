package bus

import (
	"context"
	"strings"
	"sync"
	"time"
)

// Users other than the superuser wait for each other, so that all of them together take no more than a share of the machine: one
// of their calls has the turn. A call that lasts, such as one that waits for a disk that does not answer, loses its turn and goes
// on, and the next one begins. So nobody waits for long because of somebody else.

// pace is what a call waits for.
type pace int

const (
	changes pace = iota // it waits for its turn, and for earlier changes of the same user if there are many
	looks               // it waits for its turn among those that only look, which need nothing but a snapshot
	urgent              // it waits for nothing
)

// paceOf is the pace of a member that is not urgent. Members that only look are called by what they do: Get, getZones,
// listServices, queryPort.
func paceOf(member string) pace {
	for _, verb := range []string{"get", "Get", "list", "query"} {
		if strings.HasPrefix(member, verb) {
			return looks
		}
	}
	return changes
}

const (
	// longTurn is how long a call keeps its turn.
	longTurn = 100 * time.Millisecond
	// changesOfUser is how many changes of a user are carried out at a time, lasting ones among them.
	changesOfUser = 4
)

// turns are what calls wait for. A channel has something in it for each call that is carried out.
type turns struct {
	looks, changes chan struct{}
	users          sync.Map // by user id, as a channel: the changes of a user. Only who is allowed something gets here.
}

func newTurns() turns {
	return turns{looks: make(chan struct{}, 1), changes: make(chan struct{}, 1)}
}

// begin waits until a call of a user may be carried out. The caller calls end after that. The error is that the context has ended.
func (t *turns) begin(ctx context.Context, uid uint32, p pace) (end func(), err error) {
	switch {
	case uid == superuser || p == urgent:
		return func() {}, nil
	case p == looks:
		return take(ctx, t.looks, longTurn)
	}
	own, _ := t.users.LoadOrStore(uid, make(chan struct{}, changesOfUser))
	endOwn, err := take(ctx, own.(chan struct{}), 0)
	if err != nil {
		return nil, err
	}
	endTurn, err := take(ctx, t.changes, longTurn)
	if err != nil {
		endOwn()
		return nil, err
	}
	return func() { endTurn(); endOwn() }, nil
}

// take waits for room in a channel, and takes it until end is called, or for a time unless that is 0.
func take(ctx context.Context, room chan struct{}, most time.Duration) (end func(), err error) {
	select {
	case room <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	end = sync.OnceFunc(func() { <-room })
	if most > 0 {
		time.AfterFunc(most, end)
	}
	return end, nil
}
