package firewallcmd

import (
	"slices"
	"strconv"
	"strings"

	"richwall/zones"
)

// field is the setting that the command line is about. Of an ICMP type, --query-destination and the like are about the IP
// versions that it is for.
func (s *session) field() *field {
	if s.option.item == "destination" && s.kind.name == "icmptype" {
		return s.kind.field("destinations")
	}
	return s.kind.field(s.option.item)
}

// readValues checks the values of the option. Those that cannot be read are left out with a warning, as long as there is
// more than one value; none left is an error.
func (s *session) readValues(f *field) ([]string, error) {
	values := s.values
	if f.shape == flag {
		return []string{""}, nil
	}
	var read []string
	err := s.sequence(values, func(value string) error {
		item, err := checkValue(f, value)
		if s.program == offline && f.key == "rich_rules" {
			var canonical string
			if canonical, err = canonicalRule(value); s.option.do != doQuery { // which shows what was asked for as it was
				item = canonical
			}
		}
		if err != nil && s.mendable(f, value) {
			item, err = value, nil
		}
		if err != nil {
			return &badValue{err}
		}
		read = append(read, item)
		return nil
	})
	return read, err
}

// mendable tells whether a value that cannot be read is to be taken out of a file where it stands.
func (s *session) mendable(f *field, value string) bool {
	files, ok := s.store.(*files)
	if !ok || s.option.do != doRemove {
		return false
	}
	name, err := s.objectName()
	return err == nil && files.disk.Mendable(objectOf(s.kind, name), item(f, value), files.problems)
}

// edit changes the items of an object, and saves it.
func (s *session) edit(change func(p place, f *field, value string) error) error {
	f := s.field()
	values, err := s.readValues(f)
	if err != nil {
		return err
	}
	p, err := s.place()
	if err != nil {
		return err
	}
	return s.editPlace(p, values, func(value string) error {
		err := change(p, f, value)
		if err != nil && s.program == offline && slices.Contains(together, f.key) && strings.HasPrefix(codeOf(err), "INVALID_") {
			return &ofAll{err}
		}
		return err
	})
}

// together are the fields of which firewall-offline-cmd takes all values or, if one is wrong, none.
var together = []string{"interfaces", "sources", "protocols"}

// editPlace does something for each of several values, saves, and reports success.
func (s *session) editPlace(p place, values []string, do func(value string) error) error {
	if err := s.sequence(values, do); err != nil {
		return err
	}
	switch err := p.store(); {
	case err == nil:
	case s.program == online && harmless(err): // two spellings of one item
		s.out.warn(err)
	default:
		return err
	}
	s.out.print("success")
	return nil
}

func (s *session) addItems() error {
	if s.has("policy-set") {
		return s.switchSet(true)
	}
	return s.edit(func(p place, f *field, value string) error { return p.add(f, value) })
}

func (s *session) removeItems() error {
	if s.has("policy-set") {
		return s.switchSet(false)
	}
	return s.edit(func(p place, f *field, value string) error { return p.remove(f, value) })
}

// binder is a place that interfaces and sources can be moved to.
type binder interface {
	change(f *field, value string) error
}

func (s *session) changeItems() error {
	return s.edit(func(p place, f *field, value string) error { return p.(binder).change(f, value) })
}

// switchSet switches all policies of a set on or off.
func (s *session) switchSet(off bool) error {
	prefix := s.value("policy-set")
	names, err := s.namesOf(s.kind)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		s.name = name
		p, err := s.place()
		if err != nil {
			return err
		}
		if off {
			err = p.add(s.field(), "")
		} else {
			err = p.remove(s.field(), "")
		}
		if err == nil {
			err = p.store()
		}
		if err != nil {
			return err
		}
	}
	s.out.print("success")
	return nil
}

// queryItems says for each value whether it is there. An option without a value may be given twice: that asks once.
func (s *session) queryItems() error {
	f := s.field()
	several := len(s.values) > 1 && f.shape != flag
	values, err := s.readValues(f)
	if err != nil {
		return err
	}
	p, err := s.place()
	if err != nil {
		return err
	}
	label := func(value string) string { return "'" + value + "'" }
	if (s.permanent || s.kind.name != "zone") && (f.shape == ports || f.shape == forwards) {
		label = func(value string) string { return value }
	}
	return s.queries(values, several, label, func(value string) (bool, error) { return p.query(f, value) })
}

// listItems lists the items of a field.
func (s *session) listItems() error {
	f := s.field()
	p, err := s.place()
	if err != nil {
		return err
	}
	items, err := p.list(f)
	if err != nil {
		return err
	}
	items = slices.Clone(items)
	traffic := s.kind.name == "zone" || s.kind.name == "policy"
	switch {
	case f.shape == ports && traffic:
		slices.SortStableFunc(items, comparePorts)
	case f.key == "includes", traffic && slices.Contains(sorted, f.key):
		slices.Sort(items)
	}
	separator := " "
	if slices.Contains(onePerLine, f.key) {
		separator = "\n"
	}
	return s.show(append([]string{}, items...), joined(items, separator))
}

// How the items of a field are listed: in alphabetical order, one on a line.
var (
	sorted     = []string{"services", "protocols", "ingress_zones", "egress_zones"}
	onePerLine = []string{"forward_ports", "rich_rules", "entries", "destinations"}
)

// get prints a single setting.
func (s *session) get() error {
	name, err := s.objectName()
	if err != nil {
		return err
	}
	found, err := s.store.get(s.kind, name)
	if err != nil {
		return err
	}
	key := s.option.item
	if s.kind.name == "zone" && key == "priority" {
		key = "ingress_priority"
		if found.integer(key) != found.integer("egress_priority") {
			return fail("INVALID_PRIORITY", "ingress and egress priorities of zone %s differ: %d and %d; see --get-ingress-priority and --get-egress-priority",
				name, found.integer(key), found.integer("egress_priority"))
		}
	}
	if s.kind.field(key).shape == integer {
		return s.show(found.integer(key), strconv.Itoa(int(found.integer(key))))
	}
	text := found.text(key)
	if s.kind.name == "zone" && text == "%%REJECT%%" && s.program == online {
		text = "REJECT"
	}
	return s.show(text, text)
}

// set changes a single setting.
func (s *session) set() error {
	name, err := s.objectName()
	if err != nil {
		return err
	}
	value := s.first()
	key := s.option.item
	changed := settings{key: value}
	switch {
	case strings.HasSuffix(key, "priority"):
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil {
			return fail("INVALID_PRIORITY", "priority %q is no whole number from -32768 to 32767", value)
		}
		changed = settings{key: int32(n)}
		if s.kind.name == "zone" && key == "priority" {
			changed = settings{"ingress_priority": int32(n), "egress_priority": int32(n)}
		}
	case key == "target" && value == "REJECT" && s.kind.name == "zone" && s.program == online:
		changed = settings{key: "%%REJECT%%"}
	case key == "module":
		err = zones.CheckModule(value)
	case key == "family" && value != "" && checkFamily(value) != nil:
		err = fail("INVALID_IPV", "invalid argument: %s (choose from '', 'ipv4', 'ipv6')", value)
	}
	if err != nil {
		return err
	}
	return s.once(func() error { return s.store.put(s.kind, name, changed) })
}
