package bus

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// hostile makes messages that a bus passes on, or nearly: well formed, about objects and members that exist or might, with
// whatever a client may choose.
type hostile struct {
	*rand.Rand
	names   []string // of whom the messages are for
	methods []aMember
}

// aMember is a method with an object that has it.
type aMember struct{ path, iface, member, sig string }

func newHostile(seed uint64, names ...string) *hostile {
	h := &hostile{Rand: rand.New(rand.NewPCG(seed, 7)), names: names}
	for _, i := range allInterfaces() {
		path := root
		if rest, ok := strings.CutPrefix(i.name, "config."); ok && rest != "direct" && rest != "policies" {
			path = root + "/config/" + rest + "/1"
		} else if strings.HasPrefix(i.name, "config") {
			path = root + "/config"
		}
		for _, m := range i.methods {
			h.methods = append(h.methods, aMember{path, i.fullName(), m.name, signature(m.in)})
		}
		for member, sig := range map[string]string{"Get": "ss", "GetAll": "s", "Set": "ssv"} {
			h.methods = append(h.methods, aMember{path, propertiesName, member, sig})
		}
		h.methods = append(h.methods, aMember{path, introspectableName, "Introspect", ""}, aMember{path, peerName, "Ping", ""})
	}
	return h
}

func one[T any](h *hostile, list ...T) T { return list[h.IntN(len(list))] }

// message is a message and the number of descriptors that belong to it.
func (h *hostile) message(descriptors bool) (data []byte, files int) {
	m := h.methods[h.IntN(len(h.methods))]
	if h.IntN(4) == 0 {
		m.path = one(h, "/", root+"/config/zone/99999999999999999999", root+"/config/zone/x_", root+"/config/zone/1/2", "/"+strings.Repeat("a", h.IntN(9000)+1), root)
	}
	if h.IntN(6) == 0 {
		m.member = one(h, "nosuch", "reload", "Get", "Introspect", "_"+strings.Repeat("x", h.IntN(200)))
	}
	if h.IntN(6) == 0 {
		m.iface = one(h, "", base, base+".nosuch", "org.freedesktop.DBus", peerName, propertiesName)
	}
	if h.IntN(2) == 0 {
		m.sig = h.signature()
	}
	b := &builder{hostile: h, order: one[byteOrder](h, binary.LittleEndian, binary.BigEndian)}
	for _, sig := range split(m.sig) {
		b.value(sig, 0)
	}
	if descriptors && h.IntN(3) == 0 {
		files = 1 + h.IntN(16)
	}
	data = h.head(b, m, files)
	if h.IntN(300) == 0 { // the bus throws out who sends this
		for range 1 + h.IntN(4) {
			data[h.IntN(len(data))] = byte(h.Uint32())
		}
	}
	return data, files
}

// head is a whole message with a body, of a random sort.
func (h *hostile) head(body *builder, m aMember, files int) []byte {
	kind := one(h, dbus.TypeMethodCall, dbus.TypeMethodCall, dbus.TypeMethodCall, dbus.TypeMethodCall, dbus.TypeMethodCall,
		dbus.TypeMethodCall, dbus.TypeMethodReply, dbus.TypeError, dbus.TypeSignal, dbus.Type(5+h.IntN(250)))
	if kind == dbus.TypeSignal {
		m.iface = or(m.iface, busDriver)
	}
	b := h.start(body, kind, one(h, 0, byte(dbus.FlagNoReplyExpected), byte(h.Uint32())), one(h, 1, 7, 7, 1+h.Uint32N(1<<32-1)))
	b.fields(m, files)
	if kind == dbus.TypeMethodReply || kind == dbus.TypeError || h.IntN(20) == 0 {
		b.numberField(dbus.FieldReplySerial, 1+h.Uint32N(200))
	}
	if kind == dbus.TypeError || h.IntN(20) == 0 {
		b.field(dbus.FieldErrorName, "s", "org.freedesktop.DBus.Error.Failed")
	}
	if h.IntN(20) == 0 {
		b.field(dbus.FieldSender, "s", one(h, busDriver, ":1.0", base))
	}
	if h.IntN(20) == 0 {
		b.field(dbus.HeaderField(10+h.IntN(240)), "s", "unknown")
	}
	return b.end(body)
}

// callWith is a call with a body, and with serial 7.
func (h *hostile) callWith(body *builder, m aMember, files int) []byte {
	b := h.start(body, dbus.TypeMethodCall, 0, 7)
	b.fields(m, files)
	return b.end(body)
}

// start is the fixed part of the head of a message.
func (h *hostile) start(body *builder, kind dbus.Type, flags byte, serial uint32) *builder {
	b := &builder{hostile: h, order: body.order}
	order := byte('B')
	if b.order == binary.LittleEndian {
		order = 'l'
	}
	b.data = append(b.data, order, byte(kind), flags, 1)
	b.number(4, uint64(len(body.data)))
	b.number(4, uint64(serial))
	b.number(4, 0) // the length of the fields
	return b
}

// fields appends the fields that a call has.
func (b *builder) fields(m aMember, files int) {
	b.field(dbus.FieldPath, "o", m.path)
	b.field(dbus.FieldMember, "s", m.member)
	if m.iface != "" {
		b.field(dbus.FieldInterface, "s", m.iface)
	}
	b.field(dbus.FieldDestination, "s", one(b.hostile, b.names...))
	if files > 0 {
		b.numberField(dbus.FieldUnixFDs, uint32(files))
	}
}

func (b *builder) field(code dbus.HeaderField, sig, text string) {
	b.align(8)
	b.data = append(b.data, byte(code))
	b.signature(sig)
	if sig == "g" {
		b.signature(text)
	} else {
		b.text(text)
	}
}

func (b *builder) numberField(code dbus.HeaderField, n uint32) {
	b.align(8)
	b.data = append(b.data, byte(code))
	b.signature("u")
	b.number(4, uint64(n))
}

// end is the whole message: the fields end with the signature of the body, which follows them.
func (b *builder) end(body *builder) []byte {
	b.field(dbus.FieldSignature, "g", body.sig)
	b.order.PutUint32(b.data[fixedHead-4:], uint32(len(b.data)-fixedHead))
	b.align(8)
	return append(b.data, body.data...)
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// signature is a random valid one.
func (h *hostile) signature() string {
	sig := ""
	for range h.IntN(4) {
		sig += h.aType(h.IntN(8))
	}
	return sig
}

// aType is a random complete type, nested up to some depth.
func (h *hostile) aType(depth int) string {
	basic := one(h, strings.Split("y b n q i u x t d s o g", " ")...)
	switch n := h.IntN(6); {
	case depth == 0 || n == 0:
		return one(h, basic, "v", "s")
	case n < 3:
		return "a" + h.aType(depth-1)
	case n == 3:
		return "a{" + basic + h.aType(depth-1) + "}"
	case n == 4:
		return "(" + h.aType(depth-1) + h.aType(depth/2) + ")"
	}
	return "v"
}

// byteOrder is one of those of package binary.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// builder marshals random values.
type builder struct {
	*hostile
	order byteOrder
	data  []byte
	sig   string // of the values so far
}

func (b *builder) align(n int) {
	for len(b.data)%n != 0 {
		b.data = append(b.data, 0)
	}
}

func (b *builder) number(size int, n uint64) {
	b.align(size)
	switch size {
	case 1:
		b.data = append(b.data, byte(n))
	case 2:
		b.data = b.order.AppendUint16(b.data, uint16(n))
	case 4:
		b.data = b.order.AppendUint32(b.data, uint32(n))
	case 8:
		b.data = b.order.AppendUint64(b.data, n)
	}
}

func (b *builder) text(s string) {
	b.number(4, uint64(len(s)))
	b.data = append(append(b.data, s...), 0)
}

func (b *builder) signature(s string) {
	b.data = append(append(append(b.data, byte(len(s))), s...), 0)
}

// value appends a random value of a type.
func (b *builder) value(sig string, depth int) {
	if depth == 0 {
		b.sig += sig
	}
	switch sig[0] {
	case 'b':
		b.number(4, uint64(b.IntN(2)))
	case 's':
		b.text(b.words())
	case 'o':
		b.text(one(b.hostile, "/", root, "/a/b"))
	case 'g':
		b.signature(b.hostile.signature())
	case 'v':
		inner := b.aType(2)
		switch {
		case depth > 50:
			inner = "y"
		case b.IntN(3) == 0:
			inner = "v"
		}
		b.signature(inner)
		b.value(inner, depth+1)
	case 'a':
		b.array(sig[1:], depth)
	case '(', '{':
		b.align(8)
		for _, part := range split(sig[1 : len(sig)-1]) {
			b.value(part, depth+1)
		}
	default:
		b.number(alignments[sig[0]], one(b.hostile, 0, 1, 1<<63, 1<<31, b.Uint64()))
	}
}

func (b *builder) array(element string, depth int) {
	b.number(4, 0)
	length := len(b.data) - 4
	b.align(alignments[element[0]])
	start := len(b.data)
	n := b.IntN(4)
	if depth == 0 && b.IntN(300) == 0 {
		n = b.IntN(20000)
	}
	for range n {
		b.value(element, depth+2)
		if len(b.data) > 1<<20 {
			break
		}
	}
	b.order.PutUint32(b.data[length:], uint32(len(b.data)-start))
}

// words is a text.
func (b *builder) words() string {
	switch b.IntN(30) {
	case 0:
		return strings.Repeat(one(b.hostile, "x", "rule ", "\n", "ü", "\u202e", "\x1b[2J", "%s", "../"), b.IntN(one(b.hostile, 10, 10, 100, 100, 1000, 50000)))
	case 1, 2, 3:
		return one(b.hostile, base, base+".zone", base+".config", "state", "DefaultZone", "LogDenied")
	case 4, 5:
		return one(b.hostile, "'; drop", "$(id)", "\u0085", "\ufffd", "-1", "4294967296", "0x10", "::", "0.0.0.0/0")
	}
	name := one(b.hostile, "zone", "interface", "source", "service", "port", "protocol", "rule", "icmp", "ipset", "entry", "chain")
	return samples[name].(string)
}

// floodOrder is what a flood is told, by way of the environment.
type floodOrder struct {
	Address, Target string // the bus, and whom the messages are for
	Seed            uint64
	Count           int           // messages
	Time            time.Duration // the longest that it takes; 0 for any time
}

// flood carries out an order as nobody, and returns the exit status. On its standard output it says what it did.
func flood(text string) int {
	var o floodOrder
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return complain(err)
	}
	if err := syscall.Setresuid(nobody, nobody, nobody); err != nil {
		return complain(err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		return complain(err)
	}
	random := rand.New(rand.NewPCG(o.Seed, 1))
	start, sent, connections := time.Now(), 0, 0
	for sent < o.Count && (o.Time == 0 || time.Since(start) < o.Time) {
		w, err := dialWild(o.Address, nobody, random.IntN(3) == 0)
		if err != nil {
			return complain(err)
		}
		connections++
		unique, err := w.askBus("GetNameOwner", o.Target)
		if err != nil {
			return complain(fmt.Errorf("%s has gone: %w", o.Target, err))
		}
		sent += w.floodWith(newHostile(random.Uint64(), o.Target, unique), min(o.Count-sent, 1000+random.IntN(5000)), int(file.Fd()))
		w.Close()
	}
	fmt.Printf("%d messages on %d connections in %v", sent, connections, time.Since(start).Round(time.Millisecond))
	return 0
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// floodWith sends messages until so many are sent or the bus has closed the connection, and returns how many it sent. Every other
// time it reads no answers.
func (w *wild) floodWith(h *hostile, count, file int) (sent int) {
	if h.IntN(2) == 0 {
		w.drain()
	}
	var batch []byte
	for sent < count {
		data, files := h.message(w.descriptors)
		var err error
		if files > 0 {
			descriptors := make([]int, files)
			for i := range descriptors {
				descriptors[i] = file
			}
			if err = w.send(batch); err == nil {
				err = w.send(data, descriptors...)
			}
			batch = batch[:0]
		} else if batch = append(batch, data...); len(batch) > 1<<15 {
			err = w.send(batch)
			batch = batch[:0]
		}
		if err != nil {
			return sent
		}
		sent++
	}
	w.send(batch)
	return sent
}
