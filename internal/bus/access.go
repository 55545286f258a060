package bus

import (
	"context"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// access says who may call what. Where polkit runs it decides; else only root may call. Polkit itself lets root do
// everything (polkit(8), "The system bus and root"), and so root is not asked about.
type access struct {
	conn *dbus.Conn

	mu    sync.Mutex
	known map[string]uint32 // the user of a client, by its unique name, which no other client gets while the bus runs
}

// superuser is the user who may do everything.
var superuser uint32

// remembered is the number of clients whose user is remembered.
const remembered = 1000

// patience is the time to answer a question of polkit for a password.
const patience = 60 * time.Second

// check is nil if a client may do what an action covers.
func (a *access) check(sender string, needs action) error {
	uid, err := a.user(sender)
	if err == nil && uid == superuser {
		return nil
	}
	id := base + "." + string(needs)
	allowed, asked := a.polkit(sender, id)
	switch {
	case allowed:
		return nil
	case asked:
		return plain(notAuthorized, "Not Authorized(polkit): %s", id)
	}
	return plain(notAuthorized, "Not Authorized(uid): %s", id)
}

// user is the user id of a client.
func (a *access) user(sender string) (uint32, error) {
	a.mu.Lock()
	uid, ok := a.known[sender]
	a.mu.Unlock()
	if ok {
		return uid, nil
	}
	if err := a.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixUser", 0, sender).Store(&uid); err != nil {
		return 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= remembered {
		clear(a.known)
	}
	a.known[sender] = uid
	return uid, nil
}

// polkit asks whether a client may do something; asked is false where there is no polkit. The call is
// org.freedesktop.PolicyKit1.Authority.CheckAuthorization, with flag 1: the user may be asked for a password.
func (a *access) polkit(sender, id string) (allowed, asked bool) {
	subject := struct {
		Kind    string
		Details map[string]dbus.Variant
	}{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(sender)}}
	var result struct {
		Authorized, Challenge bool
		Details               map[string]string
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	authority := a.conn.Object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority")
	err := authority.CallWithContext(ctx, "org.freedesktop.PolicyKit1.Authority.CheckAuthorization", 0,
		subject, id, map[string]string{}, uint32(1), "").Store(&result)
	return err == nil && result.Authorized, err == nil
}
