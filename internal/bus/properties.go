package bus

import (
	"richwall/internal/daemon"
	"richwall/zones"
)

// properties answers a call of org.freedesktop.DBus.Properties. As in firewalld the errors about properties come with the
// names of D-Bus at the start of their message.
func (s *Server) properties(c *call, interfaces []*iface) ([]any, error) {
	if err := c.find(); err != nil {
		return nil, err
	}
	arity, ok := map[string]int{"Get": 2, "GetAll": 1, "Set": 3}[c.member]
	if !ok {
		return nil, plain(unknownMethod, "Unknown method: %s is not a valid method of interface %s", c.member, propertiesName)
	}
	args, err := c.frame.args()
	if err != nil {
		return nil, err
	}
	if len(args) != arity {
		return nil, refuse(zones.InvalidType, "%s takes %s, not %d", c.member, count(arity, "argument"), len(args))
	}
	names := make([]string, min(arity, 2))
	for i := range names {
		name, err := decode("s", args[i])
		if err != nil {
			_, reason := codeOf(err)
			return nil, refuse(zones.InvalidType, "cannot use argument %d of %s: %s", i+1, c.member, reason)
		}
		names[i] = name.(string)
	}
	i := interfaceOf(interfaces, names[0])
	if i == nil {
		return nil, propertyError(unknownInterface, "Interface '%s' does not exist", names[0])
	}
	if c.member == "GetAll" {
		return []any{encode("a{sv}", getAll(c.snapshot(), i, c.target))}, nil
	}
	p := i.propertyOf(names[1])
	if p == nil {
		return nil, propertyError(invalidArgs, "Property '%s' does not exist", names[1])
	}
	if c.member == "Get" {
		return []any{encode("v", p.value(c.snapshot(), c.target))}, nil
	}
	return nil, s.setProperty(c, i, p, args[2])
}

// propertyError is an error about a property. Clients look for the name in the message.
func propertyError(name, format string, args ...any) error {
	return plain(exception, name+": "+format, args...)
}

func interfaceOf(interfaces []*iface, name string) *iface {
	for _, i := range interfaces {
		if i.fullName() == name {
			return i
		}
	}
	return nil
}

func (p *property) value(snapshot daemon.Snapshot, t target) typed {
	return typed{p.sig, p.get(snapshot, t)}
}

func getAll(snapshot daemon.Snapshot, i *iface, t target) []entry {
	var all []entry
	for k := range i.properties {
		all = append(all, entry{i.properties[k].name, i.properties[k].value(snapshot, t)})
	}
	return all
}

// setProperty changes a property, and tells so.
func (s *Server) setProperty(c *call, i *iface, p *property, given raw) error {
	switch {
	case p.fixed:
		return nil
	case p.set == nil:
		return propertyError(propertyReadOnly, "Property '%s' is read-only", p.name)
	}
	value, err := decode(p.sig, given)
	if err != nil {
		_, reason := codeOf(err)
		return refuse(zones.InvalidType, "cannot set %s: %s", p.name, reason)
	}
	if err := p.set(c, value); err != nil {
		return err
	}
	changed := []entry{{p.name, p.value(c.snapshot(), c.target)}}
	return c.line.conn.Emit(root+"/config", propertiesName+".PropertiesChanged",
		encode("s", i.fullName()), encode("a{sv}", changed), encode("as", []string{}))
}
