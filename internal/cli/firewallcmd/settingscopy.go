package firewallcmd

import (
	"maps"
	"slices"
	"strings"

	"richwall/zones"
)

// settingsCopy is the settings of an object, to be changed here and saved as a whole.
type settingsCopy struct {
	kind     *kind
	settings settings
	changed  settings // the fields to save
	save     func(changed settings) error
}

func (c *settingsCopy) set(key string, value any) {
	if c.changed == nil {
		c.changed = settings{}
	}
	c.settings[key], c.changed[key] = value, value
}

// store saves what was changed. firewalld checks the whole object then, so it is asked even if nothing was.
func (c *settingsCopy) store() error {
	if c.changed == nil {
		c.changed = settings{}
	}
	return c.save(c.changed)
}

func already(shown string) error { return fail("ALREADY_ENABLED", "%s", shown) }
func missing(shown string) error { return fail("NOT_ENABLED", "%s", shown) }

// shown is an item as warnings show it: parts with colons between, in quotes when there are several.
func shown(f *field, value string) string {
	switch f.shape {
	case ports:
		port, protocol := splitPort(value)
		return "'" + port + ":" + protocol + "'"
	case forwards:
		port, protocol, toPort, toAddr := splitForward(value)
		return "'" + strings.Join([]string{port, protocol, toPort, toAddr}, ":") + "'"
	case flag:
		return f.label
	case dict:
		return "'" + value + "'"
	case text, integer, words:
	}
	return value
}

func (c *settingsCopy) add(f *field, value string) error {
	if f.shape == dict {
		return c.addDestination(value)
	}
	if f.shape == flag {
		return c.switchTo(f, true)
	}
	value, err := c.normal(f, value)
	if err != nil {
		return err
	}
	if there, err := c.query(f, value); err != nil || there {
		if err == nil {
			err = already(shown(f, value))
		}
		return err
	}
	next := append(slices.Clone(c.items(f)), value)
	if f.key == "entries" {
		set, err := c.ipset().AddEntry(value)
		if err != nil {
			return err
		}
		next = set.Entries
	}
	c.set(f.key, next)
	return nil
}

func (c *settingsCopy) remove(f *field, value string) error {
	if f.shape == dict {
		return c.removeDestination(value)
	}
	if f.shape == flag {
		return c.switchTo(f, false)
	}
	value, err := c.normal(f, value)
	if err != nil {
		return err
	}
	if there, err := c.query(f, value); err != nil || !there {
		if err == nil {
			err = missing(shown(f, value))
		}
		return err
	}
	if c.ranged(f) {
		return c.divide(f, value)
	}
	c.set(f.key, slices.DeleteFunc(slices.Clone(c.items(f)), func(item string) bool { return item == value }))
	return nil
}

func (c *settingsCopy) query(f *field, value string) (bool, error) {
	if f.shape == flag {
		return c.settings.flag(f.key), nil
	}
	if f.shape == dict {
		family, address, err := readDestination(value)
		return err == nil && c.settings.dict(f.key)[family] == address, err
	}
	value, err := c.normal(f, value)
	if err != nil {
		return false, err
	}
	if c.ranged(f) {
		policy, err := c.onlyPorts(f)
		if err != nil {
			return false, err
		}
		return zones.Has(policy, zones.Command, objectOf(c.kind, ""), item(f, value))
	}
	return slices.Contains(c.items(f), value), nil
}

// ranged says whether a field is ports of which those that overlap are one range.
func (c *settingsCopy) ranged(f *field) bool { return f.shape == ports && c.kind.name == "policy" }

// onlyPorts is a configuration with nothing but the ports in a field of a policy, which has no name.
func (c *settingsCopy) onlyPorts(f *field) (*zones.Config, error) {
	var empty zones.Config
	return zones.Update(zones.Command, objectOf(c.kind, ""), toZones(c.kind, settings{f.key: c.items(f)}))(empty.WithPolicy(&zones.Policy{}))
}

// divide takes ports out of the range that they are in.
func (c *settingsCopy) divide(f *field, value string) error {
	policy, err := c.onlyPorts(f)
	if err != nil {
		return err
	}
	if policy, err = zones.Remove(zones.Command, objectOf(c.kind, ""), item(f, value))(policy); err != nil {
		return err
	}
	left, err := zones.Get(policy, zones.Command, objectOf(c.kind, ""))
	if err != nil {
		return err
	}
	c.set(f.key, fromZones(c.kind, left)[f.key])
	return nil
}

func (c *settingsCopy) list(f *field) ([]string, error) { return c.items(f), nil }

// items are the items of a field. An ICMP type without IP version is for both.
func (c *settingsCopy) items(f *field) []string {
	list := c.settings.list(f.key)
	switch {
	case f.shape == dict:
		return pairs(c.settings.dict(f.key), ":")
	case f.key == "destinations" && len(list) == 0:
		return []string{"ipv4", "ipv6"}
	}
	return list
}

// switchTo turns a flag on or off. forward and disable are set without asking how they were.
func (c *settingsCopy) switchTo(f *field, on bool) error {
	if c.settings.flag(f.key) == on && f.method != "" {
		if on {
			return already(shown(f, ""))
		}
		return missing(shown(f, ""))
	}
	c.set(f.key, on)
	return nil
}

func (c *settingsCopy) addDestination(value string) error {
	family, address, err := readDestination(value)
	if err != nil {
		return err
	}
	if c.settings.dict("destination")[family] == address {
		return already("'" + value + "'")
	}
	next := maps.Clone(c.settings.dict("destination"))
	if next == nil {
		next = map[string]string{}
	}
	next[family] = address
	c.set("destination", next)
	return nil
}

func (c *settingsCopy) removeDestination(family string) error {
	family, _, _ = strings.Cut(family, ":")
	if err := checkFamily(family); err != nil {
		return err
	}
	if _, ok := c.settings.dict("destination")[family]; !ok {
		return &firm{missing("'" + family + "'")}
	}
	next := maps.Clone(c.settings.dict("destination"))
	delete(next, family)
	c.set("destination", next)
	return nil
}

// normal is a value as the settings would hold it.
func (c *settingsCopy) normal(f *field, value string) (string, error) {
	switch f.key {
	case "rich_rules":
		return canonicalRule(value)
	case "entries":
		set := c.ipset()
		if set.Expires() {
			return "", fail("IPSET_WITH_TIMEOUT", "")
		}
		if entry, err := zones.NormalEntry(set, value); err == nil {
			return entry, nil // what is wrong with another one, the firewall says
		}
	case "destinations":
		return value, checkFamily(value)
	}
	return value, nil
}

func (c *settingsCopy) ipset() *zones.IPSet {
	return &zones.IPSet{
		Type: c.settings.text("type"), Options: c.settings.dict("options"), Entries: c.settings.list("entries"),
	}
}

// pairs are the settings of a map as key, separator and value, sorted. A value that is empty leaves the separator out.
func pairs(m map[string]string, separator string) []string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if m[key] == "" {
			list = append(list, key)
		} else {
			list = append(list, key+separator+m[key])
		}
	}
	return list
}
