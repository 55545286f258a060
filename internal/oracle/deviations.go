package main

import (
	"regexp"
	"slices"
	"strings"
)

// deviation is a difference on purpose: what it is about, what firewalld and richwall say to it, each as a regular expression,
// and why. docs/deviations.md has them all for people. An outcome is a line "exit N", the output, and the lines of the error
// output behind "stderr: "; what of a state differs is told line by line.
type deviation struct{ what, theirs, ours, reason string }

var deviations = []deviation{
	{"", "Traceback \\(most recent|BUG:|has no attribute|is not a valid netmask|has no len\\(\\)|KeyError|IndexError|list index out of range|ValueError|TypeError|x not in list|Exception: \"'includes'\"|Exception: \"'(helpers|egress_priority|ingress_priority)'\"", "^exit [1-9]", "firewalld has an internal error, richwall says what is wrong"},
	{"^dbus", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "what is not there is named in other words"},
	{"^sh gdbus", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "what is not there is named in other words"},
	{"^ebtables-save", "_direct|^ACCEPT$|RETURN", "not there|^$", "chains of ebtables without rules, which firewalld makes at each start with iptables"},
	{"Properties.Set .*NftablesFlowtable", "^exit 1", "^exit 0", "a property that is announced as one that can be set can be set"},
	{"(config.direct.(addChain|update)|permanent --direct --add-chain|offline --direct --add-chain)", "^exit 0", "BUILTIN_CHAIN", "a permanent chain of the table itself is refused, as at runtime"},
	{"^file services/", "^ *<module name=\"nf_conntrack_", "", "modules of a service are written by the names of helpers"},
	{"policy", "^exit 0", "PANIC_MODE", "in panic mode no change is taken, not even one that changes nothing"},
	{"type=tcp-reset", "^exit (0|13)|COMMAND_FAILED", "INVALID_RULE", "tcp-reset answers TCP alone, and iptables takes it for nothing else"},
	{"prefix=.?\"?a=b", "INVALID_RULE.*_lexer", "", "a quoted text may have ="},
	{"tcp-mss-clamp value=(None|70000|0536|65536)", "^exit 0", "INVALID_RULE", "a size that the kernel does not take, or takes for another"},
	{"(22-|1-)( |'|/|:)", "^exit 0", "INVALID_PORT", "a range has two ends"},
	{"255\\.0\\.255\\.0", "^exit 0", "INVALID_(ADDR|SOURCE|RULE)", "a mask that no prefix says"},
	{"source mac=", "^exit 0|COMMAND_FAILED", "INVALID_RULE: .*(HOST|MAC)", "iptables knows the MAC address of incoming packets only"},
	{"tcp-mss-clamp", "COMMAND_FAILED", "INVALID_RULE", "the kernel has no path MTU for what has arrived"},
	{"invert=", "^exit 0", "INVALID_RULE", "a typo must not turn a rule around"},
	{"limit", "^exit 0", "INVALID_RULE.*limit", "the rule would act without its limit"},
	{"--(service|ipset|icmptype|helper|policy)=( |$)", "", "^exit 2\nstderr: usage", "an object to change needs a name"},
	{"elper", "^exit 0", "INVALID_IPV", "a helper is for ipv4, ipv6 or both"},
	{"a-chain-whose-name-is-too-long", "^exit (0|13)|COMMAND_FAILED", "INVALID_CHAIN", "a chain that iptables cannot have is refused"},
	{"Properties.Get.*IPv[46]ICMPTypes", "^exit 0", "^exit 0", "ICMP types that are known are those that have a definition"},
	{"--load-.*-defaults|loadDefaults", "^exit 0", "NO_DEFAULTS", "firewalld has a copy of what is shipped, which it wrote although nothing was changed"},
	{"--reload|--complete-reload|/ reload|/ completeReload|resetToDefaults|--reset-to-defaults|setDefaultZone|--set-default-zone|setLogDenied|--set-log-denied", "COMMAND_FAILED: Direct:", "^exit 0", "a direct rule that cannot be loaded does not keep the rest from being loaded"},
	{"", "^exit [1-9]", "PANIC_MODE", "in panic mode a change is refused for that, whatever else is wrong with it"},
	{"^\\$", "^exit 0\nsuccess", "No options specified", "a command that says nothing to do is a wrong use"},
	{"", "^exit 0", "INVALID_(PROTOCOL|RULE): .*protocol 0", "iptables takes protocol 0 for any"},
	{"rule ", "^exit 0", "INVALID_(IPSET|SERVICE|ICMPTYPE)", "a rule that names what is not there is refused also in a zone that is not in use"},
	{"remove|query", "NOT_ENABLED|^exit [01]\n(false|no)?$", "^exit [1-9].*(INVALID|MISSING)_", "what is invalid is refused when it is to be removed or asked for, too"},
	{"^offline .*--direct .*--remove", "^exit (2|108|111)", "^exit 0\nsuccess\nstderr: Warning: NOT_ENABLED", "what is not there is a warning, as everywhere else"},
	{"--path-|Properties.Get.*(path|default|builtin|filename)", "^exit 0", "^exit 0", "firewalld has a copy of what is shipped, which it wrote although nothing was changed"},
	{"^ip6?tables-save \\w+ (mychain|chain2)$", "not there", "^-", "chains of others stay over a start and a reload"},
	{"(?i)service", "^exit 0", "INVALID_MODULE", "a module without a name that the kernel could know is refused"},
	{"", "/ipset restore' failed.*255\\.255", "^exit 0", "a mask in dots is written as a prefix"},
	{"an-ipset-whose-name-is-far-too-long", "^exit 0", "INVALID_NAME", "ipset takes no name of more than 31 bytes"},
	{"(?i)icmptype.*(addDestination|--add-destination)", "^exit 0|INVALID_ICMPTYPE", "ALREADY_ENABLED", "an ICMP type without destinations is for both families"},
	{"", "MISSING_(PORT|PROTOCOL)", "INVALID_(PORT|PROTOCOL)", "an empty value is refused for what it is"},
	{"removeChain|--remove-chain", "BUILTIN_CHAIN", "NOT_ENABLED", "a chain that is not there cannot be removed, whatever it is called"},
	{"forward-port|orwardPort", "COMMAND_FAILED: 'python-nftables' failed", "^exit 0", "StrictForwardPorts works with older versions of nft"},
	{"^file direct.xml$", "^<[?]xml[^\n]*\n<direct>\n</direct>$", "not there", "a file of direct rules without any, which firewalld writes although nothing was changed"},
	{"^file (zones|policies)/", "^[(]order[)]", "^[(]order[)]", "a zone or policy that is as it was is not written again when what runs is saved"},
	{"^file ", "port=\"http\"", "port=\"80\"", "a port given by the name of a service is written as a number"},
	{"^ipset ", "^(create|add) ", "not there", "ipsets are made for direct rules that can look them up, which those for ebtables cannot"},
	{"olicy.*/", "^exit 0", "INVALID_NAME", "only zones can be in folders"},
	{"--get-zone-of-source=.*--get-zone-of-source=", "^exit", "^exit", "the zones of all sources are told, not only of the first"},
	{"rule ", "^exit 0", "INVALID_RULE: .*its family is", "a rule for one family over an ipset of the other is refused before it is in use"},
	{"^nft chain raw_(output|prerouting)$", "not there", "policy drop", "panic mode with iptables is a table of nftables, which all packets pass first"},
	{"ipset:('|\"|$| )", "^exit 0", "INVALID_SOURCE", "an ipset without a name is refused as a source"},
	{"config.direct.(get|query)|--permanent --direct --(get|query)", "^exit [01]", "INVALID_(IPV|TABLE)", "a family or table that does not exist is refused when it is asked for, as at runtime"},
	{"runtime-to-permanent|runtimeToPermanent", "RT_TO_PERM_FAILED", "^exit 0", "firewalld cannot save a service that was changed and has includes or helpers"},
	{"interface-name16", "", "INVALID_INTERFACE", "a name of an interface that the kernel cannot have is refused"},
	{"", "dictionary changed size during iteration", "", "a reload of firewalld crashes while something has a timeout"},
	{"^(\\$|offline)", "No option specified|No options specified", "INVALID_(NAME|VALUE|MODULE|ZONE|POLICY|SERVICE|IPSET|ICMPTYPE|HELPER)", "an empty value is refused for what it is"},
	{"--query-.*--query-", "^exit 0\nstderr: Warning: (INVALID|MISSING)", "^exit [12]", "a query of several things of which all are invalid has the exit code of that"},
	{"^nft chain nat_PRE|^ip6?tables-save nat", "dnat .*:0$|--to-destination [^ ]*:0$|redirect to :0", "", "a forward port to port 0 leaves the port as it is"},
	{"ipset:('|\"|$| )", "INVALID_IPSET", "INVALID_SOURCE", "a source that is an ipset without a name is no source"},
	{"config.direct.removeRules|--permanent --direct --remove-rules", "^exit 0", "INVALID_(IPV|TABLE)", "a family or table that does not exist is refused, as at runtime"},
	{"^ebtables-save \\w+ (INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)$", "^DROP$", "^ACCEPT$|not there", "a switch from iptables to nftables leaves the policies of a reload in ebtables, which drop all that is bridged"},
	{"^nft flags owner$", "not there", "^$", "with nft 1.0.6 firewalld's table has no owner, whatever NftablesTableOwner says"},
	{"nterface|ource|changeZone|change-zone", "INVALID_(INTERFACE|ADDR): .*already bound to zone", "ZONE_CONFLICT", "what is in another zone is a conflict of zones, also for block, drop and trusted"},
	{"^(offline|\\$ .*--permanent|.*config).* tcp-mss-clamp", "^exit 0", "INVALID_RULE: the kernel does not know the path's MTU", "a permanent clamp to the path's MTU towards the host is refused before a reload fails for it"},
	{"direct.addChain|--direct --add-chain", "COMMAND_FAILED: .*Chain already exists", "BUILTIN_CHAIN", "a chain that the table has is refused for what it is"},
	{"^file (services|icmptypes)/", "^ *<destination ipv6=\"[^\"]*\" ipv4=\"[^\"]*\"/>$", "^ *<destination ipv4=\"[^\"]*\" ipv6=\"[^\"]*\"/>$", "the attributes of an element have no order"},
	{"^\\$ --permanent --new-ipset=|config.addIPSet ", "^exit 0", "INVALID_OPTION: cannot use option family with type hash:mac", "an option that the type does not have is refused before a reload fails for it"},
	{"^offline .*--query-", "cannot access local variable", "^exit [01]", "firewalld has an internal error, richwall answers what can be answered"},
	{"^bus properties of config$|Properties.Get.*config'\" \"'IPv6_rpfilter'", "\"yes\"", "\"no\"", "the reverse path is not checked with IPv6_rpfilter=no in capitals or as false, whatever firewalld's property says"},
	{"Properties.Set.*IPv6_rpfilter2", "INVALID_VALUE: '(STRICT|LOOSE)", "^exit 0", "a value of IPv6_rpfilter2 is taken as in the file, in any case"},
	{"direct.addChain|--direct --add-chain", "COMMAND_FAILED: .*requires an argument", "INVALID_CHAIN: cannot use a chain without a name", "a chain without a name is refused for what it is"},
	{"^offline .*--direct .*--get-(chains|rules|passthroughs) ", "^exit 2\nstderr: No (chains|rules|passthroughs) for ", "^exit 0$", "an empty list is no error, as everywhere else"},
	{"ipset.addOption ", "IPSET_WITH_TIMEOUT", "INVALID_VALUE: .*timeout", "a timeout that is no number is wrong for any set"},
	{"reload", "^exit 0", "INVALID_HELPER: cannot use helper h1: there is no such helper", "a service with a helper that is not there is refused before a zone that has it is in use"},
	{"rule ", "^exit 0", "INVALID_RULE: .*cannot use service \\S+ with a destination: the service has its own", "a rule with a destination for a service that has its own is refused before a reload fails for it"},
	{"^(file (zones|policies|services|helpers)/|bus |dbus |sh gdbus )", "2000-1000", "1000-2000", "a range that is given backwards is written from its lower end"},
	{"^nft chain (filter_FWD|nat_POST)_\\S+_dispatch_stage2$", "^(ether daddr \\S+ jump (filter_FWD|nat_POST)_\\S+\n?)+$", "^$", "a rule for packets to a MAC address, which firewalld makes for zones that are in use already, never matches what is sent on"},
	{"^ebtables-save \\w+ (mychain|chain2)$", "not there", "^(ACCEPT|-)", "chains of others stay over a start and a reload"},
	{"", "PANIC_MODE", "^exit [1-9].*INVALID_", "something invalid is refused in panic mode for one of the two"},
	{"config.direct.addRule|permanent --direct --add-rule", "^exit 0", "INVALID_CHAIN: cannot use", "a rule of a chain that cannot be is refused before a reload fails for it"},
	{"--permanent .*--add-entry=.*--add-entry=|--add-entry=.*--add-entry=.*--permanent", "^exit 136", "^exit 0\nsuccess\nstderr: Warning: INVALID_ENTRY", "of several entries the valid ones are added, as firewall-cmd(1) says of all options that may be given several times"},
	{"direct.addChain|--direct --add-chain", "COMMAND_FAILED: .*chain name may not clash", "INVALID_CHAIN: cannot use a chain without a name", "a chain without a name is refused for what it is"},
	{"Properties.Set.*IPv6_rpfilter2?'", "^exit 0", "INVALID_VALUE: cannot use IPv6_rpfilter=(strict|loose)-forward with FirewallBackend=iptables", "a value that iptables cannot have is refused before a reload fails for it"},
	{"^dbus / config.(add|load)|^dbus .*config config.add", "^exit 0\n/org/fedoraproject/FirewallD1/config/\\w+/\\d+$", "^exit 0\n/org/fedoraproject/FirewallD1/config/\\w+/\\d+$", "the number of a path is the daemon's to choose: behind a reset firewalld gives those of before to others"},
	{"--name=( |$)", "^exit 0", "INVALID_NAME", "an object to change needs a name"},
	{"--check-config|checkPermanentConfig", "^exit 0", "INVALID_HELPER: cannot use helper \\S+ there is no such helper", "a service with a helper that is not there is refused before a zone that has it is in use"},
	{"ervice.*(estination|update)", "^exit 0", "INVALID_RULE: cannot use service \\S+ with a destination: the service has its own", "a rule with a destination for a service that has its own is refused before a reload fails for it"},
	{"", "COMMAND_FAILED: 'python-nftables' failed: internal:0:0-0: Error: Can't parse symbolic invalid expressions", "^exit 0", "StrictForwardPorts works with older versions of nft"},
	{"--set-target=( |$)", "No option specified|No options specified", "INVALID_TARGET", "an empty value is refused for what it is"},
	{"(?i)icmp", "^exit 0", "INVALID_ICMPTYPE: no ICMP type and code is known", "an ICMP type that is blocked has a type and a code in each of its families"},
	{"addService", "INVALID_SERVICE: Service '(\\S+)': Included service '\\S+' not found", "^exit 0", "a service may include itself from the first, as it may later"},
	{"--check-config|checkPermanentConfig", "^exit 0", "COMMAND_FAILED: .*direct", "--check-config of a running daemon asks the kernel about direct rules"},
	{"queryDestination", "^exit 0\ntrue", "^exit 0\nfalse", "a family that is none is none of an ICMP type"},
	{"^file zones/", "^$", "^ *<interface name=\"[^\"]*\"/>$", "an interface that a reload without flushing has kept is saved as what else runs"},
	{"olicy.setPolicySettings.*priority", "^exit 0", "INVALID_SETTING: cannot set the priority", "a priority that a running policy does not take is refused, instead of success without an effect"},
	{"^\\$ --permanent --(query|add|remove|set)-(module|protocol|include|destination|helper)=", "^exit 0\nsuccess", "No \\w+ specified", "what is to be asked of, or done to, no object is a wrong use"},
	{"^dbus .*config.get\\w+ByName", "^exit 0\n/org/fedoraproject/FirewallD1/config/\\w+/\\d+$", "^exit 0\n/org/fedoraproject/FirewallD1/config/\\w+/\\d+$", "a name keeps its number over a reload"},
	{"config.direct.update ", "^exit 0", "INVALID_CHAIN: cannot use a chain without a name", "a chain without a name is refused for what it is"},
	{"^ebtables-save \\w+ \\S+$", "^(ACCEPT\n(.*\n)?-A \\w+ -j RETURN|-A \\w+ -j RETURN\n(.*\n)?ACCEPT)$", "^RETURN", "a chain of ebtables has the policy RETURN instead of a last rule, behind which rules of others would never act"},
	{"rule ", "^exit 0", "INVALID_ADDR: no address is outside of", "iptables takes no rule that nothing can match"},
	{"config.service.*(removeModule|queryModule|addModule)", "", "", "modules of a service are known by the names of helpers"},
	{"^(\\$|offline) .*rule ", "^exit 0", "INVALID_RULE: .*cannot use service \\S+ with a destination: the service has its own", "a rule with a destination for a service that has its own is refused before a reload fails for it"},
	{"^nft chain mangle_", "meta mark set meta mark & 0x0*[0-9a-f]{1,8} \\^ 0x", "meta mark set meta mark & 0x", "a mark keeps the bits that are not in the mask of the rule"},
	{"level=.?\"?error", "Invalid log level 'error'", "^exit 0", "the level error is that which nft calls err"},
	{"^file services/", "^(<[?]xml[^\n]*\n)?<service version=\"short\">\n *<short>description</short>", "", "firewalld writes the names of the settings of a service in the place of their values"},
	{"^ip6?tables-save ", "^$|not there", "^(-A [^\n]* --comment " + untracked + "[^\n]*\n?)+$", "rules of others stay over a start and a reload, and so do those that a passthrough without a trace has made"},
	{"--set-priority=(--)?( |$)", "No options specified", "INVALID_PRIORITY", "a value -- is refused for what it is"},
	{"^file zones/", "port=\" 80\"", "port=\"80\"", "a port is written without the blanks around it"},
	{"--check-config|checkPermanentConfig", "^exit 0", "INVALID_IPSET: Zone .* not among existing ipsets", "a source that is an ipset which is not there is found before a reload fails for it"},
	{"", "COMMAND_FAILED: 'handle'", "", "firewalld has an internal error where a name of an interface that the kernel cannot have was taken before"},
	{"--reload", "ipset create .*set with the same name already exists", "^exit 0", "a reload of firewalld makes a set with a timeout that is there already"},
	{"icmptype.removeDestination", "^exit 0", "NOT_ENABLED", "a family that is none is none of an ICMP type"},
	{"config.direct.(addChain|update)|permanent --direct --add-chain|offline --direct --add-chain", "^exit 0", "INVALID_CHAIN", "a chain that cannot be is refused before a reload fails for it"},
	{"olicy.setPolicySettings", "INVALID_SETTING: Unhandled setting type", "^exit 0", "a setting of a running policy that is given as it is changes nothing"},
	{"^file (zones|policies)/", "^ *<(source-)?port port=\"\\d+-\\d+\" protocol=\"\\w+\"/>$", "^$", "ports that overlap are one range at once"},
	{"add-passthrough|addPassthrough|config.direct.update", "^exit 0", "COMMAND_FAILED: cannot", "a passthrough that no tool takes is refused before a reload fails for it"},
	{"ipset.update", "^exit 0", "IPSET_WITH_TIMEOUT", "a set with a timeout is refused as the source of a zone before a reload fails for it"},
	{"add-forward( |$)|addForward( |$)", "^exit 0", "PANIC_MODE", "in panic mode no change is taken, not even one that changes nothing"},
	{"^file (zones|policies)/", "<forward-port [^\n]*to-port=\"(\\d+)-\\d+\"", "<forward-port [^\n]*to-port=\"\\d+\"", "a range of one port is written as that port"},
	{"direct.add(Rule|Chain)|--direct --add-(rule|chain)", "COMMAND_FAILED", "INVALID_CHAIN: cannot use", "a chain that cannot be is refused for what it is"},
	{"--new-ipset", "is not compatible with", "NAME_CONFLICT", "several things are wrong, and both refuse it for one of them"},
	{"remove|query", "UNKNOWN_SOURCE", "INVALID_ADDR", "what is invalid is refused when it is to be removed or asked for, too"},
	{"", "Did not receive a reply", "", "firewalld takes longer than its commands wait"},
	{"--set-priority=", "invalid literal for int", "INVALID_PRIORITY", "what is no number has the code of that"},
	{"addPassthrough|--add-passthrough", "COMMAND_FAILED", "INVALID_PASSTHROUGH", "what the tool would refuse is refused for what it is"},
	{"--new-ipset=|addIPSet", "^exit 0", "INVALID_IPSET: Zone .* not usable as source", "a set that a zone has as its source is refused before a reload fails for it"},
	{"--forward-port=", ":None to default zone", "", "an empty port is shown as None"},
	{"^bus listServices$", "", "^$", "a service with a helper that is not there is not in use behind a start, nor is one that includes it"},
	{"^ebtables-save \\w+ [A-Z]+$", "^(-A [A-Z]+ -j [A-Z]+_direct\n)?DROP$", "^ACCEPT$|not there", "a reload in panic mode leaves the policies of firewalld's reload in ebtables"},
	{"--query-forward-port", "to(port|addr)=None", "^exit 0", "an empty port is shown as None"},
}

type matcher struct {
	what, theirs, ours *regexp.Regexp
	reason             string
}

var matchers = func() (out []matcher) {
	for _, d := range deviations {
		out = append(out, matcher{regexp.MustCompile("(?s)" + d.what), regexp.MustCompile("(?s)" + d.theirs), regexp.MustCompile("(?s)" + d.ours), d.reason})
	}
	return out
}()

// explain is the reason for a difference, or nothing.
func explain(d difference) string {
	if reason := sameCode(d); reason != "" {
		return reason
	}
	if d.shipped {
		return "a copy of what is shipped, which firewalld writes although nothing was changed"
	}
	for _, m := range matchers {
		if m.what.MatchString(d.what) && m.theirs.MatchString(d.theirs) && m.ours.MatchString(d.ours) {
			return m.reason
		}
	}
	return ""
}

// sortedByCount are the keys of a map, the greatest count first.
func sortedByCount(m map[string]int) []string {
	return slices.SortedFunc(keysOf(m), func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return map[bool]int{true: -1, false: 1}[a < b]
	})
}

// failed is the reason for all differences of a state in which firewalld does not run, with the configuration that it took.
func failed(d difference) string {
	if d.what == "bus queryPanicMode" && d.theirs == "false" && d.ours == "true" {
		return "panic mode stays on over a restart"
	}
	theirs, message, _ := strings.Cut(d.theirs, "\n")
	if d.what != life || theirs != "FAILED" {
		return ""
	}
	if !strings.HasPrefix(d.ours, "RUNNING") {
		return "both fail with a configuration that they have accepted before: firewalld starts with the stock one, richwall with its last good one"
	}
	message = plain.ReplaceAllString(message, "#")
	return "firewalld fails with a configuration that it has accepted before, and starts with the stock one: " + message[:min(len(message), 70)]
}

// code is an error's code at the start of a line, or in an error of the bus.
var code = regexp.MustCompile(`(?m)^(?:stderr: )?(?:Error: |Warning: |org\.fedoraproject\.FirewallD1\.Exception: ")?([A-Z][A-Z0-9_]{5,})\b`)

// missing are the codes of objects that are not there.
var missing = []string{"INVALID_ZONE", "INVALID_POLICY", "INVALID_SERVICE", "INVALID_IPSET", "INVALID_ICMPTYPE", "INVALID_HELPER"}

// sameCode is the reason for a difference in which both sides have refused something, or warned, with the same code.
func sameCode(d difference) string {
	if d.shape == "" {
		return ""
	}
	if sortedWords(d.theirs) == sortedWords(d.ours) {
		return "the same in another order, where firewalld has none"
	}
	theirExit, theirs, _ := strings.Cut(d.theirs, "\n")
	ourExit, ours, _ := strings.Cut(d.ours, "\n")
	a, b := code.FindAllStringSubmatch(theirs, -1), code.FindAllStringSubmatch(ours, -1)
	refused := theirExit != "exit 0" && ourExit != "exit 0"
	named := func(codes [][]string) bool { return len(codes) > 0 && slices.Contains(missing, codes[len(codes)-1][1]) }
	switch {
	case theirExit == ourExit && theirExit == "exit 2" && d.shape[0] != 'd':
		return "a wrong use of the commands is told in other words"
	case theirExit == ourExit && len(a) > 0 && len(a) == len(b) && slices.EqualFunc(a, b, func(a, b []string) bool { return a[1] == b[1] }):
		return "the same code, with other words behind it"
	case theirExit == ourExit && theirExit != "exit 0" && len(a) > 0 && len(b) > 0 && a[0][1] == b[0][1]:
		return "the same code, with other words behind it"
	case refused && named(a) && named(b):
		return "several things are not there, and both refuse it for one of them"
	case refused && (d.wrong > 1 || len(a) > 0 && len(b) > 0 && (named(a) || named(b))):
		return "several things are wrong, and both refuse it for one of them"
	}
	return ""
}
