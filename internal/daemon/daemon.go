// Package daemon is the one owner of the firewall's state: the permanent and the runtime configuration, and what is
// installed in the kernel.
//
// In come edits (functions from one configuration to the next) and orders such as Reload; out go events, each with the
// configurations before and after. Every change takes the same path under one lock: edit, check, compile, commit to the
// kernel, and only then make it current and tell the listeners. An error anywhere leaves files, memory and kernel as they were.
//
// Files are read and written under a lock of their own, so that a disk that does not answer keeps nobody from changing what is
// in force. Whoever needs that lock, or the disk, waits for a bounded time (disk.go). Nobody who asks for the state waits for anything:
// Snapshot takes no lock.
//
// The D-Bus adapter and cmd/firewalld import it; it imports neither.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/kernel"
	"richwall/internal/memory"
	"richwall/internal/statedir"
	"richwall/zones"
)

// State is what the daemon says of itself.
type State string

// The states, spelled as on the bus.
const (
	Init    State = "INIT"
	Running State = "RUNNING"
	Failed  State = "FAILED" // a part of the administrator's configuration, or all of it, could not be used
)

// Options are what a daemon needs.
type Options struct {
	Dirs zones.Dirs
	// Kernel opens the kernel for a back end.
	Kernel func(backend ir.Backend) (kernel.Kernel, error)
	// Passthrough runs a command of iptables, ip6tables or ebtables and returns what it prints. It calls started with the id of
	// the process once that runs.
	Passthrough func(ctx context.Context, ipv string, args []string, started func(pid int)) (string, error)
	// FollowLinks reads the machine's links, and from then on calls changed with all of them whenever they have become others, until stop.
	// Nil is that there are none.
	FollowLinks func(changed func([]kernel.Link)) (stop func() error, now []kernel.Link, err error)
	// Sysctl sets a kernel's setting, such as net.ipv4.ip_forward, and returns the value before; "" for a value only reads.
	// Nil leaves all settings alone.
	Sysctl func(name, value string) (was string, err error)
	// Bridge makes ebtables' rules next where they are old; a nil old is not known. It returns what was there before, and behind an
	// error what is there, nil if that is not known any more. Nil leaves them alone.
	Bridge func(ctx context.Context, old, next *kernel.Bridge) (was *kernel.Bridge, err error)
	// CheckBridge asks ebtables whether it would take next, without a change; nil if it is not to be asked.
	CheckBridge func(ctx context.Context, next *kernel.Bridge) error
	// HasInterface tells whether the machine has a network interface, where the rules are; nil is that it is not asked.
	HasInterface func(name string) bool
	// RemoveOther takes out what earlier processes have put into the kernel elsewhere than where the rules of a Kernel are, which are in
	// force. Nil leaves it there.
	RemoveOther func(ctx context.Context, inForce kernel.Kernel) error
	// Manager is NetworkManager; nil for none.
	Manager Manager
	// DropAll has the kernel drop every packet, or ends that, whatever the Kernel does just now. Nil is not to be had.
	DropAll func(on bool) error
	// Dropping tells whether the kernel drops every packet, as after DropAll or in panic mode. Nil is not known.
	Dropping func() (bool, error)
	// PanicLeft is what drops every packet in the kernel because a commit with panic mode has put it there, of this process or one before
	// it (kernel.PanicLeft). Nil is not known.
	PanicLeft func(ctx context.Context) ([]string, error)
	// PassFrames ends that every frame of a bridge is dropped because of such a commit. Nil is not to be had.
	PassFrames func() error
	// SwitchTime is how long SetPanic waits for the end of panic mode, before it says that it is accepted; 0 is 1.5 seconds.
	SwitchTime time.Duration
	// Busy tells whether the kernel is carrying out a transaction for this process (kernel.Busy); nil is never.
	Busy func() bool
	// State keeps what outlives the process; nil keeps nothing.
	State *statedir.Dir
	// Memory is the most that the process may have; nil is any amount.
	Memory *memory.Limit
	Log    *slog.Logger
}

// Daemon is the state and its locks. All methods may be called at the same time.
type Daemon struct {
	opt   Options
	store zones.Store

	// files is full while somebody reads or writes the files of the configuration (lockFiles). It is taken before mu.
	files    chan struct{}
	hung     <-chan struct{}   // closed when a change of the files that was given up has ended; nil for none; files guards it
	told     map[string]string // what files held when FilesTouched looked at them last, as sums by path; files guards it
	kept     map[string]bool   // files whose NAME.old holds what somebody else had written there, until a reload; never changed, files guards it
	unusable bool              // it was said last that a reload would be refused for the files; files guards it
	checked  compile.History   // of the permanent configuration, as far as it was compiled to see whether it can be; files guards it

	mu        sync.Mutex // guards all below
	starting  bool       // what is installed now is the first configuration
	state     State
	readable  bool     // in the state Failed: whether permanent is what the files hold, apart from what cannot be read of them; files is held
	failures  []string // what could not be used of the configuration, and where it is; none unless the state is Failed
	backend   ir.Backend
	kernel    kernel.Kernel
	alone     bool           // no other back end than this one has rules of ours in the kernel
	bridge    *kernel.Bridge // what ebtables has of ours; nil for not known
	permanent *zones.Config  // changed only by who holds files, too
	loaded    *zones.Config  // of the files, as it was at the last start or reload
	unkept    *zones.Config  // to be kept as the last good configuration once it is in the kernel; nil for none
	runtime   *zones.Config
	history   compile.History // of what is installed
	panic     bool
	pmtu      borrowed // net.ipv4.ip_no_pmtu_disc
	timed     timers
	awaits    func(table, chain string, beside bool) bool // which chains of other programs may come after the first commit (kernel.Desired)
	repairs   repairs
	links     links
	managed   map[string]string // interfaces that NetworkManager has put into a zone, and the zone
	listeners []func(Event)

	current   atomic.Pointer[Snapshot]
	emergency atomic.Bool   // every packet is dropped by DropAll
	wishes    atomic.Uint64 // the number of the last order of SetPanic (order)
	ending    atomic.Int32  // counts the calls of SetPanic that end panic mode and have not done so yet
	begun     chan struct{} // closed when there is a Kernel
	dropping  sync.Mutex    // held while the table of DropAll is put up or taken away, beside the lock or not; guards the next two
	panicking bool          // a commit with panic mode was begun, and panic mode has not ended since: more than that table may drop everything
	beside    bool          // nothing is in the kernel of panic mode but the table of DropAll, which was put up beside a change
	noting    sync.Mutex    // held while panic mode is noted on disk
	keeping   sync.Mutex    // held while the last good configuration is written
	keeps     atomic.Uint64 // counts the calls of keepGood: the last one counts
	asking    chan struct{} // full while the kernel is asked about a configuration
}

// Snapshot is the state at one moment. Configurations are immutable and may be kept.
type Snapshot struct {
	State              State
	Failures           []string // what could not be used of the configuration, and where it is, or is not in the kernel; none unless State is Failed
	Backend            ir.Backend
	Runtime, Permanent *zones.Config
	Panic              bool
	Guarded            bool // the table firewalld_guard keeps new connections out, as while another program's changes are being put back

	guard kernel.Sentinel // what knows that; nil for nothing
}

// Notices is what there is to say beside a state that it does not change, a line each.
func (s Snapshot) Notices() []string {
	if !s.Guarded || s.Panic || slices.ContainsFunc(s.Failures, func(f string) bool { return strings.HasPrefix(f, notInKernel) }) {
		return nil
	}
	return []string{guardStands}
}

// guardStands is what is said while new connections are kept out by the guard.
const guardStands = "a table firewalld_guard, or of a name that begins like that, keeps new connections out for the moment, until the firewall's rules are as they were committed, and no other program has changed them for a while: the log says more"

// New makes a daemon that has not started: Start reads the configuration and installs it.
func New(opt Options) *Daemon {
	d := &Daemon{opt: opt, store: zones.Store{Dirs: opt.Dirs}, files: make(chan struct{}, 1), asking: make(chan struct{}, 1), begun: make(chan struct{}), state: Init, managed: map[string]string{}}
	d.timed.init(d.expire)
	d.publish()
	return d
}

// Snapshot returns the state as it is now. It never waits.
func (d *Daemon) Snapshot() Snapshot {
	now := *d.current.Load()
	now.Panic = now.Panic || d.emergency.Load()
	now.Guarded = now.guard != nil && now.guard.Guarded()
	return now
}

// publish makes the state as it is now the one that Snapshot returns. The lock is held.
func (d *Daemon) publish() {
	next := &Snapshot{State: d.state, Failures: d.failures, Backend: d.backend, Runtime: d.runtime, Permanent: d.permanent, Panic: d.panic}
	if d.repairs.failed != "" { // what is in force is known, and is not what is in the kernel
		next.State, next.Failures = Failed, append(slices.Clone(next.Failures), d.repairs.failed)
	}
	if d.repairs.remnant != nil {
		next.State, next.Failures = Failed, append(slices.Clone(next.Failures), d.repairs.left)
	}
	if d.timed.overdue() {
		next.State, next.Failures = Failed, append(slices.Clone(next.Failures), notTakenOut+": "+d.timed.why)
	}
	next.guard, _ = d.kernel.(kernel.Sentinel)
	was := d.current.Swap(next)
	if was != nil && was.State != Init && (was.State != next.State || !slices.Equal(was.Failures, next.Failures)) {
		d.emit(StateChanged{})
	}
}

// Subscribe calls f with every event from now on, in order, while the lock is held: f must not call the daemon.
func (d *Daemon) Subscribe(f func(Event)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listeners = append(d.listeners, f)
}

func (d *Daemon) emit(events ...Event) {
	for _, e := range events {
		for _, f := range d.listeners {
			f(e)
		}
	}
}

// Error is a refusal with firewalld's code.
type Error struct {
	Code  grammar.Code
	Msg   string // may be empty
	cause error  // the error that Msg is the text of; nil for none
}

func (e *Error) Error() string {
	if e.Msg == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Msg
}

func (e *Error) Unwrap() error { return e.cause }

func refuse(code grammar.Code, format string, args ...any) error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// commandFailed refuses something because of an error, which has no code of its own.
func commandFailed(err error) error { return &Error{Code: CommandFailed, Msg: err.Error(), cause: err} }

// The codes that only a running firewall has.
const (
	CommandFailed    grammar.Code = "COMMAND_FAILED"
	PanicMode        grammar.Code = "PANIC_MODE"
	NotEnabled       grammar.Code = "NOT_ENABLED"
	AlreadySet       grammar.Code = "ALREADY_SET"
	ZoneAlreadySet   grammar.Code = "ZONE_ALREADY_SET"
	RunningButFailed grammar.Code = "RUNNING_BUT_FAILED"
	RTToPermFailed   grammar.Code = "RT_TO_PERM_FAILED"
)

// errNoKernel is that a back end cannot be used at all.
var errNoKernel = errors.New("the packet filter cannot be used")

// install commits a configuration with the back end it asks for, and makes it the runtime one. What another back end had
// installed is removed after that. When that of a start cannot be committed for a reason that does not lie in it, it is tried again
// until it is in the kernel. From the first commit of a start that fails until one succeeds, nothing new is let in.
func (d *Daemon) install(ctx context.Context, cfg *zones.Config) error {
	backend := ir.Backend(cfg.Conf.FirewallBackend)
	k := d.kernel
	if k == nil || backend != d.backend {
		err := d.settle(ctx)
		if err != nil {
			return commandFailed(err)
		}
		if k, err = d.opt.Kernel(backend); err != nil {
			return &Error{Code: CommandFailed, Msg: err.Error(), cause: errNoKernel}
		}
	}
	if err := d.room(d.runtime, cfg, runtimeCosts); err != nil {
		return err
	}
	if !reflect.DeepEqual(d.bridge, &kernel.Bridge{}) { // another program may have taken out what was there
		d.bridge = nil
	}
	desired, history, err := d.putAs(ctx, k, d.history.Reloaded(), cfg, d.panic, true)
	failed := err != nil && desired != nil && d.starting && ctx.Err() == nil
	if failed {
		d.keepOut(ctx, k)
	}
	waits := failed && len(blamed(err)) == 0
	if err != nil && !waits {
		if r, ok := k.(kernel.Remnant); ok && r.Unfinished() {
			err = &midwayError{err}
		}
		if k != d.kernel {
			d.giveUp(k)
		}
		return err
	}
	d.useKernel(ctx, k, backend, waits)
	d.runtime, d.history = cfg, history
	if waits {
		d.waitForKernel(err)
		return nil
	}
	d.repaired()
	d.waitNoLonger()
	d.stand(ctx)
	d.logNotes(desired)
	return nil
}

// useKernel makes a Kernel the one that all commits go to. The former one is closed; its rules go, unless those of the new one have yet
// to come. The lock is held.
func (d *Daemon) useKernel(ctx context.Context, k kernel.Kernel, backend ir.Backend, waits bool) {
	former, its := d.kernel, d.backend
	d.kernel, d.backend = k, backend
	if k == former {
		return
	}
	d.follow(k)
	if former == nil {
		close(d.begun)
		return
	}
	if !waits {
		if err := former.Commit(ctx, &kernel.Desired{Succeeded: true}); err != nil {
			d.opt.Log.Error("cannot remove the rules of the former back end", "backend", its, "reason", err)
		}
	}
	if err := former.Close(); err != nil {
		d.opt.Log.Error("the former back end does not end as it should", "backend", its, "reason", err)
	}
	d.alone = false
}

// stand does what is to be done once the rules of the runtime configuration are in the kernel, when they were not there before, or were
// those of another start or reload: what other back ends have there goes, and the kernel's settings become what is needed. What cannot be
// done is logged. The lock is held, and the Kernel and the configuration are those that were committed.
func (d *Daemon) stand(ctx context.Context) {
	if err := d.removeOther(ctx); err != nil {
		d.opt.Log.Error("rules of another back end stay in force beside those of the configuration until they can be taken out; a reload tries it again", "reason", err)
	}
	d.inForce(nil, d.runtime)
	d.publish()
}

// removeOther takes out what is in the kernel elsewhere than where the rules in force are. The lock is held.
func (d *Daemon) removeOther(ctx context.Context) error {
	if d.alone || d.opt.RemoveOther == nil {
		return nil
	}
	err := d.opt.RemoveOther(context.WithoutCancel(ctx), d.kernel)
	d.alone = err == nil
	return err
}

// put compiles a configuration, after what was installed before it, and has a Kernel, which may not be the daemon's yet, and ebtables make
// it what is in force. It does nothing else: who calls it makes the configuration and the history that comes back current, and then calls
// inKernel. On an error the Kernel has what it had, and so has ebtables, unless that cannot be put back (commitBridge); desired is nil if
// the error is of the compiler. The lock is held.
func (d *Daemon) put(
	ctx context.Context, k kernel.Kernel, h compile.History, cfg *zones.Config, panicked bool,
) (*kernel.Desired, compile.History, error) {
	return d.putAs(ctx, k, h, cfg, panicked, false)
}

// putAs is put; anew is Desired.Anew.
func (d *Daemon) putAs(
	ctx context.Context, k kernel.Kernel, h compile.History, cfg *zones.Config, panicked, anew bool,
) (*kernel.Desired, compile.History, error) {
	desired, h, err := d.desireHere(h, cfg, panicked)
	if err != nil {
		return nil, h, err
	}
	desired.Anew = anew
	d.opt.Memory.Tidy()
	return desired, h, d.commitBridge(ctx, cfg, func() error { return commit(ctx, k, cfg.Direct, desired) })
}

// desireHere is desire for what is in the kernel now. The lock is held.
func (d *Daemon) desireHere(h compile.History, cfg *zones.Config, panicked bool) (*kernel.Desired, compile.History, error) {
	desired, h, err := desire(h, cfg, panicked, d.awaits)
	if err != nil {
		return nil, h, err
	}
	desired.Guarded = d.repairs.remnant != nil
	unfilled := *desired
	if desired.Rules, err = d.fill(desired.Rules); err != nil {
		return nil, h, err
	}
	d.compiledFrom(cfg, &unfilled)
	return desired, h, nil
}

// desire compiles a configuration for the back end that it asks for, after what was installed before it. awaits is that of kernel.Desired.
func desire(
	h compile.History, cfg *zones.Config, panicked bool, awaits func(table, chain string, beside bool) bool,
) (*kernel.Desired, compile.History, error) {
	backend := ir.Backend(cfg.Conf.FirewallBackend)
	rules, h, err := h.Compile(cfg, backend)
	if err != nil {
		return nil, h, codeOf(err)
	}
	desired := &kernel.Desired{Rules: rules, Panic: panicked, Unguarded: cfg.Own.OnForeignChange == "warn", Awaits: awaits}
	if backend == ir.NFTables {
		if desired.Direct, h, err = h.Direct(cfg); err != nil {
			return nil, h, codeOf(err)
		}
	}
	return desired, h, nil
}

// commit hands what is desired, with what the direct interface has, to a Kernel.
func commit(ctx context.Context, k kernel.Kernel, direct *zones.Direct, desired *kernel.Desired) error {
	if err := k.Commit(ctx, desired); err != nil {
		err = needed(direct, desired.Direct != nil, err)
		return &Error{Code: CommandFailed, Msg: err.Error(), cause: chainRefusal(direct, err)}
	}
	return nil
}

// needed is an error that a program is not installed, with what of the configuration needs it: the first line of the direct interface for the
// program, or, unless direct rules are beside the tables of nftables, the back end. Another error is as it is.
func needed(direct *zones.Direct, beside bool, err error) error {
	var missing *kernel.NotInstalledError
	if !errors.As(err, &missing) {
		return err
	}
	ebtables := strings.HasPrefix(missing.Program, "ebtables")
	if !ebtables && !beside {
		return fmt.Errorf("%w; it is needed for FirewallBackend=iptables", err)
	}
	line := 0
	note := func(ipv string, at int) {
		needs := ipv == "ipv6" || !strings.HasPrefix(missing.Program, "ip6") // those for IPv6 are not used without iptables
		if (ipv == "eb") == ebtables && needs && at > 0 && (line == 0 || at < line) {
			line = at
		}
	}
	for _, c := range direct.Chains {
		note(c.IPV, c.Line)
	}
	for _, r := range direct.Rules {
		note(r.IPV, r.Line)
	}
	for _, p := range direct.Passthroughs {
		note(p.IPV, p.Line)
	}
	if line == 0 {
		return err
	}
	return fmt.Errorf("%w; it is needed for %s:%d", err, direct.Origin.Path, line)
}

// codeOf is an error as a refusal: with its own code where it has one.
func codeOf(err error) error {
	var compiled compile.Errors
	if errors.As(err, &compiled) {
		return &Error{Code: compiled[0].Code, Msg: compiled[0].Msg, cause: compiled}
	}
	return err
}

// commitRuntime checks, compiles and commits the next runtime configuration and makes it current. The lock is held.
func (d *Daemon) commitRuntime(ctx context.Context, next *zones.Config) error {
	if next == d.runtime {
		return nil
	}
	if err := d.room(d.runtime, next, runtimeCosts); err != nil {
		return err
	}
	if err := zones.CheckChange(d.runtime, next).Err(); err != nil {
		return err
	}
	if err := zones.Leaning(d.runtime, next).Err(); err != nil {
		return err
	}
	if err := d.acceptsUnused(next); err != nil {
		return err
	}
	desired, history, err := d.put(ctx, d.kernel, d.history, next, d.panic)
	if err != nil {
		return err
	}
	old := d.runtime
	d.runtime, d.history = next, history
	d.inKernel(ctx)
	d.inForce(old, next)
	d.publish()
	d.logNotes(desired)
	return nil
}

// acceptsUnused is nil when the zones and policies that a runtime edit has changed, and that are not in use, can be installed
// once they are: an interface that comes up must not be refused for that.
func (d *Daemon) acceptsUnused(next *zones.Config) error {
	for _, change := range zones.Difference(d.runtime, next) {
		if !change.Gone && !next.InUse(change.Object) {
			_, err := d.history.CheckEdit(d.runtime, next)
			return err
		}
	}
	return nil
}

// compilesUnused is nil when all zones and policies of a configuration that was read from files can be installed, also those that are
// not in use yet. Else what refuses packets in them would be missing when an interface comes up. What is shipped compiles.
func (d *Daemon) compilesUnused(cfg *zones.Config) error {
	unused := func(kind zones.Kind, m *zones.Meta) bool {
		return !m.Origin.Builtin && !cfg.InUse(zones.Object{Kind: kind, Name: m.Name})
	}
	for _, z := range cfg.Zones {
		if unused(zones.KindZone, &z.Meta) {
			return d.compilesAll(cfg)
		}
	}
	for _, p := range cfg.Policies {
		if unused(zones.KindPolicy, &p.Meta) {
			return d.compilesAll(cfg)
		}
	}
	return nil
}

// compilesAll is nil when a permanent configuration compiles, whichever of its zones come into use. The error is a compile.Errors.
func (d *Daemon) compilesAll(cfg *zones.Config) error {
	d.mu.Lock()
	h := d.history.Reloaded()
	d.mu.Unlock()
	_, err := h.Check(cfg.ForRuntime(), ir.Backend(cfg.Conf.FirewallBackend))
	return err
}

// Stop ends the daemon: its rules are removed if CleanupOnExit says so, and else left in place. Panic mode stays in either
// case: no packet passes until a later start and panic-off, or a boot. Settings of the kernel become what they were: the next
// start could not know what that was.
//
// When somebody else holds the lock until the context ends, everything stays, and the error says so. What the kernel is carrying out is
// waited for in any case, as the process could not end before that.
func (d *Daemon) Stop(ctx context.Context) error {
	if err := d.lockWithin(ctx); err != nil {
		return fmt.Errorf("the rules stay in the kernel: the firewall is busy: %w", err)
	}
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	d.timed.stop()
	d.repairs.stop()
	d.stopLinks()
	d.giveBack()
	if d.kernel == nil {
		return nil
	}
	var err error
	if d.runtime.Conf.CleanupOnExit {
		if err = errors.Join(d.settle(ctx), d.takeOut(ctx)); err != nil {
			err = fmt.Errorf("not all rules are taken out of the kernel: %w", err)
		}
	}
	return errors.Join(err, d.closeAll())
}

// takeOut takes out of the kernel what is there of this process, and before its first commit what an earlier one has left. Where ebtables
// does not answer, that keeps nothing else in. The lock is held.
func (d *Daemon) takeOut(ctx context.Context) error {
	err := d.commitNone(ctx)
	if err == nil && d.repairs.waiting != "" { // those of an earlier process still stand where this one's were to be
		err = d.removeOther(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	nothing := d.runtime.WithDirect(&zones.Direct{})
	return errors.Join(err, d.commitBridge(ctx, nothing, func() error { return nil }))
}

// takeOutTries is how often the rules are taken out at the end.
const takeOutTries = 3

// commitNone takes the rules of this process out of the kernel. Where another program takes a table away meanwhile, a part of what was to be
// done has no place any more, and the next try looks at what is there then. What can only stay is not tried again. The lock is held.
func (d *Daemon) commitNone(ctx context.Context) (err error) {
	for range takeOutTries {
		if err = d.kernel.Commit(ctx, &kernel.Desired{Panic: d.panic}); err == nil || ctx.Err() != nil || errors.As(err, new(*kernel.StayError)) {
			return err
		}
		d.opt.Log.Warn("the rules cannot be taken out of the kernel at once; it is tried again", "reason", err)
	}
	return err
}

// removeTime is the longest that the removal of the rules at the end may take, but for what the kernel is carrying out.
const removeTime = time.Second

// lockWithin takes the lock, unless the context ends first and the kernel is not busy for us.
func (d *Daemon) lockWithin(ctx context.Context) error {
	var until time.Time // then what comes behind a transaction of the kernel has ended
	for !d.mu.TryLock() {
		if d.opt.Busy != nil && d.opt.Busy() {
			until = time.Now().Add(removeTime)
		}
		if ctx.Err() != nil && time.Now().After(until) {
			return ctx.Err()
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Leave ends the daemon for another one that has taken its place, and the rules with it: they stay. Settings of the kernel
// become what they were, unless the other has set them.
func (d *Daemon) Leave(ctx context.Context) error {
	if err := d.lockWithin(ctx); err != nil {
		return err
	}
	defer d.mu.Unlock()
	d.timed.stop()
	d.repairs.stop()
	d.stopLinks()
	d.giveBack()
	if d.kernel == nil {
		return nil
	}
	return d.closeAll()
}

// closeAll closes the Kernel, and one that something is left of. The lock is held.
func (d *Daemon) closeAll() error {
	if k := d.repairs.remnant; k != nil {
		d.repairs.remnant = nil
		d.close(k)
	}
	return d.kernel.Close()
}

// passthroughTime is the longest that a command of the direct interface may take: nothing else is changed meanwhile. Listings
// look names of hosts up unless they are told not to.
const passthroughTime = time.Minute

// Passthrough runs a command of iptables, ip6tables or ebtables with the arguments and returns what it prints.
func (d *Daemon) Passthrough(ctx context.Context, ipv string, args []string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, passthroughTime) // behind the lock: what it has waited for is not its time
	defer cancel()
	var out string
	err := d.allow(func(started func(pid int)) (err error) {
		out, err = d.opt.Passthrough(ctx, ipv, args, started)
		return err
	})
	if err != nil {
		return "", &Error{Code: CommandFailed, Msg: err.Error(), cause: errors.Join(err, ctx.Err())}
	}
	return out, nil
}

// now is the clock.
var now = time.Now
