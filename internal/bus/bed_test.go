package bus

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"richwall/compile/ir"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
	"richwall/zones"
)

// bed is a daemon on a private bus, without a kernel, and a client that may do everything.
type bed struct {
	*testing.T
	address string
	dir     string // the administrator's folder
	kernel  *twins
	daemon  *daemon.Daemon
	server  *Server
	client  *dbus.Conn
	signals chan *dbus.Signal
	tune    func(*daemon.Options) // what is otherwise than usual of the daemon; nil for nothing
	// answered is the signature of the last answer that the client got.
	answered atomic.Value
}

// newBed starts a bus and a daemon with files of the administrator's, by path.
func newBed(t *testing.T, files map[string]string) *bed {
	t.Helper()
	return newBedOn(t, busConfig, files)
}

// newBedOn is newBed on a bus with a configuration.
func newBedOn(t *testing.T, config string, files map[string]string) *bed {
	t.Helper()
	b := &bed{T: t, address: startBus(t, config), dir: t.TempDir()}
	for name, text := range files {
		path := filepath.Join(b.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.start(nil)
	return b
}

// Whoever runs the tests may do everything.
func init() { superuser = uint32(os.Getuid()) }

// start starts a daemon on the bus, with the files that are there. What it commits goes into real, too, unless that is nil.
func (b *bed) start(real kernel.Kernel) {
	b.Helper()
	b.kernel = &twins{Memory: kernel.NewMemory(), real: real}
	log := discard()
	store := zones.Store{Dirs: zones.Dirs{System: b.dir}}
	server, err := Connect(b.address, log)
	if err != nil {
		b.Fatal(err)
	}
	b.server = server
	b.Cleanup(func() { server.Close() })
	options := daemon.Options{
		Dirs: store.Dirs, Log: log, Manager: server,
		Kernel: func(ir.Backend) (kernel.Kernel, error) { return b.kernel, nil },
		Passthrough: func(_ context.Context, ipv string, args []string, _ func(int)) (string, error) {
			if slices.Equal(args, []string{"-V"}) {
				return map[string]string{"ipv4": "iptables", "ipv6": "ip6tables", "eb": "ebtables"}[ipv] + " v1.8.9\n", nil
			}
			return "", errors.New("unknown option " + strings.Join(args, " "))
		},
	}
	if b.tune != nil {
		b.tune(&options)
	}
	b.daemon = daemon.New(options)
	server.Attach(b.daemon)
	if err := b.daemon.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	server.Serve(b.daemon, func() (*zones.Config, error) {
		cfg, problems := store.Shipped()
		return cfg, problems.Err()
	})
	b.client = connect(b.T, b.address, dbus.WithIncomingInterceptor(func(msg *dbus.Message) {
		if msg.Type == dbus.TypeMethodReply {
			sig, _ := msg.Headers[dbus.FieldSignature].Value().(dbus.Signature)
			b.answered.Store(sig.String())
		}
	}))
	b.listen()
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// twins are a kernel in memory, and one in the machine, which may be nil.
type twins struct {
	*kernel.Memory
	real kernel.Kernel
	last atomic.Pointer[kernel.Desired] // what was committed
}

// Commit implements kernel.Kernel.
func (k *twins) Commit(ctx context.Context, next *kernel.Desired) error {
	if k.real != nil {
		if err := k.real.Commit(ctx, next); err != nil {
			return err
		}
	}
	if err := k.Memory.Commit(ctx, next); err != nil {
		return err
	}
	k.last.Store(next)
	return nil
}

// busConfig is a bus on which everybody may do everything, answer what nobody has asked, too.
const busConfig = `<busconfig><type>session</type><listen>unix:path=DIR/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
<allow send_type="method_return" send_requested_reply="false"/><allow send_type="error" send_requested_reply="false"/><allow receive_type="method_call"/><allow receive_type="signal"/>
<allow receive_type="method_return" receive_requested_reply="false"/><allow receive_type="error" receive_requested_reply="false"/>
</policy></busconfig>`

// installedBus is a bus as the system bus is: what Debian's system.conf of dbus-daemon allows to everybody, and what the policy
// of the daemon's package does.
const installedBus = `<busconfig><type>system</type><listen>unix:path=DIR/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><deny own="*"/><deny send_type="method_call"/><allow send_type="signal"/>
<allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
</policy><include>PACKAGING/org.fedoraproject.FirewallD1.conf</include></busconfig>`

// startBus starts a message bus and returns its address.
func startBus(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // another user connects, too
	}
	startBusIn(t, dir, config)
	return "unix:path=" + dir + "/bus"
}

// startBusIn starts a message bus whose socket is in a folder, and returns the function that ends it.
func startBusIn(t *testing.T, dir, text string) (end func()) {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("no dbus-daemon here: the tests of the bus need the package dbus")
	}
	packaging, err := filepath.Abs("../../packaging")
	if err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "PACKAGING", packaging)
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file="+config, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Cleanup(end)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // the address: it listens
		t.Fatal(err)
	}
	return end
}

func connect(t *testing.T, address string, options ...dbus.ConnOption) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// listen collects all signals of the daemon.
func (b *bed) listen() {
	b.Helper()
	b.signals = make(chan *dbus.Signal, 10000)
	b.client.Signal(b.signals)
	if err := b.client.AddMatchSignal(dbus.WithMatchPathNamespace(root)); err != nil {
		b.Fatal(err)
	}
}

// call calls a method: path is below the main object's, name without the common prefix unless it starts with org.
func (b *bed) call(path, name string, args ...any) *dbus.Call {
	return callOn(b.client, path, name, args...)
}

func callOn(conn *dbus.Conn, path, name string, args ...any) *dbus.Call {
	if !strings.HasPrefix(name, "org.") {
		name = base + "." + name
	}
	return conn.Object(base, dbus.ObjectPath(strings.TrimSuffix(root+"/"+path, "/"))).Call(name, 0, args...)
}

// must calls a method that is to succeed, and returns its answer as text.
func (b *bed) must(path, name string, args ...any) string {
	b.Helper()
	c := b.call(path, name, args...)
	if c.Err != nil {
		b.Fatalf("%s%v: %v", name, args, c.Err)
	}
	return show(c.Body...)
}

// refused calls a method that is to fail, and returns the code.
func (b *bed) refused(path, name string, args ...any) string {
	b.Helper()
	c := b.call(path, name, args...)
	if c.Err == nil {
		b.Fatalf("%s%v succeeded", name, args)
	}
	code, _, _ := strings.Cut(c.Err.Error(), ":")
	return code
}

// show is values as gdbus would print them, more or less.
func show(values ...any) string {
	var list []string
	for _, v := range values {
		list = append(list, dbus.MakeVariant(v).String())
	}
	return strings.Join(list, " ")
}

// told is the signals since the last time, in order, without the common prefix. A signal of another sort that is asked for
// by a call marks the end, since a bus keeps the order of what one sender sends.
func (b *bed) told() []string {
	b.Helper()
	if err := b.server.line.Load().conn.Emit(root, base+".End"); err != nil {
		b.Fatal(err)
	}
	return b.until("End")
}

// until is the signals up to one, which is not in the list.
func (b *bed) until(last string) []string {
	b.Helper()
	var list []string
	timeout := time.After(20 * time.Second)
	for {
		select {
		case s := <-b.signals:
			if !strings.HasPrefix(string(s.Path), root) {
				continue // the bus's own
			}
			name := strings.TrimPrefix(strings.TrimPrefix(s.Name, base), ".")
			if name == last {
				return list
			}
			text := name + "(" + show(s.Body...) + ")"
			if path := strings.TrimPrefix(string(s.Path), root); path != "" {
				text = path[1:] + " " + text
			}
			list = append(list, text)
		case <-timeout:
			b.Fatalf("no signal %s came, but %v", last, list)
		}
	}
}

// tell fails unless exactly these signals came since the last time.
func (b *bed) tell(want ...string) {
	b.Helper()
	if got := b.told(); !slices.Equal(got, want) {
		b.Errorf("signals:\n got  %s\n want %s", strings.Join(got, "\n      "), strings.Join(want, "\n      "))
	}
}

// rules fails unless the committed ruleset has each of the texts.
func (b *bed) rules(want ...string) {
	b.Helper()
	listing := b.kernel.Listing()
	for _, text := range want {
		if !strings.Contains(listing, text) {
			b.Errorf("the rules have no %q:\n%s", text, listing)
		}
	}
}
