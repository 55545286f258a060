package zones

import "reflect"

// Change is what differs in one object between two configurations.
type Change struct {
	Object  Object
	Made    bool   // there was no such object; its settings are in the later configuration
	Gone    bool   // there is no such object any more
	Added   []Item // items that it had not; of ports, those that are new, however they are divided into ranges
	Removed []Item // items that it had
	Values  []Key  // single values that are others now; of firewalld.conf, its keys
}

// Difference is what changed from one configuration to the next, by kind in the order of kinds and then by name, and
// firewalld.conf last. Objects that the configurations share, or that say the same, are not in it.
func Difference(old, next *Config) []Change {
	var changes []Change
	for _, k := range kinds {
		changes = append(changes, k.changes(old, next)...)
	}
	conf := Change{Object: Object{Kind: KindConf}}
	for _, key := range old.Conf.respelled(next.Conf) {
		conf.Values = append(conf.Values, Key(key))
	}
	if conf.Values != nil {
		changes = append(changes, conf)
	}
	return changes
}

func (k *objectKind[T]) changes(old, next *Config) []Change {
	before, after := k.objects(old), k.objects(next)
	if reflect.ValueOf(before).UnsafePointer() == reflect.ValueOf(after).UnsafePointer() {
		return nil // one and the same map
	}
	var changes []Change
	for _, name := range unionNames(before, after) {
		a, b := before[name], after[name]
		change := Change{Object: Object{k.kind, name}}
		switch {
		case a == b:
			continue
		case a == nil:
			change.Made = true
		case b == nil:
			change.Gone = true
		default:
			k.compare(&change, a, b)
			if change.Added == nil && change.Removed == nil && change.Values == nil {
				continue
			}
		}
		changes = append(changes, change)
	}
	return changes
}

// compare fills in the settings that differ between two objects.
func (k *objectKind[T]) compare(change *Change, a, b *T) {
	for _, r := range k.settings {
		list, ok := r.setting.(items[T])
		if !ok {
			if r.get(a) != r.get(b) {
				change.Values = append(change.Values, r.key)
			}
			continue
		}
		removed, added := list.difference(a, b)
		for _, args := range removed {
			change.Removed = append(change.Removed, Item{r.key, args})
		}
		for _, args := range added {
			change.Added = append(change.Added, Item{r.key, args})
		}
	}
}

// unionNames are the names in either map, sorted.
func unionNames[T any](a, b map[string]*T) []string {
	all := map[string]bool{}
	for name := range a {
		all[name] = true
	}
	for name := range b {
		all[name] = true
	}
	return Names(all)
}
