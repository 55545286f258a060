package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"richwall/compile"
	"richwall/zones"
)

// Change is an edit that somebody asks for.
type Change struct {
	Edit zones.Edit
	// Timeout takes out again what the edit adds after this time; 0 keeps it. For it Undo and There are needed.
	Timeout time.Duration
	Key     string                   // names what the edit adds: the same key starts its time anew
	Undo    zones.Edit               // takes it out
	There   func(*zones.Config) bool // whether it is in a configuration
	Whole   zones.Object             // the object whose settings it sets as a whole; the zero Object for a single item
	// What the caller said, for signals that repeat it.
	Sender  string            // the caller's name on the bus
	Text    string            // a rich rule as written
	Manager bool              // NetworkManager asks: what it binds stays out of the files
	Told    func(line string) // is called for what the caller should know of a change that is made; nil for nobody
	InPanic bool              // it may be made in panic mode, too: it is about sets or the direct interface
}

// ChangeRuntime edits the runtime configuration.
func (d *Daemon) ChangeRuntime(ctx context.Context, c Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if (d.panic || d.emergency.Load()) && !c.InPanic {
		return &Error{Code: PanicMode}
	}
	d.forgetUnheard(c.Edit)
	old := d.runtime
	next, err := c.Edit(old)
	if err != nil {
		return err
	}
	if err := zones.CheckChainsGone(old.Direct, next.Direct); err != nil {
		return err
	}
	if err := d.commitRuntime(ctx, next); err != nil {
		return err
	}
	d.noteManaged(old, next, c.Manager)
	d.keepTimed(next)
	if c.Timeout > 0 {
		d.timed.set(c.Key, timedEntry{deadline: now().Add(c.Timeout), there: c.There, remove: c.Undo, whole: c.Whole})
	}
	if next != old {
		d.emit(RuntimeChanged{Old: old, New: next, Change: &c})
	}
	return nil
}

// ChangePermanent edits the permanent configuration and its files. The kernel is not touched: a reload does that.
func (d *Daemon) ChangePermanent(c Change) error {
	if err := d.lockFiles(context.Background()); err != nil {
		return err
	}
	defer d.unlockFiles()
	edit := c.Edit
	_, err := d.changePermanent(c)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.forgetUnheard(edit)
	}
	return err
}

// changePermanent is ChangePermanent by one who holds files. The function puts the files back.
func (d *Daemon) changePermanent(c Change) (undo func() error, err error) {
	now := d.Snapshot()
	if now.State == Failed && !d.readable {
		return nil, errFailed()
	}
	return d.editFiles(now.Permanent, c)
}

// editFiles is changePermanent of a permanent configuration, in any state.
func (d *Daemon) editFiles(old *zones.Config, c Change) (undo func() error, err error) {
	next, err := c.Edit(old)
	if err != nil {
		return nil, err
	}
	c.Edit = nil // it may hold much
	if next == old {
		return func() error { return nil }, nil
	}
	if err := d.room(old, next, permanentCosts); err != nil {
		return nil, err
	}
	if err := d.accepts(old, next); err != nil {
		return nil, err
	}
	return d.save(d.store, old, next, &c)
}

// errFailed is why the files cannot be changed while it is not known what they hold, and why the runtime configuration, of which a part
// is missing, cannot become the permanent one.
func errFailed() error {
	return refuse(RunningButFailed, "a part of the configuration in the files could not be used: mend what firewall-cmd --state names, then run firewall-cmd --reload")
}

// accepts is nil when what an edit has made of the permanent configuration can be installed, as far as the edit is concerned.
// What was wrong before stays, and can be mended step by step. files is held.
func (d *Daemon) accepts(old, next *zones.Config) error {
	if err := zones.Brought(old, next).Err(); err != nil {
		return err
	}
	if d.checked.Empty() {
		d.mu.Lock()
		d.checked = d.history.Reloaded()
		d.mu.Unlock()
	}
	checked, err := d.checked.CheckEdit(old, next)
	if err != nil {
		return err
	}
	if d.opt.Memory == nil { // else what was compiled is dropped, and the next edit compiles again what they both change
		d.checked = checked
	} else {
		d.checked = compile.History{}
		d.opt.Memory.Tidy()
	}
	return nil
}

// save writes the next permanent configuration, of which the folder holds old, and makes it current. files is held. The error is also that
// a reload would take the files for lost.
// The function puts the files back.
func (d *Daemon) save(store zones.Store, old, next *zones.Config, c *Change) (undo func() error, err error) {
	if err := d.lost(context.Background()); err != nil {
		return nil, err
	}
	var stored *zones.Config
	var written zones.Written
	d.opt.Memory.Tidy()
	kept := d.kept
	store.KeepsOld = func(path string) bool { return kept[path] }
	err = d.inWriteTime(func(keep func() bool) (err error) {
		stored, written, err = saveFiles(store, old, next, keep)
		return err
	})
	if err != nil {
		return nil, err
	}
	d.kept = map[string]bool{}
	maps.Copy(d.kept, kept)
	for _, s := range written.Strange {
		d.kept[s.Path] = true
		d.opt.Log.Warn("a file that somebody else had changed was written over: what it held is kept beside it until the next reload", "file", s.Path, "kept", s.Kept)
		if c != nil && c.Told != nil {
			c.Told(fmt.Sprintf("%s was changed by somebody else, and was written over: what it held is kept in %s until the next reload", s.Path, s.Kept))
		}
	}
	d.permanentIs(stored, c)
	return written.Undo, nil
}

// putBack makes files what they were before a change that is not in force, and old the permanent configuration. files is held.
func (d *Daemon) putBack(old *zones.Config, undo func() error) {
	if err := d.inWriteTime(func(func() bool) error { return undo() }); err != nil {
		d.opt.Log.Error("cannot put the files back", "reason", err)
	}
	d.permanentIs(old, nil)
}

// permanentIs makes a configuration that is in the files the permanent one. files is held.
func (d *Daemon) permanentIs(stored *zones.Config, c *Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.permanent
	d.permanent = stored
	d.publish()
	d.emit(PermanentChanged{Old: before, New: stored, Change: c})
}

// Reload reads the files anew and makes them the runtime configuration, in one transaction. Files that cannot be used
// change nothing.
func (d *Daemon) Reload(ctx context.Context) error {
	links := d.askManager(ctx)
	if err := d.lockFiles(ctx); err != nil {
		return err
	}
	defer d.unlockFiles()
	if err := d.missing(ctx); err != nil {
		return commandFailed(err)
	}
	return d.reload(ctx, links)
}

// reload is Reload by one who holds files, of folders that are as they are meant.
func (d *Daemon) reload(ctx context.Context, links map[string]string) error {
	d.opt.Memory.Tidy()
	loaded, err := d.readAgain(ctx)
	if err != nil {
		return ofFiles(err)
	}
	if err := d.compilesUnused(loaded); err != nil {
		if list := blamed(err); len(list) > 0 {
			return list.Err()
		}
		return codeOf(err)
	}
	if err := d.enforce(ctx, loaded, links); err != nil {
		return ofFiles(err)
	}
	d.told, d.unusable, d.checked, d.kept = nil, false, compile.History{}, nil
	d.keepGood(loaded)
	return nil
}

// readAgain reads the files to use them. The errors are those of readFiles.
func (d *Daemon) readAgain(ctx context.Context) (*zones.Config, error) {
	d.mu.Lock()
	before, conf, failed := d.permanent, d.loaded.Conf, d.state == Failed
	d.mu.Unlock()
	r, err := d.readFiles(ctx, d.store.TakeBack, before)
	if err != nil {
		d.logProblems(r.problems)
		return nil, err
	}
	d.logWarnings(r.problems)
	if failed { // what is in force may be of no file
		conf = d.goodConf(d.lastGood())
	}
	d.logUnsaid(r.rest, conf)
	return r.rest.Config, nil
}

// inFiles is what the files hold, and what is wrong with them. There is no rest if that is not known.
type inFiles struct {
	rest     *zones.Rest
	problems zones.Problems
}

// readFiles reads the files, after first has made them ready. Objects of files that have not changed are those of a configuration that was
// read before. The error is the Problems, in the words of a load; that the files cannot be read in time; that firewalld.conf is lost; or
// that more might be let in than by the configuration in force, for what is passed over in them.
func (d *Daemon) readFiles(ctx context.Context, first func() zones.Problems, before *zones.Config) (inFiles, error) {
	load := loadRest
	r, err := inTime(ctx, d, d.opt.Dirs.System, func() (r inFiles) {
		if r.problems = first(); r.problems.Err() != nil {
			return r
		}
		r.rest = load(d.opt.Dirs, before)
		wrong := r.rest.Problems
		if wrong.Err() != nil { // some may be wrong only because others are left out
			if _, now := d.store.LoadAgain(before); now.Err() != nil {
				wrong = now
			}
		}
		r.problems = append(r.problems, wrong...)
		return r
	})
	if err != nil {
		return inFiles{}, commandFailed(err)
	}
	if err := r.problems.Err(); err != nil {
		return r, err
	}
	if err := d.lostConf(ctx, r.rest, nil); err != nil {
		return r, commandFailed(err)
	}
	d.mu.Lock()
	inForce, runtime := d.loaded, d.runtime
	d.mu.Unlock()
	if !inForce.Conf.FlushAllOnReload && !flushes(runtime, inForce, r.rest.Config) {
		inForce = withoutKeeping(inForce)
	}
	if doubts := r.rest.Beside(inForce); len(doubts) > 0 {
		return r, inDoubt(doubts)
	}
	return r, nil
}

// doubtful is why files are refused for what is passed over in them.
type doubtful []zones.Loss

func (l doubtful) Error() string {
	return "the files are not used, because a part of them would be passed over:\n" + strings.Join(lossTexts(l), "\n")
}

// inDoubt refuses files for what is passed over in them. That something is there already, such as a setting, is harmless of an item that is
// added, and not here.
func inDoubt(doubts doubtful) error {
	code := doubts[0].Problem.Code
	if code == zones.AlreadyEnabled {
		code = CommandFailed
	}
	return &Error{Code: code, Msg: doubts.Error(), cause: doubts}
}

// enforce makes a permanent configuration that was just read the runtime one, too.
func (d *Daemon) enforce(ctx context.Context, loaded *zones.Config, links map[string]string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := loaded.ForRuntime()
	if !loaded.Conf.FlushAllOnReload {
		next = keepRuntime(d.runtime, next).WithDirect(next.Direct.With(d.runtime.Direct, d.loaded.Direct))
	}
	old, before := d.runtime.Conf, d.permanent
	if err := zones.CheckChainsGone(d.runtime.Direct, next.Direct); err != nil {
		return err
	}
	if err := d.installFor(ctx, next, links); err != nil {
		return err
	}
	d.permanent, d.loaded, d.state, d.failures, d.unkept, d.readable = loaded, loaded, Running, nil, nil, true
	d.awaitHosts(nil)
	d.timed.stop()
	d.publish()
	if next.Conf.DefaultZone != old.DefaultZone {
		d.emit(DefaultZoneChanged{Zone: next.Conf.DefaultZone})
	}
	if next.Conf.LogDenied != old.LogDenied {
		d.emit(LogDeniedChanged{Value: next.Conf.LogDenied})
	}
	d.emit(Reloaded{Old: before, New: loaded})
	return nil
}

// keepRuntime is a new configuration with what FlushAllOnReload=no keeps of the runtime one, beside direct rules: which zone an
// interface is in, and sets and their entries.
func keepRuntime(old, next *zones.Config) *zones.Config {
	for _, name := range zones.Names(old.Zones) {
		for _, iface := range old.Zones[name].Interfaces {
			if next.Zones[name] == nil {
				continue
			}
			item := zones.Item{Key: zones.KeyInterface, Args: []string{iface}}
			if edited, err := zones.Rebind(zones.Runtime, name, item)(next); err == nil {
				next = edited
			}
		}
	}
	for name, set := range old.IPSets {
		switch now := next.IPSets[name]; {
		case now == nil:
			next = next.WithIPSet(set)
		case now.Type == set.Type && now.Family() == set.Family():
			next = next.WithIPSet(joined(now, set))
		}
	}
	return next
}

// flushes tells whether a reload would forget something that FlushAllOnReload=no keeps of the runtime configuration. before is what was
// loaded last.
func flushes(runtime, before, loaded *zones.Config) bool {
	next := loaded.ForRuntime()
	kept := keepRuntime(runtime, next).WithDirect(next.Direct.With(runtime.Direct, before.Direct))
	return len(zones.Difference(next, kept)) > 0
}

// withoutKeeping is a configuration as one that keeps nothing of the runtime configuration at a reload.
func withoutKeeping(c *zones.Config) *zones.Config {
	conf := *c.Conf
	conf.FlushAllOnReload = true
	return c.WithConf(&conf)
}

// joined is a set with the entries that it has in the files and those that it had.
func joined(now, old *zones.IPSet) *zones.IPSet {
	kept := *now
	if now.Expires() == old.Expires() {
		kept.Timed = old.Timed
	}
	if now.Expires() {
		return &kept
	}
	known := make(map[string]bool, len(now.Entries))
	for _, entry := range now.Entries {
		known[entry] = true
	}
	kept.Entries = slices.Clone(now.Entries)
	for _, entry := range old.Entries {
		if !known[entry] {
			kept.Entries = append(kept.Entries, entry)
		}
	}
	return &kept
}
