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

// sameICMPTypes is true of two lists of ICMP types that have the same of those with definitions that sessions name.
func sameICMPTypes(d difference) bool {
	var lists [2][]string
	for i, text := range []string{d.theirs, d.ours} {
		if json.Unmarshal([]byte(strings.TrimPrefix(text, "exit 0\n")), &lists[i]) != nil {
			return false
		}
	}
	return !slices.ContainsFunc(strings.Fields(classes["icmptype"].valid), func(name string) bool {
		return name != "weird" && slices.Contains(lists[0], name) != slices.Contains(lists[1], name)
	})
}

// toldFirst is true where what firewalld has said of the first source is in what richwall has said.
func toldFirst(d difference) bool {
	_, theirs, _ := strings.Cut(d.theirs, "\n")
	first, _, _ := strings.Cut(theirs, "\n")
	return slices.Contains(strings.Split(d.ours, "\n"), first)
}

// panics is true in panic mode.
func panics(d difference, _ string) bool {
	return slices.Equal(d.scene.ours["bus queryPanicMode"], []string{"true"})
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

// reloadedInPanic is true of a session with a reload behind panic mode.
func reloadedInPanic(d difference, _ string) bool {
	on := slices.IndexFunc(d.before, func(st step) bool {
		return slices.Contains(st.words, "--panic-on") || strings.HasSuffix(st.method, ".enablePanicMode")
	})
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
