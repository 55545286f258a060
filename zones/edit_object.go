package zones

import (
	"cmp"
	"maps"
	"slices"
)

// Add adds an item to an object. The error has code ALREADY_ENABLED (in a running daemon ZONE_ALREADY_SET or ZONE_CONFLICT
// for an interface or source) when it is there, and the code of its kind when it is not valid. Of ports, what overlaps
// with the new one becomes a part of it.
func Add(s Scope, o Object, i Item) Edit {
	return by(o, func(k kindOps) Edit { return k.add(s, o.Name, i) })
}

// Remove removes an item from an object. The error has code NOT_ENABLED when it is not there; in a running daemon
// UNKNOWN_INTERFACE, UNKNOWN_SOURCE or ZONE_CONFLICT for an interface or source, which an empty zone name finds wherever
// it is. A port may be a part of a range, which is then divided.
func Remove(s Scope, o Object, i Item) Edit {
	return by(o, func(k kindOps) Edit {
		_, bound := boundBy(i.Key)
		if !bound || o.Kind != KindZone || o.Name != "" || s != Runtime {
			return k.remove(s, o.Name, i)
		}
		return func(c *Config) (*Config, error) {
			owner, err := ZoneOf(c, s, i)
			if err != nil {
				return nil, err
			}
			return k.remove(s, owner, i)(c)
		}
	})
}

// Has tells whether an object has an item. A port is there when one of the object's ranges holds all of it.
func Has(c *Config, s Scope, o Object, i Item) (bool, error) {
	k, err := ops(o.Kind)
	if err != nil {
		return false, err
	}
	return k.has(c, s, o.Name, i)
}

// Get is all settings of an object.
func Get(c *Config, s Scope, o Object) (Settings, error) {
	k, err := ops(o.Kind)
	if err != nil {
		return nil, err
	}
	settings, err := k.get(c, s, o.Name)
	if blocks, ok := settings[KeyICMPBlock].([][]string); ok && s == Runtime {
		// A running firewalld keeps these alone in the order of their names.
		settings[KeyICMPBlock] = slices.SortedFunc(slices.Values(blocks), slices.Compare)
	}
	return settings, err
}

// Update replaces those settings of an object that are given. The error has code INVALID_OPTION for a setting that the
// kind has not, INVALID_TYPE for a value of another type, INVALID_SETTING for one that a running daemon cannot change, and
// that of the setting for a value that is not valid. An item given twice counts once.
func Update(s Scope, o Object, settings Settings) Edit {
	return by(o, func(k kindOps) Edit { return k.update(s, o.Name, settings) })
}

// New makes an object with the defaults of its kind and the settings given. The error has code INVALID_NAME,
// NAME_CONFLICT, or one of Update.
func New(o Object, settings Settings) Edit {
	return named(o, func(k kindOps) Edit { return k.create(o.Name, settings) })
}

// Delete removes an object that is not shipped. Zones and policies no longer list a service or ICMP type that has gone; all else
// that refers to the object does not change, such as rich rules: some of them refuse something. The error has code BUILTIN_ZONE or
// the like.
func Delete(o Object) Edit { return named(o, func(k kindOps) Edit { return k.drop(o.Name) }) }

// Rename gives another name to an object that is not shipped. What refers to it does not change, save the default zone.
// The error has code BUILTIN_ZONE or the like, INVALID_NAME or NAME_CONFLICT.
func Rename(o Object, name string) Edit {
	return named(o, func(k kindOps) Edit { return k.rename(o.Name, name) })
}

// LoadDefaults replaces an object that hides a shipped one by that, which shipped has (Store.Shipped). The error has code
// NO_DEFAULTS when there is no such object, or it is the shipped one.
func LoadDefaults(o Object, shipped *Config) Edit {
	return named(o, func(k kindOps) Edit { return k.defaults(o.Name, shipped) })
}

// by is an edit of an object's kind.
func by(o Object, edit func(kindOps) Edit) Edit {
	k, err := ops(o.Kind)
	if err != nil {
		return func(*Config) (*Config, error) { return nil, err }
	}
	return edit(k)
}

// named is an edit of an object's kind, of which there can be more than one.
func named(o Object, edit func(kindOps) Edit) Edit {
	if o.Kind == KindDirect {
		return func(*Config) (*Config, error) {
			return nil, refuse(InvalidObject, "cannot make, rename or delete the direct configuration: there is always one")
		}
	}
	return by(o, edit)
}

func (k *objectKind[T]) name() Kind { return k.kind }

// setting finds a setting; nil when the kind has none of that key.
func (k *objectKind[T]) setting(key Key) setting[T] {
	for _, r := range k.settings {
		if r.key == key {
			return r.setting
		}
	}
	return nil
}

// unknownKey is the error for a setting that the kind has not.
func (k *objectKind[T]) unknownKey(key Key) error {
	known := make([]string, len(k.settings))
	for i, r := range k.settings {
		known[i] = string(r.key)
	}
	return refuse(InvalidOption, "unknown setting %s of a %s%s", key, k.title, hint(string(key), known))
}

// items finds a setting of items.
func (k *objectKind[T]) items(key Key) (items[T], error) {
	switch found := k.setting(key).(type) {
	case nil:
		return nil, k.unknownKey(key)
	case items[T]:
		return found, nil
	}
	return nil, refuse(InvalidOption, "cannot add or remove the %s of a %s: it is a single value", key, k.title)
}

// find finds an object, and says where it was looked for.
func (k *objectKind[T]) find(c *Config, s Scope, name string) (*T, env, error) {
	if k.kind == KindZone && name == "" && s != Permanent {
		name = c.Conf.DefaultZone
	}
	e := env{c, s, Object{k.kind, name}}
	objects := k.objects(c)
	o := objects[name]
	if o == nil {
		return nil, e, refuse(k.missing, "there is no %s %q%s", k.title, name, hint(name, Names(objects))).worded("%s", name)
	}
	return o, e, nil
}

// change is an edit of a copy of an object.
func (k *objectKind[T]) change(s Scope, name string, edit func(e env, o *T) error) Edit {
	return func(c *Config) (*Config, error) {
		o, e, err := k.find(c, s, name)
		if err != nil {
			return nil, err
		}
		next := *o
		if err := edit(e, &next); err != nil {
			return nil, err
		}
		changed(k.meta(&next))
		return k.with(*c, &next), nil
	}
}

// changed notes that an object is not what its file says any more.
func changed(m *Meta) {
	m.places, m.sum = nil, 0
	if m.Origin.Builtin {
		m.Origin = Origin{Shadows: true}
	}
}

// checkWhole checks what must fit together after a setting has changed.
func (k *objectKind[T]) checkWhole(e env, o *T) error {
	if k.whole == nil {
		return nil
	}
	return k.whole(e, o)
}

func (k *objectKind[T]) add(s Scope, name string, i Item) Edit {
	return k.change(s, name, func(e env, o *T) error {
		list, err := k.items(i.Key)
		if err != nil {
			return err
		}
		if err := list.add(e, o, i.Args); err != nil || i.Key == KeyEntry { // entries are many, and check themselves
			return err
		}
		return k.checkWhole(e, o)
	})
}

func (k *objectKind[T]) remove(s Scope, name string, i Item) Edit {
	return k.change(s, name, func(e env, o *T) error {
		list, err := k.items(i.Key)
		if err != nil {
			return err
		}
		if err := list.remove(e, o, i.Args); err != nil || i.Key == KeyEntry {
			return err
		}
		return k.checkWhole(e, o)
	})
}

func (k *objectKind[T]) has(c *Config, s Scope, name string, i Item) (bool, error) {
	o, e, err := k.find(c, s, name)
	if err != nil {
		return false, err
	}
	list, err := k.items(i.Key)
	if err != nil {
		return false, err
	}
	return list.has(e, o, i.Args)
}

func (k *objectKind[T]) get(c *Config, s Scope, name string) (Settings, error) {
	o, _, err := k.find(c, s, name)
	if err != nil {
		return nil, err
	}
	settings := Settings{}
	for _, r := range k.settings {
		settings[r.key] = r.get(o)
	}
	return settings, nil
}

func (k *objectKind[T]) update(s Scope, name string, settings Settings) Edit {
	return k.change(s, name, func(e env, o *T) error { return k.setAll(e, o, settings) })
}

func (k *objectKind[T]) setAll(e env, o *T, settings Settings) error {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if k.setting(key) == nil {
			return k.unknownKey(key)
		}
	}
	for _, r := range k.settings {
		if value, ok := settings[r.key]; ok {
			if err := r.set(e, o, value); err != nil {
				return err
			}
		}
	}
	return k.checkWhole(e, o)
}

// free tells what is wrong with a name for a new object.
func (k *objectKind[T]) free(c *Config, name string) error {
	if err := CheckName(string(k.kind), name); err != nil {
		return err
	}
	if err := fileName(k.kind, name); err != nil {
		return err
	}
	if k.objects(c)[name] != nil {
		return refuse(NameConflict, "cannot make %s %s: there is one of that name", k.title, name).worded("new_%s(): '%s'", k.factory(), name)
	}
	return k.namesake(c, name)
}

// factory is what firewalld calls the kind when it makes an object.
func (k *objectKind[T]) factory() string {
	if k.kind == KindPolicy {
		return "policy_object"
	}
	return string(k.kind)
}

// namesake tells when a zone would have the name of a policy, or a policy that of a zone.
func (k *objectKind[T]) namesake(c *Config, name string) error {
	other := ""
	switch {
	case k.kind == KindZone && c.Policies[name] != nil:
		other = policyKind.title
	case k.kind == KindPolicy && c.Zones[name] != nil:
		other = zoneKind.title
	default:
		return nil
	}
	return refuse(NameConflict, "cannot make %s %s: there is a %s of that name", k.title, name, other).
		worded("Can't have the same name as a %s.", other).within(Object{k.kind, name})
}

func (k *objectKind[T]) create(name string, settings Settings) Edit {
	return func(c *Config) (*Config, error) {
		if err := k.free(c, name); err != nil {
			return nil, err
		}
		o := k.fresh()
		k.meta(o).Name = name
		if err := k.setAll(env{c, Permanent, Object{k.kind, name}}, o, settings); err != nil {
			return nil, err
		}
		return k.with(*c, o), nil
	}
}

// own finds an object that is not shipped.
func (k *objectKind[T]) own(c *Config, name string) (*T, error) {
	o, _, err := k.find(c, Permanent, name)
	if err != nil {
		return nil, err
	}
	if origin := k.meta(o).Origin; origin.Builtin || origin.Shadows {
		return nil, refuse(k.builtin, "'%s' is built-in %s", name, k.title)
	}
	return o, nil
}

// drop takes out an object, and for services and ICMP types the items that name it. Without the default zone, the default is the one that
// firewalld would use in its place, and firewalld.conf says so.
func (k *objectKind[T]) drop(name string) Edit {
	return func(c *Config) (*Config, error) {
		if _, err := k.own(c, name); err != nil {
			return nil, err
		}
		if key := listedBy[k.kind]; key != "" {
			var err error
			if c, err = unlisted(c, Item{Key: key, Args: []string{name}}); err != nil {
				return nil, err
			}
		}
		next := k.without(*c, name)
		if next.Zones[next.Conf.DefaultZone] == nil {
			conf := *next.Conf
			conf.DefaultZone = usableDefault(next)
			next.Conf = &conf
		}
		return next, nil
	}
}

// listedBy are the items by which zones and policies name objects of a kind.
var listedBy = map[Kind]Key{KindService: KeyService, KindICMPType: KeyICMPBlock}

// unlisted is a permanent configuration without an item in any of its zones and policies. A policy with a zone that does not exist
// keeps it: firewalld changes no policy in which something is wrong.
func unlisted(c *Config, item Item) (*Config, error) {
	var all []Object
	for name := range zoneFiles(c) {
		all = append(all, Object{KindZone, name})
	}
	missing := func(zone string) bool { return zone != ZoneAny && zone != ZoneHost && c.Zones[zone] == nil }
	for name, p := range c.Policies {
		if !slices.ContainsFunc(slices.Concat(p.IngressZones, p.EgressZones), missing) {
			all = append(all, Object{KindPolicy, name})
		}
	}
	for _, o := range all {
		has, err := Has(c, Permanent, o, item)
		if err == nil && has {
			c, err = Remove(Permanent, o, item)(c)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (k *objectKind[T]) rename(name, other string) Edit {
	return func(c *Config) (*Config, error) {
		o, err := k.own(c, name)
		if err != nil || name == other && k.kind == KindZone { // of the other kinds there is one of that name, as in firewalld
			return c, err
		}
		if err := k.free(c, other); err != nil {
			return nil, err
		}
		next := *o
		m := k.meta(&next)
		m.Name, m.Origin, m.places, m.renamed = other, Origin{}, nil, cmp.Or(m.Origin.Path, m.renamed)
		result := k.with(*k.without(*c, name), &next)
		if k.kind == KindZone && c.Conf.DefaultZone == name {
			conf := *c.Conf
			conf.DefaultZone = other
			result.Conf = &conf
		}
		return result, nil
	}
}

func (k *objectKind[T]) defaults(name string, shipped *Config) Edit {
	return func(c *Config) (*Config, error) {
		o, _, err := k.find(c, Permanent, name)
		if err != nil {
			return nil, err
		}
		before := k.objects(shipped)[name]
		switch origin := k.meta(o).Origin; {
		case origin.Builtin:
			return nil, refuse(NoDefaults, "%s", name)
		case !origin.Shadows || before == nil:
			return nil, refuse(NoDefaults, "'%s' not a built-in %s", name, k.kind)
		}
		return k.with(*c, before), nil
	}
}

// ForRuntime is the configuration as a daemon applies and changes it: a zone that is made up of several files is one zone, and
// passthroughs that cannot be used are not there.
func (c Config) ForRuntime() *Config {
	c.ZoneParts = map[string]*Zone{}
	if slices.ContainsFunc(c.Direct.Passthroughs, unusable) {
		direct := *c.Direct
		direct.Passthroughs = slices.DeleteFunc(slices.Clone(direct.Passthroughs), unusable)
		c.Direct = &direct
	}
	return &c
}

// KeepingUnusable is the configuration with the passthroughs of another one that cannot be used, and that ForRuntime leaves out.
func (c Config) KeepingUnusable(permanent *Config) *Config {
	kept := slices.DeleteFunc(slices.Clone(permanent.Direct.Passthroughs), func(p DirectPassthrough) bool { return !unusable(p) })
	if len(kept) > 0 {
		direct := *c.Direct
		direct.Passthroughs = passOrder(append(slices.Clone(direct.Passthroughs), kept...))
		c.Direct = &direct
	}
	return &c
}

func unusable(p DirectPassthrough) bool { return p.Check() != nil }
