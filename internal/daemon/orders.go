package daemon

import (
	"context"
	"slices"

	"richwall/zones"
)

// CompleteReload is Reload. firewalld unloads the kernel's modules in between, which ends all connections; here nothing is
// ever taken out, so there is nothing that a complete reload would do more.
func (d *Daemon) CompleteReload(ctx context.Context) error { return d.Reload(ctx) }

// CheckPermanent reads the files and reports what is wrong with them, as zones.Problems.
func (d *Daemon) CheckPermanent() error {
	_, problems := d.store.Load()
	return problems.Err()
}

// SetDefaultZone makes a zone the one for what is bound nowhere: in firewalld.conf, and at once.
func (d *Daemon) SetDefaultZone(ctx context.Context, zone string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runtime.Zones[zone] == nil {
		return refuse(zones.InvalidZone, "%s", zone)
	}
	if d.runtime.Conf.DefaultZone == zone {
		return refuse(ZoneAlreadySet, "%s", zone)
	}
	return d.setConf(ctx, zones.SetDefaultZone(zone))
}

// SetLogDenied says which refused packets are logged: in firewalld.conf, and at once.
func (d *Daemon) SetLogDenied(ctx context.Context, value string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runtime.Conf.LogDenied == value {
		return refuse(AlreadySet, "%s", value)
	}
	if err := d.setConf(ctx, zones.SetLogDenied(value)); err != nil {
		return err
	}
	d.emit(LogDeniedChanged{Value: value})
	return nil
}

// setConf changes the permanent configuration and reloads; if the reload is refused the files are put back.
func (d *Daemon) setConf(ctx context.Context, edit zones.Edit) error {
	old := d.permanent
	if err := d.changePermanent(Change{Edit: edit}); err != nil {
		return err
	}
	if err := d.reload(ctx); err != nil {
		if back := d.save(d.permanent, old, nil); back != nil {
			d.opt.Log.Error("cannot put the files back", "reason", back)
		}
		return err
	}
	return nil
}

// RuntimeToPermanent writes the runtime configuration to the files, but for what NetworkManager has bound: it binds that
// again itself. As with firewalld, all zones and policies get a file of their own, also those that are as shipped: what was
// in force does not change with the shipped ones.
func (d *Daemon) RuntimeToPermanent(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == Failed {
		return refuse(RunningButFailed, "the configuration in the files could not be used: mend it and reload first")
	}
	next := d.withoutManaged(d.runtime.WithConf(d.permanent.Conf))
	inFolder := d.permanent // without what is shipped, so that Save writes it
	for _, z := range next.Zones {
		if z.Origin.Builtin {
			own := *z
			own.Origin = zones.Origin{}
			next, inFolder = next.WithZone(&own), inFolder.WithoutZone(z.Name)
		}
	}
	for _, p := range next.Policies {
		if p.Origin.Builtin {
			own := *p
			own.Origin = zones.Origin{}
			next, inFolder = next.WithPolicy(&own), inFolder.WithoutPolicy(p.Name)
		}
	}
	err := zones.Check(next).Err()
	if err == nil {
		err = d.save(inFolder, next, nil)
	}
	if err != nil {
		return refuse(RTToPermFailed, "%v", err)
	}
	return nil
}

// withoutManaged is a configuration without the interfaces that NetworkManager has bound and the files have not.
func (d *Daemon) withoutManaged(cfg *zones.Config) *zones.Config {
	for iface, zone := range d.managed {
		if z := d.permanent.Zones[zone]; z != nil && slices.Contains(z.Interfaces, iface) {
			continue
		}
		item := zones.Item{Key: zones.KeyInterface, Args: []string{iface}}
		edit := zones.Remove(zones.Permanent, zones.Object{Kind: zones.KindZone, Name: zone}, item)
		if edited, err := edit(cfg); err == nil {
			cfg = edited
		}
	}
	return cfg
}

// ResetToDefaults takes away all that the administrator has made, keeping each file as NAME.old, and reloads. If the reload
// is refused the files are put back.
func (d *Daemon) ResetToDefaults(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	shipped, problems := d.store.Shipped()
	if shipped == nil {
		return problems.Err()
	}
	return d.setConf(ctx, zones.ResetToDefaults(shipped))
}
