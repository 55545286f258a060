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
//	v       raw; going out, a typed
//	others  []any, for arrays and structures alike; going out, any slices

// dict is the settings of an object by key. Coming in, a value is a raw; going out, a typed.
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
func decode(sig string, value raw) (any, error) {
	c := value.at
	result, err := c.decode(sig, value.sig, 0)
	if err == nil && c.bad {
		err = malformed()
	}
	return result, err
}

func malformed() error { return refuse(zones.InvalidType, "the message is malformed") }

// decode reads a value of the type have as the plain Go type of the signature want. Where the bytes are malformed the cursor
// is bad then, and the value means nothing. depth is how deep the value is nested.
func (c *cursor) decode(want, have string, depth int) (any, error) {
	for ; have == "v" && !c.bad; depth++ {
		if have = c.variant(); depth > maxNesting {
			c.bad = true
		}
	}
	if c.bad {
		return nil, malformed()
	}
	switch {
	case want == "v":
		value := raw{have, *c}
		c.skip(have, depth)
		return value, nil
	case want == "s" || want == "o":
		if have == "s" || have == "o" {
			return c.text(), nil
		}
	case want == "b" && have == "b":
		return c.uint32() != 0, nil
	case want == "i":
		if n, ok := c.integer(have); ok {
			return n, nil
		}
	case strings.HasPrefix(want, "a{"):
		if strings.HasPrefix(have, "a{") {
			return c.dictionary(want, have, depth)
		}
	case strings.HasPrefix(have, "a{"):
	case want == "as" && isList(have):
		return c.texts(have, depth)
	case want[0] == 'a' && isList(have):
		return c.list(have, func(int) string { return want[1:] }, depth)
	case want[0] == '(' && isList(have):
		return c.structure(want, have, depth)
	}
	return nil, wrongType(want, have)
}

func wrongType(want, have string) error {
	return refuse(zones.InvalidType, "it is %s, and %s is needed", have, want)
}

// integer is an integer of any size that fits into 32 bits, signed.
func (c *cursor) integer(have string) (n int, ok bool) {
	switch have {
	case "y":
		return int(c.byte()), true
	case "n":
		return int(int16(c.number(2))), true
	case "q":
		return int(c.number(2)), true
	case "i":
		return int(int32(c.number(4))), true
	case "x":
		x := int64(c.number(8))
		return int(x), x >= math.MinInt32 && x <= math.MaxInt32
	case "u", "t":
		x := c.number(alignments[have[0]])
		return int(x), x <= math.MaxInt32
	}
	return 0, false
}

// isList reports whether a type is an array or a structure: clients send either for the other.
func isList(have string) bool { return have[0] == 'a' || have[0] == '(' }

// elements calls do for each element of an array, or each part of a structure, with its place and its type. It ends with the
// first error.
func (c *cursor) elements(have string, do func(i int, sig string) error) error {
	if have[0] == '(' {
		c.align(8)
		for i, part := range split(have[1 : len(have)-1]) {
			if err := do(i, part); err != nil {
				return err
			}
		}
		return nil
	}
	end := c.array(have[1:])
	for i := 0; c.pos < end && !c.bad; i++ {
		if err := do(i, have[1:]); err != nil {
			return err
		}
	}
	c.bad = c.bad || c.pos != end
	return nil
}

// count is how many elements an array or a structure has that comes next.
func (c cursor) count(have string, depth int) (n int) {
	c.elements(have, func(_ int, sig string) error {
		c.skip(sig, depth+1)
		n++
		return nil
	})
	return n
}

// texts is a list of texts, or of variants with a text in each.
func (c *cursor) texts(have string, depth int) (any, error) {
	list := make([]string, 0, c.count(have, depth))
	err := c.elements(have, func(_ int, sig string) error {
		item, err := c.decode("s", sig, depth+1)
		if err == nil {
			list = append(list, item.(string))
		}
		return err
	})
	return list, err
}

// list is an array or a structure, each element by its own signature.
func (c *cursor) list(have string, want func(i int) string, depth int) (any, error) {
	list := []any{}
	err := c.elements(have, func(i int, sig string) error {
		item, err := c.decode(want(i), sig, depth+1)
		list = append(list, item)
		return err
	})
	return list, err
}

// structure is a structure, or an array in its place.
func (c *cursor) structure(want, have string, depth int) (any, error) {
	fields := split(want[1 : len(want)-1])
	parts, ahead := 0, *c
	ahead.elements(have, func(_ int, sig string) error {
		ahead.skip(sig, depth+1)
		parts++
		return nil
	})
	switch {
	case ahead.bad:
		return nil, malformed()
	case parts != len(fields):
		return nil, refuse(zones.InvalidType, "it has %d parts, and %s has %d", parts, want, len(fields))
	}
	return c.list(have, func(i int) string { return fields[i] }, depth)
}

// dictionary is a dictionary whose keys are texts.
func (c *cursor) dictionary(want, have string, depth int) (any, error) {
	entry, key := have[1:], have[2:3]
	if key != "s" && key != "o" {
		return nil, wrongType(want, have)
	}
	texts, values := map[string]string{}, dict{}
	end := c.array(entry)
	for c.pos < end && !c.bad {
		c.align(8)
		name := c.text()
		value, err := c.decode(want[3:len(want)-1], have[3:len(have)-1], depth+2)
		if err != nil {
			return nil, err
		}
		if text, ok := value.(string); ok {
			texts[name] = text
		} else {
			values[name] = value
		}
	}
	c.bad = c.bad || c.pos != end
	if want == "a{sv}" {
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
