package bus

import (
	"strings"

	"richwall/internal/daemon"
)

// The tables of interfaces say everything about the surface: the introspection is printed from them, calls are decoded,
// authorised and answered by them.

// base is the prefix of all names, and root the path of the main object.
const (
	base = "org.fedoraproject.FirewallD1"
	root = "/org/fedoraproject/FirewallD1"
)

// action is the polkit action that a call needs, without the prefix.
type action string

// The actions, as in the policy file that is installed with the daemon.
const (
	actAll          action = "all"
	actInfo         action = "info"
	actConfig       action = "config"
	actConfigInfo   action = "config.info"
	actDirect       action = "direct"
	actDirectInfo   action = "direct.info"
	actPolicies     action = "policies"
	actPoliciesInfo action = "policies.info"
)

// arg is an argument of a method or signal.
type arg struct{ name, sig string }

// method is a method of an interface.
type method struct {
	name   string
	in     []arg
	out    string // signature of what it returns; "" for nothing
	action action
	call   func(*call) (any, error)
	urgent bool // whoever calls it waits neither for other calls nor for the start
}

// signal is a signal of an interface.
type signal struct {
	name string
	args []arg
}

// property is a property of an interface.
type property struct {
	name, sig string
	get       func(daemon.Snapshot, target) any // a plain value
	set       func(*call, any) error            // nil: it can only be read
	fixed     bool                              // with set == nil: writable by the introspection, though nothing comes of it
}

// iface is an interface.
type iface struct {
	name       string // without the prefix and its dot; "" is the main interface
	deprecated bool
	methods    []method
	signals    []signal
	properties []property
}

func (i *iface) fullName() string { return dotted(base, i.name) }

func dotted(prefix, name string) string {
	if name == "" {
		return prefix
	}
	return prefix + "." + name
}

// target is the object that a call is for.
type target struct {
	kind *kind  // of a permanent object; nil for the main and the config object
	name string // of the permanent object
}

// args reads a list of arguments such as "zone:s timeout:i".
func args(text string) []arg {
	var list []arg
	for _, field := range strings.Fields(text) {
		name, sig, _ := strings.Cut(field, ":")
		list = append(list, arg{name, sig})
	}
	return list
}

// def is a method: its arguments as for args, and the signature of what it returns.
func def(name, in, out string, needs action, call func(*call) (any, error)) method {
	return method{name: name, in: args(in), out: out, action: needs, call: call}
}

// atOnce is a method that is urgent.
func atOnce(m method) method {
	m.urgent = true
	return m
}

// sig is a signal.
func sig(name, in string) signal { return signal{name, args(in)} }

// methodOf finds a method.
func (i *iface) methodOf(name string) *method {
	for k := range i.methods {
		if i.methods[k].name == name {
			return &i.methods[k]
		}
	}
	return nil
}

// propertyOf finds a property.
func (i *iface) propertyOf(name string) *property {
	for k := range i.properties {
		if i.properties[k].name == name {
			return &i.properties[k]
		}
	}
	return nil
}
