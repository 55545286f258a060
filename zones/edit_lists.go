package zones

import (
	"maps"
	"slices"
	"strings"
)

// list is a list of items of type V, each of them once, in the order in which they were added.
type list[T, V any] struct {
	slice func(*T) *[]V
	args  func(V) []string // the parts of an item
	same  func(a, b V) bool
	parse func(e env, o *T, args []string) (V, error)
	shown func(v V) string                  // an item in a message; nil means as it was given
	order func([]V) []V                     // the order in which items are kept; nil means that in which they were added
	state func(v V, relation string) string // the whole message, which says "already is in" or "is not in"; nil means that of env
}

func (s list[T, V]) get(o *T) any {
	values := make([][]string, len(*s.slice(o)))
	for i, v := range *s.slice(o) {
		values[i] = s.args(v)
	}
	return values
}

func (s list[T, V]) set(e env, o *T, value any) error {
	given, ok := value.([][]string)
	if !ok {
		return wrongType(value, "a list")
	}
	var next []V
	seen := map[string]bool{}
	for _, args := range given {
		v, err := s.parse(e, o, args)
		if err != nil {
			return err
		}
		if key := itemKey(s.args(v)); !seen[key] {
			seen[key] = true
			next = append(next, v)
		}
	}
	*s.slice(o) = s.ordered(next)
	return nil
}

func (s list[T, V]) ordered(list []V) []V {
	if s.order == nil {
		return list
	}
	return s.order(list)
}

// itemKey is the same text for equal items alone.
func itemKey(args []string) string { return strings.Join(args, "\x00") }

// already is the error for an item that is there.
func (s list[T, V]) already(e env, given []string, v V) error {
	if s.state != nil {
		return refuse(AlreadyEnabled, "%s", s.state(v, "already is in"))
	}
	return e.already(s.text(given, v), len(given))
}

// missing is the error for an item that is not there.
func (s list[T, V]) missing(e env, given []string, v V) error {
	if s.state != nil {
		return refuse(NotEnabled, "%s", s.state(v, "is not in"))
	}
	return e.missing(s.text(given, v), len(given))
}

func (s list[T, V]) text(given []string, v V) string {
	if s.shown == nil {
		return strings.Join(given, ":")
	}
	return s.shown(v)
}

func (s list[T, V]) find(o *T, v V) int {
	return slices.IndexFunc(*s.slice(o), func(other V) bool { return s.same(v, other) })
}

func (s list[T, V]) add(e env, o *T, args []string) error {
	v, err := s.parse(e, o, args)
	if err != nil {
		return err
	}
	if s.find(o, v) >= 0 {
		return s.already(e, args, v)
	}
	*s.slice(o) = s.ordered(append(slices.Clip(*s.slice(o)), v))
	return nil
}

func (s list[T, V]) remove(e env, o *T, args []string) error {
	v, err := s.parse(e, o, args)
	i := s.find(o, v)
	switch {
	case i >= 0: // valid or not: a file may have it
	case err != nil && unknown(e, err) != nil:
		return err
	case err != nil && s.state == nil:
		return e.missing(strings.Join(args, ":"), len(args))
	default:
		return s.missing(e, args, v)
	}
	*s.slice(o) = dropped(*s.slice(o), i)
	return nil
}

// dropped is a list without one of its items.
func dropped[V any](list []V, i int) []V {
	if len(list) == 1 {
		return nil
	}
	return slices.Concat(list[:i], list[i+1:])
}

func (s list[T, V]) has(e env, o *T, args []string) (bool, error) {
	v, err := s.parse(e, o, args)
	if s.find(o, v) >= 0 {
		return true, nil
	}
	return false, unknown(e, err)
}

// notThere is the error for the removal of an item that is not valid: the daemon says why, while for files it is just one
// that is not there.
func notThere(e env, args []string, invalid error) error {
	if unknown(e, invalid) != nil {
		return invalid
	}
	return e.missing(strings.Join(args, ":"), len(args))
}

// unknown is the error for a question about an item that is not valid; nil means that the answer is no.
func unknown(e env, invalid error) error {
	if invalid == nil {
		return nil
	}
	switch code, _ := ReasonOf(invalid); {
	case code == InvalidType:
		return invalid
	case e.scope != Runtime || code == InvalidPass: // whether the tools would take it or not
		return nil
	}
	return invalid
}

func (s list[T, V]) difference(old, next *T) (removed, added [][]string) {
	if sameSlice(*s.slice(old), *s.slice(next)) {
		return nil, nil
	}
	return listDifference(s.get(old).([][]string), s.get(next).([][]string))
}

// listDifference is the items of one list that another does not have, both ways.
func listDifference(old, next [][]string) (removed, added [][]string) {
	missing := func(list, from [][]string) (result [][]string) {
		there := map[string]bool{}
		for _, args := range from {
			there[itemKey(args)] = true
		}
		for _, args := range list {
			if !there[itemKey(args)] {
				result = append(result, args)
			}
		}
		return result
	}
	for len(old) > 0 && len(next) > 0 && slices.Equal(old[0], next[0]) { // most of a long list is the same
		old, next = old[1:], next[1:]
	}
	for len(old) > 0 && len(next) > 0 && slices.Equal(old[len(old)-1], next[len(next)-1]) {
		old, next = old[:len(old)-1], next[:len(next)-1]
	}
	return missing(old, next), missing(next, old)
}

// names is a list of names, which are read by parse.
func names[T any](slice func(*T) *[]string, parse func(e env, name string) (string, error)) list[T, string] {
	return list[T, string]{
		slice: slice, same: func(a, b string) bool { return a == b },
		args: func(name string) []string { return []string{name} },
		parse: func(e env, _ *T, args []string) (string, error) {
			if err := arguments(args, 1, 1); err != nil {
				return "", err
			}
			return parse(e, args[0])
		},
		shown: func(name string) string { return name },
	}
}

// texts is a setting of named texts. Adding a name that is there replaces its text; a name alone is removed.
type texts[T any] struct {
	field func(*T) *map[string]string
	check func(o *T, name, text string) error
	order func(*T) *[]string // of the names; nil means sorted
}

func (s texts[T]) get(o *T) any {
	values := [][]string{}
	for _, name := range Names(*s.field(o)) {
		values = append(values, []string{name, (*s.field(o))[name]})
	}
	return values
}

func (s texts[T]) set(e env, o *T, value any) error {
	given, ok := value.([][]string)
	if !ok {
		return wrongType(value, "a list of names and values")
	}
	*s.field(o) = nil
	if s.order != nil {
		*s.order(o) = nil
	}
	for _, args := range given {
		if err := arguments(args, 2, 2); err != nil {
			return err
		}
		if err := s.check(o, args[0], args[1]); err != nil {
			return err
		}
		s.put(o, args[0], args[1])
	}
	return nil
}

func (s texts[T]) put(o *T, name, text string) {
	next := maps.Clone(*s.field(o))
	if next == nil {
		next = map[string]string{}
	}
	next[name] = text
	*s.field(o) = next
	if s.order != nil && !slices.Contains(*s.order(o), name) {
		*s.order(o) = append(slices.Clip(*s.order(o)), name)
	}
}

func (s texts[T]) add(e env, o *T, args []string) error {
	if err := arguments(args, 2, 2); err != nil {
		return err
	}
	name, text := args[0], args[1]
	if err := s.check(o, name, text); err != nil {
		return err
	}
	if (*s.field(o))[name] == text {
		if e.scope == Permanent {
			return refuse(AlreadyEnabled, "'%s': '%s'", name, text)
		}
		return e.already(name+":"+text, 2)
	}
	s.put(o, name, text)
	return nil
}

func (s texts[T]) remove(e env, o *T, args []string) error {
	if err := arguments(args, 1, 1); err != nil {
		return err
	}
	if _, ok := (*s.field(o))[args[0]]; !ok {
		return e.missing(args[0], 2)
	}
	next := maps.Clone(*s.field(o))
	delete(next, args[0])
	if len(next) == 0 {
		next = nil
	}
	*s.field(o) = next
	if s.order != nil {
		if i := slices.Index(*s.order(o), args[0]); i >= 0 {
			*s.order(o) = dropped(*s.order(o), i)
		}
	}
	return nil
}

func (s texts[T]) has(_ env, o *T, args []string) (bool, error) {
	if err := arguments(args, 2, 2); err != nil {
		return false, err
	}
	text, ok := (*s.field(o))[args[0]]
	return ok && text == args[1], nil
}

func (s texts[T]) difference(old, next *T) (removed, added [][]string) {
	return listDifference(s.get(old).([][]string), s.get(next).([][]string))
}
