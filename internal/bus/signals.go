package bus

import (
	"slices"

	"github.com/godbus/dbus/v5"
	"richwall/internal/daemon"
	"richwall/zones"
)

// event sends the signals that an event of the daemon means. Those about items of the running firewall are sent by the
// methods that change them, with the words of the caller; only what times out is told from here.
//
// Until all calls are answered only panic mode is told: nobody can have asked for anything else.
func (s *Server) event(e daemon.Event) {
	select {
	case <-s.ready:
	default:
		if _, panicked := e.(daemon.PanicChanged); !panicked {
			return
		}
	}
	switch e := e.(type) {
	case daemon.Reloaded:
		s.filesChanged(e.Old, e.New)
		s.emit(root, "", "Reloaded")
	case daemon.PanicChanged:
		name := "PanicModeDisabled"
		if e.On {
			name = "PanicModeEnabled"
		}
		s.emit(root, "", name)
	case daemon.DefaultZoneChanged:
		s.emit(root, "", "DefaultZoneChanged", e.Zone)
	case daemon.LogDeniedChanged:
		s.emit(root, "", "LogDeniedChanged", e.Value)
	case daemon.RuntimeChanged:
		if e.Change == nil {
			s.expired(e)
		}
	case daemon.PermanentChanged:
		s.permanentChanged(e.Old, e.New)
	}
}

// permanentChanged tells which permanent objects came, went, or are not as they were.
func (s *Server) permanentChanged(old, next *zones.Config) {
	s.paths.sync(next)
	for _, k := range kinds {
		for _, name := range k.objects.names(next) {
			t := target{k, name}
			was := k.objects.meta(old, name)
			former, renamed := s.paths.former(t)
			switch {
			case was == k.objects.meta(next, name), was != nil && was.Origin.Builtin && k.objects.meta(next, name).Origin.Builtin:
			case was != nil:
				s.emit(s.paths.of(t), "config."+k.name, "Updated", name)
			case renamed && k.objects.meta(old, former) != nil:
				s.emit(s.paths.of(t), "config."+k.name, "Renamed", name)
			default:
				s.emit(root+"/config", "config", k.noun+"Added", name)
			}
		}
		for _, name := range k.objects.names(old) {
			if path := s.paths.of(target{k, name}); path != "" && k.objects.meta(next, name) == nil {
				s.emit(path, "config."+k.name, "Removed", name)
			}
		}
	}
	if old.Direct != next.Direct {
		s.emit(root+"/config", "config.direct", "Updated")
	}
}

// filesChanged tells what a reload has found to be otherwise in the files.
func (s *Server) filesChanged(old, next *zones.Config) {
	s.paths.sync(next)
	for _, change := range zones.Difference(old, next) {
		o := change.Object
		i := slices.IndexFunc(kinds, func(k *kind) bool { return k.kind == o.Kind })
		switch {
		case o.Kind == zones.KindDirect:
			s.emit(root+"/config", "config.direct", "Updated")
		case i < 0: // firewalld.conf, which has no signals of its own
		case change.Made:
			s.emit(root+"/config", "config", kinds[i].noun+"Added", o.Name)
		case change.Gone:
			s.emit(s.paths.of(target{kinds[i], o.Name}), "config."+kinds[i].name, "Removed", o.Name)
		default:
			s.emit(s.paths.of(target{kinds[i], o.Name}), "config."+kinds[i].name, "Updated", o.Name)
		}
	}
}

// expired tells what was taken out of the running firewall because its time was over: each item, or, where several were set
// together, the settings that are left.
func (s *Server) expired(e daemon.RuntimeChanged) {
	for _, change := range zones.Difference(e.Old, e.New) {
		o := change.Object
		switch {
		case o.Kind == zones.KindPolicy:
			s.updated(e.New, policyKind, "policy", "PolicyUpdated", o)
		case e.Whole[o]:
			s.updated(e.New, zoneKind, "zone", "ZoneUpdated", o)
		case o.Kind == zones.KindZone:
			for _, item := range change.Removed {
				s.itemRemoved(o.Name, item)
			}
		}
	}
}

// itemRemoved tells that an item of a zone is gone.
func (s *Server) itemRemoved(zone string, item zones.Item) {
	for _, it := range zoneItems {
		if it.key != item.Key {
			continue
		}
		values := []any{zone}
		for _, part := range item.Args {
			values = append(values, part)
		}
		s.emit(root, "zone", it.noun+"Removed", values...)
	}
}

// updated sends the settings of a zone or policy as they are now.
func (s *Server) updated(cfg *zones.Config, k *kind, iface, name string, o zones.Object) {
	if settings, err := zones.Get(cfg, zones.Runtime, o); err == nil {
		s.emit(root, iface, name, o.Name, k.toDict(settings))
	}
}

// emit sends a signal of an interface, whose name is without the prefix. Its arguments are plain values as the table
// declares them.
func (s *Server) emit(path, iface, name string, values ...any) {
	full := dotted(base, iface) + "." + name
	declared, ok := signalArgs[full]
	if !ok || len(declared) != len(values) {
		panic("internal error: signal " + full + " is not declared so")
	}
	sent := make([]any, len(values))
	for i, a := range declared {
		sent[i] = encode(a.sig, values[i])
	}
	conn := s.line.Load().conn
	if !conn.Connected() {
		return // nobody is there to be told
	}
	if err := conn.Emit(dbus.ObjectPath(path), full, sent...); err != nil {
		s.log.Warn("cannot send a signal", "signal", full, "reason", err)
	}
}
