package firewallcmd

import (
	"strings"

	"richwall/grammar"
	"richwall/zones"
)

// filesPlace is an object whose items are changed; store checks and writes them.
type filesPlace struct {
	files  *files
	object zones.Object
	next   *zones.Config
	mended []zones.Item // what is wrong in the object's file, and is to go
}

// item is a value of a field as package zones takes it.
func item(f *field, value string) zones.Item {
	return zones.Item{Key: keyOf[f.key], Args: splitItem(f, value)}
}

func (p *filesPlace) edit(edit zones.Edit) error {
	next, err := edit(p.next)
	if err == nil {
		p.next = next
	}
	return err
}

func (p *filesPlace) add(f *field, value string) error {
	if err := checkDestination(f, value); err != nil {
		return err
	}
	return strictly(f, p.edit(zones.Add(zones.Command, p.object, item(f, value))))
}

// strictly is an error about a field of which firewalld does not only warn that it is so already.
func strictly(f *field, err error) error {
	if err != nil && f.key == "icmp_block_inversion" {
		return &firm{err}
	}
	return err
}

func (p *filesPlace) remove(f *field, value string) error {
	if f.shape == dict || f.key == "destinations" {
		value, _, _ = strings.Cut(value, ":")
		if err := checkFamily(value); err != nil {
			return &badValue{err}
		}
	}
	if p.files.disk.Mendable(p.object, item(f, value), p.files.problems) {
		p.mended = append(p.mended, item(f, value))
		return nil
	}
	err := p.edit(zones.Remove(zones.Command, p.object, item(f, value)))
	if err != nil && f.shape == dict {
		return &badValue{&firm{err}}
	}
	return strictly(f, err)
}

// checkDestination is an error if a value for a destination is none.
func checkDestination(f *field, value string) error {
	var err error
	switch {
	case f.shape == dict:
		_, _, err = readDestination(value)
	case f.key == "destinations":
		err = checkFamily(value)
	}
	if err != nil && codeOf(err) != string(grammar.InvalidAddr) { // of an address the firewall judges
		return &badValue{err}
	}
	return err
}

func (p *filesPlace) change(f *field, value string) error {
	return p.edit(zones.Rebind(zones.Command, p.object.Name, item(f, value)))
}

func (p *filesPlace) query(f *field, value string) (bool, error) {
	if err := checkDestination(f, value); err != nil {
		return false, err
	}
	return zones.Has(p.next, zones.Command, p.object, item(f, value))
}

func (p *filesPlace) list(f *field) ([]string, error) {
	k := kindOf(string(p.object.Kind))
	found, err := zones.Get(p.next, zones.Command, p.object)
	c := &settingsCopy{kind: k, settings: fromZones(k, found)}
	return c.items(f), err
}

func (p *filesPlace) store() error {
	if len(p.mended) > 0 {
		if p.next != p.files.config {
			return fail("COMMAND_FAILED", "take out first what is wrong in the file of %s %s, and then the rest", p.object.Kind, p.object.Name)
		}
		return p.files.disk.Mend(p.object, p.mended, p.files.problems)
	}
	return p.files.apply(func(*zones.Config) (*zones.Config, error) { return p.next, nil })
}

// parseObject reads the settings of an object out of its file.
func parseObject(k *kind, name string, data []byte, path string) (settings, error) {
	c, problems := readInto(k, name, data, path)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	found, err := zones.Get(c, zones.Command, objectOf(k, name))
	return fromZones(k, found), err
}

// readInto is a configuration with nothing but an object of a file.
func readInto(k *kind, name string, data []byte, path string) (*zones.Config, zones.Problems) {
	var c zones.Config
	switch k.name {
	case "zone":
		return with(c.WithZone, zones.ReadZone, name, data, path)
	case "policy":
		return with(c.WithPolicy, zones.ReadPolicy, name, data, path)
	case "service":
		return with(c.WithService, zones.ReadService, name, data, path)
	case "ipset":
		return with(c.WithIPSet, zones.ReadIPSet, name, data, path)
	case "icmptype":
		return with(c.WithICMPType, zones.ReadICMPType, name, data, path)
	}
	return with(c.WithHelper, zones.ReadHelper, name, data, path)
}

func with[T any](put func(*T) *zones.Config, read func(string, []byte, string) (*T, zones.Problems), name string, data []byte, path string) (*zones.Config, zones.Problems) {
	object, problems := read(name, data, path)
	if problems.Err() != nil || object == nil {
		return nil, problems
	}
	return put(object), problems
}
