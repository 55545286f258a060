package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// Store keeps the text of a Left for a later process, until the machine boots. An os.ErrDeadlineExceeded of Write says that the text is
// still to be written, and will be unless another one comes before.
type Store interface {
	Read() ([]byte, error) // empty if there is none
	Write([]byte) error
}

// Left is what of ours is in the kernel among what is others': nothing there says whose it is, so that a later process would not
// know what to take out. It is noted before a commit brings it, and until a commit has taken it out: after a crash at any moment
// the note names all there is, and maybe more. One Left serves all Kernels of a process, and CommitBridge. Its methods may be
// called at the same time. A nil Left knows nothing.
type Left struct {
	store Store
	log   *slog.Logger

	mu      sync.Mutex
	noted   leftThings
	wanted  leftThings // what the last commit of this process has put there
	stay    leftThings // chains and sets that could not be taken out, as where something else uses them: they stay noted, and are tried again
	late    []leftRule // of which it is not known whether they are there: they stay noted for a later process (keep), as those of a note that could be read only behind a commit
	written []byte
	failed  bool  // the last writing
	unread  error // why the note of an earlier process could not be read; it is not written over before it was
	known   bool  // what is noted is all there is
	bridges bool  // the same of what is noted of ebtables

	unlisted  map[string]bool                    // tables that ebtables could not list when it was last asked
	ownBridge map[BridgeChain]map[uint64]ownRule // rules that this process has put into chains of ebtables, by their handles; as ebtables is locked
	ebtables  sync.Mutex                         // held while somebody changes what is in ebtables (lockBridge)
}

// leftNote is what is written.
type leftNote struct {
	leftThings
	Unsure       bool `json:",omitempty"` // there may be more, but for what is of ebtables
	UnsureBridge bool `json:",omitempty"` // there may be more of ebtables
}

// leftThings is what a Left knows.
type leftThings struct {
	Rules  []leftRule  `json:",omitempty"` // of the direct interface, in chains that others may have rules in; those of one chain in order
	Chains []leftChain `json:",omitempty"` // in which others may have rules, and which we have made
	Sets   []string    `json:",omitempty"` // of ipset
	Bridge *Bridge     `json:",omitempty"` // nil for nothing

	BridgeTexts map[string]string `json:",omitempty"` // how ebtables lists the rules of Bridge that it writes otherwise, by BridgeRule.key
}

// leftChain is a chain of a tool, iptables or ip6tables.
type leftChain struct{ Tool, Table, Chain string }

// leftRule is a rule: Spec as the administrator wrote it, and Text as the tool lists it, if that is known.
type leftRule struct {
	leftChain
	Spec string
	Text string `json:",omitempty"`
}

// NewLeft reads what an earlier process has left. That it cannot be read is logged; it is then read again before each commit, until it can.
// What is no note is logged, too, and what it was about stays in the kernel.
func NewLeft(store Store, log *slog.Logger) *Left {
	l := &Left{store: store, log: log}
	if l.read(false); l.unread != nil {
		l.unknown(l.unread)
	}
	return l
}

// unknown logs why it is not known what an earlier process has left.
func (l *Left) unknown(reason error) {
	l.log.Error("it is not known which direct rules an earlier process has put into the kernel: those that are no longer in the configuration stay there", "reason", reason)
}

// read reads what an earlier process has left, which is noted beside what this one has noted meanwhile. late says that this process has done
// without it.
func (l *Left) read(late bool) {
	data, err := l.store.Read()
	if l.unread = err; err != nil {
		return
	}
	l.written = data
	var was leftNote
	if len(data) > 0 {
		err = json.Unmarshal(data, &was)
	}
	if err != nil {
		l.unknown(err)
		return
	}
	if late {
		l.late = union(l.late, was.Rules, leftRule.key)
		l.stay.Chains, l.stay.Sets = union(l.stay.Chains, was.Chains, itself), union(l.stay.Sets, was.Sets, itself)
	}
	all := was.and(l.noted)
	all.Sets, all.Bridge = union(was.Sets, l.noted.Sets, itself), l.noted.Bridge
	all.BridgeTexts = l.noted.BridgeTexts
	if was.Bridge != nil {
		all.Bridge, all.BridgeTexts = was.Bridge.with(l.noted.Bridge), maps.Clone(was.BridgeTexts)
		if all.BridgeTexts == nil {
			all.BridgeTexts = map[string]string{}
		}
		maps.Copy(all.BridgeTexts, l.noted.BridgeTexts)
	}
	l.noted = all
	l.known = l.known || len(data) > 0 && !was.Unsure
	l.bridges = l.bridges || len(data) > 0 && !was.UnsureBridge
}

// begin is found at the begin of a commit, which reads a note again that could not be read. Nothing else reads it: what comes to be known
// within a commit would be lost at its end. first says that the commit can still do something about what an earlier process has left.
func (l *Left) begin(first bool) (things leftThings, known bool) {
	if l == nil {
		return leftThings{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unread != nil {
		l.read(!first || l.known)
	}
	return l.noted, l.known
}

// found is what is noted, and whether what is not noted is others'.
func (l *Left) found() (things leftThings, known bool) {
	if l == nil {
		return leftThings{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noted, l.known
}

// keep has rules stay noted for a later process, as it could not be found out whether they are there.
func (l *Left) keep(rules []leftRule) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = union(l.late, rules, leftRule.key)
}

// leftState is what a Left knows before a commit.
type leftState struct {
	noted, wanted leftThings
	known         bool
}

func (l *Left) state() leftState {
	if l == nil {
		return leftState{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return leftState{l.noted, l.wanted, l.known}
}

func chainLeft(family ir.Families, table, name string) leftChain {
	return leftChain{tool(family), table, name}
}

// hasRules says whether rules or chains are noted.
func (t leftThings) hasRules() bool { return len(t.Rules)+len(t.Chains) > 0 }

// in is the rules and chains of a table.
func (t leftThings) in(family ir.Families, table string) leftThings {
	in := func(c leftChain) bool { return c == chainLeft(family, table, c.Chain) }
	return leftThings{Rules: filter(t.Rules, func(r leftRule) bool { return in(r.leftChain) }), Chains: filter(t.Chains, in)}
}

// and is the rules and chains of either.
func (t leftThings) and(more leftThings) leftThings {
	return leftThings{Rules: union(t.Rules, more.Rules, leftRule.key), Chains: union(t.Chains, more.Chains, itself)}
}

// key is the rule without what the tool makes of it.
func (r leftRule) key() leftRule { return leftRule{leftChain: r.leftChain, Spec: r.Spec} }

// hasChain says whether rules of the direct interface are, or may be, in a chain of the table that t is about.
func (t leftThings) hasChain(name string) bool {
	return slices.ContainsFunc(t.Chains, func(c leftChain) bool { return c.Chain == name }) ||
		slices.ContainsFunc(t.Rules, func(r leftRule) bool { return r.Chain == name })
}

// may says whether a rule may be one that the tool lists with a certain text. Of a rule that was never found among what is listed it is
// known only where it leads.
func (r leftRule) may(text string) bool {
	return r.Spec == text || r.Text == text || r.Text == "" && targetOf(r.Spec) == targetOf(text)
}

// without is the texts of some rules of a chain without one for each rule of the direct interface that is there.
func (t leftThings) without(chain string, texts []string) []string {
	texts = slices.Clone(texts)
	for _, r := range t.Rules {
		if i := slices.IndexFunc(texts, r.may); r.Chain == chain && i >= 0 {
			texts = slices.Delete(texts, i, i+1)
		}
	}
	return texts
}

// withoutAll is the rules of a chain without those of which each one like it is of the direct interface.
func (t leftThings) withoutAll(chain string, texts []string) []string {
	others := t.without(chain, texts)
	return filter(texts, func(text string) bool { return slices.Contains(others, text) })
}

// change changes what is noted. A note that cannot be written is logged once, and keeps nobody from anything.
func (l *Left) change(f func(noted, wanted *leftThings)) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.noted, &l.wanted)
	data, err := json.Marshal(leftNote{l.noted, !l.known, !l.bridges})
	if err != nil {
		panic("internal error: " + err.Error()) // plain data
	}
	if l.unread == nil && !l.failed && string(data) == string(l.written) {
		return
	}
	if err = l.unread; err == nil {
		err = l.write(data)
	}
	if err != nil && !l.failed {
		l.log.Error("it cannot be noted on disk which direct rules are in the kernel: should the firewall be killed, those that are taken out of the configuration meanwhile stay there", "reason", err)
	}
	l.failed = err != nil
}

// write writes a note. Where that has failed for good, as on a full disk, no note is better than an old one, which would have the rules
// that it lacks taken for others', and finds room where another one does not. A disk that is only slow gets the note when it answers.
func (l *Left) write(data []byte) error {
	err := l.store.Write(data)
	if err == nil {
		l.written = data
	} else if !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = l.store.Write(nil)
	}
	return err
}

// wantNothing says that the last commit of this process needs none of what is noted. What is not noted is others', unless an earlier
// process has left a note that could not be read yet.
func (l *Left) wantNothing() {
	l.change(func(_, wanted *leftThings) { *wanted, l.known = leftThings{}, l.known || l.unread == nil })
}

// before notes what a commit is about to bring, beside what is there.
func (l *Left) before(next leftThings) {
	l.change(func(noted, _ *leftThings) {
		noted.Rules = union(noted.Rules, next.Rules, leftRule.key)
		noted.Chains = union(noted.Chains, next.Chains, itself)
		noted.Sets = union(noted.Sets, next.Sets, itself)
	})
}

// undone notes that the rules and chains of a commit are not there, which was taken back: what another program has of the like is not ours.
// was is what was known before it, and found the rules and chains that it has found to be of an earlier process, without a note: these
// are there again. As little as before it is known whether that is all.
func (l *Left) undone(was leftState, found leftThings) {
	l.change(func(noted, wanted *leftThings) {
		all := was.noted.and(found)
		noted.Rules, noted.Chains, *wanted, l.known = all.Rules, all.Chains, was.wanted, was.known
	})
}

// after notes what is there behind a commit, and the chains that we have made. The first commit of a process leaves the sets of an
// earlier one to RemoveOther, as other rules than its own may look them up.
func (l *Left) after(next leftThings, made []leftChain, first bool) {
	l.change(func(noted, wanted *leftThings) {
		*wanted, l.known = next, true
		noted.Rules, noted.Chains = union(next.Rules, l.late, leftRule.key), union(made, l.stay.Chains, itself)
		if first {
			noted.Sets = union(noted.Sets, next.Sets, itself)
		} else {
			noted.Sets = union(next.Sets, l.stay.Sets, itself)
		}
	})
}

// bridge changes what is noted of ebtables.
func (l *Left) bridge(f func(noted *Bridge) *Bridge) {
	l.change(func(noted, _ *leftThings) {
		if noted.Bridge = f(noted.Bridge); reflect.DeepEqual(noted.Bridge, &Bridge{}) {
			noted.Bridge = nil
		}
	})
}

// foundBridge is what is noted of ebtables, and whether what is not noted is others'. A commit, unlike a check, has begin before it.
func (l *Left) foundBridge() (noted *Bridge, known bool) {
	if l == nil {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noted.Bridge, l.bridges
}

// removeChains takes out the chains that are noted and that the last commit does not want, as far as they are empty and no rule leads to
// them: rules of another back end may have until now. Those that stay are tried again.
func (l *Left) removeChains(ctx context.Context, t tools) {
	if l == nil {
		return
	}
	l.mu.Lock()
	gone, was := filter(l.noted.Chains, func(c leftChain) bool { return !slices.Contains(l.wanted.Chains, c) }), l.stay
	l.mu.Unlock()
	stay := l.takeOutChains(ctx, ctx.Err, t, gone, was)
	l.change(func(noted, wanted *leftThings) {
		l.stay.Chains, noted.Chains = stay, union(wanted.Chains, stay, itself)
	})
}

// takeOutChains takes out chains, and returns those that stay. It warns of those that are not among what stayed before. Once stopped is an
// error, all others stay.
func (l *Left) takeOutChains(ctx context.Context, stopped func() error, t tools, gone []leftChain, was leftThings) (stay []leftChain) {
	for i, c := range gone {
		if stopped() != nil {
			return append(stay, gone[i:]...)
		}
		_, err := t.run(ctx, "", c.Tool, waitForLock(), "-t", c.Table, "-X", c.Chain)
		if err == nil {
			continue
		}
		if !t.hasChain(ctx, c) {
			continue
		}
		if !slices.Contains(was.Chains, c) {
			l.log.Warn("a chain stays until it can be taken out", "chain", c.Chain, "table", c.Table, "error", err)
		}
		stay = append(stay, c)
	}
	return stay
}

// removeSets takes out the sets that are noted and that the last commit does not want, as far as they are there and no rule looks them up.
// Those that stay are tried again. On an error all are noted still.
func (l *Left) removeSets(ctx context.Context, t tools) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	gone, was := filter(l.noted.Sets, func(name string) bool { return !slices.Contains(l.wanted.Sets, name) }), l.stay
	l.mu.Unlock()
	stay, err := l.takeOutSets(ctx, t, gone, was)
	if err != nil {
		return err
	}
	l.change(func(noted, wanted *leftThings) {
		l.stay.Sets, noted.Sets = stay, union(wanted.Sets, stay, itself)
	})
	return nil
}

// takeOutSets takes out sets, as far as they are there, and returns those that stay. It warns of those that are not among what stayed before.
func (l *Left) takeOutSets(ctx context.Context, t tools, gone []string, was leftThings) (stay []string, err error) {
	if len(gone) == 0 {
		return nil, nil
	}
	reasons, err := t.destroySets(ctx, gone)
	if err != nil {
		return nil, err
	}
	for _, name := range gone {
		reason := reasons[name]
		if reason == nil {
			continue
		}
		if !slices.Contains(was.Sets, name) {
			l.log.Warn("a set stays until it can be taken out", "set", name, "error", reason)
		}
		stay = append(stay, name)
	}
	return stay, nil
}

// stays notes a set that was to go and could not be taken out.
func (l *Left) stays(set string) {
	l.change(func(noted, _ *leftThings) {
		l.stay.Sets, noted.Sets = union(l.stay.Sets, []string{set}, itself), union(noted.Sets, []string{set}, itself)
	})
}

// tryAgain takes out what stayed before, behind a commit, as far as that has not brought it again. taken are the chains that are gone. No
// program is begun any more once stopped is an error: nobody waits for what the next commit, or the next process, can try as well.
func (l *Left) tryAgain(ctx context.Context, stopped func() error, t tools) (taken []leftChain) {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	chains := filter(l.stay.Chains, func(c leftChain) bool { return !slices.Contains(l.wanted.Chains, c) })
	sets := filter(l.stay.Sets, func(name string) bool { return !slices.Contains(l.wanted.Sets, name) })
	was := l.stay
	l.mu.Unlock()
	if len(was.Chains)+len(was.Sets) == 0 {
		return nil
	}
	stay := leftThings{Chains: l.takeOutChains(ctx, stopped, t, chains, was)}
	err := stopped()
	if err == nil {
		stay.Sets, err = l.takeOutSets(ctx, t, sets, was)
	}
	if err != nil {
		stay.Sets = sets
	}
	taken = filter(chains, func(c leftChain) bool { return !slices.Contains(stay.Chains, c) })
	l.change(func(noted, wanted *leftThings) {
		l.stay = stay
		noted.Chains = filter(noted.Chains, func(c leftChain) bool { return !slices.Contains(taken, c) })
		noted.Sets = filter(noted.Sets, func(name string) bool { return !slices.Contains(sets, name) || slices.Contains(stay.Sets, name) })
	})
	return taken
}

// wants says whether the last commit of this process has put a set into the kernel.
func (l *Left) wants(set string) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.wanted.Sets, set)
}

func itself[T any](v T) T { return v }

// union is a list and what another one has besides; what is in either several times, by its key, is there as often as in the one that
// has it more often.
func union[T any, K comparable](list, more []T, key func(T) K) []T {
	all, had := slices.Clone(list), map[K]int{}
	for _, v := range list {
		had[key(v)]++
	}
	for _, v := range more {
		if had[key(v)]--; had[key(v)] < 0 {
			all = append(all, v)
		}
	}
	return all
}

// leaves is what of a ruleset is among what is others'.
func (k *iptablesKernel) leaves(d *Desired) leftThings {
	var t leftThings
	if d.Rules == nil {
		return t
	}
	for _, s := range d.Rules.Sets {
		t.Sets = append(t.Sets, s.Name)
	}
	for _, c := range d.Rules.Chains {
		if !c.Shared && !c.Builtin && !isBuiltin(c.Table, c.Name) {
			continue
		}
		for _, family := range k.families {
			if c.Families&family != 0 && k.made[sharedChain{family, c.Table, c.Name}] {
				t.Chains = append(t.Chains, chainLeft(family, c.Table, c.Name))
			}
			for _, r := range c.Rules {
				if c.Families&r.Families&family == 0 || !isRaw(r) {
					continue
				}
				spec, err := iptables.Spec(nil, r, family)
				if err != nil {
					panic("internal error: a rule was not verified: " + err.Error())
				}
				in := sharedChain{family, c.Table, c.Name}
				for _, made := range k.madeFrom(sharedRule{in, strings.TrimPrefix(string(spec), " ")}) {
					t.Rules = append(t.Rules, leftRule{chainLeft(family, c.Table, c.Name), made, k.texts[sharedRule{in, made}]})
				}
			}
		}
	}
	return t
}

// note notes the sets that a commit is about to bring, and those that it makes for a while. Sets of other programs, in whose place ours come,
// are others' until then.
func (k *iptablesKernel) note(next *Desired, sets *setPlan) {
	if !next.Succeeded && k.options.Left != nil {
		t := k.leaves(next)
		t.Rules = nil
		t.Sets = append(filter(t.Sets, func(name string) bool { return !slices.Contains(sets.others, name) }), sets.temporaries()...)
		k.options.Left.before(t)
	}
}

// noteRules notes the rules that a commit is about to bring, the chains that its scripts are about to make, and those of an earlier process that
// they have found without a note.
func (k *iptablesKernel) noteRules(next *Desired, scripts []*script) {
	var t leftThings
	if !next.Succeeded && k.options.Left != nil {
		t.Rules = k.leaves(next).Rules
	}
	for _, s := range scripts {
		for _, name := range s.made {
			t.Chains = append(t.Chains, chainLeft(s.family, s.table, name))
		}
	}
	t.Chains = append(t.Chains, k.came.Chains...)
	k.options.Left.before(t)
}

// noteDone notes what is in the kernel behind a commit, and takes out what stayed before, as far as that is possible now.
func (k *iptablesKernel) noteDone(ctx context.Context, next *Desired, first bool) {
	if next.Succeeded || k.options.Left == nil {
		return
	}
	var made []leftChain
	for c, is := range k.made {
		if is {
			made = append(made, chainLeft(c.family, c.table, c.name))
		}
	}
	slices.SortFunc(made, func(a, b leftChain) int {
		return strings.Compare(a.Tool+" "+a.Table+" "+a.Chain, b.Tool+" "+b.Table+" "+b.Chain)
	})
	t := k.leaves(next)
	for _, family := range k.unused { // what was found there is there still
		is := func(c leftChain) bool { return c.Tool == tool(family) }
		t.Rules = append(t.Rules, filter(k.found.Rules, func(r leftRule) bool { return is(r.leftChain) })...)
		t.Chains = append(t.Chains, filter(k.found.Chains, is)...)
		made = append(made, filter(k.found.Chains, is)...)
	}
	k.options.Left.after(t, made, first)
	for _, c := range k.options.Left.tryAgain(ctx, k.stopped, k.tools) {
		for _, family := range k.families {
			if c.Tool == tool(family) {
				delete(k.made, sharedChain{family, c.Table, c.Chain})
			}
		}
	}
}

// noteFormer notes what was there before the last commit, which is to be taken back.
func (k *iptablesKernel) noteFormer() {
	if k.options.Left == nil {
		return
	}
	t := k.found.and(k.came)
	if k.former.installed != nil {
		t = k.leaves(k.former.installed)
	}
	for c, made := range k.former.made {
		if made {
			t.Chains = append(t.Chains, chainLeft(c.family, c.table, c.name))
		}
	}
	k.options.Left.before(t)
}

// addLeft adds to what is ours in a table what an earlier process has left among the rules of others, as far as it is there: what
// is noted, or, where there is no note, what shall be there again. A rule may be there less often than that says.
func (e *tableEdit) addLeft(ctx context.Context) error {
	may, err := e.mayBeLeft(ctx)
	if err != nil {
		return err
	}
	if err := e.claimChains(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(may)) {
		if err := e.addLeftOf(ctx, name, may[name]); err != nil {
			return err
		}
	}
	return nil
}

// mayBe are rules of a chain that may be there: those that are noted, and those that are the configuration's without being noted.
type mayBe struct{ noted, others []string }

func (m mayBe) specs() []string { return slices.Concat(m.noted, m.others) }

// mayBeLeft is what an earlier process may have left in each chain of the table, and asks how the tool lists it where that is not known.
func (e *tableEdit) mayBeLeft(ctx context.Context) (map[string]mayBe, error) {
	may := map[string]mayBe{}
	left := e.left()
	for _, c := range left.Chains {
		may[c.Chain] = mayBe{}
	}
	for _, r := range left.Rules {
		may[r.Chain] = mayBe{noted: append(may[r.Chain].noted, r.Spec)}
		if r.Text != "" {
			e.k.texts[sharedRule{e.sharedChain(r.Chain), r.Spec}] = r.Text
		}
	}
	for _, c := range e.want.chains {
		if !c.partial() {
			continue
		}
		m := may[c.name]
		if !e.k.foundKnown || e.k.withoutLeft {
			m.others = union(m.noted, c.directSpecs(), itself)[len(m.noted):]
		}
		may[c.name] = m
	}
	specs := map[string][]string{}
	noted := map[string][]string{}
	for name, m := range may {
		specs[name], noted[name] = m.specs(), m.noted
	}
	return may, e.ask(ctx, specs, noted)
}

// claimChains takes direct chains that are there for those that an earlier process has made: what is noted, and, where there is no note, a
// chain of the configuration that holds no rule but those that it shall have. Rules that are not ours stay in them.
func (e *tableEdit) claimChains(ctx context.Context) error {
	noted := e.k.found.in(e.family, e.table).Chains
	for _, c := range noted {
		if own := e.want.chain(c.Chain); slices.Contains(e.saved.order, c.Chain) && (own != nil && own.shared || own == nil && !e.k.withoutLeft) {
			e.k.made[e.sharedChain(c.Chain)] = true
		}
	}
	for _, c := range e.want.chains {
		left := chainLeft(e.family, e.table, c.name)
		if e.k.foundKnown || !e.starts() || !c.declared || !slices.Contains(e.saved.order, c.name) || slices.Contains(noted, left) || e.emptied(c) {
			continue
		}
		alone, err := e.hasNoOther(ctx, c)
		if err != nil {
			return err
		}
		if alone {
			e.k.made[e.sharedChain(c.name)] = true
			e.k.came.Chains = append(e.k.came.Chains, left)
		}
	}
	return nil
}

// starts says whether this is a start, at which the firewall may take over a chain that is there.
func (e *tableEdit) starts() bool { return e.k.starting && !e.k.running }

// left is what is noted of the table; nothing for a commit that does without it.
func (e *tableEdit) left() leftThings {
	if e.k.withoutLeft {
		return leftThings{}
	}
	return e.k.found.in(e.family, e.table)
}

// emptied says whether a direct chain that is there is made anew at a start, as nothing of the direct interface is lost with it: it has no
// rules, or is of a ruleset.
func (e *tableEdit) emptied(c *chainRules) bool {
	return c.declared && e.starts() &&
		(len(e.saved.rules[c.name]) == 0 || e.saved.remains(e.table, e.k.found.in(e.family, e.table)).chain(c.name) != nil)
}

// hasNoOther says whether all rules of a chain that is there are those that it shall have. Each of them counts for one.
func (e *tableEdit) hasNoOther(ctx context.Context, c *chainRules) (bool, error) {
	if len(e.saved.rules[c.name]) > len(c.specs) {
		return false, nil
	}
	found, err := e.sharedEdit(c.name).find(ctx, &chainRules{specs: c.specs, guessed: true})
	at := filter(found, func(f foundRule) bool { return f.index >= 0 })
	return len(at) == len(e.saved.rules[c.name]), err
}

// addLeftOf is addLeft for one chain.
func (e *tableEdit) addLeftOf(ctx context.Context, name string, may mayBe) error {
	builtin, want, had := isBuiltin(e.table, name), e.want.chain(name), e.had.chain(name)
	switch {
	case !builtin && !slices.Contains(e.saved.order, name): // it is not there
		return nil
	case want != nil && (!want.partial() || e.emptied(want)): // it is made anew
		return nil
	case want == nil && had != nil && !had.partial(): // it goes
		return nil
	}
	left := &chainRules{name: name, builtin: builtin, shared: had == nil, again: true, loose: had == nil}
	if want != nil {
		left.shared = want.shared
	}
	specs, known := may.specs(), may.noted
	if len(specs) == 0 && (had != nil || !e.k.made[e.sharedChain(name)]) {
		return nil
	}
	if had != nil {
		specs, known = slices.Concat(had.specs, specs), slices.Concat(had.specs, known)
	}
	found, err := e.sharedEdit(name).find(ctx, &chainRules{specs: specs, guessed: true})
	if err != nil {
		return err
	}
	places := want.placeOf()
	for _, f := range found {
		left.specs, left.places, left.rules = append(left.specs, f.spec), append(left.places, places[f.spec]), append(left.rules, nil)
	}
	e.came(name, union(known, left.specs, itself)[len(known):])
	if others := len(e.saved.rules[name]) - len(left.specs); others > 0 && want != nil && want.declared {
		e.kept = append(e.kept, name)
	}
	e.had.chains = append(slices.DeleteFunc(e.had.chains, func(c *chainRules) bool { return c.name == name }), left)
	return nil
}

// came remembers rules of a chain that were found and are not noted: where there is no note they are an earlier process's.
func (e *tableEdit) came(chain string, specs []string) {
	if e.k.foundKnown {
		return
	}
	for _, spec := range specs {
		text := e.k.texts[sharedRule{e.sharedChain(chain), spec}]
		e.k.came.Rules = append(e.k.came.Rules, leftRule{chainLeft(e.family, e.table, chain), spec, text})
	}
}

// directSpecs are the rules of the direct interface in a chain; none if there is no chain.
func (c *chainRules) directSpecs() []string {
	var specs []string
	for i := 0; c != nil && i < len(c.specs); i++ {
		if isRaw(c.rules[i]) {
			specs = append(specs, c.specs[i])
		}
	}
	return specs
}

// placeOf is where each rule goes in a shared chain. There are none if there is no chain.
func (c *chainRules) placeOf() map[string]int {
	places := map[string]int{}
	for i := 0; c != nil && i < len(c.specs); i++ {
		places[c.specs[i]] = c.place(i)
	}
	return places
}

// withoutShared is what is ours in a table without what is in chains that others may have rules in: of the kernel's chains the rules
// of the direct interface.
func (t *tableRules) withoutShared() *tableRules {
	less := &tableRules{}
	for _, c := range t.chains {
		if c.shared {
			continue
		}
		some := *c
		if c.builtin {
			some.specs, some.places, some.rules = nil, nil, nil
			for i, spec := range c.specs {
				if !isRaw(c.rules[i]) {
					some.specs, some.places, some.rules = append(some.specs, spec), append(some.places, c.place(i)), append(some.rules, c.rules[i])
				}
			}
		}
		less.chains = append(less.chains, &some)
	}
	return less
}
