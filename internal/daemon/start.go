package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lost"
	"richwall/internal/statedir"
	"richwall/zones"
)

// Start reads the configuration and installs it. It tries, in this order:
//
//  1. the files, without what is broken in them;
//  2. the last configuration that was installed without an error, where the files cannot be read, or leave it in doubt which
//     rules some packets are meant for;
//  3. the shipped configuration, only where the files cannot be read and no configuration was ever kept;
//  4. rules that let nothing new in, so that the firewall can be asked and mended.
//
// The state is Failed unless all of the files is in force. The error is for the case that nothing could be installed, because the packet
// filter cannot be used: what the caller has put into the kernel before the start then still stands, and it is the caller's to keep out
// what the rules of an earlier process let in.
func (d *Daemon) Start(ctx context.Context) error {
	d.recallPanic()
	links := d.askManager(ctx)
	if err := d.lockFiles(ctx); err != nil {
		return err
	}
	defer d.unlockFiles()
	failed, inFiles, err := d.startWith(ctx, links)
	if err != nil {
		return err
	}
	d.started(failed, inFiles)
	d.reservePanic()
	return nil
}

// started notes what could not be used of the configuration that is installed now, and what the files hold; nil is that this is not known.
func (d *Daemon) started(failed []string, inFiles *zones.Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(failed) > 0 {
		failed = append(failed, d.remedy())
	}
	if d.repairs.waiting != "" {
		failed = append(failed, d.notInForce())
	}
	d.state, d.failures = Running, failed
	if len(failed) > 0 {
		d.state = Failed
	}
	if d.readable = inFiles != nil; d.readable && d.state == Failed {
		d.permanent = inFiles
	}
	d.publish()
}

// remedy says how the files come into force again.
func (d *Daemon) remedy() string {
	return fmt.Sprintf("to end this: mend what is named here, see what firewall-cmd --check-config and richwall check %s say, and run firewall-cmd --reload", d.opt.Dirs.System)
}

// startWith installs the first configuration that can be installed. It returns what could not be used of the files, and what they
// hold.
func (d *Daemon) startWith(ctx context.Context, links map[string]string) (failed []string, inFiles *zones.Config, err error) {
	good := d.lastGood()
	defer func() { failed = good.linked(failed) }()
	if good.damaged != nil {
		d.opt.Log.Error("the last good configuration cannot be used", "reason", good.damaged)
	}
	rest, err := d.findFiles(ctx, good)
	if err == nil {
		inFiles = rest.Files
		failed, err = d.startFiles(ctx, rest, links, good)
	}
	if err == nil || ends(ctx, err) {
		return failed, inFiles, err
	}
	d.opt.Log.Error("the configuration cannot be used", "reason", err)
	failed = append(failed, err.Error())
	dirs, instead := d.goodDirs(good), ""
	switch {
	case good.damaged != nil:
		failed, err = d.startClosed(ctx, links, append(failed, good.damaged.Error()))
		return failed, inFiles, err
	case good.folder != "":
		d.opt.Log.Error("the last good configuration is used instead",
			"installed", good.installed.Local().Format(time.RFC3339), "folder", good.link)
		instead = fmt.Sprintf("in force instead is the last good configuration, of %s, in %s", good.installed.Local().Format(time.DateTime), good.link)
	case inFiles != nil: // the shipped configuration may let in more than they do
		failed, err = d.startClosed(ctx, links, failed)
		return failed, inFiles, err
	default:
		d.opt.Log.Error("there is no last good configuration: the shipped one is used instead")
		instead = "in force instead is the shipped configuration: no other was ever installed"
	}
	err = d.startOther(ctx, dirs, links)
	if err == nil || ends(ctx, err) {
		return append(failed, instead), inFiles, err
	}
	d.opt.Log.Error("that cannot be used either", "reason", good.named(err.Error()))
	failed, err = d.startClosed(ctx, links, append(failed, err.Error()))
	return failed, inFiles, err
}

// ends tells whether an error is one for which no configuration can be installed.
func ends(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, errNoKernel) || errors.Is(err, errStopped)
}

// startClosed installs rules that let nothing new in, when neither the files nor anything else can be used. firewalld.conf may be what is
// broken: the back end is nftables, and iptables where the kernel has no nf_tables.
func (d *Daemon) startClosed(ctx context.Context, links map[string]string, failed []string) ([]string, error) {
	const instead = "nothing new is let in but loopback, DHCP and neighbour discovery; for the shipped configuration, run firewall-cmd --reset-to-defaults"
	d.opt.Log.Error(instead)
	failed = append(failed, instead)
	err := d.startConfig(ctx, zones.Closed(string(ir.NFTables)), links)
	if errors.Is(err, errNoKernel) {
		err = d.startConfig(ctx, zones.Closed(string(ir.IPTables)), links)
	}
	return failed, err
}

// lastGood is the last good configuration; the zero value is that none was ever kept.
type lastGood struct {
	folder    string
	link      string // to the folder, for messages
	installed time.Time
	damaged   error // there is one, and it cannot be used
	silent    bool  // that is because the state folder does not answer
	held      lost.Held
}

func (g lastGood) none() bool { return g.folder == "" && g.damaged == nil }

// linked is texts that name the link to the folder in place of the folder, whose name changes with each configuration that is kept.
func (g lastGood) linked(texts []string) []string {
	for i := range texts {
		texts[i] = g.named(texts[i])
	}
	return texts
}

// named is linked of one text.
func (g lastGood) named(text string) string {
	if g.folder == "" {
		return text
	}
	return strings.ReplaceAll(text, g.folder, g.link)
}

// stateFolder names the folder of the last good configuration in messages.
const stateFolder = "the folder of the last good configuration"

func (d *Daemon) lastGood() lastGood {
	g, err := askState(context.Background(), d, func() (g lastGood) {
		g.folder, g.installed, g.damaged = d.opt.State.LastGood()
		if g.folder != "" {
			g.link = d.opt.State.Link()
		}
		g.held = lost.HeldBy(g.folder)
		return g
	})
	switch {
	case err != nil:
		return lastGood{damaged: err, silent: true, held: lost.HeldBy("")}
	case errors.Is(g.damaged, statedir.ErrNone):
		return lastGood{}
	}
	return g
}

// errDoubt is that the files leave it open which rules some packets are meant for.
var errDoubt = errors.New("the files are not used: without what is broken in them, packets could be let in that they are meant to refuse")

// findFiles reads the files, without what is broken in them. The error is that they cannot be read, or are not there.
func (d *Daemon) findFiles(ctx context.Context, good lastGood) (*zones.Rest, error) {
	rest, err := d.readRest(ctx)
	if err == nil && !good.none() {
		err = d.missing(ctx)
	}
	return rest, err
}

// startFiles installs what the files say, without what cannot be used of them, and returns that. Where a last good configuration
// was kept, it does not install one that might let in more than the files mean. direct.xml alone does not decide about that:
// the direct rules of the last good configuration stand in for those that cannot be used.
func (d *Daemon) startFiles(ctx context.Context, rest *zones.Rest, links map[string]string, good lastGood) (failed []string, err error) {
	if good.none() {
		cfg, losses := rest.Closed()
		d.logWarnings(rest.Problems)
		return d.startRest(ctx, cfg, losses, links, good)
	}
	var silent error
	if good.silent {
		silent = good.damaged
	}
	if err := d.lostConf(ctx, rest, silent); err != nil {
		return nil, err
	}
	losses, err := d.besideGood(ctx, rest, good)
	if err != nil {
		return nil, err
	}
	if decisive := good.decisive(losses); zones.InDoubt(decisive) {
		d.logProblems(rest.Problems)
		for _, l := range decisive {
			failed = append(failed, l.Problem.Cause())
		}
		return failed, errDoubt
	}
	d.logWarnings(rest.Problems)
	d.logUnsaid(rest, d.goodConf(good))
	return d.startRest(ctx, rest.Config, losses, links, good)
}

// besideGood are the losses that count beside the last good configuration; all of them where it is not known. The error is that the context
// has ended.
func (d *Daemon) besideGood(ctx context.Context, rest *zones.Rest, good lastGood) ([]zones.Loss, error) {
	if good.folder == "" || len(rest.Losses) == 0 {
		return rest.Losses, nil
	}
	before, err := d.loadOther(ctx, d.goodDirs(good))
	if err != nil {
		d.opt.Log.Error("the files cannot be compared with the last good configuration", "reason", good.named(err.Error()))
		return rest.Losses, ctx.Err()
	}
	return rest.Beside(withoutKeeping(before)), nil // at a start there is nothing to keep
}

// goodDirs are the folders of the last good configuration.
func (d *Daemon) goodDirs(good lastGood) zones.Dirs {
	return zones.Dirs{System: good.folder, Default: d.opt.Dirs.Default, Follow: true, Room: d.opt.Dirs.Room}
}

// goodConf is firewalld.conf of the last good configuration; nil if it is not known.
func (d *Daemon) goodConf(good lastGood) *zones.Conf {
	data := d.readGood(good, "firewalld.conf")
	if data == nil {
		return nil
	}
	conf, _ := zones.ReadConf(data, "")
	return conf
}

// logUnsaid warns of the keys of firewalld.conf that had another value before, if it is known, and that no line sets any more: they
// may have been taken out, or a part of the file may be lost.
func (d *Daemon) logUnsaid(rest *zones.Rest, before *zones.Conf) {
	if before == nil {
		return
	}
	for _, was := range rest.Unsaid(before) {
		d.opt.Log.Warn("a key of firewalld.conf is not set any more: its default is used", "was", was)
	}
}

// readRest reads the files, without what is broken in them. The error is that they cannot be read in time.
func (d *Daemon) readRest(ctx context.Context) (*zones.Rest, error) {
	load := loadRest
	return inTime(ctx, d, d.opt.Dirs.System, func() *zones.Rest {
		d.logProblems(d.store.TakeBack())
		return load(d.opt.Dirs, &zones.Config{})
	})
}

// startRest installs a configuration that some losses were left out of, without what the back end or the kernel refuses of it. Each attempt
// leaves out all that the one before has named, so that there are no more attempts than there is to leave out. It returns all that is left
// out, or with an error what is wrong. Where a last good configuration was kept, it ends with errDoubt when leaving out might let in more.
func (d *Daemon) startRest(ctx context.Context, cfg *zones.Config, losses []zones.Loss, links map[string]string, good lastGood) (failed []string, err error) {
	p := &part{cfg: cfg, good: good}
	hosts := len(ofDirect(losses)) == 0
	d.lose(p, losses)
	d.await(p)
	for err = d.attempt(ctx, p.whole(), links); err != nil; err = d.attempt(ctx, p.whole(), links) {
		hosts = hosts && hostsAlone(err)
		lost := p.leaveOut(blamed(err))
		if len(lost) == 0 {
			return p.causes(), err
		}
		d.lose(p, lost)
		if !good.none() && zones.InDoubt(good.decisive(lost)) {
			return p.causes(), errDoubt
		}
	}
	d.mu.Lock()
	d.permanent, d.loaded = p.cfg, p.whole()
	d.awaitHosts(p.unheard(cfg, hosts))
	whole, waits := len(p.losses) == 0, d.repairs.waiting != ""
	if whole && waits {
		d.unkept = p.cfg
	}
	d.mu.Unlock()
	if whole && !waits {
		d.keepGood(p.cfg)
	}
	return p.failed(), nil
}

// attempt installs a configuration of files, all of which must compile.
func (d *Daemon) attempt(ctx context.Context, cfg *zones.Config, links map[string]string) error {
	if err := d.compilesUnused(cfg); err != nil {
		return err
	}
	return d.installFirst(ctx, cfg.ForRuntime(), links)
}

// errStopped is that the daemon was stopped while it was starting.
var errStopped = errors.New("the daemon was stopped")

// installFirst is installFor for a start, by one who does not hold the lock.
func (d *Daemon) installFirst(ctx context.Context, cfg *zones.Config, links map[string]string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.repairs.stopped {
		return errStopped
	}
	d.starting = true
	defer func() { d.starting = false }()
	err := d.installFor(ctx, cfg, links)
	if err == nil {
		d.unkept = nil // what waited before does not come into force any more
	}
	return err
}

// startAgain starts with the files once more, because the kernel was busy at first and then has refused something in them. Until it
// succeeds, nothing new is let in.
func (d *Daemon) startAgain() {
	ctx := context.Background()
	links := d.askManager(ctx)
	err := d.guarded("the start", func() error {
		if err := d.lockFiles(ctx); err != nil {
			return err
		}
		defer d.unlockFiles()
		return d.startLocked(ctx, links)
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && !d.repairs.stopped && d.repairs.waiting != "" {
		d.waitForKernel(err)
	}
}

// startLocked is startAgain by one who holds files.
func (d *Daemon) startLocked(ctx context.Context, links map[string]string) error {
	d.mu.Lock()
	waits, before := d.repairs.waiting != "", d.permanent
	d.mu.Unlock()
	if !waits { // a reload was quicker
		return nil
	}
	failed, inFiles, err := d.startWith(ctx, links)
	if err != nil {
		return err
	}
	d.started(failed, inFiles)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timed.stop()
	d.publish()
	d.emit(Reloaded{Old: before, New: d.permanent, Failures: d.failures})
	return nil
}

// lossTexts says what is lost, a line each.
func lossTexts(losses []zones.Loss) []string {
	texts := make([]string, len(losses))
	for i, l := range losses {
		texts[i] = l.String()
	}
	return texts
}

// blamed are the problems of the configuration that an error of an install is about; none if it is about something else. What is said of
// several rules that come from one is said once.
func blamed(err error) zones.Problems {
	var compiled compile.Errors
	if errors.As(err, &compiled) {
		return compiled.Problems()
	}
	var list zones.Problems
	said := map[zones.Problem]bool{}
	for _, e := range ruleErrors(err) {
		if e.Origin == nil {
			continue
		}
		msg := e.Err.Error()
		if e.Origin.Object == "direct" && !strings.Contains(msg, e.Chain) { // the message quotes neither the rule nor its chain
			msg = "chain " + e.Chain + ": " + msg
		}
		p := compile.Blame(e.Origin, CommandFailed, msg)
		if !said[*p] {
			list = append(list, p)
		}
		said[*p] = true
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

func (d *Daemon) logWarnings(list zones.Problems) {
	for _, p := range list {
		if p.Severity == zones.Warning {
			d.opt.Log.Warn(p.Unlabelled())
		}
	}
}

// logProblems logs what is wrong with files that are not used.
func (d *Daemon) logProblems(list zones.Problems) {
	for _, p := range list {
		if p.Severity == zones.Error {
			d.opt.Log.Error(p.Cause())
		} else {
			d.opt.Log.Warn(p.Cause())
		}
	}
}

// loadOther loads another configuration than the one in the files. The error is the Problems, or that it cannot be read in time.
func (d *Daemon) loadOther(ctx context.Context, dirs zones.Dirs) (*zones.Config, error) {
	type result struct {
		cfg      *zones.Config
		problems zones.Problems
	}
	r, err := askState(ctx, d, func() (r result) {
		r.cfg, r.problems = zones.Load(dirs)
		return r
	})
	if err == nil && r.cfg == nil {
		err = r.problems.Err()
	}
	return r.cfg, err
}

// startOther installs another configuration than the one in the files.
func (d *Daemon) startOther(ctx context.Context, dirs zones.Dirs, links map[string]string) error {
	cfg, err := d.loadOther(ctx, dirs)
	if err != nil {
		return err
	}
	return d.startConfig(ctx, cfg, links)
}

// startConfig installs a configuration that is not that of the files.
func (d *Daemon) startConfig(ctx context.Context, cfg *zones.Config, links map[string]string) error {
	d.mu.Lock()
	d.awaits = nil
	d.awaitHosts(nil)
	d.mu.Unlock()
	if err := d.installFirst(ctx, cfg.ForRuntime(), links); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.permanent, d.loaded = cfg, cfg
	return nil
}

// keepUnkept keeps the configuration that has waited for the kernel as the last good one, unless there is a newer one.
func (d *Daemon) keepUnkept() {
	if err := d.lockFiles(context.Background()); err != nil {
		d.opt.Log.Error("the configuration is not kept as the last good one", "reason", err)
		return
	}
	defer d.unlockFiles()
	d.mu.Lock()
	cfg := d.unkept
	d.unkept = nil
	d.mu.Unlock()
	if cfg != nil {
		d.keepGood(cfg)
	}
}
