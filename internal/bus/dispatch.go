package bus

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Calls of one client take effect in the order in which they came, and those of several at the same time. A client is its
// unique name, which the bus puts into each message. Nothing here depends on what a client writes into one, such as the
// serial, which two of its calls may share.

// queue is the calls that are not answered yet.
type queue struct {
	mu      sync.Mutex
	clients map[string]*client
	users   map[uint32]load
	others  load // of all users but the superuser
}

// client is a client that has calls which are not answered yet.
type client struct {
	load
	waiting []*inbound // the first one is just being answered
}

// inbound is a call, and whose.
type inbound struct {
	*frame
	uid   uint32
	bytes int // that it is counted as
}

func newQueue() *queue {
	return &queue{clients: map[string]*client{}, users: map[uint32]load{}}
}

// reserve makes room for a call, and reports whether there is some.
func (q *queue) reserve(sender string, uid uint32, bytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	most, total := limitsOf(uid), load{}
	if uid != superuser {
		total = q.others
	}
	c := q.clients[sender]
	if c == nil {
		c = &client{}
	}
	if !c.fits(bytes, most.client) || !q.users[uid].fits(bytes, most.user) || !total.fits(bytes, most.all) {
		return false
	}
	q.clients[sender] = c
	q.count(c, uid, 1, bytes)
	return true
}

// count adds to, or takes from, all that is counted of a client. The lock is held.
func (q *queue) count(c *client, uid uint32, calls, bytes int) {
	c.load = c.plus(calls, bytes)
	if q.users[uid] = q.users[uid].plus(calls, bytes); q.users[uid].calls == 0 {
		delete(q.users, uid)
	}
	if uid != superuser {
		q.others = q.others.plus(calls, bytes)
	}
}

// enter puts a call, for which there is room, behind those of the same client. The caller answers them if it is the first.
func (q *queue) enter(in *inbound) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.clients[in.sender]
	c.waiting = append(c.waiting, in)
	return len(c.waiting) == 1
}

// leave takes out a client's call, which was answered, and returns the next one; nil if there is none.
func (q *queue) leave(in *inbound) (next *inbound) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.clients[in.sender]
	q.count(c, in.uid, -1, -in.bytes)
	if c.waiting = c.waiting[1:]; len(c.waiting) > 0 {
		return c.waiting[0]
	}
	if c.calls == 0 { // and none is just being read
		delete(q.clients, in.sender)
	}
	return nil
}

// admit makes room for a call of a user, and reports whether there is some. A call that needs no room is not admitted.
func (l *line) admit(f *frame, uid uint32) bool {
	return f.iface != peerName && l.server.room(f) == nil && l.queue.reserve(f.sender, uid, f.counted())
}

// callRoom is the memory that it takes to read a call and to do what it says, in times of its size.
const callRoom = 6

// room is an error if there is no memory for a call. Before the daemon is known it is not asked.
func (s *Server) room(f *frame) error {
	select {
	case <-s.attached:
		return s.daemon.Room(callRoom * int64(f.size))
	default:
		return nil
	}
}

// counted is the bytes that a call is counted as.
func (f *frame) counted() int { return len(f.head) + f.size + overhead }

// take answers a call that was admitted, behind those of the same client.
func (l *line) take(f *frame, uid uint32) {
	in := &inbound{f, uid, f.counted()}
	if l.queue.enter(in) {
		go l.work(in)
	}
}

// work answers the calls of a client until there are none.
func (l *line) work(in *inbound) {
	for ; in != nil; in = l.queue.leave(in) {
		l.handle(in)
	}
}

// refuse answers a call that was not admitted: what needs no room, and of other calls that there is none.
func (l *line) refuse(f *frame, uid uint32) {
	if f.answered() && l.server.budget.spend(uid, refusal) {
		l.refuseFor(f, uid, "too many calls of this client, or of this user, wait for an answer")
	}
}

// refuseFor is refuse, with the reason why there is no room unless it is the memory, and whatever the user has spent.
func (l *line) refuseFor(f *frame, uid uint32, reason string) {
	in := &inbound{frame: f, uid: uid}
	if f.iface == peerName {
		answer, err := peer(f.member)
		l.reply(in, answer, err)
		return
	}
	if err := l.server.room(f); err != nil {
		reason = "the call is too large: " + err.Error()
	}
	l.reply(in, nil, plain(limitsExceeded, "%s", reason))
}

const peerName = "org.freedesktop.DBus.Peer"

// peer answers for the interface that every program on the bus has (D-Bus specification, "org.freedesktop.DBus.Peer").
func peer(member string) ([]any, error) {
	switch member {
	case "Ping":
		return nil, nil
	case "GetMachineId":
		if id := machineID(); id != "" {
			return []any{encode("s", id)}, nil
		}
		return nil, plain("org.freedesktop.DBus.Error.FileNotFound", "this machine has no id")
	}
	return nil, plain(unknownMethod, "Unknown method: %s is not a valid method of interface %s", member, peerName)
}

// machineID is the id of the machine, "" if it has none: see machine-id(5) and dbus-uuidgen(1).
var machineID = sync.OnceValue(func() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if id, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(id))
		}
	}
	return ""
})

// handle answers a call. Nothing that a client sends ends the daemon.
func (l *line) handle(in *inbound) {
	s := l.server
	defer func() {
		if fault := recover(); fault != nil {
			s.log.Error("internal error", "call", in.member, "fault", fault, "stack", string(debug.Stack()))
			l.reply(in, nil, dbus.NewError(exception, []any{fmt.Sprintf("UNKNOWN_ERROR: internal error: %v", fault)}))
		}
	}()
	if l.server.budget.wait(s.ctx, in.uid, refusal) != nil {
		return
	}
	answer, err := s.answer(l, in)
	if err != nil {
		l.reply(in, nil, s.failure(in, err))
		return
	}
	l.reply(in, answer, nil)
}

// reply sends an answer, or an error, unless the client wants none.
func (l *line) reply(in *inbound, answer []any, err error) {
	if !in.answered() {
		return
	}
	msg := &dbus.Message{Type: dbus.TypeMethodReply, Body: answer}
	if err != nil {
		named := err.(*dbus.Error)
		msg = &dbus.Message{Type: dbus.TypeError, Body: []any{encode("s", clip(named.Error()))}, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldErrorName: dbus.MakeVariant(named.Name),
		}}
	}
	n, fault := l.send(in, msg)
	l.server.budget.charge(in.uid, max(0, n-refusal))
	switch {
	case fault == nil || errors.Is(fault, io.ErrClosedPipe) || errors.Is(fault, errFull):
	case err == nil: // such as a text of a file that is no text of D-Bus
		l.reply(in, nil, plain(exception, "UNKNOWN_ERROR: cannot send the answer: %v", fault))
	default:
		l.server.log.Error("cannot answer a call", "call", in.member, "reason", fault)
	}
}

// send sends an answer to a call, and returns its size in bytes. A fault of the library is an error.
func (l *line) send(in *inbound, msg *dbus.Message) (n int, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("internal error: %v", fault)
		}
	}()
	if msg.Headers == nil {
		msg.Headers = map[dbus.HeaderField]dbus.Variant{}
	}
	msg.Headers[dbus.FieldDestination] = dbus.MakeVariant(in.sender)
	msg.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(in.serial)
	return l.bus.send(msg, in.uid != superuser)
}
