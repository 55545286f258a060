package daemon

import (
	"richwall/compile"
	"richwall/zones"
)

// What it takes for a moment to make a configuration out of another one, in bytes, beyond what the result keeps: as measured, and rounded
// up. It decides only whether a change is tried where memory is limited.
const (
	listedEntry = 150  // an entry of an ipset that changes: in lists of its set that are made anew, in its file, and in what is read of that
	newEntry    = 250  // and of one that has to be looked at: its element, and messages to the kernel
	listedRule  = 700  // a rich rule of a zone or policy that changes
	newRule     = 1500 // and one that was not there before
)

// Room is an error if there is no memory for so many bytes more.
func (d *Daemon) Room(bytes int64) error { return d.opt.Memory.Room(bytes) }

// room is an error if there is no memory to make a configuration out of another one, nil for none.
func (d *Daemon) room(old, next *zones.Config) error {
	if d.opt.Memory == nil {
		return nil
	}
	if old == nil {
		old = &zones.Config{}
	}
	need := int64(0)
	for name, set := range next.IPSets {
		if was := old.IPSets[name]; was != set {
			need += listedEntry*int64(len(set.Entries)+len(set.Timed)) + newEntry*int64(compile.MadeAnew(was, set))
		}
	}
	need += rulesRoom(old.Zones, next.Zones, func(z *zones.Zone) int { return len(z.Rules) })
	need += rulesRoom(old.Policies, next.Policies, func(p *zones.Policy) int { return len(p.Rules) })
	if err := d.opt.Memory.Room(need); err != nil {
		return refuse(CommandFailed, "there is too little memory for this: %v", err)
	}
	return nil
}

// rulesRoom is what the rules of the zones or policies that differ take.
func rulesRoom[T any](old, next map[string]*T, rules func(*T) int) (need int64) {
	for name, now := range next {
		was := old[name]
		switch {
		case was == now:
		case was == nil:
			need += newRule * int64(rules(now))
		default:
			need += listedRule*int64(rules(now)) + newRule*int64(max(rules(now)-rules(was), 0))
		}
	}
	return need
}
