package firewallcmd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// fakeBus is a system bus with a firewall on it: it answers methods from a table and notes how it was called.
type fakeBus struct {
	answers map[string]any // by "interface.method", without the name of firewalld: the answer, a []any of several, or an error
	mu      sync.Mutex
	calls   []string // "interface.method(arguments)"
}

// startBus starts a bus that the programs of this test find.
func startBus(t *testing.T, answers map[string]any) *fakeBus {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	b := &fakeBus{answers: map[string]any{
		"org.freedesktop.DBus.Hello": ":1.1", "org.freedesktop.DBus.NameHasOwner": true, ".getDefaultZone": "public",
		"org.freedesktop.DBus.ObjectManager.GetManagedObjects": map[dbus.ObjectPath]map[string]map[string]dbus.Variant{},
	}}
	for method, answer := range answers {
		b.answers[method] = answer
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go b.serve(conn)
		}
	}()
	return b
}

// serve speaks to one client (D-Bus specification, "Authentication protocol", then "Message protocol").
func (b *fakeBus) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "BEGIN") {
			break
		}
		switch line = strings.TrimLeft(line, "\x00"); {
		case strings.HasPrefix(line, "AUTH EXTERNAL"):
			fmt.Fprint(conn, "OK 0123456789abcdef0123456789abcdef\r\n")
		case strings.HasPrefix(line, "AUTH"):
			fmt.Fprint(conn, "REJECTED EXTERNAL\r\n")
		default:
			fmt.Fprint(conn, "ERROR\r\n")
		}
	}
	for {
		message, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := b.answer(message).EncodeTo(&out, binary.LittleEndian); err != nil {
			return
		}
		if _, err := conn.Write(out.Bytes()); err != nil {
			return
		}
	}
}

// answer makes the reply to a call.
func (b *fakeBus) answer(call *dbus.Message) *dbus.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	iface := strings.TrimPrefix(call.Headers[dbus.FieldInterface].Value().(string), busName)
	method := iface + "." + call.Headers[dbus.FieldMember].Value().(string)
	if !strings.HasPrefix(method, "org.freedesktop.DBus.Hello") && !strings.HasPrefix(method, "org.freedesktop.DBus.NameHasOwner") {
		b.calls = append(b.calls, fmt.Sprintf("%s%v", strings.TrimPrefix(method, "."), call.Body))
	}
	reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()), dbus.FieldSender: dbus.MakeVariant(":1.0"),
	}}
	found := b.answers[method]
	if answer, ok := found.(func(arguments []any) any); ok {
		found = answer(call.Body)
	}
	switch answer := found.(type) {
	case nil:
	case dbus.Error:
		reply.Type = dbus.TypeError
		reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(answer.Name)
		reply.Body = answer.Body
	case error:
		reply.Type = dbus.TypeError
		reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(busName + ".Exception")
		reply.Body = []any{answer.Error()}
	case []any:
		reply.Body = answer
	default:
		reply.Body = []any{answer}
	}
	if len(reply.Body) > 0 {
		reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(reply.Body...))
	}
	return reply
}

func (b *fakeBus) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.calls), func(call string) bool { return call == "richwall.getRemarks[]" })
}
