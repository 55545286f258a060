package zones

import (
	"fmt"
	"slices"
	"strings"

	"richwall/grammar"
)

// Kind is a kind of object.
type Kind string

// The kinds. There is one firewalld.conf and one direct.xml, so that their objects have the name "".
const (
	KindZone     Kind = "zone"
	KindPolicy   Kind = "policy"
	KindService  Kind = "service"
	KindIPSet    Kind = "ipset"
	KindICMPType Kind = "icmptype"
	KindHelper   Kind = "helper"
	KindDirect   Kind = "direct"
	KindConf     Kind = "conf"
)

// Object names an object of a configuration.
type Object struct {
	Kind Kind
	Name string // of a zone: "" is the default zone, save in the permanent configuration
}

// attribute is one of the settings of objects of type T.
type attribute[T any] struct {
	key Key
	setting[T]
}

// objectKind is all that edits and files need to know of the objects of type T.
type objectKind[T any] struct {
	kind    Kind
	title   string       // in messages
	missing grammar.Code // when there is no such object
	builtin grammar.Code // when it is shipped, and so cannot be removed

	objects func(*Config) map[string]*T // those that have a file each
	with    func(Config, *T) *Config
	without func(Config, string) *Config
	meta    func(*T) *Meta
	fresh   func() *T

	settings []attribute[T]      // in an order in which they can be set
	whole    func(env, *T) error // what must fit together after a change of several; nil means nothing

	path  func(name string) string // of the file, below the administrator's folder
	read  func(name string, data []byte, path string) (*T, Problems)
	write func(*T) []byte

	refusing func(*T) *T // drops all that belongs to the object; nil for kinds to which nothing does
}

// kinds are all kinds of objects, in the order in which changes are reported and written: what others refer to comes first.
var kinds = []kindOps{ipsetKind, icmpTypeKind, helperKind, serviceKind, zoneKind, policyKind, directKind}

// kindOps is an objectKind of any type.
type kindOps interface {
	name() Kind
	add(s Scope, name string, i Item) Edit
	remove(s Scope, name string, i Item) Edit
	has(c *Config, s Scope, name string, i Item) (bool, error)
	get(c *Config, s Scope, name string) (Settings, error)
	update(s Scope, name string, settings Settings) Edit
	create(name string, settings Settings) Edit
	drop(name string) Edit
	rename(name, next string) Edit
	defaults(name string, shipped *Config) Edit
	keep(c, others *Config) *Config
	ownedAs(c, others *Config) *Config
	changes(old, next *Config) []Change
	files(s Store, old, next *Config) (*Config, []file, error)
	export(c *Config, files map[string][]byte) (own []string)
	reread(c *Config, name string, data []byte, path string) (*Config, Problems)
}

// ops finds a kind. The error has code INVALID_OBJECT.
func ops(kind Kind) (kindOps, error) {
	i := slices.IndexFunc(kinds, func(k kindOps) bool { return k.name() == kind })
	if i < 0 {
		return nil, refuse(InvalidObject, "cannot edit a %s: there is no such kind of object", kind)
	}
	return kinds[i], nil
}

// metaRows are the settings that every kind of object has.
func metaRows[T any](meta func(*T) *Meta) []attribute[T] {
	text := func(field func(*Meta) *string, want string) setting[T] {
		return value[T, string]{field: func(o *T) *string { return field(meta(o)) }, want: want}
	}
	return []attribute[T]{
		{KeyVersion, text(func(m *Meta) *string { return &m.Version }, "the version, a text")},
		{KeyShort, text(func(m *Meta) *string { return &m.Short }, "the short description, a text")},
		{KeyDescription, text(func(m *Meta) *string { return &m.Description }, "the description, a text")},
	}
}

// contentRows are the settings that zones and policies have in common.
func contentRows[T any](content func(*T) *Content) []attribute[T] {
	ports := func(field func(*Content) *[]Port) setting[T] {
		return ranges[T]{func(o *T) *[]Port { return field(content(o)) }}
	}
	list := func(field func(*Content) *[]string, parse func(env, string) (string, error)) setting[T] {
		return names(func(o *T) *[]string { return field(content(o)) }, parse)
	}
	return []attribute[T]{
		{KeyService, list(func(c *Content) *[]string { return &c.Services }, parseService)},
		{KeyPort, ports(func(c *Content) *[]Port { return &c.Ports })},
		{KeyProtocol, list(func(c *Content) *[]string { return &c.Protocols }, parseProtocol)},
		{KeyICMPBlock, list(func(c *Content) *[]string { return &c.ICMPBlocks }, parseICMPType)},
		{KeyMasquerade, toggle[T]{func(o *T) *bool { return &content(o).Masquerade }, KeyMasquerade}},
		{KeyForwardPort, forwardPorts(func(o *T) *[]ForwardPort { return &content(o).ForwardPorts })},
		{KeySourcePort, ports(func(c *Content) *[]Port { return &c.SourcePorts })},
		{KeyRule, rules[T]{func(o *T) *[]RichRule { return &content(o).Rules }}},
	}
}

// The parsers below check references in a running daemon only: firewalld looks at those of files when it checks the whole.

func parseService(e env, name string) (string, error) {
	if e.scope != Runtime {
		return name, nil
	}
	return name, e.refer(func(k *checker, r report) { k.service(name, r) })
}

func parseICMPType(e env, name string) (string, error) {
	if e.scope != Runtime {
		return name, nil
	}
	return name, e.refer(func(k *checker, r report) { k.icmpType(name, grammar.AnyFamily, r) })
}

func parseProtocol(_ env, value string) (string, error) {
	_, err := grammar.ParseProtocol(value)
	return value, err
}

func parseInterface(e env, name string) (string, error) {
	return name, e.invalid("interface", name, CheckInterface(name))
}

// parseSource reads a zone's source. The daemon writes MAC addresses in capitals.
func parseSource(e env, text string) (string, error) {
	if err := CheckSource(text); err != nil {
		return "", e.invalid("source", text, err)
	}
	if e.scope != Runtime {
		return text, nil
	}
	if set, ok := strings.CutPrefix(text, "ipset:"); ok {
		return text, e.refer(func(k *checker, r report) { k.sourceSet(set, grammar.AnyFamily, r) })
	}
	if _, err := grammar.ParseMAC(text); err == nil {
		return strings.ToUpper(text), nil
	}
	return text, nil
}

// parseAny takes every name: whether there is such an object is checked with the whole.
func parseAny(_ env, name string) (string, error) { return name, nil }

func parseModule(_ env, name string) (string, error) { return shortModule(name) }

// number is a priority.
func number[T any](field func(*T) *int, want string, check func(n int) error) setting[T] {
	return value[T, int]{field, func(_ *T, n int) error { return check(n) }, want}
}

func checkPriority(n int) error {
	if n < grammar.MinPriority || n > grammar.MaxPriority {
		return refuse(grammar.InvalidPriority, "cannot use priority %d: it must be from %d to %d", n, grammar.MinPriority, grammar.MaxPriority).
			worded("%d is an invalid priority value. Must be in range [%d, %d].", n, grammar.MinPriority, grammar.MaxPriority)
	}
	return nil
}

func checkPolicyPriority(n int) error {
	err := checkPriority(n)
	if n == 0 {
		err = refuse(grammar.InvalidPriority, "cannot use priority 0: a policy is asked before the zones (below 0) or after them (above 0)")
	}
	if err == nil {
		return nil
	}
	return problemOf(err, grammar.InvalidPriority).
		worded("%d is invalid priority. Must be in range [%d, %d]. The following are reserved: [0]", n, grammar.MinPriority, grammar.MaxPriority)
}

// choice is a text that is one of a list. wording is what firewalld says of another one.
func choice[T any](field func(*T) *string, want string, code grammar.Code, words []string, wording string) setting[T] {
	return value[T, string]{field, func(_ *T, text string) error {
		if slices.Contains(words, text) {
			return nil
		}
		return refuse(code, "cannot set %s to %q: it must be %s", want, text, oneOf(text, words)).worded(wording, text)
	}, want}
}

var zoneKind = &objectKind[Zone]{
	kind: KindZone, title: "zone", missing: InvalidZone, builtin: BuiltinZone,
	objects: zoneFiles, with: Config.WithZone, without: Config.WithoutZone,
	meta:  func(z *Zone) *Meta { return &z.Meta },
	fresh: func() *Zone { return &Zone{Target: TargetDefault, Forward: true} },
	settings: slices.Concat(metaRows(func(z *Zone) *Meta { return &z.Meta }), contentRows(func(z *Zone) *Content { return &z.Content }), []attribute[Zone]{
		{KeyTarget, choice(func(z *Zone) *string { return &z.Target }, "the target of a zone", InvalidTarget,
			[]string{TargetDefault, TargetAccept, TargetDrop, TargetReject}, "invalid target '%s'")},
		{KeyIngressPriority, number(func(z *Zone) *int { return &z.IngressPriority }, "the ingress priority, a number", checkPriority)},
		{KeyEgressPriority, number(func(z *Zone) *int { return &z.EgressPriority }, "the egress priority, a number", checkPriority)},
		{KeyInterface, bindings{names(func(z *Zone) *[]string { return &z.Interfaces }, parseInterface), interfaceWords}},
		{KeySource, bindings{sources(), sourceWords}},
		{KeyInversion, toggle[Zone]{func(z *Zone) *bool { return &z.ICMPBlockInversion }, KeyInversion}},
		{KeyForward, toggle[Zone]{func(z *Zone) *bool { return &z.Forward }, KeyForward}},
	}),
	path: xmlFile("zones"), read: ReadZone, write: WriteZone, refusing: refusing,
}

var policyKind = &objectKind[Policy]{
	kind: KindPolicy, title: "policy", missing: InvalidPolicy, builtin: UnknownError, // firewalld has no code for it
	objects: func(c *Config) map[string]*Policy { return c.Policies }, with: Config.WithPolicy, without: Config.WithoutPolicy,
	meta:  func(p *Policy) *Meta { return &p.Meta },
	fresh: func() *Policy { return &Policy{Target: TargetContinue, Priority: DefaultPolicyPriority} },
	settings: slices.Concat(metaRows(func(p *Policy) *Meta { return &p.Meta }), contentRows(func(p *Policy) *Content { return &p.Content }), []attribute[Policy]{
		{KeyTarget, choice(func(p *Policy) *string { return &p.Target }, "the target of a policy", InvalidTarget, PolicyTargets, "'%s' is invalid target")},
		{KeyPriority, number(func(p *Policy) *int { return &p.Priority }, "the priority of a policy, a number", checkPolicyPriority)},
		{KeyIngressZone, names(func(p *Policy) *[]string { return &p.IngressZones }, parseAny)},
		{KeyEgressZone, names(func(p *Policy) *[]string { return &p.EgressZones }, parseAny)},
		{KeyDisable, toggle[Policy]{func(p *Policy) *bool { return &p.Disable }, KeyDisable}},
	}),
	path: xmlFile("policies"), read: ReadPolicy, write: WritePolicy, refusing: refusingPolicy,
}

var serviceKind = &objectKind[Service]{
	kind: KindService, title: "service", missing: InvalidService, builtin: BuiltinService,
	objects: func(c *Config) map[string]*Service { return c.Services }, with: Config.WithService, without: Config.WithoutService,
	meta:  func(s *Service) *Meta { return &s.Meta },
	fresh: func() *Service { return &Service{} },
	settings: slices.Concat(metaRows(func(s *Service) *Meta { return &s.Meta }), []attribute[Service]{
		{KeyPort, exactPorts(func(s *Service) *[]Port { return &s.Ports }, checkServicePort)},
		{KeyProtocol, names(func(s *Service) *[]string { return &s.Protocols }, parseProtocol)},
		{KeySourcePort, exactPorts(func(s *Service) *[]Port { return &s.SourcePorts }, CheckPort)},
		{KeyModule, names(func(s *Service) *[]string { return &s.Modules }, parseModule)},
		{KeyDestination, texts[Service]{field: func(s *Service) *map[string]string { return &s.Destination }, check: checkDestination}},
		{KeyInclude, names(func(s *Service) *[]string { return &s.Includes }, parseAny)},
		{KeyHelper, names(func(s *Service) *[]string { return &s.Helpers }, parseAny)},
	}),
	path: xmlFile("services"), read: ReadService, write: WriteService,
}

func checkDestination(_ *Service, family, address string) error {
	if !slices.Contains(families, family) {
		return refuse(grammar.InvalidDestination, "cannot use destination %q: it is ipv4 or ipv6%s", family, hint(family, families))
	}
	if _, err := grammar.ParseAddress(grammar.Family(family), address); err != nil {
		return problemOf(err, grammar.InvalidAddr).worded("'%s' is not valid %s address", address, family)
	}
	return nil
}

var ipsetKind = &objectKind[IPSet]{
	kind: KindIPSet, title: "ipset", missing: grammar.InvalidIPSet, builtin: BuiltinIPSet,
	objects: func(c *Config) map[string]*IPSet { return c.IPSets }, with: Config.WithIPSet, without: Config.WithoutIPSet,
	meta:  func(s *IPSet) *Meta { return &s.Meta },
	fresh: func() *IPSet { return &IPSet{} },
	settings: slices.Concat(metaRows(func(s *IPSet) *Meta { return &s.Meta }), []attribute[IPSet]{
		{KeyType, value[IPSet, string]{func(s *IPSet) *string { return &s.Type }, checkType, "the type of an ipset, a text"}},
		{KeyOption, texts[IPSet]{
			field: func(s *IPSet) *map[string]string { return &s.Options }, check: checkOption,
			order: func(s *IPSet) *[]string { return &s.Order },
		}},
		{KeyEntry, entries{}},
	}),
	whole: checkIPSet,
	path:  xmlFile("ipsets"), read: ReadIPSet, write: WriteIPSet,
}

var icmpTypeKind = &objectKind[ICMPType]{
	kind: KindICMPType, title: "icmp type", missing: InvalidICMPType, builtin: BuiltinICMPType,
	objects: func(c *Config) map[string]*ICMPType { return c.ICMPTypes }, with: Config.WithICMPType, without: Config.WithoutICMPType,
	meta:     func(t *ICMPType) *Meta { return &t.Meta },
	fresh:    func() *ICMPType { return &ICMPType{} },
	settings: append(metaRows(func(t *ICMPType) *Meta { return &t.Meta }), attribute[ICMPType]{KeyDestination, newDestinations()}),
	path:     xmlFile("icmptypes"), read: ReadICMPType, write: WriteICMPType,
}

var helperKind = &objectKind[Helper]{
	kind: KindHelper, title: "helper", missing: InvalidHelper, builtin: BuiltinHelper,
	objects: func(c *Config) map[string]*Helper { return c.Helpers }, with: Config.WithHelper, without: Config.WithoutHelper,
	meta:  func(h *Helper) *Meta { return &h.Meta },
	fresh: func() *Helper { return &Helper{} },
	settings: slices.Concat(metaRows(func(h *Helper) *Meta { return &h.Meta }), []attribute[Helper]{
		{KeyFamily, choice(func(h *Helper) *string { return &h.Family }, "the family of a helper", InvalidIPV,
			append([]string{""}, families...), "'%s' not in '['ipv4', 'ipv6']'")},
		{KeyModuleOf, value[Helper, string]{func(h *Helper) *string { return &h.Module },
			func(_ *Helper, module string) error { return CheckModule(module) }, "the module of a helper, a text"}},
		{KeyPort, exactPorts(func(h *Helper) *[]Port { return &h.Ports }, CheckPort)},
	}),
	whole: func(_ env, h *Helper) error { return CheckModule(h.Module) },
	path:  xmlFile("helpers"), read: ReadHelper, write: WriteHelper,
}

// xmlFile is the path of an object's file in a folder.
func xmlFile(folder string) func(string) string {
	return func(name string) string { return fmt.Sprintf("%s/%s.xml", folder, name) }
}

// zoneFiles are the zones that have a file each: those that are made up of several are there with their parts.
func zoneFiles(c *Config) map[string]*Zone {
	if len(c.ZoneParts) == 0 {
		return c.Zones
	}
	files := map[string]*Zone{}
	for name, z := range c.Zones {
		files[name] = z
	}
	for name, part := range c.ZoneParts {
		files[name] = part
		folder, _, _ := strings.Cut(name, "/")
		delete(files, folder)
	}
	return files
}
