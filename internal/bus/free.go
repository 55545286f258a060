package bus

import (
	"fmt"

	"github.com/godbus/dbus/v5"
)

// Free is nil when no process has the daemon's name on a bus, whose address is as for Connect. The error is ErrTaken when one
// has it.
func Free(address string) error {
	var conn *dbus.Conn
	var err error
	if address == "" {
		conn, err = dbus.ConnectSystemBus()
	} else {
		conn, err = dbus.Connect(address)
	}
	if err != nil {
		return fmt.Errorf("cannot reach the message bus: %w", err)
	}
	defer conn.Close()
	var taken bool
	if err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, base).Store(&taken); err != nil {
		return fmt.Errorf("cannot ask the message bus: %w", err)
	}
	if taken {
		return ErrTaken
	}
	return nil
}
