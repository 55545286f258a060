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

// readTime is the longest that a start waits for the files: they may be on a network that does not answer. It is a variable
// for tests.
var readTime = 20 * time.Second

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
	if len(failed) > 0 {
		d.state, d.failures = Failed, failed
	}
	d.publish()
	return nil
}

// recallPanic switches panic mode on if it was on when the last process ended.
func (d *Daemon) recallPanic() {
	on, err := d.opt.State.Panic()
	if err != nil {
		d.opt.Log.Error("cannot tell whether panic mode was on: it is switched on", "reason", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.panic = on; on {
		d.opt.Log.Warn("panic mode is on since before this start: no packet passes until firewall-cmd --panic-off")
	}
	d.publish()
}

// startWith installs the first configuration that can be installed. It returns what could not be used of the files.
func (d *Daemon) startWith(ctx context.Context, links map[string]string) (failed []string, err error) {
	rest, err := d.readRest(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	folder, installed, none := d.opt.State.LastGood()
	switch {
	case err != nil:
		d.opt.Log.Error("the configuration cannot be read", "reason", err)
		failed = append(failed, err.Error())
	case rest.Doubt() && none == nil:
		d.logProblems(rest.Problems)
		failed = append(failed, lossTexts(rest.Losses)...)
	default:
		d.logProblems(rest.Problems)
		lost, err := d.startRest(ctx, rest, links)
		if err == nil {
			return lost, nil
		}
		if d.kernel == nil && !errors.Is(err, errConfiguration) {
			return nil, err
		}
		d.opt.Log.Error("the configuration cannot be installed", "reason", err)
		failed = append(lost, err.Error())
	}
	switch {
	case none == nil:
		d.opt.Log.Error("the last good configuration is used instead", "installed", installed.Format(time.RFC3339), "folder", folder)
		return failed, d.startOther(ctx, zones.Dirs{System: folder, Default: d.opt.Dirs.Default}, links)
	case errors.Is(none, statedir.ErrNone):
		d.opt.Log.Error("there is no last good configuration: the shipped one is used instead")
		return failed, d.startOther(ctx, zones.Dirs{Default: d.opt.Dirs.Default}, links)
	}
	return nil, fmt.Errorf("neither the configuration nor the last good one can be used: %w", none)
}

// errConfiguration is the reason of an install that failed because of what is in a configuration.
var errConfiguration = errors.New("the configuration cannot be used")

// readRest reads the files, without what is broken in them. The error is that they cannot be read in time.
func (d *Daemon) readRest(ctx context.Context) (*zones.Rest, error) {
	read := make(chan *zones.Rest, 1)
	go func() { read <- zones.LoadRest(d.opt.Dirs, &zones.Config{}) }()
	select {
	case rest := <-read:
		return rest, nil
	case <-time.After(readTime):
		return nil, fmt.Errorf("%s could not be read within %v", d.opt.Dirs.System, readTime)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// startRest installs what the files say, without what is broken in them and without what the back end or the kernel refuses.
// It returns all that is left out.
func (d *Daemon) startRest(ctx context.Context, rest *zones.Rest, links map[string]string) (failed []string, err error) {
	cfg, losses := rest.Config, slices.Clone(rest.Losses)
	for range mostRounds {
		d.mu.Lock()
		err = d.installFor(ctx, cfg.ForRuntime(), links)
		d.mu.Unlock()
		if err == nil {
			break
		}
		problems := blamed(err)
		next, lost := zones.LeaveOut(cfg, problems)
		if len(lost) == 0 {
			return lossTexts(losses), fmt.Errorf("%w: %w", errConfiguration, err)
		}
		d.logProblems(problems)
		cfg, losses = next, append(losses, lost...)
	}
	if err != nil {
		return lossTexts(losses), err
	}
	for _, l := range losses {
		d.opt.Log.Error(l.String())
	}
	d.mu.Lock()
	d.permanent = cfg
	d.mu.Unlock()
	if len(losses) == 0 {
		d.keepGood(cfg)
	}
	return lossTexts(slices.DeleteFunc(losses, func(l zones.Loss) bool { return l.Problem.Object.Kind == zones.KindDirect })), nil
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

// startOther installs another configuration than the one in the files.
func (d *Daemon) startOther(ctx context.Context, dirs zones.Dirs, links map[string]string) error {
	cfg, problems := zones.Load(dirs)
	if cfg == nil {
		return problems.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.installFor(ctx, cfg.ForRuntime(), links); err != nil {
		return err
	}
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
