package zones

import (
	"slices"
	"strings"

	"richwall/grammar"
)

// bindings are the interfaces or sources of a zone. Each belongs to one zone.
type bindings struct {
	list[Zone, string]
	words bindingWords
}

// bindingWords is how messages speak of a binding.
type bindingWords struct {
	unknown grammar.Code // when no zone has it
	taken   string       // when another zone has it; %[1]s is the binding, %[2]s the zone
	invalid grammar.Code // when another zone has it, of firewall-offline-cmd
	what    string       // in messages
}

var (
	interfaceWords = bindingWords{UnknownInterface, "'%[1]s' already bound to '%[2]s'", InvalidInterface, "interface"}
	sourceWords    = bindingWords{UnknownSource, "'%[1]s' already bound to a zone", grammar.InvalidAddr, "source"}
)

// sources are compared without the case of MAC addresses, which a running daemon writes in capitals.
func sources() list[Zone, string] {
	l := names(func(z *Zone) *[]string { return &z.Sources }, parseSource)
	l.same = sameSource
	return l
}

func sameSource(a, b string) bool {
	if a == b {
		return true
	}
	_, err := grammar.ParseMAC(a)
	return err == nil && strings.EqualFold(a, b)
}

// owner is the zone that has a binding, "" when none has.
func (b bindings) owner(c *Config, text string) string {
	zones := zoneFiles(c)
	for _, name := range Names(zones) {
		if slices.ContainsFunc(*b.slice(zones[name]), func(other string) bool { return b.same(text, other) }) {
			return name
		}
	}
	return ""
}

func (b bindings) add(e env, z *Zone, args []string) error {
	text, err := b.parse(e, z, args)
	if err != nil {
		return err
	}
	switch owner := b.owner(e.c, text); {
	case owner == z.Name && e.scope == Runtime:
		return refuse(ZoneAlreadySet, "'%s' already bound to '%s'", text, owner)
	case owner == "" || folderOf(owner) == folderOf(z.Name):
		return b.list.add(e, z, args)
	case e.scope == Runtime:
		return b.conflict(text, owner, z.Name, "").worded(b.words.taken, text, owner)
	case e.scope == Permanent:
		return b.conflict(text, owner, z.Name, "--permanent ").worded("%s", text)
	default:
		return refuse(b.words.invalid, "cannot bind %s %s to zone %s: it is bound to zone %s", b.words.what, text, z.Name, owner).
			worded("%s '%s' already bound to zone '%s'", b.words.what, text, owner).within(e.object)
	}
}

// set refuses what a zone would take from another one, with the code of add. Of a new zone the check of the whole configuration finds
// that, with a code of its own, as in firewalld.
func (b bindings) set(e env, z *Zone, value any) error {
	had := *b.slice(z)
	if err := b.list.set(e, z, value); err != nil || e.scope != Permanent || zoneFiles(e.c)[z.Name] == nil {
		return err
	}
	for _, text := range *b.slice(z) {
		owner := b.owner(e.c, text)
		if owner != "" && folderOf(owner) != folderOf(z.Name) && !slices.Contains(had, text) {
			return b.conflict(text, owner, z.Name, "--permanent ").worded("%s", text)
		}
	}
	return nil
}

// conflict is that a zone cannot have what is bound to another one, and the command that moves it. how is the option for the permanent
// configuration, with a blank; "" for the runtime one.
func (b bindings) conflict(text, owner, name, how string) *Problem {
	return refuse(ZoneConflict, "%s %s is bound to zone %s: firewall-cmd %s--zone=%s --change-%s=%s moves it",
		b.words.what, text, owner, how, folderOf(name), b.words.what, text)
}

// folderOf is the zone that a zone's file belongs to.
func folderOf(name string) string {
	folder, _, _ := strings.Cut(name, "/")
	return folder
}

func (b bindings) remove(e env, z *Zone, args []string) error {
	if e.scope != Runtime {
		return b.list.remove(e, z, args)
	}
	text, err := b.parse(e, z, args)
	if err != nil {
		return err
	}
	switch owner := b.owner(e.c, text); owner {
	case "":
		return refuse(b.words.unknown, "'%s' is not in any zone", text)
	case z.Name:
		return b.list.remove(e, z, args)
	default:
		return refuse(ZoneConflict, "cannot remove %s from zone %s: it is bound to zone %s", text, z.Name, owner)
	}
}

// boundBy are the bindings of a key; ok is false for any other key.
func boundBy(key Key) (b bindings, ok bool) {
	switch key {
	case KeyInterface, KeySource:
		return zoneKind.setting(key).(bindings), true
	}
	return bindings{}, false
}

// ZoneOf is the zone that an interface or source is bound to, "" when it is bound to none. The key is KeyInterface or
// KeySource; the error says what is wrong with the value.
func ZoneOf(c *Config, s Scope, i Item) (string, error) {
	b, ok := boundBy(i.Key)
	if !ok {
		return "", refuse(InvalidSetting, "cannot bind a %s to a zone: only interfaces and sources can be", i.Key)
	}
	text, err := b.parse(env{c, s, Object{Kind: KindZone}}, nil, i.Args)
	if err != nil {
		return "", unknown(env{scope: s}, err)
	}
	return b.owner(c, text), nil
}

// Rebind moves an interface or source to a zone from the one that has it, if any has. It may be there already.
func Rebind(s Scope, zone string, i Item) Edit {
	return func(c *Config) (*Config, error) {
		object := Object{KindZone, zone}
		there, err := Has(c, s, object, i)
		if err != nil || there {
			return c, err
		}
		owner, err := ZoneOf(c, s, i)
		if err != nil {
			return nil, err
		}
		next := c
		if owner != "" {
			if next, err = Remove(s, Object{KindZone, owner}, i)(c); err != nil {
				return nil, err
			}
		}
		return Add(s, object, i)(next)
	}
}
