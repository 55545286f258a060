package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// newLab is a lab with nft rules loaded, closed at the end of the test; it skips where that is not permitted.
func newLab(t *testing.T, o Options, rules string) *Lab {
	t.Helper()
	if missing := Missing("nft"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	l, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if _, err := l.Firewall().Run(t.Context(), rules, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *Lab) mustProbe(t *testing.T, probes ...Probe) []Result {
	t.Helper()
	results, err := l.Probe(t.Context(), probes)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// chain is an nft ruleset of one base chain.
func chain(hook string, rules ...string) string {
	return fmt.Sprintf("table inet t {\n chain c {\n type filter hook %s priority mangle\n%s\n}\n}\n", hook, strings.Join(rules, "\n"))
}

func TestWithoutRulesEveryMSSPasses(t *testing.T) {
	l := newLab(t, Options{}, "")
	probes := handshakes(80, 0, 536, 1460, 65535)
	for i, r := range l.mustProbe(t, probes...) {
		p := probes[i]
		offered := p.ReplyMSS
		if p.To == FirewallHost { // its kernel offers what fits its link: RFC 9293, 3.7.1
			offered = map[Family]int{IPv4: ClientMTU - 40, IPv6: ClientMTU - 60}[p.Family]
		}
		if r.At != p.To || r.MSS != p.MSS || r.Reply.Kind != GotSYNACK || r.Offered != offered || r.Reply.MSS != offered {
			t.Errorf("%+v: %+v", p, r)
		}
	}
}

func TestClampLowersAndNeverRaises(t *testing.T) {
	l := newLab(t, Options{}, chain("forward", "tcp flags syn tcp option maxseg size set 1360"))
	for _, f := range []Family{IPv4, IPv6} {
		for _, way := range [][2]Host{{Client, Server}, {Server, Client}} {
			r := l.mustProbe(t,
				Probe{From: way[0], To: way[1], Family: f, Port: 80, MSS: 1460, ReplyMSS: 1400},
				Probe{From: way[0], To: way[1], Family: f, Port: 80, MSS: 1200, ReplyMSS: 1300},
				Probe{From: way[0], To: way[1], Family: f, Port: 80},
			)
			for i, want := range [][2]int{{1360, 1360}, {1200, 1300}, {0, 0}} {
				if r[i].MSS != want[0] || r[i].Reply.MSS != want[1] {
					t.Errorf("%s, %s to %s: got %d and %d back, want %d", f, way[0], way[1], r[i].MSS, r[i].Reply.MSS, want)
				}
			}
		}
	}
}

func TestClampToTheMTUOfASmallLink(t *testing.T) {
	l := newLab(t, Options{MTU: 1280}, chain("forward", "tcp flags syn tcp option maxseg size set rt mtu"))
	for f, want := range map[Family]int{IPv4: 1240, IPv6: 1220} {
		r := l.mustProbe(t, Probe{From: Client, To: Server, Family: f, Port: 80, MSS: 1460, ReplyMSS: 1460})[0]
		if r.MSS != want || r.Reply.MSS != want {
			t.Errorf("%s: got %d and %d back, want %d", f, r.MSS, r.Reply.MSS, want)
		}
	}
}

// A datagram that does not fit the next link is the reason why there is clamping at all.
func TestDatagramsTooBigForASmallLink(t *testing.T) {
	l := newLab(t, Options{MTU: 1280}, "")
	for f, want := range map[Family]string{IPv4: "ICMP 3/4, fragmentation needed", IPv6: "ICMPv6 2/0, packet too big"} {
		r := l.mustProbe(t, Probe{From: Client, To: Server, Family: f, Protocol: UDP, Port: 53, Payload: 1400},
			Probe{From: Client, To: Server, Family: f, Protocol: UDP, Port: 53, Payload: 1000})
		if r[0].At != "" || r[0].Reply.String() != want {
			t.Errorf("%s: %+v, want %s", f, r[0], want)
		}
		if r[1].At != Server || r[1].Reply.Kind != GotData {
			t.Errorf("%s: a datagram that fits: %+v", f, r[1])
		}
	}
}

func TestIptablesAddsAnMSS(t *testing.T) {
	if missing := Missing("iptables-restore"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	l := newLab(t, Options{}, "")
	rules := "*mangle\n-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1360\nCOMMIT\n"
	if _, err := l.Firewall().Run(t.Context(), rules, "iptables-restore"); err != nil {
		t.Fatal(err)
	}
	r := l.mustProbe(t, Probe{From: Client, To: Server, Port: 80}, Probe{From: Client, To: Server, Port: 80, MSS: 1460})
	if r[0].MSS != 536 || r[1].MSS != 1360 {
		t.Errorf("got %d and %d, want 536 and 1360", r[0].MSS, r[1].MSS)
	}
}

func TestWhatIsNotForwarded(t *testing.T) {
	for _, c := range []struct {
		hook, rule string
		from, to   Host
		v4, v6     string
	}{
		{"forward", "drop", Client, Server, "no answer", "no answer"},
		{"forward", "reject", Server, Client, "ICMP 3/3, port unreachable", "ICMPv6 1/4, port unreachable"},
		{"forward", "reject with icmpx admin-prohibited", Client, Server,
			"ICMP 3/13, administratively prohibited", "ICMPv6 1/1, administratively prohibited"},
		{"forward", "meta l4proto tcp reject with tcp reset", Client, Server, "RST", "RST"},
		{"input", "tcp dport 80 drop", Client, FirewallHost, "no answer", "no answer"},
		{"input", "tcp dport 80 reject", Client, FirewallHost, "ICMP 3/3, port unreachable", "ICMPv6 1/4, port unreachable"},
		{"output", "tcp dport 80 drop", FirewallHost, Server, "no answer", "no answer"},
		{"output", "tcp dport 80 reject", FirewallHost, Client, "ICMP 3/3, port unreachable", "ICMPv6 1/4, port unreachable"},
	} {
		t.Run(c.hook+" "+c.rule, func(t *testing.T) {
			l := newLab(t, Options{}, chain(c.hook, c.rule))
			for f, want := range map[Family]string{IPv4: c.v4, IPv6: c.v6} {
				r := l.mustProbe(t, Probe{From: c.from, To: c.to, Family: f, Port: 80, MSS: 1460})[0]
				if r.At != "" || r.Reply.String() != want {
					t.Errorf("%s: arrived at %q, then %s; want %s", f, r.At, r.Reply, want)
				}
			}
		})
	}
}

func TestSYNACKThatIsDropped(t *testing.T) {
	l := newLab(t, Options{}, chain("forward", "tcp flags & (syn|ack) == syn|ack drop"))
	r := l.mustProbe(t, Probe{From: Client, To: Server, Port: 80, MSS: 1460, ReplyMSS: 1460})[0]
	if r.At != Server || r.Offered != 1460 || r.Reply.Kind != NoReply {
		t.Errorf("%+v", r)
	}
}

// The kernel limits ICMP errors to a few a second elsewhere; here each probe gets its own.
func TestEveryRejectedProbeHearsOfIt(t *testing.T) {
	l := newLab(t, Options{}, chain("forward", "reject"))
	var probes []Probe
	for i := range 500 {
		probes = append(probes, Probe{From: Client, To: Server, Family: []Family{IPv4, IPv6}[i%2], Port: i, MSS: 1460})
	}
	for i, r := range l.mustProbe(t, probes...) {
		if r.Reply.Kind != GotICMP {
			t.Fatalf("probe %d: %s", i, r.Reply)
		}
	}
}

func TestOtherProtocols(t *testing.T) {
	l := newLab(t, Options{}, chain("input", "udp dport 53 drop"))
	for _, f := range []Family{IPv4, IPv6} {
		for _, way := range [][2]Host{{Client, Server}, {Server, Client}, {FirewallHost, Server}} {
			r := l.mustProbe(t, Probe{From: way[0], To: way[1], Family: f, Protocol: ICMP},
				Probe{From: way[0], To: way[1], Family: f, Protocol: UDP, Port: 53})
			if r[0].At != way[1] || r[1].At != way[1] || r[0].Reply.Kind != GotData || r[1].Reply.Kind != GotData {
				t.Errorf("%s, %s to %s: %+v", f, way[0], way[1], r)
			}
		}
		r := l.mustProbe(t, Probe{From: Client, To: FirewallHost, Family: f, Protocol: ICMP},
			Probe{From: Client, To: FirewallHost, Family: f, Protocol: UDP, Port: 53},
			Probe{From: Client, To: FirewallHost, Family: f, Protocol: UDP, Port: 54})
		if r[0].Reply.Kind != GotData || r[1].At != "" || r[2].At != FirewallHost {
			t.Errorf("%s, client to firewall: %+v", f, r)
		}
	}
}

func TestAddressesAreRewritten(t *testing.T) {
	l := newLab(t, Options{}, `
		table ip t {
			chain pre { type nat hook prerouting priority dstnat; tcp dport 8080 dnat to 10.2.0.2:80; }
			chain post { type nat hook postrouting priority srcnat; oifname "s0" masquerade; }
		}
	`)
	r := l.mustProbe(t, Probe{From: Client, To: Server, Port: 80, MSS: 1460, ReplyMSS: 1460},
		Probe{From: Client, To: FirewallHost, Port: 8080, MSS: 1460, ReplyMSS: 1460})
	for i, r := range r {
		if r.At != Server || r.Source.Addr() != netip.MustParseAddr("10.2.0.1") || r.Reply.Kind != GotSYNACK {
			t.Errorf("probe %d: %+v", i, r)
		}
	}
	if want := netip.MustParseAddr("10.1.0.1"); r[1].Reply.From != want {
		t.Errorf("the answer to the forwarded port comes from %s, want %s", r[1].Reply.From, want)
	}
}

func TestFlags(t *testing.T) {
	l := newLab(t, Options{}, chain("forward", "tcp flags & (syn|rst|ack|fin) != syn drop"))
	r := l.mustProbe(t, Probe{From: Client, To: Server, Port: 80, Flags: ACK}, Probe{From: Client, To: FirewallHost, Port: 80, Flags: ACK})
	if r[0].At != "" {
		t.Errorf("an ACK passed the rule: %+v", r[0])
	}
	if r[1].At != FirewallHost || r[1].Reply.Kind != GotRST { // RFC 9293, 3.10.7.2
		t.Errorf("an ACK to a listening port: %+v", r[1])
	}
}

func TestProbesOfOtherAddresses(t *testing.T) {
	l := newLab(t, Options{}, chain("forward",
		"ip saddr 192.0.2.0/24 tcp flags syn tcp option maxseg size set 1300",
		"ip6 daddr 2001:db8::/32 tcp flags syn tcp option maxseg size set 1300"))
	r := l.mustProbe(t,
		Probe{From: Client, To: Server, Port: 80, MSS: 1460, ReplyMSS: 1460, Source: netip.MustParseAddr("192.0.2.9")},
		Probe{From: Client, To: Server, Port: 80, MSS: 1460, ReplyMSS: 1460, Family: IPv6, Destination: netip.MustParseAddr("2001:db8::1")},
		Probe{From: Client, To: Server, Port: 80, MSS: 1460, ReplyMSS: 1460})
	for i, want := range []int{1300, 1300, 1460} {
		if r[i].MSS != want || r[i].Reply.MSS != 1460 {
			t.Errorf("probe %d: got %d and %d back, want %d and 1460", i, r[i].MSS, r[i].Reply.MSS, want)
		}
	}
}

// The programs that run on the hosts are heard as well as probes are, and clamped the same.
func TestKernelsTalkToEachOther(t *testing.T) {
	l := newLab(t, Options{}, chain("forward", "tcp flags syn tcp option maxseg size set 1000"))
	var listener net.Listener
	err := l.Namespace(Server).Do(func() (err error) {
		listener, err = net.Listen("tcp", "10.2.0.10:80")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var conn net.Conn
	err = l.Namespace(Client).Do(func() (err error) {
		conn, err = net.Dial("tcp", "10.2.0.10:80")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var mss int
	if err := raw.Control(func(fd uintptr) { mss, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }); err != nil {
		t.Fatal(err)
	}
	if mss > 1000 || mss < 900 { // less the timestamp option
		t.Errorf("the connection's MSS is %d, want 1000 less options", mss)
	}
}

func TestErrors(t *testing.T) {
	for _, o := range []Options{{MTU: 1000}, {PathMTU: 1000}} {
		if _, err := New(t.Context(), o); err == nil || !strings.Contains(err.Error(), "1280") {
			t.Errorf("an MTU too small for IPv6: %v", err)
		}
	}
	l := newLab(t, Options{}, "")
	spoofed := netip.MustParseAddr("192.0.2.9")
	l.mustProbe(t, Probe{From: Client, To: Server, Port: 80, Source: spoofed})
	for want, p := range map[string]Probe{
		"highest port is 65535":  {From: Client, To: Server, Port: 99999},
		"from 0 to 65535":        {From: Client, To: Server, MSS: -1},
		"two of client":          {From: Client, To: Client},
		"two of client, ":        {From: Client, To: "router"},
		"firewall, server":       {From: Client, To: DMZ}, // there is one only with Options.DMZ
		"it is ipv4 or ipv6":     {From: Client, To: Server, Family: "ipx"},
		"it is tcp, udp or icmp": {From: Client, To: Server, Protocol: "sctp"},
		"not of the family":      {From: Client, To: FirewallHost, Family: IPv6, Source: spoofed},
		"belongs to the client":  {From: Server, To: Client, Source: spoofed},
	} {
		if _, err := l.Probe(t.Context(), []Probe{p}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", p, err, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Probe(ended, []Probe{{From: Client, To: Server}}); err == nil {
		t.Error("a probe under a context that has ended says nothing")
	}
	if _, err := New(ended, Options{}); err == nil {
		t.Error("a lab under a context that has ended says nothing")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	newLab(t, Options{}, "").Close() // whatever is opened only once, is now
	before := leftovers(t)
	l := newLab(t, Options{}, "")
	l.mustProbe(t, handshakes(80, 1460)...)
	l.Close()
	l.Close()
	if after := leftovers(t); after != before {
		t.Errorf("before the lab: %s; after it: %s", before, after)
	}
	if _, err := l.Probe(t.Context(), []Probe{{From: Client, To: Server}}); err == nil {
		t.Error("a closed lab still probes")
	}
}

// leftovers says how many files are open, and in which network namespaces the threads of this process are.
func leftovers(t *testing.T) string {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	namespaces := map[string]bool{}
	for _, path := range threads {
		if ns, err := os.Readlink(path); err == nil { // a thread may have ended meanwhile
			namespaces[ns] = true
		}
	}
	named, _ := filepath.Glob("/run/netns/*")
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d files, %d namespaces, %d of them named, %d interfaces", len(files), len(namespaces), len(named), len(devices))
}

func TestNamespaceRun(t *testing.T) {
	if missing := Missing("nft"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	ns, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if out, err := ns.Run(t.Context(), "hello", "cat"); err != nil || out != "hello" {
		t.Errorf("cat: %q, %v", out, err)
	}
	if _, err := ns.Run(t.Context(), "add table inet only\n", "nft", "-f", "-"); err != nil {
		t.Error(err)
	}
	if out, err := ns.Run(t.Context(), "", "nft", "list", "tables"); err != nil || out != "table inet only\n" {
		t.Errorf("nft list tables: %q, %v", out, err)
	}
	if _, err := ns.Run(t.Context(), "add nonsense\n", "nft", "-c", "-f", "-"); err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("an error of nft reads %v", err)
	}
	if _, err := ns.Run(t.Context(), "", "no-such-program"); err == nil || err.Error() != "cannot run no-such-program: it is not installed" {
		t.Errorf("a program that there is not reads %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ns.Run(ended, "", "sleep", "60"); err == nil {
		t.Error("a program under a context that has ended runs")
	}
}

// A user who is not root gets the same lab in a user namespace. (Everyone else's tests have come that way by TestMain.)
func TestReexec(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv(inside) != "" {
		t.Skip("needs root to become somebody else")
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "lab.test")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-test.v", "-test.run=^TestClampLowers")
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	said, err := cmd.CombinedOutput()
	switch text := string(said); {
	case strings.Contains(text, "--- SKIP"):
		t.Skip(text)
	case err != nil || !strings.Contains(text, "--- PASS"):
		t.Errorf("%v\n%s", err, text)
	}
}

// handshakes are probes for a table about MSS: a SYN to a TCP port for each family, each direction and each MSS, answered
// by a SYN/ACK with the same MSS.
func handshakes(port int, mss ...int) []Probe {
	var probes []Probe
	for _, f := range []Family{IPv4, IPv6} {
		for _, way := range [][2]Host{{Client, Server}, {Server, Client}, {Client, FirewallHost}} {
			for _, m := range mss {
				probes = append(probes, Probe{From: way[0], To: way[1], Family: f, Port: port, MSS: m, ReplyMSS: m})
			}
		}
	}
	return probes
}

// The first packets of a new lab arrive, although the kernel is busy with many interfaces that come and go.
func TestNewLabsSendAtOnce(t *testing.T) {
	if missing := Missing(); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 5 {
				l, err := New(t.Context(), Options{})
				if err != nil {
					t.Error(err)
					return
				}
				results, err := l.Probe(t.Context(), []Probe{{From: Client, To: Server, Port: 80}, {From: Server, To: Client, Port: 80}})
				if err != nil || results[0].At != Server || results[1].At != Client {
					t.Errorf("what is sent first gives %v, %v", results, err)
				}
				l.Close()
			}
		})
	}
	group.Wait()
}
