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
		if err := retype(reflect.ValueOf(values)); err != nil {
			return fmt.Errorf("section %s: %w", section, err)
		}
	}
	return nil
}

var variantType = reflect.TypeFor[dbus.Variant]()

// retype gives every variant in a value the Go value that its signature stands for. The value is one that can be set, or a map.
func retype(v reflect.Value) error {
	switch {
	case v.Type() == variantType:
		old := v.Interface().(dbus.Variant)
		t, rest, err := goType(old.Signature().String())
		if err != nil || rest != "" {
			return fmt.Errorf("a value has the signature %q, which is that of no one type", old.Signature())
		}
		next := reflect.New(t)
		if err := dbus.Store([]any{old.Value()}, next.Interface()); err != nil {
			return err
		}
		if err := retype(next.Elem()); err != nil {
			return err
		}
		v.Set(reflect.ValueOf(dbus.MakeVariantWithSignature(next.Elem().Interface(), old.Signature())))
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			if err := retype(v.Index(i)); err != nil {
				return err
			}
		}
	case v.Kind() == reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			if err := retype(value); err != nil {
				return err
			}
			v.SetMapIndex(key, value)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if field := v.Field(i); field.CanSet() {
				if err := retype(field); err != nil {
					return err
				}
			}
		}
	}
	return nil
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
