package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/zones"
)

// CompleteReload is Reload. firewalld unloads the kernel's modules in between, which ends all connections; here nothing is
// ever taken out, so there is nothing that a complete reload would do more.
func (d *Daemon) CompleteReload(ctx context.Context) error { return d.Reload(ctx) }

// CheckPermanent reads the files, compiles them, asks the kernel what it tells without a change, and reports what is wrong with them, as
// zones.Problems where that is in the files. What a reload refuses because a part of the files would be passed over is an error here, too.
// Folders that a reload takes for lost, what the kernel refuses, and that it does not answer in time, are an error with code
// COMMAND_FAILED.
func (d *Daemon) CheckPermanent(ctx context.Context) error {
	return d.CheckTelling(ctx, func(string) {})
}

// CheckTelling is CheckPermanent, which calls told with each warning about files that can be used.
func (d *Daemon) CheckTelling(ctx context.Context, told func(line string)) error {
	defer d.opt.Memory.Tidy() // what was read is not in use any more
	return ofFiles(d.checkPermanent(ctx, told))
}

func (d *Daemon) checkPermanent(ctx context.Context, told func(line string)) error {
	if err := d.missing(ctx); err != nil {
		return commandFailed(err)
	}
	before := cmp.Or(d.Snapshot().Permanent, &zones.Config{}) // what has not changed since is not kept twice
	r, err := d.readFiles(ctx, func() zones.Problems { return nil }, before)
	if err != nil {
		return err
	}
	cfg := r.rest.Config
	d.opt.Memory.Tidy()
	err = d.compilesAll(cfg)
	var refused compile.Errors
	if errors.As(err, &refused) {
		return refused.Problems().Err()
	}
	if err != nil {
		return err
	}
	d.opt.Memory.Tidy()
	if err := d.checkDevices(cfg); err != nil {
		return err
	}
	if err := d.checkKernel(ctx, cfg.ForRuntime()); err != nil {
		return err
	}
	for _, p := range r.problems.Shown() {
		told(p.String())
	}
	return nil
}

// checkDevices tells which interface of NftablesFlowtable there is not: the kernel would refuse the flow table.
func (d *Daemon) checkDevices(cfg *zones.Config) error {
	conf := cfg.Conf
	if d.opt.HasInterface == nil || conf.FirewallBackend != string(ir.NFTables) || conf.NftablesFlowtable == "off" {
		return nil
	}
	for name := range strings.FieldsSeq(conf.NftablesFlowtable) {
		if !d.opt.HasInterface(name) {
			return zones.Problems{{Path: filepath.Join(d.opt.Dirs.System, "firewalld.conf"), Code: CommandFailed, Object: zones.Object{Kind: zones.KindConf},
				Msg: fmt.Sprintf("cannot use NftablesFlowtable=%s: there is no interface %s", conf.NftablesFlowtable, name)}}
		}
	}
	return nil
}

// checkTime is the longest that somebody waits for what the kernel says of a configuration.
const checkTime = time.Minute

// checkKernel asks the kernel about a configuration, as far as it tells without a change: nftables has no dry run, so that of its rules
// only those of the direct interface are asked about. The back end may be another one than that in use. Nobody waits for the answer but who
// asks: changes go on meanwhile.
func (d *Daemon) checkKernel(ctx context.Context, cfg *zones.Config) error {
	backend := ir.Backend(cfg.Conf.FirewallBackend)
	d.mu.Lock()
	started, h, runtime := d.kernel != nil, d.history.Reloaded(), d.runtime
	running := d.repairs.waiting == ""
	d.mu.Unlock()
	if !started {
		return nil
	}
	if err := zones.CheckChainsGone(runtime.Direct, cfg.Direct); err != nil {
		return err
	}
	desired, err := askable(h, cfg, awaited(directChains(runtime), false))
	if err != nil {
		return err
	}
	d.mu.Lock()
	desired.Rules = compile.WithLinks(desired.Rules, d.links.known)
	d.mu.Unlock()
	desired.Running = running
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- d.guarded("asking the kernel", func() error {
			if desired.Rules != nil || desired.Direct != nil {
				if err := d.ask(ctx, backend, desired); err != nil {
					return chainRefusal(cfg.Direct, needed(cfg.Direct, desired.Direct != nil, err))
				}
			}
			return d.checkBridge(ctx, cfg)
		})
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("the kernel has not said what it refuses of the files: %w", ctx.Err())
	}
	if err != nil {
		return &Error{Code: CommandFailed, Msg: err.Error(), cause: err}
	}
	return nil
}

// askable is what of a configuration the kernel can be asked about.
func askable(h compile.History, cfg *zones.Config, awaits func(table, chain string, beside bool) bool) (*kernel.Desired, error) {
	if ir.Backend(cfg.Conf.FirewallBackend) == ir.NFTables {
		direct, _, err := h.Direct(cfg)
		return &kernel.Desired{Direct: direct, Awaits: awaits}, codeOf(err)
	}
	desired, _, err := desire(h, cfg, false, awaits)
	return desired, err
}

// ask has a Kernel of its own check what is desired: who changes something does not have to wait for his turn. Whoever asks waits for
// those who have asked before, also where nobody waits for their answers any more.
func (d *Daemon) ask(ctx context.Context, backend ir.Backend, desired *kernel.Desired) error {
	d.asking.Lock()
	defer d.asking.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	k, err := d.opt.Kernel(backend)
	if err != nil {
		return err
	}
	return errors.Join(k.Check(desired), k.Close())
}

// SetDefaultZone makes a zone the one for what is bound nowhere: in firewalld.conf, and at once. That it is so already is an error with code
// ZONE_ALREADY_SET.
func (d *Daemon) SetDefaultZone(ctx context.Context, zone string) error {
	links := d.askManager(ctx)
	if err := d.lockFiles(ctx); err != nil {
		return err
	}
	defer d.unlockFiles()
	runtime := d.Snapshot().Runtime
	if runtime.Zones[zone] == nil {
		return refuse(zones.InvalidZone, "%s", zone)
	}
	said, err := d.saysConf(ctx, "DefaultZone", zone)
	if err != nil {
		return err
	}
	inForce := runtime.Conf.DefaultZone == zone
	if inForce && said {
		return refuse(ZoneAlreadySet, "%s", zone)
	}
	return d.setConf(ctx, zones.SetDefaultZone(zone, false), inForce, links)
}

// SetLogDenied says which refused packets are logged: in firewalld.conf, and at once. That it is so already is an error with code ALREADY_SET.
func (d *Daemon) SetLogDenied(ctx context.Context, value string) error {
	links := d.askManager(ctx)
	if err := d.lockFiles(ctx); err != nil {
		return err
	}
	defer d.unlockFiles()
	said, err := d.saysConf(ctx, "LogDenied", value)
	if err != nil {
		return err
	}
	inForce := d.Snapshot().Runtime.Conf.LogDenied == value
	if inForce && said {
		return refuse(AlreadySet, "%s", value)
	}
	return d.setConf(ctx, zones.SetLogDenied(value, false), inForce, links)
}

// saysConf tells whether firewalld.conf gives a key a value, as zones.Store.Says does. The error is that the disk does not answer in time.
func (d *Daemon) saysConf(ctx context.Context, key, value string) (bool, error) {
	said, err := inTime(ctx, d, d.opt.Dirs.System, func() bool { return d.store.Says(key, value) })
	if err != nil {
		return false, commandFailed(err)
	}
	return said, nil
}

// setConf changes firewalld.conf and reloads; if the reload is refused the files are put back. Of a value that is in force while the daemon
// runs as the files say, only the line of the file is mended: there is nothing to reload. files is held.
func (d *Daemon) setConf(ctx context.Context, edit zones.Edit, inForce bool, links map[string]string) error {
	now := d.Snapshot()
	old := now.Permanent
	undo, err := d.editFiles(old, Change{Edit: edit}) // in the state Failed, too: the line may be what is wrong, and the reload tells
	if err != nil || inForce && now.State != Failed {
		return err
	}
	if err := d.reload(ctx, links); err != nil {
		d.putBack(old, undo)
		return err
	}
	return nil
}

// RuntimeToPermanent writes the runtime configuration to the files, but for what has a timeout, and for what NetworkManager has
// bound: it binds that again itself. What others have bound of its interfaces, it is told. As with firewalld, all zones and
// policies get a file of their own, also those that are as shipped: what was in force does not change with the shipped ones.
// What the files have and the runtime configuration has not, such as a zone made since the last reload, stays.
func (d *Daemon) RuntimeToPermanent(ctx context.Context) error {
	told := d.tellManager(ctx)
	if err := d.lockFiles(ctx); err != nil {
		return err
	}
	defer d.unlockFiles()
	permanent, next, err := d.lasting(told)
	if err != nil {
		return err
	}
	next, err = intoParts(permanent, next)
	if err != nil {
		return refuse(RTToPermFailed, "%v", err)
	}
	next = next.Keeping(permanent).OwnedAs(permanent)
	inFolder := permanent // without what is shipped, so that Save writes it
	for name, z := range next.Zones {
		if was := inFolder.Zones[name]; was != nil && was.Origin.Builtin {
			own := *z
			own.Origin = zones.Origin{Shadows: true}
			next, inFolder = next.WithZone(&own), inFolder.WithoutZone(z.Name)
		}
	}
	for name, p := range next.Policies {
		if was := inFolder.Policies[name]; was != nil && was.Origin.Builtin {
			own := *p
			own.Origin = zones.Origin{Shadows: true}
			next, inFolder = next.WithPolicy(&own), inFolder.WithoutPolicy(p.Name)
		}
	}
	if err = zones.Check(next).Err(); err == nil {
		err = d.accepts(permanent, next)
	}
	if err == nil {
		store := d.store
		store.Whole = true // the files are to hold all that runs, whatever somebody has made of them since they were read
		_, err = d.save(store, inFolder, next, nil)
	}
	if err != nil {
		return refuse(RTToPermFailed, "%v", err)
	}
	return nil
}

// lasting returns the permanent configuration, and the runtime one as far as it is to become permanent.
func (d *Daemon) lasting(told map[string]string) (permanent, runtime *zones.Config, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == Failed {
		return nil, nil, errFailed()
	}
	next := d.timed.without(d.runtime, d.permanent.ForRuntime())
	return d.permanent, d.withoutManaged(next.WithConf(d.permanent.Conf), told).KeepingUnusable(d.permanent), nil
}

// intoParts is a runtime configuration in which the zones that are made up of several files are that again: what has gone
// from such a zone goes from all its files, and what has come is in the first of them.
func intoParts(permanent, runtime *zones.Config) (*zones.Config, error) {
	folders := map[string][]string{} // the parts of each
	next := runtime
	for _, name := range zones.Names(permanent.ZoneParts) {
		folder := path.Dir(name)
		folders[folder] = append(folders[folder], name)
		next = next.WithZone(permanent.ZoneParts[name])
	}
	var edits []zones.Edit
	for _, change := range zones.Difference(permanent.ForRuntime(), runtime) {
		parts := folders[change.Object.Name]
		if change.Object.Kind != zones.KindZone || parts == nil {
			continue
		}
		for _, item := range change.Added {
			edits = append(edits, zones.Add(zones.Permanent, zones.Object{Kind: zones.KindZone, Name: parts[0]}, item))
		}
		for _, name := range parts {
			for _, item := range change.Removed {
				part := zones.Object{Kind: zones.KindZone, Name: name}
				if has, err := zones.Has(next, zones.Permanent, part, item); err != nil || !has {
					continue
				}
				var err error
				if next, err = zones.Remove(zones.Permanent, part, item)(next); err != nil {
					return nil, err
				}
			}
		}
	}
	return zones.Apply(next, edits...)
}

// ResetToDefaults takes away all that the administrator has made, keeping each file as NAME.old, and reloads. The files need not be
// readable for that, nor the state Running. direct.xml stays, unless something in it is refused: then it goes, too. If the reload is
// refused for anything else the files are put back.
func (d *Daemon) ResetToDefaults(ctx context.Context) error {
	links := d.askManager(ctx)
	if err := d.lockFiles(ctx); err != nil {
		return err
	}
	defer d.unlockFiles()
	err := d.reset(ctx, links)
	if aboutDirect(err) {
		d.opt.Log.Warn("direct.xml does not stay in the reset: it is kept beside its place", "reason", err)
		err = d.reset(ctx, links, "direct.xml")
	}
	if err != nil {
		return err
	}
	d.opt.Log.Warn("the configuration was reset: what is shipped is in force")
	return nil
}

// reset is one attempt of ResetToDefaults by one who holds files. also are files that go which could stay.
func (d *Daemon) reset(ctx context.Context, links map[string]string, also ...string) error {
	var next *zones.Config
	var undo func() error
	err := d.inWriteTime(func(keep func() bool) (err error) {
		next, undo, err = d.store.Reset(keep, also...)
		return err
	})
	if err != nil {
		return err
	}
	old := d.Snapshot().Permanent
	d.permanentIs(next, nil)
	if err := d.reload(ctx, links); err != nil {
		d.putBack(old, undo)
		return err
	}
	return nil
}

// aboutDirect tells whether files are refused for something in direct.xml.
func aboutDirect(err error) bool {
	var doubts doubtful
	if errors.As(err, &doubts) {
		return slices.ContainsFunc(doubts, isDirect)
	}
	return slices.ContainsFunc(wrong(err), func(p *zones.Problem) bool { return p.Object.Kind == zones.KindDirect })
}
