package zones

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"richwall/grammar"
)

// String is the port as commands take it: "80/tcp".
func (p Port) String() string { return p.Port + "/" + p.Protocol }

// String is the forwarding as commands take it: "port=80:proto=tcp:toport=8080:toaddr=192.0.2.1".
func (f ForwardPort) String() string {
	return fmt.Sprintf("port=%s:proto=%s:toport=%s:toaddr=%s", f.Port, f.Protocol, f.ToPort, f.ToAddr)
}

// CheckPort tells what is wrong with a port or range and its protocol, with code INVALID_PORT or INVALID_PROTOCOL.
func CheckPort(p Port) error {
	if _, _, err := grammar.ParsePort(p.Port); err != nil {
		return err
	}
	return checkPortProtocol(p.Protocol)
}

func checkPortProtocol(protocol string) error {
	if !slices.Contains(grammar.TransportProtocols, protocol) {
		return refuse(grammar.InvalidProtocol, "cannot use protocol %q with a port: only tcp, udp, sctp and dccp have ports%s",
			protocol, hint(protocol, grammar.TransportProtocols)).
			worded("'%s' not in {'%s'}", protocol, strings.Join(grammar.TransportProtocols, "'|'"))
	}
	return nil
}

// rangeText is a port or range in numbers, the lower one first.
func rangeText(low, high int) string {
	if low == high {
		return strconv.Itoa(low)
	}
	return strconv.Itoa(low) + "-" + strconv.Itoa(high)
}

// portRange is a Port in numbers, both ends included.
type portRange struct {
	low, high int
	protocol  string
}

func (p portRange) port() Port { return Port{rangeText(p.low, p.high), p.protocol} }

// mergeRange puts a range into a list, which it changes. What overlaps with it becomes one range, which goes to the end of
// the list; what the list covers already changes nothing, and the result is false.
func mergeRange(list []portRange, p portRange) ([]portRange, bool) {
	covered := func(o portRange) bool { return o.protocol == p.protocol && o.low <= p.low && p.high <= o.high }
	if slices.ContainsFunc(list, covered) {
		return list, false
	}
	list = slices.DeleteFunc(list, func(o portRange) bool {
		overlaps := o.protocol == p.protocol && o.low <= p.high && p.low <= o.high
		if overlaps {
			p.low, p.high = min(p.low, o.low), max(p.high, o.high)
		}
		return overlaps
	})
	return append(list, p), true
}

// portSet is the ranges of a file, merged as mergeRange does, in a time that does not depend on how many there are.
type portSet struct {
	list   []portRange                    // those that became part of others have no protocol
	starts map[string]*[65536 / 64]uint64 // by protocol, a bit for each port at which a range starts
	at     map[portRange]int              // positions in the list by protocol and low; high is 0
}

// add merges a range. The result is false if one covers it already.
func (s *portSet) add(p portRange) bool {
	if s.at == nil {
		s.at, s.starts = map[portRange]int{}, map[string]*[65536 / 64]uint64{}
	}
	starts := s.starts[p.protocol]
	if starts == nil {
		starts = new([65536 / 64]uint64)
		s.starts[p.protocol] = starts
	}
	for low := lastBit(starts, p.high); low >= 0; low = lastBit(starts, low-1) {
		key := portRange{low, 0, p.protocol}
		o := &s.list[s.at[key]]
		if o.high < p.low {
			break
		}
		if low <= p.low && p.high <= o.high {
			return false
		}
		p.low, p.high = min(p.low, low), max(p.high, o.high)
		*o = portRange{}
		delete(s.at, key)
		starts[low/64] &^= 1 << (low % 64)
	}
	starts[p.low/64] |= 1 << (p.low % 64)
	s.at[portRange{p.low, 0, p.protocol}] = len(s.list)
	s.list = append(s.list, p)
	return true
}

// lastBit is the highest bit that is set, not above i; −1 if there is none.
func lastBit(set *[65536 / 64]uint64, i int) int {
	if i < 0 {
		return -1
	}
	word := set[i/64] << (63 - i%64)
	if word != 0 {
		return i - bits.LeadingZeros64(word)
	}
	for w := i/64 - 1; w >= 0; w-- {
		if set[w] != 0 {
			return w*64 + 63 - bits.LeadingZeros64(set[w])
		}
	}
	return -1
}

// ports are the ranges in their order.
func (s *portSet) ports() []Port {
	return portList(slices.DeleteFunc(s.list, func(p portRange) bool { return p.protocol == "" }))
}

func portList(ranges []portRange) []Port {
	var list []Port
	for _, p := range ranges {
		list = append(list, p.port())
	}
	return list
}

// port reads the attribute of a port and that of its protocol, and reports what is wrong with them.
func (r *reader) port(n *node, attr string) (portRange, bool) {
	low, high, err := grammar.ParsePort(n.get(attr))
	if err != nil {
		r.failWith(n, attr, grammar.InvalidPort, err)
	}
	protocol := r.share(n.get("protocol"))
	protocolErr := checkPortProtocol(protocol)
	if protocolErr != nil {
		r.failWith(n, "protocol", grammar.InvalidProtocol, protocolErr)
	}
	return portRange{low, high, protocol}, err == nil && protocolErr == nil
}

// mergePort reads a port into the list of a zone or policy.
func (r *reader) mergePort(set *portSet, n *node) {
	p, ok := r.port(n, "port")
	if ok && !set.add(p) {
		r.warn(n, AlreadyEnabled, "%s %s is given before: this one is ignored", n.name, p.port())
	}
}
