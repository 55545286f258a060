package zones

import (
	"slices"
	"strings"
)

// stricter are the values of firewalld.conf in comparison with which the default of their key may let in more, by key; no values stand for
// every other one. A key that is not here cannot let in more by its default:
//
//   - IPv6_rpfilter, ReloadPolicy and RFC3964_IPv4 have the strictest value as their default;
//   - NftablesFlowtable sends established connections past the rules, and is off by default;
//   - LogDenied, NftablesCounters, NftablesTableOwner, CleanupModulesOnExit and IndividualCalls decide about no packet;
//   - CleanupOnExit decides what is left of the rules once the firewall is stopped, and about no packet while it runs.
var stricter = map[string][]string{
	"DefaultZone":        nil, // any zone may be more open than another
	"StrictForwardPorts": {"yes"},
	"FirewallBackend":    nil,    // the rules of other programs and of the direct interface come before or behind others
	"FlushAllOnReload":   {"no"}, // a reload forgets which zone an interface was bound to, and the entries of sets
}

// mayLoosen tells whether the default of a key may let in more than a value that it had.
func mayLoosen(key, before string) bool {
	values, ok := stricter[key]
	return ok && (values == nil || slices.Contains(values, before))
}

// guessed are the keys of firewalld.conf by whose value more may be let in than before, although no line of the file sets that value: they
// have their default; and DefaultZone where the zone that it names does not exist.
func (r *Rest) guessed(before *Conf) []string {
	now := r.Config.Conf
	keys := slices.DeleteFunc(now.differing(before), func(key string) bool {
		was, _ := before.Value(key)
		said, ok := r.conf.get(key)
		read := DefaultConf()
		if !mayLoosen(key, was) || ok && setConf(read, key, said) == nil && key != "DefaultZone" {
			return true
		}
		return ok && key == "DefaultZone" && said == now.DefaultZone
	})
	if now.missing != "" && now.missing != before.missing && !slices.Contains(keys, "DefaultZone") {
		keys = append(keys, "DefaultZone")
	}
	return keys
}

// mayBeOf tells whether what a load passed over in firewalld.conf may be the line of a key that had a value before. A line that sets another
// key is not; one that is no setting may be any.
func (r *Rest) mayBeOf(p *Problem, key string, before *Conf) bool {
	switch {
	case p.Code == InvalidZone:
		return key == "DefaultZone"
	case p.others, p.Code == ParseError, p.Line < 1, p.Line > len(r.conf.lines):
		return true
	}
	name, value, _ := strings.Cut(r.conf.lines[p.Line-1], "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if p.Code != InvalidOption {
		return name == key
	}
	was := before.Written(key)
	_, truth := truth(was) // many keys have such a value
	return value == was && !truth || sharesWords(name, key) || editDistance(strings.ToLower(name), strings.ToLower(key)) <= len(key)/2
}

// harmless tells whether it costs nothing that a load passes over a line of firewalld.conf for a problem: the line sets a key whose default
// lets in no more than any other value, or says once more what an earlier line says.
func (f *ConfFile) harmless(p *Problem) bool {
	if p.others {
		return false
	}
	if p.Code == ParseError || p.Code == InvalidOption {
		return f.repeats(p.Line)
	}
	name, _, _ := strings.Cut(f.lines[p.Line-1], "=")
	_, counts := stricter[strings.TrimSpace(name)]
	return !counts || f.repeats(p.Line)
}
