package ir

import "reflect"

// SameRule says whether two rules match and do the same. sameSet says when the sets that they look up are the same.
func SameRule(a, b *Rule, sameSet func(a, b *Set) bool) bool {
	if a == b {
		return true
	}
	if len(a.Matches) != len(b.Matches) || len(a.Actions) != len(b.Actions) {
		return false
	}
	for i, m := range a.Matches {
		if x, ok := m.(Lookup); ok {
			y, ok := b.Matches[i].(Lookup)
			if !ok || x.Side != y.Side || x.Invert != y.Invert || !sameSet(x.Set, y.Set) {
				return false
			}
		} else if !same(m, b.Matches[i]) {
			return false
		}
	}
	for i, m := range a.Actions {
		if x, ok := m.(Decide); ok {
			y, ok := b.Actions[i].(Decide)
			if !ok || !sameSet(x.Map, y.Map) {
				return false
			}
		} else if !same(m, b.Actions[i]) {
			return false
		}
	}
	return true
}

// same compares matches or actions; those with a list in them cannot be compared by the language.
func same(a, b any) bool {
	if reflect.TypeOf(a).Comparable() {
		return reflect.TypeOf(b).Comparable() && a == b
	}
	return reflect.DeepEqual(a, b)
}
