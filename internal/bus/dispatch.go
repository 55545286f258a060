package bus

import (
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/godbus/dbus/v5"
)

// The library calls the handler for each message in a goroutine of its own, in no order. Here calls of one client take
// turns in the order in which they came: the interceptor, which the library calls for one message after the other, gives out
// tickets, and a call waits for the one before it.

// queue is the order of the calls of each client.
type queue struct {
	mu      sync.Mutex
	last    map[string]chan struct{} // by client: closed when its latest call has been answered
	tickets map[ticketKey]ticket
}

type ticketKey struct {
	sender string
	serial uint32
}

// ticket is a place in the order.
type ticket struct {
	before <-chan struct{} // nil when there was no call to wait for
	done   chan struct{}
}

func newQueue() *queue {
	return &queue{last: map[string]chan struct{}{}, tickets: map[ticketKey]ticket{}}
}

func sender(msg *dbus.Message) string {
	name, _ := msg.Headers[dbus.FieldSender].Value().(string)
	return name
}

func text(msg *dbus.Message, field dbus.HeaderField) string {
	switch s := msg.Headers[field].Value().(type) {
	case string:
		return s
	case dbus.ObjectPath:
		return string(s)
	}
	return ""
}

// enter gives a ticket to a call. It is called with all messages in the order in which they come.
func (q *queue) enter(msg *dbus.Message) {
	if msg.Type != dbus.TypeMethodCall || text(msg, dbus.FieldInterface) == "org.freedesktop.DBus.Peer" {
		return // the library answers calls of Peer by itself
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	from := sender(msg)
	t := ticket{before: q.last[from], done: make(chan struct{})}
	q.last[from] = t.done
	q.tickets[ticketKey{from, msg.Serial()}] = t
}

// wait blocks until it is a call's turn, and returns the function that ends the turn.
func (q *queue) wait(msg *dbus.Message) (leave func()) {
	key := ticketKey{sender(msg), msg.Serial()}
	q.mu.Lock()
	t := q.tickets[key]
	delete(q.tickets, key)
	q.mu.Unlock()
	if t.before != nil {
		<-t.before
	}
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.last[key.sender] == t.done {
			delete(q.last, key.sender)
		}
		close(t.done)
	}
}

// handler takes all calls of the connection, for whatever object, interface and member, and hands them to the server.
type handler struct {
	server *Server
	line   *line
}

// LookupObject implements dbus.Handler.
func (h handler) LookupObject(dbus.ObjectPath) (dbus.ServerObject, bool) { return h, true }

// LookupInterface implements dbus.ServerObject.
func (h handler) LookupInterface(string) (dbus.Interface, bool) { return h, true }

// LookupMethod implements dbus.Interface.
func (h handler) LookupMethod(string) (dbus.Method, bool) { return h, true }

// NumArguments implements dbus.Method: the arguments are not the library's business.
func (h handler) NumArguments() int { return 0 }

// NumReturns implements dbus.Method.
func (h handler) NumReturns() int { return 0 }

// ArgumentValue implements dbus.Method.
func (h handler) ArgumentValue(int) any { return nil }

// ReturnValue implements dbus.Method.
func (h handler) ReturnValue(int) any { return nil }

// DecodeArguments implements dbus.ArgumentDecoder: the only argument is the message as it is.
func (h handler) DecodeArguments(_ *dbus.Conn, _ string, msg *dbus.Message, _ []any) ([]any, error) {
	return []any{msg}, nil
}

// Call implements dbus.Method: it answers a message when it is its turn. Nothing that a client sends ends the daemon.
func (h handler) Call(args ...any) (answer []any, err error) {
	msg := args[0].(*dbus.Message)
	leave := h.line.queue.wait(msg)
	defer leave()
	defer func() {
		if fault := recover(); fault != nil {
			h.server.log.Error("internal error", "call", text(msg, dbus.FieldMember), "fault", fault, "stack", string(debug.Stack()))
			err = dbus.NewError(exception, []any{fmt.Sprintf("UNKNOWN_ERROR: internal error: %v", fault)})
		}
	}()
	select {
	case <-h.server.ready:
	case <-h.server.ctx.Done():
		return nil, plain("org.freedesktop.DBus.Error.Failed", "the firewall did not start")
	}
	answer, err = h.server.answer(h.line, msg)
	if err != nil {
		return nil, h.server.failure(msg, err)
	}
	return answer, nil
}
