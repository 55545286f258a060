package firewallcmd

// place is where the items of an object are changed: in the daemon at once, or in a copy of the object's settings that
// store saves as a whole.
type place interface {
	add(f *field, value string) error
	remove(f *field, value string) error
	query(f *field, value string) (bool, error)
	list(f *field) ([]string, error)
	store() error
}

// place opens the place that the command line is about.
func (s *session) place() (place, error) {
	switch {
	case !s.permanent && s.kind.name == "zone":
		return &runtimeZone{s.daemon, s.name, s.timeout}, nil
	case !s.permanent && s.kind.name == "ipset":
		return &runtimeIPSet{s.daemon, s.name}, nil
	case !s.permanent:
		return s.openRuntimePolicy(s.name)
	}
	name, err := s.objectName()
	if err != nil {
		return nil, err
	}
	return s.store.open(s.kind, name)
}

// objectName is the name of the object that the command line is about.
func (s *session) objectName() (string, error) {
	if s.kind.name == "zone" && s.name == "" {
		return s.defaultZone()
	}
	return s.name, nil
}

// openRuntimePolicy copies the settings of a policy that is in effect: the daemon has no methods for single items of it.
func (s *session) openRuntimePolicy(name string) (place, error) {
	found, err := s.daemon.settings(s.kind, name)
	if err != nil {
		return nil, err
	}
	return &settingsCopy{kind: s.kind, settings: found, save: func(changed settings) error {
		return s.daemon.setPolicy(name, changed, s.timeout)
	}}, nil
}
