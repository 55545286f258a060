package bus

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"richwall/zones"
)

// Values come and go by their signature. Coming in, decode takes what clients really send: an array where a structure is
// declared, variants around elements, any integer that fits. Going out, encode makes the Go type that has exactly the
// declared signature.
//
// Between the two a value has a plain Go type:
//
//	s o     string
//	b       bool
//	i       int
//	as ao   []string
//	a{ss}   map[string]string
//	a{sv}   dict; going out, any map or []entry
//	others  []any, for arrays and structures alike; going out, any slices

// dict is the settings of an object by key. Coming in, a value is as godbus decodes it; going out, a typed.
type dict map[string]any

// entry is an entry of a dictionary that is sent in an order of its own; the entries of maps are sent by key.
type entry struct {
	Key   string
	Value any
}

// typed is a value with its signature.
type typed struct {
	sig   string
	value any
}

// split is the single complete types of a signature.
func split(sig string) []string {
	var types []string
	for sig != "" {
		n := typeLen(sig)
		types, sig = append(types, sig[:n]), sig[n:]
	}
	return types
}

// typeLen is the length of the first complete type of a signature.
func typeLen(sig string) int {
	switch sig[0] {
	case 'a':
		return 1 + typeLen(sig[1:])
	case '(', '{':
		depth := 0
		for i := range len(sig) {
			depth += strings.Count("({", sig[i:i+1]) - strings.Count(")}", sig[i:i+1])
			if depth == 0 {
				return i + 1
			}
		}
	}
	return 1
}

// decode is a value as the plain Go type of a signature. The error has code INVALID_TYPE.
func decode(sig string, value any) (any, error) {
	if v, ok := value.(dbus.Variant); ok {
		value = v.Value()
	}
	switch {
	case sig == "v":
		return value, nil
	case sig == "s" || sig == "o":
		return decodeString(sig, value)
	case sig == "b":
		if b, ok := value.(bool); ok {
			return b, nil
		}
	case sig == "i":
		if n, ok := decodeInt(value); ok {
			return n, nil
		}
	case sig == "as":
		return decodeStrings(value)
	case sig == "a{ss}" || sig == "a{sv}":
		return decodeMap(sig, value)
	case sig[0] == 'a':
		return decodeList(value, func(int) string { return sig[1:] })
	case sig[0] == '(':
		fields := split(sig[1 : len(sig)-1])
		if v := reflect.ValueOf(value); v.Kind() == reflect.Slice && v.Len() != len(fields) {
			return nil, refuse(zones.InvalidType, "it has %d parts, and %s has %d", v.Len(), sig, len(fields))
		}
		return decodeList(value, func(i int) string { return fields[i] })
	}
	return nil, wrongType(sig, value)
}

func wrongType(sig string, value any) error {
	return refuse(zones.InvalidType, "it is %s, and %s is needed", dbusType(value), sig)
}

// dbusType is the signature of a value that came in.
func dbusType(value any) string {
	if value == nil {
		return "nothing"
	}
	return dbus.SignatureOf(value).String()
}

func decodeString(sig string, value any) (any, error) {
	switch s := value.(type) {
	case string:
		return s, nil
	case dbus.ObjectPath:
		return string(s), nil
	}
	return nil, wrongType(sig, value)
}

// decodeInt is an integer of any size that fits into 32 bits, signed.
func decodeInt(value any) (int, bool) {
	v := reflect.ValueOf(value)
	switch {
	case v.CanInt():
		n := v.Int()
		return int(n), n >= math.MinInt32 && n <= math.MaxInt32
	case v.CanUint():
		n := v.Uint()
		return int(n), n <= math.MaxInt32
	}
	return 0, false
}

func decodeStrings(value any) (any, error) {
	if list, ok := value.([]string); ok {
		return list, nil
	}
	items, err := decodeList(value, func(int) string { return "s" })
	if err != nil {
		return nil, err
	}
	list := make([]string, len(items))
	for i, item := range items {
		list[i] = item.(string)
	}
	return list, nil
}

// decodeList is an array or structure, each element by its own signature.
func decodeList(value any, sig func(i int) string) ([]any, error) {
	v := reflect.ValueOf(value)
	if v.Kind() != reflect.Slice {
		return nil, wrongType("a list", value)
	}
	list := make([]any, v.Len())
	for i := range list {
		var err error
		if list[i], err = decode(sig(i), v.Index(i).Interface()); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func decodeMap(sig string, value any) (any, error) {
	v := reflect.ValueOf(value)
	if v.Kind() != reflect.Map || v.Type().Key().Kind() != reflect.String {
		return nil, wrongType(sig, value)
	}
	texts, values := map[string]string{}, dict{}
	for entries := v.MapRange(); entries.Next(); {
		key := entries.Key().String()
		item, err := decode(sig[3:len(sig)-1], entries.Value().Interface())
		if err != nil {
			return nil, err
		}
		if sig == "a{sv}" {
			values[key] = item
		} else {
			texts[key] = item.(string)
		}
	}
	if sig == "a{sv}" {
		return values, nil
	}
	return texts, nil
}

var basicTypes = map[byte]reflect.Type{
	's': reflect.TypeFor[string](),
	'o': reflect.TypeFor[dbus.ObjectPath](),
	'b': reflect.TypeFor[bool](),
	'i': reflect.TypeFor[int32](),
	'v': reflect.TypeFor[dbus.Variant](),
}

// typeOf is the Go type that godbus sends as a type of D-Bus. It sends maps in no order, and so a dictionary is a list of
// structures here, which looks the same on the wire (D-Bus specification, "Marshaling").
func typeOf(sig string) reflect.Type {
	switch {
	case strings.HasPrefix(sig, "a{"):
		return reflect.SliceOf(structOf(sig[2 : len(sig)-1]))
	case sig[0] == 'a':
		return reflect.SliceOf(typeOf(sig[1:]))
	case sig[0] == '(':
		return structOf(sig[1 : len(sig)-1])
	}
	return basicTypes[sig[0]]
}

func structOf(sig string) reflect.Type {
	var fields []reflect.StructField
	for i, t := range split(sig) {
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: typeOf(t)})
	}
	return reflect.StructOf(fields)
}

// outgoing is a value to be sent. The library works out a signature from Go types; sign puts the declared one in its place.
type outgoing struct {
	Sig   string
	value any
}

// encode makes what is sent of a plain value.
func encode(sig string, value any) outgoing { return outgoing{sig, encoded(sig, value)} }

func encoded(sig string, value any) any {
	to := reflect.New(typeOf(sig)).Elem()
	encodeInto(to, sig, reflect.ValueOf(value))
	return to.Interface()
}

func encodeInto(to reflect.Value, sig string, from reflect.Value) {
	if from.Kind() == reflect.Interface {
		from = from.Elem()
	}
	switch {
	case sig == "v":
		t := from.Interface().(typed)
		to.Set(reflect.ValueOf(dbus.MakeVariantWithSignature(encoded(t.sig, t.value), dbus.ParseSignatureMust(t.sig))))
	case from.Kind() == reflect.Map:
		keys := from.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		to.Set(reflect.MakeSlice(to.Type(), len(keys), len(keys)))
		for i, key := range keys {
			encodeFields(to.Index(i), sig[2:len(sig)-1], func(k int) reflect.Value {
				return []reflect.Value{key, from.MapIndex(key)}[k]
			})
		}
	case strings.HasPrefix(sig, "a{"):
		to.Set(reflect.MakeSlice(to.Type(), from.Len(), from.Len()))
		for i := range from.Len() {
			encodeFields(to.Index(i), sig[2:len(sig)-1], from.Index(i).Field)
		}
	case sig[0] == 'a':
		to.Set(reflect.MakeSlice(to.Type(), from.Len(), from.Len()))
		for i := range from.Len() {
			encodeInto(to.Index(i), sig[1:], from.Index(i))
		}
	case sig[0] == '(':
		encodeFields(to, sig[1:len(sig)-1], from.Index)
	default:
		to.Set(from.Convert(to.Type()))
	}
}

// encodeFields encodes the parts of a structure, or the key and value of an entry of a dictionary.
func encodeFields(to reflect.Value, sig string, from func(i int) reflect.Value) {
	for i, t := range split(sig) {
		encodeInto(to.Field(i), t, from(i))
	}
}

// sign gives a message of ours its declared signature. It is called with each message before it is sent.
func sign(msg *dbus.Message) {
	sig := ""
	for i, value := range msg.Body {
		out, ok := value.(outgoing)
		if !ok {
			return // a message of the library's own, which has no values of ours
		}
		sig += out.Sig
		msg.Body[i] = out.value
	}
	if sig != "" {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.ParseSignatureMust(sig))
	}
}
