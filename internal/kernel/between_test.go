package kernel_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/zones"
)

// madeOf is the ruleset of files, by their names.
func madeOf(t *testing.T, backend ir.Backend, files map[string]string) *ir.Ruleset {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, dir+"/"+name, text)
	}
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if cfg == nil {
		t.Fatal(problems)
	}
	rs, err := compile.Compile(cfg, backend)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// listenUDP is a socket in a namespace.
func listenUDP(t *testing.T, ns *lab.Namespace, address string) (c net.PacketConn) {
	t.Helper()
	err := ns.Do(func() (err error) {
		c, err = net.ListenPacket("udp4", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A reload of several changes is one: while it is made no packet of a new connection passes that neither what was before nor
// what comes lets pass, and connections that are there go on.
func TestNothingBetweenTwoConfigurations(t *testing.T) {
	set := func(entry string) string { return "<ipset type=\"hash:ip\"><entry>" + entry + "</entry></ipset>" }
	var many strings.Builder
	for i := range 300 {
		fmt.Fprintf(&many, "<port port=\"%d\" protocol=\"tcp\"/>", 20000+2*i)
	}
	zone := func(more string) string { return "<zone><port port=\"81\" protocol=\"udp\"/>" + more + "</zone>" }
	// A zone that accepts everything loses its source, an ipset, while the ipset gets the client as an entry, and back.
	moved := func(t *testing.T, backend ir.Backend) []*kernel.Desired {
		return []*kernel.Desired{
			{Anew: true, Rules: madeOf(t, backend, map[string]string{"zones/public.xml": zone(""), "ipsets/z.xml": set("192.0.2.1"), "zones/trusted.xml": "<zone target=\"ACCEPT\"><source ipset=\"z\"/></zone>"})},
			{Anew: true, Rules: madeOf(t, backend, map[string]string{"zones/public.xml": zone(many.String()), "ipsets/z.xml": set("10.1.0.10"), "zones/internal.xml": zone("<source ipset=\"z\"/>")})},
		}
	}
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		t.Run("an ipset and a zone, "+string(backend), func(t *testing.T) { nothingBetween(t, backend, moved(t, backend)) })
	}
	t.Run("a port and a direct rule", func(t *testing.T) {
		nothingBetween(t, ir.NFTables, []*kernel.Desired{
			{Anew: true, Rules: madeOf(t, ir.NFTables, map[string]string{"zones/public.xml": zone(`<port port="9999" protocol="udp"/>`)}), Direct: directRules(t, "-p udp --dport 9999 -j DROP")},
			{Anew: true, Rules: madeOf(t, ir.NFTables, map[string]string{"zones/public.xml": zone(many.String())})},
		})
	})
}

// nothingBetween changes between two states of the kernel, of which none lets the client come to port 9999 of UDP, and both to 81.
func nothingBetween(t *testing.T, backend ir.Backend, states []*kernel.Desired) {
	l := newLab(t)
	ns, client := l.Firewall(), l.Namespace(lab.Client)
	k := start(t, kernel.Options{Backend: backend, Enter: ns.Do, Log: quietLog})
	commit(t, k, states[0])
	closed, open := listenUDP(t, ns, "10.1.0.1:9999"), listenUDP(t, ns, "10.1.0.1:81")
	var passed, sent atomic.Int64
	go func() {
		for buffer := make([]byte, 9); ; passed.Add(1) {
			if _, _, err := closed.ReadFrom(buffer); err != nil {
				return
			}
		}
	}()
	go func() {
		for buffer := make([]byte, 9); ; {
			n, from, err := open.ReadFrom(buffer)
			if err != nil {
				return
			}
			open.WriteTo(buffer[:n], from)
		}
	}()
	end, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- client.Do(func() error {
			for {
				select {
				case <-end:
					return nil
				default:
				}
				c, err := net.Dial("udp4", "10.1.0.1:9999") // each from a port of its own, and so a new connection
				if err != nil {
					return err
				}
				if _, err := c.Write([]byte("x")); err == nil {
					sent.Add(1)
				}
				c.Close()
			}
		})
	}()
	flow := listenUDP(t, client, "10.1.0.10:0")
	to := &net.UDPAddr{IP: net.IPv4(10, 1, 0, 1), Port: 81}
	ask := func() error {
		flow.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err := flow.WriteTo([]byte("y"), to)
		_, _, failed := flow.ReadFrom(make([]byte, 9))
		return errors.Join(err, failed)
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	asked, lost, stop := 0, 0, make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ; ; asked++ {
			select {
			case <-stop:
				return
			default:
				if ask() != nil {
					lost++
				}
			}
		}
	}()
	for i := range 12 {
		commit(t, k, states[(i+1)%2])
	}
	close(stop)
	<-done
	close(end)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d new connections tried, %d passed; %d packets of one that was there, %d lost", sent.Load(), passed.Load(), asked, lost)
	if passed.Load() > 0 || lost > 0 || sent.Load() == 0 || asked == 0 {
		t.Errorf("of %d new connections %d passed, want none; of %d packets of a connection that was there %d were lost, want none", sent.Load(), passed.Load(), asked, lost)
	}
	if guardStands(t, ns) {
		t.Error("the guard stays behind a change")
	}
}
