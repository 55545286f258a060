package bus

import (
	"io"
	"sync"

	"richwall/internal/fault"
)

// newcomers are clients whose user the bus has not said yet. It is known whose a call is before anything is done about it, but nobody
// waits for what the bus says of others: the calls of a newcomer are held, in their order, and those of everybody else are taken.
//
// No call is left in the bus until there is room for it, as those of root behind it would wait, too. A call for which there is no room is
// refused at once. Who fills the room may be a stranger and who is refused may be root, so each newcomer has some room of his own, which
// is enough for a small call. Others can be the reason why a newcomer's large call, or one of many, is refused. They are the reason why a
// small one is refused only if there are mostNewcomers of them.
type newcomers struct {
	mu     sync.Mutex
	known  map[string]uint32 // clients that are not root's
	roots  map[string]uint32 // clients of root, apart from the others, so that these do not make them newcomers again
	held   map[string]*newcomer
	shared load // what is held beyond the rooms of their own
}

// newcomer is a client that the bus is asked about.
type newcomer struct {
	calls       []*frame
	own, shared load // in the room of his own, and beyond that
}

// What is held at once: in a newcomer's own room, and in the room that they share, of one and of all.
var (
	ownRoom    = load{8, 8 << 10}
	sharedRoom = struct{ client, all load }{load{1024, 2 << 20}, load{8192, 8 << 20}}
)

// largest is the bytes of the largest call that is held. It is held only if the shared room is empty: the first call of a client of root's
// may be as large. On the system bus no message is larger, unless dbus-daemon is told otherwise (dbus-daemon(1), max_message_size).
const largest = 32 << 20

// mostNewcomers is the number of clients that the bus is asked about at once. It is as many connections as dbus-daemon has at most unless
// it is told otherwise (dbus-daemon(1), max_completed_connections; of one user it has 256).
const mostNewcomers = 2048

// remembered is the number of clients whose user is remembered, of root and of all others.
const remembered = 1000

func newNewcomers() *newcomers {
	return &newcomers{known: map[string]uint32{}, roots: map[string]uint32{}, held: map[string]*newcomer{}}
}

// look tells the user of a client by whom a call is, if he is known, and else whether the call can be held. There is no less room for it
// until the next call is held.
func (n *newcomers) look(f *frame) (uid uint32, known, room bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if uid, known = n.user(f.sender); known {
		return uid, true, false
	}
	c := n.held[f.sender]
	if c == nil {
		if len(n.held) >= mostNewcomers {
			return 0, false, false
		}
		c = &newcomer{}
	}
	_, room = n.fits(c, f.counted())
	return 0, false, room
}

// user is the user of a client, by its unique name, which no other client gets while the bus runs. The lock is held.
func (n *newcomers) user(sender string) (uid uint32, known bool) {
	if uid, known = n.roots[sender]; !known {
		uid, known = n.known[sender]
	}
	return uid, known
}

// remember notes the user of a client. The lock is held.
func (n *newcomers) remember(sender string, uid uint32) {
	clients := n.known
	if uid == superuser {
		clients = n.roots
	}
	if len(clients) >= remembered {
		clear(clients)
	}
	clients[sender] = uid
}

// fits reports whether a call of so many bytes can be held for a newcomer, and whether that is in the room of his own. The lock is held.
func (n *newcomers) fits(c *newcomer, bytes int) (own, fits bool) {
	switch {
	case c.own.fits(bytes, ownRoom):
		return true, true
	case n.shared.calls == 0:
		return false, bytes <= largest
	}
	return false, c.shared.fits(bytes, sharedRoom.client) && n.shared.fits(bytes, sharedRoom.all)
}

// expect notes that a client is asked about, if one more can be. He is to be asked about if that is new.
func (n *newcomers) expect(sender string) (isNew bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held[sender] != nil || len(n.held) >= mostNewcomers {
		return false
	}
	n.held[sender] = &newcomer{}
	return true
}

// hold holds a call, for which there is room, of a client who was not known when it came, unless he is now. He is to be asked about if
// it is the first.
func (n *newcomers) hold(f *frame) (uid uint32, known, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if uid, known = n.user(f.sender); known {
		return uid, true, false
	}
	c := n.held[f.sender]
	if first = c == nil; first {
		c = &newcomer{}
		n.held[f.sender] = c
	}
	c.calls = append(c.calls, f)
	if own, _ := n.fits(c, f.counted()); own {
		c.own = c.own.plus(1, f.counted())
	} else {
		c.shared, n.shared = c.shared.plus(1, f.counted()), n.shared.plus(1, f.counted())
	}
	return 0, false, first
}

// release returns the calls of a client that are held. Where there are none any more, he is known from then on, if that is worth
// remembering.
func (n *newcomers) release(sender string, uid uint32, remember bool) []*frame {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.held[sender]
	if c == nil || len(c.calls) == 0 {
		delete(n.held, sender)
		if remember {
			n.remember(sender, uid)
		}
		return nil
	}
	n.shared = n.shared.plus(-c.shared.calls, -c.shared.bytes)
	n.held[sender] = &newcomer{}
	return c.calls
}

// arrive implements caller. It waits for nothing but the bytes of the call.
func (l *line) arrive(f *frame, in io.Reader) error {
	if !l.up.Load() {
		return f.discardBody(in)
	}
	switch uid, known, room := l.newcomers.look(f); {
	case known:
		return l.read(f, uid, in)
	case !room || l.server.room(f) != nil:
		l.turnAway(f)
		return f.discardBody(in)
	}
	if err := f.readBody(in); err != nil {
		return err
	}
	switch uid, known, first := l.newcomers.hold(f); {
	case known:
		l.takeRead(f, uid)
	case first:
		l.ask(f.sender)
	}
	return nil
}

// read reads a call of a user and takes it, if there is room for it; else it reads past it.
func (l *line) read(f *frame, uid uint32, in io.Reader) error {
	if !l.admit(f, uid) {
		l.refuse(f, uid)
		return f.discardBody(in)
	}
	err := f.readBody(in)
	if err == nil {
		l.take(f, uid)
	}
	return err
}

// turnAway answers a newcomer's call that cannot be held, and asks the bus about him. He gets the answer to the first one whatever others
// have spent.
func (l *line) turnAway(f *frame) {
	first := l.newcomers.expect(f.sender)
	if first {
		l.ask(f.sender)
	}
	if f.answered() && (first || l.server.budget.spend(unknownUser, refusal)) {
		l.refuseFor(f, unknownUser, "too many calls of clients wait until the message bus has said who these are; call again")
	}
}

// ask asks the bus who a newcomer is, and does not wait for the answer.
func (l *line) ask(sender string) {
	go fault.Guard(l.server.log, "asking who a client is", func() { l.meet(sender) })
}

// meet asks the bus who a client is, and takes the calls of his that were held.
func (l *line) meet(sender string) {
	uid, remember := l.access.user(sender)
	for calls := l.newcomers.release(sender, uid, remember); calls != nil; calls = l.newcomers.release(sender, uid, remember) {
		for _, f := range calls {
			l.takeRead(f, uid)
		}
	}
}

// takeRead takes a call whose body was read already, if there is room for it.
func (l *line) takeRead(f *frame, uid uint32) {
	if !l.admit(f, uid) {
		l.refuse(f, uid)
		return
	}
	l.take(f, uid)
}
