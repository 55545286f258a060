package daemon

import (
	"richwall/compile"
	"richwall/zones"
)

// costs are what it takes for a moment to make a configuration out of another one, in bytes, beyond what the result keeps: as measured, and
// rounded up. They decide only whether a change is tried where memory is limited.
type costs struct {
	entry    int64 // an entry of an ipset that changes, in lists that are made anew
	newEntry int64 // beside that one that has to be looked at: its element, and messages to the kernel
	rule     int64 // a rich rule of a zone or policy that changes
	newRule  int64 // and beside that one that was not there before
}

var (
	runtimeCosts   = costs{entry: 40, newEntry: 250, rule: 150, newRule: 1200}
	permanentCosts = costs{entry: 120, newEntry: 250, rule: 700, newRule: 1200} // files are written, and what is in them is read again
)

// Room is an error if there is no memory for so many bytes more.
func (d *Daemon) Room(bytes int64) error { return d.opt.Memory.Room(bytes) }

// room is an error if there is no memory to make a configuration out of another one, nil for none.
func (d *Daemon) room(old, next *zones.Config, c costs) error {
	if d.opt.Memory == nil {
		return nil
	}
	if old == nil {
		old = &zones.Config{}
	}
	need := int64(0)
	for name, set := range next.IPSets {
		if was := old.IPSets[name]; was != set {
			need += c.entry*int64(len(set.Entries)+len(set.Timed)) + c.newEntry*int64(compile.MadeAnew(was, set))
		}
	}
	need += rulesRoom(c, old.Zones, next.Zones, func(z *zones.Zone) int { return len(z.Rules) })
	need += rulesRoom(c, old.Policies, next.Policies, func(p *zones.Policy) int { return len(p.Rules) })
	if err := d.opt.Memory.Room(need); err != nil {
		return refuse(CommandFailed, "there is too little memory for this: %v", err)
	}
	return nil
}

// rulesRoom is what the rules of the zones or policies that differ take.
func rulesRoom[T any](c costs, old, next map[string]*T, rules func(*T) int) (need int64) {
	for name, now := range next {
		was, had := old[name], 0
		if was == now {
			continue
		}
		if was != nil {
			had = rules(was)
		}
		need += c.rule*int64(rules(now)) + c.newRule*int64(max(rules(now)-had, 0))
	}
	return need
}
