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

// stranger is a connection to the bus as another user that sends bytes as they are.
type stranger struct {
	*testing.T
	*net.UnixConn
	in   *bufio.Reader
	name string // its unique name
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

// newStranger connects as nobody. With descriptors it negotiates that it may send some.
func newStranger(t *testing.T, address string, descriptors bool) *stranger {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	s := &stranger{T: t}
	asUser(t, nobody, func() (err error) {
		s.UnixConn, err = net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: strings.TrimPrefix(address, "unix:path=")})
		return err
	})
	t.Cleanup(func() { s.Close() })
	s.in = bufio.NewReaderSize(s, 1<<16)
	s.say("\x00AUTH EXTERNAL "+hex.EncodeToString([]byte(strconv.Itoa(nobody))), "OK")
	if descriptors {
		s.say("NEGOTIATE_UNIX_FD", "AGREE_UNIX_FD")
	}
	s.say("BEGIN", "")
	s.send(frameOf(message("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Hello"), 1))
	reply := s.receive()
	s.name, _ = reply.Body[0].(string)
	return s
}

// say sends a line of the authentication, and fails unless the answer starts with a word.
func (s *stranger) say(line, want string) {
	s.Helper()
	if _, err := s.Write([]byte(line + "\r\n")); err != nil {
		s.Fatal(err)
	}
	if want == "" {
		return
	}
	if answer, err := s.in.ReadString('\n'); err != nil || !strings.HasPrefix(answer, want) {
		s.Fatalf("the bus answers %q, %v to %s", answer, err, line)
	}
}

// send sends bytes, with descriptors beside them.
func (s *stranger) send(data []byte, descriptors ...int) {
	s.Helper()
	if err := s.try(data, descriptors...); err != nil {
		s.Fatal(err)
	}
}

// try is send for what the bus may not take.
func (s *stranger) try(data []byte, descriptors ...int) error {
	if len(descriptors) == 0 {
		_, err := s.Write(data)
		return err
	}
	_, _, err := s.WriteMsgUnix(data, syscall.UnixRights(descriptors...), nil)
	return err
}

// receive is the next message that is no signal.
func (s *stranger) receive() *dbus.Message {
	s.Helper()
	for {
		s.SetReadDeadline(time.Now().Add(20 * time.Second))
		msg, err := dbus.DecodeMessage(s.in)
		if err != nil {
			s.Fatal(err)
		}
		if msg.Type != dbus.TypeSignal {
			return msg
		}
	}
}

// drain reads and forgets all that comes, until the connection is closed.
func (s *stranger) drain() { go io.Copy(io.Discard, s.in) }

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
