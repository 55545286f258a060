package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

// panicTable drops every packet while it is there. Its name is firewalld's.
const panicTable = ir.Table + "_policy_drop"

// nftables is the Kernel that commits by netlink.
type nftables struct {
	options Options
	mu      sync.Mutex
	socket  *socket
	owner   bool            // the kernel can give a table an owner and let it stay without one
	direct  *iptablesKernel // nil until there are rules of the direct interface

	verified  *verified  // the ruleset that was checked last
	installed *installed // nil if it is not known what the kernel has
	begun     bool       // something was committed
	bridged   bridged
	watch     watch // with a guard
}

// installed is what a Kernel put into the kernel.
type installed struct {
	Desired
	owned      bool                  // nobody else can change the table
	ownedPanic bool                  // nor that of panic mode
	table      uint64                // its handle; 0 if that is not known
	rules      map[string][]liveRule // by chain; those of a chain that is missing are not known
}

func newNFTables(o Options) (*nftables, error) {
	s, err := o.Guard.takeSocket(o)
	if err != nil {
		return nil, err
	}
	k := &nftables{options: o, socket: s}
	if k.owner, err = s.canOwn(); err == nil {
		k.watch.guard, err = newGuard(s, o.Guard.port(), k.owner, o.Log)
	}
	if err == nil {
		k.watch.socket, k.watch.alarm, k.watch.log = s, k.alarm, o.Log
		k.watch.monitor, err = newMonitor(o.Log, o.Enter, s.conn.PID(), func(p part) bool {
			return mayStop(p) || p.family == unix.NFPROTO_INET && (p.table == ir.Table || p.table == panicTable || isGuardName(p.table))
		})
	}
	if err != nil {
		return nil, errors.Join(err, o.Guard.closeSocket(s))
	}
	return k, nil
}

// canOwn says whether the kernel has owners of tables, and tables that outlive their owner (Linux 5.12 and 6.9). Without the
// latter a daemon that is killed would leave the machine open. It tries with a table that nobody sees: it is made and
// removed by the same transaction.
func (s *socket) canOwn() (bool, error) {
	e := &nft.Encoder{Table: ir.Table + "_probe"}
	a, err := s.commit([]nft.Message{e.AddTable(nft.TableOwner | nft.TablePersist), e.DeleteTable()})
	switch {
	case err != nil:
		return false, fmt.Errorf("cannot ask the kernel for its packet filter: %w", err)
	case len(a.refused) > 0 && errors.Is(a.refused[0].err, unix.EPERM):
		return false, errors.New("cannot change the packet filter: that needs the capability CAP_NET_ADMIN")
	}
	return len(a.refused) == 0, nil
}

// Close closes the socket; the table loses its owner with it, and stays. A socket that nothing was committed with goes back to
// the Guard it came from.
func (k *nftables) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch.guard.stop()
	err := errors.Join(k.watch.monitor.close(), k.options.Guard.closeSocket(k.socket))
	if k.direct != nil {
		err = errors.Join(err, k.direct.Close())
	}
	return err
}

// Unfinished implements Remnant: only rules of the direct interface are committed in steps.
func (k *nftables) Unfinished() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.direct != nil && k.direct.Unfinished()
}

// YieldGuard implements Remnant.
func (k *nftables) YieldGuard() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.watch.guard.yield()
}

// Guarded implements Sentinel.
func (k *nftables) Guarded() bool { return k.watch.guard.stands() }

// KeepOut implements Guarder.
func (k *nftables) KeepOut(ctx context.Context, panicked bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.watch.keepOut(ctx, k.options.Guard, panicked)
}

// KeepOutAlone implements Guarder.
func (k *nftables) KeepOutAlone(ctx context.Context, panicked bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.watch.guard.aside(); err != nil {
		return err
	}
	return k.watch.keepOut(ctx, k.options.Guard, panicked)
}

// Check finds what cannot be said in messages, or what the rules of a table forbid. What a running kernel lacks it cannot
// find: nftables has no dry run.
func (k *nftables) Check(next *Desired) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.check(next)
}

func (k *nftables) check(next *Desired) error {
	if _, err := verify(next, ir.NFTables, k.verified); err != nil {
		return err
	}
	if _, err := newPlan(nil, next, planned{canOwn: k.owner}); err != nil {
		return err
	}
	if next.Direct == nil {
		return nil
	}
	d := k.direct
	if d == nil { // one for this check alone: there may never be direct rules
		var err error
		if d, err = newIPTables(k.options, true); err != nil {
			return fmt.Errorf("cannot install rules of the direct interface: %w", err)
		}
		defer d.Close()
	}
	d.starting = !k.begun
	return d.Check(&Desired{Rules: next.Direct, Awaits: next.Awaits, Running: next.Running})
}

// directKernel is what commits the rules of the direct interface.
func (k *nftables) directKernel() (*iptablesKernel, error) {
	if k.direct == nil {
		d, err := newIPTables(k.options, true)
		if err != nil {
			return nil, fmt.Errorf("cannot install rules of the direct interface: %w", err)
		}
		k.direct = d
		if k.watch.told != nil {
			k.watchDirect()
		}
	}
	return k.direct, nil
}

func (k *nftables) Commit(ctx context.Context, next *Desired) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.options.Guard.check(); err != nil {
		return err
	}
	verified, err := verify(next, ir.NFTables, k.verified)
	if err != nil {
		return err
	}
	k.verified = verified
	return k.bridged.commit(k.socket, k.options, next, func() error { return k.commitAll(ctx, next) })
}

// commitAll commits the rules of the direct interface, and the tables. In a reload that changes the former, and at a start over the rules of an
// earlier process, the guard stands from before the first of these transactions until the second takes it away, or until behind that
// (plan.isSeenInParts). Where the firewall ends, the tables go also if the rules of the direct interface stay, and also if the time is over: the programs take the longer the more direct
// rules there are, and what they have taken out is not put back for that.
func (k *nftables) commitAll(ctx context.Context, next *Desired) error {
	ends := next.ends() && ctx.Err() == nil
	g := k.watch.guard
	stood := g.up
	if !k.begun && next.isOverEarlier(k.options.Guard) || next.Anew && k.installed != nil && k.directDiffers(next.Direct) {
		g.raise(next.Panic)
	}
	done, err := k.commitDirect(ctx, next)
	tables := ctx
	if ends {
		tables = context.WithoutCancel(ctx)
	}
	switch {
	case err == nil:
		err = k.commitTables(tables, next)
		switch {
		case !done:
		case err != nil:
			k.direct.undoLast(context.WithoutCancel(ctx), next)
		default:
			k.direct.conclude(ctx.Err)
		}
	case ends:
		return errors.Join(err, k.commitTables(tables, next))
	}
	if err == nil && !done && !next.Succeeded {
		k.options.Left.wantNothing()
		k.options.Left.tryAgain(context.WithoutCancel(ctx), ctx.Err, tools{enter: k.options.Enter})
	}
	switch {
	case err != nil && k.directLost():
		g.raise(next.Panic || k.installed != nil && k.installed.Panic)
	case err != nil && !stood && g.up && (k.installed != nil || !k.begun): // all is as it was, but for what another program has changed
		k.watch.unguard(k.unguard)
	case err != nil && g.up && k.installed == nil && k.begun: // nobody knows what the kernel has: the next commit, which is asked for, puts all right
		k.watch.report(Foreign{Unfinished: true, Changes: []string{"table inet " + ir.Table}})
	}
	return err
}

// directDiffers says whether the rules of the direct interface are to be others than those installed. Those that are refused change nothing.
func (k *nftables) directDiffers(next *ir.Ruleset) bool {
	if _, err := verify(&Desired{Rules: next}, ir.IPTables, nil); err != nil {
		return false
	}
	var now *ir.Ruleset
	if k.direct != nil && k.direct.installed != nil {
		now = k.direct.installed.Rules
	}
	return differingTables(ir.V4, now, next)+differingTables(ir.V6, now, next) > 0
}

// commitDirect commits the rules of the direct interface. done is false where there are none, and were none.
func (k *nftables) commitDirect(ctx context.Context, next *Desired) (done bool, err error) {
	var left leftThings
	if k.direct == nil { // which does it itself
		left, _ = k.options.Left.begin(!k.begun)
	}
	if next.Direct == nil && k.direct == nil && (k.begun || !left.hasRules()) {
		return false, nil
	}
	d, err := k.directKernel()
	if err != nil && next.Direct == nil {
		k.options.Log.Error("direct rules of an earlier process stay", "reason", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	d.starting = !k.begun
	d.ends, d.despite = next.ends(), next.goesOn(k.installed != nil && k.installed.Panic)
	return true, d.Commit(ctx, &Desired{Rules: next.Direct, Succeeded: next.Succeeded, Awaits: next.Awaits, Anew: next.Anew})
}

// commitTables makes the difference. A batch that others may have made impossible, or of which nobody knows what became, is
// followed by one that needs no knowledge of what there is: the whole table.
func (k *nftables) commitTables(ctx context.Context, next *Desired) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := k.review(); err != nil {
		return err
	}
	known := k.installed
	if len(k.watch.changed) > 0 {
		known = nil
	}
	p, a, err := k.send(known, next, true)
	if known != nil && err == nil && len(a.refused) > 0 && (p.guessed || !known.owned) {
		p, a, err = k.send(nil, next, true)
	}
	if errors.Is(err, errLost) { // too many answers for the socket's buffer: it is done again, with fewer
		p, a, err = k.send(nil, next, false)
	}
	switch {
	case p == nil:
		return err
	case err != nil:
		k.forget()
		return err
	case len(a.refused) > 0:
		return k.refusal(p, a.refused)
	}
	k.committed(p, a.made)
	k.options.Log.Debug("committed to the kernel", "messages", len(p.changes))
	return nil
}

// forget notes that nobody knows what the kernel has. Where other programs had changed the rules, they do not guard the machine.
func (k *nftables) forget() {
	if len(k.watch.changed) > 0 {
		k.alarm()
	}
	k.installed, k.watch.changed = nil, nil
}

// send plans the way from what is known of the kernel, and sends it. There is no plan if it cannot be said in messages; no
// changes are no error.
func (k *nftables) send(known *installed, next *Desired, echo bool) (*plan, *answer, error) {
	foreign := false
	if known == nil && !next.Panic {
		foreign, _ = k.socket.isHarmless(unix.NFPROTO_INET, panicTable) // where that is not known, the kernel may refuse the batch
	}
	p, err := newPlan(known, next, planned{canOwn: k.owner, echo: echo, foreignPanic: foreign})
	if err != nil {
		return nil, nil, err
	}
	if p.isSeenInParts() {
		k.watch.guard.raise(next.Panic)
		p.outlasted = k.watch.guard.up && !k.watch.guard.needed(next)
	}
	if p.outlasted {
		p.guarded = true
	} else if err := p.setGuard(k.watch.guard, next); err != nil {
		return nil, nil, err
	}
	if len(p.changes) == 0 {
		return p, &answer{}, nil
	}
	a, err := k.socket.commit(p.messages())
	return p, a, err
}

// refusal is what the kernel refuses, as an error. Where nobody knows what the last commit has left, and another program's table keeps the
// whole rules from being put there, the guard stands until a commit succeeds, which is asked for. Where the rules are known to be whole they
// decide alone what passes. Before the first commit that is the caller's to decide (KeepOut).
func (k *nftables) refusal(p *plan, refused []refusal) error {
	for _, r := range refused {
		if !errors.Is(r.err, unix.EPERM) {
			continue
		}
		for _, table := range []string{ir.Table, panicTable, k.watch.guard.name} {
			if t, err := k.socket.tableHead(table); err == nil && k.socket.isOthers(t) {
				if k.begun && k.installed == nil && p.next.Rules != nil && !p.next.Unguarded {
					k.watch.guard.raise(p.next.Panic)
				}
				return fmt.Errorf("cannot change table inet %s: %w%s", table, ErrForeignOwner, ownerHint(t.owner))
			}
		}
		return errors.New("cannot change the packet filter: that needs the capability CAP_NET_ADMIN")
	}
	p.enter = k.options.Enter
	return p.errors(refused)
}

// ownerHint names the program with a socket, as far as its port tells: the first netlink socket of a process has its number.
func ownerHint(port uint32) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", port))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(", which seems to be %s", Writer{PID: int(port), Name: strings.TrimSpace(string(name))})
}

// committed notes what the kernel has, and takes away a guard that was to stand until then.
func (k *nftables) committed(p *plan, made map[int]liveRule) {
	k.installed, k.begun = p.result(made), true
	k.options.Guard.settled(k.socket)
	k.watch.committed()
	k.watch.guard.kept = p.next.Guarded
	k.watch.guard.note(p.guarded, p.next.Panic)
	if p.outlasted {
		k.watch.guard.takeDown(k.unguard)
	} else {
		k.watch.guard.later(k.unguard)
	}
}

// unguard takes the guard away if all has been as it should be for long enough; else it is tried again.
func (k *nftables) unguard() {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.watch.monitor.ended():
	case !k.begun: // a first commit that was refused has raised it
		k.watch.unguard(k.unguard)
	case k.installed != nil && k.installed.Rules != nil && !k.directLost():
		k.watch.reviewAndUnguard(k.review, k.unguard)
	}
}
