package daemon

import (
	"context"
	"maps"
	"slices"
	"time"

	"richwall/zones"
)

// Manager is what brings interfaces up and says in which zone each of them is: NetworkManager.
type Manager interface {
	// Zones are the interfaces of its active connections, with the zone of each; "" is the default zone. There are none
	// where it does not run.
	Zones(context.Context) (map[string]string, error)
	// SetZone makes a zone that of the interface's connection, for good.
	SetZone(ctx context.Context, iface, zone string) error
}

// managerTime is the longest that the answers of NetworkManager are waited for: a change of the firewall cannot wait longer.
const managerTime = 5 * time.Second

// askManager is which interface NetworkManager wants in which zone. Not knowing it does not keep anything from being done: it
// tells by itself what it brings up. The lock must not be held, for NetworkManager may wait for an answer, too.
func (d *Daemon) askManager(ctx context.Context) map[string]string {
	if d.opt.Manager == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, managerTime)
	defer cancel()
	links, err := d.opt.Manager.Zones(ctx)
	if err != nil {
		d.opt.Log.Warn("the zones of NetworkManager's connections are not known", "reason", err)
	}
	return links
}

func interfaceItem(name string) zones.Item {
	return zones.Item{Key: zones.KeyInterface, Args: []string{name}}
}

// installFor installs a configuration with NetworkManager's interfaces in the zones where it wants them. Its word counts more
// than the files, which may bind them elsewhere.
func (d *Daemon) installFor(ctx context.Context, cfg *zones.Config, links map[string]string) error {
	managed := map[string]string{}
	for _, iface := range slices.Sorted(maps.Keys(links)) {
		zone := links[iface]
		if zone == "" {
			zone = cfg.Conf.DefaultZone
		}
		next, err := zones.Rebind(zones.Runtime, zone, interfaceItem(iface))(cfg)
		if err != nil {
			d.opt.Log.Warn("an interface cannot be where NetworkManager wants it", "interface", iface, "zone", zone, "reason", err)
			continue
		}
		cfg, managed[iface] = next, zone
	}
	if err := d.install(ctx, cfg); err != nil {
		return err
	}
	d.managed = managed
	return nil
}

// tellManager tells NetworkManager in which zones those of its interfaces are that somebody else has bound, and returns the
// interfaces it has taken over. The lock must not be held.
func (d *Daemon) tellManager(ctx context.Context) (told map[string]string) {
	links := d.askManager(ctx)
	d.mu.Lock()
	bound := map[string]string{}
	for name, zone := range d.runtime.Zones {
		for _, iface := range zone.Interfaces {
			if _, ok := links[iface]; ok && d.managed[iface] != name {
				bound[iface] = name
			}
		}
	}
	d.mu.Unlock()
	for iface, zone := range bound {
		if zone == links[iface] {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, managerTime)
		err := d.opt.Manager.SetZone(ctx, iface, zone)
		cancel()
		if err != nil {
			d.opt.Log.Warn("NetworkManager does not take a zone, which is written to the zone's file instead", "interface", iface, "zone", zone, "reason", err)
			delete(bound, iface)
		}
	}
	return bound
}

// withoutManaged is a configuration without the interfaces that NetworkManager binds: those it has bound and the files have
// not, and those it has just been told.
func (d *Daemon) withoutManaged(cfg *zones.Config, told map[string]string) *zones.Config {
	managed := maps.Clone(told)
	if managed == nil {
		managed = map[string]string{}
	}
	for iface, zone := range d.managed {
		if z := d.permanent.Zones[zone]; z == nil || !slices.Contains(z.Interfaces, iface) {
			managed[iface] = zone
		}
	}
	for iface, zone := range managed {
		edit := zones.Remove(zones.Permanent, zones.Object{Kind: zones.KindZone, Name: zone}, interfaceItem(iface))
		if edited, err := edit(cfg); err == nil {
			cfg = edited
		}
	}
	return cfg
}

// noteManaged remembers which interfaces NetworkManager has put where, and forgets those that have gone from there.
func (d *Daemon) noteManaged(old, next *zones.Config, manager bool) {
	for _, change := range zones.Difference(old, next) {
		for _, item := range change.Added {
			if item.Key == zones.KeyInterface {
				delete(d.managed, item.Args[0])
				if manager {
					d.managed[item.Args[0]] = change.Object.Name
				}
			}
		}
		for _, item := range change.Removed {
			if item.Key == zones.KeyInterface && d.managed[item.Args[0]] == change.Object.Name {
				delete(d.managed, item.Args[0])
			}
		}
	}
}
