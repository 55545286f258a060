package kernel_test

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// bridge is two machines that a third one joins by a bridge. Each knows where the other one is, so that no packet waits.
type bridge struct {
	t        *testing.T
	ns       *lab.Namespace // the third one
	from, to net.PacketConn
	to2      net.Addr
	sent     int
}

func newBridge(t *testing.T) *bridge {
	t.Helper()
	b := &bridge{t: t, ns: namespace(t), to2: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 5000}}
	run(t, b.ns, "", "ip", "link", "add", "br0", "up", "type", "bridge")
	// What is bridged meets no rule for what is routed (net.bridge.bridge-nf-call-iptables, where the kernel has br_netfilter).
	run(t, b.ns, "", "sh", "-c", "f=/proc/sys/net/bridge/bridge-nf-call-iptables; ! test -e $f || echo 0 >$f")
	for i, conn := range []*net.PacketConn{&b.from, &b.to} {
		own, other, end := i+1, 2-i, namespace(t)
		holder := exec.Command("sleep", "600") // by whose id ip(8) finds the namespace, which has no name
		if err := end.Do(holder.Start); err != nil {
			t.Fatal(err)
		}
		port := fmt.Sprintf("port%d", own)
		run(t, b.ns, "", "ip", "link", "add", port, "type", "veth", "peer", "name", "end", "address", fmt.Sprintf("02:00:00:00:00:0%d", own), "netns", fmt.Sprint(holder.Process.Pid))
		_ = holder.Process.Kill()
		_ = holder.Wait()
		run(t, b.ns, "", "ip", "link", "set", port, "master", "br0", "up")
		run(t, end, "", "ip", "address", "add", fmt.Sprintf("192.0.2.%d/24", own), "dev", "end")
		run(t, end, "", "ip", "link", "set", "end", "up")
		run(t, end, "", "ip", "neighbour", "add", fmt.Sprintf("192.0.2.%d", other), "lladdr", fmt.Sprintf("02:00:00:00:00:0%d", other), "dev", "end", "nud", "permanent")
		if err := end.Do(func() (err error) {
			*conn, err = net.ListenPacket("udp4", fmt.Sprintf("192.0.2.%d:5000", own))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*conn).Close() })
	}
	return b
}

// send sends a packet over the bridge, and returns its number.
func (b *bridge) send() string {
	b.t.Helper()
	b.sent++
	if _, err := b.from.WriteTo([]byte(fmt.Sprint(b.sent)), b.to2); err != nil {
		b.t.Fatal(err)
	}
	return fmt.Sprint(b.sent)
}

// next is the number of the next packet that has come over the bridge; "" if none comes for a time.
func (b *bridge) next(wait time.Duration) string {
	b.t.Helper()
	data := make([]byte, 16)
	if err := b.to.SetReadDeadline(time.Now().Add(wait)); err != nil {
		b.t.Fatal(err)
	}
	n, _, err := b.to.ReadFrom(data)
	if err != nil {
		return ""
	}
	return string(data[:n])
}

// open waits until the ports of the bridge forward, and takes what has come.
func (b *bridge) open() {
	b.t.Helper()
	for range 100 {
		b.send()
		if b.next(100*time.Millisecond) != "" {
			break
		}
	}
	last := b.send()
	for got := ""; got != last; {
		if got = b.next(10 * time.Second); got == "" {
			b.t.Fatal("nothing comes over the bridge")
		}
	}
}

// In panic mode nothing passes a bridge either, whatever the back end and whichever way it was switched on, until it ends. It outlives the
// process, and the next one ends it. Of two packets, the one sent in panic mode never comes, and the one after it does.
func TestPanicOnBridges(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		b := newBridge(t)
		rules := letsIn(t, backend, "")
		k := open(t, b.ns, backend)
		commit(t, k, &kernel.Desired{Rules: rules})
		b.open()
		lost := func(how string, on, off func()) {
			t.Helper()
			on()
			b.send()
			off()
			if last := b.send(); b.next(10*time.Second) != last {
				t.Errorf("%s: what is sent in panic mode comes over the bridge, or nothing does behind it", how)
				b.open()
			}
		}
		drop := func(on bool) func() {
			return func() {
				t.Helper()
				if err := kernel.DropAll(kernel.Options{Enter: b.ns.Do}, on); err != nil {
					t.Fatal(err)
				}
			}
		}
		lost("by a commit", func() { commit(t, k, &kernel.Desired{Rules: rules, Panic: true}) }, func() { commit(t, k, &kernel.Desired{Rules: rules}) })
		lost("without rules", func() { commit(t, k, &kernel.Desired{Panic: true}) }, func() { commit(t, k, &kernel.Desired{Rules: rules}) })
		lost("by DropAll", drop(true), drop(false))
		lost("over a restart", func() {
			commit(t, k, &kernel.Desired{Rules: rules, Panic: true})
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			k = open(t, b.ns, backend)
			b.send()
			commit(t, k, &kernel.Desired{Rules: rules, Panic: true})
		}, func() { commit(t, k, &kernel.Desired{Rules: rules}) })
		if tables := run(t, b.ns, "", "nft", "list", "tables"); strings.Contains(tables, "table bridge") {
			t.Errorf("behind panic mode there are\n%s", tables)
		}
	})
}

// A commit that was to begin panic mode, and fails, leaves bridges forward as before. Where it is not known whether panic mode was on, they
// forward nothing.
func TestPanicOnBridgesThatDoesNotBegin(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		bad := directly(t, backend, `<rule ipv="ipv6" table="filter" chain="INPUT" priority="0">`+refusedByIPv6+`</rule>`)
		bad.Panic = true
		for _, known := range []bool{true, false} {
			k := open(t, ns, backend)
			if known {
				commit(t, k, &kernel.Desired{Rules: letsIn(t, backend, "")})
			}
			if err := k.Commit(t.Context(), bad); err == nil {
				t.Fatal("the commit succeeds")
			}
			if tables := run(t, ns, "", "nft", "list", "tables"); strings.Contains(tables, "table bridge") == known {
				t.Errorf("it is known that bridges forward: %v; there are\n%s", known, tables)
			}
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
