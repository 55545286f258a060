package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"richwall/compile/ir"
)

// foundBridge is what is in ebtables of ours before a change, and what shall be there behind it.
type foundBridge struct {
	was, next *Bridge                      // next also has the chains that are not wanted and stay, as others use them
	saved     map[string]*savedTable       // what ebtables lists, by table; nil where it was not asked
	texts     map[string]string            // how ebtables lists rules, by BridgeRule.key, as far as that is known
	mine      map[BridgeChain]map[int]bool // the places of the rules of was
	madeOf    map[string]map[string]string // how ebtables lists rules in tables that it cannot list, by table and what they are made of
	left      *Left                        // knows rules by their handles
}

// bridgeFinder looks for what is in ebtables of what may be ours.
type bridgeFinder struct {
	tools
	log       *slog.Logger
	left      *Left
	known     bool // what is not noted is others'
	asks      bool // it only asks: no rule is tried in the kernel
	noted     *Bridge
	may       *Bridge // what is looked for
	saved     map[string]*savedTable
	texts     map[string]string
	madeOf    map[string]map[string]string
	unclaimed map[BridgeChain]map[string][]int // the places of listed rules that are not known to be ours, by text
	items     []bridgeItem
}

// bridgeItem is a rule that may be ours, by itself or of a command, and its place in its chain; −1 while it is not found.
type bridgeItem struct {
	rule    BridgeRule
	command []string // nil for a rule by itself
	at      int
}

// findBridge asks ebtables what is there of old, and of what is noted. Where old is nil, and it is not known that the note names all there
// is, it also asks for what shall be there next: a rule that is there is then taken for ours, and a chain if it holds no rule that it shall not
// have, or if it has the name of one that is made for the rules of a chain of the kernel's. Each listed rule counts once. A chain that
// is not wanted any more and that other programs use, or have rules in, stays. Where ebtables cannot say, and nothing is wanted of it,
// there is nothing to be found or changed: found is nil. When asks is true, nothing is tried in the kernel, and rules may be missing among
// what is found. The error is the context's when that has ended.
func (t tools) findBridge(ctx context.Context, o Options, old, next *Bridge, asks bool) (found *foundBridge, err error) {
	noted, known := o.Left.foundBridge()
	f := &bridgeFinder{tools: t, log: o.Log, left: o.Left, known: known || old != nil, asks: asks, noted: noted.with(old), texts: o.Left.bridgeTexts(), madeOf: map[string]map[string]string{}}
	if f.may = f.noted; !f.known {
		f.may = f.noted.with(next)
	}
	if f.may.empty() && len(next.Chains) == 0 {
		return &foundBridge{was: f.may, next: next, texts: f.texts, left: o.Left}, nil
	}
	limited, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	if err = f.list(limited); err == nil {
		err = f.claim(limited)
	}
	switch _, missing := find("ebtables-save"); {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("looking for rules of bridges was given up: %w", ctx.Err())
	case limited.Err() != nil:
		return nil, fmt.Errorf("ebtables does not say in time which rules of bridges are there: %w", limited.Err())
	case err != nil && next.empty() && (missing != nil || !passes(err)):
		o.Log.Warn("rules of bridges that are ours stay", "reason", err)
		return nil, nil
	case err != nil:
		return nil, err
	}
	was := f.found(old)
	return &foundBridge{was: was, next: next.with(f.stay(old, was, next)), saved: f.saved, texts: f.texts, mine: f.mine(), madeOf: f.madeOf, left: o.Left}, nil
}

// mine is the places of rules by themselves that are found, by chain.
func (f *bridgeFinder) mine() map[BridgeChain]map[int]bool {
	mine := map[BridgeChain]map[int]bool{}
	for _, item := range f.items {
		if item.at < 0 || item.command != nil {
			continue
		}
		c := item.rule.chain()
		if mine[c] == nil {
			mine[c] = map[int]bool{}
		}
		mine[c][item.at] = true
	}
	return mine
}

// bridgeEdit is what changes a table: lines for ebtables-restore, rules that are deleted by their handles behind these, and lines behind that.
type bridgeEdit struct {
	lines [][]string
	gone  []goneRule
	rest  [][]string
}

// edit makes the edit of lines that change a table. In a table that ebtables cannot list rules are deleted by their handles, and a chain
// that one of them is in, or leads to, goes behind them.
func (found *foundBridge) edit(table string, lines [][]string, before *savedTable) (e bridgeEdit) {
	if before == nil || len(before.unlisted) == 0 {
		return bridgeEdit{lines: lines}
	}
	slots := map[string][]slot{}
	for chain, rules := range before.rules {
		for i, rule := range rules {
			slots[chain] = append(slots[chain], slot{text: rule, index: i + 1})
		}
	}
	waits := map[string]bool{} // chains that cannot go before all rules have
	for _, line := range lines {
		i := slices.IndexFunc(line, func(word string) bool { return slices.Contains([]string{"-A", "-I", "-D", "-X"}, word) })
		if i < 0 || i+1 >= len(line) {
			e.lines = append(e.lines, line)
			continue
		}
		chain, args := line[i+1], slices.Concat(line[:i], line[i+2:])
		switch line[i] {
		case "-X":
			if waits[chain] {
				e.rest = append(e.rest, line)
				continue
			}
		case "-I":
			line = inserted(slots, line, i)
		case "-A":
			slots[chain] = append(slots[chain], slot{})
		case "-D":
			text := found.textOf(BridgeRule{Table: table, Chain: chain, Args: args})
			if at := slices.IndexFunc(slots[chain], func(has slot) bool { return has.index > 0 && !has.gone && has.text == text }); at >= 0 {
				slots[chain][at].gone, waits[chain], waits[targetIn(args)] = true, true, true
				e.gone = append(e.gone, before.gone(chain, slots[chain][at].index-1))
				continue
			}
		}
		e.lines = append(e.lines, line)
	}
	if len(e.rest) > 0 {
		e.rest = slices.Insert(e.rest, 0, []string{"*" + table})
	}
	return e
}

// inserted is a line with -I as its i-th word, with its place as it is while rules that go are still there. A place that there is not is left
// to ebtables, which refuses it.
func inserted(slots map[string][]slot, line []string, i int) []string {
	chain, place, word := line[i+1], 1, ""
	if i+2 < len(line) {
		if n, err := strconv.Atoi(line[i+2]); err == nil {
			place, word = n, line[i+2]
		}
	}
	at, left := 0, place-1
	for ; at < len(slots[chain]) && left > 0; at++ {
		if !slots[chain][at].gone {
			left--
		}
	}
	if place < 1 || left > 0 {
		return line
	}
	if slots[chain] = slices.Insert(slots[chain], at, slot{}); word != "" {
		line = slices.Clone(line)
		line[i+2] = strconv.Itoa(at + 1)
	}
	return line
}

// textOf is how ebtables lists a rule, as far as that is known.
func (found *foundBridge) textOf(r BridgeRule) string { return cmp.Or(found.texts[r.key()], r.spec()) }

// learn learns how ebtables lists rules that a change has brought: they stand before all that was in their chain and is not ours, if
// no other program has changed that meanwhile, and no command of ours. What is not learned is tried when it is looked for.
func (found *foundBridge) learn(ctx context.Context, t tools) {
	changed := changedChains(found.was, found.next)
	if found.saved == nil || !slices.ContainsFunc(found.next.Rules, func(r BridgeRule) bool { return changed[r.chain()] }) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	saved, err := t.listBridge(ctx)
	if err != nil {
		return
	}
	for table, s := range saved {
		s.recognise(found.madeOf[table])
		found.left.listOwn(table, s)
	}
	for c, ours := range found.next.byChain() {
		if !changed[c] || saved[c.Table] == nil {
			continue
		}
		n, texts := len(ours), saved[c.Table].rules[c.Chain]
		if len(texts) < n || !slices.Equal(texts[n:], found.others(c)) {
			continue
		}
		for i, args := range ours {
			if !isUnlisted(texts[i]) {
				found.texts[BridgeRule{Table: c.Table, Args: args}.key()] = texts[i]
			}
		}
	}
}

// others is the rules of a chain as they were listed, without those of was.
func (found *foundBridge) others(c BridgeChain) (texts []string) {
	if found.saved[c.Table] == nil {
		return nil
	}
	for i, text := range found.saved[c.Table].rules[c.Chain] {
		if !found.mine[c][i] {
			texts = append(texts, text)
		}
	}
	return texts
}

// list asks ebtables what is there. What a process has left that was killed while it tried rules goes. In a table that ebtables cannot list
// rules that may be ours are recognised by their handles, or by what they are made of.
func (f *bridgeFinder) list(ctx context.Context) error {
	saved, err := f.listBridge(ctx)
	if err != nil {
		return err
	}
	f.saved, f.unclaimed = saved, map[BridgeChain]map[string][]int{}
	for table, s := range saved {
		for _, chain := range s.order {
			if isTrial(chain) && !f.asks {
				f.endTrial(ctx, table, chain)
			}
		}
		if !f.asks && f.left.unlistedBridge(table, len(s.unlisted) > 0) {
			f.log.Warn(unlistedByAnother("ebtables"), "look", "nft list table bridge "+table)
		}
		if len(s.unlisted) > 0 && !f.asks {
			if err := f.tryUnlisted(ctx, table); err != nil {
				return err
			}
		}
		for chain, texts := range s.rules {
			places := map[string][]int{}
			for i, text := range texts {
				places[text] = append(places[text], i)
			}
			if !isTrial(chain) {
				f.unclaimed[BridgeChain{table, chain}] = places
			}
		}
	}
	return nil
}

// listBridge is all tables of ebtables, by name.
func (t tools) listBridge(ctx context.Context) (map[string]*savedTable, error) {
	tables, err := t.list(ctx, bridgeLister, bridgeTables)
	if tables != nil || err != nil {
		return tables, err
	}
	tables = map[string]*savedTable{}
	for _, table := range bridgeTables {
		if tables[table], err = t.readUnlisted(ctx, bridgeLister, table); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// claim finds the rules that may be ours among those that are listed. How ebtables lists them it tries where that is not known, or may have
// changed, and a rule may be one of those that are left.
func (f *bridgeFinder) claim(ctx context.Context) error {
	for _, r := range f.may.Rules {
		f.items = append(f.items, bridgeItem{r, nil, -1})
	}
	for _, c := range f.may.Commands {
		if r, ok := ruleBy(c); ok {
			f.items = append(f.items, bridgeItem{r, c, -1})
		}
	}
	f.match()
	if f.asks {
		return nil
	}
	for _, table := range bridgeTables {
		if err := f.try(ctx, table, f.unsure(table)); err != nil {
			return err
		}
	}
	f.match()
	return nil
}

// match gives each rule that is not found yet the first listed one that is like it, and that no other has.
func (f *bridgeFinder) match() {
	for i := range f.items {
		item := &f.items[i]
		places := f.unclaimed[item.rule.chain()]
		for _, text := range []string{f.texts[item.rule.key()], item.rule.spec()} {
			list := places[text]
			if item.at >= 0 || len(list) == 0 {
				continue
			}
			if item.at, places[text] = list[0], list[1:]; len(list) == 1 {
				delete(places, text)
			}
		}
	}
}

// unsure is the rules of a table, each once, that are not found and may be among what is listed all the same: a rule in the same chain leads
// where they lead.
func (f *bridgeFinder) unsure(table string) (rules []BridgeRule) {
	seen, led := map[string]bool{}, f.leads()
	for _, item := range f.items {
		r := item.rule
		if item.at >= 0 || r.Table != table || !f.hasOthers(r.chain()) || seen[r.key()] || f.madeOf[table] != nil {
			continue
		}
		if to := targetIn(r.Args); to == "" || led[r.chain()][to] || led[r.chain()][""] { // of some it is not known where they lead
			seen[r.key()] = true
			rules = append(rules, r)
		}
	}
	return rules
}

// hasOthers says whether there are rules in a chain that are not known to be ours.
func (f *bridgeFinder) hasOthers(c BridgeChain) bool { return len(f.unclaimed[c]) > 0 }

// leads is where rules of each chain lead that are not known to be ours.
func (f *bridgeFinder) leads() map[BridgeChain]map[string]bool {
	leads := map[BridgeChain]map[string]bool{}
	for c, texts := range f.unclaimed {
		leads[c] = map[string]bool{}
		for text := range texts {
			leads[c][targetOf(text)] = true
		}
	}
	return leads
}

// try learns how ebtables lists rules: it puts them all into a chain that nothing leads to, lists that, and takes it out. What ebtables does not
// take is not there either. The error is that ebtables could not be asked.
func (f *bridgeFinder) try(ctx context.Context, table string, rules []BridgeRule) error {
	lines := [][]string{{"*" + table}, {":" + trialChain, "RETURN"}, {"-F", trialChain}}
	head := len(lines)
	for _, r := range rules {
		line := append([]string{"-A", trialChain}, r.Args...)
		if _, err := joinLines([][]string{line}); err == nil {
			lines = append(lines, line)
		}
	}
	if len(lines) == head {
		return nil
	}
	defer f.endTrial(ctx, table, trialChain)
	for range mostReadings {
		if err := f.tryLines(ctx, table, lines, head, func(good [][]string) { lines = good }); err != nil {
			return err
		}
		if learned, err := f.learnTried(ctx, table, lines[head:]); learned || err != nil {
			return err
		}
	}
	return fmt.Errorf("it cannot be found out which rules of ours are in table %s of ebtables: %w", table, errDisturbed)
}

// learnTried learns how ebtables lists the rules of lines, which are in the chain for trials. It is false if another program has changed that.
func (f *bridgeFinder) learnTried(ctx context.Context, table string, lines [][]string) (learned bool, err error) {
	if len(f.saved[table].unlisted) > 0 {
		return f.learnMade(table, lines)
	}
	saved, err := f.listBridge(ctx)
	if err != nil || saved[table] == nil || len(saved[table].rules[trialChain]) != len(lines) {
		return false, err
	}
	for i, text := range saved[table].rules[trialChain] {
		f.texts[BridgeRule{Table: table, Args: lines[i][2:]}.key()] = text
	}
	return true, nil
}

// learnMade learns what rules are made of that lines have put into the chain for trials, and recognises those in a table that ebtables cannot
// list. They count as listed as the first of those lines that makes the same. It is false if another program has changed the chain.
func (f *bridgeFinder) learnMade(table string, lines [][]string) (learned bool, err error) {
	made, err := f.madeOfTrial(bridgeLister, table)
	if err != nil || len(made) != len(lines) {
		return false, err
	}
	known := map[string]string{}
	for i, line := range lines {
		r := BridgeRule{Table: table, Args: line[2:]}
		if known[made[i]] == "" {
			known[made[i]] = r.spec()
		}
		f.texts[r.key()] = known[made[i]]
	}
	f.madeOf[table] = known
	f.saved[table].recognise(known)
	return true, nil
}

// tryLines gives ebtables-restore lines, without those that it refuses, and calls good with those that are left. The error is
// that it takes none, or not the head, which are so many of the first.
func (f *bridgeFinder) tryLines(ctx context.Context, table string, lines [][]string, head int, good func([][]string)) error {
	restore := func() error {
		script, err := joinLines(lines)
		if err == nil {
			_, err = f.run(ctx, script, "ebtables-restore", "--noflush")
		}
		return err
	}
	err := restore()
	var said *toolError
	if !errors.As(err, &said) {
		good(lines)
		return err
	}
	bad, untried := map[string]bool{}, 0
	for _, line := range f.tryBridge(ctx, table, lines, said) {
		bad[quoted(line.Words)] = true
		if line.Why == errUntried {
			untried++
		}
	}
	if len(bad) == 0 || slices.ContainsFunc(lines[:head], func(words []string) bool { return bad[quoted(words)] }) {
		return err
	}
	if untried > 0 && len(f.saved[table].unlisted) > 0 {
		return &untriedError{program: "ebtables", table: table, why: errNoTime}
	}
	if untried > 0 {
		f.log.Warn("there was no time to find out whether all rules for bridges are there: some count as not there", "table", table, "rules", untried)
	}
	lines = filter(lines, func(words []string) bool { return !bad[quoted(words)] })
	good(lines)
	return restore()
}

// endTrial takes out a chain in which rules were tried, be it there or not.
func (f *bridgeFinder) endTrial(ctx context.Context, table, chain string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	script, err := joinLines([][]string{{"*" + table}, {":" + chain, "RETURN"}, {"-F", chain}, {"-X", chain}})
	if err == nil {
		_, err = f.run(ctx, script, "ebtables-restore", "--noflush")
	}
	if err != nil {
		f.log.Warn("a chain for bridges stays that no packet comes to", "chain", chain, "table", table, "reason", err)
	}
}

func (f *bridgeFinder) hasChain(c BridgeChain) bool {
	return f.saved[c.Table] != nil && slices.Contains(f.saved[c.Table].order, c.Chain)
}

// found is what is there of ours; the rules of a chain in the order in which they stand there. What commands of old have done that cannot
// be taken back is done.
func (f *bridgeFinder) found(old *Bridge) *Bridge {
	found, made := &Bridge{}, map[BridgeChain]bool{}
	for _, c := range f.may.Chains {
		if f.hasChain(c) && f.ours(c) {
			found.Chains = append(found.Chains, c)
		}
	}
	there := map[string]int{} // commands whose rules are there
	items := filter(f.items, func(item bridgeItem) bool { return item.at >= 0 })
	slices.SortStableFunc(items, func(a, b bridgeItem) int { return cmp.Compare(a.at, b.at) })
	for _, item := range items {
		if item.command == nil {
			found.Rules = append(found.Rules, item.rule)
		} else {
			there[quoted(item.command)]++
		}
	}
	for _, command := range f.may.Commands {
		chain, makes := chainBy(command)
		_, puts := ruleBy(command)
		switch key := quoted(command); {
		case makes && f.hasChain(chain) && !made[chain] && f.ours(chain):
			made[chain] = true
		case puts && there[key] > 0:
			there[key]--
		case !makes && !puts && old != nil && contains(old.Commands, command):
		default:
			continue
		}
		found.Commands = append(found.Commands, command)
	}
	return found
}

// ours says whether a chain that is there, and that we have or want, is not another program's: it is noted, or nothing is lost with it, as
// it has no rules that it shall not have. Where no rule was tried, those that may be ours count as ours.
func (f *bridgeFinder) ours(c BridgeChain) bool {
	return f.known || f.noted.makes(c) || ir.IsDirectChain(c.Chain) || !f.hasOthers(c) ||
		f.asks && slices.ContainsFunc(f.unsure(c.Table), func(r BridgeRule) bool { return r.Chain == c.Chain })
}

// stay is the chains, of the direct interface and of commands, that are there and not wanted any more, and that others have rules in or that
// rules of others lead to. Those that go with this change are logged.
func (f *bridgeFinder) stay(old, was, next *Bridge) *Bridge {
	stay, led := &Bridge{}, map[BridgeChain]bool{}
	for c, targets := range f.leads() {
		for to := range targets {
			led[BridgeChain{c.Table, to}] = true
		}
	}
	used := func(c BridgeChain, unwanted, goes bool) bool {
		if !unwanted || !f.hasOthers(c) && !led[c] {
			return false
		}
		if goes {
			f.log.Warn("a chain stays, as another program has rules in it or jumps to it", "chain", c.Chain, "table", c.Table, "program", "ebtables")
		}
		return true
	}
	for _, c := range was.Chains {
		if used(c, !slices.Contains(next.Chains, c), old == nil || slices.Contains(old.Chains, c)) {
			stay.Chains = append(stay.Chains, c)
		}
	}
	for _, command := range was.Commands {
		if c, makes := chainBy(command); makes && used(c, !contains(next.Commands, command), old == nil || contains(old.Commands, command)) {
			stay.Commands = append(stay.Commands, command)
		}
	}
	return stay
}

// othersChains is the error that chains of next, or of its commands, are there which are not among those of was: another program has made
// them. What names one of the kernel's chains has its rules in a chain that nobody has asked for: then these are named, too.
func (found *foundBridge) othersChains() error {
	next := found.next
	made := filter(next.Chains, func(c BridgeChain) bool { return !slices.Contains(found.was.Chains, c) })
	for _, table := range bridgeTables {
		e := &BridgeError{Table: table}
		there := func(c BridgeChain) bool {
			return c.Table == table && found.saved[table] != nil && slices.Contains(found.saved[table].order, c.Chain)
		}
		taken := func(c BridgeChain) error {
			return fmt.Errorf("table %s of ebtables has a chain %s already, which another program has made", table, c.Chain)
		}
		for _, command := range next.Commands {
			if c, makes := chainBy(command); makes && there(c) && !found.was.makes(c) {
				e.Lines = append(e.Lines, BridgeLine{withoutTable(command), taken(c)})
			}
		}
		for _, c := range made {
			if !there(c) {
				continue
			}
			why := taken(c)
			e.Lines = append(e.Lines, BridgeLine{makeBridgeChain(c), why})
			for _, r := range next.Rules {
				if ir.IsDirectChain(c.Chain) && r.chain() == c {
					e.Lines = append(e.Lines, BridgeLine{append([]string{"-A", r.Chain}, r.Args...), why})
				}
			}
		}
		if e.Lines != nil {
			e.Err = e.Lines[0].Why
			return e
		}
	}
	return nil
}

// unlistedBridge notes whether ebtables cannot list a table, and says whether that is so and new.
func (l *Left) unlistedBridge(table string, is bool) (tell bool) {
	if l == nil {
		return is
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	tell = is && !l.unlisted[table]
	if l.unlisted == nil {
		l.unlisted = map[string]bool{}
	}
	l.unlisted[table] = is
	return tell
}

// bridgeTexts is how ebtables lists rules, by BridgeRule.key, as far as that is noted. The map is the caller's.
func (l *Left) bridgeTexts() map[string]string {
	texts := map[string]string{}
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		for key, text := range l.noted.BridgeTexts {
			texts[key] = text
		}
	}
	return texts
}

// bridgeDone notes what is in ebtables behind a change, all of it, with how ebtables lists its rules.
func (l *Left) bridgeDone(is *Bridge, texts map[string]string) {
	some := map[string]string{}
	note := func(r BridgeRule) {
		if text := texts[r.key()]; text != "" && text != r.spec() {
			some[r.key()] = text
		}
	}
	for _, r := range is.Rules {
		note(r)
	}
	for _, c := range is.Commands {
		if r, ok := ruleBy(c); ok {
			note(r)
		}
	}
	l.change(func(noted, _ *leftThings) {
		l.bridges, noted.BridgeTexts, noted.Bridge = true, some, is
		if is.empty() {
			noted.Bridge = nil
		}
	})
}

// lockBridge lets one at a time of those who share a Left change what is in ebtables, as long as the context lasts. unlock ends that.
func (l *Left) lockBridge(ctx context.Context) (unlock func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	for !l.ebtables.TryLock() {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the rules of bridges are being changed: %w", ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	return l.ebtables.Unlock, nil
}
