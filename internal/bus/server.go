// Package bus is the daemon on D-Bus: everything under the name org.fedoraproject.FirewallD1.
//
// Calls come in, are checked against the tables of interfaces and the caller's rights, and become one call of the daemon
// each; events of the daemon go out as signals. It knows no rules of the firewall: what may be added to what is for package
// zones, and what a change does to the kernel is for package daemon.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/godbus/dbus/v5"
	"richwall/internal/daemon"
	"richwall/zones"
)

// Server answers calls on the bus.
type Server struct {
	daemon  *daemon.Daemon
	log     *slog.Logger
	shipped func() (*zones.Config, error)
	address string
	line    atomic.Pointer[line] // the connection that there is, or was last
	paths   *paths
	// whole are the zones and policies whose settings, and not a single item, time out just now. The daemon's lock guards it.
	whole  map[zones.Object]bool
	ready  chan struct{} // closed when calls can be answered
	done   chan struct{} // closed when there will be no more calls
	ctx    context.Context
	cancel context.CancelFunc
}

// ErrTaken is that another process has the name: a second firewall.
var ErrTaken = errors.New("cannot serve " + base + ": another process has that name already")

// Connect takes the daemon's name on a bus whose address is such as "unix:path=/run/dbus/system_bus_socket"; "" is the system
// bus. Calls wait until Serve. The error is ErrTaken when another process has the name.
func Connect(address string, log *slog.Logger) (*Server, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		log: log, address: address, paths: newPaths(), whole: map[zones.Object]bool{},
		ready: make(chan struct{}), done: make(chan struct{}), ctx: ctx, cancel: cancel,
	}
	l, err := s.dial()
	if err != nil {
		cancel()
		return nil, err
	}
	s.take(l)
	go s.keepUp()
	return s, nil
}

// Serve answers calls from now on. The daemon must have started. shipped is the configuration without anything of the
// administrator's: what loadDefaults goes back to.
func (s *Server) Serve(d *daemon.Daemon, shipped func() (*zones.Config, error)) {
	s.daemon, s.shipped = d, shipped
	s.paths.sync(d.Snapshot().Permanent)
	d.Subscribe(s.event)
	close(s.ready)
}

// Done is closed when the server serves no more: it was closed, or another process has taken its name while the bus was
// gone. A bus that is gone by itself is waited for.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close stops serving.
func (s *Server) Close() error {
	s.cancel()
	return s.line.Load().conn.Close()
}

// call is a call of a method.
type call struct {
	server *Server
	line   *line // where it came from
	ctx    context.Context
	sender string
	target target
	args   []any // plain values, as the method declares them
}

func (c *call) str(i int) string { return c.args[i].(string) }

func (c *call) num(i int) int { return c.args[i].(int) }

// strs is arguments from one position up to another, all of them strings.
func (c *call) strs(from, to int) []string {
	list := make([]string, to-from)
	for i := range list {
		list[i] = c.str(from + i)
	}
	return list
}

func (c *call) snapshot() daemon.Snapshot { return c.server.daemon.Snapshot() }

// answer answers a message.
func (s *Server) answer(l *line, msg *dbus.Message) ([]any, error) {
	path, name, member := text(msg, dbus.FieldPath), text(msg, dbus.FieldInterface), text(msg, dbus.FieldMember)
	c := &call{server: s, line: l, ctx: s.ctx, sender: sender(msg)}
	cfg := s.daemon.Snapshot().Permanent
	s.paths.sync(cfg)
	interfaces, object, ok := s.lookup(cfg, path)
	c.target = object
	switch {
	case name == introspectableName && member == "Introspect":
		if err := c.line.access.check(c.sender, actInfo); err != nil {
			return nil, err
		}
		return []any{encode("s", introspection(path, interfaces, s.children(cfg, path)))}, nil
	case !ok:
		return nil, plain(unknownMethod, "there is no object %s", path)
	case name == propertiesName:
		return s.properties(c, interfaces, member, msg.Body)
	}
	for _, i := range interfaces {
		if m := i.methodOf(member); m != nil && (name == "" || name == i.fullName()) {
			return s.run(c, i, m, msg.Body)
		}
	}
	return nil, plain(unknownMethod, "Unknown method: %s is not a valid method of interface %s", member, name)
}

// run calls a method.
func (s *Server) run(c *call, i *iface, m *method, body []any) ([]any, error) {
	if err := c.line.access.check(c.sender, m.action); err != nil {
		return nil, err
	}
	if len(body) != len(m.in) {
		return nil, refuse(zones.InvalidType, "%s.%s takes %s, not %d", i.fullName(), m.name, count(len(m.in), "argument"), len(body))
	}
	for k, a := range m.in {
		value, err := decode(a.sig, body[k])
		if err != nil {
			_, reason := codeOf(err)
			return nil, refuse(zones.InvalidType, "cannot use argument %s of %s: %s", a.name, m.name, reason)
		}
		c.args = append(c.args, value)
	}
	result, err := m.call(c)
	if err != nil || m.out == "" {
		return nil, err
	}
	return []any{encode(m.out, result)}, nil
}

// count is a number of things in words that fit it: "1 argument", "2 arguments".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// lookup finds the interfaces of an object.
func (s *Server) lookup(cfg *zones.Config, path string) ([]*iface, target, bool) {
	if interfaces, ok := fixedObjects[path]; ok {
		return interfaces, target{}, true
	}
	if t, ok := s.paths.find(cfg, path); ok {
		return []*iface{t.kind.iface}, t, true
	}
	return nil, target{}, false
}

// children are the names right below a path.
func (s *Server) children(cfg *zones.Config, path string) []string {
	names := map[string]bool{}
	below := strings.TrimSuffix(path, "/") + "/"
	for _, p := range append(s.paths.all(cfg), root, root+"/config") {
		if rest, ok := strings.CutPrefix(p, below); ok {
			first, _, _ := strings.Cut(rest, "/")
			names[first] = true
		}
	}
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	slices.SortFunc(list, natural)
	return list
}
