package kernel

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"
)

// carryOut is restoreBridge, and remembers the handles of the rules that it has put in.
func (l *Left) carryOut(ctx context.Context, t tools, table string, e bridgeEdit) (begun bool, err error) {
	if l == nil {
		return t.restoreBridge(ctx, table, e)
	}
	before := t.bridgeNow(table)
	if begun, err = t.restoreBridge(ctx, table, e); begun {
		l.rememberBridge(table, e, before, t.bridgeNow(table))
	}
	return begun, err
}

// bridgeNow is a table of ebtables-nft; nil for one of ebtables-legacy, and where it cannot be read.
func (t tools) bridgeNow(table string) *rawTable {
	s, err := openSocket(t.enter)
	if err != nil {
		return nil
	}
	defer s.conn.Close()
	raw, err := s.rawTable(unix.NFPROTO_BRIDGE, table)
	if err != nil {
		return nil
	}
	return raw
}

// rememberBridge remembers which rules of a table are ours behind an edit, from what there was before it and is now.
func (l *Left) rememberBridge(table string, e bridgeEdit, before, now *rawTable) {
	put := map[BridgeChain][]string{}
	for in := range l.ownBridge {
		if in.Table == table {
			put[in] = nil
		}
	}
	for _, line := range e.lines {
		if r, is := ruleBy(line); is {
			in := BridgeChain{table, r.Chain}
			put[in] = append(put[in], BridgeRule{Table: table, Args: r.Args}.spec())
		}
	}
	if l.ownBridge == nil {
		l.ownBridge = map[BridgeChain]map[uint64]ownRule{}
	}
	for in, specs := range put {
		if before == nil || now == nil {
			delete(l.ownBridge, in)
			continue
		}
		l.ownBridge[in] = ownBehind(l.ownBridge[in], specs, before.rules[in.Chain], now.rules[in.Chain])
	}
}

// listOwn lists the rules of a table that ebtables cannot list that are known to be ours, as far as they are there, by their words, and none of
// others' like them.
func (l *Left) listOwn(table string, saved *savedTable) {
	if l == nil {
		return
	}
	for _, chain := range saved.unlisted {
		saved.listMine(chain, l.ownBridge[BridgeChain{table, chain}], func(spec string) string { return spec })
	}
}

// hasOwn says whether a rule of a chain is known by its handle.
func (l *Left) hasOwn(r BridgeRule) bool {
	if l == nil {
		return false
	}
	for _, own := range l.ownBridge[r.chain()] {
		if own.spec == r.spec() {
			return true
		}
	}
	return false
}

// tryUnlisted finds out which rules of a table that ebtables cannot list are ones that may be ours. Those that are known by their handles are not
// tried.
func (f *bridgeFinder) tryUnlisted(ctx context.Context, table string) error {
	var unknown, own []BridgeRule
	for _, r := range f.may.allRules(table) {
		switch {
		case f.left.hasOwn(r):
			own = append(own, r)
		case !slices.ContainsFunc(unknown, func(u BridgeRule) bool { return u.key() == r.key() }):
			unknown = append(unknown, r)
		}
	}
	if err := f.try(ctx, table, unknown); err != nil {
		return err
	}
	if f.madeOf[table] == nil {
		f.madeOf[table] = map[string]string{}
	}
	for _, r := range own {
		f.texts[r.key()] = r.spec()
	}
	f.left.listOwn(table, f.saved[table])
	return nil
}
