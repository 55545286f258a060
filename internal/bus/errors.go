package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
	"richwall/grammar"
	"richwall/internal/daemon"
	"richwall/zones"
)

// exception is the name of the errors that have one of firewalld's codes; clients read the code at the start of the message.
const exception = base + ".Exception"

// Standard error names, and that of a refusal.
const (
	notAuthorized    = base + ".NotAuthorizedException"
	unknownMethod    = "org.freedesktop.DBus.Error.UnknownMethod"
	invalidArgs      = "org.freedesktop.DBus.Error.InvalidArgs"
	unknownInterface = "org.freedesktop.DBus.Error.UnknownInterface"
	limitsExceeded   = "org.freedesktop.DBus.Error.LimitsExceeded"
	propertyReadOnly = "org.freedesktop.DBus.Error.PropertyReadOnly"
)

func refuse(code grammar.Code, format string, args ...any) error {
	return &daemon.Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// plain is an error with a name of its own.
func plain(name, format string, args ...any) error {
	return dbus.NewError(name, []any{fmt.Sprintf(format, args...)})
}

// wire is an error as clients get it, in the words of firewalld: the code, and the detail after a colon when there is one.
// What has no code is the detail alone.
func wire(err error) string {
	var refused *daemon.Error
	if errors.As(err, &refused) {
		return join(refused.Code, refused.Msg)
	}
	code, detail := zones.CodeOf(err)
	if code == zones.UnknownError && detail != "" {
		return detail
	}
	return join(code, detail)
}

// codeOf is the code of an error and what the log says of it.
func codeOf(err error) (grammar.Code, string) {
	var refused *daemon.Error
	if !errors.As(err, &refused) {
		return zones.ReasonOf(err)
	}
	return refused.Code, strings.ReplaceAll(refused.Msg, "\n", "; ") // of several rules or losses, each has a line
}

func join(code grammar.Code, detail string) string {
	if detail == "" {
		return string(code)
	}
	return string(code) + ": " + detail
}

// harmless are the errors that say that something is already as it was asked for.
var harmless = map[grammar.Code]bool{
	zones.AlreadyEnabled: true, zones.NotEnabled: true, zones.ZoneAlreadySet: true, zones.AlreadySet: true,
}

// toldError is an error that answers a question: nothing has failed that the log would have to tell of.
type toldError struct{ error }

func (e *toldError) Unwrap() error { return e.error }

// notRunning is the code of a call that the end of the daemon has cut off: firewall-cmd ends with the same status when it finds no daemon.
const notRunning grammar.Code = "NOT_RUNNING"

// errEnding is the answer to a call that is not carried out any more, because the daemon is ending. The log has a line about the end itself.
var errEnding = refuse(notRunning, "the firewall is ending, and does not finish what it was asked for")

// failure logs an error and makes it what clients get.
func (s *Server) failure(in *inbound, err error) *dbus.Error {
	if errors.Is(err, errEnding) || s.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return dbus.NewError(exception, []any{wire(errEnding)})
	}
	var named *dbus.Error
	if errors.As(err, &named) {
		return named
	}
	code, reason := codeOf(err)
	hints := s.hintsOf(in, err)
	var told *toldError
	switch {
	case errors.As(err, &told):
		s.log.Debug(clip(join(code, reason)), "call", in.member)
	case harmless[code]:
		s.log.Warn(clip(join(code, reason)))
	case len(hints) > 0 && daemon.OfFiles(err):
		s.log.Error("the files cannot be used: "+clip(strings.ReplaceAll(strings.Join(hints, "; "), ":; ", ": ")), "call", in.member)
	default:
		s.log.Error(clip(join(code, reason)), "call", in.member)
	}
	if reloads[in.member] && daemon.OfFiles(err) {
		hints = append(hints, behindReload(err, s.daemon.Snapshot().Guarded))
	}
	s.hints.keep(in.sender, in.uid, hints)
	return dbus.NewError(exception, []any{wire(err)})
}

// behindReload is what there is to say of the firewall behind a reload that was refused. guarded says that nothing new is let in.
func behindReload(err error, guarded bool) string {
	switch {
	case daemon.Midway(err):
		return "the reload has failed midway, and a part of it cannot be taken out of the kernel yet: nothing new is let in until it is, which is tried again every few seconds; firewall-cmd --state says whether it is done"
	case guarded:
		return "the configuration is the one before, but another program has changed the rules: nothing new is let in until they are put back, which is done by itself; firewall-cmd --state says whether it is done, and the reload can be tried again then"
	}
	return "nothing has changed: the firewall goes on as before; firewall-cmd --check-config says whether the files are mended, but for what only a reload can tell"
}

// longest is how many bytes of a text about an error are sent or logged.
const longest = 4 << 10

// clip is a text about an error as it can be sent: not too long, and valid (D-Bus specification, "Basic types").
func clip(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + "…"
}
