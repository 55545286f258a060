package firewallcmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"

	"richwall/grammar"
	"richwall/zones"
)

// The names of firewalld on the system bus.
const (
	busName    = "org.fedoraproject.FirewallD1"
	mainPath   = dbus.ObjectPath("/org/fedoraproject/FirewallD1")
	configPath = mainPath + "/config"
)

// daemon is a running firewalld.
type daemon struct {
	conn    *dbus.Conn
	changed bool // a call was made that changes files
}

// dial connects to the system bus.
func dial() (*daemon, error) {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, &failure{"DBUS_ERROR", unreachable(err), []string{
			"the message bus does not answer, so that it is not known how the firewall is: its rules stay in force without the bus; systemctl status dbus firewalld says more",
		}}
	}
	return &daemon{conn: conn}, nil
}

// unreachable says in firewalld's words, which are those of libdbus, why the bus cannot be reached.
func unreachable(err error) string {
	var op *net.OpError
	var no syscall.Errno
	if errors.As(err, &op) && op.Addr != nil && errors.As(err, &no) {
		reason := no.Error()
		return fmt.Sprintf("Failed to connect to socket %s: %s%s", op.Addr, strings.ToUpper(reason[:1]), reason[1:])
	}
	return err.Error()
}

func (d *daemon) close() {
	// The answers have arrived: an error of closing changes nothing.
	_ = d.conn.Close()
}

// call calls a method, and stores its answer into results. The interface is said without the name of firewalld: "" is the
// main one, "zone" that of zones.
func (d *daemon) call(path dbus.ObjectPath, iface, method string, args []any, results ...any) error {
	name := busName
	if iface != "" {
		name += "." + iface
	}
	answer := d.conn.Object(busName, path).Call(name+"."+method, 0, args...)
	if answer.Err != nil {
		return d.withHints(busError(answer.Err))
	}
	d.changed = d.changed || strings.HasPrefix(iface, "config") && !strings.HasPrefix(method, "get") && !strings.HasPrefix(method, "query")
	if len(results) == 0 {
		return nil
	}
	if err := answer.Store(results...); err != nil {
		return fail("DBUS_ERROR", "cannot understand the answer of %s.%s: %v", name, method, err)
	}
	return nil
}

// withHints adds to a refusal what the daemon can say of it besides. firewalld itself can say nothing.
func (d *daemon) withHints(err error) error {
	var f *failure
	if !errors.As(err, &f) || harmless(err) || zones.CodeNumber(grammar.Code(f.code)) >= firstOfBus {
		return err
	}
	f.hints = d.told("getHints")
	return f
}

// told is what a method of the daemon says besides; nothing where it does not answer soon. firewalld itself has no such method.
func (d *daemon) told(method string) (lines []string) {
	ctx, cancel := context.WithTimeout(context.Background(), hintTime)
	defer cancel()
	if d.conn.Object(busName, mainPath).CallWithContext(ctx, busName+".richwall."+method, 0).Store(&lines) != nil {
		return nil
	}
	return lines
}

// firstOfBus is the lowest exit status of what is no refusal: not running, not authorized, unknown.
const firstOfBus = 251

// main calls a method of the running configuration.
func (d *daemon) main(iface, method string, args []any, results ...any) error {
	return d.call(mainPath, iface, method, args, results...)
}

// config calls a method of the permanent configuration.
func (d *daemon) config(method string, args []any, results ...any) error {
	return d.call(configPath, "config", method, args, results...)
}

// property reads a property of the running firewall.
func (d *daemon) property(name string) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), propertyTime)
	defer cancel()
	var value dbus.Variant
	answer := d.conn.Object(busName, mainPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, busName, name)
	if ctx.Err() != nil {
		return nil, &failure{"DBUS_ERROR", fmt.Sprintf("the firewall has not answered for %v", propertyTime), []string{
			"its rules stay in force meanwhile; systemctl status firewalld says more",
		}}
	}
	if answer.Err != nil {
		return nil, busError(answer.Err)
	}
	err := answer.Store(&value)
	return value.Value(), err
}

// hintTime is the longest that is waited for what there is to say besides, which no caller needs. It is a variable for tests.
var hintTime = 2 * time.Second

// propertyTime is the longest that a property is waited for, which needs no work of the firewall's: as long as programs that use libdbus wait
// for an answer unless they say otherwise (dbus_connection_send_with_reply_and_block). It is a variable for tests.
var propertyTime = 25 * time.Second

// state is RUNNING, FAILED or INIT, in small letters.
func (d *daemon) state() (string, error) {
	value, err := d.property("state")
	if err != nil {
		return "", err
	}
	state, ok := value.(string)
	if !ok {
		return "", fail("DBUS_ERROR", "the state of the firewall is no text")
	}
	return strings.ToLower(state), nil
}

// notThere are the D-Bus errors that mean that no daemon has the name of firewalld.
var notThere = []string{
	"org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.ServiceUnknown",
	"org.freedesktop.DBus.Error.NoReply",
}

// errDenied says that polkit has refused the user. firewall-cmd has firewalld's text for it, without the code.
var errDenied = fail("NOT_AUTHORIZED", "Authorization failed.")

// busError makes a failure of an error that came over the bus. firewalld's have "CODE" or "CODE: detail" as their text.
func busError(err error) error {
	var e dbus.Error
	if !errors.As(err, &e) {
		return fail("DBUS_ERROR", "%v", err)
	}
	message, _ := errorText(e)
	switch {
	case strings.HasSuffix(e.Name, "NotAuthorizedException"):
		return errDenied
	case e.Name == "org.freedesktop.DBus.Error.AccessDenied":
		return fail("NOT_AUTHORIZED", "%s", message)
	case slices.Contains(notThere, e.Name):
		return fail("NOT_RUNNING", "FirewallD is not running")
	}
	code, detail, _ := strings.Cut(message, ":")
	if !isCode(code) {
		return fail(unknownError, "%s", message)
	}
	return &failure{code: code, detail: strings.TrimSpace(detail)}
}

func errorText(e dbus.Error) (string, bool) {
	if len(e.Body) == 0 {
		return e.Name, false
	}
	text, ok := e.Body[0].(string)
	return text, ok
}

// isCode says whether a word looks like one of firewalld's codes.
func isCode(word string) bool {
	return word != "" && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// How often the daemon is looked for when nobody has its name, and how long is waited in between. One that is just
// starting has it soon.
const (
	attempts = 100
	pause    = 100 * time.Millisecond
)

// awaitDaemon waits for a daemon that is just starting.
func (s *session) awaitDaemon() error {
	for attempt := range attempts {
		var has bool
		answer := s.daemon.conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, busName)
		if err := answer.Store(&has); err != nil {
			return busError(err)
		}
		if has {
			return nil
		}
		if attempt == 0 {
			s.out.complain("Waiting on dbus connection...")
		}
		sleep(pause)
	}
	text := "FirewallD is not running"
	if s.option != nil && s.option.do == doState {
		text = "not running"
	}
	s.out.complain(text)
	return exitStatus(statusOf(&failure{code: "NOT_RUNNING"}))
}

// sleep is time.Sleep, but for tests.
var sleep = time.Sleep
