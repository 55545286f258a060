package daemon

import (
	"context"

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
// again itself.
func (d *Daemon) RuntimeToPermanent(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := *d.permanent
	next.Services, next.ICMPTypes, next.IPSets = d.runtime.Services, d.runtime.ICMPTypes, d.runtime.IPSets
	next.Zones, next.Policies, next.Helpers, next.Direct = d.runtime.Zones, d.runtime.Policies, d.runtime.Helpers, d.runtime.Direct
	result := &next
	for iface, zone := range d.managed {
		if has(d.permanent.Zones[zone], iface) {
			continue
		}
		edit := zones.Remove(zones.Permanent, zones.Object{Kind: zones.KindZone, Name: zone}, zones.Item{Key: zones.KeyInterface, Args: []string{iface}})
		if edited, err := edit(result); err == nil {
			result = edited
		}
	}
	if err := d.changePermanent(Change{Edit: func(*zones.Config) (*zones.Config, error) { return result, nil }}); err != nil {
		return refuse(RTToPermFailed, "%v", err)
	}
	return nil
}

func has(z *zones.Zone, iface string) bool {
	if z == nil {
		return false
	}
	for _, name := range z.Interfaces {
		if name == iface {
			return true
		}
	}
	return false
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
