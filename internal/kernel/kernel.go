// Package kernel makes the machine's packet filter what a ruleset says.
//
// In comes a Desired: all that should be in the kernel, not the steps to it. A commit works out the difference to what it
// put there last and makes it in one transaction, or, if any of it is refused, changes nothing and says which rule it was
// about. There are two back ends, nftables by netlink messages and iptables by its restore tools, and Memory, a twin
// without a kernel for tests, which refuses what the kernel would. All touch nothing but what is ours: the tables
// firewalld, firewalld_policy_drop and firewalld_guard of nftables, and chains and rules that they put into iptables
// themselves. DropAll has tables of its own, firewalld_drop_all, which they leave alone,
// but for putting up the one for bridges where their own cannot be.
//
// The daemon commits; internal/kernel knows the intermediate form and its targets, and nothing of configurations.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"richwall/compile/ir"
)

// Desired is all that should be in the kernel. It and what it refers to must not be changed once it was committed.
type Desired struct {
	Rules *ir.Ruleset // laid out for the back end; nil means none: the firewall is stopped
	Panic bool        // every packet is dropped, whatever the rules say
	// Direct is the chains and rules of the direct interface, laid out for iptables; they stand beside the rules of the
	// nftables back end. nil means none.
	Direct *ir.Ruleset
	// Unguarded says that what another program changes may stay, so that packets pass as it says. Otherwise only what belongs
	// to a connection that is there already passes from then on until the next commit.
	Unguarded bool
	// Guarded says that the guard stands behind the commit, until one without it: another Kernel of this process has left something in the
	// kernel which may let in what the rules do not.
	Guarded bool
	// Anew says, as a reload does, that what a process has changed which Allow let do what it wants is put back, too.
	Anew bool
	// Awaits tells whether a chain of a table of iptables or ip6tables is known to be another program's, which may come later: at the first
	// commit it is made for the rules in it when it is not there. Those in another chain that is not there are refused. nil means that all
	// are known, and does so at a later commit, too, where it makes no difference. beside says that the rules are beside nftables, where no chain
	// of a ruleset for iptables ever comes.
	Awaits func(table, chain string, beside bool) bool
	// Succeeded says, with no Rules, that another Kernel has taken over: what is in chains that others have rules in too is that
	// one's, and stays.
	Succeeded bool
	// Running says, of one that is only checked, that another Kernel has committed before: this is no start, and a chain that is there and
	// not noted is another program's.
	Running bool
}

// ends says whether the firewall ends with a commit of what is desired.
func (d *Desired) ends() bool { return d.Rules == nil && !d.Succeeded }

// goesOn says whether a commit goes on although it cannot be found out whether some rules are there: where the rules go, and where panic mode,
// which there was before it or not, ends.
func (d *Desired) goesOn(panicked bool) bool { return d.Rules == nil || panicked && !d.Panic }

// isOverEarlier says whether a first commit puts rules in the place of those of an earlier process, by what the guard of the start has found.
func (d *Desired) isOverEarlier(base *Guard) bool { return d.Rules != nil && base.Earlier() != "" }

// ErrForeignOwner says that a table with the name of ours belongs to another program that is running. Nothing was changed.
var ErrForeignOwner = errors.New("it belongs to another program that is running")

// ErrForeignChain says that a chain of the name of one of iptables' or ebtables' own chains, such as INPUT, is no such chain, or that one of
// the name of ours has a hook: another program has made it by other means. Nothing was changed, and nothing is wrong with what was to be committed: it can be tried again later.
var ErrForeignChain = errors.New("it is another program's, with another hook, type or priority than iptables and ebtables give it")

// ErrBusy says that another program keeps all others from changing the packet filter, and has done so for some time. Nothing
// was changed, and nothing is wrong with what was to be committed: it can be tried again later.
var ErrBusy = errors.New("another program does not let the packet filter be changed")

// NotInstalledError says that a program which a back end runs, such as ip6tables-restore, is not there.
type NotInstalledError struct{ Program string }

func (e *NotInstalledError) Error() string {
	return "cannot run " + e.Program + ": it is not installed"
}

// Kernel commits rulesets. Its methods may be called from several goroutines; they take turns.
type Kernel interface {
	// Commit makes the kernel what next says, as one transaction. On an error nothing changed; if rules are to blame, the
	// error holds a *RuleError for each of them. When the context ends before anything was sent, nothing changed.
	Commit(ctx context.Context, next *Desired) error
	// Check does all of Commit that can fail without a change.
	Check(next *Desired) error
	// Close gives up what the Kernel holds of the machine. The rules stay.
	Close() error
}

// Guarder is a Kernel that can keep out what is new.
type Guarder interface {
	// KeepOut makes the machine drop what is not of a connection that is there already, or with panicked every packet, until the next
	// commit succeeds. Rules of an earlier process let nothing else in meanwhile.
	KeepOut(ctx context.Context, panicked bool) error
	// KeepOutAlone is KeepOut by a table of this Kernel's own, whatever another Kernel of this process keeps out: that one can end it then, and
	// nothing comes in between (Remnant.YieldGuard).
	KeepOutAlone(ctx context.Context, panicked bool) error
}

// Remnant is a Kernel that says whether a commit which has failed has left something that could not be taken back.
type Remnant interface {
	// Unfinished is that it has. The next commit begins with taking that back; until then the guard stands, as long as the Kernel is open.
	Unfinished() bool
	// YieldGuard takes the guard of this Kernel away, for good: another Kernel keeps out what is new by then (Guarder.KeepOutAlone), and
	// goes on with it (Desired.Guarded).
	YieldGuard() error
}

// Sentinel is a Kernel that says whether its guard, the table firewalld_guard, keeps out what is new.
type Sentinel interface {
	// Guarded is that it does just now. It waits for nothing.
	Guarded() bool
}

// Options say where a Kernel works.
type Options struct {
	Backend ir.Backend
	Log     *slog.Logger // nil means slog.Default()
	// Guard is what Base has returned, for the Kernel that is opened first; nil for none.
	Guard *Guard
	// Left is what an earlier process has left among what is others', and where the Kernel notes that for a later one; nil for
	// neither.
	Left *Left
	// Enter calls a function on a thread that is in the network namespace to work in, and returns its error. nil means the
	// namespace of the process.
	Enter func(func() error) error
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Enter == nil {
		o.Enter = func(f func() error) error { return f() }
	}
	return o
}

// New returns the Kernel of a back end. The first commit replaces whatever an earlier process left.
func New(o Options) (Kernel, error) {
	o = o.withDefaults()
	switch o.Backend {
	case ir.NFTables:
		return newNFTables(o)
	case ir.IPTables:
		return newIPTables(o, false)
	}
	return nil, fmt.Errorf("there is no back end %q: say nftables or iptables", o.Backend)
}

// Remove takes out what earlier processes have in the kernel, without knowing what that is: first that of the back end of the options, then
// that of the others. Rules of a Kernel that is still there go by Commit of an empty Desired.
func Remove(ctx context.Context, o Options) error {
	k, err := New(o)
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.Commit(ctx, &Desired{}); err != nil {
		return err
	}
	return RemoveOther(ctx, o, k)
}

// RuleError is something that the kernel refuses.
type RuleError struct {
	Origin *ir.Origin // what in the configuration it comes from; nil if nothing does
	Chain  string     // where the rule is; empty for what is no rule
	Err    error
}

func (e *RuleError) Error() string {
	var b strings.Builder
	if e.Origin != nil {
		b.WriteString(e.Origin.String() + ": ")
	}
	if e.Chain != "" {
		b.WriteString("chain " + e.Chain + ": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

func (e *RuleError) Unwrap() error { return e.Err }

// joined is a list of rule errors as one; nil if there are none.
func joined(list []*RuleError) error {
	errs := make([]error, len(list))
	for i, e := range list {
		errs[i] = e
	}
	return errors.Join(errs...)
}
