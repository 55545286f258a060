package zones

import (
	"slices"

	"richwall/grammar"
)

// entries are the entries of an ipset. Those of a set with a timeout are no part of what can be read or written: a running
// daemon has them until their time comes.
type entries struct{}

func (entries) get(s *IPSet) any {
	texts := slices.Clone(s.Entries)
	values := make([][]string, len(texts))
	for i := range texts {
		values[i] = texts[i : i+1 : i+1]
	}
	return values
}

// expires is the error for a set whose entries the configuration does not have.
func expires(e env, s *IPSet) error {
	switch {
	case !s.Expires():
		return nil
	case e.scope == Runtime:
		return refuse(IPSetWithTimeout, "%s", s.Name)
	}
	return refuse(IPSetWithTimeout, "")
}

// set replaces all entries. Those of a set with a timeout are added to what a running daemon has, which nobody can know;
// none takes them all out.
func (entries) set(e env, s *IPSet, value any) error {
	given, ok := value.([]string) // or a list of each, as other settings have it
	if rows, listed := value.([][]string); listed {
		given = make([]string, len(rows))
		for i, args := range rows {
			if err := arguments(args, 1, 1); err != nil {
				return err
			}
			given[i] = args[0]
		}
		ok = true
	}
	if !ok {
		return wrongType(value, "a list of entries")
	}
	if err := expires(e, s); err != nil && e.scope != Runtime && len(given) > 0 {
		return err
	}
	next := make([]string, 0, len(given))
	same := s.Entries // what was not looked for yet
	for _, text := range given {
		normal, err := NormalEntry(s, text)
		if err != nil {
			return err
		}
		if at := slices.Index(same[:min(2, len(same))], normal); at >= 0 { // mostly one came or went: the other strings take memory once
			normal, same = same[at], same[at+1:]
		}
		next = append(next, normal)
	}
	next = withoutTwins(s, next)
	switch {
	case !s.Expires():
		s.Entries = next
	case e.scope == Runtime && len(next) == 0:
		s.Timed = nil
	case e.scope == Runtime:
		s.Timed = s.addTimed(next)
	}
	return nil
}

// withoutTwins is a list of entries without those that stand in it before.
func withoutTwins(s *IPSet, list []string) []string {
	if len(list) == 0 {
		return nil
	}
	if s.apart(len(list), func(i int) string { return list[i] }) {
		return list
	}
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(text string) bool {
		twin := seen[text]
		seen[text] = true
		return twin
	})
}

// add starts the time of an entry of a set with a timeout in a running daemon.
func (entries) add(e env, s *IPSet, args []string) error {
	if err := arguments(args, 1, 1); err != nil {
		return err
	}
	if err := expires(e, s); err != nil {
		if e.scope != Runtime {
			return err
		}
		normal, err := NormalEntry(s, args[0])
		if err == nil {
			s.Timed = s.addTimed([]string{normal})
		}
		return err
	}
	next, err := s.AddEntry(args[0])
	if err != nil {
		if code, _ := CodeOf(err); code == AlreadyEnabled {
			return e.state(AlreadyEnabled, kept(s, args[0]), 1, "already is in")
		}
		return err
	}
	s.Entries = next.Entries
	return nil
}

// kept is the text by which an entry is kept; one that is not valid stays as it is.
func kept(s *IPSet, text string) string {
	if normal, err := NormalEntry(s, text); err == nil {
		return normal
	}
	return text
}

func (entries) remove(e env, s *IPSet, args []string) error {
	if err := arguments(args, 1, 1); err != nil {
		return err
	}
	if err := expires(e, s); err != nil && e.scope != Runtime {
		return err
	}
	text := kept(s, args[0])
	if s.hasTimed(text) {
		s.Timed = s.withoutTimed([]string{text})
		return nil
	}
	i := slices.Index(s.Entries, text)
	if i < 0 {
		return e.missing(text, 1)
	}
	s.Entries = dropped(s.Entries, i)
	return nil
}

func (entries) has(e env, s *IPSet, args []string) (bool, error) {
	if err := arguments(args, 1, 1); err != nil {
		return false, err
	}
	return slices.Contains(s.Entries, kept(s, args[0])), expires(e, s)
}

func (i entries) difference(old, next *IPSet) (removed, added [][]string) {
	a, b := old.Entries, next.Entries
	same := commonPrefix(a, b)
	a, b = a[same:], b[same:]
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return listDifference(i.get(&IPSet{Entries: a}).([][]string), i.get(&IPSet{Entries: b}).([][]string))
}

// commonPrefix is how many items two lists begin with in common.
func commonPrefix(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// checkType tells whether an ipset may have a type, with code INVALID_TYPE.
func checkType(_ *IPSet, name string) error {
	if _, ok := entryKinds[name]; !ok {
		return refuse(InvalidType, "cannot use type %s: there is no such type%s", name, hint(name, IPSetTypes)).
			worded("'%s' is not valid ipset type", name)
	}
	return nil
}

// checkOption is CheckIPSetOption with the code that firewalld has for an option that does not exist, outside of files.
func checkOption(s *IPSet, name, value string) error {
	err := CheckIPSetOption(s.Type, name, value)
	if err == nil {
		return nil
	}
	p := problemOf(err, InvalidOption)
	switch {
	case p.Code != InvalidOption:
		return p
	case slices.Contains(IPSetOptions, name) && value != "": // another type has it
		return p
	case slices.Contains(IPSetOptions, name):
		return refuse(InvalidValue, "%s", p.Msg)
	}
	return refuse(grammar.InvalidIPSet, "%s", p.Msg).worded("ipset invalid option '%s'", name)
}

// checkIPSet checks what must go together: a set keeps its entries only when they still fit its type and options.
func checkIPSet(e env, s *IPSet) error {
	if err := checkType(s, s.Type); err != nil {
		return err
	}
	if s.Expires() && len(s.Entries) > 0 {
		return expires(e, s)
	}
	for _, name := range Names(s.Options) {
		if err := checkOption(s, name, s.Options[name]); err != nil {
			return err
		}
	}
	for _, text := range s.Entries {
		if _, _, ok := s.plainEntry(text); ok {
			continue
		}
		if _, err := ParseEntry(s, text); err != nil {
			return err
		}
	}
	return nil
}

// destinations are the IP versions that have an ICMP type. None means both.
type destinations struct{ list[ICMPType, string] }

func newDestinations() destinations {
	return destinations{names(func(t *ICMPType) *[]string { return &t.Destinations }, func(_ env, family string) (string, error) {
		if !slices.Contains(families, family) {
			return "", refuse(grammar.InvalidDestination, "cannot use destination %q: it is ipv4 or ipv6%s", family, hint(family, families)).
				worded("'%s' not from {'ipv4'|'ipv6'}", family)
		}
		return family, nil
	})}
}

func (d destinations) set(e env, t *ICMPType, value any) error {
	if err := d.list.set(e, t, value); err != nil {
		return err
	}
	t.Destinations = sorted(t.Destinations)
	return nil
}

// sorted is a list in order; an empty one is nil.
func sorted(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(list))
}

func (d destinations) add(e env, t *ICMPType, args []string) error {
	if both(t, args) {
		return e.already(args[0], 1)
	}
	if err := d.list.add(e, t, args); err != nil {
		return err
	}
	t.Destinations = sorted(t.Destinations)
	return nil
}

// both tells whether a type has a valid family because it has both.
func both(t *ICMPType, args []string) bool {
	return len(t.Destinations) == 0 && len(args) == 1 && slices.Contains(families, args[0])
}

func (d destinations) remove(e env, t *ICMPType, args []string) error {
	if both(t, args) {
		t.Destinations = families
	}
	return d.list.remove(e, t, args)
}

func (d destinations) has(e env, t *ICMPType, args []string) (bool, error) {
	if both(t, args) {
		return true, nil
	}
	return d.list.has(e, t, args)
}
