package firewallcmd

import (
	"context"
	"slices"
	"time"

	"richwall/internal/bus/networkmanager"
)

// managedConfig is the permanent configuration of a running daemon together with NetworkManager's: which zone an interface
// of a connection is in is a setting of that connection, and is changed and shown there.
type managedConfig struct {
	*permanentConfig
	out   *output
	named bool // the command line names a zone
	links map[string]networkmanager.Link
	asked bool
}

// managed is a permanent configuration as the command line is about it.
func (s *session) managed(c *permanentConfig) store {
	return &managedConfig{permanentConfig: c, out: s.out, named: s.has("zone")}
}

// managerTime is the longest that NetworkManager is waited for.
const managerTime = 10 * time.Second

// interfaces are those that NetworkManager has up; they are asked for once.
func (c *managedConfig) interfaces() (map[string]networkmanager.Link, error) {
	if c.asked {
		return c.links, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), managerTime)
	defer cancel()
	var err error
	c.links, err = networkmanager.Links(ctx, c.daemon.conn)
	c.asked = err == nil
	return c.links, err
}

// get adds NetworkManager's interfaces to those of a zone.
func (c *managedConfig) get(k *kind, name string) (settings, error) {
	found, err := c.permanentConfig.get(k, name)
	if err != nil || k.name != "zone" {
		return found, err
	}
	all, err := c.withManaged(name, found.list("interfaces"))
	if len(all) > 0 {
		found["interfaces"] = all
	}
	return found, err
}

// withManaged is a list of a zone's interfaces with NetworkManager's behind it.
func (c *managedConfig) withManaged(zone string, list []string) ([]string, error) {
	links, err := c.interfaces()
	if err != nil {
		return nil, err
	}
	list = slices.Clone(list)
	for _, name := range networkmanager.In(links, zone) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list, nil
}

func (c *managedConfig) zoneOf(f *field, value string) (string, error) {
	if f.key == "interfaces" {
		links, err := c.interfaces()
		if zone := links[value].Zone; err != nil || zone != "" {
			return zone, err
		}
	}
	return c.permanentConfig.zoneOf(f, value)
}

func (c *managedConfig) open(k *kind, name string) (place, error) {
	p, err := c.permanentConfig.open(k, name)
	if zone, ok := p.(*permanentZone); ok && err == nil {
		return &managedZone{zone, c}, nil
	}
	return p, err
}

// managedZone is a zone of the permanent configuration whose interfaces may be NetworkManager's.
type managedZone struct {
	*permanentZone
	config *managedConfig
}

func (z *managedZone) add(f *field, value string) error {
	zone := z.name
	if !z.config.named {
		zone = "" // the default zone, whichever it will be
	}
	return z.bind(f, value, zone, z.permanentZone.add)
}

func (z *managedZone) change(f *field, value string) error {
	return z.bind(f, value, z.name, z.permanentZone.change)
}

func (z *managedZone) remove(f *field, value string) error {
	return z.bind(f, value, "", z.permanentZone.remove)
}

// bind sets the zone of an interface's connection, "" for the default zone; what is not NetworkManager's is done otherwise.
func (z *managedZone) bind(f *field, value, zone string, otherwise func(*field, string) error) error {
	if f.key != "interfaces" {
		return otherwise(f, value)
	}
	links, err := z.config.interfaces()
	if err != nil {
		return err
	}
	link, ok := links[value]
	if !ok {
		return otherwise(f, value)
	}
	const managed = "The interface is under control of NetworkManager"
	target, bound := "default", "the default zone"
	if zone != "" {
		target = "'" + zone + "'"
		bound = target
	}
	z.config.out.print(managed + ", setting zone to " + target + ".")
	if link.Zone == zone {
		z.config.out.complain(managed + " and already bound to " + bound)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), managerTime)
	defer cancel()
	if err := networkmanager.SetZone(ctx, z.daemon.conn, link, zone); err != nil {
		return err
	}
	z.config.asked = false
	return nil
}

func (z *managedZone) list(f *field) ([]string, error) {
	list, err := z.permanentZone.list(f)
	if err != nil || f.key != "interfaces" {
		return list, err
	}
	return z.config.withManaged(z.name, list)
}
