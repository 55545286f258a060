package bus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// never is how long the daemon waits, in the tests, for a bus that does not say who a client is.
const never = time.Minute

// besideStrangers is a line on a bus that never says who a client with a name such as ":2.1" is. All others are root's.
func besideStrangers(t *testing.T) *line {
	t.Helper()
	aside, err := open(t.Context(), playBus(t, func(msg *dbus.Message) *dbus.Message {
		if strings.HasPrefix(msg.Body[0].(string), ":2.") {
			return nil
		}
		return replyTo(msg, superuser)
	}), discard(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { aside.Close() })
	server := &Server{log: discard(), ctx: t.Context(), budget: budget{spent: map[uint32]spending{}}}
	l := &line{server: server, queue: newQueue(), newcomers: newNewcomers(), bus: &socket{}}
	l.bus.begun = true
	l.access = access{budget: &server.budget, bus: aside.bus, aside: aside.bus, busTime: never, asked: map[uint32]int{}}
	l.up.Store(true)
	return l
}

// callFrom is a call with a text of so many bytes; none is a call of Ping.
func callFrom(sender string, size int) []byte {
	msg := message(base, root, peerName+".Ping")
	if size > 0 {
		msg = message(base, root, base+".zone.addRichRule", strings.Repeat("x", size))
	}
	msg.Headers[dbus.FieldSender] = dbus.MakeVariant(sender)
	return frameOf(msg, 7)
}

// comes has a call arrive on a line. It is read to its end, whatever becomes of it.
func comes(t *testing.T, l *line, call []byte) {
	t.Helper()
	in := bytes.NewReader(call)
	f, err := readHead(in)
	if err == nil {
		err = l.arrive(f, in)
	}
	if err != nil || in.Len() > 0 {
		t.Fatalf("the call is read with %d bytes left: %v", in.Len(), err)
	}
}

// answerTo is the next message to a client that is sent on a line, and what is sent before it goes nowhere.
func answerTo(l *line, client string) string {
	for {
		if sent, ok := l.bus.out.take(); !ok || strings.Contains(string(sent), client+"\x00") {
			return string(sent)
		}
	}
}

// What strangers send whom the bus never says anything about keeps no call of root waiting, and takes the place of no small one: whether the
// bus has said before that the client is root's, or has yet to say so.
func TestCallsBesideANewcomer(t *testing.T) {
	for name, strangers := range map[string]struct{ clients, calls, size int }{
		"one call":                            {1, 1, 0},
		"one call of 5 MB":                    {1, 1, 5 << 20},
		"a call of 1.5 MB from each of three": {3, 1, 3 << 19},
		"large calls from each of 50":         {50, 2, 1 << 20},
		"small calls from each of 50":         {50, 200, 100},
		"a small call from each of 1500":      {1500, 1, 100},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			l := besideStrangers(t)
			l.newcomers.release(":1.5", superuser, true)
			begun := time.Now()
			for n := range strangers.clients {
				call := callFrom(fmt.Sprintf(":2.%d", n), strangers.size)
				for range strangers.calls {
					comes(t, l, call)
				}
			}
			for _, client := range []string{":1.5", ":1.6"} { // the second one is new
				comes(t, l, callFrom(client, 0))
				if answer := answerTo(l, client); dbus.Type(answer[1]) != dbus.TypeMethodReply {
					t.Errorf("%s is answered with %q", client, answer)
				}
			}
			if took := time.Since(begun); took >= never {
				t.Errorf("the calls of root were answered after %v", took)
			}
		})
	}
}

// A newcomer's call for which there is no room is refused at once, and he is asked about, so that there is an answer to the next one.
func TestNewcomersWithoutRoom(t *testing.T) {
	l := besideStrangers(t)
	for n := range 20 {
		comes(t, l, callFrom(fmt.Sprintf(":2.%d", n), 1<<20))
	}
	comes(t, l, callFrom(":2.99", 1<<20))
	if answer := answerTo(l, ":2.99"); !strings.Contains(answer, limitsExceeded) {
		t.Errorf("the answer is %q", answer)
	}
	comes(t, l, callFrom(":1.5", 1<<20))
	if answer := answerTo(l, ":1.5"); !strings.Contains(answer, limitsExceeded) {
		t.Errorf("the answer to root is %q", answer)
	}
	for ended := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if uid, known, _ := l.newcomers.look(&frame{sender: ":1.5"}); known && uid == superuser {
			break
		}
		if time.Now().After(ended) {
			t.Fatal("the bus is not asked about a client whose first call was refused")
		}
	}
}

// The calls of a client are held until the bus has said who it is, and come out in their order. Then the client is known.
func TestNewcomers(t *testing.T) {
	n := newNewcomers()
	call := func(member string) *frame { return &frame{sender: ":1.7", member: member} }
	for i, member := range []string{"a", "b"} {
		if _, known, first := n.hold(call(member)); known || first != (i == 0) {
			t.Errorf("the call %s: known %v, first %v", member, known, first)
		}
	}
	members := func() (list string) {
		for _, f := range n.release(":1.7", 42, true) {
			list += f.member
		}
		return list
	}
	if got := members(); got != "ab" {
		t.Errorf("released are %q", got)
	}
	if _, known, first := n.hold(call("c")); known || first {
		t.Errorf("a call while others are taken: known %v, first %v", known, first)
	}
	if got := members(); got != "c" {
		t.Errorf("released are %q", got)
	}
	if got := members(); got != "" || len(n.held) != 0 {
		t.Errorf("released are %q, and %d clients have calls", got, len(n.held))
	}
	if uid, known, _ := n.look(call("d")); uid != 42 || !known {
		t.Errorf("the user is %d, known %v", uid, known)
	}
	if uid, known, _ := n.hold(call("d")); uid != 42 || !known {
		t.Errorf("a call that was held too late: the user is %d, known %v", uid, known)
	}
}

// What is held is bounded, for each newcomer and for all of them, in calls and in bytes, whatever comes, and from how many. A small call of
// one more is held all the same, as long as there are no more newcomers than a bus has connections. Once all are known nothing is held.
func TestRoomForNewcomers(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	n := newNewcomers()
	held := map[string]load{}
	var all load
	hold := func(sender string, size int) bool {
		f := &frame{sender: sender, size: size}
		if _, _, room := n.look(f); !room {
			return false
		}
		n.hold(f)
		held[sender], all = held[sender].plus(1, f.counted()), all.plus(1, f.counted())
		return true
	}
	for range 200_000 {
		hold(fmt.Sprintf(":2.%d", random.IntN(1000)), int(1)<<random.IntN(21)) // none that is held only if there is no other
	}
	for sender, l := range held {
		if most := ownRoom.plus(sharedRoom.client.calls, sharedRoom.client.bytes); l.calls > most.calls || l.bytes > most.bytes {
			t.Errorf("%v is held for %s", l, sender)
		}
	}
	own := load{ownRoom.calls * len(held), ownRoom.bytes * len(held)}
	if most := own.plus(sharedRoom.all.calls, sharedRoom.all.bytes); all.calls > most.calls || all.bytes > most.bytes {
		t.Errorf("%v is held for all", all)
	}
	if n.shared.bytes < sharedRoom.all.bytes-1<<20 && n.shared.calls < sharedRoom.all.calls {
		t.Errorf("the shared room is not full: %v", n.shared)
	}
	for i := 0; len(n.held) < mostNewcomers; i++ {
		if !hold(fmt.Sprintf(":3.%d", i), 1000) {
			t.Fatalf("there is no room for a small call beside %d newcomers", len(n.held))
		}
	}
	if hold(":4.1", 1000) || n.expect(":4.1") {
		t.Errorf("there are %d newcomers", len(n.held)+1)
	}
	for sender := range held {
		for n.release(sender, 42, true) != nil {
		}
	}
	if n.shared != (load{}) || len(n.held) > 0 {
		t.Errorf("when all are known, %v is held for %d", n.shared, len(n.held))
	}
}

// A large call is held if no other newcomer has one: it may be the first one of a client of root's. It is bounded, too.
func TestLargeCallOfANewcomer(t *testing.T) {
	n := newNewcomers()
	n.hold(&frame{sender: ":1.7"}) // a small one
	large := &frame{sender: ":1.7", size: largest - overhead}
	if _, _, room := n.look(&frame{sender: ":1.7", size: largest}); room {
		t.Error("there is room for a call that is too large")
	}
	if _, _, room := n.look(large); !room {
		t.Error("there is no room for a large call")
	}
	n.hold(large)
	for _, sender := range []string{":1.7", ":1.8"} {
		if _, _, room := n.look(&frame{sender: sender, size: ownRoom.bytes}); room {
			t.Errorf("beside a large call there is room for another one of %s", sender)
		}
	}
}

// Root's first call on a connection may be a large one: it is carried out, or refused for what it says.
func TestLargeFirstCallOfRoot(t *testing.T) {
	b := newBed(t, nil)
	w, err := dialWild(b.address, int(superuser), false)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.send(frameOf(message(base, root, base+".zone.addRichRule", "public", strings.Repeat("x", 5<<20), int32(0)), 7)); err != nil {
		t.Fatal(err)
	}
	if reply, err := w.receive(); err != nil || reply.Headers[dbus.FieldErrorName].Value() != exception {
		t.Errorf("the answer is %.200v, %v", reply, err)
	}
}

// However many others come, a client of root's does not become a newcomer again, whose large calls may be refused.
func TestRootStaysKnown(t *testing.T) {
	n := newNewcomers()
	n.release(":1.5", superuser, true)
	for i := range 3 * remembered {
		n.release(fmt.Sprintf(":2.%d", i), 42, true)
	}
	if uid, known, _ := n.look(&frame{sender: ":1.5"}); !known || uid != superuser {
		t.Errorf("the user is %d, known %v", uid, known)
	}
	if len(n.known) > remembered {
		t.Errorf("%d clients are remembered", len(n.known))
	}
	for i := range 3 * remembered {
		n.release(fmt.Sprintf(":1.%d", 10+i), superuser, true)
	}
	if len(n.roots) > remembered {
		t.Errorf("%d clients of root's are remembered", len(n.roots))
	}
}
