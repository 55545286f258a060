package firewallcmd

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
)

// defaultZone is the zone of everything that is not bound to another.
func (s *session) defaultZone() (string, error) { return s.store.defaultZone() }

func (s *session) showState() error {
	state, err := s.daemon.state()
	if err != nil {
		return err
	}
	switch state {
	case "running":
		if err := s.show(state, state); err != nil {
			return err
		}
		s.explainPanic()
		s.explain("getNotices")
		return nil
	case "failed":
		s.out.complain(state)
		s.explainPanic()
		s.explain("getFailures")
		s.explain("getNotices")
		return exitStatus(statusOf(&failure{code: "RUNNING_BUT_FAILED"}))
	}
	s.out.complain("not running")
	return exitStatus(statusOf(&failure{code: "NOT_RUNNING"}))
}

// explainPanic prints that panic mode is on: the state is another matter, and running or failed as in firewalld.
func (s *session) explainPanic() {
	var on bool
	if s.daemon.main("", "queryPanicMode", nil, &on) == nil && on {
		s.out.complain("hint: panic mode is on: every packet is dropped until firewall-cmd --panic-off")
	}
}

// explain prints what a method of the daemon says besides, a line each.
func (s *session) explain(method string) { s.out.hint(s.daemon.told(method)...) }

// tellFailed says behind a listing of the permanent configuration that this is not what the files say, if it is not.
func (s *session) tellFailed() {
	if s.daemon == nil {
		return
	}
	if state, err := s.daemon.state(); err == nil && state == "failed" {
		s.out.hint("the state is failed: what is in force is not what is shown here; firewall-cmd --state says what it is, and why")
	}
}

// callDaemon calls a method without arguments.
func (s *session) callDaemon() error {
	return s.once(func() error { return s.daemon.main("", s.option.item, nil) })
}

// askDaemon calls a method that answers yes or no.
func (s *session) askDaemon() error {
	var yes bool
	if err := s.daemon.main("", s.option.item, nil, &yes); err != nil {
		return err
	}
	return s.answer(yes)
}

func (s *session) getDefaultZone() error {
	zone, err := s.defaultZone()
	if err != nil {
		return err
	}
	return s.show(zone, zone)
}

func (s *session) ipsetTypes() error {
	value, err := s.daemon.property("IPSetTypes")
	if err != nil {
		return err
	}
	types, ok := value.([]string)
	if !ok {
		return errNoAnswer
	}
	types = slices.Sorted(slices.Values(types))
	return s.show(types, joined(types, " "))
}

func (s *session) lockdown() error {
	s.out.complain("Lockdown feature is deprecated and removed.")
	return nil
}

// general is the firewall's own settings and state: the daemon's, or those of the files.
type general interface {
	setDefaultZone(zone string) error
	logDenied() (string, error)
	automaticHelpers() (string, error)
	setAutomaticHelpers(value string) error
	setLogDenied(value string) error
	reset() error
	// check looks for errors in the files.
	check() error
}

func (s *session) general() general {
	if s.daemon != nil {
		return s.daemon
	}
	return s.store.(*files)
}

func (s *session) setDefaultZone() error {
	return s.apply(func() error { return s.general().setDefaultZone(s.first()) })
}

func (s *session) setLogDenied() error {
	return s.apply(func() error { return s.general().setLogDenied(s.first()) })
}

func (s *session) reset() error {
	return s.apply(func() error { return s.general().reset() })
}

// apply does something and reports success. That it is so already is a warning, but an error of firewall-offline-cmd.
func (s *session) apply(do func() error) error {
	if s.program == online {
		return s.once(do)
	}
	if err := do(); err != nil {
		return err
	}
	s.out.print("success")
	return nil
}

func (s *session) checkConfig() error {
	if s.program == online {
		return s.once(func() error {
			err := s.withoutPlaces(s.general().check())
			if err == nil && s.out.terminal { // programs compare the one line that firewalld prints
				s.explain("getRemarks")
			}
			return err
		})
	}
	if folder := cmp.Or(s.value("system-config"), systemConfig); !exists(folder) {
		s.out.complain(fmt.Sprintf("hint: %s is not there: what is checked is the shipped configuration", folder))
	}
	return s.general().check()
}

// withoutPlaces is an error of the files without its hints where programs read what is printed and firewalld's line names the object that
// has the error: they compare that line. A person at a terminal gets the hints, as do those who read the daemon's log.
func (s *session) withoutPlaces(err error) error {
	var f *failure
	if !s.out.terminal && errors.As(err, &f) && namesObject.MatchString(f.detail) {
		f.hints = nil
	}
	return err
}

// namesObject matches what firewalld says of an error and the object that has it.
var namesObject = regexp.MustCompile(`^(Zone|Policy|Service|Ipset|Icmptype|Helper) '[^']*': `)

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (s *session) getLogDenied() error {
	value, err := s.general().logDenied()
	if err != nil {
		return err
	}
	return s.show(value, value)
}

// Automatic helpers are a setting that firewalld still answers for: it is always no, and setting it changes nothing. The daemon is asked
// all the same, since not everybody may ask and set.

func (s *session) getAutomaticHelpers() error {
	value, err := s.general().automaticHelpers()
	if err != nil {
		return err
	}
	return s.show(value, value)
}

func (s *session) setAutomaticHelpers() error {
	if err := s.general().setAutomaticHelpers(s.first()); err != nil {
		return err
	}
	s.out.print("success")
	return nil
}

func (d *daemon) setDefaultZone(zone string) error {
	return d.main("", "setDefaultZone", []any{zone})
}

func (d *daemon) logDenied() (value string, err error) {
	err = d.main("", "getLogDenied", nil, &value)
	return value, err
}

func (d *daemon) setLogDenied(value string) error { return d.main("", "setLogDenied", []any{value}) }
func (d *daemon) automaticHelpers() (value string, err error) {
	err = d.main("", "getAutomaticHelpers", nil, &value)
	return value, err
}

func (d *daemon) setAutomaticHelpers(value string) error {
	return d.main("", "setAutomaticHelpers", []any{value})
}

func (d *daemon) reset() error { return d.main("", "resetToDefaults", nil) }
func (d *daemon) check() error { return d.main("", "checkPermanentConfig", nil) }
