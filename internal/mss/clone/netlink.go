package clone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"richwall/internal/mss/nlattr"

	"golang.org/x/sys/unix"
)

// What is cloned is cloned as the kernel itself tells it: the messages in which it lists its objects are, with few changes, those in which it takes
// them (rtnetlink(7), nfnetlink). No text of a program is between, which might leave something out.

// message is one of netlink, without its header.
type message struct {
	kind, flags uint16
	body        []byte
}

// conn is a netlink socket.
type conn struct {
	fd  int
	seq uint32
}

// dial opens a socket in the network namespace of the calling thread.
func dial(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	c := &conn{fd: fd}
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} { // what is wrong in words, and not the whole request
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1) // kernels before 4.12 have neither
	}
	for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 64<<20) != nil { // in a user namespace
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF}[option], 64<<20)
		}
	}
	return c, nil
}

func (c *conn) close() { unix.Close(c.fd) }

const headerLength = unix.SizeofNlMsghdr

// append adds a message to a datagram.
func (c *conn) append(data []byte, m message) []byte {
	c.seq++
	data = binary.NativeEndian.AppendUint32(data, uint32(headerLength+len(m.body)))
	data = binary.NativeEndian.AppendUint16(data, m.kind)
	data = binary.NativeEndian.AppendUint16(data, m.flags|unix.NLM_F_REQUEST)
	data = binary.NativeEndian.AppendUint32(data, c.seq)
	data = binary.NativeEndian.AppendUint32(data, 0)
	return pad(append(data, m.body...))
}

// errInterrupted says that what was listed has changed meanwhile.
var errInterrupted = errors.New("it changed while it was read")

// tries is how often a list is asked for that changes meanwhile.
const tries = 10

// dump is all that the kernel lists of a kind.
func (c *conn) dump(kind uint16, body []byte) (list []message, err error) {
	for range tries {
		list = nil
		err = c.each(kind, body, func(m message) error {
			m.body = append([]byte(nil), m.body...)
			list = append(list, m)
			return nil
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	return list, err
}

// each calls f with each message of a list. What f is given is gone when it returns.
func (c *conn) each(kind uint16, body []byte, f func(message) error) error {
	if err := unix.Sendto(c.fd, c.append(nil, message{kind, unix.NLM_F_DUMP, body}), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buffer := make([]byte, 1<<18)
	var failed error
	for {
		n, _, err := unix.Recvfrom(c.fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		done := false
		split(buffer[:n], func(seq uint32, m message) {
			switch {
			case seq != c.seq || done:
				return
			case m.flags&unix.NLM_F_DUMP_INTR != 0 && failed == nil:
				failed = errInterrupted
			}
			switch m.kind {
			case unix.NLMSG_DONE:
				done = true
			case unix.NLMSG_ERROR:
				done = true
				if err := said(m); err != nil {
					failed = err
				}
			default:
				if failed == nil {
					failed = f(m)
				}
			}
		})
		if done {
			return failed
		}
	}
}

// split calls f with each message of a datagram.
func split(data []byte, f func(seq uint32, m message)) {
	for len(data) >= headerLength {
		n := int(binary.NativeEndian.Uint32(data))
		if n < headerLength || n > len(data) {
			return
		}
		f(binary.NativeEndian.Uint32(data[8:]), message{binary.NativeEndian.Uint16(data[4:]), binary.NativeEndian.Uint16(data[6:]), data[headerLength:n]})
		data = data[min((n+3)&^3, len(data)):]
	}
}

// refusal is an error of the kernel, with what it says of it.
type refusal struct {
	unix.Errno
	words string
	at    int // where in the message the attribute begins that it is about, with the header; 0 if it does not say
}

func (r refusal) Error() string {
	if r.words != "" {
		return fmt.Sprintf("%v: %s", r.Errno, strings.TrimSuffix(r.words, "."))
	}
	return r.Errno.Error()
}

func (r refusal) Unwrap() error { return r.Errno }

// said is the error of a message of the kind NLMSG_ERROR; nil for an acknowledgement.
func said(m message) error {
	if len(m.body) < 4 {
		return os.ErrInvalid
	}
	status := int32(binary.NativeEndian.Uint32(m.body))
	if status == 0 {
		return nil
	}
	r := refusal{Errno: unix.Errno(-status)}
	if rest := 4 + headerLength; len(m.body) > rest && m.flags&unix.NLM_F_ACK_TLVS != 0 {
		nlattr.Each(m.body[rest:], func(kind uint16, value []byte) {
			switch kind {
			case unix.NLMSGERR_ATTR_MSG:
				r.words = text(value)
			case unix.NLMSGERR_ATTR_OFFS:
				r.at = int(number(value))
			}
		})
	}
	return r
}

// send sends messages in one datagram, and returns those that the kernel refuses by their places. It has answered when sending returns (netlink_unicast_kernel).
func (c *conn) send(list []message) (map[int]error, error) {
	first := c.seq + 1
	var data []byte
	for _, m := range list {
		data = c.append(data, m)
	}
	if err := unix.Sendto(c.fd, data, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	refused := map[int]error{}
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(c.fd, buffer, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return refused, nil
		case err != nil:
			return refused, err
		}
		split(buffer[:n], func(seq uint32, m message) {
			if m.kind == unix.NLMSG_ERROR && seq >= first {
				if err := said(m); err != nil {
					refused[int(seq-first)] = err
				}
			}
		})
	}
}

// one sends a message, and returns the kernel's error.
func (c *conn) one(m message) error {
	refused, err := c.send([]message{m})
	if err != nil {
		return err
	}
	return refused[0]
}

// ask sends a request that is answered by one message.
func (c *conn) ask(kind uint16, body []byte) (answer message, err error) {
	if err := unix.Sendto(c.fd, c.append(nil, message{kind, 0, body}), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return answer, err
	}
	buffer := make([]byte, 1<<16)
	n, _, err := unix.Recvfrom(c.fd, buffer, unix.MSG_DONTWAIT)
	if err != nil {
		return answer, err
	}
	split(buffer[:n], func(seq uint32, m message) {
		if seq == c.seq && answer.body == nil {
			answer = m
		}
	})
	if answer.kind == unix.NLMSG_ERROR {
		return answer, said(answer)
	}
	return answer, nil
}

// put adds an attribute.
func put(data []byte, kind uint16, value []byte) []byte {
	data = binary.NativeEndian.AppendUint16(data, uint16(unix.SizeofRtAttr+len(value)))
	data = binary.NativeEndian.AppendUint16(data, kind)
	return pad(append(data, value...))
}

// nest adds an attribute that is made of others.
func nest(data []byte, kind uint16, value []byte) []byte {
	return put(data, kind|unix.NLA_F_NESTED, value)
}

func putText(data []byte, kind uint16, text string) []byte {
	return put(data, kind, append([]byte(text), 0))
}

func putNumber(data []byte, kind uint16, n uint32) []byte {
	return put(data, kind, binary.NativeEndian.AppendUint32(nil, n))
}

func pad(data []byte) []byte {
	for len(data)%4 != 0 {
		data = append(data, 0)
	}
	return data
}

func text(value []byte) string { return strings.TrimRight(string(value), "\x00") }

// number is one of 8, 16 or 32 bits in the machine's order of bytes.
func number(value []byte) uint32 {
	switch {
	case len(value) >= 4:
		return binary.NativeEndian.Uint32(value)
	case len(value) >= 2:
		return uint32(binary.NativeEndian.Uint16(value))
	case len(value) == 1:
		return uint32(value[0])
	}
	return 0
}
