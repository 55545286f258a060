package bus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"richwall/internal/fault"
)

// The library decodes whatever arrives in a goroutine of its own, where a panic ends the process, and matches answers to
// calls by a number that anybody can guess. So it never sees what others send unasked. A socket stands between it and the
// bus: it hands on answers to the daemon's own calls, if they are from whom the daemon has asked, gives calls of methods to
// the daemon, and drops the rest. The daemon listens to no signals.
//
// No descriptors come in: the library asks the bus for them on its own sockets only, and the bus then refuses messages that
// have some (D-Bus specification, "UNIX_FD").

// caller takes the calls that arrive on a socket. It is called for one after the other, in their order.
type caller interface {
	// arrive is called with the head of a call. It reads the body, or reads past it; the error is the reader's.
	arrive(f *frame, body io.Reader) error
}

// socket is a connection to the bus as the library sees it: a stream of bytes, in which the messages are those that it may see.
type socket struct {
	net.Conn
	log    *slog.Logger
	caller caller // nil: calls are dropped
	bus    *dbus.Conn
	serials
	begun bool   // the authentication is over, and there are messages
	in    pipe   // messages for the library
	out   outbox // messages for the bus

	asking  sync.Mutex
	awaited map[uint32]question // by the serial of the call
}

// question is a call of the daemon's own whose answer has not come.
type question struct {
	asked string // the only one who may answer
	since time.Time
}

const (
	// authTime is the longest that the bus may take to let the daemon in and to give it its name.
	authTime = 10 * time.Second
	// Questions that have no answer after this time are forgotten, once there are so many.
	questionTime = 5 * time.Minute
	manyAsked    = 1000
	// passed is how many bytes are passed to the system at once. What it has already goes before whatever is to be sent first.
	passed = 4 << 10
)

// busDriver is the name of the bus itself. Errors for calls that reach nobody come from it.
const busDriver = "org.freedesktop.DBus"

// systemBus is the address of the system bus unless the environment says otherwise (D-Bus specification, "Well-known Message
// Bus Instances").
const systemBus = "unix:path=/var/run/dbus/system_bus_socket"

// open connects to a bus; "" is the system bus. c takes the calls, and may be nil. When the context ends before the bus has let
// the daemon in, that is an error; later it means nothing.
func open(ctx context.Context, address string, log *slog.Logger, c caller) (*socket, error) {
	if address == "" {
		if address = os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); address == "" {
			address = systemBus
		}
	}
	conn, err := dialAny(ctx, address)
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: conn, log: log, caller: c, awaited: map[uint32]question{}}
	inTime := context.AfterFunc(ctx, func() { s.Close() })
	s.bus, err = dbus.NewConn(s, dbus.WithOutgoingInterceptor(s.sending), dbus.WithSerialGenerator(&s.serials))
	if err == nil {
		err = s.bus.Auth(nil)
	}
	if err == nil {
		err = s.bus.Hello()
	}
	if !inTime() {
		err = fmt.Errorf("the bus does not answer: %w", ctx.Err())
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// dialAny connects to the first of some addresses that can be reached, such as "unix:path=/run/a;unix:abstract=b".
func dialAny(ctx context.Context, addresses string) (net.Conn, error) {
	err := errors.New("there is no address")
	for address := range strings.SplitSeq(addresses, ";") {
		var conn net.Conn
		if conn, err = dialUnix(ctx, address); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func dialUnix(ctx context.Context, address string) (net.Conn, error) {
	transport, keys, _ := strings.Cut(address, ":")
	for pair := range strings.SplitSeq(keys, ",") {
		key, value, _ := strings.Cut(pair, "=")
		name, err := dbus.UnescapeBusAddressValue(value)
		switch {
		case transport != "unix" || key != "path" && key != "abstract":
			continue
		case err != nil:
			return nil, err
		case key == "abstract":
			name = "@" + name
		}
		conn, err := new(net.Dialer).DialContext(ctx, "unix", name)
		if err == nil {
			err = conn.(*net.UnixConn).SetWriteBuffer(passed)
		}
		return conn, err
	}
	return nil, fmt.Errorf("cannot use the address %s: it must be unix:path=FILE or unix:abstract=NAME", address)
}

// Read implements io.Reader for the library.
func (s *socket) Read(b []byte) (int, error) {
	if s.begun {
		return s.in.Read(b)
	}
	return s.Conn.Read(b)
}

// begin is the last line of the authentication that a client sends (D-Bus specification, "Authentication Protocol").
var begin = []byte("BEGIN\r\n")

// Write implements io.Writer for the library, which writes each message, and each line of the authentication, at once. No
// message waits for the bus to take it.
func (s *socket) Write(b []byte) (int, error) {
	if s.begun {
		err := s.out.put(b)
		if err != nil {
			s.Close()
		}
		return len(b), err
	}
	n, err := s.Conn.Write(b)
	if err == nil && bytes.Equal(b, begin) {
		s.begun = true
		go s.receive()
		go fault.Guard(s.log, "sending to the message bus", s.transmit)
	}
	return n, err
}

// Close implements io.Closer.
func (s *socket) Close() error {
	s.in.close()
	s.out.close()
	return s.Conn.Close()
}

// transmit sends what is to be sent, until the socket is closed.
func (s *socket) transmit() {
	defer s.Close()
	for {
		b, ok := s.out.take()
		if !ok {
			return
		}
		if _, err := s.Conn.Write(b); err != nil {
			return
		}
	}
}

// receive sorts the messages that arrive, until the socket is closed.
func (s *socket) receive() {
	defer s.Close()
	in := bufio.NewReaderSize(s.Conn, 1<<16)
	for {
		if err := s.receiveOne(in); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.log.Error("the connection to the message bus is given up", "reason", err)
			}
			return
		}
	}
}

// receiveOne sorts one message. A fault in here costs the connection, and not the daemon.
func (s *socket) receiveOne(in io.Reader) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("internal error: %v\n%s", fault, debug.Stack())
		}
	}()
	f, err := readHead(in)
	if err != nil {
		return err
	}
	switch {
	case (f.kind == dbus.TypeMethodReply || f.kind == dbus.TypeError) && s.asked(f):
		if err := f.readBody(in); err != nil {
			return err
		}
		return s.in.put(f.head, f.body)
	case f.kind == dbus.TypeMethodCall && s.caller != nil && f.sender != "":
		return s.caller.arrive(f, in)
	}
	return f.discardBody(in)
}

// sending is called with each message of the library's before it is sent.
func (s *socket) sending(msg *dbus.Message) {
	sign(msg)
	if msg.Type != dbus.TypeMethodCall || msg.Flags&dbus.FlagNoReplyExpected != 0 {
		return
	}
	to, _ := msg.Headers[dbus.FieldDestination].Value().(string)
	s.asking.Lock()
	defer s.asking.Unlock()
	if len(s.awaited) >= manyAsked {
		for serial, q := range s.awaited {
			if time.Since(q.since) > questionTime {
				delete(s.awaited, serial)
			}
		}
	}
	s.awaited[msg.Serial()] = question{to, time.Now()}
}

// send sends a message that is no call, beside the library, and returns its size in bytes. One that is late goes when there is nothing
// else to send.
func (s *socket) send(msg *dbus.Message, late bool) (n int, err error) {
	sign(msg)
	var b bytes.Buffer
	if err := msg.EncodeTo(&b, binary.LittleEndian); err != nil {
		return 0, err
	}
	binary.LittleEndian.PutUint32(b.Bytes()[8:], s.GetSerial()) // where a head has the serial
	if late {
		return b.Len(), s.out.putLate(b.Bytes())
	}
	return s.Write(b.Bytes())
}

// asked reports whether a message answers a question of the daemon's, and is from whom it has asked. Who is asked by a name
// of his own choice answers by his unique name, and so the daemon asks by unique names.
func (s *socket) asked(f *frame) bool {
	s.asking.Lock()
	defer s.asking.Unlock()
	q, ok := s.awaited[f.replySerial]
	if !ok || f.sender != q.asked && f.sender != busDriver {
		return false
	}
	delete(s.awaited, f.replySerial)
	return true
}

// serials implements dbus.SerialGenerator: it counts. The library's own one keeps the serials of calls that nobody answers.
type serials struct {
	mu   sync.Mutex
	last uint32
}

// GetSerial implements dbus.SerialGenerator.
func (s *serials) GetSerial() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last++; s.last == 0 {
		s.last = 1 // 0 is no serial
	}
	return s.last
}

// RetireSerial implements dbus.SerialGenerator.
func (s *serials) RetireSerial(uint32) {}
