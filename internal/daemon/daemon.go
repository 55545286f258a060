// Package daemon is the one owner of the firewall's state: the permanent and the runtime configuration, and what is
// installed in the kernel.
//
// In come edits (functions from one configuration to the next) and orders such as Reload; out go events, each with the
// configurations before and after. Every change takes the same path under one lock: edit, check, compile, commit to the
// kernel, and only then make it current and tell the listeners. An error anywhere leaves files, memory and kernel as they were.
//
// The D-Bus adapter and cmd/firewalld import it; it imports neither.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/kernel"
	"richwall/zones"
)

// State is what the daemon says of itself.
type State string

// The states, spelled as on the bus.
const (
	Init    State = "INIT"
	Running State = "RUNNING"
	Failed  State = "FAILED" // the administrator's configuration could not be used, and the shipped one is installed
)

// Options are what a daemon needs.
type Options struct {
	Dirs zones.Dirs
	// Kernel opens the kernel for a back end.
	Kernel func(backend ir.Backend) (kernel.Kernel, error)
	// Passthrough runs a command of iptables, ip6tables or ebtables and returns what it prints.
	Passthrough func(ctx context.Context, ipv string, args []string) (string, error)
	// Sysctl sets a kernel's setting, such as net.ipv4.ip_forward, and returns the value before; "" for a value only reads.
	// Nil leaves all settings alone.
	Sysctl func(name, value string) (was string, err error)
	// Bridge makes ebtables' rules next where they are old; a nil old is not known. Nil leaves them alone.
	Bridge func(ctx context.Context, old, next *kernel.Bridge) error
	// Manager is NetworkManager; nil for none.
	Manager Manager
	Log     *slog.Logger
}

// Daemon is the state and its lock. All methods may be called at the same time.
type Daemon struct {
	opt   Options
	store zones.Store

	mu        sync.Mutex
	state     State
	backend   ir.Backend
	kernel    kernel.Kernel
	bridge    *kernel.Bridge // what ebtables has of ours; nil for not known
	permanent *zones.Config
	runtime   *zones.Config
	history   compile.History // of what is installed
	panic     bool
	pmtu      borrowed // net.ipv4.ip_no_pmtu_disc
	timed     timers
	repairs   repairs
	said      string            // the last warning about files that somebody else has changed
	managed   map[string]string // interfaces that NetworkManager has put into a zone, and the zone
	listeners []func(Event)
}

// Snapshot is the state at one moment. Configurations are immutable and may be kept.
type Snapshot struct {
	State              State
	Backend            ir.Backend
	Runtime, Permanent *zones.Config
	Panic              bool
}

// New makes a daemon that has not started: Start reads the configuration and installs it.
func New(opt Options) *Daemon {
	d := &Daemon{opt: opt, store: zones.Store{Dirs: opt.Dirs}, state: Init, managed: map[string]string{}}
	d.timed.init(d.expire)
	return d
}

// Snapshot returns the state as it is now.
func (d *Daemon) Snapshot() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Snapshot{State: d.state, Backend: d.backend, Runtime: d.runtime, Permanent: d.permanent, Panic: d.panic}
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
	Code grammar.Code
	Msg  string // may be empty
}

func (e *Error) Error() string {
	if e.Msg == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Msg
}

func refuse(code grammar.Code, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

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

// Start reads the configuration and installs it. If it cannot be used the shipped one is installed and the state is
// Failed; the error is for the case that not even that can be done.
func (d *Daemon) Start(ctx context.Context) error {
	links := d.askManager(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	cfg, problems := d.store.Load()
	d.logProblems(problems)
	var err error
	if cfg == nil {
		err = problems.Err()
	} else {
		err = d.installFor(ctx, cfg.ForRuntime(), links)
	}
	if err == nil {
		d.permanent, d.state = cfg, Running
		return nil
	}
	d.opt.Log.Error("the configuration cannot be used; the shipped one is installed in its place", "reason", err)
	cfg, problems = d.store.Shipped()
	if cfg == nil {
		return problems.Err()
	}
	if err := d.installFor(ctx, cfg.ForRuntime(), links); err != nil {
		return err
	}
	d.permanent, d.state = cfg, Failed
	return nil
}

func (d *Daemon) logProblems(list zones.Problems) {
	for _, p := range list {
		if p.Severity == zones.Error {
			d.opt.Log.Error(p.String())
		} else {
			d.opt.Log.Warn(p.String())
		}
	}
}

// install commits a configuration with the back end it asks for, and makes it the runtime one. What another back end had
// installed is removed after that.
func (d *Daemon) install(ctx context.Context, cfg *zones.Config) error {
	backend := ir.Backend(cfg.Conf.FirewallBackend)
	k := d.kernel
	if k == nil || backend != d.backend {
		var err error
		if k, err = d.opt.Kernel(backend); err != nil {
			return refuse(CommandFailed, "%v", err)
		}
	}
	desired, history, err := desire(d.history.Reloaded(), cfg, backend, d.panic)
	if err == nil {
		err = d.commitBridge(ctx, cfg, func() error { return commit(ctx, k, desired) })
	}
	if err != nil {
		if k != d.kernel {
			k.Close()
		}
		return err
	}
	if d.kernel != nil && k != d.kernel {
		if err := d.kernel.Commit(ctx, &kernel.Desired{}); err != nil {
			d.opt.Log.Error("cannot remove the rules of the former back end", "backend", d.backend, "reason", err)
		}
		d.kernel.Close()
	}
	if k != d.kernel {
		d.follow(k)
	}
	d.kernel, d.backend, d.runtime, d.history = k, backend, cfg, history
	d.logNotes(desired)
	d.applySettings(cfg)
	return nil
}

// desire compiles a configuration, after what was installed before it.
func desire(h compile.History, cfg *zones.Config, backend ir.Backend, panicked bool) (*kernel.Desired, compile.History, error) {
	rules, h, err := h.Compile(cfg, backend)
	if err != nil {
		return nil, h, codeOf(err)
	}
	desired := &kernel.Desired{Rules: rules, Panic: panicked}
	if backend == ir.NFTables {
		if desired.Direct, h, err = h.Direct(cfg); err != nil {
			return nil, h, codeOf(err)
		}
	}
	return desired, h, nil
}

// commit hands what is desired to the kernel.
func commit(ctx context.Context, k kernel.Kernel, desired *kernel.Desired) error {
	if err := k.Commit(ctx, desired); err != nil {
		return refuse(CommandFailed, "%v", err)
	}
	return nil
}

// codeOf is an error as a refusal: with its own code where it has one.
func codeOf(err error) error {
	var compiled compile.Errors
	if errors.As(err, &compiled) {
		return refuse(compiled[0].Code, "%s", compiled[0].Msg)
	}
	return err
}

// commitRuntime checks, compiles and commits the next runtime configuration and makes it current. The lock is held.
func (d *Daemon) commitRuntime(ctx context.Context, next *zones.Config) error {
	if next == d.runtime {
		return nil
	}
	if err := zones.CheckChange(d.runtime, next).Err(); err != nil {
		return err
	}
	desired, history, err := desire(d.history, next, d.backend, d.panic)
	if err != nil {
		return err
	}
	if err := d.commitBridge(ctx, next, func() error { return commit(ctx, d.kernel, desired) }); err != nil {
		return err
	}
	d.runtime, d.history = next, history
	d.logNotes(desired)
	return nil
}

// Stop ends the daemon: its rules are removed if CleanupOnExit says so, and else left in place. Settings of the kernel
// become what they were in either case: the next start could not know what that was.
func (d *Daemon) Stop(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timed.stop()
	d.repairs.stop()
	d.giveBack()
	if d.kernel == nil {
		return nil
	}
	var err error
	if d.runtime.Conf.CleanupOnExit {
		nothing := d.runtime.WithDirect(&zones.Direct{})
		err = d.commitBridge(ctx, nothing, func() error { return d.kernel.Commit(ctx, &kernel.Desired{}) })
	}
	return errors.Join(err, d.kernel.Close())
}

// Leave ends the daemon for another one that has taken its place, and the rules with it: they stay. Settings of the kernel
// become what they were, unless the other has set them.
func (d *Daemon) Leave() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timed.stop()
	d.giveBack()
	return d.kernel.Close()
}

// Passthrough runs a command of iptables, ip6tables or ebtables with the arguments and returns what it prints.
func (d *Daemon) Passthrough(ctx context.Context, ipv string, args []string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out string
	err := d.allow(func() (err error) {
		out, err = d.opt.Passthrough(ctx, ipv, args)
		return err
	})
	if err != nil {
		return "", refuse(CommandFailed, "%v", err)
	}
	return out, nil
}

// now is the clock.
var now = time.Now
