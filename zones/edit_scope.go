package zones

import (
	"fmt"
	"slices"
	"strings"

	"richwall/grammar"
)

// Edit makes the next configuration out of one, which it does not change. Its error has one of firewalld's codes (CodeOf).
// An edit checks what it is about; whether the whole still fits together is for Apply.
type Edit func(*Config) (*Config, error)

// Apply makes all edits, one after the other, and checks what they bring to the whole. The error is that of the first edit
// that is refused, or the Problems that are Brought; the configuration is then to stay as it is.
func Apply(c *Config, edits ...Edit) (*Config, error) {
	next := c
	for _, edit := range edits {
		var err error
		if next, err = edit(next); err != nil {
			return nil, err
		}
	}
	if next == c {
		return c, nil
	}
	next = fallBack(next)
	if err := Brought(c, next).Err(); err != nil {
		return nil, err
	}
	return next, nil
}

// Brought are the problems of severity Error that a permanent configuration has and the one before it had not. What was
// wrong already is not among them, so that a configuration can be mended step by step; and what is wrong with others
// because an object is gone that they name is not either: firewalld lets it go, and refuses the next reload. Nor are the
// ipsets of a zone's sources and the helpers of services that there are not yet. What is Leaning is among them.
func Brought(old, next *Config) Problems {
	brought, errors := Leaning(old, next), errorsOf(Check(next))
	if len(errors) == 0 {
		return brought
	}
	before := map[sameProblem]int{}
	for _, p := range errorsOf(Check(old)) {
		before[identify(p)]++
	}
	took, touched := false, map[Object]bool{}
	for _, change := range Difference(old, next) {
		took = took || change.Gone
		touched[change.Object] = change.Made || len(change.Added)+len(change.Values) > 0 // what was only taken away brings nothing
	}
	for _, p := range errors {
		id := identify(p)
		switch {
		case before[id] > 0:
			before[id]--
		case p.later:
		case !took || touched[p.Object] || p.Code == NameConflict:
			brought = append(brought, p)
		}
	}
	return brought
}

// errorsOf are the problems for which a configuration is refused.
func errorsOf(l Problems) Problems {
	return slices.DeleteFunc(l, func(p *Problem) bool { return p.Severity != Error })
}

// sameProblem is what makes two problems the same in a configuration and the next, wherever in a file they stand.
type sameProblem struct {
	object Object
	code   grammar.Code
	msg    string
}

func identify(p *Problem) sameProblem {
	return sameProblem{p.Object, p.Code, strings.TrimPrefix(p.Msg, p.Object.Name+": ")}
}

// fallBack replaces a default zone that is gone, as Load does, so that a configuration reads back as it is.
func fallBack(c *Config) *Config {
	name := usableDefault(c)
	if name == c.Conf.DefaultZone {
		return c
	}
	conf := *c.Conf
	conf.DefaultZone = name
	return c.WithConf(&conf)
}

// Scope says which configuration an edit is for. firewalld takes the same edits a little differently in each, and has other
// words for what is there already or is not there.
type Scope int

// The scopes.
const (
	Permanent Scope = iota // the files, over D-Bus
	Runtime                // what the daemon applies: an empty zone is the default zone, and every value is checked first
	Command                // the files, by a command that changes the settings of an object itself: firewall-offline-cmd
)

// env is what an item is read and judged by.
type env struct {
	c      *Config
	scope  Scope
	object Object
}

// already is the error for an item that is there, as firewalld words it. shown is the item, of so many parts.
func (e env) already(shown string, parts int) error {
	return e.state(AlreadyEnabled, shown, parts, "already in")
}

// missing is the error for an item that is not there.
func (e env) missing(shown string, parts int) error {
	return e.state(NotEnabled, shown, parts, "not in")
}

func (e env) state(code grammar.Code, shown string, parts int, relation string) error {
	switch {
	case e.scope == Runtime:
		return refuse(code, "'%s' %s '%s'", shown, relation, e.object.Name)
	case e.scope == Command && parts > 1:
		return refuse(code, "'%s'", shown)
	}
	return refuse(code, "%s", shown)
}

// refer finds out what is wrong with a reference, by one of the checks of a whole configuration. Of a zone's references
// firewalld says what is wrong without naming the zone.
func (e env) refer(look func(k *checker, report report)) error {
	var err error
	bare := e.object.Kind == KindZone
	look(&checker{Config: e.c, bare: bare}, func(p *Problem) {
		switch {
		case err != nil:
		case bare:
			err = p
		default:
			err = p.within(e.object)
		}
	})
	return err
}

// titled is an object as firewalld's messages name it: "Zone 'public'".
func titled(o Object) string {
	return fmt.Sprintf("%s%s '%s'", strings.ToUpper(string(o.Kind[:1])), o.Kind[1:], o.Name)
}

// named puts the zone or policy in front of what firewalld says of a wrong value. Of other kinds it names none.
func (e env) named(err error) error {
	switch e.object.Kind {
	case KindZone, KindPolicy:
		return problemOf(err, InvalidValue).within(e.object)
	}
	return err
}

// invalid gives what is wrong with the name of an interface or a source firewalld's words for it, which depend on where
// it was to go. what is "interface" or "source".
func (e env) invalid(what, text string, err error) error {
	if err == nil {
		return nil
	}
	p := problemOf(err, InvalidValue)
	switch {
	case e.scope != Runtime:
		return p.worded("invalid %s '%s'", what, text).within(e.object)
	case text == "":
		return p.worded("")
	}
	return p.worded("%s", text)
}

// arguments tells when an item has not as many parts as its kind has.
func arguments(args []string, low, high int) error {
	if len(args) < low || len(args) > high {
		return refuse(InvalidType, "cannot use %q: it has %d parts, not %s", strings.Join(args, ":"), len(args), rangeText(low, high))
	}
	return nil
}

// wrongType is the error for a setting of another type than it has.
func wrongType(value any, want string) error {
	return refuse(InvalidType, "cannot use %s: the setting is %s", fmt.Sprintf("%v", value), want)
}
