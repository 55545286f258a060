// Package firewalldcmd is the program firewalld: the daemon from its command line to its end.
package firewalldcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"richwall/compile/ir"
	"richwall/internal/bus"
	"richwall/internal/daemon"
	"richwall/internal/fault"
	"richwall/internal/kernel"
	"richwall/internal/memory"
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

// StopTime is the longest that removing the rules at the end may take: a service manager waits, and so does a shutdown. ConfTime is the
// longest that a start that is broken off waits for firewalld.conf. Both are variables for tests, which run on busy machines.
var (
	StopTime = time.Second
	ConfTime = 500 * time.Millisecond
)

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
	limit := memory.OfProcess()
	limit.Tune()
	sink, err := openSink(o, stdout)
	if err != nil {
		complain(stderr, err)
		return statusFailed
	}
	p := program{options: o, log: newLogger(sink, o.debug > 0), memory: limit, reloads: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	status, err := p.run()
	if err != nil {
		p.log.Error(inOneLine(err))
		if sink.console == nil {
			complain(stderr, err)
		}
	}
	return status
}

// complain prints why the program ends.
func complain(stderr io.Writer, err error) {
	fmt.Fprintf(stderr, "firewalld: %s\n", printable.Text(inOneLine(err), maxLine))
}

// program is the running daemon.
type program struct {
	options
	log    *slog.Logger
	memory *memory.Limit
	daemon *daemon.Daemon
	bus    *bus.Server
	left   *kernel.Left
	// reloads is a reload that was asked for and has not begun.
	reloads chan struct{}
	// changed has a token when the status may not be what the service manager was told last.
	changed chan struct{}
	// refused says when and why the last reload that the service manager asked for was refused; nil after one that was not.
	refused atomic.Pointer[string]
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
	guard, err := awaitBase(func(ctx context.Context) (*kernel.Guard, error) { return p.base(ctx, state) }, signals)
	if err != nil {
		return statusFailed, fmt.Errorf("cannot start the firewall: %w", err)
	}
	defer guard.Close()
	if free != nil { // the guard stays until a daemon finds the bus
		return statusFailed, closed(free, guard.Earlier())
	}
	if p.bus, err = bus.Connect("", p.log); err != nil {
		return notConnected(err, guard.Earlier(), guard.Lower)
	}
	defer p.bus.Close()
	store := zones.Store{Dirs: zones.Dirs{System: p.system, Default: p.shipped, Follow: true, Room: p.memory.Room}}
	p.daemon = p.newDaemon(store.Dirs, state, guard)
	p.bus.Attach(p.daemon)
	if end, err := p.start(signals); err != nil { // nothing new is let in until a start succeeds
		err = fmt.Errorf("cannot start the firewall: %w", err)
		if open := guard.KeepOut(context.Background(), p.daemon.Snapshot().Panic); open != nil {
			return statusFailed, fmt.Errorf("%w; new connections cannot be kept out: %w", err, open)
		}
		return statusFailed, closed(err, "")
	} else if end != nil {
		return end(guard)
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
	p.log.Info("the firewall has started", "state", strings.ToLower(string(p.daemon.Snapshot().State)))
	p.daemon.Subscribe(p.follow)
	p.tell("READY=1\n" + p.status())
	tellReady()
	go p.tellChanges()
	return p.serve(signals, guard)
}

// notConnected is how the program ends without the bus. Another firewall that has just taken the name is left alone, and the guard with
// its own goes. Else the guard stays until a daemon finds the bus, or the rules of an earlier process.
func notConnected(reason error, earlier ir.Backend, lower func() error) (status int, err error) {
	if errors.Is(reason, bus.ErrTaken) {
		return statusLost, errors.Join(reason, lower())
	}
	return statusFailed, closed(reason, earlier)
}

// closed is why the start has failed, where the guard stays, or the rules of an earlier process that stand in its place.
func closed(reason error, earlier ir.Backend) error {
	if earlier != "" {
		return fmt.Errorf("%w; the rules of an earlier process stay in force until the firewall starts", reason)
	}
	return fmt.Errorf("%w; nothing new is let in until the firewall starts; %s", reason, byHand(kernel.ClosedBy(kernel.Options{})))
}

// byHand is how an administrator takes away what keeps the machine closed when no daemon is there to do it: these tables, or the guard where
// it is not known which they are.
func byHand(tables []string) string {
	if len(tables) == 0 {
		return "to be without it, run nft delete table inet firewalld_guard (nft list tables shows the table if its name is longer)"
	}
	return "to be without it, run nft delete table " + strings.Join(tables, "; nft delete table ")
}

// watchTime is how long the program waits for the folder's disk before it serves signals.
const watchTime = time.Second

// watch begins to watch the files. A disk that does not answer is not waited for: signals and calls are served meanwhile.
func (p *program) watch(begin func() error) {
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		if err := fault.Call("watching files", begin); err != nil {
			p.log.Warn("changes that others make to files will not be noticed", "reason", err)
		}
	}()
	select {
	case <-begun:
	case <-time.After(watchTime):
		p.log.Warn("the disk does not answer: changes that others make to files are not noticed until it does")
	}
}

// awaitBase calls base. A signal that ends the program ends the context of base, and start finds the signal again. The error is that of base,
// or that it does not end then.
func awaitBase(base func(context.Context) (*kernel.Guard, error), signals chan os.Signal) (guard *kernel.Guard, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := begin("keeping out what is new", func() (err error) {
		guard, err = base(ctx)
		return err
	})
	for {
		select {
		case err := <-done:
			return guard, err
		case s := <-signals:
			if s == syscall.SIGHUP { // no file was read yet
				continue
			}
			cancel()
			if err := awaitEnd(done, kernel.Busy); err != nil {
				return nil, fmt.Errorf("the start was broken off: %w", err)
			}
			select {
			case signals <- s:
			default: // as many others are there
			}
			return guard, nil
		}
	}
}

// base puts the guard into the kernel, before any file is read. In panic mode the guard then drops everything.
func (p *program) base(ctx context.Context, state *statedir.Dir) (*kernel.Guard, error) {
	options := kernel.Options{Log: p.log}
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
	p.left = kernel.NewLeft(state.Note("shared"), p.log)
	return daemon.New(daemon.Options{
		Dirs: dirs, Log: p.log, Manager: p.bus, State: state, Memory: p.memory,
		Kernel: func(backend ir.Backend) (kernel.Kernel, error) {
			return kernel.New(kernel.Options{Backend: backend, Log: p.log, Guard: guard, Left: p.left})
		},
		RemoveOther: func(ctx context.Context, inForce kernel.Kernel) error {
			return kernel.RemoveOther(ctx, kernel.Options{Log: p.log, Left: p.left}, inForce)
		},
		DropAll:  func(on bool) error { return kernel.DropAll(kernel.Options{Log: p.log}, on) },
		Dropping: func() (bool, error) { return kernel.Dropping(kernel.Options{Log: p.log}) },
		PanicLeft: func(ctx context.Context) ([]string, error) {
			return kernel.PanicLeft(ctx, kernel.Options{Log: p.log})
		},
		PassFrames: func() error { return kernel.PassFrames(kernel.Options{Log: p.log}) },
		Passthrough: func(ctx context.Context, ipv string, args []string, started func(pid int)) (string, error) {
			return kernel.Passthrough(ctx, kernel.Options{Log: p.log}, ipv, args, started)
		},
		Bridge: func(ctx context.Context, old, next *kernel.Bridge) (*kernel.Bridge, error) {
			return kernel.CommitBridge(ctx, kernel.Options{Log: p.log, Left: p.left}, old, next)
		},
		CheckBridge: func(ctx context.Context, next *kernel.Bridge) error {
			return kernel.CheckBridge(ctx, kernel.Options{Log: p.log, Left: p.left}, next)
		},
		HasInterface: func(name string) bool {
			_, err := net.InterfaceByName(name)
			return err == nil
		},
		FollowLinks: func(changed func([]kernel.Link)) (func() error, []kernel.Link, error) {
			links, now, err := kernel.FollowLinks(kernel.Options{Log: p.log}, changed)
			if err != nil {
				return nil, nil, err
			}
			return links.Close, now, nil
		},
		Busy:   kernel.Busy,
		Sysctl: func(name, value string) (string, error) { return sysctl(sysctlDir, name, value) },
	})
}

// start starts the daemon, unless a signal ends the program before that, or another firewall takes its place: end is then what is
// to be done, else nil.
func (p *program) start(signals <-chan os.Signal) (end func(*kernel.Guard) (status int, err error), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		if fault := fault.Guard(p.log, "the start", func() { err = p.daemon.Start(ctx) }); fault != nil {
			err = fault
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			return nil, err
		case s := <-signals:
			if s == syscall.SIGHUP { // what was read already may have changed since
				p.reloadSoon()
				continue
			}
			end = p.stopStarting
		case <-p.bus.Done():
			end = p.leaveStarting
		}
		cancel()
		_ = awaitEnd(done, kernel.Busy) // why it has ended is plain
		return end, nil
	}
}

// begin calls a function beside what goes on, and hands over its error, or a fault in it.
func begin(what string, f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- fault.Call(what, f) }()
	return done
}

// awaitEnd waits for what must end before the program does, for StopTime, and for as long as the kernel is carrying out a transaction, as the
// process could not end before that. The error is what has come of it, or that it takes longer.
func awaitEnd(done <-chan error, busy func() bool) error {
	for until := time.Now().Add(StopTime); ; {
		select {
		case err := <-done:
			return err
		case <-time.After(time.Millisecond):
		}
		if busy() {
			until = time.Now().Add(StopTime)
		} else if time.Now().After(until) {
			return errTooLong
		}
	}
}

var errTooLong = errors.New("it takes too long")

// stopStarting ends a daemon whose start was broken off by a signal, as stop ends one that has started. With CleanupOnExit the guard
// goes, and the rules of an earlier process that stood in its place. Without, or when firewalld.conf cannot be read, either stays
// until the next start. Panic mode stays in any case.
func (p *program) stopStarting(guard *kernel.Guard) (status int, err error) {
	if p.daemon.Snapshot().Runtime != nil {
		return p.stop()
	}
	p.tell("STOPPING=1")
	if p.daemon.Snapshot().Panic {
		return 0, nil
	}
	if keep := p.keeps(); keep != "" {
		p.log.Warn("the start was broken off: what keeps packets out stays in the kernel until the next start", "reason", keep)
		return 0, nil
	}
	options := kernel.Options{Backend: guard.Earlier(), Log: p.log, Left: p.left}
	return takeOut(guard.Lower, func(ctx context.Context) error {
		_, err := kernel.CommitBridge(ctx, options, nil, &kernel.Bridge{})
		return err
	}, func(ctx context.Context) error {
		if guard.Earlier() == "" {
			return nil
		}
		return kernel.Remove(ctx, options)
	})
}

// takeOut lowers the guard, so that nothing is committed any more, and then takes out the rules for bridges and all others. Neither waits for
// the other, and what the start has begun may not have ended.
func takeOut(lower func() error, bridges, rules func(context.Context) error) (status int, err error) {
	if err := lower(); err != nil {
		return statusFailed, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), StopTime)
	defer cancel()
	ofBridges := begin("removing rules of bridges", func() error { return bridges(ctx) })
	others := begin("removing rules", func() error { return rules(ctx) })
	if err := errors.Join(awaitEnd(others, kernel.Busy), awaitEnd(ofBridges, kernel.Busy)); err != nil {
		return statusFailed, fmt.Errorf("the start was broken off, and not all rules are taken out of the kernel: %w", err)
	}
	return 0, nil
}

// keeps says why the rules stay when the firewall is stopped, as firewalld.conf says now; empty if they go.
func (p *program) keeps() (reason string) {
	done := make(chan string, 1)
	go func() {
		fault := fault.Guard(p.log, "reading firewalld.conf", func() { reason = keepsRules(p.system) })
		if fault != nil {
			reason = fault.Error()
		}
		done <- reason
	}()
	select {
	case reason := <-done:
		return reason
	case <-time.After(ConfTime):
		return "firewalld.conf could not be read in time"
	}
}

// keepsRules is that for the folder of a configuration. One without firewalld.conf has the defaults; where the folder itself is
// missing it is not known what was meant.
func keepsRules(folder string) (reason string) {
	const most = 1 << 20 // bytes, as of any load
	if _, err := os.Stat(folder); err != nil {
		return err.Error()
	}
	file, err := os.Open(filepath.Join(folder, "firewalld.conf"))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	} else if err != nil {
		return err.Error()
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return err.Error()
	}
	if conf, _ := zones.ReadConf(text, file.Name()); conf == nil || !conf.CleanupOnExit {
		return "CleanupOnExit=no in firewalld.conf"
	}
	return ""
}

// leaveStarting ends a daemon in whose start another firewall has taken its place. The guard goes, which that one does not know of.
func (p *program) leaveStarting(guard *kernel.Guard) (status int, err error) {
	if p.daemon.Snapshot().Runtime != nil {
		return p.leave(guard)
	}
	return statusLost, errors.Join(errTaken, guard.Lower())
}

// errTaken is why the program ends when its name on the message bus is another one's.
var errTaken = errors.New("another firewall has taken over")

// tell tells the service manager something.
func (p *program) tell(state string) {
	if err := fault.Call("sd_notify", func() error { return notify(state) }); err != nil {
		p.log.Warn("cannot tell the service manager", "reason", err)
	}
}

// serve waits for signals. A reload that has begun is given up when the program ends.
func (p *program) serve(signals <-chan os.Signal, guard *kernel.Guard) (status int, err error) {
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	go p.reload(ctx)
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGHUP {
				giveUp()
				return p.stop()
			}
			p.reloadSoon()
		case <-p.bus.Done():
			giveUp()
			return p.leave(guard)
		}
	}
}

// reloadSoon asks for a reload, unless one that was asked for has not begun.
func (p *program) reloadSoon() {
	select {
	case p.reloads <- struct{}{}:
	default:
	}
}

// reload reloads whenever that was asked for. One that has begun when the context ends is given up.
func (p *program) reload(ctx context.Context) {
	for range p.reloads {
		p.tell(reloading())
		fault.Guard(p.log, "a reload", func() {
			if err := p.daemon.Reload(ctx); err != nil && ctx.Err() == nil {
				p.log.Error("cannot reload: "+consequence(err), "reason", err)
				p.refuse(err, time.Now())
			}
		})
		p.tell("READY=1\n" + p.status())
	}
}

// status is what the service manager shows of the daemon (STATUS, sd_notify(3)).
func (p *program) status() string {
	text := statusText(p.daemon.Snapshot())
	if refused := p.refused.Load(); refused != nil {
		text += "; " + *refused
	}
	return "STATUS=" + printable.Text(text, maxLine)
}

// statusText is the state, and that panic mode is on.
func statusText(now daemon.Snapshot) string {
	text := "running"
	if now.State == daemon.Failed {
		text = "failed: " + strings.Join(now.Failures, "; ")
	}
	if now.Panic {
		text = "panic mode is on, every packet is dropped; " + text
	}
	return text
}

// consequence is what has become of the firewall behind a reload that has failed.
func consequence(err error) string {
	if daemon.Midway(err) {
		return "nothing new is let in until what it has left can be taken back"
	}
	return "nothing has changed"
}

// refuse notes for the status when and why a reload was refused.
func (p *program) refuse(err error, at time.Time) {
	text := fmt.Sprintf("the reload at %s was refused, %s: %s", at.Format(time.TimeOnly), consequence(err), inOneLine(err))
	p.refused.Store(&text)
}

// follow logs what somebody has made of the firewall as a whole, and has the status told when that may have changed. It is called with the daemon's lock held.
func (p *program) follow(e daemon.Event) {
	switch e := e.(type) {
	case daemon.Reloaded:
		p.refused.Store(nil)
		if len(e.Failures) == 0 {
			p.log.Info("the files were put in force")
		} else {
			p.log.Error("the files were not put in force, or not all of them: firewall-cmd --state says what is wrong")
		}
	case daemon.PanicChanged, daemon.StateChanged:
	default:
		return
	}
	select {
	case p.changed <- struct{}{}:
	default: // it will be told as it is then
	}
}

// tellChanges tells the status whenever it may have changed.
func (p *program) tellChanges() {
	for range p.changed {
		fault.Guard(p.log, "telling the status", func() { p.tell(p.status()) })
	}
}

// leave ends the daemon without its rules, for another one that has taken its place. The guard, which stands if no rules of this one are
// in the kernel yet, goes: the other one does not know of it.
func (p *program) leave(guard *kernel.Guard) (status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), StopTime)
	defer cancel()
	return statusLost, errors.Join(errTaken, p.daemon.Leave(ctx), guard.Lower())
}

// stop ends the daemon, with its rules if the configuration says so.
func (p *program) stop() (status int, err error) {
	p.log.Info("the firewall stops")
	p.tell("STOPPING=1")
	p.bus.Close()
	ctx, cancel := context.WithTimeout(context.Background(), StopTime)
	defer cancel()
	err = p.daemon.Stop(ctx)
	if err == nil {
		return 0, nil
	}
	if p.daemon.Snapshot().Guarded {
		err = closed(err, "")
	}
	return statusFailed, err
}
