package bus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// nobody is the user id of strangers.
const nobody = 65534

// wild is a connection to a bus on which bytes are sent as they are.
type wild struct {
	*net.UnixConn
	in   *bufio.Reader
	name string // its unique name
	// descriptors is whether it may send some.
	descriptors bool
}

// dialWild connects as a user: the one that the thread belongs to. With descriptors it negotiates that it may send some.
func dialWild(address string, uid int, descriptors bool) (*wild, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: strings.TrimPrefix(address, "unix:path=")})
	if err != nil {
		return nil, err
	}
	w := &wild{UnixConn: conn, in: bufio.NewReaderSize(conn, 1<<16), descriptors: descriptors}
	err = w.say("\x00AUTH EXTERNAL "+hex.EncodeToString([]byte(strconv.Itoa(uid))), "OK")
	if err == nil && descriptors {
		err = w.say("NEGOTIATE_UNIX_FD", "AGREE_UNIX_FD")
	}
	if err == nil {
		err = w.say("BEGIN", "")
	}
	if err == nil {
		w.name, err = w.askBus("Hello")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return w, nil
}

// say sends a line of the authentication, and fails unless the answer starts with a word.
func (w *wild) say(line, want string) error {
	if _, err := w.Write([]byte(line + "\r\n")); err != nil || want == "" {
		return err
	}
	answer, err := w.in.ReadString('\n')
	if err == nil && !strings.HasPrefix(answer, want) {
		err = fmt.Errorf("the bus answers %q to %s", answer, line)
	}
	return err
}

// askBus calls a method of the bus that answers with a text.
func (w *wild) askBus(name string, args ...any) (string, error) {
	if err := w.send(frameOf(message(busDriver, "/org/freedesktop/DBus", busDriver+"."+name, args...), 1)); err != nil {
		return "", err
	}
	reply, err := w.receive()
	if err != nil || len(reply.Body) == 0 {
		return "", fmt.Errorf("the bus answers %v, %v", reply, err)
	}
	text, _ := reply.Body[0].(string)
	return text, nil
}

// send sends bytes, with descriptors beside them.
func (w *wild) send(data []byte, descriptors ...int) error {
	if len(descriptors) == 0 {
		_, err := w.Write(data)
		return err
	}
	n, _, err := w.WriteMsgUnix(data, syscall.UnixRights(descriptors...), nil)
	if err == nil {
		_, err = w.Write(data[n:])
	}
	return err
}

// receive is the next message that is no signal.
func (w *wild) receive() (*dbus.Message, error) {
	for {
		w.SetReadDeadline(time.Now().Add(20 * time.Second))
		msg, err := dbus.DecodeMessage(w.in)
		if err != nil || msg.Type != dbus.TypeSignal {
			return msg, err
		}
	}
}

// asUser runs a function in a thread of another user, which ends with it. The kernel remembers who has opened a socket.
func asUser(t *testing.T, uid int, do func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine: the thread stays another user's
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- errno
			return
		}
		done <- do()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// stranger is such a connection of nobody's.
type stranger struct {
	*testing.T
	wild *wild
}

// newStranger connects as nobody.
func newStranger(t *testing.T, address string, descriptors bool) *stranger {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	s := &stranger{T: t}
	asUser(t, nobody, func() (err error) {
		s.wild, err = dialWild(address, nobody, descriptors)
		return err
	})
	t.Cleanup(func() { s.wild.Close() })
	return s
}

func (s *stranger) send(data []byte, descriptors ...int) {
	s.Helper()
	if err := s.wild.send(data, descriptors...); err != nil {
		s.Fatal(err)
	}
}

func (s *stranger) receive() *dbus.Message {
	s.Helper()
	msg, err := s.wild.receive()
	if err != nil {
		s.Fatal(err)
	}
	return msg
}

// drain reads and forgets all that comes, until the connection is closed.
func (w *wild) drain() {
	w.SetReadDeadline(time.Time{})
	go io.Copy(io.Discard, w.in)
}

// message is a call of a method, whose name has the interface before it.
func message(destination, path, name string, args ...any) *dbus.Message {
	dot := strings.LastIndex(name, ".")
	msg := &dbus.Message{Type: dbus.TypeMethodCall, Body: args, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(destination), dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(path)),
		dbus.FieldInterface: dbus.MakeVariant(name[:dot]), dbus.FieldMember: dbus.MakeVariant(name[dot+1:]),
	}}
	if len(args) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(args...))
	}
	return msg
}

// frameOf is a message as bytes, with a serial of one's own choice.
func frameOf(msg *dbus.Message, serial uint32) []byte {
	var b bytes.Buffer
	patched := *msg
	if err := patched.EncodeTo(&b, binary.LittleEndian); err != nil {
		panic(fmt.Sprintf("%v: %v", msg, err))
	}
	binary.LittleEndian.PutUint32(b.Bytes()[8:], serial)
	return b.Bytes()
}
