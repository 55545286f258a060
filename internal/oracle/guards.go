package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// What follows says whether a difference comes where the reason of a row is one.

// hasWrong is true of a step with values that are not valid.
func hasWrong(d difference) bool { return d.wrong > 0 }

// strict is true where StrictForwardPorts is or was on.
func strict(d difference) bool { return d.had("StrictForwardPorts", "yes") }

// had is true where a key of firewalld.conf had a value at the beginning, or was set since.
func (c scene) had(key, value string) bool {
	return c.session != nil && (c.session.conf[key] == value ||
		slices.ContainsFunc(c.before, func(st step) bool { return st.method == properties+".Set" && strings.Contains(st.String(), key) }))
}

// did is true of a session that has such a step.
func (c scene) did(is func(step) bool) bool { return slices.ContainsFunc(c.before, is) }

// The ICMP types that are shipped, of which some are of IPv4 alone and some of IPv6 alone, and those that firewalld knows without a definition.
var (
	icmpOf = map[string][]string{
		"IPv4ICMPTypes": strings.Fields("fragmentation-needed host-precedence-violation host-prohibited host-redirect host-unknown host-unreachable ip-header-bad network-prohibited network-redirect network-unknown network-unreachable precedence-cutoff protocol-unreachable required-option-missing source-quench source-route-failed timestamp-reply timestamp-request tos-host-redirect tos-host-unreachable tos-network-redirect tos-network-unreachable"),
		"IPv6ICMPTypes": strings.Fields("address-unreachable bad-header beyond-scope failed-policy mld-listener-done mld-listener-query mld-listener-report mld2-listener-report neighbour-advertisement neighbour-solicitation no-route packet-too-big reject-route unknown-header-type unknown-option"),
	}
	icmpUndefined = strings.Fields("TOS-host-redirect TOS-host-unreachable TOS-network-redirect TOS-network-unreachable address-mask-reply address-mask-request ping pong neigbour-advertisement neigbour-solicitation ttl-exceeded any")
)

// sameICMPTypes is true of two lists of ICMP types of which firewalld's alone has those that have no definition, and with iptables those
// of the other IP version, and richwall's alone those that the session has made. The session may have changed others.
func sameICMPTypes(d difference) bool {
	var lists [2][]string
	for i, text := range []string{d.theirs, d.ours} {
		if json.Unmarshal([]byte(strings.TrimPrefix(text, "exit 0\n")), &lists[i]) != nil {
			return false
		}
	}
	other := icmpOf["IPv6ICMPTypes"]
	if strings.Contains(d.what, "IPv6ICMPTypes") {
		other = icmpOf["IPv4ICMPTypes"]
	}
	iptables := d.session != nil && (d.session.backend == "iptables" || d.had("FirewallBackend", "iptables"))
	changed := func(name string) bool {
		return d.did(func(st step) bool {
			text := strings.ToLower(st.String())
			return strings.Contains(text, "icmptype") && strings.Contains(text, name) && !strings.Contains(text, "properties.get ")
		})
	}
	for _, name := range onlyIn(lists[0], lists[1]) {
		if !slices.Contains(icmpUndefined, name) && (!iptables || !slices.Contains(other, name)) && !changed(name) {
			return false
		}
	}
	return !slices.ContainsFunc(onlyIn(lists[1], lists[0]), func(name string) bool { return !changed(name) })
}

// loggedForward is true of a session that has a rule with a priority, a forward port and a log, and iptables.
func loggedForward(d difference) bool {
	return d.session != nil && (d.session.backend == "iptables" || d.had("FirewallBackend", "iptables")) && d.did(func(st step) bool {
		text := st.String()
		return strings.Contains(text, "priority=") && strings.Contains(text, " forward-port ") && regexp.MustCompile(` (nf)?log\b`).MatchString(text)
	})
}

// toldFirst is true where what firewalld has said of the first source is in what richwall has said, as a warning if it was an error.
func toldFirst(d difference) bool {
	exit, theirs, _ := strings.Cut(d.theirs, "\n")
	first, _, _ := strings.Cut(theirs, "\n")
	if rest, ok := strings.CutPrefix(first, "stderr: "); ok && exit != "exit 0" {
		first = "stderr: Warning: " + strings.TrimPrefix(rest, "Error: ")
	}
	return slices.Contains(strings.Split(d.ours, "\n"), first)
}

// panics is true in panic mode.
func panics(d difference, _ string) bool {
	return slices.Equal(d.scene.ours["bus queryPanicMode"], []string{"true"})
}

// dropsBridged is true in panic mode of both, where richwall has a table that drops all that is bridged.
func dropsBridged(d difference, line string) bool {
	if !panics(d, line) || !slices.Equal(d.scene.theirs["bus queryPanicMode"], []string{"true"}) {
		return false
	}
	drops := func(table, chain string) bool {
		lines := d.scene.ours["nft bridge "+table+" chain "+chain]
		return len(lines) == 1 && strings.HasSuffix(lines[0], "; policy drop;")
	}
	return slices.ContainsFunc([]string{"firewalld_policy_drop", "firewalld_drop_all"}, func(table string) bool {
		return drops(table, "raw_prerouting") && drops(table, "raw_output")
	})
}

// otherCase is true where the MAC address that richwall finds in another zone was given to that one in small letters.
func otherCase(d difference) bool {
	m := regexp.MustCompile(`ZONE_CONFLICT: '((?:[0-9A-F]{2}:){5}[0-9A-F]{2})'`).FindStringSubmatch(d.ours)
	return m != nil && strings.ToLower(m[1]) != m[1] && d.did(func(st step) bool {
		text := st.String()
		return strings.Contains(strings.ToLower(text), "source") && strings.Contains(text, strings.ToLower(m[1])) && text != d.what
	})
}

// directs are the direct chains, rules and passthroughs of a state.
func (s state) directs() []string {
	return slices.Concat(s["bus direct.getAllChains"], s["bus direct.getAllRules"], s["bus direct.getAllPassthroughs"])
}

// onlyBridged is true where all that the direct interface has is for ebtables, or nothing is left of it, and nftables does the rest.
func onlyBridged(d difference, _ string) bool {
	return slices.Contains(d.scene.theirs["bus properties of config"], `FirewallBackend: "nftables"`) &&
		!slices.ContainsFunc(d.scene.theirs.directs(), func(line string) bool { return !strings.HasPrefix(line, `("eb"`) })
}

// notDirect is true of a chain that the configuration does not have, so that rules of others have made it.
func notDirect(d difference, _ string) bool {
	words := strings.Fields(d.what)
	ipv := tools[words[0]]
	return !slices.ContainsFunc(d.scene.ours.directs(), func(line string) bool {
		return strings.HasPrefix(line, `("`+ipv+`", "`+words[1]+`", "`+words[2]+`"`)
	})
}

// tools are the names of IP versions by those of the commands that show their rules.
var tools = map[string]string{"iptables-save": "ipv4", "ip6tables-save": "ipv6", "ebtables-save": "eb"}

// reverseOff is true where firewalld.conf says no in capitals or as false.
func reverseOff(d difference, _ string) bool {
	return slices.ContainsFunc(d.scene.ours["file firewalld.conf"], regexp.MustCompile(`^IPv6_rpfilter=(?i:no|false)$`).MatchString)
}

// keptAndSaved is true where a reload could keep an interface, and what ran was saved.
func keptAndSaved(d difference, _ string) bool {
	return d.had("FlushAllOnReload", "no") && d.did(step.saves) && d.did(step.reloads)
}

// misnamed is true of a file in which the names of settings stand in the place of their values.
func misnamed(d difference, _ string) bool {
	return slices.Contains(d.scene.theirs[d.what], `<service version="short">`) && slices.Contains(d.scene.theirs[d.what], "  <short>description</short>")
}

// switched is true where nftables has taken the place of iptables.
func switched(d difference, _ string) bool {
	return slices.Contains(d.scene.ours["bus properties of config"], `FirewallBackend: "nftables"`) && (d.session.backend == "iptables" || d.had("FirewallBackend", "iptables"))
}

// panicking is true of a step that switches panic mode on.
func (s step) panicking() bool {
	return slices.Contains(s.words, "--panic-on") || strings.HasSuffix(s.method, ".enablePanicMode")
}

// hasPanicked is true of a session that has switched panic mode on.
func hasPanicked(d difference) bool { return d.did(step.panicking) }

// hasTimed is true of a session that has given something a timeout.
func hasTimed(d difference) bool { return d.did(step.times) }

// reloadedInPanic is true of a session with a reload behind panic mode.
func reloadedInPanic(d difference, _ string) bool {
	on := slices.IndexFunc(d.before, step.panicking)
	return on >= 0 && slices.ContainsFunc(d.before[on:], step.reloads)
}

// leftByRestart is true of a chain of which richwall has as many rules as the direct interface has for it, where a restart has
// found those of a process before it.
func leftByRestart(d difference, _ string) bool {
	if !d.had("CleanupOnExit", "no") || !d.did(func(st step) bool { return st.verb == "restart" }) {
		return false
	}
	words := strings.Fields(d.what)
	ipv, table, chain := tools[words[0]], words[1], strings.TrimSuffix(words[2], "_direct")
	wanted := 0
	for _, line := range d.scene.ours.directs() {
		if strings.HasPrefix(line, `("`+ipv+`", "`+table+`", "`+chain+`"`) || strings.HasPrefix(line, `("`+ipv+`", [`) && strings.Contains(line, `"`+chain+`"`) {
			wanted++
		}
	}
	have := 0
	for _, line := range d.scene.ours[d.what] {
		if strings.HasPrefix(line, "-A ") {
			have++
		}
	}
	return have >= wanted
}

// brokenService is true of a service that names a helper which is not there, by itself or by a service that it includes.
func brokenService(d difference, line string) bool {
	var helperGone func(name string, depth int) bool
	helperGone = func(name string, depth int) bool {
		for _, element := range d.scene.theirs["file services/"+name+".xml"] {
			m := regexp.MustCompile(`^ *<(helper|include) (?:name|service)="([^"]*)"/>$`).FindStringSubmatch(element)
			if m == nil {
				continue
			}
			if m[1] == "helper" && !slices.Contains(d.scene.theirs["bus getHelpers"], `"`+m[2]+`"`) || m[1] == "include" && depth < 9 && helperGone(m[2], depth+1) {
				return true
			}
		}
		return false
	}
	return helperGone(strings.Trim(line, `"`), 0)
}

// withoutBroken is true of two lists of services of a zone or policy that differ in nothing but services with a helper that is not there,
// which richwall leaves out.
func withoutBroken(d difference, _ string) bool {
	var lists [2][]string
	for i, lines := range [][]string{d.lost, d.more} {
		text, ok := strings.CutPrefix(strings.Join(lines, "\n"), "services: ")
		if !ok || json.Unmarshal([]byte(text), &lists[i]) != nil {
			return false
		}
	}
	return len(onlyIn(lists[1], lists[0])) == 0 && !slices.ContainsFunc(onlyIn(lists[0], lists[1]), func(name string) bool { return !brokenService(d, name) })
}

// leftOut is what richwall logs of a service that a zone or policy lists, and that cannot be used.
var leftOut = regexp.MustCompile(`: INVALID_SERVICE: cannot use service (\S+): there is no such service.*[:;?] [iI]t is left out$`)

// leftOutBroken is true of the state FAILED behind a start for which the log names a service with a helper that is not there.
func leftOutBroken(d difference, _ string) bool {
	return slices.ContainsFunc(d.more, func(line string) bool {
		m := leftOut.FindStringSubmatch(line)
		return m != nil && brokenService(d, m[1])
	})
}

// logsErrors is true of a session that has a rule with the log level error.
func logsErrors(d difference) bool {
	return d.did(func(st step) bool { return regexp.MustCompile(`level="?error`).MatchString(st.String()) })
}

// gaveHelper is true of a session in which somebody has given a service the helper that richwall does not find.
func gaveHelper(d difference) bool {
	m := regexp.MustCompile(`cannot use helper ([^:\n]*): there is no such helper`).FindStringSubmatch(d.ours)
	return m != nil && d.did(func(st step) bool {
		text := st.String()
		return strings.Contains(text, "elper") && strings.Contains(text, m[1])
	})
}

// dropsAll is true of a state with a table of nftables that drops every packet.
func (s state) dropsAll() bool {
	drops := func(chain string) bool {
		lines := s["nft chain "+chain]
		return len(lines) == 1 && strings.HasSuffix(lines[0], "; policy drop;")
	}
	return drops("raw_prerouting") && drops("raw_output")
}

// bothPanic is true in panic mode of both.
func bothPanic(d difference, line string) bool {
	return panics(d, line) && slices.Equal(d.scene.theirs["bus queryPanicMode"], []string{"true"})
}

// dropsMeanwhile is true right behind the step that switches panic mode on, where richwall has a table that drops every packet.
func dropsMeanwhile(d difference, line string) bool {
	return bothPanic(d, line) && len(d.before) > 0 && d.before[len(d.before)-1].panicking() && d.scene.ours.dropsAll()
}

// dropsEither is true in panic mode of both, where firewalld has a table of nftables that drops every packet, and richwall drops them
// by the policies of iptables.
func dropsEither(d difference, line string) bool {
	return bothPanic(d, line) && d.scene.theirs.dropsAll() && !slices.ContainsFunc(strings.Fields("iptables-save ip6tables-save"), func(tool string) bool {
		return !slices.Contains(d.scene.ours[tool+" raw PREROUTING"], "DROP") || !slices.Contains(d.scene.ours[tool+" raw OUTPUT"], "DROP")
	})
}

// changedSet is true of a session without flushing at a reload that has made an ipset anew, or given it another type.
func changedSet(d difference) bool {
	return d.had("FlushAllOnReload", "no") && d.did(func(st step) bool {
		return regexp.MustCompile(`ipset\.(update|setType|remove)\b|addIPSet|--(new|delete)-ipset`).MatchString(st.String())
	})
}

// gaveChain is true of a session in which somebody has put the chain that firewalld calls reserved into direct.xml.
func gaveChain(d difference) bool {
	m := regexp.MustCompile(`[Cc]hain '([^']*)' is reserved`).FindStringSubmatch(d.theirs)
	return m != nil && d.did(func(st step) bool {
		text := st.String()
		permanent := strings.Contains(text, "config.direct.") || st.verb == "offline" || slices.Contains(st.words, "--permanent")
		return permanent && strings.Contains(text, m[1])
	})
}
