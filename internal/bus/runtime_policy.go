package bus

import (
	"slices"
	"strings"
	"time"

	"richwall/internal/daemon"
	"richwall/zones"
)

var policyIface = &iface{
	name: "policy",
	methods: []method{
		def("getPolicySettings", "policy:s", "a{sv}", actConfigInfo, getPolicySettings),
		def("setPolicySettings", "policy:s settings:a{sv}", "", actConfig, setPolicySettings),
		def("getPolicies", "", "as", actInfo, func(c *call) (any, error) { return zones.Names(c.snapshot().Runtime.Policies), nil }),
		def("getActivePolicies", "", "a{sa{sas}}", actInfo, getActivePolicies),
	},
	signals: []signal{sig("PolicyUpdated", "policy:s settings:a{sv}")},
}

func getPolicySettings(c *call) (any, error) {
	settings, err := zones.Get(c.snapshot().Runtime, zones.Runtime, policyKind.object(c.str(0)))
	if err != nil {
		return nil, err
	}
	return policyKind.toDict(settings), nil
}

func setPolicySettings(c *call) (any, error) {
	policy := policyKind.object(c.str(0))
	if err := c.updateRuntime(policyKind, policy, c.args[1].(dict)); err != nil {
		return nil, err
	}
	c.server.emit(root, "policy", "PolicyUpdated", policy.Name, asSent(policyKind, c.args[1].(dict)))
	return nil, nil
}

// getActivePolicies is the policies that are enabled and have a zone in use, or a symbolic one, on both sides.
func getActivePolicies(c *call) (any, error) {
	cfg := c.snapshot().Runtime
	active := []entry{}
	for _, name := range zones.Names(cfg.Policies) {
		if p := cfg.Policies[name]; cfg.InUse(zones.Object{Kind: zones.KindPolicy, Name: name}) {
			active = append(active, entry{name, []entry{{"ingress_zones", p.IngressZones}, {"egress_zones", p.EgressZones}}})
		}
	}
	return active, nil
}

// timeoutKey is the key of a dictionary that says for how many seconds added items stay.
const timeoutKey = "timeout"

// asSent is a dictionary as a signal repeats it.
func asSent(k *kind, d dict) dict {
	sent := dict{}
	for _, f := range k.fields {
		if value, ok := d[f.dict]; ok {
			value, _ := decode(f.sig, value.(raw))
			sent[f.dict] = typed{f.sig, value}
		}
	}
	if value, ok := d[timeoutKey]; ok {
		value, _ := decode("i", value.(raw))
		sent[timeoutKey] = typed{"i", value}
	}
	return sent
}

// lasting are the settings whose items stay even when others are added for some time.
var lasting = []zones.Key{zones.KeyInterface, zones.KeySource, zones.KeyInversion, zones.KeyIngressZone, zones.KeyEgressZone, zones.KeyDisable, zones.KeyForward}

// updateRuntime makes the settings in a dictionary those of a zone or policy of the running firewall.
func (c *call) updateRuntime(k *kind, o zones.Object, d dict) error {
	seconds := 0
	rest := dict{}
	for key, value := range d {
		if key != timeoutKey {
			rest[key] = value
			continue
		}
		n, err := decode("i", value.(raw))
		if err != nil || n.(int) < 0 {
			return refuse(zones.InvalidValue, "cannot use the timeout: it is a number of seconds, 0 for none")
		}
		seconds = n.(int)
	}
	settings, err := k.fromDict(rest)
	if err != nil {
		return err
	}
	change := daemon.Change{Edit: zones.Update(zones.Runtime, o, settings), Sender: c.sender}
	if seconds > 0 {
		if err := c.timed(&change, o); err != nil {
			return err
		}
		change.Timeout = time.Duration(seconds) * time.Second
	}
	return c.change(change)
}

// timed makes a change end: what is in the settings, and not in the object yet, is then taken out again.
func (c *call) timed(change *daemon.Change, o zones.Object) error {
	old := c.snapshot().Runtime
	next, err := change.Edit(old)
	if err != nil {
		return err
	}
	var added []zones.Item
	var names strings.Builder // of what is added
	for _, difference := range zones.Difference(old, next) {
		for _, item := range difference.Added {
			if !slices.Contains(lasting, item.Key) {
				added = append(added, item)
				names.WriteString(" " + string(item.Key) + " " + item.String())
			}
		}
	}
	change.Key = string(o.Kind) + " " + o.Name + names.String()
	change.There = func(cfg *zones.Config) bool { return zones.HasAny(cfg, zones.Runtime, o, added) }
	change.Undo, change.Whole = zones.Without(zones.Runtime, o, added), o
	return nil
}
