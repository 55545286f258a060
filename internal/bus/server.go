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
	"sync"
	"sync/atomic"

	"richwall/internal/daemon"
	"richwall/internal/fault"
	"richwall/zones"
)

// Server answers calls on the bus.
type Server struct {
	daemon   *daemon.Daemon // known once attached is closed
	log      *slog.Logger
	shipped  func() (*zones.Config, error)
	address  string
	line     atomic.Pointer[line] // the connection that there is, or was last
	paths    *paths
	budget   budget
	turns    turns
	hints    hints
	told     hints // of what was done
	attach   sync.Once
	attached chan struct{} // closed when the daemon is known, which may not have started
	ready    chan struct{} // closed when all calls can be answered
	done     chan struct{} // closed when there will be no more calls
	ctx      context.Context
	cancel   context.CancelFunc
}

// ErrTaken is that another process has the name: a second firewall.
var ErrTaken = errors.New("cannot serve " + base + ": another process has that name already")

// Connect takes the daemon's name on a bus whose address is such as "unix:path=/run/dbus/system_bus_socket"; "" is the system
// bus. Calls wait until Serve, but those that Attach is for. The error is ErrTaken when another process has the name.
func Connect(address string, log *slog.Logger) (*Server, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		log: log, address: address, paths: newPaths(),
		budget: budget{spent: map[uint32]spending{}}, turns: newTurns(),
		attached: make(chan struct{}), ready: make(chan struct{}), done: make(chan struct{}), ctx: ctx, cancel: cancel,
	}
	l, err := s.dial()
	if err != nil {
		cancel()
		return nil, err
	}
	s.take(l)
	go fault.Guard(s.log, "keeping to the message bus", s.keepUp)
	return s, nil
}

// Attach has a daemon answer what nobody must wait for its start with: whether panic mode is on, and to switch it on. The daemon
// may be starting, or not yet.
func (s *Server) Attach(d *daemon.Daemon) {
	s.attach.Do(func() {
		s.daemon = d
		d.Subscribe(s.event)
		close(s.attached)
	})
}

// Serve answers all calls from now on. The daemon must have started. It is the one of Attach, if that was called. shipped is the
// configuration without anything of the administrator's: what loadDefaults goes back to.
func (s *Server) Serve(d *daemon.Daemon, shipped func() (*zones.Config, error)) {
	s.Attach(d)
	s.shipped = shipped
	s.paths.sync(d.Snapshot().Permanent)
	close(s.ready)
}

// Done is closed when the server serves no more: it was closed, or another process has taken its name while the bus was
// gone. A bus that is gone by itself is waited for.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close stops serving.
func (s *Server) Close() error {
	s.cancel()
	return s.line.Load().close()
}

// call is a call of a method.
type call struct {
	server *Server
	line   *line // where it came from
	ctx    context.Context
	*inbound
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

// task is what a call asks for, and the right that is needed for it. What it does comes after the check of that right.
type task struct {
	needs action
	pace  pace
	early bool // it is answered as soon as the daemon is known
	do    func(*call) ([]any, error)
}

// answer answers a call.
func (s *Server) answer(l *line, in *inbound) ([]any, error) {
	t, err := s.task(in)
	if err != nil {
		return nil, err
	}
	if err := l.access.check(s.ctx, in, t.needs); err != nil {
		return nil, err
	}
	open := s.ready
	if t.early {
		open = s.attached
	}
	select {
	case <-s.ready:
	default:
		if answer, ok := early(in); ok {
			return answer, nil
		}
	}
	select {
	case <-open:
	case <-s.ctx.Done():
		return nil, errEnding
	}
	end, err := s.turns.begin(s.ctx, in.uid, t.pace)
	if err != nil {
		return nil, errEnding
	}
	defer end()
	return t.do(&call{server: s, line: l, ctx: s.ctx, inbound: in})
}

// early answers before the firewall has started, if the call asks for its state.
func early(in *inbound) (answer []any, ok bool) {
	args, err := in.frame.args()
	if err != nil || in.iface != propertiesName || in.member != "Get" || len(args) != 2 {
		return nil, false
	}
	iface, err := decode("s", args[0])
	name, other := decode("s", args[1])
	if err != nil || other != nil || iface != base || name != "state" {
		return nil, false
	}
	return []any{encode("v", typed{"s", string(daemon.Init)})}, true
}

// task finds what a call asks for. It looks at nothing but the head of the call and the tables: whoever sends it may have no
// rights at all.
func (s *Server) task(in *inbound) (task, error) {
	interfaces := interfacesAt(in.path)
	switch {
	case in.iface == introspectableName && in.member == "Introspect":
		return task{needs: actInfo, pace: looks, do: s.introspect}, nil
	case interfaces == nil:
		return task{}, noObject(in.path)
	case in.iface == propertiesName:
		return task{needs: actConfig, pace: paceOf(in.member), do: func(c *call) ([]any, error) { return s.properties(c, interfaces) }}, nil
	}
	for _, i := range interfaces {
		if m := i.methodOf(in.member); m != nil && (in.iface == "" || in.iface == i.fullName()) {
			t := task{needs: m.action, pace: paceOf(in.member), do: func(c *call) ([]any, error) { return s.run(c, i, m) }}
			if m.urgent {
				t.pace, t.early = urgent, true
			}
			return t, nil
		}
	}
	return task{}, plain(unknownMethod, "Unknown method: %s is not a valid method of interface %s", in.member, in.iface)
}

func noObject(path string) error { return plain(unknownMethod, "there is no object %s", path) }

// run calls a method.
func (s *Server) run(c *call, i *iface, m *method) ([]any, error) {
	if err := c.find(); err != nil {
		return nil, err
	}
	args, err := c.frame.args()
	if err != nil {
		return nil, err
	}
	if len(args) != len(m.in) {
		return nil, refuse(zones.InvalidType, "%s.%s takes %s, not %d", i.fullName(), m.name, count(len(m.in), "argument"), len(args))
	}
	for k, a := range m.in {
		value, err := decode(a.sig, args[k])
		if err != nil {
			_, reason := codeOf(err)
			return nil, refuse(zones.InvalidType, "cannot use argument %s of %s: %s", a.name, m.name, reason)
		}
		c.args = append(c.args, value)
	}
	c.frame.body = nil // which may be large
	result, err := m.call(c)
	if err != nil || m.out == "" {
		return nil, err
	}
	return []any{encode(m.out, result)}, nil
}

// introspect describes an object, which need not exist.
func (s *Server) introspect(c *call) ([]any, error) {
	cfg := c.snapshot().Permanent
	s.paths.sync(cfg)
	interfaces := interfacesAt(c.path)
	if c.find() != nil {
		interfaces = nil
	}
	return []any{encode("s", introspection(c.path, interfaces, s.children(cfg, c.path)))}, nil
}

// count is a number of things in words that fit it: "1 argument", "2 arguments".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// interfacesAt is the interfaces that an object with a path has, if there is such an object.
func interfacesAt(path string) []*iface {
	if interfaces, ok := fixedObjects[path]; ok {
		return interfaces
	}
	rest, _ := strings.CutPrefix(path, root+"/config/")
	name, number, _ := strings.Cut(rest, "/")
	for _, k := range kinds {
		if k.name == name && number != "" && !strings.Contains(number, "/") {
			return []*iface{k.iface}
		}
	}
	return nil
}

// find finds the permanent object that a call is for, unless it is for one of the others.
func (c *call) find() error {
	if _, ok := fixedObjects[c.path]; ok {
		return nil
	}
	cfg := c.snapshot().Permanent
	c.server.paths.sync(cfg)
	t, ok := c.server.paths.find(cfg, c.path)
	if !ok {
		return noObject(c.path)
	}
	c.target = t
	return nil
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
