package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Every well-formed message is read: its head, and where each of its arguments begins.
func TestRandomMessagesAreRead(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	h := newHostile(seed, base)
	for range 20000 {
		build := &builder{hostile: h, order: one[byteOrder](h, binary.LittleEndian, binary.BigEndian)}
		for _, sig := range split(h.signature()) {
			build.value(sig, 0)
		}
		m := h.methods[h.IntN(len(h.methods))]
		data := h.callWith(build, m, 0)
		in := bytes.NewReader(data)
		f, err := readHead(in)
		if err == nil {
			err = f.readBody(in)
		}
		if err != nil || f.kind != dbus.TypeMethodCall || f.path != m.path || f.iface != m.iface || f.member != m.member ||
			f.destination != base || f.signature != build.sig || f.serial != 7 || in.Len() != 0 {
			t.Fatalf("%q is read as %+v, %v", data, f, err)
		}
		args, err := f.args()
		if err != nil {
			t.Fatalf("%q has no arguments: %v", data, err)
		}
		for _, arg := range args {
			if _, err := decode("v", arg); err != nil {
				t.Fatalf("an argument of %q cannot be read: %v", data, err)
			}
		}
	}
}

// What is no message, or one that is too long, ends a connection; a head that cannot be used is read past.
func TestUnusableHeads(t *testing.T) {
	good := frameOf(message(base, root, base+".reload"), 7)
	changed := func(at int, with ...byte) []byte {
		return slices.Replace(slices.Clone(good), at, at+len(with), with...)
	}
	long := frameOf(message(base, "/"+string(bytes.Repeat([]byte("a"), maxHead)), base+".reload"), 7)
	for name, c := range map[string]struct {
		data []byte
		err  error // nil: it is read past
	}{
		"no byte order":               {changed(0, 'x'), errStream},
		"another version":             {changed(3, 2), errStream},
		"a body of 4 GB":              {changed(4, 0xff, 0xff, 0xff, 0xff), errStream},
		"fields of 4 GB":              {changed(12, 0xff, 0xff, 0xff, 0xff), errStream},
		"the end":                     {nil, io.EOF},
		"the end in the head":         {good[:50], io.ErrUnexpectedEOF},
		"a path of a wrong type":      {bytes.Replace(good, []byte("\x01o\x00"), []byte("\x01g\x00"), 1), nil},
		"a field of no type":          {bytes.Replace(good, []byte("\x01o\x00"), []byte("\x01!\x00"), 1), nil},
		"a text longer than the head": {bytes.Replace(good, []byte("o\x00\x1d"), []byte("o\x00\xff"), 1), nil},
		"a head of 16 KB":             {long, nil},
	} {
		in := bytes.NewReader(c.data)
		f, err := readHead(in)
		switch {
		case !errors.Is(err, c.err) || err == nil && c.err != nil:
			t.Errorf("%s: %v", name, err)
		case err == nil && (f.kind != 0 || f.discardBody(in) != nil || in.Len() != 0):
			t.Errorf("%s is read as %+v, and %d bytes are left", name, f, in.Len())
		}
	}
}

func TestSignaturesOfStrangers(t *testing.T) {
	deep := string(bytes.Repeat([]byte("a"), maxNesting+1)) + "s"
	for _, sig := range []string{"a", "(", ")", "()", "(s", "{ss}", "a{s}", "a{vs}", "a{sss}", "a{(s)s}", "a{", "a{s", "z", "s\x00", "ss(", deep} {
		if types, ok := splitValid(sig); ok {
			t.Errorf("%q is taken as %q", sig, types)
		}
	}
	for sig, want := range map[string][]string{"": nil, "sa{sv}(sa(ss))ai": {"s", "a{sv}", "(sa(ss))", "ai"}, "aaa{ya{ov}}v": {"aaa{ya{ov}}", "v"}} {
		if types, ok := splitValid(sig); !ok || !slices.Equal(types, want) {
			t.Errorf("%q is taken as %q, %v", sig, types, ok)
		}
	}
}

// FuzzFrame reads any bytes as messages, and their arguments as every type that a method declares. Nothing panics, and what is
// read is no more than what there was.
func FuzzFrame(f *testing.F) {
	h := newHostile(1, base)
	for range 100 {
		data, _ := h.message(false)
		f.Add(data)
	}
	declared := map[string]bool{"v": true}
	for _, i := range allInterfaces() {
		for _, m := range i.methods {
			for _, a := range m.in {
				declared[a.sig] = true
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		for {
			frame, err := readHead(in)
			if err != nil || frame.size > in.Len() {
				return
			}
			if err := frame.readBody(in); err != nil {
				t.Fatal(err)
			}
			args, err := frame.args()
			if err != nil {
				continue
			}
			for _, arg := range args {
				for sig := range declared {
					value, err := decode(sig, arg)
					if err != nil {
						if code, _ := codeOf(err); code != "INVALID_TYPE" {
							t.Fatalf("%s as %s: %v", arg.sig, sig, err)
						}
						continue
					}
					if list, ok := value.([]any); ok && len(list) > len(data) {
						t.Fatalf("%d bytes are a list of %d", len(data), len(list))
					}
				}
			}
		}
	})
}
