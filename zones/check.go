package zones

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"richwall/grammar"
)

// Check is what is wrong between the objects of a configuration: names, references to what does not exist, and what
// cannot go together. Each object by itself is checked where it is read.
func Check(c *Config) Problems { return newChecker(c).check() }

func newChecker(c *Config) *checker { return &checker{Config: c, bound: map[string]binding{}} }

func (k *checker) check() Problems {
	k.names()
	if k.old == nil {
		k.services()
		k.ipsets()
	}
	k.zones()
	k.policies()
	return k.problems.report()
}

// checker collects problems.
type checker struct {
	*Config
	old      *Config            // is known to have no errors, and has the same objects that others refer to; nil if there is none
	kind     Kind               // of the objects that are looked at
	bare     bool               // what an object refers to is looked at apart from the object
	bound    map[string]binding // interfaces and sources that a zone has
	problems collector
	hints    int // suggestions that were made
}

// mostHints is how many suggestions one check makes: whoever has more mistakes begins with those.
const mostHints = 200

// near suggests a key of a map, but not for ever.
func near[T any](k *checker, word string, known map[string]T) suggestion {
	if k.hints++; k.hints > mostHints {
		return suggestion{}
	}
	return hintKey(word, known)
}

// binding is the zone that an interface or source is bound to, and the text by which it is.
type binding struct{ zone, text string }

// add reports a problem at an item of an object, such as "service ssh"; "" is the whole object.
func (k *checker) add(m *Meta, item string, severity Severity, code grammar.Code, format string, args ...any) {
	p := refuse(code, format, args...)
	p.item = item
	k.refused(m, m.places[item], severity, p)
}

// refused reports what is wrong at a place of an object's file.
func (k *checker) refused(m *Meta, at place, severity Severity, p *Problem) {
	p.Path, p.Line, p.Column, p.Severity = m.Origin.Path, int(at.line), int(at.column), severity
	p.Object = Object{k.kind, m.Name}
	p.Msg = subject(m) + p.Msg
	k.problems.add(p.within(p.Object))
}

// reportAt takes what is wrong to an item of an object.
func (k *checker) reportAt(m *Meta, item string) report {
	return func(p *Problem) {
		p.item = item
		k.refused(m, m.places[item], Error, p)
	}
}

// reportRule takes what is wrong to a rule.
func (k *checker) reportRule(m *Meta, rule RichRule) report {
	return func(p *Problem) { k.refusedRule(m, rule, Error, p) }
}

// refusedRule reports what is wrong with a rule of an object.
func (k *checker) refusedRule(m *Meta, rule RichRule, severity Severity, p *Problem) {
	p.Rule = rule.Rule
	at := *m
	if rule.Path != "" {
		at.Origin.Path = rule.Path
	}
	k.refused(&at, place{line: int32(rule.Line)}, severity, p)
}

// fail reports an error at an item of an object.
func (k *checker) fail(m *Meta, item string, code grammar.Code, format string, args ...any) {
	k.add(m, item, Error, code, format, args...)
}

// subject names an object that no file names.
func subject(m *Meta) string {
	if m.Origin.Path != "" {
		return ""
	}
	return m.Name + ": "
}

// neededZones are those that must be there.
var neededZones = []string{"block", "drop", "trusted"}

// nameRules are the characters that names have beside letters and digits, and their greatest length in characters; 0 means
// no limit. The length counts up to a slash.
var nameRules = map[string]struct {
	extra  string
	length int
}{
	"zone":     {"_-/", 96},
	"policy":   {"_-/", 128},
	"service":  {"_-", 0},
	"icmptype": {"_-", 0},
	"ipset":    {"_-:.", 0},
	"helper":   {"-.", 0},
}

// maxIPSetName is how many bytes the name of a set has that is not of nftables: IPSET_MAXNAMELEN of linux/netfilter/ipset/ip_set.h
// without the NUL.
const maxIPSetName = 31

// CheckName tells what is wrong with the name of an object of a kind: "zone", "policy", "service", "icmptype", "ipset" or
// "helper". The code is INVALID_NAME.
func CheckName(kind, name string) error {
	rule := nameRules[kind]
	if name == "" {
		return refuse(InvalidName, "cannot use a %s without a name", kind)
	}
	for _, c := range name {
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune(rule.extra, c) {
			return refuse(InvalidName, "cannot use %s name %q: it has %q, and a name has letters, digits and %s",
				kind, name, c, strings.Join(strings.Split(rule.extra, ""), " ")).worded("'%c' is not allowed in '%s'", c, name)
		}
	}
	if strings.Count(name, "/") > 1 || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return refuse(InvalidName, "cannot use %s name %q: a name has one slash at most, and not at its ends", kind, name)
	}
	first, _, _ := strings.Cut(name, "/")
	if n := utf8.RuneCountInString(first); rule.length > 0 && n > rule.length {
		return refuse(InvalidName, "cannot use %s name %q: it has %d characters, and the longest has %d", kind, name, n, rule.length).
			worded("name has %d chars, max is %d", n, rule.length).within(Object{Kind(kind), name})
	}
	return nil
}

// names checks the names of all objects, that zones and policies do not share them, and that the zones that firewalld
// needs are there.
func (k *checker) names() {
	k.name(KindZone, metas(k.Zones, func(o *Zone) *Meta { return &o.Meta }))
	k.name(KindZone, metas(k.ZoneParts, func(o *Zone) *Meta { return &o.Meta }))
	k.name(KindPolicy, metas(k.Policies, func(o *Policy) *Meta { return &o.Meta }))
	if k.old == nil {
		k.name(KindService, metas(k.Services, func(o *Service) *Meta { return &o.Meta }))
		k.name(KindIPSet, metas(k.IPSets, func(o *IPSet) *Meta { return &o.Meta }))
		k.name(KindICMPType, metas(k.ICMPTypes, func(o *ICMPType) *Meta { return &o.Meta }))
		k.name(KindHelper, metas(k.Helpers, func(o *Helper) *Meta { return &o.Meta }))
	}
	k.kind = KindIPSet
	for _, name := range Names(k.IPSets) {
		if k.Conf.FirewallBackend == "iptables" && len(name) > maxIPSetName {
			k.fail(&k.IPSets[name].Meta, "", InvalidName, "cannot use ipset name %q with iptables: it has %d bytes, and the longest has %d", name, len(name), maxIPSetName)
		}
	}
	k.kind = KindPolicy
	for _, name := range Names(k.Policies) {
		if z := k.Zones[name]; z != nil {
			k.fail(&k.Policies[name].Meta, "", NameConflict, "cannot use policy %s: there is a zone of that name", name)
		}
	}
	for _, name := range neededZones {
		if k.Zones[name] == nil {
			k.problems.add(&Problem{Code: InvalidZone, Msg: fmt.Sprintf("the zone %s is missing: there must be one", name)})
		}
	}
	k.kind = KindZone
	for _, name := range []string{ZoneAny, ZoneHost} {
		if z := k.Zones[name]; z != nil {
			k.add(&z.Meta, "", Warning, InvalidName, "policies cannot refer to the zone %s: for them the name has a meaning of its own", name)
		}
	}
}

func metas[T any](objects map[string]*T, meta func(*T) *Meta) []*Meta {
	var list []*Meta
	for _, name := range Names(objects) {
		list = append(list, meta(objects[name]))
	}
	return list
}

func (k *checker) name(kind Kind, objects []*Meta) {
	k.kind = kind
	for _, m := range objects {
		if err := CheckName(string(kind), m.Name); err != nil {
			code, msg := codeOf(err, InvalidName)
			k.fail(m, "", code, "%s", msg)
		}
	}
}

// ipsetDefaultMaxelem is how many entries a set of ipset(8) has room for when it does not say so. One of nftables has no limit then.
const ipsetDefaultMaxelem = 65536

// ipsets checks that each set has room for its entries.
func (k *checker) ipsets() {
	for _, name := range Names(k.IPSets) {
		s := k.IPSets[name]
		text, limited := s.Options["maxelem"]
		most, err := strconv.Atoi(text)
		if !limited && k.Conf.FirewallBackend == "iptables" {
			most, limited, err = ipsetDefaultMaxelem, true, nil
		}
		if limited && err == nil && len(s.Entries) > most {
			k.problems.add(&Problem{
				Path: s.Origin.Path, Object: Object{KindIPSet, name}, Code: grammar.InvalidIPSet,
				Msg:     fmt.Sprintf("%scannot use ipset %s: it has more entries than the %d that its option maxelem leaves room for", subject(&s.Meta), name, most),
				Wording: &grammar.Wording{Code: grammar.InvalidIPSet, Detail: fmt.Sprintf("the number of ipset entries exceeds the maximum set size of %d", most)},
			})
		}
	}
}

// services checks what services refer to. firewalld looks at helpers only when a service is in use.
func (k *checker) services() {
	k.kind = KindService
	used := sync.OnceValue(k.usedServices)
	circles := k.circles()
	for _, name := range Names(k.Services) {
		s := k.Services[name]
		for _, include := range s.Includes {
			item := "include " + include
			switch {
			case k.Services[include] == nil:
				k.reportAt(&s.Meta, item)(refuse(InvalidService, "cannot include service %s: there is no such service%s", include, near(k, include, k.Services)).
					worded("Included service '%s' not found.", include))
			case circles[name] == circles[include]:
				k.add(&s.Meta, item, Warning, InvalidService, "service %s includes itself by service %s: each counts once", name, include)
			}
		}
		for _, helper := range s.Helpers {
			k.helper(s, "helper "+helper, helper, used)
		}
		for _, helper := range s.Modules {
			k.helper(s, "module "+helper, helper, used)
		}
	}
}

func (k *checker) helper(s *Service, item, helper string, used func() map[string]bool) {
	if k.Helpers[helper] == nil {
		severity := Warning
		if used()[s.Name] {
			severity = Error
		}
		p := refuse(InvalidHelper, "cannot use helper %s: there is no such helper%s", helper, near(k, helper, k.Helpers))
		p.later = true
		k.refused(&s.Meta, s.places[item], severity, p)
	}
}

// circles gives each service a number, which is the same for those that include each other, over any number of steps: the strongly
// connected components, after Tarjan (Depth-first search and linear graph algorithms, 1972).
func (k *checker) circles() map[string]int {
	number, low, circle := map[string]int{}, map[string]int{}, map[string]int{}
	var stack []string
	var visit func(name string)
	visit = func(name string) {
		number[name] = len(number) + 1
		low[name] = number[name]
		stack = append(stack, name)
		for _, next := range k.Services[name].Includes {
			if k.Services[next] == nil {
				continue
			}
			if number[next] == 0 {
				visit(next)
				low[name] = min(low[name], low[next])
			} else if circle[next] == 0 {
				low[name] = min(low[name], number[next])
			}
		}
		for low[name] == number[name] && circle[name] == 0 {
			last := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			circle[last] = number[name]
		}
	}
	for _, name := range Names(k.Services) {
		if number[name] == 0 {
			visit(name)
		}
	}
	return circle
}

// usedServices are the services of zones and policies, and those that they include.
func (c *Config) usedServices() map[string]bool {
	used := map[string]bool{}
	var use func(name string)
	use = func(name string) {
		if s := c.Services[name]; s != nil && !used[name] {
			used[name] = true
			for _, include := range s.Includes {
				use(include)
			}
		}
	}
	content := func(owner *Content) {
		for _, name := range owner.Services {
			use(name)
		}
		for _, rule := range owner.Rules {
			if s, ok := rule.Element.(*grammar.Service); ok {
				use(s.Name)
			}
		}
	}
	for _, z := range c.Zones {
		content(&z.Content)
	}
	for _, p := range c.Policies {
		content(&p.Content)
	}
	return used
}

// zones checks each zone, one that is made up of several files by its files.
func (k *checker) zones() {
	k.kind = KindZone
	combined := map[string]bool{}
	for _, name := range Names(k.ZoneParts) {
		folder, _, _ := strings.Cut(name, "/")
		combined[folder] = true
		k.zone(folder, k.ZoneParts[name])
	}
	for _, name := range Names(k.Zones) {
		if !combined[name] {
			k.zone(name, k.Zones[name])
		}
	}
}

func (k *checker) zone(name string, z *Zone) {
	k.content(&z.Meta, &z.Content)
	for _, iface := range z.Interfaces {
		k.bind(z, name, InvalidInterface, "interface", iface, iface)
	}
	for _, source := range z.Sources {
		if set, ok := strings.CutPrefix(source, "ipset:"); ok {
			report := k.reportAt(&z.Meta, "source "+source)
			k.sourceSet(set, grammar.AnyFamily, func(p *Problem) {
				p.later = k.IPSets[set] == nil
				report(p)
			})
		}
		k.bind(z, name, grammar.InvalidAddr, "source", source, sourceKey(source))
	}
}

// bind notes that an interface or source belongs to a zone, and reports one that belongs to another zone as well. What is
// the same but not spelled the same is only warned about, as firewalld takes it.
func (k *checker) bind(z *Zone, zone string, code grammar.Code, kind, text, key string) {
	key = kind + " " + key
	other, taken := k.bound[key]
	switch {
	case !taken:
		k.bound[key] = binding{zone, text}
	case other.zone != zone && other.text == text:
		k.reportAt(&z.Meta, kind+" "+text)(refuse(code, "cannot bind %s %s to zone %s: it is bound to zone %s", kind, text, zone, other.zone).
			worded("%s '%s' already bound to zone '%s'", kind, text, other.zone))
	case other.zone != zone:
		k.add(&z.Meta, kind+" "+text, Warning, code, "%s %s of zone %s is the same as %s of zone %s: only one of them has an effect",
			kind, text, zone, other.text, other.zone)
	}
}

// sourceKey is the same text for all spellings of a source.
func sourceKey(source string) string {
	if mac, err := grammar.ParseMAC(source); err == nil {
		return mac.String()
	}
	if prefix, err := grammar.ParseAddress(grammar.AnyFamily, source); err == nil {
		return prefix.Masked().String()
	}
	return source
}

// content checks what a zone or policy refers to.
func (k *checker) content(m *Meta, c *Content) {
	for _, name := range c.Services {
		k.service(name, k.reportAt(m, "service "+name))
	}
	for _, name := range c.ICMPBlocks {
		k.icmpType(name, grammar.AnyFamily, k.reportAt(m, "icmp-block "+name))
	}
	for _, rule := range k.unchecked(m, c) {
		k.rule(rule, k.reportRule(m, rule))
	}
}

// report takes a problem to where it belongs.
type report func(*Problem)

// noSuch is the problem of a name that stands for nothing. plural is what firewalld calls the things that do have names.
func (k *checker) noSuch(p *Problem, name, plural string) *Problem {
	if k.bare {
		return p.worded("%s", name)
	}
	return p.worded("'%s' not among existing %s", name, plural)
}

func (k *checker) service(name string, report report) {
	if k.Services[name] == nil {
		p := refuse(InvalidService, "cannot use service %s: there is no such service%s", name, near(k, name, k.Services))
		report(k.noSuch(p, name, "services"))
	}
}

func (k *checker) icmpType(name string, family grammar.Family, report report) {
	t := k.ICMPTypes[name]
	switch {
	case t == nil:
		p := refuse(InvalidICMPType, "cannot use ICMP type %s: there is no such type%s", name, near(k, name, k.ICMPTypes))
		report(k.noSuch(p, name, "ICMP types"))
	case family != grammar.AnyFamily && len(t.Destinations) > 0 && !slices.Contains(t.Destinations, string(family)):
		report(refuse(InvalidICMPType, "cannot use ICMP type %s in a rule for %s: only %s has it", name, family, t.Destinations[0]).
			worded("rich rule family '%s' conflicts with icmp type '%s'", family, name))
	}
}

// rule checks what a rich rule refers to.
func (k *checker) rule(rule RichRule, report report) {
	switch e := rule.Element.(type) {
	case *grammar.Service:
		k.service(e.Name, report)
		if s := k.Services[e.Name]; s != nil && len(s.Destination) > 0 && rule.Destination != nil {
			report(refuse(grammar.InvalidRule, "cannot use service %s with a destination: the service has its own", e.Name))
		}
	case *grammar.ICMPBlock:
		k.icmpType(e.Name, rule.Family, report)
	case *grammar.ICMPType:
		k.icmpType(e.Name, rule.Family, report)
	}
	if rule.Source != nil && rule.Source.IPSet != "" {
		k.sourceSet(rule.Source.IPSet, rule.Family, report)
	}
	if rule.Destination != nil && rule.Destination.IPSet != "" {
		if s := k.ipset(rule.Destination.IPSet, rule.Family, report); s != nil && s.Type == "hash:mac" {
			report(refuse(grammar.InvalidIPSet, "cannot use ipset %s as a destination: it has MAC addresses, and a packet has those of this link only", s.Name))
		}
	}
}

// sourceTypes are the types of ipsets that can be matched with where a packet comes from.
var sourceTypes = []string{"hash:ip", "hash:ip,port", "hash:ip,mark", "hash:net", "hash:net,port", "hash:net,iface", "hash:mac"}

func (k *checker) sourceSet(name string, family grammar.Family, report report) {
	if s := k.ipset(name, family, report); s != nil && !slices.Contains(sourceTypes, s.Type) {
		report(refuse(grammar.InvalidIPSet, "cannot use ipset %s as a source: its type is %s, and a source has one of %s",
			name, s.Type, strings.Join(sourceTypes, " ")).worded("ipset '%s' with type '%s' not usable as source", name, s.Type))
	}
}

// ipset finds an ipset of a family; nil, and reported, when there is none.
func (k *checker) ipset(name string, family grammar.Family, report report) *IPSet {
	s := k.IPSets[name]
	switch {
	case s == nil:
		p := refuse(grammar.InvalidIPSet, "cannot use ipset %s: there is no such ipset%s", name, near(k, name, k.IPSets))
		report(k.noSuch(p, name, "ipsets"))
	case family != grammar.AnyFamily && s.Family() != grammar.AnyFamily && family != s.Family():
		report(refuse(grammar.InvalidRule, "cannot use ipset %s in a rule for %s: its family is %s", name, family, s.Family()))
	default:
		return s
	}
	return nil
}
