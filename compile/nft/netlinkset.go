package nft

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
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
	if typ == "mark" || typ == "ct_state" || typ == "ifname" {
		return hostOrder
	}
	return networkOrder
}

// AddSet makes a set, without its elements.
func (e *Encoder) AddSet(set *ir.Set) (Message, error) {
	if err := CheckSet(set); err != nil {
		return Message{}, err
	}
	key, flags, order := setKey(set)
	timeout, err := number(set.Timeout, maxTimeout, "timeout")
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
	if set.Verdicts || set.Sizes {
		flags |= unix.NFT_SET_MAP
	}
	body = body.u32(unix.NFTA_SET_FLAGS, flags).u32(unix.NFTA_SET_KEY_TYPE, key.GetNFTMagic()).
		u32(unix.NFTA_SET_KEY_LEN, key.Bytes).u32(unix.NFTA_SET_ID, e.sets)
	if set.Verdicts {
		body = body.u32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
	}
	if set.Sizes {
		body = body.u32(unix.NFTA_SET_DATA_TYPE, typeInteger).u32(unix.NFTA_SET_DATA_LEN, sizeLength)
	}
	if desc != nil {
		body = body.nested(unix.NFTA_SET_DESC, desc)
	}
	if timeout != 0 {
		body = body.u64(unix.NFTA_SET_TIMEOUT, timeout*1000)
	}
	return e.message(unix.NFT_MSG_NEWSET, create, body.bytes(unix.NFTA_SET_USERDATA, setUserdata(set, order))), nil
}

func setUserdata(set *ir.Set, order uint32) []byte {
	data := userdata.Append(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, binary.NativeEndian.AppendUint32(nil, order))
	if set != nil && set.Sizes { // nil for a set without a name
		data = appendSizes(data)
	}
	return data
}

// The data of a map of segment sizes: a 16-bit number in network order, which has no type with a name.
const (
	typeInteger = 4 // TYPE_INTEGER (nft's datatype.h)
	sizeLength  = 2 // bytes
)

// appendSizes appends what nft keeps of the map's "typeof oifname : tcp option maxseg size", so that it can list it (libnftnl's udata.h; nft's
// expression.h, meta.c and exthdr.c).
func appendSizes(data []byte) []byte {
	const (
		dataByteOrder, keyTypeOf, dataTypeOf, dataInterval = 1, 3, 4, 6 // NFTNL_UDATA_SET_…
		expression, expressionData                         = 0, 1       // NFTNL_UDATA_SET_TYPEOF_…
		exprMeta, exprExthdr                               = 9, 8       // EXPR_… of nft
		metaKey                                            = 0          // NFTNL_UDATA_META_KEY
		oifname                                            = 7          // NFT_META_OIFNAME
		exthdrDesc, exthdrType, exthdrOp                   = 0, 1, 2    // NFTNL_UDATA_EXTHDR_…
		tcpOption                                          = 1          // NFT_EXTHDR_OP_TCPOPT
		size                                               = 2          // TCPOPT_MAXSEG_SIZE (nft's tcpopt.h)
	)
	number := func(to []byte, kind userdata.Type, n uint32) []byte {
		return userdata.Append(to, kind, binary.NativeEndian.AppendUint32(nil, n))
	}
	about := func(kind uint32, rest []byte) []byte {
		return userdata.Append(number(nil, expression, kind), expressionData, rest)
	}
	maxseg := number(number(number(nil, exthdrType, size), exthdrOp, tcpOption), exthdrDesc, optionMSS)
	data = number(data, dataByteOrder, networkOrder)
	data = userdata.Append(data, keyTypeOf, about(exprMeta, number(nil, metaKey, oifname)))
	data = userdata.Append(data, dataTypeOf, about(exprExthdr, maxseg))
	return number(data, dataInterval, 0)
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
	if intervals(set) {
		flags = unix.NFT_SET_INTERVAL
	}
	switch {
	case len(types) == 1:
		return types[0], flags, keyOrder(types[0].Name)
	case intervals(set):
		flags |= setConcat
	}
	return key, flags, mixedOrder
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
	if err := CheckSet(set); err != nil {
		return nil, err
	}
	several := len(fields(set)) > 1
	k := keyMaker{several: several, ranges: several && intervals(set)}
	names := typeNames(set)
	w := e.writer(kind, set.Name, 0)
	for i := range list {
		el := &list[i]
		err := checkElement(set, names, el)
		if err == nil {
			err = k.make(el)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot put %s into set %s: %w", el.Text, set.Name, err)
		}
		if w.left = 0; kind == unix.NFT_MSG_NEWSETELEM {
			var ended bool
			if w.left, ended = el.Left(); ended {
				continue
			}
		}
		switch {
		case !intervals(set):
			w.put(setKeys{low: k.low, verdict: el.Verdict(), size: el.Size()})
		case k.several:
			w.put(setKeys{low: k.low, high: k.high, verdict: el.Verdict()})
		default:
			w.putInterval(k.low, k.high, el.Verdict())
		}
	}
	return w.finish(), nil
}

// setKeys is an element as the kernel has it: a key; the last key too, where keys have several fields; or the key behind
// the last one of an interval.
type setKeys struct {
	low, high []byte
	end       bool
	verdict   ir.Action // of a map
	size      int       // of a map of segment sizes, in bytes
}

// elementWriter puts elements into messages, as many into one as there is room for.
type elementWriter struct {
	e        *Encoder
	kind     uint8
	set      string
	id       uint32     // of a set without a name
	body     attributes // of the message under way
	list     int        // where in it the elements begin
	count    int        // of them; 0: there is no message under way
	next     []byte
	left     time.Duration // until the element ends; 0 means what the set says
	messages []Message
}

func (e *Encoder) writer(kind uint8, set string, id uint32) *elementWriter {
	return &elementWriter{e: e, kind: kind, set: set, id: id}
}

// put adds an element.
func (w *elementWriter) put(k setKeys) {
	if !k.end && (w.count >= maxElements || len(w.body)-w.list > maxElementBytes) { // both ends of an interval stay together
		w.send()
	}
	if w.count == 0 {
		w.body = w.body[:0].text(unix.NFTA_SET_ELEM_LIST_TABLE, w.e.Table).text(unix.NFTA_SET_ELEM_LIST_SET, w.set)
		if w.id != 0 {
			w.body = w.body.u32(unix.NFTA_SET_ELEM_LIST_SET_ID, w.id)
		}
		w.body, w.list = w.body.open(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	}
	w.count++
	body, element := w.body.open(unix.NFTA_LIST_ELEM)
	if k.end {
		body = body.u32(unix.NFTA_SET_ELEM_FLAGS, intervalEnd)
	}
	if w.left > 0 && !k.end {
		body = body.u64(unix.NFTA_SET_ELEM_EXPIRATION, uint64(w.left.Milliseconds()))
	}
	body = body.key(unix.NFTA_SET_ELEM_KEY, k.low)
	if k.high != nil {
		body = body.key(elementKeyEnd, k.high)
	}
	if k.verdict != nil && w.kind == unix.NFT_MSG_NEWSETELEM {
		body = body.verdict(verdict(k.verdict))
	}
	if k.size != 0 && w.kind == unix.NFT_MSG_NEWSETELEM {
		body = body.key(unix.NFTA_SET_ELEM_DATA, networkBytes(k.size))
	}
	body.close(element)
	w.body = body
}

func (a attributes) key(kind uint16, value []byte) attributes {
	a, at := a.open(kind)
	a = a.bytes(unix.NFTA_DATA_VALUE, value)
	a.close(at)
	return a
}

// verdict is what an element of a map leads to.
func (a attributes) verdict(v *expr.Verdict) attributes {
	code := attributes{}.u32(unix.NFTA_VERDICT_CODE, uint32(v.Kind))
	if v.Chain != "" {
		code = code.text(unix.NFTA_VERDICT_CHAIN, v.Chain)
	}
	return a.nested(unix.NFTA_SET_ELEM_DATA, attributes{}.nested(unix.NFTA_DATA_VERDICT, code))
}

// putInterval adds an interval of a single field: its first key and the one behind its last, if there is any.
func (w *elementWriter) putInterval(low, high []byte, verdict ir.Action) {
	w.put(setKeys{low: low, verdict: verdict})
	w.next = append(w.next[:0], high...)
	if increment(w.next) {
		w.put(setKeys{low: w.next, end: true})
	}
}

// increment adds one to a number; false if that takes more bytes.
func increment(n []byte) bool {
	for i := len(n) - 1; i >= 0; i-- {
		n[i]++
		if n[i] != 0 {
			return true
		}
	}
	return false
}

func (w *elementWriter) send() {
	w.body.close(w.list)
	flags := uint16(0)
	if w.kind == unix.NFT_MSG_NEWSETELEM {
		flags = create
	}
	w.messages = append(w.messages, w.e.message(w.kind, flags, w.body))
	w.count = 0
}

// finish is the messages with all elements.
func (w *elementWriter) finish() []Message {
	if w.count > 0 {
		w.send()
	}
	return w.messages
}

// keyMaker makes the keys of elements, one after another.
type keyMaker struct {
	several   bool   // keys have several fields: each is filled up to a multiple of 4 bytes
	ranges    bool   // and they are ranges, which are compared byte by byte: marks are in network order
	low, high []byte // the first and the last key of an element, inclusive
	name      string // the protocol that was asked for last
	protocol  byte
}

func (k *keyMaker) make(e *ir.Element) error {
	k.low, k.high = k.low[:0], k.high[:0]
	for i := range e.Fields() {
		p := e.Part(i)
		switch p.Kind {
		case ir.AddrPart:
			k.low, k.high = appendAddr(k.low, p.Low), appendAddr(k.high, p.High)
		case ir.PortPart:
			if err := k.port(&p); err != nil {
				return err
			}
		case ir.MarkPart:
			mark := nativeBytes(uint32(p.First))
			if k.ranges || !k.several {
				mark = binary.BigEndian.AppendUint32(nil, uint32(p.First))
			}
			k.low, k.high = append(k.low, mark...), append(k.high, mark...)
		case ir.MACPart:
			mac, err := macAddress(p.Name)
			if err != nil {
				return err
			}
			k.low, k.high = append(k.low, mac...), append(k.high, mac...)
		case ir.IfacePart:
			name := ifaceName(p.Name)
			k.low, k.high = append(k.low, name...), append(k.high, name...)
		default:
			return fmt.Errorf("there is no field of kind %d", p.Kind)
		}
		k.fill()
	}
	return nil
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		bytes := a.As4()
		return append(b, bytes[:]...)
	}
	bytes := a.As16()
	return append(b, bytes[:]...)
}

func (k *keyMaker) port(p *ir.Part) error {
	if p.Name != k.name {
		number, err := protocolNumber(p.Name)
		if err != nil {
			return err
		}
		k.name, k.protocol = p.Name, byte(number)
	}
	k.low, k.high = append(k.low, k.protocol), append(k.high, k.protocol)
	k.fill()
	k.low = binary.BigEndian.AppendUint16(k.low, uint16(p.First))
	k.high = binary.BigEndian.AppendUint16(k.high, uint16(p.Last))
	return nil
}

func (k *keyMaker) fill() {
	for k.several && len(k.low)%4 != 0 {
		k.low, k.high = append(k.low, 0), append(k.high, 0)
	}
}

// protocolNumber is the number of a protocol, by the name that IANA or nft has for it.
func protocolNumber(name string) (int, error) {
	if n, ok := protocolNumbers[name]; ok {
		return n, nil
	}
	return grammar.ParseProtocol(name)
}

// protocolNumbers are those of the protocols whose names are printed, and of icmpv6: sets have many elements of few protocols.
var protocolNumbers = func() map[string]int {
	m := map[string]int{"icmpv6": unix.IPPROTO_ICMPV6}
	for n := range 256 {
		if name := grammar.ProtocolName(n); name != "" {
			m[name] = n
		}
	}
	return m
}()

// networkBytes is a 16-bit number in network order.
func networkBytes(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
