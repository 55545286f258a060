package nft

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/grammar"
)

const (
	// Elements in one message: an attribute's length is 16 bits, and this leaves room for what stands around them.
	maxElements     = 4000
	maxElementBytes = 60000

	// What unix lacks of linux/netfilter/nf_tables.h.
	setConcat     = 0x80 // NFT_SET_CONCAT
	descConcat    = 2    // NFTA_SET_DESC_CONCAT
	fieldLength   = 1    // NFTA_SET_FIELD_LEN
	elementKeyEnd = 10   // NFTA_SET_ELEM_KEY_END
	intervalEnd   = 1    // NFT_SET_ELEM_INTERVAL_END
)

// keyTypes are nft's data types by their names.
var keyTypes = func() map[string]nftables.SetDatatype {
	m := map[string]nftables.SetDatatype{}
	for _, t := range []nftables.SetDatatype{
		nftables.TypeIPAddr, nftables.TypeIP6Addr, nftables.TypeEtherAddr, nftables.TypeInetProto, nftables.TypeInetService,
		nftables.TypeMark, nftables.TypeIFName, nftables.TypeCTState, nftables.TypeICMPType, nftables.TypeICMP6Type,
	} {
		m[t.Name] = t
	}
	return m
}()

// Byte orders of a set's keys, which nft keeps in a set's user data.
const (
	mixedOrder   = 0 // several fields
	hostOrder    = 1
	networkOrder = 2
)

func keyOrder(typ string) uint32 {
	if typ == "mark" || typ == "ct_state" {
		return hostOrder
	}
	return networkOrder
}

// AddSet makes a set, without its elements.
func (e *Encoder) AddSet(set *ir.Set) (Message, error) {
	key, flags, order := setKey(set)
	timeout, err := number(set.Timeout, math.MaxInt64/1000, "timeout")
	if err != nil {
		return Message{}, err
	}
	size, err := number(set.MaxElem, math.MaxUint32, "maxelem")
	if err != nil {
		return Message{}, err
	}
	var desc attributes
	if size != 0 {
		desc = desc.u32(unix.NFTA_SET_DESC_SIZE, uint32(size))
	}
	if flags&setConcat != 0 {
		var list attributes
		for _, f := range fields(set) {
			list = list.nested(unix.NFTA_LIST_ELEM, attributes{}.u32(fieldLength, keyTypes[f.typ].Bytes))
		}
		desc = desc.nested(descConcat, list)
	}
	e.sets++
	body := attributes{}.text(unix.NFTA_SET_TABLE, e.Table).text(unix.NFTA_SET_NAME, set.Name)
	if timeout != 0 {
		flags |= unix.NFT_SET_TIMEOUT
	}
	body = body.u32(unix.NFTA_SET_FLAGS, flags).u32(unix.NFTA_SET_KEY_TYPE, key.GetNFTMagic()).
		u32(unix.NFTA_SET_KEY_LEN, key.Bytes).u32(unix.NFTA_SET_ID, e.sets)
	if desc != nil {
		body = body.nested(unix.NFTA_SET_DESC, desc)
	}
	if timeout != 0 {
		body = body.u64(unix.NFTA_SET_TIMEOUT, timeout*1000)
	}
	return e.message(unix.NFT_MSG_NEWSET, create, body.bytes(unix.NFTA_SET_USERDATA, setUserdata(order))), nil
}

func setUserdata(order uint32) []byte {
	return userdata.Append(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, binary.NativeEndian.AppendUint32(nil, order))
}

// setKey is the type of a set's key, and its flags.
func setKey(set *ir.Set) (key nftables.SetDatatype, flags, order uint32) {
	var types []nftables.SetDatatype
	for _, f := range fields(set) {
		types = append(types, keyTypes[f.typ])
	}
	key, err := nftables.ConcatSetType(types...)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	if set.Type != "hash:mac" {
		flags = unix.NFT_SET_INTERVAL
	}
	if len(types) > 1 {
		return key, flags | setConcat, mixedOrder
	}
	return types[0], flags, keyOrder(types[0].Name)
}

// number reads an option of a set; the empty text is 0.
func number(text string, highest uint64, what string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > highest {
		return 0, fmt.Errorf("cannot set %s %q: it is a number from 0 to %d", what, text, highest)
	}
	return n, nil
}

// DeleteSet removes a set that no rule looks up.
func (e *Encoder) DeleteSet(name string) Message {
	return e.message(unix.NFT_MSG_DELSET, 0, attributes{}.text(unix.NFTA_SET_TABLE, e.Table).text(unix.NFTA_SET_NAME, name))
}

// FlushSet removes all elements of a set.
func (e *Encoder) FlushSet(name string) Message {
	return e.message(unix.NFT_MSG_DELSETELEM, 0, attributes{}.
		text(unix.NFTA_SET_ELEM_LIST_TABLE, e.Table).text(unix.NFTA_SET_ELEM_LIST_SET, name))
}

// AddElements puts elements into a set, in as many messages as they need. None may overlap with another one of the set.
func (e *Encoder) AddElements(set *ir.Set, list []ir.Element) ([]Message, error) {
	return e.elements(unix.NFT_MSG_NEWSETELEM, set, list)
}

// DeleteElements takes elements out of a set. All must be in it, each as it was put there.
func (e *Encoder) DeleteElements(set *ir.Set, list []ir.Element) ([]Message, error) {
	return e.elements(unix.NFT_MSG_DELSETELEM, set, list)
}

func (e *Encoder) elements(kind uint8, set *ir.Set, list []ir.Element) ([]Message, error) {
	var keys []setKeys
	for _, el := range list {
		low, high, err := elementKeys(set, el)
		if err != nil {
			return nil, fmt.Errorf("cannot put %s into set %s: %w", el.Text, set.Name, err)
		}
		switch {
		case len(el.Parts) == 1 && el.Parts[0].Kind == ir.MACPart:
			keys = append(keys, setKeys{low: low})
		case len(fields(set)) > 1:
			keys = append(keys, setKeys{low: low, high: high})
		default:
			keys = appendInterval(keys, low, high)
		}
	}
	return e.keys(kind, set.Name, 0, keys), nil
}

// setKeys is an element as the kernel has it: a key; the last key too, where keys have several fields; or the key behind
// the last one of an interval.
type setKeys struct {
	low, high []byte
	end       bool
}

// appendInterval adds an interval of single fields: its first key and the one behind its last, if there is any.
func appendInterval(keys []setKeys, low, high []byte) []setKeys {
	keys = append(keys, setKeys{low: low})
	if next, ok := successor(high); ok {
		keys = append(keys, setKeys{low: next, end: true})
	}
	return keys
}

// successor is a number plus one; ok is false if that takes more bytes.
func successor(n []byte) (next []byte, ok bool) {
	next = append(next, n...)
	for i := len(next) - 1; i >= 0; i-- {
		next[i]++
		if next[i] != 0 {
			return next, true
		}
	}
	return nil, false
}

// keys makes the messages that put elements into a set, or take them out. id is for a set without a name.
func (e *Encoder) keys(kind uint8, set string, id uint32, keys []setKeys) []Message {
	var messages []Message
	var list attributes
	count := 0
	send := func() {
		body := attributes{}.text(unix.NFTA_SET_ELEM_LIST_TABLE, e.Table).text(unix.NFTA_SET_ELEM_LIST_SET, set)
		if id != 0 {
			body = body.u32(unix.NFTA_SET_ELEM_LIST_SET_ID, id)
		}
		body = body.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, list)
		flags := uint16(0)
		if kind == unix.NFT_MSG_NEWSETELEM {
			flags = create
		}
		messages = append(messages, e.message(kind, flags, body))
		list, count = list[:0], 0
	}
	for _, k := range keys {
		if !k.end && (count >= maxElements || len(list) > maxElementBytes) { // both ends of an interval stay together
			send()
		}
		list = list.nested(unix.NFTA_LIST_ELEM, k.attributes())
		count++
	}
	if count > 0 {
		send()
	}
	return messages
}

func (k setKeys) attributes() attributes {
	var a attributes
	if k.end {
		a = a.u32(unix.NFTA_SET_ELEM_FLAGS, intervalEnd)
	}
	a = a.nested(unix.NFTA_SET_ELEM_KEY, attributes{}.bytes(unix.NFTA_DATA_VALUE, k.low))
	if k.high != nil {
		a = a.nested(elementKeyEnd, attributes{}.bytes(unix.NFTA_DATA_VALUE, k.high))
	}
	return a
}

// elementKeys is the first and the last key of an element, inclusive. Of several fields each is filled up to a multiple of
// 4 bytes.
func elementKeys(set *ir.Set, e ir.Element) (low, high []byte, err error) {
	put := func(first, last []byte) {
		low, high = append(low, first...), append(high, last...)
		for len(fields(set)) > 1 && len(low)%4 != 0 {
			low, high = append(low, 0), append(high, 0)
		}
	}
	for _, p := range e.Parts {
		switch p.Kind {
		case ir.AddrPart:
			put(p.Low.AsSlice(), p.High.AsSlice())
		case ir.PortPart:
			protocol, err := grammar.ParseProtocol(nftProtocol(p.Name))
			if err != nil {
				return nil, nil, err
			}
			put([]byte{byte(protocol)}, []byte{byte(protocol)})
			put(networkBytes(p.First), networkBytes(p.Last))
		case ir.MarkPart:
			mark := binary.BigEndian.AppendUint32(nil, uint32(p.First))
			put(mark, mark)
		case ir.MACPart:
			mac, err := net.ParseMAC(p.Name)
			if err != nil {
				return nil, nil, err
			}
			put(mac, mac)
		case ir.IfacePart:
			name, err := ifaceName(p.Name)
			if err != nil {
				return nil, nil, err
			}
			put(name, name)
		}
	}
	return low, high, nil
}

// nftProtocol is a protocol by the name that IANA has for it.
func nftProtocol(name string) string {
	if name == "icmpv6" {
		return "ipv6-icmp"
	}
	return name
}

// networkBytes is a 16-bit number in network order.
func networkBytes(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

// prefixKeys are intervals of addresses.
func prefixKeys(prefixes []netip.Prefix) []setKeys {
	var keys []setKeys
	for _, p := range prefixes {
		low, high := p.Masked().Addr().AsSlice(), p.Masked().Addr().AsSlice()
		for bit := p.Bits(); bit < len(high)*8; bit++ {
			high[bit/8] |= 0x80 >> (bit % 8)
		}
		keys = appendInterval(keys, low, high)
	}
	return keys
}
