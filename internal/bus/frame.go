package bus

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/godbus/dbus/v5"
)

// Strangers write the messages that arrive here, and the bus passes on whatever is well formed. So the heads of messages are
// read by this file alone, which allocates no more than maxHead bytes for one. A body is read once it is known who sent it, or
// as far as there is room for those whose senders are not known yet (newcomers). The format is that of the D-Bus specification, "Message
// Protocol".

const (
	fixedHead = 16      // bytes of a head before its fields
	maxHead   = 1 << 14 // bytes of the longest head that is read; the longest one that a client needs has some 1,000
	maxFrame  = 1 << 27 // bytes of the longest message that the specification allows
)

// frame is a message as it came.
type frame struct {
	kind                dbus.Type // 0 for a message whose head cannot be used
	flags               dbus.Flags
	serial, replySerial uint32
	path, iface, member string
	destination, sender string
	signature           string
	order               binary.ByteOrder
	head                []byte // with the padding at its end
	size                int    // bytes of the body
	body                []byte // once it was read
}

// errStream is that the bytes are no sequence of messages: nothing that follows can be read.
var errStream = errors.New("what the message bus sends is no D-Bus")

// readHead reads the head of the next message, and nothing of its body. The error is errStream or that of the reader. A head
// that is malformed or too long is no error: it is read past, and the frame has kind 0.
func readHead(in io.Reader) (*frame, error) {
	fixed := make([]byte, fixedHead)
	if _, err := io.ReadFull(in, fixed); err != nil {
		return nil, err
	}
	f := &frame{flags: dbus.Flags(fixed[2])}
	switch fixed[0] {
	case 'l':
		f.order = binary.LittleEndian
	case 'B':
		f.order = binary.BigEndian
	default:
		return nil, errStream
	}
	body, fields := uint64(f.order.Uint32(fixed[4:])), uint64(f.order.Uint32(fixed[12:]))
	rest := (fields + 7) &^ 7
	if fixed[3] != 1 || fixedHead+rest+body > maxFrame {
		return nil, errStream
	}
	f.size, f.serial = int(body), f.order.Uint32(fixed[8:])
	if fixedHead+rest > maxHead {
		_, err := io.CopyN(io.Discard, in, int64(rest))
		return f, err
	}
	f.head = append(make([]byte, 0, fixedHead+rest), fixed...)[:fixedHead+rest]
	if _, err := io.ReadFull(in, f.head[fixedHead:]); err != nil {
		return nil, err
	}
	if f.readFields(fixedHead + int(fields)) {
		f.kind = dbus.Type(fixed[1])
	}
	return f, nil
}

// readFields reads the fields of a head up to its end, and reports whether they are well formed. Fields that are not known
// are ignored, as the specification demands.
func (f *frame) readFields(end int) bool {
	c := cursor{data: f.head[:end], pos: fixedHead, order: f.order}
	for c.pos < end && !c.bad {
		c.align(8)
		code := dbus.HeaderField(c.byte())
		sig := c.signature()
		switch text := f.text(code); {
		case c.bad || typeAt(sig, 0) != len(sig) || sig == "":
			return false
		case text != nil:
			if sig != "s" && sig != "o" {
				return false
			}
			*text = c.text()
		case code == dbus.FieldReplySerial && sig == "u":
			f.replySerial = c.uint32()
		case code == dbus.FieldSignature && sig == "g":
			f.signature = c.signature()
		default:
			c.skip(sig, 0)
		}
	}
	return !c.bad
}

// text is where a field of the head that is a text is kept; nil for other fields.
func (f *frame) text(field dbus.HeaderField) *string {
	switch field {
	case dbus.FieldPath:
		return &f.path
	case dbus.FieldInterface:
		return &f.iface
	case dbus.FieldMember:
		return &f.member
	case dbus.FieldDestination:
		return &f.destination
	case dbus.FieldSender:
		return &f.sender
	}
	return nil
}

// readBody reads the body.
func (f *frame) readBody(in io.Reader) error {
	f.body = make([]byte, f.size)
	_, err := io.ReadFull(in, f.body)
	return err
}

// discardBody reads past the body.
func (f *frame) discardBody(in io.Reader) error {
	_, err := io.CopyN(io.Discard, in, int64(f.size))
	return err
}

// answered reports whether the sender waits for an answer.
func (f *frame) answered() bool { return f.flags&dbus.FlagNoReplyExpected == 0 }

// raw is a value of a message as it came.
type raw struct {
	sig string // one complete type
	at  cursor // where it begins
}

// args are the values of the body. The error has code INVALID_TYPE.
func (f *frame) args() ([]raw, error) {
	types, ok := splitValid(f.signature)
	if !ok {
		return nil, malformed()
	}
	c := cursor{data: f.body, order: f.order}
	args := make([]raw, len(types))
	for i, sig := range types {
		args[i] = raw{sig, c}
		c.skip(sig, 0)
	}
	if c.bad || c.pos != len(f.body) {
		return nil, malformed()
	}
	return args, nil
}
