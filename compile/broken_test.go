package compile_test

import (
	"errors"
	"testing"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/zones"
)

// A configuration that lost an object which others refer to, be it the default zone, compiles or is refused with errors that say what is
// wrong. Whoever leaves out objects need not know who refers to them.
func TestCompileWithoutAnObject(t *testing.T) {
	for _, path := range casePaths(t) {
		cfg := readCase(t, path).config
		for _, without := range lacking(cfg) {
			for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
				_, err := compile.Compile(without.cfg.ForRuntime(), backend)
				_, checked := compile.History{}.Check(without.cfg.ForRuntime(), backend)
				for _, err := range []error{err, checked} {
					if err != nil && !errors.As(err, new(compile.Errors)) {
						t.Errorf("%s without %v, %s: %v", path, without.object, backend, err)
					}
				}
				if without.cfg.Zones[cfg.Conf.DefaultZone] == nil && (err == nil || checked == nil) {
					t.Errorf("%s compiles for %s without a default zone", path, backend)
				}
				if _, err := (compile.History{}).CheckEdit(cfg, without.cfg); err != nil && !errors.As(err, new(zones.Problems)) {
					t.Errorf("%s without %v, %s: an edit gives %v", path, without.object, backend, err)
				}
			}
		}
	}
}

// lack is a configuration that lacks an object.
type lack struct {
	object zones.Object
	cfg    *zones.Config
}

// lacking are the configurations that lack one of the administrator's objects, or the default zone, and one that lacks all objects.
func lacking(cfg *zones.Config) []lack {
	list := []lack{{cfg: &zones.Config{Conf: cfg.Conf, Own: cfg.Own, Direct: cfg.Direct}}}
	add := func(kind zones.Kind, m *zones.Meta, without *zones.Config) {
		if !m.Origin.Builtin || m.Name == cfg.Conf.DefaultZone {
			list = append(list, lack{zones.Object{Kind: kind, Name: m.Name}, without})
		}
	}
	for name, o := range cfg.Zones {
		add(zones.KindZone, &o.Meta, cfg.WithoutZone(name))
	}
	for name, o := range cfg.Policies {
		add(zones.KindPolicy, &o.Meta, cfg.WithoutPolicy(name))
	}
	for name, o := range cfg.Services {
		add(zones.KindService, &o.Meta, cfg.WithoutService(name))
	}
	for name, o := range cfg.IPSets {
		add(zones.KindIPSet, &o.Meta, cfg.WithoutIPSet(name))
	}
	for name, o := range cfg.ICMPTypes {
		add(zones.KindICMPType, &o.Meta, cfg.WithoutICMPType(name))
	}
	for name, o := range cfg.Helpers {
		add(zones.KindHelper, &o.Meta, cfg.WithoutHelper(name))
	}
	return list
}
