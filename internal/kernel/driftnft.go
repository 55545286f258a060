package kernel

import (
	"richwall/compile/ir"
)

// Watch implements Watcher.
func (k *nftables) Watch(f func(Foreign)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch.told = f
	if k.direct != nil {
		k.watchDirect()
	}
	go k.watch.follow(k.look)
}

// watchDirect has the rules of the direct interface told of, after the guard was raised for them. The lock is held.
func (k *nftables) watchDirect() {
	told := k.watch.told
	k.direct.Watch(func(f Foreign) {
		k.guardDirect()
		told(f)
	})
}

// guardDirect raises the guard if another program has changed rules of the direct interface that could drop a packet.
func (k *nftables) guardDirect() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.watch.monitor.ended() && k.directLost() {
		k.watch.guard.noticed()
		k.alarm()
	}
}

// directLost says whether rules of the direct interface that could drop a packet are not as they were committed.
func (k *nftables) directLost() bool { return k.direct != nil && k.direct.lost() }

// Allow implements Watcher. What the user changes directly is not in our tables, but may be in those of iptables.
func (k *nftables) Allow(f func(started func(pid int)) error) error {
	k.mu.Lock()
	direct := k.direct
	k.mu.Unlock() // others may change our tables while f goes on
	if direct == nil {
		return f(func(int) {})
	}
	return direct.Allow(f)
}

// look reviews what was heard, and returns what nobody was told of yet. As long as something is not as it was committed, the
// guard stands.
func (k *nftables) look() []Foreign {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.watch.looking()()
	if k.watch.monitor.ended() || k.options.Guard.check() != nil {
		return nil
	}
	if err := k.review(); err != nil {
		k.options.Log.Error(err.Error())
	}
	reports := k.watch.reports()
	if len(k.watch.changed) > 0 || k.directLost() {
		k.alarm()
	} else if k.installed != nil && k.installed.Rules != nil {
		k.watch.unguard(k.unguard)
	}
	return reports
}

// alarm raises the guard, unless what other programs do may stay, or it is not known what there shall be.
func (k *nftables) alarm() {
	if k.installed != nil && k.installed.Rules != nil && !k.installed.Unguarded {
		k.watch.guard.raise(k.installed.Panic)
	}
}

// review finds out whether what is installed is still there.
func (k *nftables) review() error {
	if k.installed == nil {
		return nil
	}
	return k.watch.review(k)
}

// concerns implements subject.
func (k *nftables) concerns(p part) bool {
	switch {
	case mayStop(p):
		return k.uses(p)
	case p.table == panicTable:
		return k.installed.Panic
	case isGuardName(p.table):
		return k.unprotected()
	case k.installed.Rules == nil:
		return false
	case p.kind != elementPart:
		return true
	}
	for _, s := range k.installed.Rules.Sets {
		if s.Name == p.name {
			return !expires(s)
		}
	}
	return true
}

// uses is Options.uses of what is installed.
func (k *nftables) uses(p part) bool { return k.options.uses(&k.installed.Desired, p) }

// unprotected says whether a guard stands that other programs can take away.
func (k *nftables) unprotected() bool { return k.watch.guard.up && !k.watch.guard.protected() }

// differences implements subject.
func (k *nftables) differences() ([]string, error) {
	var list []string
	if k.installed.Rules != nil {
		want, err := k.installed.live()
		if err != nil {
			return nil, err
		}
		now, err := k.socket.readTable(ir.Table)
		if err != nil {
			return nil, err
		}
		list = want.differences(ir.Table, now)
	}
	for _, t := range []struct {
		name  string
		there bool
		want  *liveTable
	}{{panicTable, k.installed.Panic, livePanic(k.installed.ownedPanic)}, {k.watch.guard.name, k.unprotected(), liveGuard(k.installed.Panic)}} {
		if !t.there {
			continue
		}
		now, err := k.socket.readTable(t.name)
		if err != nil {
			return nil, err
		}
		t.want.handle = now.handle // each is as good as another one
		list = append(list, t.want.differences(t.name, now)...)
	}
	dormant, err := k.socket.dormantTables()
	return append(list, madeDormant(dormant, k.uses)...), err
}
