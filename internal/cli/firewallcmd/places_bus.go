package firewallcmd

import (
	"slices"

	"github.com/godbus/dbus/v5"
)

// runtimeZone is a zone that is in effect.
type runtimeZone struct {
	daemon  *daemon
	zone    string // "" for the default zone
	timeout int32
}

// tuple is an item as the arguments of a D-Bus method.
func tuple(f *field, value string) []any {
	switch f.shape {
	case flag:
		return nil
	case ports:
		port, protocol := splitPort(value)
		return []any{port, protocol}
	case forwards:
		port, protocol, toPort, toAddr := splitForward(value)
		return []any{port, protocol, toPort, toAddr}
	case text, integer, words, dict:
	}
	return []any{value}
}

// expires says whether an item may be added for a time: what a zone is bound to may not.
func expires(f *field) bool {
	return !slices.Contains([]string{"interfaces", "sources", "icmp_block_inversion"}, f.key)
}

func (z *runtimeZone) args(f *field, value string) []any {
	return append([]any{z.zone}, tuple(f, value)...)
}

func (z *runtimeZone) add(f *field, value string) error {
	if f.method == "" {
		return z.set(f, true)
	}
	args := z.args(f, value)
	if expires(f) {
		args = append(args, z.timeout)
	}
	return z.daemon.main("zone", "add"+f.method, args)
}

func (z *runtimeZone) remove(f *field, value string) error {
	if f.method == "" {
		return z.set(f, false)
	}
	return z.daemon.main("zone", "remove"+f.method, z.args(f, value))
}

// change binds an interface or a source here, wherever it was.
func (z *runtimeZone) change(f *field, value string) error {
	return z.daemon.main("zone", "changeZoneOf"+f.method, z.args(f, value))
}

// set changes a setting that has no methods of its own.
func (z *runtimeZone) set(f *field, on bool) error {
	changed := map[string]dbus.Variant{f.key: dbus.MakeVariant(on)}
	if z.timeout > 0 {
		changed["timeout"] = dbus.MakeVariant(z.timeout)
	}
	return z.daemon.main("zone", "setZoneSettings2", []any{z.zone, changed})
}

func (z *runtimeZone) query(f *field, value string) (yes bool, err error) {
	if f.method == "" {
		found, err := z.daemon.settings(kindOf("zone"), z.zone)
		return found.flag(f.key), err
	}
	err = z.daemon.main("zone", "query"+f.method, z.args(f, value), &yes)
	return yes, err
}

func (z *runtimeZone) list(f *field) ([]string, error) {
	var answer any
	method := "get" + f.method + "s"
	if err := z.daemon.main("zone", method, []any{z.zone}, &answer); err != nil {
		return nil, err
	}
	return readList(f.shape, answer)
}

func (z *runtimeZone) store() error { return nil }

// runtimeIPSet is an ipset that is in effect.
type runtimeIPSet struct {
	daemon *daemon
	name   string
}

func (i *runtimeIPSet) add(_ *field, value string) error {
	return i.daemon.main("ipset", "addEntry", []any{i.name, value})
}

func (i *runtimeIPSet) remove(_ *field, value string) error {
	return i.daemon.main("ipset", "removeEntry", []any{i.name, value})
}

func (i *runtimeIPSet) query(_ *field, value string) (yes bool, err error) {
	err = i.daemon.main("ipset", "queryEntry", []any{i.name, value}, &yes)
	return yes, err
}

func (i *runtimeIPSet) list(*field) (entries []string, err error) {
	err = i.daemon.main("ipset", "getEntries", []any{i.name}, &entries)
	return entries, err
}

func (i *runtimeIPSet) store() error { return nil }

// permanentZone is a zone of the daemon's permanent configuration.
type permanentZone struct {
	daemon *daemon
	path   dbus.ObjectPath
	name   string
}

func (z *permanentZone) call(method string, args []any, results ...any) error {
	return z.daemon.call(z.path, "config.zone", method, args, results...)
}

func (z *permanentZone) add(f *field, value string) error {
	if f.method == "" {
		return z.update(settings{f.key: true})
	}
	return z.call("add"+f.method, tuple(f, value))
}

func (z *permanentZone) remove(f *field, value string) error {
	if f.method == "" {
		return z.update(settings{f.key: false})
	}
	return z.call("remove"+f.method, tuple(f, value))
}

// change binds an interface or a source here, wherever it was.
func (z *permanentZone) change(f *field, value string) error {
	var owner string
	if err := z.daemon.config("getZoneOf"+f.method, []any{value}, &owner); err != nil {
		return err
	}
	if owner == z.name {
		return nil
	}
	if owner != "" {
		path, err := z.daemon.object(kindOf("zone"), owner)
		if err != nil {
			return err
		}
		if err := z.daemon.call(path, "config.zone", "remove"+f.method, []any{value}); err != nil {
			return err
		}
	}
	return z.add(f, value)
}

func (z *permanentZone) update(changed settings) error {
	return z.call("update2", []any{toBus(kindOf("zone"), changed)})
}

func (z *permanentZone) query(f *field, value string) (yes bool, err error) {
	if f.method == "" {
		var found map[string]dbus.Variant
		err = z.call("getSettings2", nil, &found)
		return fromBus(kindOf("zone"), found).flag(f.key), err
	}
	err = z.call("query"+f.method, tuple(f, value), &yes)
	return yes, err
}

func (z *permanentZone) list(f *field) ([]string, error) {
	var answer any
	if err := z.call("get"+f.method+"s", nil, &answer); err != nil {
		return nil, err
	}
	return readList(f.shape, answer)
}

func (z *permanentZone) store() error { return nil }
