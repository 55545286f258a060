package networkmanager

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/godbus/dbus/v5"

	"richwall/internal/irgen"
)

// What NetworkManager has sent goes back to it byte for byte: its own lists of addresses and routes, and values of any type.
func TestSettingsGoBackAsTheyCame(t *testing.T) {
	type address struct {
		IP      []byte
		Prefix  uint32
		Gateway []byte
	}
	type route struct {
		IP     []byte
		Prefix uint32
		Next   []byte
		Metric uint32
	}
	ip := bytes.Repeat([]byte{0x20}, 16)
	nested := []map[string]dbus.Variant{{"peers": dbus.MakeVariant([]address{{ip, 1, nil}})}}
	same(t, "the settings of a connection", settings{
		"connection": {"zone": dbus.MakeVariant("work")},
		"ipv4":       {"addresses": dbus.MakeVariant([][]uint32{{1, 24, 0}}), "address-data": dbus.MakeVariant([]map[string]dbus.Variant{{"address": dbus.MakeVariant("192.0.2.1")}})},
		"ipv6":       {"addresses": dbus.MakeVariant([]address{{ip, 64, ip}}), "routes": dbus.MakeVariant([]route{{ip, 64, ip, 100}})},
		"user":       {"addresses": dbus.MakeVariant([]address{}), "routes": dbus.MakeVariant([]route{})},
		"wireguard":  {"peers": dbus.MakeVariant(nested)},
	})
	seed := irgen.Seed(t)
	for n := range 2000 {
		rnd := rand.New(rand.NewPCG(seed, uint64(n)))
		value := dbus.MakeVariant(randomValue(rnd, randomType(rnd, 4)).Interface())
		same(t, fmt.Sprintf("seed %d, value %d: %v", seed, n, value.Signature()), settings{"section": {"key": value}})
	}
}

// same sends settings, and what was received back; each must have the same bytes.
func same(t *testing.T, what string, sent settings) {
	t.Helper()
	one := wire(t, sent)
	received := parse(t, one).Body[0].(settings)
	if err := typed(received); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for section, values := range sent { // maps have no order on the wire: one value at a time
		for key, value := range values {
			if a, b := body(t, value), body(t, received[section][key]); !bytes.Equal(a, b) {
				t.Fatalf("%s: what comes back in %s.%s differs:\n% x\n% x", what, section, key, a, b)
			}
		}
	}
}

func wire(t *testing.T, body settings) []byte {
	t.Helper()
	m := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(uint32(1)), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body)),
	}, Body: []any{body}}
	var out bytes.Buffer
	if err := m.EncodeTo(&out, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// body is a value alone on the wire, behind a header whose fields have no order.
func body(t *testing.T, v dbus.Variant) []byte {
	t.Helper()
	m := wire(t, settings{"s": {"k": v}})
	return m[len(m)-int(binary.LittleEndian.Uint32(m[4:])):] // the length of the body (D-Bus specification, "Message Format")
}

func parse(t *testing.T, data []byte) *dbus.Message {
	t.Helper()
	m, err := dbus.DecodeMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const basics = "ybnqiuxtdsogv"

// randomType is a type of D-Bus, as Go has it.
func randomType(rnd *rand.Rand, depth int) reflect.Type {
	simple := basic[basics[rnd.IntN(len(basics))]]
	if depth == 0 {
		return simple
	}
	switch rnd.IntN(4) {
	case 0:
		return reflect.SliceOf(randomType(rnd, depth-1))
	case 1:
		return reflect.MapOf(basic["yns"[rnd.IntN(3)]], randomType(rnd, depth-1))
	case 2:
		var fields []reflect.StructField
		for i := range 1 + rnd.IntN(3) {
			fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: randomType(rnd, depth-1)})
		}
		return reflect.StructOf(fields)
	}
	return simple
}

// randomValue is a value of a type. A map has one entry at most, as more have no order.
func randomValue(rnd *rand.Rand, t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch {
	case t == variantType:
		v.Set(reflect.ValueOf(dbus.MakeVariant(randomValue(rnd, randomType(rnd, 1)).Interface())))
	case t == basic['o']:
		v.SetString("/a/b")
	case t == basic['g']:
		v.Set(reflect.ValueOf(dbus.SignatureOf("", uint32(0))))
	case t.Kind() == reflect.String:
		v.SetString([]string{"", "x", "zone"}[rnd.IntN(3)])
	case t.Kind() == reflect.Bool:
		v.SetBool(rnd.IntN(2) == 0)
	case v.CanInt():
		v.SetInt(int64(rnd.IntN(100)))
	case v.CanUint():
		v.SetUint(uint64(rnd.IntN(100)))
	case v.CanFloat():
		v.SetFloat(rnd.Float64())
	case t.Kind() == reflect.Slice:
		for range rnd.IntN(3) {
			v = reflect.Append(v, randomValue(rnd, t.Elem()))
		}
	case t.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(t))
		if rnd.IntN(2) == 0 {
			v.SetMapIndex(randomValue(rnd, t.Key()), randomValue(rnd, t.Elem()))
		}
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			v.Field(i).Set(randomValue(rnd, t.Field(i).Type))
		}
	}
	return v
}
