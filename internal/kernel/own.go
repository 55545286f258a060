package kernel

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// ownRule is a rule that this process has put into a chain that others may have rules in: as it was given to the tool, and what it is made of.
// It is known by its handle, so that it is found again in a chain that iptables cannot list, whatever others have put there, and without
// asking the tool, which may have to look up a host for that.
type ownRule struct{ spec, madeOf string }

// carryOut is restore, and remembers the handles of the rules that it has put in.
func (k *iptablesKernel) carryOut(ctx context.Context, s *script) error {
	before := k.rawNow(s.family, s.table)
	err := k.restore(ctx, s)
	if s.begun {
		k.rememberOwn(s, before, k.rawNow(s.family, s.table))
	}
	return err
}

// rawNow is a table of iptables-nft; nil for one of iptables-legacy, and where it cannot be read.
func (k *iptablesKernel) rawNow(family ir.Families, table string) *rawTable {
	if slices.Contains(k.silent, family) {
		return nil
	}
	s, err := openSocket(k.enter)
	if err != nil {
		return nil
	}
	defer s.conn.Close()
	raw, err := s.rawTable(familyNumber(family), table)
	if err != nil {
		return nil
	}
	return raw
}

// rememberOwn remembers which rules of a table are ours behind a script, from what there was before it and is now. Where either is not known,
// nothing is known of the table from then on.
func (k *iptablesKernel) rememberOwn(s *script, before, now *rawTable) {
	_, did := s.puts()
	for in := range k.own {
		if _, is := did[in.name]; in.family == s.family && in.table == s.table && !is {
			did[in.name] = puts{}
		}
	}
	for chain, p := range did {
		in := sharedChain{s.family, s.table, chain}
		if c := s.want.chain(chain); before == nil || now == nil || c != nil && !c.partial() {
			delete(k.own, in)
			continue
		}
		k.own[in] = ownBehind(k.own[in], p.inserted, before.rules[chain], now.rules[chain])
	}
}

// ownBehind is which rules of a chain are ours, by their handles, where some are known to be, and rules were put in by their specs. The kernel
// gives handles in the order in which rules are made. Of a spec that the tool makes several rules of, and where other programs have put in rules at
// the same time, they are not known.
func ownBehind(own map[uint64]ownRule, specs []string, before, now [][]byte) map[uint64]ownRule {
	known, there := map[uint64]ownRule{}, map[uint64]bool{}
	for _, body := range before {
		there[handleOf(body)] = true
	}
	var fresh [][]byte
	for _, body := range now {
		switch handle := handleOf(body); {
		case !there[handle]:
			fresh = append(fresh, body)
		case own[handle].madeOf == madeOf(body):
			known[handle] = own[handle]
		}
	}
	slices.SortFunc(fresh, func(a, b []byte) int { return cmp.Compare(handleOf(a), handleOf(b)) })
	counts := copies(specs, len(fresh))
	for i, n := range counts {
		if n == 1 {
			known[handleOf(fresh[0])] = ownRule{specs[i], madeOf(fresh[0])}
		}
		fresh = fresh[n:]
	}
	return known
}

// copies is how many rules the tool has made of each of some specs, of which it has made so many in all; nil where that cannot be told. It makes one
// for each pair of addresses. A host may have several addresses, but is taken to have one.
func copies(specs []string, all int) (counts []int) {
	for _, spec := range specs {
		n := 1
		for _, list := range addressesIn(words(spec)) {
			n *= len(list)
		}
		counts, all = append(counts, n), all-n
	}
	if all != 0 {
		return nil
	}
	return counts
}

// addressesIn are the lists of addresses and hosts that a rule of some words is about (iptables(8), -s and -d).
func addressesIn(words []string) (lists [][]string) {
	for i, word := range words {
		name, value, long := strings.Cut(word, "=")
		switch {
		case slices.Contains([]string{"-s", "-d", "--source", "--destination", "--src", "--dst"}, word) && i+1 < len(words):
			value = words[i+1]
			if value == "!" && i+2 < len(words) { // the negation of old
				value = words[i+2]
			}
		case long && slices.Contains([]string{"--source", "--destination", "--src", "--dst"}, name):
		case len(word) > 2 && (strings.HasPrefix(word, "-s") || strings.HasPrefix(word, "-d")):
			value = word[2:]
		default:
			continue
		}
		lists = append(lists, strings.Split(value, ","))
	}
	return lists
}

// isHost says whether what stands for an address is none: it is a name that the tool looks up.
func isHost(text string) bool {
	address, _, _ := strings.Cut(text, "/")
	_, err := netip.ParseAddr(address)
	return err != nil && strings.ContainsFunc(address, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
}

// namesHost says whether a rule is about a host, whose addresses the tool looks up.
func namesHost(spec string) bool {
	return slices.ContainsFunc(addressesIn(words(spec)), func(list []string) bool { return slices.ContainsFunc(list, isHost) })
}

// deletion is how a line that deletes a rule of ours says which: in the words of the administrator, but as the tool lists it where these name a host,
// which may have another address by now, or none.
func (e *tableEdit) deletion(chain, spec string) string {
	if namesHost(spec) {
		return e.k.textOf(e.sharedChain(chain), spec)
	}
	return spec
}

// listOwn lists the rules in chains that are not listed that are known to be ours, as far as they are there, and none of others' like them.
func (k *iptablesKernel) listOwn(saved *savedTable, family ir.Families, table string) {
	for _, chain := range saved.unlisted {
		in := sharedChain{family, table, chain}
		saved.listMine(chain, k.own[in], func(spec string) string { return k.textOf(in, spec) })
	}
}

// listMine is listOwn for one chain. text is how a rule is listed, by its spec.
func (s *savedTable) listMine(chain string, own map[uint64]ownRule, text func(spec string) string) {
	taken, mine := map[string]bool{}, map[int]bool{}
	for _, r := range own {
		taken[r.spec], taken[text(r.spec)] = true, true
	}
	for i, body := range s.raw[chain] {
		if r, is := own[handleOf(body)]; is && r.madeOf == madeOf(body) {
			s.rules[chain][i], mine[i] = text(r.spec), true
		}
	}
	for i, rule := range s.rules[chain] {
		if !mine[i] && taken[rule] {
			s.rules[chain][i] = unlistedRule(s.raw[chain][i])
		}
	}
}

// unaccounted are those of some rules of ours in a chain that are not known by their handles.
func (k *iptablesKernel) unaccounted(in sharedChain, specs []string) []string {
	known := map[string]int{}
	for _, r := range k.own[in] {
		known[r.spec]++
	}
	return filter(specs, func(spec string) bool {
		for _, name := range []string{spec, k.textOf(in, spec)} {
			if known[name] > 0 {
				known[name]--
				return false
			}
		}
		return true
	})
}

// taken are the rules that this process has put into chains of a table that are not listed, and that others have taken out.
func (k *iptablesKernel) taken(saved *savedTable, family ir.Families, table string) map[sharedRule]bool {
	gone := map[sharedRule]bool{}
	for _, chain := range saved.unlisted {
		in := sharedChain{family, table, chain}
		for handle, r := range k.own[in] {
			if !slices.ContainsFunc(saved.raw[chain], func(body []byte) bool { return handleOf(body) == handle && madeOf(body) == r.madeOf }) {
				gone[sharedRule{in, r.spec}] = true
			}
		}
	}
	return gone
}

// untriedError is that it could not be found out whether rules of ours are in a table that the tool cannot list.
type untriedError struct {
	program, table string
	rules          []string // those rules, in order, if they are known
	why            error    // of the first of them
}

// untriedOf is the error that some rules could not be tried; nil for none.
func untriedOf(program, table string, untried map[string]error) error {
	rules := slices.Sorted(maps.Keys(untried))
	if len(rules) == 0 {
		return nil
	}
	return &untriedError{program, table, rules, untried[rules[0]]}
}

func (e *untriedError) Error() string {
	which := "which rules of ours are"
	if len(e.rules) > 0 {
		which = fmt.Sprintf("whether the rule %q is", e.rules[0])
	}
	return fmt.Sprintf("it cannot be found out %s in table %s, which has rules that %s cannot list: %v", which, e.table, e.program, e.why)
}

func (e *untriedError) Unwrap() error { return e.why }

// errDisturbed is why rules could not be tried.
var errDisturbed = fmt.Errorf("%w: it empties or fills the chain %s all the time", ErrBusy, trialChain)

// leaveUntried has rules in chains that are not listed stay as they are, as it cannot be found out whether they are there: rules that may be
// there, or that are noted. They stay noted, and the log names each.
func (k *iptablesKernel) leaveUntried(family ir.Families, table string, chains []string, e *untriedError, may ...*tableRules) {
	stay := filter(k.found.in(family, table).Rules, func(r leftRule) bool { return k.installed == nil && slices.Contains(e.rules, cmp.Or(r.Text, r.Spec)) })
	for _, t := range may {
		for _, c := range t.chains {
			for _, spec := range c.specs {
				if slices.Contains(chains, c.name) && slices.Contains(e.rules, spec) {
					stay = union(stay, []leftRule{{leftChain: chainLeft(family, table, c.name), Spec: spec}}, leftRule.key)
				}
			}
		}
	}
	for _, r := range stay {
		k.options.Log.Error("a direct rule stays, if it is there, as that cannot be found out: a later start tries again",
			"program", r.Tool, "table", r.Table, "chain", r.Chain, "rule", r.Spec, "reason", e)
		k.stayed = append(k.stayed, fmt.Sprintf("%s -t %s -A %s %s", r.Tool, r.Table, r.Chain, r.Spec))
	}
	k.options.Left.keep(stay)
}
