package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"richwall/compile"
	"richwall/internal/kernel"
	"richwall/internal/statedir"
	"richwall/zones"
)

// readTime is the longest that a start waits for the files: they may be on a network that does not answer. It and loadRest are
// variables for tests.
var (
	readTime = 20 * time.Second
	loadRest = zones.LoadRest
)

// mostRounds is how often a start leaves out what the back end or the kernel refuses. Each round leaves out all that one
// attempt has named.
const mostRounds = 20

// Start reads the configuration and installs it. It tries, in this order:
//
//  1. the files, without what is broken in them;
//  2. the last configuration that was installed without an error, where the files cannot be read, or leave it in doubt which
//     rules some packets are meant for;
//  3. the shipped configuration, only where no configuration was ever kept.
//
// The state is Failed unless all of the files is in force. The error is for the case that nothing could be installed: what
// the caller has put into the kernel before the start then still stands.
func (d *Daemon) Start(ctx context.Context) error {
	d.recallPanic()
	links := d.askManager(ctx)
	d.files.Lock()
	defer d.files.Unlock()
	failed, err := d.startWith(ctx, links)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = Running
	if d.repairs.waiting != "" {
		failed = append(failed, notInKernel)
	}
	if len(failed) > 0 {
		d.state, d.failures = Failed, failed
	}
	d.publish()
	return nil
}

// startWith installs the first configuration that can be installed. It returns what could not be used of the files.
func (d *Daemon) startWith(ctx context.Context, links map[string]string) (failed []string, err error) {
	folder, installed, none := d.opt.State.LastGood()
	failed, err = d.startFiles(ctx, links, folder)
	if err == nil || ctx.Err() != nil || errors.Is(err, errNoKernel) {
		return failed, err
	}
	d.opt.Log.Error("the configuration cannot be used", "reason", err)
	failed = append(failed, err.Error())
	switch {
	case none == nil:
		d.opt.Log.Error("the last good configuration is used instead", "installed", installed.Format(time.RFC3339), "folder", folder)
		return failed, d.startOther(ctx, zones.Dirs{System: folder, Default: d.opt.Dirs.Default}, links)
	case errors.Is(none, statedir.ErrNone):
		d.opt.Log.Error("there is no last good configuration: the shipped one is used instead")
		return failed, d.startOther(ctx, zones.Dirs{Default: d.opt.Dirs.Default}, links)
	}
	return failed, errors.Join(err, none)
}

// errDoubt is that the files leave it open which rules some packets are meant for.
var errDoubt = errors.New("without what cannot be used of it, some packets might be let in that should not")

// startFiles installs what the files say, without what cannot be used of them, and returns that. Where there is a last good
// configuration, in a folder, it does not install one that might let in more than the files mean. direct.xml alone does not
// decide about that: where it cannot be read the direct rules of the last good configuration stand in for it.
func (d *Daemon) startFiles(ctx context.Context, links map[string]string, good string) (failed []string, err error) {
	rest, err := d.readRest(ctx)
	if err != nil {
		return nil, err
	}
	d.logRest(rest)
	if good == "" {
		return d.startRest(ctx, rest.Config, nil, rest.Losses, links)
	}
	others := besideDirect(rest.Losses)
	if slices.ContainsFunc(others, func(l zones.Loss) bool { return l.Way == zones.Doubtful }) {
		return lossTexts(others), errDoubt
	}
	var before *zones.Direct
	if len(others) < len(rest.Losses) {
		if cfg, _ := zones.Load(zones.Dirs{System: good, Default: d.opt.Dirs.Default}); cfg != nil {
			before = cfg.Direct
			d.opt.Log.Error("direct.xml cannot be used as it is: the direct rules are those of the last good configuration", "folder", good)
		}
	}
	return d.startRest(ctx, rest.Config, before, rest.Losses, links)
}

// besideDirect are the losses of all but direct.xml. As with firewalld, the firewall's state is not Failed for that.
func besideDirect(losses []zones.Loss) []zones.Loss {
	return slices.DeleteFunc(slices.Clone(losses), func(l zones.Loss) bool { return l.Problem.Object.Kind == zones.KindDirect })
}

// readRest reads the files, without what is broken in them. The error is that they cannot be read in time.
func (d *Daemon) readRest(ctx context.Context) (*zones.Rest, error) {
	read, load := make(chan *zones.Rest, 1), loadRest
	go func() { read <- load(d.opt.Dirs, &zones.Config{}) }()
	select {
	case rest := <-read:
		return rest, nil
	case <-time.After(readTime):
		return nil, fmt.Errorf("%s could not be read within %v", d.opt.Dirs.System, readTime)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// startRest installs a configuration that some losses were left out of, without what the back end or the kernel refuses of it,
// and with other direct rules where they are given. It returns all that is left out.
func (d *Daemon) startRest(ctx context.Context, cfg *zones.Config, direct *zones.Direct, losses []zones.Loss, links map[string]string) (failed []string, err error) {
	for range mostRounds {
		runtime := cfg.ForRuntime()
		if direct != nil {
			runtime = runtime.WithDirect(direct)
		}
		if err = d.installFirst(ctx, runtime, links); err == nil {
			break
		}
		next, lost := leaveOut(cfg, blamed(err))
		if len(lost) == 0 {
			break
		}
		d.logLosses(lost)
		cfg, losses = next, append(losses, lost...)
	}
	failed = lossTexts(besideDirect(losses))
	if err != nil {
		return failed, err
	}
	d.mu.Lock()
	d.permanent = cfg
	whole := len(losses) == 0 && d.repairs.waiting == ""
	d.mu.Unlock()
	if whole {
		d.keepGood(cfg)
	}
	return failed, nil
}

// installFirst is installFor by one who does not hold the lock.
func (d *Daemon) installFirst(ctx context.Context, cfg *zones.Config, links map[string]string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.installFor(ctx, cfg, links)
}

// leaveOut is a configuration without what its problems are about, and without what refers to that. There are no losses if the
// problems are about nothing that can be left out.
func leaveOut(cfg *zones.Config, problems zones.Problems) (*zones.Config, []zones.Loss) {
	var losses []zones.Loss
	for len(problems) > 0 {
		next, lost := zones.LeaveOut(cfg, problems)
		if len(lost) == 0 {
			break
		}
		cfg, losses = next, append(losses, lost...)
		problems = zones.Check(cfg)
	}
	return cfg, losses
}

// lossTexts says what is lost, a line each.
func lossTexts(losses []zones.Loss) []string {
	texts := make([]string, len(losses))
	for i, l := range losses {
		texts[i] = l.String()
	}
	return texts
}

// blamed are the problems of the configuration that an error of an install is about; none if it is about something else.
func blamed(err error) zones.Problems {
	var compiled compile.Errors
	if errors.As(err, &compiled) {
		return compiled.Problems()
	}
	var list zones.Problems
	for _, e := range ruleErrors(err) {
		if e.Origin != nil {
			list = append(list, compile.Blame(e.Origin, CommandFailed, e.Err.Error()))
		}
	}
	return list
}

// ruleErrors are all the errors of the kernel in an error.
func ruleErrors(err error) []*kernel.RuleError {
	switch e := err.(type) {
	case *kernel.RuleError:
		return []*kernel.RuleError{e}
	case interface{ Unwrap() []error }:
		var list []*kernel.RuleError
		for _, inner := range e.Unwrap() {
			list = append(list, ruleErrors(inner)...)
		}
		return list
	case interface{ Unwrap() error }:
		return ruleErrors(e.Unwrap())
	}
	return nil
}

// logRest writes what is lost of the files, and what else is to be said of them.
func (d *Daemon) logRest(rest *zones.Rest) {
	d.logLosses(rest.Losses)
	for _, p := range rest.Problems {
		if p.Severity == zones.Warning {
			d.opt.Log.Warn(p.String())
		}
	}
}

func (d *Daemon) logLosses(losses []zones.Loss) {
	for _, l := range losses {
		d.opt.Log.Error(l.String())
	}
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

// startOther installs another configuration than the one in the files.
func (d *Daemon) startOther(ctx context.Context, dirs zones.Dirs, links map[string]string) error {
	cfg, problems := zones.Load(dirs)
	if cfg == nil {
		return problems.Err()
	}
	if err := d.installFirst(ctx, cfg.ForRuntime(), links); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.permanent = cfg
	return nil
}

// keepGood keeps a configuration that was installed without an error. files is held, and mu is not.
func (d *Daemon) keepGood(cfg *zones.Config) {
	if d.opt.State == nil {
		return
	}
	if err := d.opt.State.Keep(zones.Export(cfg), now()); err != nil {
		d.opt.Log.Error("cannot keep the configuration as the last good one: should the files break, an older one is used", "reason", err)
	}
}
