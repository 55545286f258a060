package main

import (
	"regexp"
	"slices"
	"strings"
)

// deviation is a difference on purpose between the outcomes of a step: what the step is, what firewalld and richwall say to it,
// each as a regular expression, and why. docs/deviations.md has them all for people. An outcome is a line "exit N", the output, and
// the lines of the error output behind "stderr: ". Groups called same have to have the same text on both sides. when says whether
// the step comes where the reason is one; it may be nil.
type deviation struct {
	what, theirs, ours, reason string
	when                       func(difference) bool
}

var deviations = []deviation{
	{"", "Traceback \\(most recent|BUG:|has no attribute|is not a valid netmask|has no len\\(\\)|KeyError|IndexError|list index out of range|ValueError|TypeError|x not in list|Exception: \"'includes'\"|Exception: \"'(helpers|egress_priority|ingress_priority)'\"", "^exit [1-9]", "firewalld has an internal error, richwall says what is wrong", nil},
	{"^dbus", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "what is not there is named in other words", nil},
	{"^sh gdbus", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "what is not there is named in other words", nil},
	{"Properties.Set .*NftablesFlowtable", "^exit 1", "^exit 0", "a property that is announced as one that can be set can be set", nil},
	{"(config.direct.(addChain|update)|permanent --direct --add-chain|offline --direct --add-chain)", "^exit 0", "BUILTIN_CHAIN", "a permanent chain of the table itself is refused, as at runtime", nil},
	{"policy", "^exit 0", "PANIC_MODE", "in panic mode no change is taken, not even one that changes nothing", nil},
	{"type=tcp-reset", "^exit (0|13)|COMMAND_FAILED", "INVALID_RULE", "tcp-reset answers TCP alone, and iptables takes it for nothing else", nil},
	{"prefix=.?\"?a=b", "INVALID_RULE.*_lexer", "^exit", "a quoted text may have =", nil},
	{"tcp-mss-clamp value=(None|70000|0536|65536)", "^exit 0", "INVALID_RULE", "a size that the kernel does not take, or takes for another", nil},
	{"(22-|1-)( |'|/|:)", "^exit 0", "INVALID_PORT", "a range has two ends", nil},
	{"255\\.0\\.255\\.0", "^exit 0", "INVALID_(ADDR|SOURCE|RULE)", "a mask that no prefix says", nil},
	{"source mac=", "^exit 0|COMMAND_FAILED", "INVALID_RULE: .*(HOST|MAC)", "iptables knows the MAC address of incoming packets only", nil},
	{"tcp-mss-clamp", "COMMAND_FAILED", "INVALID_RULE", "the kernel has no path MTU for what has arrived", nil},
	{"invert=", "^exit 0", "INVALID_RULE", "a typo must not turn a rule around", nil},
	{"limit", "^exit 0", "INVALID_RULE.*limit", "the rule would act without its limit", nil},
	{"--(service|ipset|icmptype|helper|policy)=( |$)", "", "^exit 2\nstderr: usage", "an object to change needs a name", nil},
	{"elper", "^exit 0", "INVALID_IPV", "a helper is for ipv4, ipv6 or both", nil},
	{"a-chain-whose-name-is-too-long", "^exit (0|13)|COMMAND_FAILED", "INVALID_CHAIN", "a chain that iptables cannot have is refused", nil},
	{"--load-.*-defaults|loadDefaults", "^exit 0", "NO_DEFAULTS", "firewalld has a copy of what is shipped, which it wrote although nothing was changed", nil},
	{"", "^exit [1-9]", "PANIC_MODE", "in panic mode a change is refused for that, whatever else is wrong with it", nil},
	{"^\\$", "^exit 0\nsuccess", "No options specified", "a command that says nothing to do is a wrong use", nil},
	{"", "^exit 0", "INVALID_(PROTOCOL|RULE): .*protocol 0", "iptables takes protocol 0 for any", nil},
	{"rule ", "^exit 0", "INVALID_(IPSET|SERVICE|ICMPTYPE)", "a rule that names what is not there is refused also in a zone that is not in use", nil},
	{"remove|query", "^exit [1-9][^\n]*\nstderr: [^\n]*NOT_ENABLED|^exit [01]\n(false|no)?$|^exit 0\n(success\n)?stderr: Warning: NOT_ENABLED", "^exit [1-9].*(INVALID|MISSING)_", "what is invalid is refused when it is to be removed or asked for, too", hasWrong},
	{"^offline .*--direct .*--remove", "^exit (2|108|111)", "^exit 0\nsuccess\nstderr: Warning: NOT_ENABLED", "what is not there is a warning, as everywhere else", nil},
	{"(?i)service", "^exit 0", "INVALID_MODULE", "a module without a name that the kernel could know is refused", nil},
	{"", "/ipset restore' failed.*255\\.255", "^exit 0", "a mask in dots is written as a prefix", nil},
	{"an-ipset-whose-name-is-far-too-long", "^exit 0", "INVALID_NAME", "ipset takes no name of more than 31 bytes", nil},
	{"(?i)icmptype.*(addDestination|--add-destination)", "^exit 0|INVALID_ICMPTYPE", "ALREADY_ENABLED", "an ICMP type without destinations is for both families", nil},
	{"", "MISSING_(PORT|PROTOCOL)", "INVALID_(PORT|PROTOCOL)", "an empty value is refused for what it is", nil},
	{"removeChain|--remove-chain", "BUILTIN_CHAIN", "NOT_ENABLED", "a chain that is not there cannot be removed, whatever it is called", nil},
	{"forward-port|orwardPort", "^exit [1-9].*COMMAND_FAILED: 'python-nftables' failed", "^exit 0", "StrictForwardPorts works with older versions of nft", strict},
	{"olicy.*/", "^exit 0", "INVALID_NAME", "only zones can be in folders", nil},
	{"rule ", "^exit 0", "INVALID_RULE: .*its family is", "a rule for one family over an ipset of the other is refused before it is in use", nil},
	{"ipset:('|\"|$| )", "^exit 0", "INVALID_SOURCE", "an ipset without a name is refused as a source", nil},
	{"config.direct.(get|query)|--permanent --direct --(get|query)", "^exit [01]", "INVALID_(IPV|TABLE)", "a family or table that does not exist is refused when it is asked for, as at runtime", nil},
	{"runtime-to-permanent|runtimeToPermanent", "RT_TO_PERM_FAILED", "^exit 0", "firewalld cannot save a service that was changed and has includes or helpers", nil},
	{"interface-name16", "^exit", "^exit [1-9].*INVALID_INTERFACE", "a name of an interface that the kernel cannot have is refused", nil},
	{"", "^exit [1-9].*dictionary changed size during iteration", "^exit 0", "a reload of firewalld crashes while something has a timeout", nil},
	{"^(\\$|offline)", "No option specified|No options specified", "INVALID_(NAME|VALUE|MODULE|ZONE|POLICY|SERVICE|IPSET|ICMPTYPE|HELPER)", "an empty value is refused for what it is", nil},
	{"--query-.*--query-", "^exit 0\nstderr: Warning: (INVALID|MISSING)", "^exit [12]", "a query of several things of which all are invalid has the exit code of that", nil},
	{"ipset:('|\"|$| )", "INVALID_IPSET", "INVALID_SOURCE", "a source that is an ipset without a name is no source", nil},
	{"config.direct.removeRules|--permanent --direct --remove-rules", "^exit 0", "INVALID_(IPV|TABLE)", "a family or table that does not exist is refused, as at runtime", nil},
	{"nterface|ource|changeZone|change-zone", "INVALID_(INTERFACE|ADDR): .*already bound to zone", "ZONE_CONFLICT", "what is in another zone is a conflict of zones, also for block, drop and trusted", nil},
	{"^(offline|\\$ .*--permanent|.*config).* tcp-mss-clamp", "^exit 0", "INVALID_RULE: the kernel does not know the path's MTU", "a permanent clamp to the path's MTU towards the host is refused before a reload fails for it", nil},
	{"direct.addChain|--direct --add-chain", "COMMAND_FAILED: .*Chain already exists", "BUILTIN_CHAIN", "a chain that the table has is refused for what it is", nil},
	{"^\\$ --permanent --new-ipset=|config.addIPSet ", "^exit 0", "INVALID_OPTION: cannot use option family with type hash:mac", "an option that the type does not have is refused before a reload fails for it", nil},
	{"^(\\$|offline) .*--query-", "cannot access local variable", "^exit [01]", "firewalld has an internal error, richwall answers what can be answered", nil},
	{"Properties.Set.*IPv6_rpfilter2", "INVALID_VALUE: '(STRICT|LOOSE)", "^exit 0", "a value of IPv6_rpfilter2 is taken as in the file, in any case", nil},
	{"direct.addChain|--direct --add-chain", "COMMAND_FAILED: .*requires an argument", "INVALID_CHAIN: cannot use a chain without a name", "a chain without a name is refused for what it is", nil},
	{"^offline .*--direct .*--get-(chains|rules|passthroughs) ", "^exit 2\nstderr: No (chains|rules|passthroughs) for ", "^exit 0$", "an empty list is no error, as everywhere else", nil},
	{"ipset.addOption ", "IPSET_WITH_TIMEOUT", "INVALID_VALUE: .*timeout", "a timeout that is no number is wrong for any set", nil},
	{"reload", "^exit 0", "INVALID_HELPER: cannot use helper [^:\n]*: there is no such helper", "a service with a helper that is not there is refused before a zone that has it is in use", gaveHelper},
	{"rule ", "^exit 0", "INVALID_RULE: .*cannot use service \\S+ with a destination: the service has its own", "a rule with a destination for a service that has its own is refused before a reload fails for it", nil},
	{"", "PANIC_MODE", "^exit [1-9].*INVALID_", "something invalid is refused in panic mode for one of the two", nil},
	{"config.direct.addRule|permanent --direct --add-rule", "^exit 0", "INVALID_CHAIN: cannot use", "a rule of a chain that cannot be is refused before a reload fails for it", nil},
	{"--permanent .*--add-entry=.*--add-entry=|--add-entry=.*--add-entry=.*--permanent", "^exit 136", "^exit 0\nsuccess\nstderr: Warning: INVALID_ENTRY", "of several entries the valid ones are added, as firewall-cmd(1) says of all options that may be given several times", nil},
	{"direct.addChain|--direct --add-chain", "COMMAND_FAILED: .*chain name may not clash", "INVALID_CHAIN: cannot use a chain without a name", "a chain without a name is refused for what it is", nil},
	{"Properties.Set.*IPv6_rpfilter2?'", "^exit 0", "INVALID_VALUE: cannot use IPv6_rpfilter=(strict|loose)-forward with FirewallBackend=iptables", "a value that iptables cannot have is refused before a reload fails for it", nil},
	{"--name=( |$)", "^exit 0", "INVALID_NAME", "an object to change needs a name", nil},
	{"--check-config|checkPermanentConfig", "^exit 0", "INVALID_HELPER: cannot use helper \\S*: there is no such helper", "a service with a helper that is not there is refused before a zone that has it is in use", nil},
	{"ervice.*(estination|update)", "^exit 0", "INVALID_RULE: cannot use service \\S+ with a destination: the service has its own", "a rule with a destination for a service that has its own is refused before a reload fails for it", nil},
	{"", "^exit [1-9].*COMMAND_FAILED: 'python-nftables' failed: internal:0:0-0: Error: (Can't parse symbolic invalid expressions|Could not process rule: No such file or directory)", "^exit 0", "StrictForwardPorts works with older versions of nft", strict},
	{"--set-target=( |$)", "No option specified|No options specified", "INVALID_TARGET", "an empty value is refused for what it is", nil},
	{"(?i)icmp", "^exit 0", "INVALID_ICMPTYPE: no ICMP type and code is known", "an ICMP type that is blocked has a type and a code in each of its families", nil},
	{"addService", "INVALID_SERVICE: Service '(\\S+)': Included service '\\S+' not found", "^exit 0", "a service may include itself from the first, as it may later", nil},
	{"--policy=\\S+ .*--set-target=( |$)", "^exit 0\nsuccess$", "^exit 110\nstderr: (Error: )?INVALID_TARGET: Policy '[^']*': '' is invalid target$", "an empty target of a policy is refused, instead of success without an effect", nil},
	{"--check-config|checkPermanentConfig", "^exit 0", "COMMAND_FAILED: .*direct", "--check-config of a running daemon asks the kernel about direct rules", nil},
	{"queryDestination", "^exit 0\ntrue", "^exit 0\nfalse", "a family that is none is none of an ICMP type", nil},
	{"olicy.setPolicySettings.*priority", "^exit 0", "INVALID_SETTING: cannot set the priority", "a priority that a running policy does not take is refused, instead of success without an effect", nil},
	{"^\\$ --permanent --(query|add|remove|set)-(module|protocol|include|destination|helper)=", "^exit 0\nsuccess", "No \\w+ specified", "what is to be asked of, or done to, no object is a wrong use", nil},
	{"config.direct.update ", "^exit 0", "INVALID_CHAIN: cannot use a chain without a name", "a chain without a name is refused for what it is", nil},
	{"rule ", "^exit 0", "INVALID_ADDR: no address is outside of", "iptables takes no rule that nothing can match", nil},
	{"^(\\$|offline) .*rule ", "^exit 0", "INVALID_RULE: .*cannot use service \\S+ with a destination: the service has its own", "a rule with a destination for a service that has its own is refused before a reload fails for it", nil},
	{"", "^exit [1-9][^\n]*\nstderr: [^\n]*COMMAND_FAILED: 'python-nftables' failed: internal:0:0-0: Error: Invalid log level 'error'", "^exit 0", "the level error is that which nft calls err", logsErrors},
	{"--set-((in|e)gress-)?priority=(--)?( |$)", "No options specified", "INVALID_PRIORITY", "a value -- is refused for what it is", nil},
	{"--check-config|checkPermanentConfig", "^exit 0", "INVALID_IPSET: Zone .* not among existing ipsets", "a source that is an ipset which is not there is found before a reload fails for it", nil},
	{"", "^exit [1-9][^\n]*\nstderr: [^\n]*COMMAND_FAILED: 'handle'", "^exit", "firewalld has an internal error where a name of an interface that the kernel cannot have was taken before", nil},
	{"--reload", "ipset create .*set with the same name already exists", "^exit 0", "a reload of firewalld makes a set with a timeout that is there already", nil},
	{"icmptype.removeDestination", "^exit 0", "NOT_ENABLED", "a family that is none is none of an ICMP type", nil},
	{"config.direct.(addChain|update)|permanent --direct --add-chain|offline --direct --add-chain", "^exit 0", "INVALID_CHAIN", "a chain that cannot be is refused before a reload fails for it", nil},
	{"olicy.setPolicySettings", "INVALID_SETTING: Unhandled setting type", "^exit 0", "a setting of a running policy that is given as it is changes nothing", nil},
	{"add-passthrough|addPassthrough|config.direct.update", "^exit 0", "COMMAND_FAILED: cannot", "a passthrough that no tool takes is refused before a reload fails for it", nil},
	{"ipset.update", "^exit 0", "IPSET_WITH_TIMEOUT", "a set with a timeout is refused as the source of a zone before a reload fails for it", nil},
	{"add-forward( |$)|addForward( |$)", "^exit 0", "PANIC_MODE", "in panic mode no change is taken, not even one that changes nothing", nil},
	{"direct.add(Rule|Chain)|--direct --add-(rule|chain)", "COMMAND_FAILED", "INVALID_CHAIN: cannot use", "a chain that cannot be is refused for what it is", nil},
	{"--new-ipset", "is not compatible with", "NAME_CONFLICT", "several things are wrong, and both refuse it for one of them", nil},
	{"remove|query", "UNKNOWN_SOURCE", "INVALID_ADDR", "what is invalid is refused when it is to be removed or asked for, too", nil},
	{"^\\$", "^exit [1-9][^\n]*\nstderr: .*Did not receive a reply", "^exit", "firewalld takes longer than its commands wait", nil},
	{"--set-priority=", "invalid literal for int", "INVALID_PRIORITY", "what is no number has the code of that", nil},
	{"addPassthrough|--add-passthrough", "COMMAND_FAILED", "INVALID_PASSTHROUGH", "what the tool would refuse is refused for what it is", nil},
	{"--new-ipset=|addIPSet", "^exit 0", "INVALID_IPSET: Zone .* not usable as source", "a set that a zone has as its source is refused before a reload fails for it", nil},
	{"--path-|Properties.Get.*(path|filename)", "^exit 0\n\"?\\S*/etc/(?P<same>\\w+(/[^\"\\s]+)?)\"?$", "^exit 0\n\"?\\S*/usr/lib/firewalld/(?P<same>\\w+(/[^\"\\s]+)?)\"?$", "firewalld has a copy of what is shipped, which it wrote although nothing was changed", nil},
	{"Properties.Get.*(default|builtin)", "^exit 0\nfalse$", "^exit 0\ntrue$", "firewalld has a copy of what is shipped, which it wrote although nothing was changed", nil},
	{"Properties.Get.*IPv[46]ICMPTypes", "^exit 0\n\\[", "^exit 0\n\\[", "ICMP types that are known are those that have a definition", sameICMPTypes},
	{"--get-zone-of-source=.*--get-zone-of-source=", "^exit", "^exit", "the zones of all sources are told, not only of the first", toldFirst},
	{"Properties.Get.*config'\" \"'IPv6_rpfilter'", "^exit 0\n\"yes\"$", "^exit 0\n\"no\"$", "the reverse path is not checked with IPv6_rpfilter=no in capitals or as false, whatever firewalld's property says", nil},
	{"(?i)reload", "^exit (1|254)\nstderr: (Error: '\\w+'|.*KeyError: '\\w+')", "^exit [1-9][^\n]*\nstderr: .*COMMAND_FAILED: ", "firewalld has an internal error, richwall says what is wrong", nil},
	{"removeChain|--remove-chain", "NOT_ENABLED", "BUILTIN_CHAIN", "a chain that the table has is refused for what it is", nil},
	{"config.service.*(removeModule|queryModule|addModule)", "^exit 0\n?(true|false)?$|^exit 1\nstderr: [^\n]*(NOT|ALREADY)_ENABLED", "^exit 0\n?(true|false)?$|^exit 1\nstderr: [^\n]*(NOT|ALREADY)_ENABLED", "modules of a service are known by the names of helpers", nil},
	{"^(dbus / direct.addChain|\\$ --direct --add-chain) eb \\S+ \\S*a b", "^exit 0", "INVALID_CHAIN: cannot use chain \\\\?\"a b\\\\?\"", "a chain with a blank in its name is refused before a reload fails for a rule that leads to it", nil},
	{"(?i)reload", "^exit [1-9][^\n]*\nstderr: [^\n]*ipset restore' failed: [^\n]*set type not supported", "^exit [1-9][^\n]*\nstderr: [^\n]*INVALID_IPSET: Zone", "an ipset of a type that this kernel does not have, and something else that is wrong: both refuse it for one of them", nil},
	{"(add|change)-source=|zone.(add|change)Source ", "^exit 0", "ZONE_CONFLICT: '[0-9A-F:]{17}' already bound to a zone", "a MAC address is the same in either case", otherCase},
	{"", "^exit [1-9][^\n]*\nstderr: [^\n]*COMMAND_FAILED: argument of type 'int' is not iterable\"?$", "^exit 0(\nsuccess)?$", "with iptables firewalld has an internal error where a rule with a priority forwards a port and logs", loggedForward},
	{"", "^exit [1-9][^\n]*\nstderr: [^\n]*dictionary changed size during iteration", "^exit [1-9][^\n]*\nstderr: [^\n]*COMMAND_FAILED: (direct: [^\n]*: there is no such chain in table \\w+ of ip6?tables|cannot change the rules of bridges in table \\w+: ebtables-restore v[^\n]*: Problem with the specified)", "a reload of firewalld crashes while something has a timeout; richwall refuses it for a direct rule", hasTimed},
	{"--reset-to-defaults|resetToDefaults", "^exit [1-9][^\n]*\nstderr: [^\n]*COMMAND_FAILED: Direct: '", "^exit 0(\nsuccess)?$", "a reset takes direct rules that the kernel refuses away, too", nil},
	{"queryChain|--query-chain", "^exit [01]\n(no|false)$|^exit 0\n\\(?false", "BUILTIN_CHAIN: chain '\\w+_(direct|dispatch)' is reserved", "a chain that the firewall makes itself is refused when it is asked for, too", nil},
	{"^(\\$|offline) .*rule .*rule ", "^exit 0\nsuccess\nstderr: Warning: COMMAND_FAILED: argument of type 'int' is not iterable$", "^exit 0\nsuccess$", "with iptables firewalld has an internal error where a rule with a priority forwards a port and logs", loggedForward},
	{"(?i)reload", "^exit [1-9][^\n]*\nstderr: [^\n]*INVALID_ENTRY: invalid (mac address|address|ip) '", "^exit 0(\nsuccess)?$", "a reload without flushing that changes the type of an ipset leaves its old entries out", changedSet},
	{"^(dbus config|sh gdbus|offline|\\$ .*--permanent).*[sS]ource.*ipset:", "^exit 0(\nsuccess)?$", "^exit [1-9][^\n]*\nstderr: [^\n]*INVALID_IPSET: Zone '[^']*': ipset '[^']*' with type '[^']*' not usable as source", "an ipset whose type cannot be a source is refused before a reload fails for it", nil},
	{"(?i)reload", "^exit [1-9][^\n]*\nstderr: [^\n]*(INVALID_CHAIN: Chain|BUILTIN_CHAIN: chain) '[^']*' is reserved", "^exit 0(\nsuccess)?$", "a chain of the firewall in direct.xml fails no reload", gaveChain},
	{"zone.setZoneSettings2 ", "^exit 0$", "^exit 1\nstderr: [^\n]*Exception: \"PANIC_MODE\"$", "in panic mode no change is taken, not even one that changes nothing", hasPanicked},
	{"(?i)reload", "^exit [1-9][^\n]*\nstderr: [^\n]*dictionary changed size during iteration", "^exit [1-9][^\n]*\nstderr: [^\n]*INVALID_IPSET: Zone '[^']*': '[^']*' not among existing ipsets", "a reload of firewalld crashes while something has a timeout; richwall refuses it for a source that is not there", hasTimed},
	{"(?i)reload", "^exit [1-9][^\n]*\nstderr: [^\n]*COMMAND_FAILED: UNKNOWN_ERROR: rule ref count bug, missing ref count", "^exit [1-9][^\n]*\nstderr: [^\n]*INVALID_IPSET: Zone '[^']*': '[^']*' not among existing ipsets", "a reload of firewalld ends with an internal error; richwall refuses it for a source that is not there", nil},
}

// thing is a difference on purpose in what a session leaves behind. what is a regular expression of the name of a thing of a
// state. theirs and ours are regular expressions of whole lines that only one side has, or gone where the side does not have the
// thing: these lines are excused, and no others. Where both are given, there have to be both. when says whether a line, which is
// one of theirs if there are any, is excused there; it may be nil.
type thing struct {
	what, theirs, ours, reason string
	when                       func(d difference, line string) bool
}

const notThere = "\\(not there\\)"

var things = []thing{
	{"^ipset ", "(create|add) .*", notThere, "ipsets are made for direct rules that can look them up, which those for ebtables cannot", onlyBridged},
	{"^nft chain raw_(output|prerouting)$", notThere, "type filter hook \\w+ priority [^;]+; policy drop;", "panic mode with iptables is a table of nftables, which all packets pass first", panics},
	{"^nft bridge \\S+ chain raw_(output|prerouting)$", notThere, "type filter hook \\w+ priority [^;]+; policy drop;", "panic mode drops what is bridged by a table of nftables, with both back ends", panics},
	{"^ebtables-save (filter|nat|broute) (INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING|BROUTING)$", "DROP", "ACCEPT|" + notThere, "panic mode drops what is bridged by a table of nftables, with both back ends", dropsBridged},
	{"^ip6?tables-save (filter|mangle|raw|security) (PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)$", "DROP", "ACCEPT", "on a busy machine panic mode is on by a table of nftables, which all packets pass first, while its commit is still under way", dropsMeanwhile},
	{"^ip6?tables-save (filter|mangle|raw|security) (PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)$", "ACCEPT", "DROP", "panic mode over a switch from nftables to iptables is a table of nftables in firewalld, and policies of iptables in richwall", dropsEither},
	{"^nft chain raw_(output|prerouting)$", "type filter hook \\w+ priority [^;]+; policy drop;", notThere, "panic mode over a switch from nftables to iptables is a table of nftables in firewalld, and policies of iptables in richwall", dropsEither},
	{"^nft flags owner$", notThere, "", "with nft 1.0.6 firewalld's table has no owner, whatever NftablesTableOwner says", nil},
	{"^bus properties of config$", "IPv6_rpfilter: \"yes\"", "IPv6_rpfilter: \"no\"", "the reverse path is not checked with IPv6_rpfilter=no in capitals or as false, whatever firewalld's property says", reverseOff},
	{"^bus listServices$", ".*", "", "a service with a helper that is not there is not in use behind a start, nor is one that includes it", brokenService},
	{"^bus (policy.getPolicySettings|zone.getZoneSettings2) ", "services: .*", "services: .*", "a service with a helper that is not there is not in use behind a start, nor is one that includes it", withoutBroken},
	{"^bus state$", "RUNNING", "FAILED|.*: INVALID_SERVICE: cannot use service \\S+: there is no such service.*[:;?] [iI]t is left out", "a service with a helper that is not there is not in use behind a start, nor is one that includes it", leftOutBroken},
	{"^file direct.xml$", "<[?]xml.*|<direct>|</direct>", notThere, "a file of direct rules without any, which firewalld writes although nothing was changed", nil},
	{"^file zones/", "", " *<interface name=\"[^\"]*\"/>", "an interface that a reload without flushing has kept is saved as what else runs", keptAndSaved},
	{"^file services/", "(?s).*", "(?s).*", "firewalld writes the names of the settings of a service in the place of their values", misnamed},
	{"^nft chain (filter_FWD|nat_POST)_\\S+_dispatch_stage2$", "ether daddr \\S+ jump (filter_FWD|nat_POST)_\\S+", "", "a rule for packets to a MAC address, which firewalld makes for zones that are in use already, never matches what is sent on", nil},
	{"^(ip6?|eb)tables-save \\w+ (mychain|chain2)$", notThere, "-|ACCEPT|RETURN|-A .*", "chains of others stay over a start and a reload", notDirect},
	{"^ip6?tables-save ", notThere, "ACCEPT|-A .* --comment " + untracked + ".*", "rules of others stay over a start and a reload, and so do those that a passthrough without a trace has made", nil},
	{"^ip6?tables-save ", "", "-A .* --comment " + untracked + ".*", "rules of others stay over a start and a reload, and so do those that a passthrough without a trace has made", nil},
	{"^ebtables-save \\w+ (INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)$", "DROP", "ACCEPT|" + notThere, "a switch from iptables to nftables leaves the policies of a reload in ebtables, which drop all that is bridged", switched},
	{"^ebtables-save \\w+ (INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)$", "DROP", "ACCEPT|" + notThere, "a reload in panic mode leaves the policies of firewalld's reload in ebtables", reloadedInPanic},
	{"^(ip6?|eb)tables-save ", "-|ACCEPT|RETURN|-A .*", notThere, "a restart takes out the direct rules of an earlier process that the configuration does not have", leftByRestart},
	{"^(ip6?|eb)tables-save ", "-A .*", "", "a restart takes out the direct rules of an earlier process that the configuration does not have", leftByRestart},
}

// compiled are the regular expressions of a row, and of those of things bound to whole lines.
type compiled struct{ what, theirs, ours *regexp.Regexp }

var stepRows, thingRows = func() (steps, kinds []compiled) {
	whole := func(text string) *regexp.Regexp { return regexp.MustCompile("^(?:" + text + ")$") }
	for _, d := range deviations {
		steps = append(steps, compiled{regexp.MustCompile("(?s)" + d.what), regexp.MustCompile("(?s)" + d.theirs), regexp.MustCompile("(?s)" + d.ours)})
	}
	for _, t := range things {
		kinds = append(kinds, compiled{regexp.MustCompile(t.what), whole(t.theirs), whole(t.ours)})
	}
	return steps, kinds
}()

// explain is the reason for a difference, or nothing.
func explain(d difference) string {
	if d.shape == "" {
		return explainThing(d)
	}
	if reason := sameCode(d); reason != "" {
		return reason
	}
	if reason := same(d.what, strings.Split(d.theirs, "\n"), strings.Split(d.ours, "\n")); reason != "" {
		return reason
	}
	for i, row := range deviations {
		c := stepRows[i]
		if c.what.MatchString(d.what) && agree(c, d.theirs, d.ours) && answers(d.ours, row.ours) && (row.when == nil || row.when(d)) {
			return row.reason
		}
	}
	return ""
}

// broken is what no answer of richwall is, whatever firewalld says.
var broken = regexp.MustCompile(`NoReply|ServiceUnknown|LimitsExceeded|UNKNOWN_ERROR|goroutine |panic:`)

// answers is true of an outcome in which richwall says what is wrong, if anything is. That the kernel refuses it counts only
// where the row expects it.
func answers(ours, row string) bool {
	return !broken.MatchString(ours) && (!strings.Contains(ours, "COMMAND_FAILED") || strings.Contains(row, "COMMAND_FAILED"))
}

// agree is true of two texts that match, with the same text in the groups called same.
func agree(c compiled, theirs, ours string) bool {
	a, b := c.theirs.FindStringSubmatch(theirs), c.ours.FindStringSubmatch(ours)
	if a == nil || b == nil {
		return false
	}
	i, j := c.theirs.SubexpIndex("same"), c.ours.SubexpIndex("same")
	return i < 0 || j < 0 || a[i] == b[j]
}

// explainThing is the reason for a difference of a state. Every line that only one side has needs one.
func explainThing(d difference) string {
	switch {
	case d.reason != "":
		return d.reason
	case d.shipped:
		return "a copy of what is shipped, which firewalld writes although nothing was changed"
	case len(d.lost)+len(d.more) == 0:
		if strings.HasPrefix(d.what, "file zones/") || strings.HasPrefix(d.what, "file policies/") {
			return "a zone or policy that is as it was is not written again when what runs is saved"
		}
		return ""
	}
	lost, more, reason := d.lost, d.more, ""
	for i, row := range things {
		c := thingRows[i]
		if !c.what.MatchString(d.what) {
			continue
		}
		when := func(line string) bool { return row.when == nil || row.when(d, line) }
		restLost, restMore := lost, more
		if row.theirs != "" {
			restLost = slices.DeleteFunc(slices.Clone(lost), func(line string) bool { return c.theirs.MatchString(line) && (line == gone || when(line)) })
		}
		if row.ours != "" {
			restMore = slices.DeleteFunc(slices.Clone(more), func(line string) bool { return c.ours.MatchString(line) && (line == gone || when(line)) })
		}
		if row.theirs != "" && len(restLost) == len(lost) || row.ours != "" && len(restMore) == len(more) {
			continue
		}
		lost, more, reason = restLost, restMore, row.reason
		if len(lost)+len(more) == 0 {
			return reason
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

// withoutWords is an outcome without the lines of the error output.
func withoutWords(text string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return strings.HasPrefix(line, "stderr: ") }), "\n")
}

// codesOf are the codes that were found in a text, sorted.
func codesOf(found [][]string) (codes []string) {
	for _, m := range found {
		codes = append(codes, m[1])
	}
	return slices.Sorted(slices.Values(codes))
}

// sameCode is the reason for a difference in which both sides have refused something, or warned, with the same code.
func sameCode(d difference) string {
	if d.sorted {
		return "the same in another order, where firewalld has none"
	}
	theirExit, theirs, _ := strings.Cut(d.theirs, "\n")
	ourExit, ours, _ := strings.Cut(d.ours, "\n")
	a, b := code.FindAllStringSubmatch(theirs, -1), code.FindAllStringSubmatch(ours, -1)
	refused := theirExit != "exit 0" && ourExit != "exit 0"
	named := func(codes [][]string) bool { return len(codes) > 0 && slices.Contains(missing, codes[len(codes)-1][1]) }
	alike := theirExit == ourExit && withoutWords(d.theirs) == withoutWords(d.ours) && !broken.MatchString(ours)
	wrong := d.wrong
	if named(a) || named(b) {
		wrong++ // a name that may be right is of nothing that is there
	}
	switch {
	case alike && theirExit == "exit 2" && d.shape[0] != 'd' && strings.Contains(theirs, "stderr: ") == strings.Contains(ours, "stderr: "):
		return "a wrong use of the commands is told in other words"
	case alike && len(a) > 0 && len(a) == len(b) && slices.EqualFunc(a, b, func(a, b []string) bool { return a[1] == b[1] }):
		return "the same code, with other words behind it"
	case alike && strings.HasPrefix(d.shape, "offline") && len(a) > 1 && slices.Equal(codesOf(a), codesOf(b)):
		return "warnings of several values have no order"
	case alike && refused && len(a) > 0 && len(b) > 0 && a[0][1] == b[0][1]:
		return "the same code, with other words behind it"
	case !refused || len(a) == 0 && len(b) == 0 || !answers(ours, ""):
		return ""
	case named(a) && named(b):
		return "several things are not there, and both refuse it for one of them"
	case wrong > 1:
		return "several things are wrong, and both refuse it for one of them"
	}
	return ""
}
