package firewallcmd

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"richwall/internal/printable"
	"richwall/zones"
)

// itemKind is the kind of object that the option itself is about.
func (s *session) itemKind() *kind { return kindOf(s.option.item) }

// namesOf are the names of all objects of a kind, sorted.
func (s *session) namesOf(k *kind) ([]string, error) {
	list := s.store.names
	if !s.permanent {
		list = s.daemon.names
	}
	names, err := list(k)
	names = append([]string{}, names...)
	slices.Sort(names)
	return names, err
}

func (s *session) listNames() error {
	names, err := s.namesOf(s.itemKind())
	if err != nil {
		return err
	}
	return s.show(names, joined(names, " "))
}

// describe makes the listing of an object.
func (s *session) describe(k *kind, name string) (*listing, error) {
	found, err := s.settingsOf(k, name)
	if err != nil {
		return nil, err
	}
	l := &listing{kind: k, name: name, settings: found}
	switch k.name {
	case "zone":
		l.marks, err = s.zoneMarks(name)
	case "policy":
		l.marks, err = s.policyMarks(name, found)
	}
	return l, err
}

func (s *session) settingsOf(k *kind, name string) (settings, error) {
	if s.permanent {
		return s.store.get(k, name)
	}
	return s.daemon.settings(k, name)
}

// zoneMarks says whether a zone is the default zone, and whether it is in use; the default zone always is.
func (s *session) zoneMarks(name string) ([]string, error) {
	zone, err := s.defaultZone()
	if err != nil {
		return nil, err
	}
	var marks []string
	if name == zone {
		marks = append(marks, "default")
	}
	if s.permanent {
		return marks, nil
	}
	active, err := s.active("zone", "getActiveZones")
	if _, ok := active[name]; ok || name == zone {
		marks = append(marks, "active")
	}
	return marks, err
}

func (s *session) policyMarks(name string, found settings) ([]string, error) {
	if s.permanent {
		return nil, nil
	}
	active, err := s.active("policy", "getActivePolicies")
	switch _, ok := active[name]; {
	case ok:
		return []string{"active"}, err
	case found.flag("disable"):
		return []string{"disabled"}, err
	}
	return nil, err
}

// active are the zones or policies in use, with what is bound to them.
func (s *session) active(iface, method string) (map[string]map[string][]string, error) {
	var active map[string]map[string][]string
	err := s.daemon.main(iface, method, nil, &active)
	return active, err
}

func (s *session) showObject(k *kind, name string) error {
	l, err := s.describe(k, name)
	if err != nil {
		return err
	}
	return s.show(l.object(), l.text(s.out.verbose))
}

func (s *session) info() error { return s.showObject(s.itemKind(), s.first()) }

func (s *session) listAll() error {
	name, err := s.objectName()
	if err != nil {
		return err
	}
	return s.showObject(s.kind, name)
}

// listObjects lists all zones or policies, with an empty line between.
func (s *session) listObjects() error {
	names, err := s.namesOf(s.itemKind())
	if err != nil {
		return err
	}
	objects, texts := []map[string]any{}, []string{}
	for _, name := range names {
		l, err := s.describe(s.itemKind(), name)
		if err != nil {
			return err
		}
		objects = append(objects, l.object())
		texts = append(texts, l.text(s.out.verbose))
	}
	return s.show(objects, strings.Join(texts, "\n"))
}

// create makes an object of its name, and of the few options that say what it is.
func (s *session) create() error {
	k, all := s.itemKind(), settings{}
	switch k.name {
	case "zone":
		all["forward"] = false // shipped zones forward; a new one does what it is told
	case "ipset":
		if s.value("type") == "" {
			return misuse("No type specified.", "--new-ipset needs --type, such as --type=hash:net")
		}
		options, err := s.ipsetOptions()
		if err != nil {
			return err
		}
		if s.value("type") == "hash:mac" && s.value("family") != "" && s.program == online {
			return misuse("", "--family is not for the type hash:mac: MAC addresses have no IP family")
		}
		all["type"], all["options"] = s.value("type"), options
	case "helper":
		if s.value("module") == "" {
			return misuse("No module specified.", "--new-helper needs --module, such as --module=nf_conntrack_ftp")
		}
		if family := s.value("family"); family != "" {
			if err := checkFamily(family); err != nil {
				return err
			}
		}
		if err := zones.CheckModule(s.value("module")); err != nil {
			return err
		}
		all["module"], all["family"] = s.value("module"), s.value("family")
	}
	return s.once(func() error { return s.store.create(k, s.first(), all) })
}

// ipsetOptions are the options of a new ipset; --family is one of them.
func (s *session) ipsetOptions() (map[string]string, error) {
	options := map[string]string{}
	for _, word := range s.given[s.lookup("option")] {
		key, value, err := splitOption(word)
		if err != nil {
			return nil, err
		}
		options[key] = value
	}
	if family := s.value("family"); family != "" {
		options["family"] = family
	}
	return options, nil
}

// createFromFile makes an object of a file.
func (s *session) createFromFile() error {
	k, path := s.itemKind(), s.first()
	name := strings.TrimSuffix(filepath.Base(path), ".xml")
	all, err := readObject(k, name, path)
	if err != nil {
		reason := err.Error()
		var problems zones.Problems
		if errors.As(err, &problems) {
			reason = oneLine(err)
		}
		s.out.complain(printable.Item(fmt.Sprintf("Failed to load %s file '%s': %s", k.name, path, reason)))
		for _, p := range errorsOf(problems).Shown() {
			s.out.hint(p.String())
		}
		if s.program == offline && codeOf(err) != unknownError {
			return exitStatus(statusOf(err))
		}
		return exitStatus(2)
	}
	if s.has("name") {
		name = s.value("name")
	}
	return s.once(func() error { return s.store.create(k, name, all) })
}

// readObject reads an object of a file.
func readObject(k *kind, name, path string) (settings, error) {
	if !strings.HasSuffix(path, ".xml") {
		return nil, fail("INVALID_NAME", "its name must end in .xml")
	}
	data, err := zones.ReadFile(path)
	if err != nil {
		var inner *fs.PathError
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, err
	}
	return parseObject(k, name, data, path)
}

func (s *session) delete() error {
	return s.once(func() error { return s.store.delete(s.itemKind(), s.first()) })
}

func (s *session) loadDefaults() error {
	return s.once(func() error { return s.store.loadDefaults(s.itemKind(), s.first()) })
}

// path prints the file of an object. What is built in has none, and firewalld has a file for each.
func (s *session) path() error {
	path, err := s.store.path(s.itemKind(), s.first())
	if err != nil {
		return err
	}
	if path == "" {
		path = "(built in)"
		folder := cmp.Or(s.value("system-config"), systemConfig) + "/" + s.itemKind().plural
		if s.daemon != nil {
			folder += ", or in the folder that firewalld was started with"
		}
		defer s.out.hint(fmt.Sprintf("%s %s has no file until it is changed: then it is in %s", s.option.item, s.first(), folder))
	}
	return s.show(path, path)
}

// zoneOf prints the zone that an interface or a source is bound to. Of several, each has a line of standard error.
func (s *session) zoneOf() error {
	f := kindOf("zone").field(s.option.item)
	owner := func(value string) (string, error) {
		if s.permanent {
			return s.store.zoneOf(f, value)
		}
		var zone string
		err := s.daemon.main("zone", "getZoneOf"+f.method, []any{value}, &zone)
		return zone, err
	}
	found := map[string]string{}
	err := s.sequence(s.values, func(value string) (err error) {
		found[value], err = owner(value)
		return err
	})
	switch {
	case err != nil:
		return err
	case s.has("json"):
		return s.show(found, "")
	case len(s.values) == 1 && found[s.first()] == "":
		s.out.complain("no zone")
		return exitStatus(2)
	case len(s.values) == 1:
		s.out.print(found[s.first()])
		return nil
	}
	for _, value := range s.values {
		zone := found[value]
		if zone == "" {
			zone = "no zone"
		}
		s.out.complain(value + ": " + zone)
	}
	s.out.print("success")
	return nil
}

// activeZones prints the zones in use, with what is bound to them. The default zone is, even when nothing is bound to it.
func (s *session) activeZones() error {
	active, err := s.active("zone", "getActiveZones")
	if err != nil {
		return err
	}
	zone, err := s.defaultZone()
	if err != nil {
		return err
	}
	bound := slices.DeleteFunc(slices.Sorted(maps.Keys(active)), func(name string) bool {
		return len(active[name]["interfaces"])+len(active[name]["sources"]) == 0
	})
	var lines []string
	for _, name := range bound {
		lines = append(lines, printable.Item(name)+mark(name == zone))
		for _, key := range []string{"interfaces", "sources"} {
			if len(active[name][key]) > 0 {
				lines = append(lines, "  "+key+": "+joined(active[name][key], " "))
			}
		}
	}
	if !slices.Contains(bound, zone) {
		lines = append(lines, printable.Item(zone)+mark(true))
	}
	return s.show(active, strings.Join(lines, "\n"))
}

func mark(isDefault bool) string {
	if isDefault {
		return " (default)"
	}
	return ""
}

func (s *session) activePolicies() error {
	active, err := s.active("policy", "getActivePolicies")
	if err != nil {
		return err
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(active)) {
		lines = append(lines, printable.Item(name),
			"  ingress-zones: "+joined(active[name]["ingress_zones"], " "),
			"  egress-zones: "+joined(active[name]["egress_zones"], " "))
	}
	return s.show(active, strings.Join(lines, "\n"))
}
