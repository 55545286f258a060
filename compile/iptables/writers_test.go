package iptables_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/irgen"
	"richwall/internal/lab"
)

// TestMain runs the tests in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) { lab.Main(m) }

var testOrigin = &ir.Origin{Object: "zone test"}

// tool is the pair of programs of one family.
type tool struct {
	family        ir.Families
	restore, save string
}

var tools = []tool{{ir.V4, "iptables-restore", "iptables-save"}, {ir.V6, "ip6tables-restore", "ip6tables-save"}}

// sets are those that rules look up and that this machine's kernel has the types of.
func sets(t *testing.T) (list []*ir.Set) {
	t.Helper()
	for _, s := range []*ir.Set{irgen.Addresses, irgen.Addresses6, irgen.MACs} {
		var text bytes.Buffer
		if err := iptables.WriteSets(&text, &ir.Ruleset{Sets: []*ir.Set{s}}); err != nil {
			t.Fatal(err)
		}
		ns := namespace(t)
		_, err := ns.Run(t.Context(), text.String(), "ipset", "restore")
		switch ns.Close(); {
		case err == nil:
			list = append(list, s)
		case !strings.Contains(err.Error(), "set type not supported"):
			t.Fatal(err)
		}
	}
	return list
}

func namespace(t *testing.T) *lab.Namespace {
	t.Helper()
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// lacks says whether a rule looks up a set that there is not.
func lacks(sets []*ir.Set, r *ir.Rule) bool {
	return slices.ContainsFunc(r.Matches, func(m ir.Match) bool { l, ok := m.(ir.Lookup); return ok && !slices.Contains(sets, l.Set) })
}

// chainOf is a chain of nothing but a rule, in the table that the rule is for.
func chainOf(n int, family ir.Families, r *ir.Rule) *ir.Chain {
	r.Origin, r.Families = testOrigin, family
	c := &ir.Chain{Table: "filter", Name: fmt.Sprintf("c%d", n), Families: ir.Both, Rules: []*ir.Rule{r}}
	for _, m := range r.Matches {
		if _, ok := m.(ir.Fib); ok {
			c.Table = "mangle"
		}
	}
	for _, a := range r.Actions {
		switch a.(type) {
		case ir.Masquerade, ir.DNAT:
			c.Table = "nat"
		case ir.SetHelper:
			c.Table = "raw"
		case ir.ClampMSS:
			c.Table = "mangle"
		}
	}
	return c
}

// misplaced says whether a rule has a match and an action that are for different tables.
func misplaced(c *ir.Chain) bool {
	r := c.Rules[0]
	_, reject := r.Actions[0].(ir.Reject)
	return (reject || c.Table == "nat") && slices.ContainsFunc(r.Matches, func(m ir.Match) bool { _, ok := m.(ir.Fib); return ok })
}

// ruleset puts chains together with those that they jump to.
func ruleset(sets []*ir.Set, chains []*ir.Chain) *ir.Ruleset {
	rs := &ir.Ruleset{Backend: ir.IPTables, Sets: sets, Chains: slices.Clone(chains)}
	declared := map[string]bool{}
	for _, c := range chains {
		for _, a := range c.Rules[0].Actions {
			if j, ok := a.(ir.Jump); ok && !declared[c.Table+j.Chain] {
				declared[c.Table+j.Chain] = true
				rs.Chains = append(rs.Chains, &ir.Chain{Table: c.Table, Name: j.Chain, Families: ir.Both})
			}
		}
	}
	return rs
}

// Whatever a ruleset has, the text for the restore tools is refused, with an error that says which object of the configuration it is
// about, or loaded; then iptables-save lists each rule as it was written, byte for byte, and loads again as the same. Each match and
// action is tried with zero, smallest, largest and hostile values in each field, and in random rules, which are others each time.
//
// RICHWALL_SEED repeats the random rules of a run; RICHWALL_RULES is how many there are.
func TestWrittenIsListed(t *testing.T) {
	if missing := lab.Missing("iptables", "ip6tables", "ipset"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	seed, rules := irgen.Seed(t), irgen.Setting(t, "RICHWALL_RULES", 1000)
	known := sets(t)
	for _, tool := range tools {
		t.Run(tool.restore, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(tool.family)))
			absent := modulesLacking(t, tool, known)
			var chains []*ir.Chain
			all := 0
			add := func(rule *ir.Rule) {
				all++
				if c := chainOf(all, tool.family, rule); sayable(t, tool, c) && !lacks(known, rule) && !misplaced(c) && !uses(rule, absent) {
					chains = append(chains, c)
				}
			}
			eachRule(tool.family, add)
			for i := range int(rules) {
				add(irgen.Rule(r, i%2 == 0))
			}
			w := &writing{T: t, tool: tool, sets: known, why: map[string]int{}}
			w.load(chains)
			t.Logf("%d of %d rules were tried; the tool refused %v; this kernel has no %v", len(chains), all, w.why, absent)
			if len(chains) < all/8 {
				t.Errorf("only %d of %d rules were tried", len(chains), all)
			}
		})
	}
}

// modulesLacking are the types of matches and actions that this machine's kernel has no modules for.
func modulesLacking(t *testing.T, tool tool, known []*ir.Set) (absent []string) {
	t.Helper()
	try := func(sample any, r *ir.Rule) {
		c := chainOf(0, tool.family, r)
		if !sayable(t, tool, c) || lacks(known, r) {
			return
		}
		w := &writing{T: t, tool: tool, sets: known, why: map[string]int{}}
		w.load([]*ir.Chain{c})
		for why := range w.why {
			if strings.Contains(why, "No such file or directory") {
				absent = append(absent, fmt.Sprintf("%T", sample))
			}
		}
	}
	for _, m := range irgen.Matches {
		try(m, &ir.Rule{Matches: []ir.Match{m}, Actions: []ir.Action{ir.Accept}})
	}
	for _, a := range irgen.Actions {
		try(a, &ir.Rule{Matches: []ir.Match{ir.SYN{}}, Actions: []ir.Action{a}})
	}
	return absent
}

// uses says whether a rule has a match or an action of one of the types.
func uses(r *ir.Rule, types []string) bool {
	return slices.ContainsFunc(r.Matches, func(m ir.Match) bool { return slices.Contains(types, fmt.Sprintf("%T", m)) }) ||
		slices.ContainsFunc(r.Actions, func(a ir.Action) bool { return slices.Contains(types, fmt.Sprintf("%T", a)) })
}

// eachRule is a rule for each value of each field of each match and action.
func eachRule(f ir.Families, add func(*ir.Rule)) {
	port := ir.Port{Side: ir.Dest, Protocol: "tcp", Low: 80, High: 80}
	for _, sample := range irgen.Matches {
		for _, m := range irgen.Each(sample) {
			add(&ir.Rule{Matches: []ir.Match{m}, Actions: []ir.Action{ir.Accept}})
			if _, ok := m.(ir.MSS); ok {
				add(&ir.Rule{Matches: []ir.Match{ir.SYN{}, m}, Actions: []ir.Action{ir.Accept}})
			}
		}
	}
	for _, sample := range irgen.Actions {
		if d, ok := sample.(ir.DNAT); ok && f == ir.V6 {
			d.Family, d.Addr = ir.V6, irgen.Addresses6.Elements[0].Part(0).Low
			sample = d
		}
		for _, a := range irgen.Each(sample) {
			add(&ir.Rule{Actions: []ir.Action{a}})
			add(&ir.Rule{Matches: []ir.Match{port}, Actions: []ir.Action{a}})
			add(&ir.Rule{Matches: []ir.Match{ir.NFProto{Family: f}, ir.SYN{}}, Actions: []ir.Action{a}})
		}
	}
	add(&ir.Rule{})
	add(&ir.Rule{Matches: []ir.Match{nil}, Actions: []ir.Action{ir.Accept}})
	add(&ir.Rule{Actions: []ir.Action{nil}})
}

// sayable says whether the text can have a chain.
func sayable(t *testing.T, tool tool, c *ir.Chain) bool {
	t.Helper()
	var b bytes.Buffer
	err := iptables.Write(&b, &ir.Ruleset{Backend: ir.IPTables, Chains: []*ir.Chain{c}}, tool.family, iptables.Options{})
	if err != nil && (b.Len() > 0 || !strings.Contains(err.Error(), "zone test")) {
		t.Errorf("%s: it is not said where it comes from, or something was printed: %v", c.Rules[0], err)
	}
	if checked := iptables.CheckRule(c, c.Rules[0]); (checked == nil) != (err == nil) {
		t.Errorf("%s: checked, it is %v, and written %v", c.Rules[0], checked, err)
	}
	return err == nil
}

// writing is what one tool makes of chains.
type writing struct {
	*testing.T
	tool
	sets []*ir.Set
	why  map[string]int // rules that the tool refused, by what it said
}

// load loads all chains at once. What is refused is divided until it is one.
func (w *writing) load(chains []*ir.Chain) {
	w.Helper()
	if len(chains) == 0 {
		return
	}
	var setText, text bytes.Buffer
	rs := ruleset(w.sets, chains)
	if err := iptables.WriteSets(&setText, rs); err != nil {
		w.Fatal(err)
	}
	if err := iptables.Write(&text, rs, w.family, iptables.Options{}); err != nil {
		w.Fatal(err)
	}
	saved, err := w.listed(setText.String(), text.String())
	switch {
	case err == nil:
		w.compare(chains, saved)
		again, err := w.listed(setText.String(), saved)
		if err != nil || again != saved {
			w.Errorf("what is listed does not load as the same: %v", err)
		}
	case len(chains) > 1:
		w.load(chains[:len(chains)/2])
		w.load(chains[len(chains)/2:])
	default:
		w.why[reason(err)]++
		if !expected(err) {
			w.Errorf("%s\n%v", chains[0].Rules[0], err)
		}
	}
}

// expected says whether a tool may refuse a rule that the text can have: a kernel may lack a module for it, a chain may have the
// name of a target that the machine has, and a rule of the direct interface has whatever arguments it was given.
func expected(err error) bool {
	for _, what := range []string{"No such file or directory", "may not clash with target name", "Bad argument `'"} {
		if strings.Contains(err.Error(), what) {
			return true
		}
	}
	return false
}

func reason(err error) string {
	for _, what := range []string{"No such file or directory", "Bad argument", "clash"} {
		if strings.Contains(err.Error(), what) {
			return what
		}
	}
	return err.Error()
}

var noise = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]`)

// listed loads text in a namespace of its own and lists what is there then.
func (w *writing) listed(sets, text string) (string, error) {
	w.Helper()
	ns := namespace(w.T)
	defer ns.Close()
	if _, err := ns.Run(w.Context(), sets, "ipset", "restore"); err != nil {
		w.Fatal(err)
	}
	if _, err := ns.Run(w.Context(), noise.ReplaceAllString(text, ""), w.restore); err != nil {
		return "", err
	}
	saved, err := ns.Run(w.Context(), "", w.save)
	if err != nil {
		w.Fatal(err)
	}
	return noise.ReplaceAllString(saved, ""), nil
}

// compare holds each rule that is listed against the one that was written.
func (w *writing) compare(chains []*ir.Chain, saved string) {
	w.Helper()
	rules := map[string][]string{}
	for line := range strings.Lines(saved) {
		if rest, ok := strings.CutPrefix(line, "-A "); ok {
			chain, spec, _ := strings.Cut(strings.TrimSuffix(rest, "\n"), " ")
			rules[chain] = append(rules[chain], " "+spec)
		}
	}
	for _, c := range chains {
		spec, err := iptables.Spec(nil, c.Rules[0], w.family)
		if err != nil {
			w.Fatal(err)
		}
		if got := rules[c.Name]; len(got) != 1 || !same(got[0], string(spec)) {
			w.Errorf("%s\nwas written as%s\nand is listed as%s", c.Rules[0], spec, strings.Join(got, "\nand"))
		}
	}
}

// words takes a rule apart as the restore tools do: quotes hold blanks together, and in them a backslash takes the next character as
// it is.
func words(text string) (list []string) {
	var word []byte
	quoted, given := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\' && i+1 < len(text):
			i++
			word = append(word, text[i])
		case c == '"':
			quoted, given = !quoted, true
		case c == ' ' && !quoted:
			if given || len(word) > 0 {
				list = append(list, string(word))
			}
			word, given = nil, false
		default:
			word = append(word, c)
		}
	}
	if given || len(word) > 0 {
		list = append(list, string(word))
	}
	return list
}

// same says whether two texts of a rule mean the same: the tools leave out what holds for every packet, and round rates.
func same(listed, written string) bool {
	listed = numbered.ReplaceAllStringFunc(listed, func(found string) string {
		if n, err := strconv.Atoi(strings.TrimPrefix(found, " -p ")); err == nil && grammar.ProtocolName(n) != "" {
			return " -p " + grammar.ProtocolName(n)
		}
		return found
	})
	a, b := words(everything.ReplaceAllString(listed, "")), words(everything.ReplaceAllString(written, ""))
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !(i > 0 && a[i-1] == "--limit" && alike(a[i], b[i])) {
			return false
		}
	}
	return true
}

// numbered is a protocol by its number, as iptables 1.8.11 lists those of which it has no name of its own.
var numbered = regexp.MustCompile(` -p \d+\b`)

// everything is what holds for every packet of a protocol.
var everything = regexp.MustCompile(` --[sd]port 0:65535`)

// alike says whether two rates are the same but for rounding: xt_limit counts in parts of a second, and the highest rate is one
// packet in each.
func alike(a, b string) bool {
	perDay := func(text string) int {
		number, unit, _ := strings.Cut(text, "/")
		n, err := strconv.Atoi(number)
		if err != nil {
			return 0
		}
		return n * map[string]int{"sec": 86400, "min": 1440, "hour": 24, "day": 1}[unit]
	}
	x, y := perDay(a), perDay(b)
	return x > 0 && y > 0 && x <= 2*y && y <= 2*x
}
