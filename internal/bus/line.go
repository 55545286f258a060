package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
	"richwall/internal/bus/networkmanager"
)

// line is a connection to the bus, with what is known of the clients on it: their names mean others after the bus was
// started anew.
type line struct {
	server    *Server
	bus       *socket
	aside     *socket
	conn      *dbus.Conn // the library's view of bus
	access    access
	id        string // of the bus, another one after each start of it; unique names on another bus are others' (D-Bus specification, "GetId")
	queue     *queue
	newcomers *newcomers
	up        atomic.Bool // whether all of these are known; calls that come before are dropped
}

// errOurs is that the daemon's name is still that of its former connection, which the bus has not seen to be gone.
var errOurs = errors.New("the name " + base + " is not free yet")

// dial connects to the bus and takes the daemon's name. The error is ErrTaken when another process has it.
func (s *Server) dial() (*line, error) {
	ctx, cancel := context.WithTimeout(s.ctx, authTime)
	defer cancel()
	l := &line{server: s, queue: newQueue(), newcomers: newNewcomers()}
	var err error
	if l.aside, err = open(ctx, s.address, s.log, nil); err != nil {
		return nil, fmt.Errorf("cannot reach the message bus: %w", err)
	}
	l.access = access{budget: &s.budget, aside: l.aside.bus, busTime: busTime, asked: map[uint32]int{}}
	if l.bus, err = open(ctx, s.address, s.log, l); err != nil {
		l.aside.Close()
		return nil, fmt.Errorf("cannot reach the message bus: %w", err)
	}
	l.conn, l.access.bus = l.bus.bus, l.bus.bus
	l.up.Store(true)
	err = l.conn.BusObject().CallWithContext(ctx, busDriver+".GetId", 0).Store(&l.id)
	if err == nil {
		err = l.takeName(ctx, s.line.Load())
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// takeName takes the daemon's name. A connection that was given up may have it for a moment still.
func (l *line) takeName(ctx context.Context, former *line) error {
	var reply dbus.RequestNameReply
	err := l.conn.BusObject().CallWithContext(ctx, busDriver+".RequestName", 0, base, dbus.NameFlagDoNotQueue).Store(&reply)
	if err != nil || reply == dbus.RequestNameReplyPrimaryOwner {
		return err
	}
	owner, err := networkmanager.Owner(ctx, l.conn, base)
	switch {
	case err != nil:
		return err
	case owner == "" || former != nil && former.id == l.id && owner == former.name():
		return errOurs
	}
	return ErrTaken
}

// name is the unique name of the daemon.
func (l *line) name() string { return l.conn.Names()[0] }

func (l *line) close() error { return errors.Join(l.aside.bus.Close(), l.bus.bus.Close()) }

// redial is how long is waited between two attempts to come back on the bus.
const redial = time.Second

// keepUp comes back on the bus whenever that was lost, until the server is closed. What others do with the name meanwhile
// ends it: whoever has the name has the firewall.
func (s *Server) keepUp() {
	defer close(s.done)
	for {
		l := s.line.Load()
		select {
		case <-s.ctx.Done():
			return
		case <-l.conn.Context().Done():
		case <-l.aside.bus.Context().Done():
		}
		l.close()
		if s.ctx.Err() != nil {
			return
		}
		s.log.Error("the message bus is gone: the firewall stays as it is, and can be asked again when the bus is back")
		if !s.comeBack() {
			return
		}
	}
}

// comeBack connects to the bus as soon as that is possible. It is false when there is nothing to come back for.
func (s *Server) comeBack() bool {
	for {
		l, err := s.dial()
		switch {
		case err == ErrTaken:
			s.log.Error("another process has taken the name on the message bus", "name", base)
			return false
		case err == nil:
			s.take(l)
			s.log.Info("the message bus is back")
			return true
		}
		select {
		case <-s.ctx.Done():
			return false
		case <-time.After(redial):
		}
	}
}

// take makes a connection the server's, unless that is closed.
func (s *Server) take(l *line) {
	s.line.Store(l)
	s.hints.forget()
	s.told.forget()
	if s.ctx.Err() != nil {
		l.close()
	}
}
