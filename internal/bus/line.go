package bus

import (
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// line is a connection to the bus, with what is known of the clients on it: their names mean others after the bus was
// started anew.
type line struct {
	conn   *dbus.Conn
	access access
	queue  *queue
}

// dial connects to the bus and takes the daemon's name. The error is ErrTaken when another process has it.
func (s *Server) dial() (*line, error) {
	l := &line{queue: newQueue()}
	options := []dbus.ConnOption{dbus.WithHandler(handler{s, l}), dbus.WithIncomingInterceptor(l.queue.enter), dbus.WithOutgoingInterceptor(sign)}
	var err error
	if s.address == "" {
		l.conn, err = dbus.ConnectSystemBus(options...)
	} else {
		l.conn, err = dbus.Connect(s.address, options...)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot reach the message bus: %w", err)
	}
	l.access = access{conn: l.conn, known: map[string]uint32{}}
	reply, err := l.conn.RequestName(base, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = ErrTaken
	}
	if err != nil {
		l.conn.Close()
		return nil, err
	}
	return l, nil
}

// redial is how long is waited between two attempts to come back on the bus.
const redial = time.Second

// keepUp comes back on the bus whenever that was lost, until the server is closed. What others do with the name meanwhile
// ends it: whoever has the name has the firewall.
func (s *Server) keepUp() {
	defer close(s.done)
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.line.Load().conn.Context().Done():
		}
		if s.ctx.Err() != nil {
			return
		}
		s.log.Error("the message bus is gone: the firewall stays as it is, and can be asked again when the bus is back")
		for {
			l, err := s.dial()
			if err == ErrTaken {
				s.log.Error("another process has taken the name on the message bus", "name", base)
				return
			}
			if err == nil {
				s.take(l)
				s.log.Info("the message bus is back")
				break
			}
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(redial):
			}
		}
	}
}

// take makes a connection the server's, unless that is closed.
func (s *Server) take(l *line) {
	s.line.Store(l)
	if s.ctx.Err() != nil {
		l.conn.Close()
	}
}
