package clone

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"richwall/internal/lab"
)

// end is where packets are sent into a link of the clone, and where those that it sends are seen.
type end struct {
	link   string // of the router's, at whose other end it is
	fd     int
	mac    []byte // its own
	bridge string // that the link is a port of, "" for none
	ours   bool   // the port is one that the clone has beside the machine's
}

// addPorts adds a port to each bridge, so that what a bridge without any sends is seen too. They come after the machine's own links, whose numbers
// would be taken otherwise.
func (c *Clone) addPorts(route *conn, far int) error {
	i := 0
	for _, p := range order(c.plan) {
		if p.kind != "bridge" || p.role != real {
			continue
		}
		for taken := true; taken; {
			i++
			taken = slices.ContainsFunc(order(c.plan), func(p *planned) bool { return p.name == portName(i) })
		}
		l := link{name: portName(i), mtu: largest}
		if err := route.one(vethMessage(l, 0, link{name: portName(i), mtu: largest}, 0, far)); err != nil {
			return fmt.Errorf("a port for %s: %w", p.name, err)
		}
		index, err := indexOf(route, l.name)
		if err != nil {
			return err
		}
		if err := route.one(message{unix.RTM_NEWLINK, 0, putNumber(head(index, unix.IFF_UP, unix.IFF_UP), unix.IFLA_MASTER, uint32(c.index(p.index)))}); err != nil {
			return fmt.Errorf("a port for %s: %w", p.name, err)
		}
		c.ends = append(c.ends, &end{link: l.name, fd: -1, bridge: p.name, ours: true})
	}
	return nil
}

func portName(i int) string { return fmt.Sprintf("rwport%d", i) }

func indexOf(route *conn, name string) (int, error) {
	list, err := route.dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	for _, m := range list {
		if l, ok := newLink(m.body); ok && l.name == name {
			return l.index, nil
		}
	}
	return 0, err
}

// openEnds opens the ends: those outside, and those that are the machine's own.
func (c *Clone) openEnds() error {
	for _, p := range order(c.plan) {
		if p.role != wire && !(p.role == pair && p.far) {
			continue
		}
		e := &end{link: p.name, fd: -1}
		if master := c.plan[p.master]; master != nil && master.kind == "bridge" {
			e.bridge = master.name
		}
		c.ends = append(c.ends, e)
	}
	err := c.outside.Do(func() error {
		if err := c.makeMarker(); err != nil {
			return err
		}
		for _, e := range c.ends {
			name := e.link // that of a port of ours is the same on both sides
			if i := c.planOf(e.link); i != nil {
				if i.role != wire {
					continue
				}
				name = outside(i.index)
			}
			if err := e.open(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the ends of links: %w", err)
	}
	return c.router.Do(func() error {
		for _, e := range c.ends {
			if e.fd >= 0 {
				continue
			}
			if err := e.open(c.plan[c.planOf(e.link).peer].name); err != nil {
				return fmt.Errorf("the ends of links: %w", err)
			}
		}
		return nil
	})
}

// ready waits until the kernel has taken notice that all links are up, which it does in a thread of its own, and bridges forward.
func (c *Clone) ready(ctx context.Context) error {
	for _, ns := range []*lab.Namespace{c.outside, c.router} {
		for end, waiting := time.Now().Add(slowest), true; waiting && time.Now().Before(end); {
			err := ns.Do(func() error {
				route, err := dial(unix.NETLINK_ROUTE)
				if err != nil {
					return err
				}
				defer route.close()
				list, err := route.dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
				waiting = unready(list)
				return err
			})
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			if waiting {
				time.Sleep(time.Millisecond)
			}
		}
	}
	return nil
}

// unready says whether links that have a carrier are not running yet, or ports do not forward.
func unready(list []message) bool {
	const carrier = 0x10000 // IFF_LOWER_UP
	up := map[int]bool{}
	var links []link
	for _, m := range list {
		if l, ok := newLink(m.body); ok {
			links = append(links, l)
			up[l.index] = l.up()
		}
	}
	return slices.ContainsFunc(links, func(l link) bool {
		return l.up() && l.flags&carrier != 0 && (l.flags&unix.IFF_RUNNING == 0 || !l.forwards && up[l.master])
	})
}

func (c *Clone) planOf(name string) *planned {
	for _, p := range c.plan {
		if p.name == name {
			return p
		}
	}
	return nil
}

// makeMarker makes a way outside that goes through no rules: two veths with a bridge between.
func (c *Clone) makeMarker() error {
	route, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer route.close()
	bridge := nest(putText(head(0, unix.IFF_UP, unix.IFF_UP), unix.IFLA_IFNAME, "marks"), unix.IFLA_LINKINFO, putText(nil, infoKind, "bridge"))
	if err := route.one(message{unix.RTM_NEWLINK, create, bridge}); err != nil {
		return err
	}
	over, err := indexOf(route, "marks")
	if err != nil {
		return err
	}
	for i, name := range []string{"markin", "markout"} {
		if err := route.one(vethMessage(link{name: name, mtu: 1500}, 0, link{name: name + "p", mtu: 1500}, 0, 0)); err != nil {
			return err
		}
		port, err := indexOf(route, name+"p")
		if err != nil {
			return err
		}
		if err := route.one(message{unix.RTM_NEWLINK, 0, putNumber(head(port, unix.IFF_UP, unix.IFF_UP), unix.IFLA_MASTER, uint32(over))}); err != nil {
			return err
		}
		c.marker[i] = &end{link: name, fd: -1}
		if err := c.marker[i].open(name); err != nil {
			return err
		}
	}
	return nil
}

// open sets a link up, and opens a socket on it, in the namespace of the calling thread.
func (e *end) open(name string) error {
	route, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer route.close()
	device, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := route.one(message{unix.RTM_NEWLINK, 0, head(device.Index, unix.IFF_UP, unix.IFF_UP)}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		return err
	}
	e.fd, e.mac = fd, device.HardwareAddr
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index}); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20) // as much as there may be
	return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
}

// endsOf are the ends of which what is sent comes to an interface of the router, those of the machine's own ports first.
func (c *Clone) endsOf(iface string) []*end {
	p := c.planOf(iface)
	if p == nil {
		return nil
	}
	bridge := ""
	switch {
	case p.role == real && p.kind == "bridge":
		bridge = p.name
	case p.role == pair && !p.far:
		if other := c.plan[p.peer]; !other.far && c.plan[other.master] != nil && c.plan[other.master].kind == "bridge" {
			bridge = c.plan[other.master].name
		}
	}
	var list []*end
	for _, e := range c.ends {
		if e.link == iface && e.bridge == "" || bridge != "" && e.bridge == bridge {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b *end) int {
		switch {
		case a.ours == b.ours:
			return 0
		case a.ours:
			return 1
		}
		return -1
	})
	return list
}

// Added says whether a port is one that the clone has beside the machine's.
func (c *Clone) Added(port string) bool {
	return slices.ContainsFunc(c.ends, func(e *end) bool { return e.ours && e.link == port })
}

// Reaches says whether packets can be sent into an interface of the clone.
func (c *Clone) Reaches(iface string) bool { return len(c.endsOf(iface)) > 0 }

// Segment is a SYN or SYN/ACK to send.
type Segment struct {
	In       string // the interface of the router that it comes to
	Port     string // the port of it that it comes by, as an Arrival has it; "" for any
	Src, Dst netip.AddrPort
	Answers  uint32 // the ID of the SYN that it answers, 0 for none
	MSS      int
	Size     int    // bytes, of the IP packet; 0 for no more than there has to be
	ID       uint32 // what it was sent with; Exchange sets it
}

// Arrival is a segment that the router has sent.
type Arrival struct {
	Out      string // the interface that it left by; "" if it has left in a tunnel
	Port     string // the link at whose other end it was seen
	Src, Dst netip.AddrPort
	MSS      int  // 0 for none
	Cut      bool // it came in fragments
}

// firstID is the number of the first segment. It is its sequence number, which neither NAT nor a tunnel changes.
const firstID = 0x5ad70001

// Exchange sends segments, and returns for each where it came out, nothing for one that did not. It ends when all of them have gone through, or the
// context has.
func (c *Clone) Exchange(ctx context.Context, list []Segment) ([][]Arrival, error) {
	defer stay()()
	x := &exchange{Clone: c, list: list, arrivals: make([][]Arrival, len(list)), index: map[uint32]int{}}
	const atOnce = 64 // so that what comes has room in the sockets
	for begin := 0; begin < len(list); begin += atOnce {
		for i := begin; i < min(begin+atOnce, len(list)); i++ {
			c.nextID += 16
			list[i].ID = c.nextID
			x.index[c.nextID] = i
			if err := c.send(list[i]); err != nil {
				return nil, err
			}
		}
		if err := x.settle(ctx); err != nil {
			return nil, err
		}
	}
	return x.arrivals, nil
}

// stay keeps the calling goroutine on one processor until what it returns is called: packets are taken there in the order in which they were sent.
func stay() func() {
	runtime.LockOSThread()
	var before, one unix.CPUSet
	if unix.SchedGetaffinity(0, &before) != nil || before.Count() == 0 {
		return runtime.UnlockOSThread
	}
	which := rand.IntN(before.Count())
	for cpu := 0; which >= 0; cpu++ {
		if before.IsSet(cpu) {
			if which == 0 {
				one.Set(cpu)
			}
			which--
		}
	}
	_ = unix.SchedSetaffinity(0, &one) // without it packets may come later than is waited for, which is said to be so
	return func() {
		_ = unix.SchedSetaffinity(0, &before)
		runtime.UnlockOSThread()
	}
}

type exchange struct {
	*Clone
	list     []Segment
	arrivals [][]Arrival
	index    map[uint32]int
	buffer   [1 << 17]byte
}

// mark is a frame that is sent into the marker's way: of an EtherType for experiments (IEEE 802), with a number.
func mark(n uint32) []byte {
	frame := binary.BigEndian.AppendUint32([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3, 0x88, 0xb5}, n)
	return append(frame, make([]byte, 46)...)
}

// How often the marker has to come by without anything else, each time as far as two links; and how long it may take, in which the machine may be
// busy with other things.
const (
	rounds  = 6
	slowest = 30 * time.Second
)

// settle receives until nothing is on the way any more: a frame that was sent later has come by, several times.
func (x *exchange) settle(ctx context.Context) error {
	for quiet := 0; quiet < rounds; quiet++ {
		if err := x.wait(ctx); err != nil {
			return err
		}
		if x.receive() {
			quiet = -1
		}
	}
	return nil
}

// wait waits until a mark that it sends has come by. One that is lost is sent again.
func (x *exchange) wait(ctx context.Context) error {
	x.marks++
	for end := time.Now().Add(slowest); time.Now().Before(end) && ctx.Err() == nil; {
		if _, err := unix.Write(x.marker[0].fd, mark(x.marks)); err != nil {
			return fmt.Errorf("cannot send: %w", err)
		}
		polls := []unix.PollFd{{Fd: int32(x.marker[1].fd), Events: unix.POLLIN}}
		for n, _ := unix.Poll(polls, 100); n > 0; {
			n, err := unix.Read(x.marker[1].fd, x.buffer[:])
			if err != nil {
				break
			}
			if n >= 18 && x.buffer[12] == 0x88 && x.buffer[13] == 0xb5 && binary.BigEndian.Uint32(x.buffer[14:]) == x.marks {
				return nil
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("the clone does not answer within %s", slowest)
}

// receive takes what has come to the ends, and answers who asks for neighbours. It says whether anything of that has come.
func (x *exchange) receive() bool {
	any := false
	for _, e := range x.ends {
		for {
			n, err := unix.Read(e.fd, x.buffer[:])
			if err != nil {
				break
			}
			frame := x.buffer[:n]
			if answer := e.answer(frame); answer != nil {
				any = true
				_, _ = unix.Write(e.fd, answer) // what cannot be sent is not seen, and said not to be
			} else if x.arrived(e, frame) {
				any = true
			}
		}
	}
	return any
}

// arrived notes a segment that was sent, in whatever it is now; false for another packet.
func (x *exchange) arrived(e *end, frame []byte) bool {
	if len(frame) < 14+20 || isICMP(frame) { // an error quotes what it is about
		return false
	}
	for at := 14 + 20; at+4 <= len(frame) && at < 14+300; at++ {
		if frame[at] != byte(firstID>>24) {
			continue
		}
		i, ok := x.index[binary.BigEndian.Uint32(frame[at:])]
		if !ok {
			continue
		}
		if len(frame) < 14+x.list[i].Size && !fragment(frame) { // an error within a tunnel
			return true
		}
		a := Arrival{Port: e.link, Cut: fragment(frame)}
		if tcp, src, dst, ok := plainTCP(frame); ok {
			a.Out = x.sender(e, frame[6:12])
			a.Src, a.Dst = netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
		}
		a.MSS = mssOf(frame[at-4:])
		if !slices.ContainsFunc(x.arrivals[i], func(old Arrival) bool { return old.Port == a.Port }) {
			x.arrivals[i] = append(x.arrivals[i], a)
		}
		return true
	}
	return false
}

// sender is the interface of the router that has sent a frame which is seen at an end; "" for a frame that a bridge has passed on.
func (c *Clone) sender(e *end, mac []byte) string {
	if e.bridge == "" {
		return e.link
	}
	for _, p := range order(c.plan) {
		if bytes.Equal(c.macs[p.name], mac) && slices.Contains(c.endsOf(p.name), e) {
			return p.name
		}
	}
	return ""
}

// isICMP says whether a frame has ICMP, of either version, in no tunnel.
func isICMP(frame []byte) bool {
	switch ip := frame[14:]; binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		return ip[9] == unix.IPPROTO_ICMP
	case unix.ETH_P_IPV6:
		return ip[6] == unix.IPPROTO_ICMPV6
	}
	return false
}

// fragment says whether a frame has a part of an IP packet.
func fragment(frame []byte) bool {
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		return binary.BigEndian.Uint16(frame[20:])&0x3fff != 0
	case unix.ETH_P_IPV6:
		return frame[20] == unix.IPPROTO_FRAGMENT
	}
	return false
}

// plainTCP is the segment of a frame of Ethernet that has one and no tunnel.
func plainTCP(frame []byte) (tcp []byte, src, dst netip.Addr, ok bool) {
	ip := frame[14:]
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == unix.ETH_P_IP && ip[9] == unix.IPPROTO_TCP:
		header := int(ip[0]&15) * 4
		if len(ip) < header+20 {
			return nil, src, dst, false
		}
		return ip[header:], netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:])), true
	case kind == unix.ETH_P_IPV6 && len(ip) >= 40+20 && ip[6] == unix.IPPROTO_TCP:
		return ip[40:], netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:])), true
	}
	return nil, src, dst, false
}

// mssOf is the MSS of a TCP header, 0 for none.
func mssOf(tcp []byte) int {
	if len(tcp) < 20 {
		return 0
	}
	options := tcp[20:min(max(int(tcp[12]>>4)*4, 20), len(tcp))]
	for len(options) > 0 {
		switch {
		case options[0] == 1:
			options = options[1:]
			continue
		case options[0] == 0, len(options) < 2, options[1] < 2, int(options[1]) > len(options):
			return 0
		case options[0] == 2 && options[1] == 4:
			return int(binary.BigEndian.Uint16(options[2:]))
		}
		options = options[options[1]:]
	}
	return 0
}

// send sends a segment to the router.
func (c *Clone) send(s Segment) error {
	ends := c.endsOf(s.In)
	if i := slices.IndexFunc(ends, func(e *end) bool { return e.link == s.Port }); i >= 0 {
		ends = ends[i:]
	}
	if len(ends) == 0 {
		return fmt.Errorf("nothing can be sent to %s", s.In)
	}
	e := ends[0]
	kind := uint16(unix.ETH_P_IP)
	if s.Src.Addr().Is6() {
		kind = unix.ETH_P_IPV6
	}
	frame := make([]byte, 0, 14)
	frame = append(frame, c.target(s.In, e)...)
	frame = append(frame, e.mac...)
	frame = binary.BigEndian.AppendUint16(frame, kind)
	_, err := unix.Write(e.fd, append(frame, s.packet()...))
	for _, lost := range []error{unix.EMSGSIZE, unix.ENOBUFS, unix.ENETDOWN} { // as on a wire
		if errors.Is(err, lost) {
			return nil
		}
	}
	return err
}

// target is the address of Ethernet by which an interface is reached.
func (c *Clone) target(iface string, e *end) []byte {
	if mac := c.macs[iface]; len(mac) == 6 {
		return mac
	}
	return []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
}

// packet is the segment in IP, without fragments.
func (s Segment) packet() []byte {
	flags := byte(2) // SYN
	if s.Answers != 0 {
		flags |= 16 // ACK
	}
	tcp := binary.BigEndian.AppendUint16(nil, s.Src.Port())
	tcp = binary.BigEndian.AppendUint16(tcp, s.Dst.Port())
	tcp = binary.BigEndian.AppendUint32(tcp, s.ID)
	ack := uint32(0)
	if s.Answers != 0 {
		ack = s.Answers + 1
	}
	tcp = binary.BigEndian.AppendUint32(tcp, ack)
	tcp = append(tcp, 6<<4, flags, 0xff, 0xff, 0, 0, 0, 0, 2, 4, byte(s.MSS>>8), byte(s.MSS))
	header := 20
	if s.Src.Addr().Is6() {
		header = 40
	}
	tcp = append(tcp, make([]byte, max(0, s.Size-header-len(tcp)))...)
	addresses := append(s.Src.Addr().AsSlice(), s.Dst.Addr().AsSlice()...)
	pseudo := append(slices.Clone(addresses), 0, unix.IPPROTO_TCP, byte(len(tcp)>>8), byte(len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))
	if header == 40 {
		ip := []byte{0x60, 0, 0, 0, byte(len(tcp) >> 8), byte(len(tcp)), unix.IPPROTO_TCP, 60}
		return append(append(ip, addresses...), tcp...)
	}
	length := header + len(tcp)
	ip := []byte{0x45, 0, byte(length >> 8), byte(length), 0, 1, 0x40, 0, 60, unix.IPPROTO_TCP, 0, 0}
	ip = append(ip, addresses...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(ip, tcp...)
}

// checksum is that of RFC 1071.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(data[i])<<8 | uint32(data[i+1])
	}
	if len(data)%2 == 1 {
		sum += uint32(data[len(data)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// neighbour is the address of Ethernet that every neighbour has. No frame comes from it, so that no bridge learns where it is, and what goes to a
// neighbour goes to all ports.
var neighbour = []byte{2, 0, 0, 0, 0, 2}

// answer is the frame that answers a request for a neighbour, nil for another frame.
func (e *end) answer(frame []byte) []byte {
	if len(frame) < 14 {
		return nil
	}
	switch kind, body := binary.BigEndian.Uint16(frame[12:]), frame[14:]; {
	case kind == unix.ETH_P_ARP && len(body) >= 28 && body[7] == 1: // RFC 826
		return e.answerARP(body)
	case kind == unix.ETH_P_IPV6 && len(body) >= 40+24 && body[6] == unix.IPPROTO_ICMPV6 && body[40] == 135: // RFC 4861, 4.3
		return e.answerSolicitation(frame[6:12], body)
	}
	return nil
}

func (e *end) answerARP(request []byte) []byte {
	asker, wanted := request[14:18], request[24:28]
	if bytes.Equal(asker, wanted) || bytes.Equal(asker, make([]byte, 4)) { // it asks whether somebody else has its own
		return nil
	}
	frame := append(append(slices.Clone(request[8:14]), e.mac...), 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2)
	frame = append(append(frame, neighbour...), wanted...)
	return append(append(frame, request[8:14]...), asker...)
}

func (e *end) answerSolicitation(mac, request []byte) []byte {
	asker, wanted := request[8:24], request[48:64]
	if bytes.Equal(asker, make([]byte, 16)) {
		return nil
	}
	const solicitedOverride = 0x60
	icmp := append([]byte{136, 0, 0, 0, solicitedOverride, 0, 0, 0}, wanted...)
	icmp = append(append(icmp, 2, 1), neighbour...)
	addresses := append(slices.Clone(wanted), asker...)
	pseudo := append(slices.Clone(addresses), 0, unix.IPPROTO_ICMPV6, 0, byte(len(icmp)))
	binary.BigEndian.PutUint16(icmp[2:], checksum(append(pseudo, icmp...)))
	frame := append(append(slices.Clone(mac), e.mac...), 0x86, 0xdd)
	frame = append(frame, 0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, 255)
	return append(append(frame, addresses...), icmp...)
}
