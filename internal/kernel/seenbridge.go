package kernel

import (
	"context"
	"fmt"
	"slices"
)

// seenBridge is those of some tables in which a change has been made. The error is errNothingDone for one where nothing of it is to be seen, as
// that of seen, or that ebtables does not list what there is.
func (t tools) seenBridge(ctx context.Context, found *foundBridge, done []string) (seen []string, err error) {
	now, err := t.listBridge(context.WithoutCancel(ctx))
	if err != nil {
		return done, err
	}
	for _, table := range done {
		is := now[table]
		if is == nil {
			is = newSavedTable()
		}
		if found.nothingDone(table, is) {
			err = fmt.Errorf("table %s of ebtables: ebtables-restore: %w", table, errNothingDone)
			continue
		}
		seen = append(seen, table)
	}
	return seen, err
}

// nothingDone says whether nothing of a change of a table is to be seen, and something would be. Of a command of the direct interface it is not
// known what it does.
func (found *foundBridge) nothingDone(table string, now *savedTable) (missed bool) {
	was, next := found.was.of(table), found.next.of(table)
	for _, chains := range []struct {
		list, but []BridgeChain
		there     bool
	}{{next.Chains, was.Chains, true}, {was.Chains, next.Chains, false}} {
		for _, c := range chains.list {
			switch {
			case slices.Contains(chains.but, c):
			case slices.Contains(now.order, c.Chain) == chains.there:
				return false
			default:
				missed = true
			}
		}
	}
	ours := next.byChain()
	for c, changed := range changedChains(was, next) {
		if !changed {
			continue
		}
		has, n := now.rules[c.Chain], len(ours[c])
		if before := found.saved[table]; before == nil {
			if len(has) >= n {
				return false
			}
		} else if had := before.rules[c.Chain]; !slices.Equal(had, has) || len(had) == len(found.others(c))+n {
			return false
		}
		missed = true
	}
	return missed
}
