package firewallcmd

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// understand finds out what a command line is about, and refuses options that cannot be combined.
func (s *session) understand() error {
	if s.out.quiet && s.out.verbose {
		s.out.quiet = false
		return misuse("firewall-cmd: error: argument -v/--verbose: not allowed with argument -q/--quiet", "--quiet and --verbose exclude each other")
	}
	todo := s.toDo()
	if err := s.checkLokkit(todo); err != nil {
		return err
	}
	if len(todo) > 1 && todo[0].use.has(alone) != todo[1].use.has(alone) && slices.ContainsFunc(todo[:2], onItems) {
		return besideAlone(todo[0], todo[1])
	}
	if len(todo) > 1 {
		return misuse(notTogether(s.program, todo[1], todo[0]), "only one thing at a time: %s and %s cannot be combined", todo[0].flag(), todo[1].flag())
	}
	s.permanent = s.program == offline || s.has("permanent")
	if len(todo) == 0 {
		return s.checkTimeout(nil)
	}
	s.option, s.values = todo[0], s.given[todo[0]]
	for _, check := range []func(*option) error{
		s.checkNamed, s.checkAlone, s.checkJSON, s.checkQuiet, s.checkPermanent, s.checkObject, s.checkDirect, s.checkTimeout, s.checkModifiers,
	} {
		if err := check(s.option); err != nil {
			return err
		}
	}
	return nil
}

// always are the options that go with everything.
var always = []string{"quiet", "verbose", "json", "system-config", "default-config"}

// aboutName are the verbs whose value is the name of what they are about.
var aboutName = map[verb]bool{doInfo: true, doPath: true, doDelete: true, doDefaults: true, doSetDefaultZone: true}

// checkNamed refuses an empty name, such as of a variable that a script has not set: nothing is meant by it. firewalld takes the option
// for one that is not there.
func (s *session) checkNamed(o *option) error {
	if !aboutName[o.do] || !slices.Contains(s.values, "") {
		return nil
	}
	if s.program == offline {
		return misuse("No option specified.", "%s needs a name", o.flag())
	}
	err := s.nothingToDo()
	s.out.hint(fmt.Sprintf("%s needs a name", o.flag()))
	return err
}

// checkAlone refuses other options beside one that stands alone.
func (s *session) checkAlone(o *option) error {
	if !o.use.has(alone) {
		return nil
	}
	for _, other := range optionsOf(s.program) {
		if _, ok := s.given[other]; ok && other != o && !slices.Contains(always, other.name) {
			return besideAlone(o, other)
		}
	}
	return nil
}

// besideAlone is that two options are combined of which one stands alone.
func besideAlone(one, other *option) error {
	if !one.use.has(alone) {
		one, other = other, one
	}
	return misuse("Can't use stand-alone options with other options.", "%s stands alone: it cannot be combined with %s", one.flag(), other.flag())
}

// onItems tells whether an option is about what an object or the direct interface holds.
func onItems(o *option) bool { return o.use.has(anyObject|direct) && !o.use.has(onObjects) }

// checkJSON refuses --json with what prints nothing that it could be.
func (s *session) checkJSON(o *option) error {
	if s.has("json") && !listings[o.do] {
		return misuse("", "--json is for listings: %s does not print one", o.flag())
	}
	return nil
}

func (s *session) checkQuiet(o *option) error {
	if s.out.quiet && o.use.has(prints) {
		s.out.quiet = false
		s.out.complain("-q/--quiet can't be used with this option(s)")
		return exitStatus(2)
	}
	return nil
}

func (s *session) checkPermanent(o *option) error {
	switch {
	case s.program == offline || o.use.has(alone):
	case s.permanent && !o.use.has(permanent):
		return misuse("Can't use this option with --permanent.", "%s cannot be used with --permanent", o.flag())
	case !s.permanent && !o.use.has(runtime):
		return misuse(permanentOnly, "%s can be used only with --permanent", o.flag())
	}
	return nil
}

// objectOptions are the options that name an object, and what an option must have to be used with them.
var objectOptions = []struct {
	name string
	use  use
}{
	{"zone", forZone}, {"policy", forPolicy}, {"policy-set", forSet}, {"service", forService}, {"ipset", forIPSet},
	{"icmptype", forICMPType}, {"helper", forHelper},
}

// checkObject finds out what something is to be done to.
func (s *session) checkObject(o *option) error {
	var object string
	for _, named := range objectOptions {
		if !s.has(named.name) {
			continue
		}
		belongs := named.use&(forBoth|forSet) != 0 // to the zone and policy options, of which there can be one
		switch {
		case o.use.has(onObjects), belongs && o.use.has(forOthers) && !o.use.has(named.use):
			// firewalld ignores a zone or policy that does not matter
		case !o.use.has(named.use):
			detail := fmt.Sprintf("Can't use --%s with this option.", named.name)
			if named.use == forSet {
				detail = "Option --policy-set may only be used with --add-disable or --remove-disable."
			}
			return misuse(detail, "%s cannot be used with --%s", o.flag(), named.name)
		case object != "" && belongs:
			return misuse(fmt.Sprintf("Can't use --%s with --%s.", object, named.name), "--%s and --%s exclude each other", object, named.name)
		default:
			object = named.name
		}
	}
	if o.use.has(onObjects) {
		return nil
	}
	switch {
	case object == "policy-set":
		if s.value(object) == "" {
			return misuse("Must use --policy/--policy-set with policy only options.", "--policy-set needs the beginning of a name")
		}
		s.kind = kindOf("policy")
	case object != "":
		s.kind, s.name = kindOf(object), s.value(object)
		if s.name == "" && object != "zone" {
			return misuse(fmt.Sprintf("No %s specified.", object), "--%s needs a name", object)
		}
		if !s.permanent && !slices.Contains([]string{"zone", "policy", "ipset"}, object) {
			return misuse(permanentOnly, "--%s can be used only with --permanent", object)
		}
	case o.use.has(forZone):
		s.kind = kindOf("zone")
	case o.use.has(anyObject):
		return misuse(fmt.Sprintf("No %s specified.", s.firstObjectOf(o)), "%s is about one object: say which with %s", o.flag(), s.objectsOf(o))
	}
	return nil
}

// What firewalld says of options that do not go together.
const (
	permanentOnly = "Option can be used only with --permanent."
	wrongDirect   = "Wrong usage of 'direct' options."
)

// notTogether is what firewalld says of two options that do something.
func notTogether(p program, one, other *option) string {
	return fmt.Sprintf("%s: error: argument %s: not allowed with argument %s", p, one.flags(), other.flags())
}

// firstObjectOf is what the first of the options names that say what an option can be used on.
func (s *session) firstObjectOf(o *option) string {
	for _, named := range objectOptions {
		if o.use.has(named.use) {
			return named.name
		}
	}
	return "object"
}

// objectsOf is a list of the options that name what an option can be used on.
func (s *session) objectsOf(o *option) string {
	var names []string
	for _, named := range objectOptions {
		if o.use.has(named.use) {
			names = append(names, "--"+named.name)
		}
	}
	return strings.Join(names, " or ")
}

func (s *session) checkDirect(o *option) error {
	switch {
	case o.use.has(direct) && !s.has("direct"):
		return misuse(wrongDirect, "%s can be used only with --direct, before it", o.flag())
	case !o.use.has(direct) && s.has("direct"):
		return misuse(wrongDirect, "%s cannot be used with --direct", o.flag())
	}
	return nil
}

var timeoutSyntax = regexp.MustCompile(`^([0-9]+)([smhSMH]?)$`)

var secondsOf = map[string]int64{"": 1, "s": 1, "m": 60, "h": 3600}

// checkTimeout reads the value of --timeout. 0 is none, and goes with everything. D-Bus carries it as a 32-bit number of seconds.
func (s *session) checkTimeout(o *option) error {
	if !s.has("timeout") {
		return nil
	}
	value := s.value("timeout")
	parts := timeoutSyntax.FindStringSubmatch(value)
	if parts == nil {
		return misuse(fmt.Sprintf("'%s' is wrong timeout value. Use for example '2m' or '1h'", value), "%q is no timeout: say a number of seconds, or one such as 2m or 1h", value)
	}
	n, err := strconv.ParseInt(parts[1], 10, 32)
	n *= secondsOf[strings.ToLower(parts[2])]
	switch {
	case err != nil || n != int64(int32(n)):
		return misuse("", "--timeout=%s is too long: the longest is 2147483647 seconds", value)
	case n == 0: // none
	case o == nil || !o.use.has(timed):
		return misuse("Wrong --timeout usage", "--timeout is for options that add something until then")
	case s.permanent:
		return misuse("Can't specify timeout for permanent action.", "--timeout cannot be used with --permanent: files do not expire")
	}
	s.timeout = int32(n)
	return nil
}

// modifiers are the options that only some others look at.
var modifiers = map[string][]string{
	"name": {"new-zone-from-file", "new-policy-from-file", "new-service-from-file", "new-ipset-from-file", "new-icmptype-from-file", "new-helper-from-file"},
	"type": {"new-ipset"}, "option": {"new-ipset"}, "family": {"new-ipset", "new-helper"}, "module": {"new-helper"},
}

func (s *session) checkModifiers(o *option) error {
	for name, users := range modifiers {
		if s.has(name) && !slices.Contains(users, o.name) {
			return misuse("", "--%s can be used only with %s", name, "--"+strings.Join(users, ", --"))
		}
	}
	return nil
}
