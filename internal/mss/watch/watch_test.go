package watch

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"richwall/internal/mss"
)

// Interfaces of the router in tests.
const lan, wan = 1, 2

// tcpOf is a segment in an IP packet: its payload is as long as said, but is not there, as in a capture that was cut.
type tcpOf struct {
	from, to netip.AddrPort
	flags    byte
	seq, ack uint32
	mss      int // 0 for none
	data     int
	window   uint16
	sack     [2]uint32
	hops     byte
	fragment uint16 // the field of IPv4
}

const ackOnly, synOnly, synAck, finAck, push = flagACK, flagSYN, flagSYN | flagACK, flagFIN | flagACK, flagACK | 8

func (p tcpOf) bytes() []byte {
	var options []byte
	if p.mss != 0 {
		options = append(options, 2, 4, byte(p.mss>>8), byte(p.mss))
	}
	if p.sack != [2]uint32{} {
		options = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(append(options, 1, 1, 5, 10), p.sack[0]), p.sack[1])
	}
	if p.window == 0 {
		p.window = 1000
	}
	if p.hops == 0 {
		p.hops = 64
	}
	tcp := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.from.Port()), p.to.Port())
	tcp = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(tcp, p.seq), p.ack)
	tcp = append(tcp, byte(5+len(options)/4)<<4, p.flags, byte(p.window>>8), byte(p.window), 0, 0, 0, 0)
	tcp = append(tcp, options...)
	return ipOf(p.from.Addr(), p.to.Addr(), protoTCP, p.hops, p.fragment|0x4000, tcp, p.data)
}

// ipOf is an IP packet whose last bytes, so many, are not there.
func ipOf(from, to netip.Addr, protocol, hops byte, fragment uint16, body []byte, missing int) []byte {
	if from.Is6() {
		ip := []byte{0x60, 0, 0, 0}
		ip = append(binary.BigEndian.AppendUint16(ip, uint16(len(body)+missing)), protocol, hops)
		return append(append(append(ip, from.AsSlice()...), to.AsSlice()...), body...)
	}
	ip := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(body)+missing))
	ip = binary.BigEndian.AppendUint16(append(ip, 0, 1), fragment)
	ip = append(ip, hops, protocol, 0, 0)
	return append(append(append(ip, from.AsSlice()...), to.AsSlice()...), body...)
}

// router is a Watcher, its clock, and what it told.
type router struct {
	t      *testing.T
	w      *Watcher
	now    time.Duration
	events []Event
	names  map[int]string
}

func newRouter(t *testing.T, o Options) *router {
	r := &router{t: t, names: map[int]string{lan: "lan", wan: "wan", 3: "br0", 4: "eth1"}}
	o.Name = func(i int) string { return r.names[i] }
	o.Event = func(e Event) { r.events = append(r.events, e) }
	r.w = New(o)
	r.w.Tick(1e9)
	return r
}

// wait lets time go by.
func (r *router) wait(d time.Duration) {
	for end := r.now + d; r.now < end; {
		r.now = min(r.now+100*time.Millisecond, end)
		r.w.Tick(1e9 + int64(r.now))
	}
}

func (r *router) see(iface int, way Way, data []byte) {
	r.now += 10 * time.Microsecond
	r.w.Packet(Packet{Time: 1e9 + int64(r.now), Interface: iface, Way: way, Data: data})
}

// passes is a packet that comes in by one interface and leaves by the other.
func (r *router) passes(in, out int, p tcpOf) {
	r.see(in, Came, p.bytes())
	p.hops = 63
	r.see(out, Left, p.bytes())
}

// kinds are the kinds of what was told.
func (r *router) kinds() []Kind {
	var list []Kind
	for _, e := range r.events {
		list = append(list, e.Kind)
	}
	return list
}

func (r *router) only(k Kind) Event {
	r.t.Helper()
	var list []Event
	for _, e := range r.events {
		if e.Kind == k {
			list = append(list, e)
		}
	}
	if len(list) != 1 {
		r.t.Fatalf("%d events of kind %s; there are %v", len(list), k, r.kinds())
	}
	return list[0]
}

var (
	client = netip.MustParseAddrPort("10.0.0.2:40000")
	server = netip.MustParseAddrPort("192.0.2.9:443")
)

// dialogue is a connection whose packets go through the router.
type dialogue struct {
	*router
	from, to netip.AddrPort // as they come in at lan and leave by wan
	seq, ack uint32         // of the client
}

// connect makes a handshake, in which a clamp lowers both announcements.
func (r *router) connect(from, to netip.AddrPort, came, left int) *dialogue {
	d := &dialogue{r, from, to, 1001, 5001}
	for i, way := range []Way{Came, Left} {
		r.see([]int{lan, wan}[i], way, tcpOf{from: from, to: to, flags: synOnly, seq: 1000, mss: []int{came, left}[i]}.bytes())
	}
	for i, way := range []Way{Came, Left} {
		r.see([]int{wan, lan}[i], way, tcpOf{from: to, to: from, flags: synAck, seq: 5000, ack: 1001, mss: []int{came, left}[i]}.bytes())
	}
	r.passes(lan, wan, tcpOf{from: from, to: to, flags: ackOnly, seq: 1001, ack: 5001})
	return d
}

func (d *dialogue) sends(data int) {
	d.passes(lan, wan, tcpOf{from: d.from, to: d.to, flags: push, seq: d.seq, ack: d.ack, data: data})
}

func (d *dialogue) answers(ack uint32, sack ...uint32) {
	p := tcpOf{from: d.to, to: d.from, flags: ackOnly, seq: d.ack, ack: ack}
	copy(p.sack[:], sack)
	d.passes(wan, lan, p)
}

// A connection is told of with the MSS of SYN and SYN/ACK as they came and as they left, the interfaces and zones, and the
// rules that lowered them.
func TestHandshake(t *testing.T) {
	r := newRouter(t, Options{
		Zone: func(iface string, a netip.Addr) string {
			return map[string]string{"lan": "internal", "wan": "external"}[iface]
		},
		Clamps: func(p mss.Passage) []string {
			return []string{map[bool]string{false: "the rule for SYN", true: "the rule for SYN/ACK"}[p.Reply]}
		},
	})
	r.connect(client, server, 1460, 1452)
	const want = "opened   10.0.0.2:40000 → 192.0.2.9:443  lan (internal) → wan (external)  SYN 1460 → 1452, SYN/ACK 1460 → 1452  by the rule for SYN and the rule for SYN/ACK"
	if got := r.only(KindConnection).Line(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if s := r.w.Summary(0); s.Totals.SYN != (Pairs{1, 1, 1}) || s.Totals.SYNACK != (Pairs{1, 1, 1}) || s.Totals.Lowered != 2 {
		t.Errorf("%+v", s.Totals)
	}
}

// A handshake that gets stuck is told of a second later, with the place where it did.
func TestHandshakesThatGetStuck(t *testing.T) {
	syn := tcpOf{from: client, to: server, flags: synOnly, seq: 1000, mss: 1460}
	answer := tcpOf{from: server, to: client, flags: synAck, seq: 5000, ack: 1001, mss: 1460}
	for name, c := range map[string]struct {
		packets func(r *router)
		want    string
	}{
		"dropped here":          {func(r *router) { r.see(lan, Came, syn.bytes()) }, "lan → this machine  SYN 1460  the SYN was not passed on"},
		"not answered":          {func(r *router) { r.passes(lan, wan, syn) }, "lan → wan  SYN 1460  no clamp  no answer"},
		"answer dropped here":   {func(r *router) { r.passes(lan, wan, syn); r.see(wan, Came, answer.bytes()) }, "lan → wan  SYN 1460, SYN/ACK 1460  no clamp  the answer was not passed on"},
		"to this machine":       {func(r *router) { r.see(lan, Came, syn.bytes()); r.see(lan, Left, answer.bytes()) }, "lan → this machine  SYN 1460, SYN/ACK 1460"},
		"from this machine":     {func(r *router) { r.see(wan, Left, syn.bytes()); r.see(wan, Came, answer.bytes()) }, "this machine → wan  SYN 1460, SYN/ACK 1460"},
		"without an MSS":        {func(r *router) { s := syn; s.mss = 0; r.passes(lan, wan, s) }, "lan → wan  SYN without an MSS  no clamp  no answer"},
		"by a bridge and a tag": {func(r *router) { bridged(r, syn, answer) }, "br0 → wan  SYN 1460, SYN/ACK 1460  no clamp"},
	} {
		r := newRouter(t, Options{})
		c.packets(r)
		r.wait(1500 * time.Millisecond)
		if got := r.only(KindConnection).Line(); got != "opened   10.0.0.2:40000 → 192.0.2.9:443  "+c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
	}
}

// bridged is a handshake whose packets are seen at a port of a bridge, at the bridge, where they leave, and at what is below that.
func bridged(r *router, syn, answer tcpOf) {
	r.see(lan, Came, syn.bytes())
	r.see(3, Came, syn.bytes())
	r.see(wan, Left, syn.bytes())
	r.see(4, Left, syn.bytes())
	r.see(4, Came, answer.bytes())
	r.see(wan, Came, answer.bytes())
	r.see(3, Left, answer.bytes())
	r.see(lan, Left, answer.bytes())
}

// Where addresses are translated, what came and what left is one connection all the same.
func TestTranslated(t *testing.T) {
	r := newRouter(t, Options{})
	outside, inside := netip.MustParseAddrPort("198.51.100.1:61000"), netip.MustParseAddrPort("172.16.0.9:8443")
	r.see(lan, Came, tcpOf{from: client, to: server, flags: synOnly, seq: 1000, mss: 1460}.bytes())
	r.see(wan, Left, tcpOf{from: outside, to: server, flags: synOnly, seq: 1000, mss: 1452}.bytes())
	r.see(wan, Came, tcpOf{from: server, to: outside, flags: synAck, seq: 5000, ack: 1001, mss: 1400}.bytes())
	r.see(lan, Left, tcpOf{from: server, to: client, flags: synAck, seq: 5000, ack: 1001, mss: 1400}.bytes())
	const want = "opened   10.0.0.2:40000 (198.51.100.1:61000) → 192.0.2.9:443  lan → wan  SYN 1460 → 1452, SYN/ACK 1400  lowered"
	if got := r.only(KindConnection).Line(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r.events = nil
	r.see(wan, Came, tcpOf{from: server, to: outside, flags: synOnly, seq: 7000, mss: 1460}.bytes())
	r.see(lan, Left, tcpOf{from: server, to: inside, flags: synOnly, seq: 7000, mss: 1460}.bytes())
	r.see(lan, Came, tcpOf{from: inside, to: server, flags: synAck, seq: 8000, ack: 7001, mss: 1460}.bytes())
	r.see(wan, Left, tcpOf{from: outside, to: server, flags: synAck, seq: 8000, ack: 7001, mss: 1452}.bytes())
	if s := r.w.Summary(0); s.Totals.SYN.Both != 2 || s.Totals.SYNACK.Both != 2 {
		t.Errorf("%+v", s.Totals)
	}
	if got := r.only(KindConnection).Line(); !strings.Contains(got, "192.0.2.9:443 → 172.16.0.9:8443 (198.51.100.1:61000)  wan → lan") {
		t.Error(got)
	}
}

// Large segments leave time and again and are not answered, small ones are: a black hole beyond. It is named within three
// seconds of the second repetition, and the rule to add is for the address that they do not reach.
func TestBlackHoleBeyond(t *testing.T) {
	r := newRouter(t, Options{Zone: func(iface string, _ netip.Addr) string { return "zone-" + iface }})
	d := r.connect(client, server, 1460, 1460)
	d.sends(200)
	d.answers(1201)
	d.seq = 1201
	for _, pause := range []time.Duration{0, 200, 400} {
		r.wait(pause * time.Millisecond)
		d.sends(1460)
	}
	r.wait(2900 * time.Millisecond)
	const want = "LOST     10.0.0.2:40000 → 192.0.2.9:443  lan (zone-lan) → wan (zone-wan)  packets of 1500 bytes to 192.0.2.9 leave by wan (zone-wan) and are not answered (sent 3 times); those of 240 are"
	if got := r.only(KindHole).Line(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n := r.only(KindHole).Hole.Waited; n < 0 || n > 3000 {
		t.Errorf("it was named %d ms after the second repetition", n)
	}
	s := r.w.Summary(0)
	const advice = `Packets of 1500 bytes and more are lost beyond wan (zone-wan), to 192.0.2.9 (1 connection). Those of 240 bytes arrive.
Add; this is customary, because nobody told what fits:
  firewall-cmd --permanent --zone=zone-wan --add-rich-rule='rule family="ipv4" destination address="192.0.2.9" tcp-mss-clamp mtu="1400"'
`
	if !strings.HasSuffix(s.Text(), advice) {
		t.Errorf("got  %s\nwant %s", s.Text(), advice)
	}
}

// Connections that are open keep the MSS that they began with: those that a rule comes too late for are named, and not those
// that were clamped already, go elsewhere, or are over.
func TestTooLate(t *testing.T) {
	r := newRouter(t, Options{})
	d := r.connect(client, server, 1460, 1460)
	other := func(from, to string, left int) *dialogue {
		return r.connect(netip.MustParseAddrPort(from), netip.MustParseAddrPort(to), 1460, left)
	}
	other("10.0.0.3:1", "192.0.2.9:80", 1460)
	other("10.0.0.4:1", "192.0.2.9:80", 1300)
	other("10.0.0.5:1", "192.0.2.10:80", 1460)
	over := other("10.0.0.6:1", "192.0.2.9:80", 1460)
	r.passes(lan, wan, tcpOf{from: over.from, to: over.to, flags: flagRST, seq: over.seq})
	for range 4 {
		d.sends(1460)
		r.wait(900 * time.Millisecond)
	}
	r.wait(time.Second)
	r.w.Finish()
	s := r.w.Summary(0)
	slices.Sort(s.Keep)
	if want := []string{"10.0.0.2:40000 → 192.0.2.9:443", "10.0.0.3:1 → 192.0.2.9:80"}; !slices.Equal(s.Keep, want) || s.More != 0 {
		t.Errorf("got %q, %d more; want %q", s.Keep, s.More, want)
	}
	if !strings.Contains(s.Text(), "until they are opened again:\n  10.0.0.2:40000 → 192.0.2.9:443\n") {
		t.Error(s.Text())
	}
}

// The same in the other direction, of a server that sends at once: what is small and answered is its SYN/ACK.
func TestBlackHoleOfTheAnswer(t *testing.T) {
	r := newRouter(t, Options{})
	r.connect(client, server, 1460, 1460)
	for range 4 {
		r.passes(wan, lan, tcpOf{from: server, to: client, flags: push, seq: 5001, ack: 1001, data: 1460})
		r.wait(700 * time.Millisecond)
	}
	r.wait(2 * time.Second)
	if got := r.only(KindHole).Line(); !strings.HasSuffix(got, "packets of 1500 bytes to 10.0.0.2 leave by lan and are not answered (sent 4 times); small ones are") {
		t.Error(got)
	}
	s := r.w.Summary(0)
	if want := `rule family="ipv4" source address="10.0.0.2" tcp-mss-clamp mtu="1400"`; len(s.Advice) != 1 || s.Advice[0].Rules[0] != want {
		t.Errorf("%+v", s.Advice)
	}
}

// When what was called lost is answered after all, that is said, and no rule is proposed for it.
func TestWithdrawn(t *testing.T) {
	r := newRouter(t, Options{})
	d := r.connect(client, server, 1460, 1460)
	for range 4 {
		d.sends(1460)
		r.wait(time.Second)
	}
	r.wait(2 * time.Second)
	r.only(KindHole)
	d.answers(1001 + 1460)
	r.only(KindWithdrawn)
	if s := r.w.Summary(0); len(s.Holes)+len(s.Advice) != 0 {
		t.Errorf("%+v", s)
	}
}

// A black hole is not seen where small segments are lost too, where another connection gets as large ones through, where the
// other side has no room, or where only the answer was lost once.
func TestNoBlackHole(t *testing.T) {
	repeat := func(d *dialogue) {
		for range 4 {
			d.sends(1460)
			d.wait(400 * time.Millisecond)
		}
	}
	for name, story := range map[string]func(r *router, d *dialogue){
		"nothing gets through any more": func(r *router, d *dialogue) {
			d.sends(1460)
			d.seq += 1460
			d.sends(100)
			d.seq -= 1460
			r.wait(300 * time.Millisecond)
			repeat(d)
		},
		"another one gets through": func(r *router, d *dialogue) {
			other := r.connect(netip.MustParseAddrPort("10.0.0.3:40001"), server, 1460, 1460)
			d.sends(1460)
			r.wait(300 * time.Millisecond)
			other.sends(1460)
			other.answers(1001 + 1460)
			repeat(d)
		},
		"the other side has no room": func(r *router, d *dialogue) {
			d.sends(1460)
			r.see(wan, Came, []byte(tcpOf{from: server, to: client, flags: ackOnly, seq: 5001, ack: 1001, window: 1}.bytes()))
			p := tcpOf{from: server, to: client, flags: ackOnly, seq: 5001, ack: 1001}.bytes()
			p[20+14], p[20+15] = 0, 0 // the window
			r.see(wan, Came, p)
			r.see(lan, Left, p)
			repeat(d)
		},
		"the second time it is answered": func(r *router, d *dialogue) {
			d.sends(1460)
			r.wait(300 * time.Millisecond)
			d.sends(1460)
			d.answers(1001 + 1460)
			d.seq += 1460
			d.sends(1460)
			d.answers(1001 + 2920)
		},
		"it is answered selectively": func(r *router, d *dialogue) {
			d.sends(1460)
			d.seq += 1460
			d.sends(1460)
			d.answers(1001, d.seq, d.seq+1460)
			d.seq -= 1460
			r.wait(300 * time.Millisecond)
			repeat(d)
		},
		"it is small": func(r *router, d *dialogue) {
			for range 6 {
				d.sends(500)
				r.wait(400 * time.Millisecond)
			}
		},
		"it is doubled on the way": func(r *router, d *dialogue) {
			for range 5 {
				d.sends(1460)
			}
		},
	} {
		r := newRouter(t, Options{})
		story(r, r.connect(client, server, 1460, 1460))
		r.wait(4 * time.Second)
		if slices.Contains(r.kinds(), KindHole) {
			t.Errorf("%s: %s", name, r.only(KindHole).Line())
		}
	}
}

// What comes in and does not leave, while small segments do, is lost here: the message that says so does not reach its sender.
func TestBlackHoleHere(t *testing.T) {
	r := newRouter(t, Options{})
	d := r.connect(client, server, 1460, 1460)
	for range 4 {
		p := tcpOf{from: client, to: server, flags: push, seq: 1001, ack: 5001, data: 1460}
		r.see(lan, Came, p.bytes())
		r.see(lan, Left, tooBigOf(netip.MustParseAddr("10.0.0.1"), p, 1420))
		r.wait(400 * time.Millisecond)
	}
	_ = d
	r.wait(2500 * time.Millisecond)
	const want = "packets of 1500 bytes from 10.0.0.2 come in and do not leave by wan (sent 4 times); small ones are; 10.0.0.2 was told an MTU of 1420, and does not heed it"
	if got := r.only(KindHole).Line(); !strings.HasSuffix(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := r.only(KindTooBig).Line(); !strings.HasSuffix(got, "MTU 1420, from 10.0.0.1 for 10.0.0.2: sent by this machine") {
		t.Error(got)
	}
	s := r.w.Summary(0)
	if len(s.Advice) != 1 || !slices.Equal(s.Advice[0].Rules, []string{`rule tcp-mss-clamp value="pmtu"`}) || s.Advice[0].Interface != "wan" {
		t.Errorf("%+v", s.Advice)
	}
}

// tooBigOf is the ICMP message that a segment is too large.
func tooBigOf(from netip.Addr, about tcpOf, mtu int) []byte {
	inside := about.bytes()
	inside = inside[:min(len(inside), 28)]
	message := append([]byte{3, 4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, inside...)
	if from.Is6() {
		message = append([]byte{2, 0, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, about.bytes()...)
		return ipOf(from, about.from.Addr(), protoICMPv6, 64, 0, message, 0)
	}
	return ipOf(from, about.from.Addr(), protoICMP, 64, 0, message, 0)
}

// What comes of a gap in the data that is never filled, though its sender goes on: large segments are lost before this machine.
func TestBlackHoleBefore(t *testing.T) {
	r := newRouter(t, Options{})
	d := r.connect(client, server, 1460, 1460)
	d.sends(200)
	for i := range 4 {
		tail := tcpOf{from: server, to: client, flags: push, seq: 5001 + 4*1460, ack: 1201, data: 300}
		r.passes(wan, lan, tail)
		r.passes(lan, wan, tcpOf{from: client, to: server, flags: ackOnly, seq: 1201, ack: 5001, sack: [2]uint32{5001 + 4*1460, 5301 + 4*1460}})
		r.wait(time.Duration(200<<i) * time.Millisecond)
	}
	const want = "packets of up to 1500 bytes from 192.0.2.9 do not arrive at wan, though what follows them does"
	if got := r.only(KindHole).Line(); !strings.HasSuffix(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s := r.w.Summary(0)
	if want := `rule family="ipv4" destination address="192.0.2.9" tcp-mss-clamp mtu="1400"`; len(s.Advice) != 1 || s.Advice[0].Rules[0] != want {
		t.Errorf("%+v", s.Advice)
	}
}

// Messages that a packet was too large are told of: from whom, for whom, and what became of them. One about a segment that
// nobody sent is counted, and believed by nobody.
func TestTooBig(t *testing.T) {
	far := netip.MustParseAddr("203.0.113.7")
	about := tcpOf{from: client, to: server, flags: push, seq: 1001, ack: 5001, data: 1460}
	for name, c := range map[string]struct {
		story func(r *router)
		want  string
	}{
		"passed on": {func(r *router) {
			r.see(wan, Came, tooBigOf(far, about, 1400))
			r.see(lan, Left, tooBigOf(far, about, 1400))
		}, "MTU 1400, from 203.0.113.7 for 10.0.0.2: passed on"},
		"dropped":       {func(r *router) { r.see(wan, Came, tooBigOf(far, about, 1400)) }, "MTU 1400, from 203.0.113.7 for 10.0.0.2: not passed on"},
		"without a MTU": {func(r *router) { r.see(wan, Came, tooBigOf(far, about, 0)) }, "without an MTU, from 203.0.113.7 for 10.0.0.2: not passed on"},
	} {
		r := newRouter(t, Options{})
		r.connect(client, server, 1460, 1460).sends(1460)
		c.story(r)
		r.wait(1500 * time.Millisecond)
		if got := r.only(KindTooBig).Line(); !strings.HasSuffix(got, c.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	r := newRouter(t, Options{})
	r.connect(client, server, 1460, 1460).sends(1460)
	forged := about
	forged.seq = 0x80000000
	r.see(wan, Came, tooBigOf(far, forged, 68))
	r.wait(1500 * time.Millisecond)
	if s := r.w.Summary(0); s.Totals.Stray != 1 || s.Totals.TooBig != 0 || slices.Contains(r.kinds(), KindTooBig) {
		t.Errorf("%+v, %v", s.Totals, r.kinds())
	}
}

// Over IPv6 the same holds; what is no larger than 1280 bytes fits every link, and is not called lost.
func TestIPv6(t *testing.T) {
	from, to := netip.MustParseAddrPort("[2001:db8::2]:40000"), netip.MustParseAddrPort("[2001:db8:1::9]:443")
	for size, lost := range map[int]bool{1440: true, 1220: false} {
		r := newRouter(t, Options{})
		d := r.connect(from, to, 1440, 1440)
		d.sends(size)
		about := tcpOf{from: from, to: to, flags: push, seq: 1001, ack: 5001, data: size}
		router := netip.MustParseAddr("2001:db8:7::1")
		r.see(wan, Came, tooBigOf(router, about, 1380))
		r.see(lan, Left, tooBigOf(router, about, 1380))
		for range 4 {
			r.wait(500 * time.Millisecond)
			d.sends(size)
		}
		r.wait(3 * time.Second)
		if got := r.only(KindTooBig).Line(); !strings.HasSuffix(got, "MTU 1380, from 2001:db8:7::1 for 2001:db8::2: passed on") {
			t.Error(got)
		}
		if got := slices.Contains(r.kinds(), KindHole); got != lost {
			t.Errorf("%d bytes of data: lost is %v", size, got)
		}
		want := `rule family="ipv6" destination address="2001:db8:1::9" tcp-mss-clamp mtu="1380"`
		if s := r.w.Summary(0); lost && (len(s.Advice) != 1 || s.Advice[0].Rules[0] != want) {
			t.Errorf("%+v", s.Advice)
		}
	}
}

// A message that says the MTU settles the rule.
func TestToldMTU(t *testing.T) {
	r := newRouter(t, Options{})
	d := r.connect(client, server, 1460, 1460)
	d.sends(1460)
	about := tcpOf{from: client, to: server, flags: push, seq: 1001, ack: 5001, data: 1460}
	r.see(wan, Came, tooBigOf(netip.MustParseAddr("203.0.113.7"), about, 1438))
	for range 4 {
		r.wait(400 * time.Millisecond)
		d.sends(1460)
	}
	r.wait(3 * time.Second)
	if s := r.w.Summary(0); len(s.Advice) != 1 || !strings.Contains(s.Advice[0].Rules[0], `mtu="1438"`) {
		t.Errorf("%+v", s.Advice)
	}
}

// At its end a connection is told of with the largest segments that were answered, repetitions, and Don't Fragment.
func TestClosed(t *testing.T) {
	r := newRouter(t, Options{})
	d := r.connect(client, server, 1460, 1460)
	d.sends(1000)
	r.wait(300 * time.Millisecond)
	d.sends(1000)
	d.answers(2001)
	r.passes(wan, lan, tcpOf{from: server, to: client, flags: push, seq: 5001, ack: 2001, data: 1460})
	r.passes(lan, wan, tcpOf{from: client, to: server, flags: finAck, seq: 2001, ack: 6461})
	r.passes(wan, lan, tcpOf{from: server, to: client, flags: finAck, seq: 6461, ack: 2002})
	r.wait(3 * time.Second)
	const want = "closed   10.0.0.2:40000 → 192.0.2.9:443  lan → wan  there: 1040 bytes answered, DF, 1 repeated; back: 1500 bytes answered, DF"
	if got := r.only(KindClosed).Line(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r.w.table.size() != 0 || len(r.w.table.byEnds)+len(r.w.table.byMark) != 0 {
		t.Errorf("%d connections, %d ends, %d marks are left", r.w.table.size(), len(r.w.table.byEnds), len(r.w.table.byMark))
	}
}

// A flood of SYNs displaces itself, not the connections that are in use.
func TestFlood(t *testing.T) {
	r := newRouter(t, Options{Limit: 1000})
	d := r.connect(client, server, 1460, 1460)
	r.wait(2 * time.Second)
	for i := range 100_000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		r.see(wan, Came, tcpOf{from: from, to: server, flags: synOnly, seq: uint32(i), mss: 1460}.bytes())
		if i%1000 == 0 {
			r.wait(100 * time.Millisecond)
		}
	}
	if n := r.w.table.size(); n > 1000 {
		t.Errorf("%d connections", n)
	}
	d.sends(1460)
	d.answers(1001 + 1460)
	r.events = nil
	r.w.Finish()
	if !slices.ContainsFunc(r.events, func(e Event) bool {
		return e.Kind == KindClosed && e.Connection.From == client.String() && e.Connection.There.Answered == 1500
	}) {
		t.Error("the connection that was in use is forgotten")
	}
}

// Whatever strangers send, the memory is bounded: here as many connections as are followed at a time, and many more.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := newRouter(t, Options{Event: func(Event) {}})
	r.w.o.Event = func(Event) {}
	for i := range 3 * DefaultLimit {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{12, byte(i >> 16), byte(i >> 8), byte(i)}), 2)
		outside := netip.AddrPortFrom(client.Addr(), uint16(i))
		r.see(lan, Came, tcpOf{from: from, to: to, flags: synOnly, seq: uint32(i), mss: 1460}.bytes())
		r.see(wan, Left, tcpOf{from: outside, to: to, flags: synOnly, seq: uint32(i), mss: 1460}.bytes())
		r.see(wan, Came, tcpOf{from: to, to: outside, flags: push, seq: uint32(i), ack: uint32(i) + 1, data: 1460}.bytes())
		r.see(wan, Came, tcpOf{from: to, to: outside, flags: push, seq: uint32(i) + 3000, ack: uint32(i) + 1, data: 1460}.bytes())
		r.see(lan, Came, tcpOf{from: from, to: to, flags: ackOnly, seq: uint32(i), ack: uint32(i) + 1}.bytes())
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	const most = 30 << 20
	if n := r.w.table.size(); n != DefaultLimit || after.HeapAlloc-before.HeapAlloc > most || len(r.w.suspects) > 3*DefaultLimit {
		t.Errorf("%d connections take %d MB; %d are suspects", n, (after.HeapAlloc-before.HeapAlloc)>>20, len(r.w.suspects))
	}
	t.Logf("%d bytes of each, %d MB in all", unsafe.Sizeof(conn{}), (after.HeapAlloc-before.HeapAlloc)>>20)
}

// A connection is shown if all filters are about one of its ends, or of what they are translated to, and it uses the interface.
func TestFilter(t *testing.T) {
	for _, c := range []struct {
		filters []string
		device  string
		want    bool
	}{
		{nil, "", true}, {nil, "wan", true}, {nil, "dmz", false},
		{[]string{"10.0.0.0/24"}, "", true}, {[]string{"10.0.1.0/24"}, "", false}, {[]string{":443"}, "", true},
		{[]string{"10.0.0.2:443"}, "", false}, {[]string{"10.0.0.2", ":443"}, "lan", true}, {[]string{"192.0.2.9:443"}, "", true},
		{[]string{"::/0"}, "", false}, {[]string{"[192.0.2.9]:443"}, "", true},
	} {
		o := Options{Device: c.device}
		for _, text := range c.filters {
			f, err := ParseFilter(text)
			if err != nil {
				t.Fatal(err)
			}
			o.Only = append(o.Only, f)
		}
		r := newRouter(t, o)
		r.connect(client, server, 1460, 1460)
		if got := len(r.events) > 0; got != c.want {
			t.Errorf("%q %q: shown is %v", c.filters, c.device, got)
		}
	}
	for _, text := range []string{"", ":", "x", "10.0.0.0/33", "10.0.0.1:0", "10.0.0.1:x", "[::1", "[::1]443", "fe80::1%eth0"} {
		if _, err := ParseFilter(text); err == nil || !strings.Contains(err.Error(), "say an address or a prefix, a port, or both") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
