package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Values on the bus are kept as the text that gdbus takes, GVariant's text format, since that is what a scenario has. Of the
// format this reads what write makes.

// reader reads values of known types.
type reader struct{ text string }

// values reads as many values as the signature has types, separated by blanks.
func values(text, signature string) (out []any, err error) {
	defer func() {
		if e, ok := recover().(error); ok {
			err = fmt.Errorf("cannot read %q as %s: %w", text, signature, e)
		}
	}()
	r := &reader{text}
	for signature != "" {
		one := oneType(signature)
		out = append(out, r.value(one).Interface())
		signature = signature[len(one):]
	}
	if r.skip(); r.text != "" {
		panic(fmt.Errorf("more than that: %s", r.text))
	}
	return out, nil
}

// oneType is the first complete type of a signature.
func oneType(signature string) string {
	if signature == "" {
		panic(fmt.Errorf("a type is missing"))
	}
	switch c := signature[0]; c {
	case 'a':
		return "a" + oneType(signature[1:])
	case '(', '{':
		depth := 0
		for i, c := range signature {
			switch c {
			case '(', '{':
				depth++
			case ')', '}':
				if depth--; depth == 0 {
					return signature[:i+1]
				}
			}
		}
		panic(fmt.Errorf("a bracket is open in %s", signature))
	default:
		return signature[:1]
	}
}

func (r *reader) skip() { r.text = strings.TrimLeft(r.text, " ") }

// take takes a text that must come next.
func (r *reader) take(want string) {
	if !r.maybe(want) {
		panic(fmt.Errorf("%s expected at %q", want, r.text))
	}
}

// maybe takes a text if it comes next.
func (r *reader) maybe(want string) bool {
	r.skip()
	rest, ok := strings.CutPrefix(r.text, want)
	if ok {
		r.text = rest
	}
	return ok
}

// annotation takes a type that stands before a value, and returns otherwise the default.
func (r *reader) annotation(signature string) string {
	if !r.maybe("@") {
		return signature
	}
	signature, r.text, _ = strings.Cut(r.text, " ")
	return signature
}

// word takes a number or a name.
func (r *reader) word() string {
	r.skip()
	end := strings.IndexAny(r.text, " ,:>)]}")
	if end < 0 {
		end = len(r.text)
	}
	word := r.text[:end]
	r.text = r.text[end:]
	return word
}

func (r *reader) str() string {
	r.take("'")
	var b strings.Builder
	for i := 0; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '\\' && i+1 < len(r.text):
			i++
			if escaped := strings.IndexByte("nt", r.text[i]); escaped >= 0 {
				b.WriteByte("\n\t"[escaped])
			} else {
				b.WriteByte(r.text[i])
			}
		case c == '\'':
			r.text = r.text[i+1:]
			return b.String()
		default:
			b.WriteByte(c)
		}
	}
	panic(fmt.Errorf("a quote without its end"))
}

// typeOf is the type of Go that the library encodes as a signature's.
func typeOf(signature string) reflect.Type {
	switch signature[0] {
	case 's':
		return reflect.TypeFor[string]()
	case 'o':
		return reflect.TypeFor[dbus.ObjectPath]()
	case 'b':
		return reflect.TypeFor[bool]()
	case 'i':
		return reflect.TypeFor[int32]()
	case 'v':
		return reflect.TypeFor[dbus.Variant]()
	case 'a':
		if signature[1] == '{' {
			return reflect.MapOf(typeOf(signature[2:3]), typeOf(signature[3:len(signature)-1]))
		}
		return reflect.SliceOf(typeOf(signature[1:]))
	case '(':
		var fields []reflect.StructField
		for rest := signature[1 : len(signature)-1]; rest != ""; {
			one := oneType(rest)
			rest = rest[len(one):]
			fields = append(fields, reflect.StructField{Name: fmt.Sprint("F", len(fields)), Type: typeOf(one)})
		}
		return reflect.StructOf(fields)
	}
	panic(fmt.Errorf("no values of type %s", signature))
}

// value reads a value of a type.
func (r *reader) value(signature string) reflect.Value {
	signature = r.annotation(signature)
	v := reflect.New(typeOf(signature)).Elem()
	switch signature[0] {
	case 's', 'o':
		v.SetString(r.str())
	case 'b':
		v.SetBool(r.word() == "true")
	case 'i':
		n, err := strconv.ParseInt(r.word(), 10, 32)
		if err != nil {
			panic(err)
		}
		v.SetInt(n)
	case 'v':
		v.Set(reflect.ValueOf(r.variant()))
	case 'a':
		if signature[1] == '{' {
			v.Set(reflect.MakeMap(v.Type()))
			r.sequence("{", "}", func() {
				key := r.value(signature[2:3])
				r.take(":")
				v.SetMapIndex(key, r.value(signature[3:len(signature)-1]))
			})
			break
		}
		r.sequence("[", "]", func() { v.Set(reflect.Append(v, r.value(signature[1:]))) })
	case '(':
		rest, i := signature[1:len(signature)-1], 0
		r.sequence("(", ")", func() {
			one := oneType(rest)
			rest = rest[len(one):]
			v.Field(i).Set(r.value(one))
			i++
		})
	}
	return v
}

// sequence reads values between two brackets, separated by commas.
func (r *reader) sequence(open, closed string, one func()) {
	r.take(open)
	for first := true; !r.maybe(closed); first = false {
		if !first {
			r.take(",")
		}
		one()
	}
}

// variant is a value in pointed brackets, which says its type where that is not plain to see.
func (r *reader) variant() dbus.Variant {
	r.take("<")
	r.skip()
	signature := r.annotation("")
	switch {
	case signature != "":
	case strings.HasPrefix(r.text, "'"):
		signature = "s"
	case strings.HasPrefix(r.text, "true"), strings.HasPrefix(r.text, "false"):
		signature = "b"
	default:
		signature = "i"
	}
	value := r.value(signature)
	r.take(">")
	return dbus.MakeVariantWithSignature(value.Interface(), dbus.ParseSignatureMust(signature))
}

// render is a value that the bus has sent, as text in which equal values are equal, with the lists of so many levels in order, from
// the outermost.
func render(v any, levels int) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case dbus.Variant:
		return render(v.Value(), levels)
	case []any:
		return "(" + strings.Join(rendered(v, levels), ", ") + ")"
	case map[string]dbus.Variant:
		return renderedMap(v, levels)
	case map[string]string:
		return renderedMap(v, levels)
	case map[string]map[string][]string:
		return renderedMap(v, levels)
	case map[string][]string:
		return renderedMap(v, levels)
	case []string:
		return renderedList(v, levels)
	case [][]any:
		return renderedList(v, levels)
	case [][]string:
		return renderedList(v, levels)
	default:
		return fmt.Sprint(v)
	}
}

func rendered[T any](list []T, levels int) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = render(v, levels)
	}
	return out
}

func renderedList[T any](list []T, levels int) string {
	out := rendered(list, max(0, levels-1))
	if levels > 0 {
		slices.Sort(out)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func renderedMap[T any](m map[string]T, levels int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, strconv.Quote(k)+": "+render(m[k], levels))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// unordered is how many levels of lists have no order in what a method gives: of rules and passthroughs the list itself, whose
// words have one.
func unordered(method string) int {
	if strings.Contains(method, ".direct.") {
		return 1
	}
	return 9
}

// text is a string as GVariant's text has it.
func text(s string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'", "\n", "\\n", "\t", "\\t").Replace(s) + "'"
}
