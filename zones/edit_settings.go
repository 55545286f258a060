package zones

import "strings"

// Key names a setting of an object, by the word that files and commands have for it.
type Key string

// The settings. Those of the first group are single values; the rest are items, of which an object has some or none.
const (
	KeyVersion         Key = "version"          // string
	KeyShort           Key = "short"            // string
	KeyDescription     Key = "description"      // string
	KeyTarget          Key = "target"           // string, of a zone or policy
	KeyPriority        Key = "priority"         // int, of a policy
	KeyIngressPriority Key = "ingress-priority" // int, of a zone
	KeyEgressPriority  Key = "egress-priority"  // int, of a zone
	KeyType            Key = "type"             // string, of an ipset
	KeyModuleOf        Key = "helper-module"    // string, of a helper
	KeyFamily          Key = "family"           // string, of a helper

	KeyMasquerade  Key = "masquerade"           // bool; as an item it has no parts
	KeyInversion   Key = "icmp-block-inversion" // bool
	KeyForward     Key = "forward"              // bool
	KeyDisable     Key = "disable"              // bool
	KeyService     Key = "service"              // name
	KeyPort        Key = "port"                 // port, protocol
	KeySourcePort  Key = "source-port"          // port, protocol
	KeyProtocol    Key = "protocol"             // name or number
	KeyICMPBlock   Key = "icmp-block"           // name
	KeyForwardPort Key = "forward-port"         // port, protocol, to-port, to-addr; one of the last two may be ""
	KeyRule        Key = "rule"                 // text of a rich rule
	KeyInterface   Key = "interface"            // name
	KeySource      Key = "source"               // address, MAC address or "ipset:NAME"
	KeyIngressZone Key = "ingress-zone"         // name
	KeyEgressZone  Key = "egress-zone"          // name
	KeyModule      Key = "module"               // name of a helper, or of its module
	KeyHelper      Key = "helper"               // name
	KeyInclude     Key = "include"              // name of a service
	KeyDestination Key = "destination"          // of a service: family, address; to remove: family. Of an ICMP type: family
	KeyOption      Key = "option"               // name, value; to remove: name
	KeyEntry       Key = "entry"                // text of an entry
	KeyChain       Key = "chain"                // direct: ipv, table, chain
	KeyDirectRule  Key = "direct-rule"          // direct: ipv, table, chain, priority, and the arguments
	KeyPassthrough Key = "passthrough"          // direct: ipv, and the arguments
)

// Settings are some or all settings of an object. A value is a string, an int, a bool, or a [][]string with the parts of
// each item, as the comment of its Key says.
type Settings map[Key]any

// Item is one of the items of an object.
type Item struct {
	Key  Key
	Args []string // its parts
}

// String is the parts with colons between them: "80:tcp".
func (i Item) String() string { return strings.Join(i.Args, ":") }

// setting is a setting of objects of type T. The object that is changed is a copy, which shares lists and maps with the
// one it was made of: what is in them must not be changed.
type setting[T any] interface {
	get(o *T) any
	set(e env, o *T, value any) error
}

// items is a setting of which parts can be added and removed.
type items[T any] interface {
	setting[T]
	add(e env, o *T, args []string) error
	remove(e env, o *T, args []string) error
	has(e env, o *T, args []string) (bool, error)
	difference(old, next *T) (removed, added [][]string)
}

// value is a single value. The running daemon does not change it: only a reload does.
type value[T any, V string | int] struct {
	field func(*T) *V
	check func(o *T, v V) error // nil means that everything is allowed
	want  string                // what it is, for a message
}

func (s value[T, V]) get(o *T) any { return *s.field(o) }

func (s value[T, V]) set(e env, o *T, v any) error {
	next, ok := v.(V)
	switch {
	case !ok:
		return wrongType(v, s.want)
	case next == *s.field(o):
		return nil
	case e.scope == Runtime:
		return refuse(InvalidSetting, "cannot set %s to %v: it changes with a reload only: change the permanent configuration", s.want, v)
	}
	if s.check != nil {
		if err := s.check(o, next); err != nil {
			return e.named(err)
		}
	}
	*s.field(o) = next
	return nil
}

// toggle is a switch. As an item it has no parts.
type toggle[T any] struct {
	field func(*T) *bool
	name  Key
}

func (s toggle[T]) get(o *T) any { return *s.field(o) }

func (s toggle[T]) set(_ env, o *T, v any) error {
	next, ok := v.(bool)
	if !ok {
		return wrongType(v, "on or off: true or false")
	}
	*s.field(o) = next
	return nil
}

func (s toggle[T]) add(e env, o *T, args []string) error    { return s.turn(e, o, args, true) }
func (s toggle[T]) remove(e env, o *T, args []string) error { return s.turn(e, o, args, false) }

func (s toggle[T]) turn(e env, o *T, args []string, on bool) error {
	if err := arguments(args, 0, 0); err != nil {
		return err
	}
	code, verb := AlreadyEnabled, "already"
	if !on {
		code, verb = NotEnabled, "not"
	}
	switch {
	case *s.field(o) != on:
		*s.field(o) = on
		return nil
	case e.scope == Runtime:
		return refuse(code, "%s %s enabled in '%s'", s.name, verb, e.object.Name)
	case e.scope == Command && s.name != KeyInversion:
		return nil // firewalld's commands say nothing
	}
	return refuse(code, "%s", s.name)
}

func (s toggle[T]) has(_ env, o *T, args []string) (bool, error) {
	return *s.field(o), arguments(args, 0, 0)
}

func (s toggle[T]) difference(old, next *T) (removed, added [][]string) {
	switch {
	case *s.field(old) && !*s.field(next):
		return [][]string{{}}, nil
	case !*s.field(old) && *s.field(next):
		return nil, [][]string{{}}
	}
	return nil, nil
}
