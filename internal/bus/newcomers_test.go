package bus

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// What the bus says of one client, be it late or never, keeps no other waiting.
func TestCallsBesideANewcomer(t *testing.T) {
	aside, err := open(t.Context(), playBus(t, func(msg *dbus.Message) *dbus.Message {
		if msg.Body[0] == ":1.66" {
			return nil
		}
		return replyTo(msg, superuser)
	}), discard(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer aside.Close()
	l := &line{server: &Server{budget: budget{spent: map[uint32]spending{}}}, queue: newQueue(), newcomers: newNewcomers(), bus: &socket{}}
	l.bus.begun, l.access.aside = true, aside.bus
	l.up.Store(true)
	begun := time.Now()
	for _, sender := range []string{":1.66", ":1.5"} {
		msg := message(base, root, peerName+".Ping")
		msg.Headers[dbus.FieldSender] = dbus.MakeVariant(sender)
		in := bytes.NewReader(frameOf(msg, 7))
		f, err := readHead(in)
		if err == nil {
			err = l.arrive(f, in)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took >= busTime { // which the bus has for its answer about :1.66
		t.Errorf("the other call was taken after %v", took)
	}
	if sent, _ := l.bus.out.take(); !strings.Contains(string(sent), ":1.5\x00") {
		t.Errorf("what is sent first is %q", sent)
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
	if got := members(); got != "" || n.load != (load{}) || len(n.held) != 0 {
		t.Errorf("released are %q, held is %v", got, n.load)
	}
	if uid, known := n.user(":1.7"); uid != 42 || !known {
		t.Errorf("the user is %d, known %v", uid, known)
	}
	if uid, known, _ := n.hold(call("d")); uid != 42 || !known {
		t.Errorf("a call that was held too late: the user is %d, known %v", uid, known)
	}
}

// What is held is bounded: what comes when there is no room waits for some.
func TestRoomForNewcomers(t *testing.T) {
	n := newNewcomers()
	n.hold(&frame{sender: ":1.7", size: mostHeld.bytes})
	done := make(chan struct{})
	go func() {
		n.room(1)
		close(done)
	}()
	select {
	case <-done:
		t.Error("there is room for more than the most")
	case <-time.After(50 * time.Millisecond):
	}
	n.release(":1.7", 0, true)
	<-done
}

// A call that is larger than all that is held is not read before it is known whose it is. What its client has sent before comes first.
func TestLargeCallOfANewcomer(t *testing.T) {
	n := newNewcomers()
	n.hold(&frame{sender: ":1.7"})
	done := make(chan struct{})
	go func() {
		n.settled(":1.7")
		close(done)
	}()
	for range 2 { // the call, and that there are no more
		select {
		case <-done:
			t.Fatal("a large call does not wait for the one before it")
		case <-time.After(20 * time.Millisecond):
		}
		n.release(":1.7", 42, true)
	}
	<-done
	if uid, known := n.user(":1.7"); uid != 42 || !known {
		t.Errorf("the user is %d, known %v", uid, known)
	}
}
