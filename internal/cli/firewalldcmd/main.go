// Package firewalldcmd is the program firewalld: the daemon from its command line to its end.
package firewalldcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"richwall/compile/ir"
	"richwall/internal/bus"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
	"richwall/internal/printable"
	"richwall/internal/statedir"
	"richwall/zones"
)

// The exit statuses beside 0, as firewalld has them.
const (
	statusLost    = 1   // another process has taken the name on the message bus
	statusUsage   = 2   // the command line is wrong
	statusFailed  = 254 // the firewall could not be started
	statusNotRoot = 255
)

// stopTime is the longest that removing the rules at the end may take: a service manager waits, and so does a shutdown.
const stopTime = time.Second

// Main runs the daemon until a signal ends it, and returns its exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		complain(stderr, err)
		return statusUsage
	case os.Geteuid() != 0:
		fmt.Fprintln(stderr, "firewalld: cannot start: only root may change the firewall")
		return statusNotRoot
	case !o.foreground:
		return background(args, stderr)
	}
	if err := leaveFolder(); err != nil {
		fmt.Fprintf(stderr, "firewalld: cannot start in the background: %v\n", err)
		return statusFailed
	}
	limitMemory()
	sink, err := openSink(o, stdout)
	if err != nil {
		complain(stderr, err)
		return statusFailed
	}
	p := program{options: o, log: newLogger(sink, o.debug > 0), reloads: make(chan struct{}, 1)}
	status, err := p.run()
	if err != nil {
		p.log.Error(err.Error())
		if sink.console == nil {
			complain(stderr, err)
		}
	}
	return status
}

// complain prints why the program ends.
func complain(stderr io.Writer, err error) {
	fmt.Fprintf(stderr, "firewalld: %s\n", printable.Text(err.Error(), maxLine))
}

// program is the running daemon.
type program struct {
	options
	log    *slog.Logger
	daemon *daemon.Daemon
	bus    *bus.Server
	// reloads is a reload that was asked for and has not begun.
	reloads chan struct{}
}

// run starts the daemon and serves it until a signal.
//
// The order is that of trust. Another firewall that has the name on the bus is left alone, so that comes first. Then a base that
// drops nearly everything is put into the kernel, before any file is read and before anybody is told that there is a firewall.
// The rules take its place. Only then calls are answered and the service manager is told.
func (p *program) run() (status int, err error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	if !p.noPID {
		file, err := writePID(pidPath)
		if err != nil {
			return statusFailed, err
		}
		defer file.remove()
	}
	free := bus.Free("")
	if errors.Is(free, bus.ErrTaken) {
		return statusLost, free
	}
	state, err := statedir.For(p.state, p.system)
	if err != nil {
		return statusFailed, err
	}
	guard, err := p.base(state)
	if err != nil {
		return statusFailed, fmt.Errorf("cannot start the firewall: %w", err)
	}
	defer guard.Close()
	if free != nil { // the guard stays until a daemon finds the bus
		return statusFailed, free
	}
	if p.bus, err = bus.Connect("", p.log); err != nil {
		return notConnected(err, guard.Lower)
	}
	defer p.bus.Close()
	store := zones.Store{Dirs: zones.Dirs{System: p.system, Default: p.shipped, Follow: true}}
	p.daemon = p.newDaemon(store.Dirs, state, guard)
	p.bus.Attach(p.daemon)
	switch ended, err := p.start(signals); {
	case err != nil:
		return statusFailed, fmt.Errorf("cannot start the firewall: %w", err)
	case ended == bySignal:
		return p.stopStarting(guard)
	case ended == byOther:
		return p.leaveStarting(guard)
	}
	new(lean).watch(p.daemon)
	p.bus.Serve(p.daemon, func() (*zones.Config, error) {
		cfg, problems := store.Shipped()
		return cfg, problems.Err()
	})
	p.watch(func() error {
		_, err := watch(p.system, settle, p.log, p.daemon.FilesTouched)
		return err
	})
	p.tell("READY=1\n" + p.status())
	tellReady()
	return p.serve(signals)
}

// notConnected is how the program ends without the bus. Another firewall that has just taken the name is left alone, and the guard with
// its own goes. Else the guard stays until a daemon finds the bus.
func notConnected(reason error, lower func() error) (status int, err error) {
	if errors.Is(reason, bus.ErrTaken) {
		return statusLost, errors.Join(reason, lower())
	}
	return statusFailed, reason
}

// watchTime is how long the program waits for the folder's disk before it serves signals.
const watchTime = time.Second

// watch begins to watch the files. A disk that does not answer is not waited for: signals and calls are served meanwhile.
func (p *program) watch(begin func() error) {
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		if err := begin(); err != nil {
			p.log.Warn("changes that others make to files will not be noticed", "reason", err)
		}
	}()
	select {
	case <-begun:
	case <-time.After(watchTime):
		p.log.Warn("the disk does not answer: changes that others make to files are not noticed until it does")
	}
}

// base puts the guard into the kernel, before any file is read. In panic mode the guard then drops everything.
func (p *program) base(state *statedir.Dir) (*kernel.Guard, error) {
	ctx, options := context.Background(), kernel.Options{Log: p.log}
	guard, err := kernel.Base(ctx, options, false)
	if err != nil {
		return guard, err
	}
	if on, _ := state.Panic(); on { // the daemon logs the reason when that is not known
		guard.Close()
		return kernel.Base(ctx, options, true)
	}
	return guard, nil
}

// newDaemon makes the daemon over a configuration's folders, whose first rules take the place of the guard.
func (p *program) newDaemon(dirs zones.Dirs, state *statedir.Dir, guard *kernel.Guard) *daemon.Daemon {
	return daemon.New(daemon.Options{
		Dirs: dirs, Log: p.log, Manager: p.bus, State: state,
		Kernel: func(backend ir.Backend) (kernel.Kernel, error) {
			return kernel.New(kernel.Options{Backend: backend, Log: p.log, Guard: guard})
		},
		DropAll:  func(on bool) error { return kernel.DropAll(kernel.Options{Log: p.log}, on) },
		Dropping: func() (bool, error) { return kernel.Dropping(kernel.Options{Log: p.log}) },
		Passthrough: func(ctx context.Context, ipv string, args []string) (string, error) {
			return kernel.Passthrough(ctx, kernel.Options{Log: p.log}, ipv, args)
		},
		Bridge: func(ctx context.Context, old, next *kernel.Bridge) error {
			return kernel.CommitBridge(ctx, kernel.Options{Log: p.log}, old, next)
		},
		Sysctl: func(name, value string) (string, error) { return sysctl(sysctlDir, name, value) },
	})
}

// ending is what has broken a start off.
type ending int

// The endings.
const (
	byNothing ending = iota
	bySignal
	byOther // another firewall has taken over
)

// start starts the daemon, unless something ends the program before that, which it returns.
func (p *program) start(signals <-chan os.Signal) (ended ending, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		if fault := daemon.Guard(p.log, "the start", func() { err = p.daemon.Start(ctx) }); fault != nil {
			err = fault
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			return byNothing, err
		case s := <-signals:
			if s == syscall.SIGHUP { // the files are being read just now
				continue
			}
			ended = bySignal
		case <-p.bus.Done():
			ended = byOther
		}
		cancel()
		select {
		case <-done:
		case <-time.After(stopTime):
		}
		return ended, nil
	}
}

// leaveStarting ends a daemon whose start was broken off by another firewall that has taken its place. Rules that are in the kernel stay;
// the guard, which would drop what the other lets in, goes.
func (p *program) leaveStarting(guard *kernel.Guard) (status int, err error) {
	status, err = p.leave()
	if p.daemon.Snapshot().Runtime == nil && !p.daemon.Snapshot().Panic {
		err = errors.Join(err, guard.Lower())
	}
	return status, err
}

// stopStarting ends a daemon whose start was broken off. Without rules in the kernel the guard has nothing to wait for; panic mode
// stays.
func (p *program) stopStarting(guard *kernel.Guard) (status int, err error) {
	if p.daemon.Snapshot().Runtime != nil {
		return p.stop()
	}
	p.tell("STOPPING=1")
	if p.daemon.Snapshot().Panic {
		return 0, nil
	}
	return 0, guard.Lower()
}

// tell tells the service manager something.
func (p *program) tell(state string) {
	if err := notify(state); err != nil {
		p.log.Warn("cannot tell the service manager", "reason", err)
	}
}

// serve waits for signals.
func (p *program) serve(signals <-chan os.Signal) (status int, err error) {
	go p.reload()
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGHUP {
				return p.stop()
			}
			select {
			case p.reloads <- struct{}{}:
			default: // one that has not begun will do
			}
		case <-p.bus.Done():
			return p.leave()
		}
	}
}

// reload reloads whenever that was asked for.
func (p *program) reload() {
	for range p.reloads {
		p.tell(reloading())
		daemon.Guard(p.log, "a reload", func() {
			if err := p.daemon.Reload(context.Background()); err != nil {
				p.log.Error("cannot reload: everything stays as it was", "reason", err)
			}
		})
		p.tell("READY=1\n" + p.status())
	}
}

// status is what the service manager shows of the daemon (STATUS, sd_notify(3)).
func (p *program) status() string {
	now := p.daemon.Snapshot()
	if now.State == daemon.Failed {
		return "STATUS=failed: " + printable.Text(strings.Join(now.Failures, "; "), maxLine)
	}
	return "STATUS=running"
}

// leave ends the daemon without its rules, for another one that has taken its place.
func (p *program) leave() (status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return statusLost, errors.Join(errors.New("another firewall has taken over"), p.daemon.Leave(ctx))
}

// stop ends the daemon, with its rules if the configuration says so.
func (p *program) stop() (status int, err error) {
	p.tell("STOPPING=1")
	p.bus.Close()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return 0, p.daemon.Stop(ctx)
}
