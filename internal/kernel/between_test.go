package kernel_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
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

// A change of several things is one: while it is made no packet of a new connection passes that neither what was before nor what comes lets
// pass, and connections that are there go on.
func TestNothingBetweenTwoConfigurations(t *testing.T) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		t.Run("an ipset and a zone, "+string(backend), func(t *testing.T) { nothingBetween(t, backend, moved(t, backend)) })
	}
	t.Run("a table made anew", func(t *testing.T) {
		nothingBetween(t, ir.NFTables, []*kernel.Desired{shutOut(t, ir.NFTables, "NftablesCounters=no\n", "z", true), shutOut(t, ir.NFTables, "NftablesCounters=yes\n", "z", true)})
	})
	for _, anew := range []bool{true, false} {
		t.Run(fmt.Sprint("an ipset by another name, reload: ", anew), func(t *testing.T) {
			nothingBetween(t, ir.NFTables, []*kernel.Desired{shutOut(t, ir.NFTables, "", "y", anew), shutOut(t, ir.NFTables, "", "z", anew)})
		})
	}
	t.Run("two ipsets", func(t *testing.T) { nothingBetween(t, ir.NFTables, twoSets(t)) })
	t.Run("a port and a direct rule", func(t *testing.T) { nothingBetween(t, ir.NFTables, direct(t, ir.NFTables)) })
}

// openZone is a zone in which port 81 of UDP is open.
func openZone(more string) string {
	return "<zone><port port=\"81\" protocol=\"udp\"/>" + more + "</zone>"
}

// unusedPorts opens 300 ports that nobody uses here.
func unusedPorts() string {
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "<port port=\"%d\" protocol=\"tcp\"/>", 20000+2*i)
	}
	return b.String()
}

// manyNets are 3,000 entries of an ipset.
func manyNets(first int) string {
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, "<entry>%d.%d.%d.0/24</entry>", first, i/250, i%250)
	}
	return b.String()
}

// moved are two configurations: a zone that accepts everything loses its source, an ipset, while the ipset gets the client as an entry.
func moved(t *testing.T, backend ir.Backend) []*kernel.Desired {
	t.Helper()
	set := func(entry string) string { return "<ipset type=\"hash:ip\"><entry>" + entry + "</entry></ipset>" }
	return []*kernel.Desired{
		{Anew: true, Rules: madeOf(t, backend, map[string]string{"zones/public.xml": openZone(""), "ipsets/z.xml": set("192.0.2.1"), "zones/trusted.xml": "<zone target=\"ACCEPT\"><source ipset=\"z\"/></zone>"})},
		{Anew: true, Rules: madeOf(t, backend, map[string]string{"zones/public.xml": openZone(unusedPorts()), "ipsets/z.xml": set("10.1.0.10"), "zones/internal.xml": openZone("<source ipset=\"z\"/>")})},
	}
}

// direct are two configurations: a direct rule drops what a port lets in, and both go.
func direct(t *testing.T, backend ir.Backend) []*kernel.Desired {
	t.Helper()
	with := madeOf(t, backend, map[string]string{"zones/public.xml": openZone(`<port port="9999" protocol="udp"/>`)})
	without := madeOf(t, backend, map[string]string{"zones/public.xml": openZone(unusedPorts())})
	if backend == ir.IPTables {
		with = madeOf(t, backend, map[string]string{"zones/public.xml": openZone(`<port port="9999" protocol="udp"/>`),
			"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p udp --dport 9999 -j DROP</rule></direct>`})
		return []*kernel.Desired{{Anew: true, Rules: with}, {Anew: true, Rules: without}}
	}
	return []*kernel.Desired{{Anew: true, Rules: with, Direct: directRules(t, "-p udp --dport 9999 -j DROP")}, {Anew: true, Rules: without}}
}

// twoSets are two configurations that differ in the entries of two ipsets alone. By one of these the client comes into a zone that lets it in, by
// the other it is dropped there, and it is in both or in none.
func twoSets(t *testing.T) []*kernel.Desired {
	t.Helper()
	var states []*kernel.Desired
	for i, client := range []string{"", "<entry>10.1.0.0/24</entry>"} {
		set := `<ipset type="hash:net">` + manyNets(20+i) + client + `</ipset>`
		states = append(states, &kernel.Desired{Anew: true, Rules: madeOf(t, ir.NFTables, map[string]string{"zones/public.xml": openZone(""),
			"ipsets/bad.xml": set, "ipsets/z.xml": set,
			"zones/work.xml": openZone(`<source ipset="z"/><port port="9999" protocol="udp"/><rule family="ipv4"><source ipset="bad"/><port port="9999" protocol="udp"/><drop/></rule>`)})})
	}
	return states
}

// shutOut is a configuration in which the client is one of many entries of an ipset, which is the source of a zone that drops. The default zone
// would let it in.
func shutOut(t *testing.T, backend ir.Backend, conf, ipset string, anew bool) *kernel.Desired {
	t.Helper()
	return &kernel.Desired{Anew: anew, Rules: madeOf(t, backend, map[string]string{
		"firewalld.conf":           conf,
		"ipsets/" + ipset + ".xml": `<ipset type="hash:net">` + manyNets(20) + `<entry>10.1.0.10</entry></ipset>`,
		"zones/public.xml":         openZone(`<port port="9999" protocol="udp"/>` + unusedPorts()),
		"zones/drop.xml":           `<zone target="DROP"><port port="81" protocol="udp"/><source ipset="` + ipset + `"/></zone>`,
	})}
}

// A process starts where the rules of an earlier one are still there, as behind a crash or with CleanupOnExit=no. While it puts its own in their
// place no packet of a new connection passes that neither lets pass, and connections that are there go on.
func TestNothingBetweenTwoProcesses(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		useVariant(t, "nft")
		for name, states := range map[string][]*kernel.Desired{
			"the same":              {shutOut(t, backend, "", "z", false), shutOut(t, backend, "", "z", false)},
			"an ipset":              {shutOut(t, backend, "", "y", false), shutOut(t, backend, "", "z", false)},
			"another zone":          moved(t, backend),
			"without a direct rule": direct(t, backend),
		} {
			t.Run(name, func(t *testing.T) {
				b, note := newBetween(t), &disk{}
				b.run(t, 7, func(i int) {
					o := kernel.Options{Backend: backend, Enter: b.firewall.Do, Log: quietLog, Left: kernel.NewLeft(note, quietLog)}
					o.Guard = base(t, o, false)
					k, err := kernel.New(o)
					if err != nil {
						t.Fatal(err)
					}
					commit(t, k, states[i%2])
					k.Close()
					o.Guard.Close()
				})
			})
		}
	})
}

// nothingBetween changes between two states of the kernel, of which none lets the client come to port 9999 of UDP, and both to 81.
func nothingBetween(t *testing.T, backend ir.Backend, states []*kernel.Desired) {
	b := newBetween(t)
	k := start(t, kernel.Options{Backend: backend, Enter: b.firewall.Do, Log: quietLog})
	b.run(t, 13, func(i int) { commit(t, k, states[i%2]) })
}

// between is a client that sends to a firewall while its rules are changed.
type between struct{ firewall, client *lab.Namespace }

func newBetween(t *testing.T) between {
	l := newLab(t)
	return between{l.Firewall(), l.Namespace(lab.Client)}
}

// run calls change so many times. From behind the first on, no new connection of the client may come to port 9999 of UDP, and the packets of
// one to 81 all arrive.
func (b between) run(t *testing.T, times int, change func(i int)) {
	t.Helper()
	change(0)
	closed, open := listenUDP(t, b.firewall, "10.1.0.1:9999"), listenUDP(t, b.firewall, "10.1.0.1:81")
	var passed atomic.Int64
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
	end := make(chan struct{})
	var ended sync.WaitGroup
	stop := sync.OnceFunc(func() {
		close(end)
		ended.Wait()
	})
	defer stop()
	var sent, asked, lost int
	ended.Go(func() { sent = b.connect(t, end) })
	asking := b.flow(t)
	if !asking() {
		t.Error("a connection that is let in does not work")
	}
	ended.Go(func() {
		for ; !isClosed(end); asked++ {
			if !asking() {
				lost++
			}
		}
	})
	for i := range times - 1 {
		change(i + 1)
	}
	stop()
	t.Logf("%d new connections tried, %d passed; %d packets of one that was there, %d lost", sent, passed.Load(), asked, lost)
	if passed.Load() > 0 || lost > 0 || sent == 0 || asked == 0 {
		t.Errorf("of %d new connections %d passed, want none; of %d packets of a connection that was there %d were lost, want none", sent, passed.Load(), asked, lost)
	}
	if guardStands(t, b.firewall) {
		t.Error("the guard stays behind a change")
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// connect sends packets to the closed port until the end, each from a port of its own, and so of a new connection. It says how many.
func (b between) connect(t *testing.T, end chan struct{}) (sent int) {
	err := b.client.Do(func() error {
		for !isClosed(end) {
			c, err := net.Dial("udp4", "10.1.0.1:9999")
			if err != nil {
				return err
			}
			if _, err := c.Write([]byte("x")); err == nil {
				sent++
			}
			c.Close()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return sent
}

// flow is a connection to the open port. Each call sends a packet, and says whether the answer comes.
func (b between) flow(t *testing.T) (ask func() bool) {
	flow := listenUDP(t, b.client, "10.1.0.10:0")
	return func() bool {
		flow.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err := flow.WriteTo([]byte("y"), &net.UDPAddr{IP: net.IPv4(10, 1, 0, 1), Port: 81})
		_, _, failed := flow.ReadFrom(make([]byte, 9))
		return errors.Join(err, failed) == nil
	}
}
