package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Family is an IP version.
type Family string

// The families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// Protocol is what a probe is made of.
type Protocol string

// The protocols.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	ICMP Protocol = "icmp" // an echo request, of ICMPv6 for IPv6
)

// Probe is one packet to send, and how it is answered where it arrives: a SYN by a SYN/ACK, a datagram or an echo request
// by the same data.
type Probe struct {
	From, To    Host       // different ones
	Family      Family     // "" means IPv4
	Protocol    Protocol   // "" means TCP
	Port        int        // the destination port, 0 to 65535; ICMP has none
	MSS         int        // that a TCP segment offers, in bytes, 1 to 65535; 0 means that it has no such option
	ReplyMSS    int        // the same of the SYN/ACK; a firewall that is the target offers its own instead
	Flags       Flags      // of a TCP segment; 0 means SYN
	Payload     int        // length of the data in bytes; a datagram or echo request has at least 4
	Source      netip.Addr // zero means the address of From
	Destination netip.Addr // zero means the address of To
}

// Result is what became of a probe.
type Result struct {
	At      Host           // where it arrived, which is not To when rules sent it elsewhere; "" means nowhere
	Source  netip.AddrPort // whom it came from, as seen there; port 0 for ICMP
	MSS     int            // of a TCP segment as it arrived, in bytes; 0 means that it had no such option
	Offered int            // MSS of the SYN/ACK that was sent back, in bytes; 0 means none
	Reply   Reply          // the first that came back
	Trace   []Frame        // with Options.Capture: what passed the firewall's interfaces, in this order
}

// ReplyKind tells replies apart.
type ReplyKind string

// The kinds of reply.
const (
	NoReply   ReplyKind = ""
	GotSYNACK ReplyKind = "SYN/ACK"
	GotRST    ReplyKind = "RST"
	GotICMP   ReplyKind = "ICMP" // an error
	GotData   ReplyKind = "answer"
)

// Reply is what came back to the sender of a probe.
type Reply struct {
	Kind       ReplyKind
	MSS        int        // SYN/ACK: as it came back, in bytes; 0 means that it had no such option
	Type, Code int        // ICMP (RFC 792) or ICMPv6 (RFC 4443) error
	From       netip.Addr // zero when Kind is NoReply
}

// patience bounds how long a batch may take that usually takes milliseconds.
const patience = 10 * time.Second

// batch is how many probes are under way at once: few enough for every queue and buffer in between.
const batch = 64

// Probe sends probes and returns a result for each, in the same order. It waits until the kernel is done with the packets,
// rather than for a time. All IDs and source ports are new, so that no connection tracked earlier matters.
func (l *Lab) Probe(ctx context.Context, probes []Probe) ([]Result, error) {
	sent := make([]*packet, len(probes))
	for i, p := range probes {
		packet, err := l.packet(p)
		if err != nil {
			return nil, fmt.Errorf("cannot send probe %d: %w", i+1, err)
		}
		sent[i] = packet
	}
	listeners, err := l.listen(probes)
	defer func() {
		for _, c := range listeners {
			c.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	defer pin()()
	results := make([]Result, len(probes))
	for i := 0; i < len(probes); i += batch {
		end := min(i+batch, len(probes))
		if err := l.exchange(ctx, probes[i:end], sent[i:end], results[i:end]); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// pin keeps this goroutine on one CPU until the function returned is called. What it sends then goes through that CPU's
// queue, in order, link after link: that is what settle relies on.
func pin() (unpin func()) {
	runtime.LockOSThread()
	var all, one unix.CPUSet
	if unix.SchedGetaffinity(0, &all) != nil {
		return runtime.UnlockOSThread // where this is forbidden, the order is only very likely
	}
	for cpu := range len(all) * strconv.IntSize {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	_ = unix.SchedSetaffinity(0, &one)
	return func() {
		_ = unix.SchedSetaffinity(0, &all)
		runtime.UnlockOSThread()
	}
}

// outgoing is a packet and the host that sends it.
type outgoing struct {
	from Host
	*packet
}

// exchange sends probes, then what their targets answer, and fills in the results.
func (l *Lab) exchange(ctx context.Context, probes []Probe, sent []*packet, results []Result) error {
	index := map[uint32]int{}
	var queue []outgoing
	for i, p := range sent {
		index[p.id()] = i
		queue = append(queue, outgoing{probes[i].From, p})
	}
	for len(queue) > 0 {
		for _, o := range queue {
			if err := l.taps[o.from].send(o.packet); err != nil {
				return fmt.Errorf("cannot send from the %s: %w", o.from, err)
			}
		}
		queue = nil
		err := l.settle(ctx, func(h Host, p *packet) {
			i, ok := index[p.id()]
			switch {
			case !ok:
			case h == probes[i].From:
				results[i].Reply.note(p)
			case results[i].At == "":
				if a := l.arrived(h, p, probes[i], &results[i]); a != nil {
					queue = append(queue, outgoing{h, a})
				}
			}
		})
		if err == nil && l.capture != nil {
			err = l.capture.read(func(id uint32, f Frame) {
				if i, ok := index[id]; ok {
					results[i].Trace = append(results[i].Trace, f)
				}
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// arrived notes a probe's arrival and returns the answer to send, nil for none.
func (l *Lab) arrived(h Host, p *packet, probe Probe, r *Result) *packet {
	r.At, r.Source, r.MSS = h, netip.AddrPortFrom(p.src, p.sport), p.mss
	offer := probe.ReplyMSS
	if h == FirewallHost {
		offer = l.kernelMSS(probe.From, p.src.Is6())
	}
	answer, ok := p.answer(offer)
	if !ok {
		return nil
	}
	r.Offered = answer.mss
	if h == FirewallHost {
		return nil // its kernel answers
	}
	return answer
}

// kernelMSS is the MSS that the firewall's kernel offers to a host.
func (l *Lab) kernelMSS(to Host, v6 bool) int {
	headers := ipv4Header + tcpHeader
	if v6 {
		headers = ipv6Header + tcpHeader
	}
	return l.firewallLink(to).mtu - headers
}

// note records the first answer.
func (r *Reply) note(p *packet) {
	if r.Kind != NoReply {
		return
	}
	got := Reply{From: p.src}
	switch {
	case p.quote != nil:
		got.Kind, got.Type, got.Code = GotICMP, int(p.kind), int(p.code)
	case p.protocol != unix.IPPROTO_TCP:
		got.Kind = GotData
	case p.flags&RST != 0:
		got.Kind = GotRST
	case p.flags&(SYN|ACK) == SYN|ACK:
		got.Kind, got.MSS = GotSYNACK, p.mss
	default:
		return
	}
	*r = got
}

// settle returns when everything sent so far has arrived or is lost, and calls f for what was received meanwhile. It asks
// the gateways for their address (ARP) from all sides, as often as there are links in a row: the answers come behind
// whatever was sent before, and no rules of the families ip, ip6 and inet concern them.
func (l *Lab) settle(ctx context.Context, f func(Host, *packet)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for range l.hops {
		if err := l.settleOnce(ctx, f); err != nil {
			return err
		}
	}
	return l.receive(f) // of the sockets that were read before the last answer came
}

func (l *Lab) settleOnce(ctx context.Context, f func(Host, *packet)) error {
	var wires []*wire
	var fds []unix.PollFd
	for _, t := range l.taps {
		if w, ok := t.(*wire); ok {
			wires = append(wires, w)
			if err := w.ask(); err != nil {
				return fmt.Errorf("cannot send from the %s: %w", w.end.host, err)
			}
		}
		for _, s := range t.sockets() {
			fds = append(fds, unix.PollFd{Fd: int32(s), Events: unix.POLLIN})
		}
	}
	for slices.ContainsFunc(wires, func(w *wire) bool { return !w.settled }) {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return errors.New("cannot tell what became of the packets: the firewall does not answer ARP requests")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) { // milliseconds
			return fmt.Errorf("cannot wait for packets: %w", err)
		}
		if err := l.receive(f); err != nil {
			return err
		}
	}
	return nil
}

// receive calls f for what has come in since, without waiting.
func (l *Lab) receive(f func(Host, *packet)) error {
	for h, t := range l.taps {
		if err := t.receive(func(p *packet) { f(h, p) }); err != nil {
			return err
		}
	}
	return nil
}
