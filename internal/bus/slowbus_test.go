package bus

import (
	"bufio"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// playBus listens as a message bus that does no more than a test needs, and returns its address. It lets everybody in, and gives
// the answer to each call of one of its own methods but Hello; nil is no answer.
func playBus(t *testing.T, answer func(*dbus.Message) *dbus.Message) (address string) {
	t.Helper()
	return listenAs(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for line := ""; line != "BEGIN\r\n"; {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				return
			}
			switch {
			case strings.Contains(line, "AUTH EXTERNAL"):
				conn.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
			case strings.Contains(line, "AUTH"):
				conn.Write([]byte("REJECTED EXTERNAL\r\n"))
			}
		}
		for serial := uint32(1); ; serial++ {
			msg, err := dbus.DecodeMessage(in)
			if err != nil {
				return
			}
			reply := replyTo(msg, ":1.1")
			if msg.Headers[dbus.FieldMember].Value() != "Hello" {
				reply = answer(msg)
			}
			if reply != nil {
				conn.Write(frameOf(reply, serial))
			}
		}
	})
}

// listenAs listens on a socket of its own, and serves whoever connects, until the test ends. It returns the address.
func listenAs(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go serve(conn)
		}
	}()
	return "unix:path=" + path
}

// replyTo is the bus's answer to a call.
func replyTo(msg *dbus.Message, body any) *dbus.Message {
	return &dbus.Message{Type: dbus.TypeMethodReply, Body: []any{body}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldSender: dbus.MakeVariant(busDriver), dbus.FieldReplySerial: dbus.MakeVariant(msg.Serial()),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body)),
	}}
}

// errorTo is an error of the bus for a call.
func errorTo(msg *dbus.Message, name string) *dbus.Message {
	reply := replyTo(msg, "as the test wants it")
	reply.Type, reply.Headers[dbus.FieldErrorName] = dbus.TypeError, dbus.MakeVariant(name)
	return reply
}

// A bus that once could not say whose a client is, such as in want of time or memory, is asked again: root's client does not
// stay nobody's. What the bus did say is not asked twice: neither a user, nor that a client has gone.
func TestOnlyAnswersAboutClientsAreRemembered(t *testing.T) {
	var questions atomic.Int32
	address := playBus(t, func(msg *dbus.Message) *dbus.Message {
		n := questions.Add(1)
		switch {
		case msg.Body[0] == ":1.99":
			return errorTo(msg, "org.freedesktop.DBus.Error.NameHasNoOwner")
		case n == 1:
			return errorTo(msg, "org.freedesktop.DBus.Error.NoMemory")
		}
		return replyTo(msg, uint32(0))
	})
	aside, err := open(t.Context(), address, discard(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer aside.Close()
	a, n := access{aside: aside.bus, busTime: busTime}, newNewcomers()
	for _, step := range []struct {
		client    string
		want      uint32
		questions int32 // that the bus was asked up to now
	}{
		{":1.7", unknownUser, 1}, {":1.7", 0, 2}, {":1.7", 0, 2}, {":1.99", unknownUser, 3}, {":1.99", unknownUser, 3},
	} {
		got, known, _ := n.look(&frame{sender: step.client})
		if !known {
			var remember bool
			got, remember = a.user(step.client)
			n.release(step.client, got, remember)
		}
		if got != step.want || questions.Load() != step.questions {
			t.Errorf("%s is of user %d after %d questions; want user %d after %d", step.client, got, questions.Load(), step.want, step.questions)
		}
	}
}

// A bus that hangs, whether it takes the connection or even lets the daemon in, does not keep a start waiting: the rules that
// close the machine come after that question. That there is no answer does not mean that another firewall has the name.
func TestBusThatHangsDoesNotHoldUpTheStart(t *testing.T) {
	silent := func(*dbus.Message) *dbus.Message { return nil }
	for name, address := range map[string]string{
		"it says nothing":              listenAs(t, func(net.Conn) {}),
		"it does not say who has what": playBus(t, silent),
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan error, 1)
			go func() { asked <- Free(address) }()
			select {
			case err := <-asked:
				if err == nil || errors.Is(err, ErrTaken) {
					t.Errorf("the answer is %v", err)
				}
			case <-time.After(10 * freeTime):
				t.Error("the daemon waits for the bus")
			}
		})
	}
}

// A bus that lets the daemon in and then hangs does not keep it waiting for its name for ever.
func TestBusThatGivesNoName(t *testing.T) {
	address := playBus(t, func(*dbus.Message) *dbus.Message { return nil })
	connected := make(chan error, 1)
	go func() {
		_, err := Connect(address, discard())
		connected <- err
	}()
	select {
	case err := <-connected:
		if err == nil || errors.Is(err, ErrTaken) {
			t.Errorf("the answer is %v", err)
		}
	case <-time.After(3 * authTime):
		t.Error("the daemon waits for its name")
	}
}
