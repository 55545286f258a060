package bus

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
	"richwall/internal/bus/networkmanager"
)

// access says who may call what. Where polkit runs it decides; else only root may call. Polkit itself lets root do
// everything (polkit(8), "The system bus and root"), and so root is not asked about, and waits for nobody.
type access struct {
	bus    *dbus.Conn
	budget *budget
	// aside is a connection on which nothing arrives but answers to what is asked on it.
	aside *dbus.Conn
	// busTime is the longest that the bus may take for an answer about a client.
	busTime time.Duration

	mu     sync.Mutex
	asked  map[uint32]int // questions to polkit that are not answered yet, by the user they are about
	total  int            // of all users
	absent time.Time      // when polkit was not there
	number atomic.Uint64  // of the last question
}

// superuser is the user who may do everything.
var superuser uint32

// unknownUser is the user of a client that the bus does not know. It is no user: see setresuid(2).
const unknownUser = ^uint32(0)

// noOwner is the error of the bus about a name that nobody has: the client has gone, and its unique name with it.
const noOwner = "org.freedesktop.DBus.Error.NameHasNoOwner"

const (
	// busTime is the longest that the bus may take for an answer of its own.
	busTime = 5 * time.Second
	// patience is the time to answer a question of polkit for a password.
	patience = 60 * time.Second
	// absence is how long it is taken for granted that there is no polkit, once it was not there.
	absence = 100 * time.Millisecond
	// Questions to polkit, about one user and all, that are not answered yet.
	questionsOfUser, questionsOfAll = 8, 64
)

// user asks the bus for the user id of a client, which is unknownUser if it does not say. An answer can be remembered; not that none
// came, or that the bus could not say.
func (a *access) user(sender string) (uid uint32, remember bool) {
	ctx, cancel := context.WithTimeout(context.Background(), a.busTime)
	defer cancel()
	err := a.aside.BusObject().CallWithContext(ctx, busDriver+".GetConnectionUnixUser", 0, sender).Store(&uid)
	if err == nil {
		return uid, true
	}
	named, ok := err.(dbus.Error)
	return unknownUser, ok && named.Name == noOwner
}

// check is nil if a client may do what an action covers.
func (a *access) check(ctx context.Context, in *inbound, needs action) error {
	if in.uid == superuser {
		return nil
	}
	id := base + "." + string(needs)
	if !a.begin(in.uid) {
		return plain(limitsExceeded, "too many questions to polkit about this user are not answered yet")
	}
	defer a.end(in.uid)
	allowed, asked := a.polkit(ctx, in, id)
	switch {
	case allowed:
		return nil
	case asked:
		return plain(notAuthorized, "Not Authorized(polkit): %s", id)
	}
	return plain(notAuthorized, "Not Authorized(uid): %s", id)
}

// begin notes a question about a user, and reports whether there may be one more.
func (a *access) begin(uid uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked[uid] >= questionsOfUser || a.total >= questionsOfAll {
		return false
	}
	a.asked[uid]++
	a.total++
	return true
}

func (a *access) end(uid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if a.asked[uid]--; a.asked[uid] == 0 {
		delete(a.asked, uid)
	}
}

// The names of polkit.
const (
	polkitName  = "org.freedesktop.PolicyKit1"
	polkitPath  = "/org/freedesktop/PolicyKit1/Authority"
	polkitIface = polkitName + ".Authority"
)

// polkit asks whether a client may do something; asked is false where there is no polkit. The call is
// org.freedesktop.PolicyKit1.Authority.CheckAuthorization, with flag 1: the user may be asked for a password. A question
// that is not answered is taken back.
func (a *access) polkit(ctx context.Context, in *inbound, id string) (allowed, asked bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	owner := a.authority(ctx)
	if owner == "" {
		return false, false
	}
	subject := struct {
		Kind    string
		Details map[string]dbus.Variant
	}{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(in.sender)}}
	var result struct {
		Authorized, Challenge bool
		Details               map[string]string
	}
	a.budget.charge(in.uid, asking)
	question := strconv.FormatUint(a.number.Add(1), 10)
	authority := a.bus.Object(owner, polkitPath)
	err := authority.CallWithContext(ctx, polkitIface+".CheckAuthorization", 0,
		subject, id, map[string]string{}, uint32(1), question).Store(&result)
	if ctx.Err() != nil {
		authority.Call(polkitIface+".CancelCheckAuthorization", dbus.FlagNoReplyExpected, question)
	}
	return err == nil && result.Authorized, err == nil
}

// authority is the unique name of polkit, which the bus starts if that is needed; "" if there is none.
func (a *access) authority(ctx context.Context) string {
	a.mu.Lock()
	absent := time.Since(a.absent) < absence
	a.mu.Unlock()
	if absent {
		return ""
	}
	owner, err := networkmanager.Owner(ctx, a.bus, polkitName)
	if err == nil && owner == "" {
		var result uint32
		err = a.bus.BusObject().CallWithContext(ctx, busDriver+".StartServiceByName", 0, polkitName, uint32(0)).Store(&result)
		if err == nil {
			owner, err = networkmanager.Owner(ctx, a.bus, polkitName)
		}
	}
	if err != nil || owner == "" {
		a.mu.Lock()
		a.absent = time.Now()
		a.mu.Unlock()
		return ""
	}
	return owner
}
