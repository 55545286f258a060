package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

const (
	// guardTable drops what does not belong to a connection that is there already. It stands while the rules do not: before
	// the first commit, and while another program's changes of them are not repaired. Where another program owns a table of
	// that name, the guard's has a spareName.
	guardTable = ir.Table + "_guard"
	// guardPriority is behind our own chains, at filter + 10, whose answers and log entries the guard leaves to them.
	guardPriority = 11
)

// quiet is how long no other program may have changed the rules before a guard goes that was raised twice.
var quiet = 10 * time.Second

// guardChains are the chains of the guard, which drop what no rule lets pass. With everything they have no rules. Else what
// passes is established and related connections, loopback, DHCP of a client (RFC 2131 and 8415, ports), the messages by
// which IPv6 finds routers, neighbours and listeners to multicast (RFC 4861, 2710 and 3810), and questions of this machine to name servers
// (RFC 1035, and over TLS RFC 7858, ports): behind the guard the programs of iptables look up the hosts that direct rules name.
func guardChains(everything bool) []*ir.Chain {
	var chains []*ir.Chain
	for _, hook := range []string{"input", "forward", "output"} {
		c := &ir.Chain{Name: "filter_" + hook, Families: ir.Both, Hook: &ir.Hook{Type: "filter", Hook: hook, Priority: guardPriority}}
		if !everything {
			c.Rules = guardRules(hook)
		}
		chains = append(chains, c)
	}
	return chains
}

func guardRules(hook string) []*ir.Rule {
	pass := func(families ir.Families, matches ...ir.Match) *ir.Rule {
		return &ir.Rule{Families: families, Matches: matches, Actions: []ir.Action{ir.Accept}}
	}
	rules := []*ir.Rule{pass(ir.Both, ir.CTState{States: []string{"established", "related"}})}
	if hook == "forward" {
		return rules
	}
	outside, far, near := ir.Source, ir.Source, ir.Dest // the server is at the far end
	if hook == "output" {
		outside, far, near = ir.Dest, ir.Dest, ir.Source
	}
	udp := func(side ir.Side, port int) ir.Match {
		return ir.Port{Protocol: "udp", Side: side, Low: port, High: port}
	}
	rules = append(rules,
		pass(ir.Both, ir.Iface{Side: outside, Name: "lo"}),
		pass(ir.V4, ir.NFProto{Family: ir.V4}, udp(far, 67), udp(near, 68)),
		pass(ir.V6, ir.NFProto{Family: ir.V6}, udp(far, 547), udp(near, 546)))
	if hook == "output" {
		for _, server := range []ir.Port{{Protocol: "udp", Low: 53, High: 53}, {Protocol: "tcp", Low: 53, High: 53}, {Protocol: "tcp", Low: 853, High: 853}} {
			server.Side = ir.Dest
			rules = append(rules, pass(ir.Both, server))
		}
	}
	for _, kind := range []int{130, 131, 132, 133, 134, 135, 136, 143} {
		rules = append(rules, pass(ir.V6, ir.ICMP{Family: ir.V6, Type: kind, Code: ir.AnyCode}))
	}
	return rules
}

// guard is what a Kernel knows of the guard in the kernel. The Kernel's lock guards it.
type guard struct {
	socket *socket
	owner  bool // the kernel can give tables an owner
	log    *slog.Logger
	base   uint32      // the port of the socket that owns the guard of this process's start; 0 if there is none
	name   string      // of its table
	stale  []string    // other tables of the guard, that earlier processes have left
	up     bool        // it stands, and this socket may take it away
	seen   atomic.Bool // the same, for who does not have the lock

	// Of one that stands:
	owned      bool // this socket owns it
	everything bool // nothing passes
	kept       bool // it stays until a commit takes it away, however long no other program changes anything

	yielded bool // it is left to another Kernel of this process for good (Remnant)

	last  time.Time // when the rules were found changed last
	until time.Time // it stays till then at least
	lower *time.Timer
	held  bool // the log has said that it stays till then
}

// guarding are the ports of the sockets, of this process, by which a Kernel has its guard. While two Kernels are open, as when the back end is
// changed, the guard of one does for both.
var guarding sync.Map

// isGuarding says whether a table belongs to a Kernel of this process.
func isGuarding(t tableHead) bool {
	_, ours := guarding.Load(t.owner)
	return t.there && ours
}

// spareName is a name for a table in place of a usual one that another program owns. Nobody can own all that it may be.
func spareName(usual string) string { return fmt.Sprintf("%s_%08x", usual, rand.Uint32()) }

// spareEnd is how a spareName goes on behind the usual one.
var spareEnd = regexp.MustCompile(`^_[0-9a-f]{8}$`)

// isSpare says whether a name is a spareName for a usual one.
func isSpare(usual, name string) bool {
	end, ok := strings.CutPrefix(name, usual)
	return ok && spareEnd.MatchString(end)
}

// isGuardName says whether a table of family inet has a name of the guard.
func isGuardName(name string) bool { return name == guardTable || isSpare(guardTable, name) }

// guards are the names of the tables of guards that an earlier process has left, or that this socket owns, in order. What another living
// process owns is that process's matter.
func (s *socket) guards() ([]string, error) {
	there, err := s.tablesOf(unix.NFPROTO_INET, isGuardName)
	maps.DeleteFunc(there, func(_ string, t tableHead) bool { return s.isOthers(t) })
	return slices.Sorted(maps.Keys(there)), err
}

// newGuard finds out whether a guard stands that an earlier process has left, or that this socket has made. base is the port of the socket
// that owns the guard of this process's start; 0 if there is none.
func newGuard(s *socket, base uint32, owner bool, log *slog.Logger) (*guard, error) {
	g := &guard{socket: s, base: base, name: guardTable, owner: owner, log: log}
	guarding.Store(s.conn.PID(), true)
	names, err := s.guards()
	if err != nil || len(names) == 0 {
		return g, err
	}
	g.name, g.stale = names[0], names[1:]
	t, err := s.tableHead(g.name)
	if err != nil {
		return g, err
	}
	g.up, g.owned, g.everything = true, t.owner != 0, true
	g.seen.Store(true)
	err = s.dump(unix.NFT_MSG_GETRULE, unix.NFPROTO_INET, namedAttribute(tableName, g.name), func(body []byte) {
		if text(attribute(body, tableName)) == g.name {
			g.everything = false
		}
	})
	return g, err
}

// protected says whether no other program can take the guard away.
func (g *guard) protected() bool { return g.up && g.owned }

// isSo says whether there is nothing to do for the guard to stand, or not to stand. One that other programs can take away is
// made anew.
func (g *guard) isSo(stand, everything bool) bool {
	return g.up == stand && (!stand || g.protected() && g.everything == everything && len(g.stale) == 0)
}

// note notes that the guard was made, or taken away.
func (g *guard) note(stand, everything bool) {
	g.up, g.owned, g.everything, g.stale = stand, stand && g.owner, everything, nil
	g.seen.Store(stand)
	g.tell()
}

// giveWay takes another name for the guard where another program owns a table of its name, and logs that. What stood there of the guard has
// gone then. The guard of this process's start is in nobody's way. It says whether a table of the guard's name is free to be made.
func (g *guard) giveWay() (free bool) {
	there, err := g.socket.tablesOf(unix.NFPROTO_INET, isGuardName)
	if err != nil { // the kernel may refuse the change
		return false
	}
	g.stale = slices.DeleteFunc(g.stale, func(name string) bool { return g.socket.isOthers(there[name]) })
	t := there[g.name]
	switch {
	case !g.socket.isOthers(t):
		return true
	case t.owner == g.base, isGuarding(t):
		return false
	}
	taken := g.name
	g.name, g.up = spareName(guardTable), false
	g.log.Warn("another table keeps out what is new in place of the usual one", "table", "inet "+g.name,
		"reason", fmt.Errorf("table inet %s: %w%s", taken, ErrForeignOwner, ownerHint(t.owner)))
	return true
}

// aside has a guard take another name, unless it stands so that nobody else can take it away, where a table of its name is there: that may be
// the guard of another Kernel of this process, and go with it.
func (g *guard) aside() error {
	if g == nil || g.protected() {
		return nil
	}
	t, err := g.socket.tableHead(g.name)
	if err == nil && t.there {
		g.name, g.up = spareName(guardTable), false
	}
	return err
}

// messages put a guard in the place of one that there may be, or take it away.
func (g *guard) messages(stand, everything bool) ([]nft.Message, error) {
	e := &nft.Encoder{Table: g.name}
	list := tableDeletions(append([]string{g.name}, g.stale...))
	if !stand {
		return list, nil
	}
	list = append(list, e.AddTable(tableFlags(g.owner)))
	for _, c := range guardChains(everything) {
		chain, err := e.AddChain(c, true)
		if err != nil {
			return nil, err
		}
		list = append(list, chain)
		for _, r := range c.Rules {
			messages, err := e.AddRule(c.Name, r, 0)
			if err != nil {
				return nil, err
			}
			list = append(list, messages...)
		}
	}
	return list, nil
}

// tableDeletions take away tables of family inet, whether they are there or not.
func tableDeletions(names []string) (list []nft.Message) {
	for _, name := range names {
		e := &nft.Encoder{Table: name}
		list = append(list, e.AddTable(0), e.DeleteTable())
	}
	return list
}

// stands says whether it stands, as far as is known. It waits for nothing, and needs no lock.
func (g *guard) stands() bool { return g != nil && g.seen.Load() }

// set makes the guard stand, or takes it away, in a transaction of its own. One of another Kernel of this process does for both.
func (g *guard) set(stand, everything bool) error {
	if g == nil {
		return errors.New("the kernel cannot be asked to drop what is new")
	}
	if g.yielded || g.isSo(stand, everything) {
		return nil
	}
	err := g.send(stand, everything)
	if errors.Is(err, unix.EPERM) && g.giveWay() {
		err = g.send(stand, everything)
	}
	if errors.Is(err, unix.EPERM) {
		if t, asking := g.socket.tableHead(g.name); asking == nil && t.owner != g.base && isGuarding(t) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("cannot change table inet %s: %w", g.name, g.socket.whyForbidden(unix.NFPROTO_INET, g.name, err))
	}
	g.note(stand, everything)
	return nil
}

// send sends what set does. On an error nothing has changed.
func (g *guard) send(stand, everything bool) error {
	list, err := g.messages(stand, everything)
	if err != nil {
		return err
	}
	a, err := g.socket.commit(list)
	if err == nil && len(a.refused) > 0 {
		err = a.refused[0].err
	}
	return err
}

// lowerGuard takes away a guard that this socket may take away, and closes the socket. Whoever shares it changes nothing after
// that.
func (s *socket) lowerGuard() error {
	names, err := s.guards()
	if err != nil || len(names) == 0 {
		return errors.Join(err, s.conn.Close())
	}
	a, err := s.commitLast(tableDeletions(names))
	if err == nil && len(a.refused) > 0 {
		err = a.refused[0].err
	}
	if err != nil {
		return fmt.Errorf("cannot remove table inet %s: %w", strings.Join(names, ", "), err)
	}
	return nil
}

// keepOut has what is new kept out until a commit takes the guard away: by base, the Guard of this process's start, or by the Kernel's own.
func (w *watch) keepOut(ctx context.Context, base *Guard, panicked bool) error {
	err := base.keepOut(ctx, w.guard, panicked)
	if err == nil {
		w.guard.keep()
	}
	return err
}

// keep has a guard that stands stay until a commit takes it away.
func (g *guard) keep() {
	if g != nil {
		g.kept = true
	}
}

// yield takes the guard away, and has the Kernel do without one from then on.
func (g *guard) yield() error {
	if g == nil {
		return nil
	}
	err := g.set(false, false)
	g.yielded = err == nil
	return err
}

// raise makes it stand. That it cannot is no reason to do less than the rest.
func (g *guard) raise(everything bool) {
	if g == nil {
		return
	}
	if err := g.set(true, everything); err != nil {
		g.log.Error("the machine is not guarded while its rules are not in place", "reason", err)
	}
}

// noticed notes that another program has changed the rules. What happens a second time keeps the guard standing for a while.
func (g *guard) noticed() {
	if g == nil {
		return
	}
	now := time.Now()
	if now.Sub(g.last) < quiet {
		g.until = now.Add(quiet)
	}
	g.last = now
}

// tell says in the log that new connections wait although the rules are in place, and that they do not any more.
func (g *guard) tell() {
	waits := g.up && time.Now().Before(g.until)
	switch {
	case waits && !g.held:
		g.log.Warn(fmt.Sprintf("another program has changed the firewall's rules again: new connections wait until it has not done so for %v, till %s at the earliest",
			quiet, g.until.Format(time.TimeOnly)))
	case !g.up && g.held:
		g.log.Warn("new connections do not wait any more")
	}
	g.held = g.up && (g.held || waits)
}

// needed says whether a guard stands behind a commit of what is desired. One that stands stays while there are no rules to
// do its work, unless there shall be none.
func (g *guard) needed(next *Desired) bool {
	switch {
	case next.Succeeded, g.yielded:
		return false
	case next.Rules == nil:
		return g.up && next.Panic
	case next.Guarded:
		return true
	case next.Unguarded:
		return false
	}
	return time.Now().Before(g.until)
}

// later calls f when a guard that stands may go. f runs without the Kernel's lock.
func (g *guard) later(f func()) {
	if g != nil {
		g.after(time.Until(g.until), f)
	}
}

// after calls f after a while if a guard stands, and nothing else that was to be called.
func (g *guard) after(wait time.Duration, f func()) {
	if g.lower != nil {
		g.lower.Stop()
	}
	if g.up {
		g.lower = time.AfterFunc(wait, func() {
			defer recovered(g.log, "the guard stays until the next change, because of a fault")
			f()
		})
	}
}

// reviewAndUnguard is unguard behind a review, because the guard's time may be over while a change was not looked at yet. Where the review fails,
// the guard stays and again is called later.
func (w *watch) reviewAndUnguard(review func() error, again func()) {
	if err := review(); err != nil {
		w.log.Error("the guard stays", "reason", err)
		w.guard.after(quiet, again)
		return
	}
	w.unguard(again)
}

// unguard takes the guard away if nothing is changed, and nothing was for long enough; else again is called then.
func (w *watch) unguard(again func()) {
	g := w.guard
	switch {
	case g == nil || !g.up || g.kept:
	case len(w.changed) > 0:
		g.until = time.Now().Add(quiet)
		g.later(again)
	case time.Now().Before(g.until):
		g.later(again)
	default:
		g.takeDown(again)
	}
}

// takeDown takes the guard away, as the rules are in place. Where that cannot be done, again is called later.
func (g *guard) takeDown(again func()) {
	if err := g.set(false, false); err != nil {
		g.log.Error("what is new is dropped although the rules are in place; it is tried again", "reason", err)
		g.after(quiet, again)
	}
}

// stop ends waiting for the time to go, for a Kernel that is closed. The guard stays as it is.
func (g *guard) stop() {
	if g == nil {
		return
	}
	guarding.Delete(g.socket.conn.PID())
	if g.lower != nil {
		g.lower.Stop()
	}
}

// tableHead is what a table is as a whole.
type tableHead struct {
	there  bool
	handle uint64
	flags  uint32
	owner  uint32 // the port of the socket that owns it; 0 if none does, or not any more
}

const tableOwner = 7 // NFTA_TABLE_OWNER (linux/netfilter/nf_tables.h), which unix lacks

// tableHead finds a table of family inet.
func (s *socket) tableHead(name string) (tableHead, error) { return s.headOf(unix.NFPROTO_INET, name) }

// headOf finds a table of a family.
func (s *socket) headOf(family uint8, name string) (tableHead, error) {
	tables, err := s.tablesOf(family, func(n string) bool { return n == name })
	return tables[name], err
}

// tablesOf finds the tables of a family that have some names, by their names.
func (s *socket) tablesOf(family uint8, named func(string) bool) (map[string]tableHead, error) {
	tables := map[string]tableHead{}
	err := s.dump(unix.NFT_MSG_GETTABLE, family, nil, func(body []byte) {
		if name := text(attribute(body, tableName)); named(name) {
			tables[name] = tableHead{true, number64(attribute(body, tableHandle)), number32(attribute(body, unix.NFTA_TABLE_FLAGS)), number32(attribute(body, tableOwner))}
		}
	})
	if absent(err) {
		err = nil
	}
	return tables, err
}
