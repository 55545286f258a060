package daemon

import (
	"richwall/compile"
	"richwall/compile/ir"
	"richwall/zones"
)

// forwardingSettings are what has the kernel forward packets of a family (the kernel's documentation, ip-sysctl).
var forwardingSettings = []struct {
	family ir.Families
	name   string
}{
	{ir.V4, "net.ipv4.ip_forward"},
	{ir.V6, "net.ipv6.conf.all.forwarding"},
}

// inForce makes the kernel's settings what a configuration needs that has just come into the kernel in place of old; nil is
// none. One that cannot be set is reported in the log and no more: the packet filter is worth having without it.
func (d *Daemon) inForce(old, next *zones.Config) {
	if d.opt.Sysctl == nil {
		return
	}
	d.applySettings(next)
	d.forward(compile.Forwarding(old, next))
}

// forward has the kernel forward packets of some families. As with firewalld it goes on doing so for good: nobody can know
// who else has come to rely on it.
func (d *Daemon) forward(families ir.Families) {
	for _, s := range forwardingSettings {
		if families&s.family == 0 {
			continue
		}
		switch was, err := d.opt.Sysctl(s.name, "1"); {
		case err != nil:
			d.opt.Log.Error("cannot switch forwarding on: masquerade and forward-port to other addresses do nothing", "setting", s.name, "reason", err)
		case was != "1":
			d.opt.Log.Info("the kernel forwards packets now, as masquerade and forward-port need it", "setting", s.name)
		}
	}
}

// noPMTUDisc stops path MTU discovery for what this machine itself sends over IPv4 (the kernel's documentation, ip-sysctl).
const noPMTUDisc = "net.ipv4.ip_no_pmtu_disc"

// borrowed is a kernel's setting that is to be put back; the zero value is one that was not touched.
type borrowed struct {
	was string // before it was touched
	set string // what the daemon has made of it; "" for not touched
}

// applySettings makes the settings that richwall.conf asks for, until the daemon ends.
func (d *Daemon) applySettings(cfg *zones.Config) {
	switch cfg.Own.IPNoPMTUDisc {
	case "yes":
		d.borrow("1")
	case "no":
		d.borrow("0")
	default:
		d.giveBack()
	}
}

// borrow sets net.ipv4.ip_no_pmtu_disc, and remembers what it was at first.
func (d *Daemon) borrow(value string) {
	if d.pmtu.set == value {
		return
	}
	was, err := d.opt.Sysctl(noPMTUDisc, value)
	if err != nil {
		d.opt.Log.Error("cannot do as IPNoPMTUDisc in richwall.conf says", "reason", err)
		return
	}
	if d.pmtu.set == "" {
		d.pmtu.was = was
	}
	d.pmtu.set = value
}

// giveBack restores what was there, unless somebody else has set another value since.
func (d *Daemon) giveBack() {
	if d.pmtu.set == "" {
		return
	}
	now, err := d.opt.Sysctl(noPMTUDisc, "")
	if err == nil && now == d.pmtu.set {
		_, err = d.opt.Sysctl(noPMTUDisc, d.pmtu.was)
	}
	if err != nil {
		d.opt.Log.Error("cannot put back a setting of the kernel", "setting", noPMTUDisc, "value", d.pmtu.was, "reason", err)
		return
	}
	d.pmtu = borrowed{}
}
