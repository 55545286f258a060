package bus

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A message bus that ends takes nothing with it: the rules and what was changed at runtime stay, and when there is a bus
// again the daemon is back on it with its name, and sends signals.
func TestBusStartedAnew(t *testing.T) {
	b := &bed{T: t, dir: t.TempDir()}
	dir := t.TempDir()
	b.address = "unix:path=" + dir + "/bus"
	end := startBusIn(t, dir, busConfig)
	b.start(nil)
	b.must("", "zone.addPort", "public", "8080", "tcp", 0)
	rules := b.kernel.Listing()
	for range 2 {
		former := b.server.line.Load()
		end()
		end = startBusIn(t, dir, busConfig)
		for ended := time.Now().Add(30 * time.Second); b.server.line.Load() == former; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(ended) {
				t.Fatal("the daemon did not come back")
			}
		}
		b.client = connect(t, b.address)
		b.listen()
		if got := b.must("", "zone.getPorts", "public"); !strings.Contains(got, "8080") {
			t.Errorf("the ports are %s", got)
		}
	}
	if b.kernel.Listing() != rules {
		t.Error("the rules are not what they were")
	}
	b.must("", "zone.addPort", "public", "8081", "tcp", 0)
	b.tell(`zone.PortAdded("public" "8081" "tcp" 0)`)
}

// Whoever has taken the name while the bus was gone is the firewall: the daemon does not fight for it.
func TestNameTakenMeanwhile(t *testing.T) {
	b := &bed{T: t, dir: t.TempDir()}
	dir := t.TempDir()
	b.address = "unix:path=" + dir + "/bus"
	end := startBusIn(t, dir, busConfig)
	b.start(nil)
	end()
	startBusIn(t, dir, busConfig)
	// The daemon may have been faster: then the other takes the name from it, as one that starts would not. On the new bus the other may
	// have the unique name that the daemon had on the former one.
	former := b.server.line.Load().name()
	other := connect(t, b.address)
	for other.Names()[0] < former {
		other = connect(t, b.address)
	}
	if reply, err := other.RequestName(base, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Skip("the daemon was back before another could take its name")
	}
	select {
	case <-b.server.Done():
	case <-time.After(30 * time.Second):
		t.Error("the daemon goes on")
	}
}

// A connection that the daemon has given up, on a bus that is still there, is replaced by another one, which gets the name
// once the bus has seen that the first one is gone.
func TestConnectionGivenUp(t *testing.T) {
	b := newBed(t, nil)
	for _, give := range []func(*line){func(l *line) { l.bus.Close() }, func(l *line) { l.aside.Close() }} {
		former := b.server.line.Load()
		give(former)
		for ended := time.Now().Add(30 * time.Second); b.server.line.Load() == former; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(ended) {
				t.Fatal("the daemon did not come back")
			}
		}
		b.must("", "zone.getZones")
	}
}

// faulty is a caller with a fault.
type faulty struct{}

func (faulty) arrive(*frame, io.Reader) error { panic("fault") }

// A fault in the goroutine that reads what others send costs the connection, and not the daemon.
func TestFaultWhileReading(t *testing.T) {
	msg := message(base, root, base+".reload")
	msg.Headers[dbus.FieldSender] = dbus.MakeVariant(":1.7")
	s := socket{caller: faulty{}}
	if err := s.receiveOne(bytes.NewReader(frameOf(msg, 7))); err == nil || !strings.HasPrefix(err.Error(), "internal error: fault") {
		t.Errorf("a fault is reported as %v", err)
	}
}
