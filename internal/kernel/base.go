package kernel

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// Guard is what Base has put into the kernel, until the first commit of a Kernel takes its place. Till then the Guard and the
// Kernel that was opened with it share the socket that owns the guard: a Kernel that is closed before that gives it back. Its
// methods may be called from several goroutines, also while a Kernel works.
type Guard struct {
	mu      sync.Mutex
	socket  *socket // nil if there is none, or a commit has taken the guard's place
	lent    bool    // a Kernel uses it too
	passed  bool    // a Kernel that does not use it has committed: the guard goes when nobody uses the socket any more
	chains  *tools  // what has put up chains of iptables, where the kernel has no nf_tables; else nil
	lowered bool
	log     *slog.Logger
	owner   uint32     // the port of the socket that Base has opened; 0 if there is none
	earlier ir.Backend // whose rules of an earlier process stand in the guard's place; empty if none do
}

// Earlier is the back end of the rules of an earlier process that Base has found whole, so that no guard was needed; empty if it
// has found none, or there is no Guard.
func (g *Guard) Earlier() ir.Backend {
	if g == nil {
		return ""
	}
	return g.earlier
}

// port is the port of the socket that owns the guard of the start; 0 if there is none, or a Kernel that has committed has the socket: what that
// owns is its guard.
func (g *Guard) port() uint32 {
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.socket == nil {
		return 0
	}
	return g.owner
}

// holdTime is how long the programs of iptables are waited for that may know of the rules of an earlier process. It is a variable for tests.
var holdTime = time.Second

// Base makes the kernel drop what is not of a connection that is there already, before anything else is known: see
// guardChains. The first commit of the Kernel that is opened with the Guard takes it away, in the transaction that brings the
// rules. With panicked everything is dropped. Where the whole rules of an earlier process are still there, they stay in force
// instead, unless a table of iptables or ebtables is dormant, in which some of them may be. They are looked for over netlink before the guard
// is put up. Programs run behind the guard alone, for tables of iptables-legacy, and for holdTime at most: then the guard stays. No file of a
// configuration is read. Without nf_tables in the kernel it is a chain of iptables and ip6tables. The context ends what waits for programs.
func Base(ctx context.Context, o Options, panicked bool) (*Guard, error) {
	o = o.withDefaults()
	t := tools{enter: o.Enter}
	s, err := openSocket(o.Enter)
	if err != nil {
		return t.patientChains(ctx, panicked, err)
	}
	owner, err := s.canOwn()
	if err != nil {
		s.conn.Close()
		return t.patientChains(ctx, panicked, err)
	}
	base := &Guard{socket: s, log: o.Log, owner: s.conn.PID()}
	g, err := newGuard(s, base.owner, owner, o.Log)
	switch {
	case err != nil:
		return base, err
	case panicked, s.asleep(): // what the rules of an earlier process let pass must not, or what they stop may pass
	case s.holdsRules():
		base.earlier = ir.NFTables
		return base, nil
	case s.holdsTables(t.hasIPv6()):
		base.earlier = ir.IPTables
		return base, nil
	}
	stood := g.up
	err = g.set(true, panicked)
	if err == nil && !panicked && t.hasLegacy() && t.hold(ctx) {
		base.earlier = ir.IPTables
		if !stood {
			err = g.set(false, false)
		}
	}
	return base, err
}

// Close gives up what the Guard holds. What stands in the kernel stays, and is the next process's.
func (g *Guard) Close() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.socket
	if g.socket = nil; s == nil {
		return nil
	}
	return s.conn.Close()
}

// errLowered is why nothing is committed behind Lower.
var errLowered = errors.New("the start of the firewall was broken off")

// Lower takes the guard away, when a start is broken off, and gives up what the Guard holds. From then on no Kernel that was,
// or is, opened with it commits anything. A commit of nftables that is under way is waited for; rules that it brings stay.
// A guard that is not there any more is no error.
func (g *Guard) Lower() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lowered = true
	s := g.socket
	g.socket = nil
	var err error
	switch {
	case s != nil:
		err = s.lowerGuard()
	case g.chains != nil:
		err = g.chains.lowerChains(context.Background())
	}
	if err != nil {
		return fmt.Errorf("what is new is dropped until the firewall starts or the machine boots: %w", err)
	}
	return nil
}

// check says why nothing may be committed any more, if that is so.
func (g *Guard) check() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lowered {
		return errLowered
	}
	return nil
}

// takeSocket is the socket that owns the guard, or a new one. It goes to a Kernel, which calls settled, closeSocket, or both.
func (g *Guard) takeSocket(o Options) (*socket, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	if g != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.socket != nil && !g.lent {
			g.lent = true
			return g.socket, nil
		}
	}
	return openSocket(o.Enter)
}

// settled leaves the socket to the Kernel that has it, which has committed. That of another Kernel, which has not, owns the guard still: the
// guard goes now, or when that Kernel is closed.
func (g *Guard) settled(s *socket) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.socket == s:
		g.socket = nil
	case g.socket != nil:
		g.passed = true
		if !g.lent {
			if err := g.lowerPassed(); err != nil {
				g.log.Error("what is new is dropped until the firewall ends", "reason", err)
			}
		}
	}
}

// lowerPassed takes away the guard in whose place the rules are, and closes the socket that owns it. The lock is held.
func (g *Guard) lowerPassed() error {
	s := g.socket
	g.socket = nil
	return s.lowerGuard()
}

// closeSocket ends a Kernel's use of a socket. One that still owns the guard stays open, unless rules have taken the guard's place.
func (g *Guard) closeSocket(s *socket) error {
	if g != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.socket == s {
			if g.lent = false; g.passed {
				return g.lowerPassed()
			}
			return nil
		}
	}
	return s.conn.Close()
}

// KeepOut makes the kernel drop what is not of a connection that is there already, or with panicked everything, until a commit succeeds:
// whatever rules an earlier process has left, which may let in what the configuration does not. It is for a start of which nothing could
// be committed, when no Kernel uses the Guard. A guard that stands stays.
func (g *Guard) KeepOut(ctx context.Context, panicked bool) error {
	return g.keepOut(ctx, nil, panicked)
}

// keepOut is KeepOut for a Kernel, which knows what it has of the guard; nil for none.
func (g *Guard) keepOut(ctx context.Context, of *guard, panicked bool) error {
	if g == nil {
		return of.set(true, panicked)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.lowered:
		return errLowered
	case g.chains != nil:
		return g.chains.putChains(ctx, panicked)
	case g.socket == nil || of != nil && of.socket == g.socket:
	default: // another Kernel may have it, and have put it up
		owner, err := g.socket.canOwn()
		if err != nil {
			return err
		}
		its, err := newGuard(g.socket, g.owner, owner, g.log)
		if err != nil || of != nil && !its.up {
			return errors.Join(err, of.set(true, panicked))
		}
		return its.set(true, panicked)
	}
	return of.set(true, panicked)
}

// holdsRules says whether the table is there as a process of ours leaves it: what comes in, and what is forwarded, meets
// rules, the last of which refuses.
func (s *socket) holdsRules() bool {
	head, err := s.tableHead(ir.Table)
	if err != nil || !head.there || head.flags&dormant != 0 {
		return false
	}
	last := map[string][]byte{} // by chain
	err = s.dump(unix.NFT_MSG_GETRULE, unix.NFPROTO_INET, namedAttribute(tableName, ir.Table), func(body []byte) {
		if text(attribute(body, tableName)) == ir.Table {
			last[text(attribute(body, unix.NFTA_RULE_CHAIN))] = attribute(body, unix.NFTA_RULE_EXPRESSIONS)
		}
	})
	return err == nil && refuses(last["filter_INPUT"]) && refuses(last["filter_FORWARD"])
}

// refuses says whether a rule's expressions are one that rejects or drops, and maybe a counter.
func refuses(expressions []byte) bool {
	found, matches := false, false
	eachAttribute(expressions, func(_ uint16, e []byte) {
		var name string
		var data []byte
		eachAttribute(e, func(kind uint16, v []byte) {
			switch kind {
			case unix.NFTA_EXPR_NAME:
				name = text(v)
			case unix.NFTA_EXPR_DATA:
				data = v
			}
		})
		switch name {
		case "counter":
		case "reject":
			found = true
		case "target": // of iptables (linux/netfilter/nf_tables_compat.h)
			eachAttribute(data, func(kind uint16, v []byte) {
				rejects := text(v) == "REJECT"
				found = found || kind == unix.NFTA_TARGET_NAME && rejects
				matches = matches || kind == unix.NFTA_TARGET_NAME && !rejects
			})
		case "immediate":
			found = dropsPacket(data)
		default:
			matches = true
		}
	})
	return found && !matches
}

// dropsPacket says whether an immediate expression is the verdict NF_DROP, which is 0.
func dropsPacket(immediate []byte) (drops bool) {
	eachAttribute(immediate, func(kind uint16, v []byte) {
		if kind != unix.NFTA_IMMEDIATE_DATA {
			return
		}
		eachAttribute(v, func(kind uint16, v []byte) {
			if kind == unix.NFTA_DATA_VERDICT {
				eachAttribute(v, func(kind uint16, v []byte) {
					drops = drops || kind == unix.NFTA_VERDICT_CODE && len(v) == 4 && number32(v) == 0
				})
			}
		})
	})
	return drops
}

// holdsTables says whether the rules of an earlier process are in the tables of iptables-nft, and with six in those of ip6tables-nft: in INPUT
// and in FORWARD a rule leads to a chain of ours, and one behind it refuses what comes there. No more than these chains is read.
func (s *socket) holdsTables(six bool) bool {
	families := []uint8{unix.NFPROTO_IPV4}
	if six {
		families = append(families, unix.NFPROTO_IPV6)
	}
	for _, family := range families {
		for _, chain := range []string{"INPUT", "FORWARD"} {
			leads, lets, holds := false, false, false
			filter := append(namedAttribute(tableName, "filter"), namedAttribute(unix.NFTA_RULE_CHAIN, chain)...)
			err := s.dump(unix.NFT_MSG_GETRULE, family, filter, func(body []byte) {
				if text(attribute(body, tableName)) != "filter" || text(attribute(body, unix.NFTA_RULE_CHAIN)) != chain {
					return // a kernel that does not know the filter tells all rules
				}
				rule, plain := plainText(body)
				leads = leads || plain && isEntry("filter", targetOf(rule)) && rule == jumpTo(targetOf(rule))
				lets = lets || plain && slices.Contains([]string{"ACCEPT", "RETURN"}, targetOf(rule)) // what comes there is let in, or decided elsewhere
				holds = holds || leads && !lets && refuses(attribute(body, unix.NFTA_RULE_EXPRESSIONS))
			})
			if err != nil || !holds {
				return false
			}
		}
	}
	return true
}

// hasLegacy says whether there is a table filter of iptables-legacy, or that is not known. The file is there with iptable_filter alone
// (net/ipv4/netfilter/ip_tables.c).
func (t tools) hasLegacy() bool {
	has := true
	err := t.enter(func() error {
		names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
		has = !errors.Is(err, fs.ErrNotExist) && (err != nil || slices.Contains(strings.Fields(string(names)), "filter"))
		return nil
	})
	return has || err != nil
}

// hold says whether the programs of iptables list the rules of an earlier process, and those of ip6tables where the kernel has IPv6, in holdTime.
func (t tools) hold(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, holdTime)
	defer cancel()
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		saved, err := t.save(ctx, family, "filter")
		if err != nil || saved == nil {
			if family == ir.V6 && !t.hasIPv6() {
				continue
			}
			return false
		}
		for _, chain := range []string{"INPUT", "FORWARD"} {
			if !slices.ContainsFunc(ownBlock("filter", saved.rules[chain]), func(rule string) bool { return strings.HasPrefix(rule, "-j REJECT ") || rule == "-j DROP" }) {
				return false
			}
		}
	}
	return true
}

// baseChain is the guard where the kernel has no nf_tables. The first commit finds it among the remains of an earlier process.
const baseChain = "firewalld_guard"

// patientChains is baseChains. While another program holds the lock it is tried again, for six times as long as the tools wait for it.
func (t tools) patientChains(ctx context.Context, panicked bool, why error) (base *Guard, err error) {
	for range 6 {
		if base, err = t.baseChains(ctx, panicked, why); !errors.Is(err, ErrBusy) {
			break
		}
	}
	return base, err
}

// baseChains puts the guard into the filter table of iptables and ip6tables, before all else. why is the reason for it.
func (t tools) baseChains(ctx context.Context, panicked bool, why error) (*Guard, error) {
	base := &Guard{chains: &t}
	if !panicked && t.hold(ctx) {
		base.earlier = ir.IPTables
		return base, nil
	}
	if err := t.putChains(ctx, panicked); errors.Is(err, ErrBusy) {
		return base, err
	} else if err != nil {
		return base, fmt.Errorf("%w, and %w", err, why)
	}
	return base, nil
}

// putChains is baseChains, whatever is there.
func (t tools) putChains(ctx context.Context, panicked bool) error {
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		saved, err := t.save(ctx, family, "filter")
		if saved == nil && family == ir.V6 && !t.hasIPv6() {
			continue
		}
		if err == nil && saved == nil {
			err = fmt.Errorf("%s has no table filter", tool(family))
		}
		if err != nil {
			return fmt.Errorf("cannot drop what comes in until the rules are there: %w", err)
		}
		input := baseScript(saved, family, panicked)
		if _, err := t.run(ctx, input, tool(family)+"-restore", "--noflush", waitForLock()); err != nil {
			return fmt.Errorf("cannot drop what comes in until the rules are there: %w", err)
		}
	}
	return nil
}

// baseScript is input for iptables-restore, which makes the chains anew if they are there.
func baseScript(saved *savedTable, family ir.Families, panicked bool) string {
	var b bytes.Buffer
	b.WriteString("*filter\n")
	chains := guardChains(panicked)
	for _, c := range chains {
		fmt.Fprintf(&b, ":%s - [0:0]\n", baseChain+"_"+c.Hook.Hook)
	}
	for _, c := range chains {
		name := baseChain + "_" + c.Hook.Hook
		for _, r := range append(slices.Clone(c.Rules), &ir.Rule{Families: ir.Both, Actions: []ir.Action{ir.Drop}}) {
			if r.Families&family != 0 {
				spec, err := iptables.Spec(nil, r, family)
				if err != nil {
					panic("internal error: a rule of the guard: " + err.Error())
				}
				fmt.Fprintf(&b, "-A %s%s\n", name, spec)
			}
		}
		if hook := strings.ToUpper(c.Hook.Hook); !slices.Contains(saved.rules[hook], "-j "+name) {
			fmt.Fprintf(&b, "-I %s 1 -j %s\n", hook, name)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// lowerChains takes the chains of the guard away, as far as they are there.
func (t tools) lowerChains(ctx context.Context) error {
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		saved, err := t.save(ctx, family, "filter")
		if err != nil || saved == nil {
			if family == ir.V4 {
				return cmp.Or(err, errors.New("iptables has no table filter"))
			}
			continue
		}
		var b bytes.Buffer
		for _, c := range guardChains(false) {
			name, hook := baseChain+"_"+c.Hook.Hook, strings.ToUpper(c.Hook.Hook)
			if !slices.Contains(saved.order, name) {
				continue
			}
			if slices.Contains(saved.rules[hook], "-j "+name) {
				fmt.Fprintf(&b, "-D %s -j %s\n", hook, name)
			}
			fmt.Fprintf(&b, "-F %s\n-X %s\n", name, name)
		}
		if b.Len() == 0 {
			continue
		}
		if _, err := t.run(ctx, "*filter\n"+b.String()+"COMMIT\n", tool(family)+"-restore", "--noflush", waitForLock()); err != nil {
			return err
		}
	}
	return nil
}
