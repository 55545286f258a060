package daemon

import "richwall/zones"

// Event is something that listeners are told after it has happened. Its members are RuntimeChanged, PermanentChanged,
// Reloaded, PanicChanged, DefaultZoneChanged, LogDeniedChanged and StateChanged.
type Event interface{ event() }

// RuntimeChanged says that the runtime configuration is another one.
type RuntimeChanged struct {
	Old, New *zones.Config
	Change   *Change // the edit that was asked for; nil when time ran out
	// Whole are the objects of which settings that were set as a whole have ended now, when time ran out.
	Whole map[zones.Object]bool
}

// PermanentChanged says that the permanent configuration is another one, and in the files.
type PermanentChanged struct {
	Old, New *zones.Config
	Change   *Change
}

// Reloaded says that the runtime configuration was made anew from the files, or from what a start uses instead. Old and New are the
// permanent configuration before and after: files may have come, gone and changed by other hands.
type Reloaded struct {
	Old, New *zones.Config
	Failures []string // those of Snapshot; none if all of the files is in force
}

// PanicChanged says that panic mode was switched.
type PanicChanged struct{ On bool }

// DefaultZoneChanged says that there is another default zone.
type DefaultZoneChanged struct{ Zone string }

// LogDeniedChanged says that other packets are logged when they are refused.
type LogDeniedChanged struct{ Value string }

// StateChanged says that the state of a daemon that has started, or what could not be used of the configuration, is not what it was.
// Snapshot has it.
type StateChanged struct{}

func (RuntimeChanged) event()     {}
func (PermanentChanged) event()   {}
func (Reloaded) event()           {}
func (PanicChanged) event()       {}
func (DefaultZoneChanged) event() {}
func (LogDeniedChanged) event()   {}
func (StateChanged) event()       {}
