package bus

import (
	"io"
	"sync"

	"richwall/internal/fault"
)

// newcomers are clients whose user the bus has not said yet. It is known whose a call is before anything is done about it, but nobody
// waits for what the bus says of others: the calls of a newcomer are held, in their order, and those of everybody else are taken.
type newcomers struct {
	mu    sync.Mutex
	heard sync.Cond // something was released
	known map[string]uint32
	held  map[string][]*frame // by client; one that is being asked about has an entry
	load
}

// mostHeld is what is held at once. The bus passes on less while it says who a client is. What is more waits in the bus.
var mostHeld = load{2048, 4 << 20}

// remembered is the number of clients whose user is remembered.
const remembered = 1000

func newNewcomers() *newcomers {
	n := &newcomers{known: map[string]uint32{}, held: map[string][]*frame{}}
	n.heard.L = &n.mu
	return n
}

// user is the user of a client, by its unique name, which no other client gets while the bus runs.
func (n *newcomers) user(sender string) (uid uint32, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	uid, known = n.known[sender]
	return uid, known
}

// room waits until a call of so many bytes, which are no more than mostHeld has, can be held.
func (n *newcomers) room(bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for !n.fits(bytes, mostHeld) {
		n.heard.Wait()
	}
}

// settled waits until nothing of a client is held.
func (n *newcomers) settled(sender string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, asked := n.held[sender]; asked; _, asked = n.held[sender] {
		n.heard.Wait()
	}
}

// hold holds a call of a client who was not known when it came, unless he is now. He is to be asked about if it is the first.
func (n *newcomers) hold(f *frame) (uid uint32, known, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if uid, known = n.known[f.sender]; known {
		return uid, true, false
	}
	calls, asked := n.held[f.sender]
	n.load = n.plus(1, f.counted())
	n.held[f.sender] = append(calls, f)
	return 0, false, !asked
}

// release returns the calls of a client that are held. Where there are none any more, he is known from then on, if that is worth
// remembering.
func (n *newcomers) release(sender string, uid uint32, remember bool) []*frame {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard.Broadcast()
	calls := n.held[sender]
	if len(calls) == 0 {
		delete(n.held, sender)
		if len(n.known) >= remembered {
			clear(n.known)
		}
		if remember {
			n.known[sender] = uid
		}
		return nil
	}
	n.held[sender] = nil
	for _, f := range calls {
		n.load = n.plus(-1, -f.counted())
	}
	return calls
}

// arrive implements caller.
func (l *line) arrive(f *frame, in io.Reader) error {
	if !l.up.Load() {
		return f.discardBody(in)
	}
	if uid, known := l.newcomers.user(f.sender); known {
		return l.read(f, uid, in)
	}
	if f.counted() > mostHeld.bytes { // it is not read before it is known whose it is
		l.newcomers.settled(f.sender)
		uid, remember := l.access.user(f.sender)
		l.newcomers.release(f.sender, uid, remember)
		return l.read(f, uid, in)
	}
	l.newcomers.room(f.counted())
	if l.server.room(f) != nil {
		f.unread = true
		if err := f.discardBody(in); err != nil {
			return err
		}
	} else if err := f.readBody(in); err != nil {
		return err
	}
	switch uid, known, first := l.newcomers.hold(f); {
	case known:
		l.takeRead(f, uid)
	case first:
		go fault.Guard(l.server.log, "asking who a client is", func() { l.meet(f.sender) })
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
	if f.unread || !l.admit(f, uid) {
		l.refuse(f, uid)
		return
	}
	l.take(f, uid)
}
