package zones

import (
	"maps"
	"slices"
)

// CheckChange is Check of a configuration that was made by an edit from one without errors. What both share is not looked at
// again, so that a change costs the same however many rules there are.
func CheckChange(old, next *Config) Problems {
	k := newChecker(next)
	if sameReferences(old, next) {
		k.old = old
	}
	return k.check()
}

// sameReferences says whether two configurations have the same objects that zones and policies refer to, as far as a check
// looks at them.
func sameReferences(a, b *Config) bool {
	return sameObjects(a.Services, b.Services) && sameObjects(a.ICMPTypes, b.ICMPTypes) && sameObjects(a.Helpers, b.Helpers) &&
		maps.EqualFunc(a.IPSets, b.IPSets, func(a, b *IPSet) bool {
			return a == b || a.Name == b.Name && a.Type == b.Type && a.Family() == b.Family()
		})
}

// sameSlice says whether two slices are one and the same.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func sameObjects[T any](a, b map[string]*T) bool { return maps.Equal(a, b) }

// unchecked are the rules of a zone or policy that were not there before.
func (k *checker) unchecked(m *Meta, c *Content) []RichRule {
	before := k.before(m)
	if before == nil {
		return c.Rules
	}
	a, b := before.Rules, c.Rules
	if sameSlice(a, b) {
		return nil
	}
	for len(a) > 0 && len(b) > 0 && a[0].Rule == b[0].Rule {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1].Rule == b[len(b)-1].Rule {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a) == 0 {
		return b
	}
	known := make(map[RichRule]bool, len(a))
	for _, rule := range a {
		known[rule] = true
	}
	return slices.DeleteFunc(slices.Clone(b), func(rule RichRule) bool { return known[rule] })
}

// before is the content of a zone or policy in the configuration that has no errors; nil if there is none.
func (k *checker) before(m *Meta) *Content {
	switch {
	case k.old == nil:
	case k.kind == KindPolicy && k.old.Policies[m.Name] != nil:
		return &k.old.Policies[m.Name].Content
	case k.kind == KindZone && k.old.ZoneParts[m.Name] != nil:
		return &k.old.ZoneParts[m.Name].Content
	case k.kind == KindZone && k.old.Zones[m.Name] != nil:
		return &k.old.Zones[m.Name].Content
	}
	return nil
}
