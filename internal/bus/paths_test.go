package bus

import (
	"errors"
	"testing"

	"richwall/zones"
)

// A rename that is refused changes no path, whatever else is changed meanwhile. One that is made keeps the object's path, also where
// another object had the new name before.
func TestPathsOfRenamedObjects(t *testing.T) {
	with := func(names ...string) *zones.Config {
		t.Helper()
		cfg, problems := zones.Load(zones.Dirs{})
		if cfg == nil {
			t.Fatal(problems)
		}
		for _, name := range names {
			next, err := zones.New(zones.Object{Kind: zones.KindZone, Name: name}, nil)(cfg)
			if err != nil {
				t.Fatal(err)
			}
			cfg = next
		}
		return cfg
	}
	aa, ab := target{zoneKind, "aa"}, target{zoneKind, "ab"}
	p := newPaths()
	p.sync(with("aa", "ab"))
	first, second := p.of(aa), p.of(ab)
	no := errors.New("NAME_CONFLICT")
	if err := p.rename(aa, "ab", func() error { p.sync(with("aa", "ab", "others")); return no }); err != no {
		t.Errorf("the error is %v", err)
	}
	if p.of(aa) != first || p.of(ab) != second {
		t.Errorf("a rename that was refused has made %s and %s of %s and %s", p.of(aa), p.of(ab), first, second)
	}
	p.sync(with("aa")) // ab is deleted
	renamed := with("ab")
	if err := p.rename(aa, "ab", func() error { p.sync(renamed); return nil }); err != nil {
		t.Error(err)
	}
	if found, ok := p.find(renamed, first); !ok || found != ab || p.of(ab) != first {
		t.Errorf("the renamed object is at %s, and %v at %s", p.of(ab), found, first)
	}
	if _, ok := p.find(renamed, second); ok {
		t.Errorf("there is an object at %s, where a deleted one was", second)
	}
}
