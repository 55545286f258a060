package bus

import (
	"path/filepath"

	"richwall/internal/daemon"
	"richwall/zones"
)

// newObjectIface makes the interface of a kind of permanent object from the kind's settings.
func newObjectIface(k *kind) *iface {
	i := &iface{
		name: "config." + k.name, methods: k.wholeMethods(),
		signals: []signal{sig("Updated", "name:s"), sig("Removed", "name:s"), sig("Renamed", "name:s")},
	}
	for _, f := range k.fields {
		if f.noun != "" {
			i.methods = append(i.methods, f.methods()...)
		}
	}
	file := func(name, sig string, of func(m *zones.Meta) any) property {
		return property{name: name, sig: sig, get: func(s daemon.Snapshot, t target) any {
			m := t.kind.objects.meta(s.Permanent, t.name)
			if m == nil {
				m = &zones.Meta{} // removed since the call was found to be for it
			}
			return of(m)
		}}
	}
	i.properties = []property{
		file("name", "s", func(m *zones.Meta) any { return m.Name }),
		file("filename", "s", func(m *zones.Meta) any { return filepath.Base(m.Name) + ".xml" }),
		file("path", "s", func(m *zones.Meta) any {
			if m.Origin.Path == "" {
				return ""
			}
			return filepath.Dir(m.Origin.Path)
		}),
		file("default", "b", func(m *zones.Meta) any { return !m.Origin.Shadows }),
		file("builtin", "b", func(m *zones.Meta) any { return m.Origin.Builtin }),
	}
	return i
}

// object is the permanent object that a call is for.
func (c *call) object() zones.Object { return c.target.kind.object(c.target.name) }

func (c *call) settings() (zones.Settings, error) {
	return zones.Get(c.snapshot().Permanent, zones.Permanent, c.object())
}

// edit is a method that makes an edit of the permanent object.
func edit(name, in string, make func(c *call) (zones.Edit, error)) method {
	return def(name, in, "", actConfig, func(c *call) (any, error) {
		edit, err := make(c)
		if err != nil {
			return nil, err
		}
		return nil, c.changePermanent(edit)
	})
}

// read is a method that answers with something of the permanent object's settings.
func read(name, in, out string, value func(c *call, s zones.Settings) (any, error)) method {
	return def(name, in, out, actConfig, func(c *call) (any, error) {
		settings, err := c.settings()
		if err != nil {
			return nil, err
		}
		return value(c, settings)
	})
}

// wholeMethods are the methods for an object as a whole.
func (k *kind) wholeMethods() []method {
	var methods []method
	version := ""
	if k.tuple != nil {
		methods = append(methods,
			read("getSettings", "", k.tupleSig(), func(_ *call, s zones.Settings) (any, error) { return k.toTuple(s), nil }),
			edit("update", "settings:"+k.tupleSig(), func(c *call) (zones.Edit, error) {
				return zones.Update(zones.Permanent, c.object(), k.fromTuple(c.args[0].([]any))), nil
			}))
		version = "2"
	}
	if k.dict {
		methods = append(methods,
			read("getSettings"+version, "", "a{sv}", func(_ *call, s zones.Settings) (any, error) { return k.toDict(s), nil }),
			edit("update"+version, "settings:a{sv}", func(c *call) (zones.Edit, error) {
				settings, err := k.fromDict(c.args[0].(dict))
				return zones.Update(zones.Permanent, c.object(), settings), err
			}))
	}
	return append(methods,
		def("loadDefaults", "", "", actConfig, func(c *call) (any, error) {
			shipped, err := c.server.shipped()
			if err != nil {
				return nil, err
			}
			return nil, c.changePermanent(zones.LoadDefaults(c.object(), shipped))
		}),
		edit("remove", "", func(c *call) (zones.Edit, error) { return zones.Delete(c.object()), nil }),
		def("rename", "name:s", "", actConfig, func(c *call) (any, error) {
			return nil, c.server.paths.rename(c.target, c.str(0), func() error {
				return c.changePermanent(zones.Rename(c.object(), c.str(0)))
			})
		}))
}

// methods are the methods for one of the settings.
func (f field) methods() []method {
	names := f.noun
	if f.plural != "" {
		names = f.plural
	}
	methods := []method{
		read("get"+names, "", f.sig, func(_ *call, s zones.Settings) (any, error) { return fromSetting(f.sig, s[f.key]), nil }),
		edit("set"+names, f.value+":"+f.sig, func(c *call) (zones.Edit, error) {
			return f.replacement(c.object(), c.args[0]), nil
		}),
	}
	switch {
	case f.query:
		methods = append(methods, read("query"+f.noun, f.value+":s", "b", func(c *call, s zones.Settings) (any, error) {
			return s[f.key] == c.args[0], nil
		}))
	case f.sig == "b" || f.item != "":
		methods = append(methods, f.itemMethods()...)
	}
	if f.key == zones.KeyDestination && f.sig == "a{ss}" {
		methods = append(methods, read("getDestination", "family:s", "s", getDestination))
	}
	return methods
}

// replacement sets a setting. One that can be asked for by its value is refused with code ALREADY_ENABLED if it has that value.
func (f field) replacement(o zones.Object, value any) zones.Edit {
	update := zones.Update(zones.Permanent, o, zones.Settings{f.key: f.setting(value)})
	if !f.query {
		return update
	}
	return func(c *zones.Config) (*zones.Config, error) {
		if settings, err := zones.Get(c, zones.Permanent, o); err == nil && settings[f.key] == value {
			return nil, refuse(zones.AlreadyEnabled, "'%s'", value)
		}
		return update(c)
	}
}

// itemMethods add and remove an item of a setting, and ask for it. A switch is an item without parts.
func (f field) itemMethods() []method {
	adder, removed := "add", f.item
	if f.adder != "" {
		adder = f.adder
	}
	if f.item1 != "" {
		removed = f.item1
	}
	item := func(c *call) zones.Item { return zones.Item{Key: f.key, Args: flatten(c.args)} }
	return []method{
		edit(adder+f.noun, f.item, func(c *call) (zones.Edit, error) { return f.addition(c.object(), item(c)), nil }),
		edit("remove"+f.noun, removed, func(c *call) (zones.Edit, error) { return zones.Remove(zones.Permanent, c.object(), item(c)), nil }),
		def("query"+f.noun, f.item, "b", actConfig, func(c *call) (any, error) {
			return zones.Has(c.snapshot().Permanent, zones.Permanent, c.object(), item(c))
		}),
	}
}

// addition is the edit that adds an item to a setting.
func (f field) addition(o zones.Object, item zones.Item) zones.Edit {
	add := zones.Add(zones.Permanent, o, item)
	return func(c *zones.Config) (*zones.Config, error) {
		next, err := add(c)
		if err == nil || !f.again && !f.only {
			return next, err
		}
		if code, _ := zones.CodeOf(err); code != zones.AlreadyEnabled {
			return nil, err
		}
		if f.again {
			return c, nil
		}
		settings, found := zones.Get(c, zones.Permanent, o)
		if list, _ := settings[f.key].([][]string); found != nil || len(list) > 0 {
			return nil, err
		}
		return zones.Update(zones.Permanent, o, zones.Settings{f.key: [][]string{item.Args}})(c)
	}
}

// getDestination is a service's destination of one IP version.
func getDestination(c *call, s zones.Settings) (any, error) {
	address, ok := fromSetting("a{ss}", s[zones.KeyDestination]).(map[string]string)[c.str(0)]
	if !ok {
		return nil, refuse(zones.NotEnabled, "%s", c.str(0))
	}
	return address, nil
}
