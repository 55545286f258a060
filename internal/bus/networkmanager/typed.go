package networkmanager

import (
	"fmt"
	"reflect"

	"github.com/godbus/dbus/v5"
)

// typed makes settings what they were when they were received, type for type, so that they can be sent back: godbus reads a structure of
// D-Bus as a []any and would write it as an array of variants. NetworkManager refuses that in settings such as ipv6.addresses, an a(ayuay).
func typed(s settings) error {
	for section, values := range s {
		for key, v := range values {
			next, err := retyped(v)
			if err != nil {
				return fmt.Errorf("%s.%s: %w", section, key, err)
			}
			values[key] = next
		}
	}
	return nil
}

// retyped is a variant as it was received, with a Go value of the type that its signature stands for.
func retyped(v dbus.Variant) (dbus.Variant, error) {
	sig := v.Signature()
	t, rest, err := goType(sig.String())
	if err != nil || rest != "" {
		return v, fmt.Errorf("a value has the signature %q, which is that of no one type", sig)
	}
	value, err := build(t, reflect.ValueOf(v.Value()))
	if err != nil {
		return v, err
	}
	return dbus.MakeVariantWithSignature(value.Interface(), sig), nil
}

var variantType = reflect.TypeFor[dbus.Variant]()

// build is a value of a type, given what godbus makes of it: the same, with a []any in the place of each structure.
func build(t reflect.Type, from reflect.Value) (reflect.Value, error) {
	for from.Kind() == reflect.Interface {
		from = from.Elem()
	}
	v := reflect.New(t).Elem()
	switch kind := t.Kind(); {
	case t == variantType && from.Type() == variantType:
		inner, err := retyped(from.Interface().(dbus.Variant))
		return reflect.ValueOf(inner), err
	case from.Type() == t && kind != reflect.Slice && kind != reflect.Map:
		return from, nil
	case kind == reflect.Slice && from.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(t, 0, from.Len()))
		for i := range from.Len() {
			e, err := build(t.Elem(), from.Index(i))
			if err != nil {
				return v, err
			}
			v.Set(reflect.Append(v, e))
		}
		return v, nil
	case kind == reflect.Map && from.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(t))
		for _, key := range from.MapKeys() {
			e, err := build(t.Elem(), from.MapIndex(key))
			if err != nil {
				return v, err
			}
			v.SetMapIndex(key, e)
		}
		return v, nil
	case kind == reflect.Struct && from.Kind() == reflect.Slice && from.Len() == t.NumField():
		for i := range t.NumField() {
			e, err := build(t.Field(i).Type, from.Index(i))
			if err != nil {
				return v, err
			}
			v.Field(i).Set(e)
		}
		return v, nil
	}
	return v, fmt.Errorf("a value is a %s, and not a %s as its signature says", from.Type(), t)
}

// basic are the Go types of D-Bus's basic types (D-Bus specification, "Basic types"), as godbus has them.
var basic = map[byte]reflect.Type{
	'y': reflect.TypeFor[byte](), 'b': reflect.TypeFor[bool](), 'n': reflect.TypeFor[int16](), 'q': reflect.TypeFor[uint16](),
	'i': reflect.TypeFor[int32](), 'u': reflect.TypeFor[uint32](), 'x': reflect.TypeFor[int64](), 't': reflect.TypeFor[uint64](),
	'd': reflect.TypeFor[float64](), 's': reflect.TypeFor[string](), 'o': reflect.TypeFor[dbus.ObjectPath](),
	'g': reflect.TypeFor[dbus.Signature](), 'h': reflect.TypeFor[dbus.UnixFDIndex](), 'v': variantType,
}

var errSignature = fmt.Errorf("a type of D-Bus is cut off or does not exist")

// goType is the Go type of the first type in a signature, and the rest of the signature. A structure is a struct whose fields are in order.
func goType(sig string) (t reflect.Type, rest string, err error) {
	switch {
	case sig == "":
		return nil, "", errSignature
	case basic[sig[0]] != nil:
		return basic[sig[0]], sig[1:], nil
	case len(sig) > 1 && sig[:2] == "a{":
		return mapType(sig[2:])
	case sig[0] == 'a':
		t, rest, err = goType(sig[1:])
		if err != nil {
			return nil, "", err
		}
		return reflect.SliceOf(t), rest, nil
	case sig[0] == '(':
		return structType(sig[1:])
	}
	return nil, "", errSignature
}

// mapType is goType of a dictionary, behind its opening brace.
func mapType(sig string) (t reflect.Type, rest string, err error) {
	key, rest, err := goType(sig)
	if err != nil || !key.Comparable() {
		return nil, "", errSignature
	}
	value, rest, err := goType(rest)
	if err != nil || rest == "" || rest[0] != '}' {
		return nil, "", errSignature
	}
	return reflect.MapOf(key, value), rest[1:], nil
}

// structType is goType of a structure, behind its opening parenthesis.
func structType(sig string) (t reflect.Type, rest string, err error) {
	var fields []reflect.StructField
	for rest = sig; rest != "" && rest[0] != ')'; {
		if t, rest, err = goType(rest); err != nil {
			return nil, "", err
		}
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("Field%d", len(fields)), Type: t})
	}
	if rest == "" || fields == nil {
		return nil, "", errSignature
	}
	return reflect.StructOf(fields), rest[1:], nil
}
