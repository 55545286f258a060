package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"richwall/compile/ir"
)

// mostTrials is how often a tool is run at most to find those of some rules that it refuses.
const mostTrials = 100

// shared is the rules of ours in chains that others may have rules in, by chain.
func (t *tableRules) shared() map[string][]string {
	specs := map[string][]string{}
	for _, c := range t.chains {
		if c.shared {
			specs[c.name] = c.specs
		}
	}
	return specs
}

// ask asks how the tool lists those of some rules, by chain, that may be among what it lists there and are not found as they are written:
// it is asked once for all of them. A check changes nothing: there find asks for each. What could not be asked counts as another program's;
// ours, some of the rules, stay noted where that is so. In a table that the tool cannot list it is an error, an *untriedError: nothing else tells
// there which rules are ours.
func (e *tableEdit) ask(ctx context.Context, byChain, ours map[string][]string) error {
	var specs []string
	for _, name := range slices.Sorted(maps.Keys(byChain)) {
		specs = append(specs, e.sharedEdit(name).unsure(byChain[name])...)
	}
	specs = filter(specs, func(spec string) bool { _, asked := e.asked[spec]; return !asked })
	if len(specs) == 0 || e.k.checking {
		return nil
	}
	texts, untried, err := e.k.listTogether(ctx, e.family, e.table, e.saved, specs, e.k.stopped)
	if err != nil {
		return err
	}
	if len(e.saved.unlisted) > 0 && !e.k.despite {
		if err := untriedOf(tool(e.family), e.table, untried); err != nil {
			return err
		}
	}
	if !slices.Contains(e.saved.order, trialChain) { // it was one that a killed process has left
		e.had.chains = filter(e.had.chains, func(c *chainRules) bool { return c.name != trialChain })
	}
	maps.Copy(texts, e.asked)
	if e.asked = texts; len(untried) == 0 {
		return nil
	}
	e.k.options.Log.Warn("it could not be found out whether all direct rules of before are there: some count as another program's until the next start",
		"program", tool(e.family), "table", e.table, "rules", len(untried))
	var kept []leftRule
	for chain, list := range ours {
		for _, spec := range list {
			if untried[spec] != nil && !e.absent[sharedRule{e.sharedChain(chain), spec}] {
				kept = append(kept, leftRule{leftChain: chainLeft(e.family, e.table, chain), Spec: spec})
			}
		}
	}
	e.k.options.Left.keep(kept)
	return nil
}

// unsure are those of some rules that no slot is known to have, and that one may have all the same: there is one left that leads where they
// lead. The others are absent.
func (s *sharedEdit) unsure(specs []string) (unsure []string) {
	found, taken, leads := s.match(specs), map[int]bool{}, map[string]bool{}
	for _, at := range found {
		taken[at] = true
	}
	for i, has := range s.slots {
		if !taken[i] {
			leads[targetOf(has.text)] = true
		}
	}
	for i, spec := range specs {
		switch to := targetOf(spec); {
		case found[i] >= 0, s.absent[sharedRule{s.sharedChain(s.name), spec}]:
		case len(leads) > 0 && (to == "" || leads[to] || leads[otherTargets[to]]):
			unsure = append(unsure, spec)
		default:
			s.absent[sharedRule{s.sharedChain(s.name), spec}] = true
		}
	}
	return unsure
}

// otherTargets is how the tools list targets that have another name besides (extensions/libxt_CT.c of iptables).
var otherTargets = map[string]string{"NOTRACK": "CT"}

// listTogether puts rules into a chain that nothing leads to, all in one transaction, reads how the tool lists them, and takes the chain
// away: three processes for any number of rules, and at most mostTrials more where some are refused. texts has each rule: without a text if
// the tool refuses it, as it is then nowhere in the table, and with several if the tool makes several of it, as of a list of addresses.
// untried are the rules of which that could not be found out, and why: too many were refused, trialTime was over, or stopped (nil for never) gave an
// error (errNoTime), a host is not known (errNoHost), or another program has changed the chain, as often as it was tried (errDisturbed). They have no text. In saved, which is the table, rules like these are listed so from then on
// in chains that are not listed. The error is that the tool could not be asked.
func (k *iptablesKernel) listTogether(ctx context.Context, family ir.Families, table string, saved *savedTable, specs []string, stopped func() error) (texts map[string][]string, untried map[string]error, err error) {
	t := &listTrial{k: k, ctx: context.WithoutCancel(ctx), stopped: stopped, family: family, table: table, saved: saved, until: time.Now().Add(trialTime)} // the chain is not to stay
	texts, untried = map[string][]string{}, map[string]error{}
	var tried []string
	for _, spec := range specs {
		if _, twice := texts[spec]; !twice && !strings.ContainsAny(spec, "\n\r\x00") {
			tried = append(tried, spec)
		}
		texts[spec] = nil
	}
	defer t.remove()
	for range mostReadings {
		understood, rest, err := t.understood(tried)
		if err != nil {
			return nil, nil, err
		}
		groups, err := t.list(len(understood))
		if err != nil {
			return nil, nil, err
		}
		clear(untried)
		for _, spec := range tried {
			if namesHost(spec) && !slices.Contains(understood, spec) { // it may have been known when the rule was made
				untried[spec] = errNoHost
			}
		}
		for _, spec := range rest {
			untried[spec] = errNoTime
		}
		for i, group := range groups {
			texts[understood[i]] = group
		}
		if len(groups) == len(understood) {
			return texts, untried, nil
		}
		for _, spec := range understood {
			untried[spec] = errDisturbed
		}
	}
	return texts, untried, nil
}

// errNoTime and errNoHost are why rules could not be tried.
var (
	errNoTime = errors.New("too much is refused, or there was no time")
	errNoHost = errors.New("the host of a rule is not found now")
)

// listTrial tries which rules a tool understands, and how it lists them.
type listTrial struct {
	k       *iptablesKernel
	ctx     context.Context
	stopped func() error
	family  ir.Families
	table   string
	saved   *savedTable
	until   time.Time
	runs    int
	made    bool // the chain is there
}

// over says whether no more is to be tried.
func (t *listTrial) over() bool {
	return t.runs >= mostTrials || time.Now().After(t.until) || t.stopped != nil && t.stopped() != nil
}

// understood puts those of some rules that the tool understands into the chain, and returns them. rest are those that it has not come to.
func (t *listTrial) understood(specs []string) (understood, rest []string, err error) {
	left, good, read := slices.Clone(specs), 0, 0 // so many of the first are known to be good, or to be read at least
	for len(left) > 0 && !t.over() {
		ok, refused, err := t.fill(left)
		if ok || err != nil {
			return left, nil, err
		}
		if read = good; len(refused) > 0 {
			read = refused[0]
		} else if good, refused, err = t.search(left, good); err != nil {
			return nil, nil, err
		}
		for _, i := range slices.Backward(refused) {
			left = slices.Delete(left, i, i+1)
		}
		good = min(good, len(left))
	}
	for _, n := range []int{max(read, good), good} {
		if n == 0 {
			break
		}
		if ok, _, err := t.fill(left[:n]); ok || err != nil {
			return left[:n], left[n:], err
		}
	}
	return nil, left, nil
}

// search halves rules of which so many of the first are good, until those that the tool refuses are known: it names them, or it takes all
// before one. They are none if that was over before.
func (t *listTrial) search(specs []string, good int) (known int, refused []int, err error) {
	bad := len(specs)
	for bad-good > 1 {
		if t.over() {
			return good, nil, nil
		}
		middle := (good + bad) / 2
		ok, refused, err := t.fill(specs[:middle])
		switch {
		case err != nil || len(refused) > 0:
			return good, refused, err
		case ok:
			good = middle
		default:
			bad = middle
		}
	}
	return good, []int{good}, nil
}

// fill makes the chain hold some rules, each with a mark behind it, and nothing else. refused are the places of those that the tool names,
// in order, where it refuses them. The error is that it could not be asked.
func (t *listTrial) fill(specs []string) (ok bool, refused []int, err error) {
	t.runs++
	lines := []string{"*" + t.table, ":" + trialChain + " - [0:0]"}
	for i, spec := range specs {
		lines = append(lines, "-A "+trialChain+" "+spec, "-A "+trialChain+" "+listMark(t.family, i))
	}
	_, err = t.k.run(t.ctx, strings.Join(lines, "\n")+"\nCOMMIT\n", tool(t.family)+"-restore", "--noflush", waitForLock())
	if err == nil {
		t.made = true
		return true, nil, nil
	}
	for _, line := range linesNamed(err) {
		if at := line - 3; at >= 0 && at%2 == 0 && at/2 < len(specs) { // the table and the chain come first, and lines count from 1
			refused = append(refused, at/2)
		}
	}
	if passes(err) && (len(refused) == 0 || lacks(err)) {
		return false, nil, err
	}
	slices.Sort(refused)
	return false, slices.Compact(refused), nil
}

// linesNamed are the lines, from 1, that a restore tool names.
func linesNamed(err error) (lines []int) {
	for _, m := range lineNumber.FindAllStringSubmatch(err.Error(), -1) {
		if n, err := strconv.Atoi(m[1]); err == nil {
			lines = append(lines, n)
		}
	}
	return lines
}

// listMark is a rule, as the tool lists it, that stands behind the i-th of the rules that are tried.
func listMark(family ir.Families, i int) string {
	address := netip.AddrFrom4([4]byte{0, byte((i + 1) >> 16), byte((i + 1) >> 8), byte(i + 1)})
	if family == ir.V6 {
		address = netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 13: byte((i + 1) >> 16), 14: byte((i + 1) >> 8), 15: byte(i + 1)})
	}
	return fmt.Sprintf("-s %s/%d -d %[1]s/%[2]d", address, address.BitLen())
}

// list is how the tool lists each of so many rules in the chain; nil if there are none, or it does not hold them any more.
func (t *listTrial) list(n int) (groups [][]string, err error) {
	if n == 0 {
		return nil, nil
	}
	listing, err := t.k.run(t.ctx, "", tool(t.family), waitForLock(), "-t", t.table, "-S", trialChain)
	if passes(err) {
		return nil, err
	}
	begin, rules := 0, parseSaved(listing).rules[trialChain]
	for i, rule := range rules {
		if rule == listMark(t.family, len(groups)) {
			groups, begin = append(groups, rules[begin:i]), i+1
		}
	}
	if err != nil || len(groups) != n || begin != len(rules) {
		return nil, nil
	}
	if learned, err := t.learn(rules); !learned {
		return nil, err
	}
	return groups, nil
}

// learn remembers what the rules in the chain are made of, which the tool lists so, where the tool cannot list the table. It is false if there are
// others in the chain by now, or if it cannot be read.
func (t *listTrial) learn(rules []string) (learned bool, err error) {
	if len(t.saved.unlisted) == 0 {
		return true, nil
	}
	made, err := t.k.madeOfTrial(listerOf(t.family), t.table)
	if err != nil || len(made) != len(rules) {
		return false, err
	}
	key := sharedChain{family: t.family, table: t.table}
	if t.k.madeOf[key] == nil {
		t.k.madeOf[key] = map[string]string{}
	}
	for i, rule := range rules {
		t.k.madeOf[key][made[i]] = rule
	}
	t.saved.recognise(t.k.madeOf[key])
	return true, nil
}

// remove takes the chain out, also out of the table as it was read: a killed process may have left it.
func (t *listTrial) remove() {
	if !t.made {
		return
	}
	removal := "*" + t.table + "\n-F " + trialChain + "\n-X " + trialChain + "\nCOMMIT\n"
	if _, err := t.k.run(t.ctx, removal, tool(t.family)+"-restore", "--noflush", waitForLock()); err != nil {
		t.k.options.Log.Warn("a chain stays that no packet comes to", "chain", trialChain, "table", t.table, "reason", err)
		return
	}
	t.saved.forget(trialChain)
}
