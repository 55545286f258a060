package nft

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/boxes"
)

// ruleEncoder makes the expressions of a rule. An address is only read once the IP version is known, and a port once the
// transport protocol is: whatever tells them first is remembered.
type ruleEncoder struct {
	e     *Encoder
	exprs attributes
	sets  []Message // sets without a name, and their elements
	nf    byte      // IP version that is known to hold, NFPROTO_…; 0, which is none (NFPROTO_UNSPEC), for neither
	l4    known     // transport protocol that is known to hold
	ether bool      // the frame is known to have an Ethernet header
	err   error     // the first one
}

// known is a transport protocol, if one is known. Protocol 0 is one as well, IPv6's hop-by-hop options.
type known struct {
	number int
	ok     bool
}

func (r *ruleEncoder) rule(rule *ir.Rule) error {
	if err := CheckRule(rule); err != nil {
		return err
	}
	for _, m := range rule.Matches {
		r.match(m)
	}
	for i, a := range rule.Actions {
		if d, ok := a.(ir.Decide); ok && r.ether { // text says so as well
			r.needKey(d.Map)
		}
		if i == len(rule.Actions)-1 && r.e.Counters {
			r.add(&expr.Counter{})
		}
		r.action(a)
	}
	return r.err
}

func (r *ruleEncoder) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *ruleEncoder) add(list ...expr.Any) {
	for _, e := range list {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			r.fail(err)
			return
		}
		r.exprs = r.exprs.nested(unix.NFTA_LIST_ELEM, b)
	}
}

// register is the kernel's number of the register that begins with the n-th 4 bytes of the scratch area. Those of 16 bytes
// have a number of their own.
func register(n int) uint32 {
	if n%4 == 0 {
		return uint32(unix.NFT_REG_1 + n/4)
	}
	return uint32(unix.NFT_REG32_00 + n)
}

var reg1 = register(0)

func load(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: reg1} }

func compare(invert bool, value []byte) expr.Any {
	op := expr.CmpOpEq
	if invert {
		op = expr.CmpOpNeq
	}
	return &expr.Cmp{Op: op, Register: reg1, Data: value}
}

// within compares with an inclusive range of 16-bit numbers.
func within(low, high int) []expr.Any {
	if low == high {
		return []expr.Any{compare(false, networkBytes(low))}
	}
	return []expr.Any{
		&expr.Cmp{Op: expr.CmpOpGte, Register: reg1, Data: networkBytes(low)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: reg1, Data: networkBytes(high)},
	}
}

// flag holds if a bit of TCP's flags is set (RFC 9293, 3.1).
func (r *ruleEncoder) flag(bit byte) {
	r.needProtocol(unix.IPPROTO_TCP)
	r.add(payload(transport, 13, 1))
	r.anyBit([]byte{bit})
}

// anyBit holds if any of the bits is set; the value is in the machine's byte order if it has 4 bytes.
func (r *ruleEncoder) anyBit(bits []byte) {
	zero := make([]byte, len(bits))
	r.add(&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: uint32(len(bits)), Mask: bits, Xor: zero}, compare(true, zero))
}

func payload(base expr.PayloadBase, offset, length int) *expr.Payload {
	return &expr.Payload{DestRegister: reg1, Base: base, Offset: uint32(offset), Len: uint32(length)}
}

const (
	link      = expr.PayloadBaseLLHeader
	network   = expr.PayloadBaseNetworkHeader
	transport = expr.PayloadBaseTransportHeader
)

// needFamily makes sure that the packet is of an IP version.
func (r *ruleEncoder) needFamily(nf byte) {
	if r.nf != nf {
		r.askFamily(nf)
	}
}

// askFamily asks for an IP version, whatever is known.
func (r *ruleEncoder) askFamily(nf byte) {
	r.add(load(expr.MetaKeyNFPROTO), compare(false, []byte{nf}))
	r.nf = nf
}

// needProtocol makes sure that the packet is of a transport protocol.
func (r *ruleEncoder) needProtocol(n int) {
	if r.l4 != (known{n, true}) {
		r.askProtocol(n)
	}
}

// askProtocol asks for a transport protocol, whatever is known.
func (r *ruleEncoder) askProtocol(n int) {
	r.add(load(expr.MetaKeyL4PROTO), compare(false, []byte{byte(n)}))
	r.l4 = known{n, true}
}

func nfproto(f ir.Families) byte {
	if f == ir.V4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// nfprotoOf is the IP version of an address.
func nfprotoOf(a netip.Addr) byte {
	if a.Is4() {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// address reads an address of the packet (RFC 791, 3.1; RFC 8200, 3).
func address(nf byte, s ir.Side) *expr.Payload {
	offset, length := 12, 4
	if nf == unix.NFPROTO_IPV6 {
		offset, length = 8, 16
	}
	if s == ir.Dest {
		offset += length
	}
	return payload(network, offset, length)
}

// nativeBytes is a 32-bit number in the machine's order.
func nativeBytes(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func (r *ruleEncoder) match(m ir.Match) {
	switch m := m.(type) {
	case ir.NFProto:
		r.askFamily(nfproto(m.Family))
	case ir.Iface:
		r.iface(m)
	case ir.Addr:
		r.addr(m)
	case ir.EtherAddr:
		mac, err := macAddress(m.MAC)
		if err != nil {
			r.fail(err)
			return
		}
		r.needEther()
		r.add(etherAddress(m.Side), compare(m.Invert, mac))
	case ir.Lookup:
		r.lookup(m)
	case ir.L4Proto:
		if len(m.Numbers) == 1 {
			r.askProtocol(m.Numbers[0])
			return
		}
		r.add(load(expr.MetaKeyL4PROTO))
		r.oneOf(nftables.TypeInetProto, 0, oneByteEach(m.Numbers))
	case ir.Port:
		n, err := grammar.ParseProtocol(m.Protocol)
		if err != nil {
			r.fail(err)
			return
		}
		r.needProtocol(n)
		r.add(payload(transport, 2*int(m.Side), 2))
		r.add(within(m.Low, m.High)...)
	case ir.ICMP:
		r.needICMP(m.Family)
		value := []byte{byte(m.Type)}
		if m.Code != ir.AnyCode {
			value = append(value, byte(m.Code))
		}
		r.add(payload(transport, 0, len(value)), compare(false, value))
	case ir.ICMPTypes:
		r.needICMP(m.Family)
		r.add(payload(transport, 0, 1))
		if len(m.Types) == 1 {
			r.add(compare(false, []byte{byte(m.Types[0])}))
			return
		}
		r.oneOf(keyTypes[map[ir.Families]string{ir.V4: "icmp_type", ir.V6: "icmpv6_type"}[m.Family]], 0, oneByteEach(m.Types))
	case ir.SYN:
		r.flag(0x02)
	case ir.ACK:
		r.flag(0x10)
	case ir.MSS: // the kernel finds the option in TCP segments alone
		r.add(&expr.Exthdr{DestRegister: reg1, Op: expr.ExthdrOpTcpopt, Type: optionMSS, Offset: 2, Len: 2})
		r.add(within(m.Low, m.High)...)
	case ir.CTState:
		r.ctState(m)
	case ir.CTDirection:
		direction := byte(0) // IP_CT_DIR_ORIGINAL
		if m.Reply {
			direction = 1 // IP_CT_DIR_REPLY
		}
		r.add(&expr.Ct{Register: reg1, Key: expr.CtKeyDIRECTION}, compare(false, []byte{direction}))
	case ir.CTStatus:
		r.add(&expr.Ct{Register: reg1, Key: expr.CtKeySTATUS})
		r.anyBit(nativeBytes(1 << 5)) // IPS_DST_NAT
	case ir.CTOrigPort:
		r.ctOrigPort(m)
	case ir.Fib:
		r.add(&expr.Fib{Register: reg1, ResultOIF: true, FlagPRESENT: true, FlagSADDR: true, FlagMARK: true, FlagIIF: !m.Loose},
			compare(false, nativeBytes(0)))
	case ir.PktType:
		n, ok := pktTypes[m.Type]
		if !ok {
			r.fail(fmt.Errorf("there is no packet type %q", m.Type))
			return
		}
		r.add(load(expr.MetaKeyPKTTYPE), compare(false, []byte{n}))
	case ir.AddrList:
		r.addrList(m)
	case ir.Limit:
		r.limit(m)
	default:
		r.fail(fmt.Errorf("nftables has no match %T", m))
	}
}

const optionMSS = 2 // TCP option kind (RFC 9293, 3.2)

// pktTypes are the kernel's numbers for how a frame was addressed (linux/if_packet.h).
var pktTypes = map[string]byte{"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2}

// oneOf looks the register up in a set without a name, which comes and goes with the rule. fill puts in its elements.
func (r *ruleEncoder) oneOf(typ nftables.SetDatatype, flags uint32, fill func(*elementWriter)) {
	const name = "__set%d" // the kernel puts in a number
	r.e.sets++
	r.sets = append(r.sets, r.e.message(unix.NFT_MSG_NEWSET, create, attributes{}.
		text(unix.NFTA_SET_TABLE, r.e.Table).text(unix.NFTA_SET_NAME, name).
		u32(unix.NFTA_SET_FLAGS, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT|flags).
		u32(unix.NFTA_SET_KEY_TYPE, typ.GetNFTMagic()).u32(unix.NFTA_SET_KEY_LEN, typ.Bytes).
		u32(unix.NFTA_SET_ID, r.e.sets).
		bytes(unix.NFTA_SET_USERDATA, setUserdata(nil, keyOrder(typ.Name)))))
	w := r.e.writer(unix.NFT_MSG_NEWSETELEM, name, r.e.sets)
	fill(w)
	r.sets = append(r.sets, w.finish()...)
	r.add(&expr.Lookup{SourceRegister: reg1, SetName: name, SetID: r.e.sets})
}

// oneByteEach are elements of one byte each.
func oneByteEach(values []int) func(*elementWriter) {
	return func(w *elementWriter) {
		for _, v := range values {
			w.put(setKeys{low: []byte{byte(v)}})
		}
	}
}

// ifaceName is a name as the kernel compares it: filled up with zeros to 16 bytes (IFNAMSIZ).
func ifaceName(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

func (r *ruleEncoder) iface(m ir.Iface) {
	if m.Name == everyIface {
		return
	}
	name, wild := beginning(m.Name)
	value := []byte(name)
	if !wild {
		value = ifaceName(name)
	}
	r.add(load(ifaceKey(m.Side)), compare(m.Invert, value))
}

func ifaceKey(s ir.Side) expr.MetaKey {
	if s == ir.Source {
		return expr.MetaKeyIIFNAME
	}
	return expr.MetaKeyOIFNAME
}

func (r *ruleEncoder) addr(m ir.Addr) {
	nf := nfprotoOf(m.Prefix.Addr())
	r.needFamily(nf)
	value, bits, read := m.Prefix.Masked().Addr().AsSlice(), m.Prefix.Bits(), address(nf, m.Side)
	if bits != 0 && bits%8 == 0 {
		read.Len = uint32(bits / 8)
		r.add(read, compare(m.Invert, value[:bits/8]))
		return
	}
	mask := net.CIDRMask(bits, len(value)*8)
	r.add(read, &expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: read.Len, Mask: mask, Xor: make([]byte, len(mask))},
		compare(m.Invert, value))
}

// addrList looks the destination up among prefixes. Those that are neighbours become one interval, as nft makes them.
func (r *ruleEncoder) addrList(m ir.AddrList) {
	if len(m.Prefixes) == 1 {
		r.addr(ir.Addr{Side: ir.Dest, Prefix: m.Prefixes[0]})
		return
	}
	list := slices.Clone(m.Prefixes)
	slices.SortFunc(list, func(p, q netip.Prefix) int { return p.Masked().Addr().Compare(q.Masked().Addr()) })
	r.needFamily(nfprotoOf(list[0].Addr()))
	r.add(address(r.nf, ir.Dest))
	typ := keyTypes[map[byte]string{unix.NFPROTO_IPV4: "ipv4_addr", unix.NFPROTO_IPV6: "ipv6_addr"}[r.nf]]
	r.oneOf(typ, unix.NFT_SET_INTERVAL, func(w *elementWriter) {
		low := list[0].Masked().Addr()
		for i, p := range list {
			high := boxes.LastAddr(p)
			if i+1 < len(list) && list[i+1].Masked().Addr() == high.Next() {
				continue
			}
			w.putInterval(low.AsSlice(), high.AsSlice(), nil)
			if i+1 < len(list) {
				low = list[i+1].Masked().Addr()
			}
		}
	})
}

// needEther makes sure that the frame came with an Ethernet header.
func (r *ruleEncoder) needEther() {
	if !r.ether {
		r.add(load(expr.MetaKeyIIFTYPE), compare(false, binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER)))
		r.ether = true
	}
}

func etherAddress(s ir.Side) *expr.Payload {
	if s == ir.Source {
		return payload(link, 6, 6)
	}
	return payload(link, 0, 6)
}

func (r *ruleEncoder) lookup(m ir.Lookup) {
	r.loadKey(m.Set, m.Side)
	r.add(&expr.Lookup{SourceRegister: reg1, SetName: m.Set.Name, Invert: m.Invert})
}

// loadKey puts the fields of a set's key one behind the other into the registers.
func (r *ruleEncoder) loadKey(set *ir.Set, rule ir.Side) {
	r.needKey(set)
	list := fields(set)
	slot := 0
	for _, f := range list {
		r.field(f.typ, f.sideOf(set, rule), register(slot), len(list) > 1 && intervals(set))
		slot += (int(keyTypes[f.typ].Bytes) + 3) / 4
	}
}

// needKey makes sure that the packet has the fields of a set's key.
func (r *ruleEncoder) needKey(set *ir.Set) {
	for _, f := range fields(set) {
		switch f.typ {
		case "ipv4_addr":
			r.needFamily(unix.NFPROTO_IPV4)
		case "ipv6_addr":
			r.needFamily(unix.NFPROTO_IPV6)
		case "ether_addr":
			r.needEther()
		}
	}
}

// field reads one field into a register. Marks are numbers in the machine's order; in network order where keys are ranges in
// several fields, of which the kernel compares byte by byte.
func (r *ruleEncoder) field(typ string, s ir.Side, reg uint32, ranges bool) {
	var read *expr.Payload
	switch typ {
	case "ipv4_addr":
		read = address(unix.NFPROTO_IPV4, s)
	case "ipv6_addr":
		read = address(unix.NFPROTO_IPV6, s)
	case "ether_addr":
		read = etherAddress(s)
	case "inet_service":
		read = payload(transport, 2*int(s), 2)
	case "inet_proto":
		r.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg})
		return
	case "ifname":
		r.add(&expr.Meta{Key: ifaceKey(s), Register: reg})
		return
	case "mark":
		r.add(&expr.Meta{Key: expr.MetaKeyMARK, Register: reg})
		if ranges {
			r.add(&expr.Byteorder{SourceRegister: reg, DestRegister: reg, Op: expr.ByteorderHton, Len: 4, Size: 4})
		}
		return
	}
	read.DestRegister = reg
	r.add(read)
}

func (r *ruleEncoder) needICMP(f ir.Families) {
	r.needFamily(nfproto(f))
	r.needProtocol(icmpProtocols[f])
}

// ctStates are the bits of connection tracking states as nf_tables has them (NF_CT_STATE_BIT of linux/netfilter).
var ctStates = map[string]uint32{
	"invalid": expr.CtStateBitINVALID, "new": expr.CtStateBitNEW,
	"established": expr.CtStateBitESTABLISHED, "related": expr.CtStateBitRELATED,
}

func (r *ruleEncoder) ctState(m ir.CTState) {
	var bits [][]byte
	for _, s := range m.States {
		bit, ok := ctStates[s]
		if !ok {
			r.fail(fmt.Errorf("nftables has no connection tracking state %q", s))
			return
		}
		bits = append(bits, nativeBytes(bit))
	}
	r.add(&expr.Ct{Register: reg1, Key: expr.CtKeySTATE})
	if len(bits) == 1 {
		r.anyBit(bits[0])
		return
	}
	r.oneOf(nftables.TypeCTState, 0, func(w *elementWriter) {
		for _, b := range bits {
			w.put(setKeys{low: b})
		}
	})
}

// ctOrigPort is written without expr.Ct, which does not send the direction with this key.
func (r *ruleEncoder) ctOrigPort(m ir.CTOrigPort) {
	n, err := grammar.ParseProtocol(m.Protocol)
	if err != nil {
		r.fail(err)
		return
	}
	r.askProtocol(n)
	r.exprs = r.exprs.nested(unix.NFTA_LIST_ELEM, attributes{}.text(unix.NFTA_EXPR_NAME, "ct").
		nested(unix.NFTA_EXPR_DATA, attributes{}.
			u32(unix.NFTA_CT_DREG, reg1).
			u32(unix.NFTA_CT_KEY, uint32(expr.CtKeyPROTODST)).
			u8(unix.NFTA_CT_DIRECTION, 0))) // IP_CT_DIR_ORIGINAL
	r.add(within(m.Low, m.High)...)
}

func (r *ruleEncoder) limit(m ir.Limit) {
	burst := uint32(m.Burst)
	if burst == 0 {
		burst = ir.DefaultBurst // what nft says when it is told nothing
	}
	r.add(&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(m.Rate), Unit: expr.LimitTime(unitSeconds[m.Unit]), Burst: burst})
}
