package zones

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"richwall/grammar"
	"richwall/internal/boxes"
)

// Entry is an entry of an ipset, one part for each part of the set's type.
type Entry []EntryPart

// EntryPart is a part of an entry. Its members are AddrPart, PortPart, MarkPart, MACPart and IfacePart.
type EntryPart interface {
	fmt.Stringer
	entryPart()
}

// AddrPart is an address, a prefix, or a range of addresses, of one family.
type AddrPart struct {
	Prefix    netip.Prefix // host bits cleared; not valid for a range
	Low, High netip.Addr   // the range's ends, both included, the lower one first; for a prefix its first and last address
}

// PortPart is a port or an inclusive range of ports of an IP protocol, 6 (tcp) unless the entry says otherwise.
type PortPart struct {
	Protocol  int // 0 to 255
	Low, High int // 0 to 65535
}

// MarkPart is a packet mark in host order.
type MarkPart uint32

// MACPart is an Ethernet address.
type MACPart struct{ net.HardwareAddr }

// IfacePart is the name of an interface.
type IfacePart string

func (AddrPart) entryPart()  {}
func (PortPart) entryPart()  {}
func (MarkPart) entryPart()  {}
func (MACPart) entryPart()   {}
func (IfacePart) entryPart() {}

// String is the address, prefix or range: "192.0.2.1", "192.0.2.0/24", "192.0.2.1-192.0.2.9".
func (p AddrPart) String() string {
	switch {
	case !p.Prefix.IsValid():
		return p.Low.String() + "-" + p.High.String()
	case p.Prefix.IsSingleIP():
		return p.Low.String()
	}
	return p.Prefix.String()
}

// String is protocol and port as ipset takes them: "tcp:80", "udp:80-90".
func (p PortPart) String() string {
	name := grammar.ProtocolName(p.Protocol)
	if name == "" {
		name = strconv.Itoa(p.Protocol)
	}
	return name + ":" + rangeText(p.Low, p.High)
}

// String is the mark in hexadecimal digits: "0x10".
func (p MarkPart) String() string { return fmt.Sprintf("0x%x", uint32(p)) }

// String is the interface's name.
func (p IfacePart) String() string { return string(p) }

// partReader reads the part at a position, from 0, of an entry of a set.
type partReader func(s *IPSet, at int, text string) (EntryPart, error)

// entryKinds are the types of ipsets and how the parts of their entries are read.
var entryKinds = map[string][]partReader{
	"hash:ip":           {readIP},
	"hash:ip,port":      {readIP, readPort},
	"hash:ip,port,ip":   {readIP, readPort, readIP},
	"hash:ip,port,net":  {readIP, readPort, readNet},
	"hash:ip,mark":      {readIP, readMark},
	"hash:net":          {readNet},
	"hash:net,net":      {readNet, readNet},
	"hash:net,port":     {readNet, readPort},
	"hash:net,port,net": {readNet, readPort, readNet},
	"hash:net,iface":    {readNet, readIface},
	"hash:mac":          {readMAC},
}

// ParseEntry reads an entry of a set, of which only the type and the family count. The error has code INVALID_ENTRY.
func ParseEntry(s *IPSet, text string) (Entry, error) {
	kinds := entryKinds[s.Type]
	if n := strings.Count(text, ",") + 1; n != len(kinds) {
		return nil, refuse(InvalidEntry, "cannot use entry %q in a set of type %s: it has %d parts, not %d", text, s.Type, n, len(kinds)).
			worded("entry '%s' does not match ipset type '%s'", text, s.Type)
	}
	entry := make(Entry, len(kinds))
	rest := text
	for i, read := range kinds {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		var err error
		if entry[i], err = read(s, i, part); err != nil {
			_, msg := codeOf(err, InvalidEntry)
			return nil, refuse(InvalidEntry, "cannot use entry %q in a set of type %s: %s", text, s.Type, msg).
				worded("%s", s.invalidPart(i, part, text))
		}
	}
	return entry, nil
}

// partWords is how firewalld names the parts of entries.
var partWords = map[string]string{"ip": "address", "net": "address", "port": "port", "mark": "mark", "mac": "mac address", "iface": "interface"}

// invalidPart is what firewalld says of the bad part at a position of an entry.
func (s *IPSet) invalidPart(at int, part, entry string) string {
	kind := strings.Split(strings.TrimPrefix(s.Type, "hash:"), ",")[at]
	word := partWords[kind]
	protocol, port, named := strings.Cut(part, ":")
	switch {
	case word == "address":
		return fmt.Sprintf("invalid address '%s' in '%s' for %s (%s)", part, entry, s.Type, s.Family())
	case kind == "port" && named:
		if _, err := grammar.ParseProtocol(strings.ToLower(protocol)); err != nil {
			word, part = "protocol", protocol
		} else {
			part = port
		}
	}
	return fmt.Sprintf("invalid %s '%s' in '%s'", word, part, entry)
}

// overlapWords is what firewalld says of an entry that overlaps with another.
const overlapWords = "Entry '%s' overlaps with existing entry '%s'"

// readIP reads an address. In the first position of an IPv4 set it may be a prefix, and a range in the first two.
func readIP(s *IPSet, at int, text string) (EntryPart, error) {
	v4 := s.Family() == grammar.IPv4
	switch {
	case strings.Contains(text, "-") && !(v4 && at < 2):
		return nil, refuse(InvalidEntry, "%s is a range, and only a first part of IPv4 can be one", text)
	case strings.Contains(text, "/") && !(v4 && at == 0):
		return nil, refuse(InvalidEntry, "%s is a prefix, and only a first part of IPv4 can be one", text)
	case text == "0.0.0.0":
		return nil, refuse(InvalidEntry, "0.0.0.0 is not the address of a host")
	case strings.Contains(text, "-"):
		return readRange(s, text)
	}
	return readAddr(s, text)
}

// readNet reads an address, a prefix or a range, but not all addresses.
func readNet(s *IPSet, at int, text string) (EntryPart, error) {
	if strings.Contains(text, "-") {
		return readRange(s, text)
	}
	part, err := readAddr(s, text)
	if err != nil {
		return nil, err
	}
	everything := part.Prefix.Bits() == 0
	if everything && !(s.Type == "hash:net,iface" && at == 0 && s.Family() == grammar.IPv6) {
		return nil, refuse(InvalidEntry, "%s is every address, and sets cannot hold that: use 0.0.0.0/1 and 128.0.0.0/1, or the like", text)
	}
	return part, nil
}

func readAddr(s *IPSet, text string) (AddrPart, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" && addr.Is4() == (s.Family() == grammar.IPv4) {
		return AddrPart{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Low: addr, High: addr}, nil
	}
	prefix, err := grammar.ParseAddress(s.Family(), text)
	if err != nil {
		return AddrPart{}, err
	}
	prefix = prefix.Masked()
	return AddrPart{Prefix: prefix, Low: prefix.Addr(), High: boxes.LastAddr(prefix)}, nil
}

// readRange reads two addresses with "-" between them, either way round. A prefix length behind the second one widens the
// range to whole prefixes.
func readRange(s *IPSet, text string) (EntryPart, error) {
	first, second, _ := strings.Cut(text, "-")
	low, err := readAddr(s, first)
	if err != nil {
		return nil, err
	}
	high, err := readAddr(s, second)
	if err != nil {
		return nil, err
	}
	if strings.Contains(first, "/") {
		return nil, refuse(InvalidEntry, "%s has a prefix length before the %q", text, "-")
	}
	if high.High.Less(low.Low) {
		low, high = high, low
	}
	start := netip.PrefixFrom(low.Low, high.Prefix.Bits()).Masked()
	return AddrPart{Low: start.Addr(), High: high.High}, nil
}

// readPort reads "80", "80-90" or "udp:80", with a protocol's name in either case.
func readPort(_ *IPSet, _ int, text string) (EntryPart, error) {
	name, port, named := strings.Cut(text, ":")
	if !named {
		name, port = "tcp", text
	}
	protocol, err := entryProtocol(name)
	if err != nil {
		return nil, err
	}
	if protocol == 1 || protocol == 58 {
		return nil, refuse(InvalidEntry, "%s has types and codes, and sets cannot match them: use icmp-type in a rule", name)
	}
	low, high, err := grammar.ParsePort(strings.TrimSpace(port))
	if err != nil {
		return nil, err
	}
	return PortPart{protocol, low, high}, nil
}

// entryProtocol is the number of a protocol, whose name may be in either case.
func entryProtocol(name string) (int, error) {
	switch name {
	case "tcp":
		return 6, nil
	case "udp":
		return 17, nil
	}
	protocol, err := grammar.ParseProtocol(name)
	if err != nil {
		protocol, err = grammar.ParseProtocol(strings.ToLower(name))
	}
	return protocol, err
}

// readMark reads 32 bits in decimal or, behind 0x, hexadecimal digits.
func readMark(_ *IPSet, _ int, text string) (EntryPart, error) {
	digits, base := text, 10
	if hex, ok := strings.CutPrefix(text, "0x"); ok {
		digits, base = hex, 16
	}
	mark, err := strconv.ParseUint(digits, base, 32)
	if err != nil {
		return nil, refuse(InvalidEntry, "%s is not a mark: it must be a number from 0 to 4294967295, or hexadecimal behind 0x", text)
	}
	return MarkPart(mark), nil
}

func readMAC(_ *IPSet, _ int, text string) (EntryPart, error) {
	mac, err := grammar.ParseMAC(text)
	if err != nil {
		return nil, err
	}
	if text == "00:00:00:00:00:00" {
		return nil, refuse(InvalidEntry, "%s is not the address of a host", text)
	}
	return MACPart{mac}, nil
}

func readIface(_ *IPSet, _ int, text string) (EntryPart, error) {
	if err := CheckInterface(text); err != nil {
		return nil, err
	}
	return IfacePart(text), nil
}

// NormalEntry is the text by which an entry is kept when it is added: prefixes lose the bits behind them and dotted masks
// become lengths. The rest stays as it is.
func NormalEntry(s *IPSet, text string) (string, error) {
	if _, _, ok := s.plainEntry(text); ok {
		return text, nil
	}
	entry, err := ParseEntry(s, text)
	if err != nil {
		return "", err
	}
	if !strings.Contains(text, "/") {
		return text, nil
	}
	parts := strings.Split(text, ",")
	for i, part := range entry {
		if addr, ok := part.(AddrPart); ok && addr.Prefix.IsValid() && strings.Contains(parts[i], "/") {
			parts[i] = addr.Prefix.String()
		}
	}
	return strings.Join(parts, ","), nil
}

// AddEntry is the set with another entry, which it normalises. The error has code INVALID_ENTRY when the entry is not
// valid or overlaps with another one, IPSET_WITH_TIMEOUT, or ALREADY_ENABLED.
func (s *IPSet) AddEntry(text string) (*IPSet, error) {
	if s.Expires() {
		return nil, refuse(IPSetWithTimeout, "cannot add entry %s to ipset %s: it has a timeout, so the entry would expire", text, s.Name)
	}
	normal, err := NormalEntry(s, text)
	if err != nil {
		return nil, err
	}
	if slices.Contains(s.Entries, normal) {
		return nil, refuse(AlreadyEnabled, "cannot add entry %s to ipset %s: it is there already", normal, s.Name)
	}
	if other := s.overlap(normal); other != "" {
		return nil, refuse(InvalidEntry, "cannot add entry %s to ipset %s: it overlaps with %s", normal, s.Name, other).
			worded(overlapWords, normal, other)
	}
	next := *s
	next.Entries = append(slices.Clip(s.Entries), normal)
	return &next, nil
}

// overlap finds an entry that has addresses in common with the text of another. Only sets of plain addresses refuse
// that.
func (s *IPSet) overlap(text string) string {
	if len(entryKinds[s.Type]) != 1 || s.Type == "hash:mac" {
		return ""
	}
	a, ok := s.span(text)
	if !ok {
		return ""
	}
	low, high, v4 := a.ends4()
	for _, other := range s.Entries {
		if first, last, plain := s.plainEntry(other); plain && v4 {
			if low <= last && first <= high {
				return other
			}
			continue
		}
		if b, ok := s.span(other); ok && !a.High.Less(b.Low) && !b.High.Less(a.Low) {
			return other
		}
	}
	return ""
}

// ends4 are the ends of a range of IPv4 addresses as numbers.
func (p AddrPart) ends4() (low, high uint32, ok bool) {
	if !p.Low.Is4() {
		return 0, 0, false
	}
	a, b := p.Low.As4(), p.High.As4()
	return binary.BigEndian.Uint32(a[:]), binary.BigEndian.Uint32(b[:]), true
}

// plainIPv4 is a text as an IPv4 address, if it is four numbers of 0 to 255 with dots between them: what most entries of large
// sets are, read in the least time. Leading zeros are for others to judge.
func plainIPv4(text string) (addr uint32, ok bool) {
	part, digits, dots := uint32(0), 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '.' && digits > 0 && dots < 3:
			addr, part, digits, dots = addr<<8|part, 0, 0, dots+1
		case '0' <= c && c <= '9' && (digits == 0 || part > 0):
			if part, digits = part*10+uint32(c-'0'), digits+1; part > 255 {
				return 0, false
			}
		default:
			return 0, false
		}
	}
	return addr<<8 | part, dots == 3 && digits > 0
}

// PlainEntry is the first and the last address of an entry that is a single IPv4 address or a network, in the words that stand for it, in a
// set of nothing but addresses: ParseEntry for what most entries of large sets are, in the least time and without memory of its own. ok is
// false for any other entry, which may be valid.
func (s *IPSet) PlainEntry(text string) (low, high netip.Addr, ok bool) {
	first, last, ok := s.plainEntry(text)
	return addr4(first), addr4(last), ok
}

// addr4 is an IPv4 address by its number.
func addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// plainEntry is PlainEntry with the addresses as numbers.
func (s *IPSet) plainEntry(text string) (low, high uint32, ok bool) {
	addr, length, network := strings.Cut(text, "/")
	if low, ok = plainIPv4(addr); !ok || low == 0 || len(entryKinds[s.Type]) != 1 || s.Family() != grammar.IPv4 {
		return 0, 0, false
	}
	if !network {
		return low, low, true
	}
	rest, ok := hostBits(length)
	return low, low | rest, ok && low&rest == 0 && s.Type == "hash:net"
}

// hostBits are the bits of an IPv4 address that a prefix length of 1 to 31 leaves free. ok is false for any other text.
func hostBits(length string) (bits uint32, ok bool) {
	n := 0
	for i := range len(length) {
		if c := length[i]; c < '0' || c > '9' || i == 2 || n == 0 && c == '0' {
			return 0, false
		}
		n = 10*n + int(length[i]-'0')
	}
	if n < 1 || n > 31 {
		return 0, false
	}
	return 1<<(32-n) - 1, true
}

// span is an entry of a set of plain addresses.
func (s *IPSet) span(text string) (part AddrPart, ok bool) {
	entry, err := ParseEntry(s, text)
	if err != nil {
		return part, false
	}
	part, ok = entry[0].(AddrPart)
	return part, ok
}
