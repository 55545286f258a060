package bus

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/godbus/dbus/v5"
)

func TestDecodeTakesWhatClientsSend(t *testing.T) {
	v := dbus.MakeVariant
	for _, c := range []struct {
		sig   string
		given any
		want  any
	}{
		{"s", "a", "a"},
		{"s", v("a"), "a"},
		{"i", int32(5), 5},
		{"i", uint16(5), 5},
		{"i", int64(-5), -5},
		{"as", []string{"a"}, []string{"a"}},
		{"as", []dbus.Variant{v("a")}, []string{"a"}},
		{"as", []dbus.Variant{}, []string{}},
		{"a(ss)", [][]any{{"80", "tcp"}}, []any{[]any{"80", "tcp"}}},
		{"a(ss)", [][]string{{"80", "tcp"}}, []any{[]any{"80", "tcp"}}},
		{"a(ss)", []dbus.Variant{v([]dbus.Variant{v("80"), v("tcp")})}, []any{[]any{"80", "tcp"}}},
		{"(sb)", []any{"a", true}, []any{"a", true}},
		{"(sb)", []dbus.Variant{v("a"), v(true)}, []any{"a", true}},
		{"a{ss}", map[string]string{"a": "b"}, map[string]string{"a": "b"}},
		{"a{ss}", map[string]dbus.Variant{"a": v("b")}, map[string]string{"a": "b"}},
		{"(ss)", []string{"a", "b"}, []any{"a", "b"}},
		{"as", struct{ A, B string }{"a", "b"}, []string{"a", "b"}},
	} {
		if got, err := decode(c.sig, sent(t, c.given)); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v as %s is %v, %v; want %v", c.given, c.sig, got, err, c.want)
		}
	}
}

// sent is a value as it arrives in a message.
func sent(t *testing.T, value any) raw {
	t.Helper()
	in := bytes.NewReader(frameOf(message("a.b", "/", "a.b.C", value), 1))
	f, err := readHead(in)
	if err == nil {
		err = f.readBody(in)
	}
	var args []raw
	if err == nil {
		args, err = f.args()
	}
	if err != nil || len(args) != 1 {
		t.Fatalf("%v arrives as %v, %v", value, args, err)
	}
	return args[0]
}

// The values of a dictionary of variants are decoded when it is known of which type they must be.
func TestDecodeDictionaryOfVariants(t *testing.T) {
	got, err := decode("a{sv}", sent(t, map[string]dbus.Variant{"a": dbus.MakeVariant([]string{"b"})}))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := decode("as", got.(dict)["a"].(raw)); err != nil || !reflect.DeepEqual(list, []string{"b"}) {
		t.Errorf("the value is %v, %v", list, err)
	}
	if text, err := decode("s", got.(dict)["a"].(raw)); err == nil {
		t.Errorf("the value is taken as text %v", text)
	}
}

func TestDecodeRefusesTheRest(t *testing.T) {
	for _, c := range []struct {
		sig   string
		given any
	}{
		{"s", 5}, {"b", "true"}, {"b", int32(1)}, {"i", "5"}, {"i", int64(1) << 40}, {"i", uint32(1) << 31}, {"i", 1.5},
		{"as", "a"}, {"as", []int32{1}}, {"a(ss)", [][]string{{"80"}}}, {"a(ss)", []string{"80"}}, {"(sb)", []any{"a"}}, {"(sb)", "ab"},
		{"a{ss}", map[string]int32{"a": 1}}, {"a{ss}", map[int32]string{1: "a"}}, {"a{sv}", []string{}},
	} {
		if got, err := decode(c.sig, sent(t, c.given)); err == nil {
			t.Errorf("%v as %s is taken as %v", c.given, c.sig, got)
		} else if code, _ := codeOf(err); code != "INVALID_TYPE" {
			t.Errorf("%v as %s: %v", c.given, c.sig, err)
		}
	}
}

// A message with a value that was encoded has the declared signature and reads back as the value.
func TestEncodeSendsTheDeclaredSignature(t *testing.T) {
	v := dbus.MakeVariant
	for _, c := range []struct {
		sig   string
		value any
		want  any // as the library decodes it
	}{
		{"as", []string(nil), []string{}},
		{"i", 7, int32(7)},
		{"o", "/a", dbus.ObjectPath("/a")},
		{"a(ias)", []any{[]any{1, []string{"x"}}}, [][]any{{int32(1), []string{"x"}}}},
		{"aas", [][]string{{"80", "tcp"}}, [][]string{{"80", "tcp"}}},
		{"a(ss)", [][]string{{"80", "tcp"}}, [][]any{{"80", "tcp"}}},
		{"a{sas}", map[string][]string{}, map[string][]string{}},
		{"a{sv}", dict{"b": typed{"b", true}, "a": typed{"s", "x"}}, map[string]dbus.Variant{"a": v("x"), "b": v(true)}},
		{"a{sa{sas}}", []entry{{"z", []entry{{"i", []string{"eth0"}}}}}, map[string]map[string][]string{"z": {"i": {"eth0"}}}},
		{"(sa{ss})", []any{"a", map[string]string{"x": "y"}}, []any{"a", map[string]string{"x": "y"}}},
	} {
		msg := &dbus.Message{
			Type: dbus.TypeSignal,
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldPath: v(dbus.ObjectPath("/")), dbus.FieldInterface: v("a.b"), dbus.FieldMember: v("c"),
			},
			Body: []any{encode(c.sig, c.value)},
		}
		sign(msg)
		var wire bytes.Buffer
		if err := msg.EncodeTo(&wire, binary.LittleEndian); err != nil {
			t.Fatalf("%s: %v", c.sig, err)
		}
		back, err := dbus.DecodeMessage(&wire)
		if err != nil {
			t.Fatalf("%s: %v", c.sig, err)
		}
		if got := back.Headers[dbus.FieldSignature].Value().(dbus.Signature).String(); got != c.sig {
			t.Errorf("%v is sent as %s, want %s", c.value, got, c.sig)
		}
		if !reflect.DeepEqual(back.Body[0], c.want) {
			t.Errorf("%v reads back as %v, want %v", c.value, back.Body[0], c.want)
		}
	}
}
