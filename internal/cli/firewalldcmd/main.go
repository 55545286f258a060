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
	p := program{options: o, log: newLogger(sink, o.debug > 0)}
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
		return statusFailed, free
	}
	state, err := statedir.For(p.state, p.system)
	if err != nil {
		return statusFailed, err
	}
	panicked, _ := state.Panic() // the daemon logs the reason when that is not known
	guard, err := kernel.Base(context.Background(), kernel.Options{Log: p.log}, panicked)
	if err != nil {
		return statusFailed, fmt.Errorf("cannot start the firewall: %w", err)
	}
	defer guard.Close()
	if free != nil { // the guard stays until a daemon finds the bus
		return statusFailed, free
	}
	if p.bus, err = bus.Connect("", p.log); err != nil {
		return statusFailed, err
	}
	defer p.bus.Close()
	store := zones.Store{Dirs: zones.Dirs{System: p.system, Default: p.shipped, Follow: true}}
	p.daemon = p.newDaemon(store.Dirs, state, guard)
	p.bus.Attach(p.daemon)
	if stopped, err := p.start(signals); err != nil {
		return statusFailed, fmt.Errorf("cannot start the firewall: %w", err)
	} else if stopped {
		return p.stopStarting(guard, panicked)
	}
	new(lean).watch(p.daemon)
	p.bus.Serve(p.daemon, func() (*zones.Config, error) {
		cfg, problems := store.Shipped()
		return cfg, problems.Err()
	})
	if w, err := watch(p.system, p.log, p.daemon.FilesTouched); err != nil {
		p.log.Warn("changes that others make to files will not be noticed", "reason", err)
	} else {
		defer w.close()
	}
	p.tell("READY=1")
	tellReady()
	return p.serve(signals)
}

// newDaemon makes the daemon over a configuration's folders, whose first rules take the place of the guard.
func (p *program) newDaemon(dirs zones.Dirs, state *statedir.Dir, guard *kernel.Guard) *daemon.Daemon {
	return daemon.New(daemon.Options{
		Dirs: dirs, Log: p.log, Manager: p.bus, State: state,
		Kernel: func(backend ir.Backend) (kernel.Kernel, error) {
			return kernel.New(kernel.Options{Backend: backend, Log: p.log, Guard: guard})
		},
		DropAll: func(on bool) error { return kernel.DropAll(kernel.Options{Log: p.log}, on) },
		Passthrough: func(ctx context.Context, ipv string, args []string) (string, error) {
			return kernel.Passthrough(ctx, kernel.Options{Log: p.log}, ipv, args)
		},
		Bridge: func(ctx context.Context, old, next *kernel.Bridge) error {
			return kernel.CommitBridge(ctx, kernel.Options{Log: p.log}, old, next)
		},
		Sysctl: func(name, value string) (string, error) { return sysctl(sysctlDir, name, value) },
	})
}

// start starts the daemon, unless a signal ends the program before that; stopped says so.
func (p *program) start(signals <-chan os.Signal) (stopped bool, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.daemon.Start(ctx) }()
	for {
		select {
		case err := <-done:
			return false, err
		case s := <-signals:
			if s == syscall.SIGHUP { // the files are being read just now
				continue
			}
			cancel()
			select {
			case <-done:
			case <-time.After(stopTime):
			}
			return true, nil
		}
	}
}

// stopStarting ends a daemon whose start was broken off. Without rules in the kernel the guard has nothing to wait for.
func (p *program) stopStarting(guard *kernel.Guard, panicked bool) (status int, err error) {
	if p.daemon.Snapshot().Runtime != nil {
		return p.stop()
	}
	p.tell("STOPPING=1")
	k, err := kernel.New(kernel.Options{Backend: ir.NFTables, Log: p.log, Guard: guard})
	if err != nil {
		return 0, err
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return 0, k.Commit(ctx, &kernel.Desired{Panic: panicked})
}

// tell tells the service manager something.
func (p *program) tell(state string) {
	if err := notify(state); err != nil {
		p.log.Warn("cannot tell the service manager", "reason", err)
	}
}

// serve waits for signals.
func (p *program) serve(signals <-chan os.Signal) (status int, err error) {
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGHUP {
				return p.stop()
			}
			go p.reload()
		case <-p.bus.Done():
			return statusLost, errors.Join(errors.New("another firewall has taken over"), p.daemon.Leave())
		}
	}
}

func (p *program) reload() {
	p.tell(reloading())
	if err := p.daemon.Reload(context.Background()); err != nil {
		p.log.Error("cannot reload: everything stays as it was", "reason", err)
	}
	p.tell("READY=1")
}

// stop ends the daemon, with its rules if the configuration says so.
func (p *program) stop() (status int, err error) {
	p.tell("STOPPING=1")
	p.bus.Close()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return 0, p.daemon.Stop(ctx)
}
