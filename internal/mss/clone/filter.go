package clone

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"richwall/internal/mss/nlattr"

	"golang.org/x/sys/unix"
)

// filter is what nf_tables has, of all families.
type filter struct {
	tables, chains, objects, flowtables, rules []object
	sets                                       []set
}

// object is a table, chain, rule and so on.
type object struct {
	family byte
	attrs  []attr
}

type attr struct {
	kind  uint16 // with the flags of its nesting
	value []byte
}

// set is a set or map, with its elements.
type set struct {
	object
	elements [][]byte // each the attributes of one
}

// Messages and attributes of nf_tables (nf_tables.h).
const (
	newTable, getTable         = 0, 1
	newChain, getChain         = 3, 4
	newRule, getRule           = 6, 7
	newSet, getSet             = 9, 10
	newElement, getElement     = 12, 13
	newObject, getObject       = 18, 19
	newFlowtable, getFlowtable = 22, 23

	placeTable, placeName = 1, 2 // of sets, objects and flowtables; of elements the set

	tableName, tableFlags           = 1, 2
	tableUserdata                   = 6
	tableDormant                    = 1
	chainHandle, chainCount         = 2, 6
	chainName                       = 3
	chainCounters, chainFlags       = 8, 10
	chainID                         = 11
	chainOffloaded, chainBound      = 2, 4
	ruleChain, ruleHandle           = 2, 3
	ruleExpressions, rulePosition   = 4, 6
	ruleCompat                      = 5
	setFlags, setID                 = 3, 10
	setHandle                       = 16
	setType, setCount               = 19, 20 // that are listed alone
	setAnonymous, setInterval       = 1, 4
	elementsList, elementsSet       = 3, 2
	elementKey, elementFlags        = 1, 3
	elementEnd                      = 1
	objectHandle, objectCount       = 6, 5
	flowCount, flowHandle, flowFlag = 4, 5, 7
	listElement                     = 1
	expressionName, expressionData  = 1, 2

	batchBegin, batchEnd = unix.NLMSG_MIN_TYPE, unix.NLMSG_MIN_TYPE + 1
)

func nftKind(kind uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | kind }

// genmsg is the fixed part of a message (struct nfgenmsg).
func genmsg(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, 0}, resource)
}

func newObjectOf(body []byte) (o object, ok bool) {
	if len(body) < 4 {
		return o, false
	}
	o.family = body[0]
	for data := body[4:]; len(data) >= unix.SizeofRtAttr; {
		n := int(binary.NativeEndian.Uint16(data))
		if n < unix.SizeofRtAttr || n > len(data) {
			return o, false
		}
		o.attrs = append(o.attrs, attr{binary.NativeEndian.Uint16(data[2:]), data[unix.SizeofRtAttr:n]})
		data = data[min((n+3)&^3, len(data)):]
	}
	return o, true
}

// get is the value of an attribute, nil if it is not there.
func (o object) get(kind uint16) []byte {
	for _, a := range o.attrs {
		if a.kind&^uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			return a.value
		}
	}
	return nil
}

func big(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value)
}

// bytes are the attributes but some.
func (o object) bytes(but ...uint16) []byte {
	b := genmsg(o.family, 0)
	for _, a := range o.attrs {
		if !slices.Contains(but, a.kind&^uint16(unix.NLA_F_NESTED)) {
			b = put(b, a.kind, a.value)
		}
	}
	return b
}

// readFilter reads all of nf_tables. It begins anew if that changes meanwhile.
func (r *Reading) readFilter() error {
	c, err := dial(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) { // a kernel without netfilter
		return nil
	}
	if err != nil {
		return err
	}
	defer c.close()
	for range tries {
		r.filter = filter{}
		if err = r.filter.read(c); !errors.Is(err, errInterrupted) && !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) { // nf_tables is not in the kernel, or not loaded
		r.filter, err = filter{}, nil
	}
	return err
}

func (f *filter) read(c *conn) error {
	list := func(kind uint16, to *[]object) error {
		all, err := c.dump(nftKind(kind), genmsg(unix.AF_UNSPEC, 0))
		for _, m := range all {
			if o, ok := newObjectOf(m.body); ok {
				*to = append(*to, o)
			}
		}
		return err
	}
	var sets []object
	for _, part := range []struct {
		kind uint16
		to   *[]object
	}{{getTable, &f.tables}, {getChain, &f.chains}, {getObject, &f.objects}, {getFlowtable, &f.flowtables}, {getRule, &f.rules}, {getSet, &sets}} {
		if err := list(part.kind, part.to); err != nil {
			return err
		}
	}
	for _, o := range sets {
		s := set{object: o}
		request := put(put(genmsg(o.family, 0), placeTable, o.get(placeTable)), elementsSet, o.get(placeName))
		all, err := c.dump(nftKind(getElement), request)
		if err != nil {
			return err
		}
		for _, m := range all {
			if part, ok := newObjectOf(m.body); ok {
				nlattr.Each(part.get(elementsList), func(_ uint16, value []byte) { s.elements = append(s.elements, value) })
			}
		}
		s.sort()
		f.sets = append(f.sets, s)
	}
	return nil
}

// sort puts the elements into the order in which nft adds them: by where they begin, and the end of one before the beginning of the next.
func (s *set) sort() {
	if big(s.get(setFlags))&setInterval == 0 {
		return
	}
	key := func(element []byte) (value []byte, ends int) {
		ends = 1
		nlattr.Each(element, func(kind uint16, v []byte) {
			switch kind {
			case elementKey:
				nlattr.Each(v, func(_ uint16, v []byte) { value = v })
			case elementFlags:
				if big(v)&elementEnd != 0 {
					ends = 0
				}
			}
		})
		return value, ends
	}
	slices.SortStableFunc(s.elements, func(a, b []byte) int {
		x, endsX := key(a)
		y, endsY := key(b)
		return cmp.Or(bytes.Compare(x, y), cmp.Compare(endsX, endsY))
	})
}

// part is a message of a transaction, and what it is about.
type part struct {
	message
	what string
}

// group is what comes in one transaction, or not at all: a rule comes with its sets that have no name, which live no longer without it.
type group []part

func (o object) place(name uint16) string {
	return fmt.Sprintf("%s in the table %s", text(o.get(name)), text(o.get(placeTable)))
}

// filter makes the rules of nf_tables, in the namespace of the calling thread.
func (c *Clone) filter(f filter) error {
	if len(f.tables) == 0 {
		return nil
	}
	nft, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer nft.close()
	anonymous, named := f.setParts()
	for _, stage := range [][]group{c.tableParts(f), c.chainParts(f), c.otherParts(f), named} {
		if err := c.batches(nft, stage); err != nil {
			return err
		}
	}
	var stage []group
	for _, r := range f.rules {
		stage = append(stage, c.ruleParts(r, anonymous))
	}
	return c.batches(nft, stage)
}

func (c *Clone) tableParts(f filter) (list []group) {
	for _, t := range f.tables {
		b := put(genmsg(t.family, 0), tableName, t.get(tableName))
		b = put(b, tableFlags, binary.BigEndian.AppendUint32(nil, big(t.get(tableFlags))&tableDormant)) // without an owner, which is a program
		if u := t.get(tableUserdata); u != nil {
			b = put(b, tableUserdata, u)
		}
		list = append(list, group{{message{nftKind(newTable), unix.NLM_F_CREATE, b}, "the table " + text(t.get(tableName))}})
	}
	return list
}

func (c *Clone) chainParts(f filter) (list []group) {
	for _, o := range f.chains {
		what := "the chain " + o.place(chainName)
		flags := big(o.get(chainFlags))
		b := o.bytes(chainHandle, chainCount, chainCounters, chainFlags, chainID)
		if flags&chainOffloaded != 0 {
			note(&c.Notes, "That the rules of %s are offloaded to hardware is not cloned.", what)
		}
		if keep := flags &^ (chainOffloaded | chainBound); keep != 0 { // one that belongs to a rule becomes one of its own
			b = put(b, chainFlags, binary.BigEndian.AppendUint32(nil, keep))
		}
		list = append(list, group{{message{nftKind(newChain), unix.NLM_F_CREATE, b}, what}})
	}
	return list
}

// otherParts are flowtables, and objects with names.
func (c *Clone) otherParts(f filter) (list []group) {
	for _, o := range f.flowtables {
		what := "the flowtable " + o.place(placeName)
		b := o.bytes(flowCount, flowHandle, flowFlag)
		if big(o.get(flowFlag))&1 != 0 {
			note(&c.Notes, "That %s offloads to hardware is not cloned.", what)
		}
		list = append(list, group{{message{nftKind(newFlowtable), unix.NLM_F_CREATE, b}, what}})
	}
	for _, o := range f.objects {
		list = append(list, group{{message{nftKind(newObject), unix.NLM_F_CREATE, o.bytes(objectHandle, objectCount)}, "the object " + o.place(placeName)}})
	}
	return list
}

// setParts are sets and their elements. Those without names live no longer than the batch that they come with, if no rule of it has them.
func (f filter) setParts() (anonymous map[string]group, named []group) {
	anonymous = map[string]group{}
	for i, s := range f.sets {
		id := put(s.bytes(setHandle, setID, setType, setCount), setID, binary.BigEndian.AppendUint32(nil, uint32(i+1)))
		what := "the set " + s.place(placeName)
		parts := group{{message{nftKind(newSet), unix.NLM_F_CREATE, id}, what}}
		for elements := s.elements; len(elements) > 0; {
			n := min(len(elements), several)
			var inner []byte
			for _, e := range elements[:n] {
				inner = nest(inner, listElement, e)
			}
			b := put(put(genmsg(s.family, 0), placeTable, s.get(placeTable)), elementsSet, s.get(placeName))
			parts = append(parts, part{message{nftKind(newElement), unix.NLM_F_CREATE, nest(b, elementsList, inner)}, "the elements of " + what})
			elements = elements[n:]
		}
		if big(s.get(setFlags))&setAnonymous != 0 {
			anonymous[setKey(s.object, s.get(placeName))] = parts
		} else {
			named = append(named, parts)
		}
	}
	return anonymous, named
}

func setKey(o object, name []byte) string {
	return fmt.Sprint(o.family, " ", text(o.get(placeTable)), " ", text(name))
}

// ruleParts is a rule, after the sets without names that it has.
func (c *Clone) ruleParts(o object, anonymous map[string]group) (list group) {
	what := fmt.Sprintf("a rule of the chain %s", o.place(ruleChain))
	protocol := byte(0)
	extension := false
	var uses []string
	eachExpression(o.get(ruleExpressions), func(name string, data []byte) {
		switch name {
		case "lookup", "dynset":
			nlattr.Each(data, func(kind uint16, value []byte) {
				if key := setKey(o, value); kind == 1 && anonymous[key] != nil {
					uses = append(uses, key)
				}
			})
		case "match", "target":
			extension = true
		case "meta":
			c.asksLinks(data, what)
		}
	})
	o = c.renumbered(o)
	b := nest(o.bytes(ruleHandle, rulePosition, ruleCompat, ruleExpressions), ruleExpressions, taken(o.get(ruleExpressions)))
	if extension {
		protocol = protocolOf(o.get(ruleExpressions))
	}
	if protocol != 0 { // what extensions of iptables ask of the rule, and the kernel does not list
		compat := put(put(nil, 1, binary.BigEndian.AppendUint32(nil, uint32(protocol))), 2, make([]byte, 4))
		b = nest(b, ruleCompat, compat)
	}
	for _, key := range uses {
		list = append(list, anonymous[key]...)
		delete(anonymous, key)
	}
	return append(list, part{message{nftKind(newRule), unix.NLM_F_CREATE | unix.NLM_F_APPEND, b}, what})
}

// taken are expressions as the kernel takes them: of what sets or strips an option of TCP it lists more than it takes (nft_exthdr.c).
func taken(list []byte) (next []byte) {
	const target, kindOf, offset, length, flags, operation, source = 1, 2, 3, 4, 5, 6, 7
	nlattr.Each(list, func(_ uint16, one []byte) {
		var name string
		values := map[uint16][]byte{}
		nlattr.Each(one, func(kind uint16, value []byte) {
			switch kind {
			case expressionName:
				name = text(value)
			case expressionData:
				nlattr.Each(value, func(kind uint16, value []byte) { values[kind] = value })
			}
		})
		if name == "exthdr" && values[target] == nil {
			keep := []uint16{kindOf, operation}
			if values[source] != nil {
				keep = []uint16{kindOf, offset, length, operation, source}
			}
			var data []byte
			for _, kind := range keep {
				data = put(data, kind, values[kind])
			}
			one = nest(putText(nil, expressionName, name), expressionData, data)
		}
		next = nest(next, listElement, one)
	})
	return next
}

func eachExpression(list []byte, f func(name string, data []byte)) {
	nlattr.Each(list, func(_ uint16, one []byte) {
		var name string
		var data []byte
		nlattr.Each(one, func(kind uint16, value []byte) {
			switch kind {
			case expressionName:
				name = text(value)
			case expressionData:
				data = value
			}
		})
		f(name, data)
	})
}

// Keys of the expression meta (nf_tables.h).
const (
	metaKey        = 2
	metaIn         = 4
	metaOut        = 5
	metaInType     = 8
	metaOutType    = 9
	metaL4Protocol = 16
	metaInKind     = 26
	metaOutKind    = 27
)

// asksLinks notes what a rule asks of links that is not the same in the clone.
func (c *Clone) asksLinks(data []byte, what string) {
	nlattr.Each(data, func(kind uint16, value []byte) {
		if kind != metaKey {
			return
		}
		switch big(value) {
		case metaIn, metaOut:
			if len(c.moved) > 0 {
				note(&c.Notes, "The number of an interface, which %s asks for, is another one in the clone.", what)
			}
		case metaInType, metaOutType, metaInKind, metaOutKind:
			note(&c.Notes, "The type of an interface, which %s asks for, is another one in the clone.", what)
		}
	})
}

// protocolOf is the transport protocol that a rule asks for, 0 if for none.
func protocolOf(expressions []byte) (protocol byte) {
	loaded := false
	eachExpression(expressions, func(name string, data []byte) {
		values := map[uint16][]byte{}
		nlattr.Each(data, func(kind uint16, value []byte) { values[kind] = value })
		switch name {
		case "meta":
			loaded = big(values[metaKey]) == metaL4Protocol
		case "payload": // base 1 is the network header
			offset := big(values[3])
			loaded = big(values[2]) == 1 && big(values[4]) == 1 && (offset == 9 || offset == 6)
		case "cmp": // operation 0 is equality
			if loaded && big(values[2]) == 0 {
				nlattr.Each(values[3], func(_ uint16, value []byte) {
					if len(value) == 1 {
						protocol = value[0]
					}
				})
			}
			loaded = false
		}
	})
	return protocol
}

// batchSize is how many bytes a transaction has, if no group needs more; those of a user namespace may not be large.
const batchSize = 96 << 10

// batches sends groups in transactions.
func (c *Clone) batches(nft *conn, list []group) error {
	for len(list) > 0 {
		n, size := 0, 0
		for n < len(list) && (n == 0 || size < batchSize) {
			for _, p := range list[n] {
				size += len(p.body)
			}
			n++
		}
		if err := c.batch(nft, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// batch sends groups in one transaction, and again without those that the kernel refuses.
func (c *Clone) batch(nft *conn, list []group) error {
	for len(list) > 0 {
		sent := []message{{batchBegin, 0, genmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)}}
		for _, g := range list {
			for _, p := range g {
				sent = append(sent, p.message)
			}
		}
		sent = append(sent, message{batchEnd, 0, genmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)})
		refused, err := nft.send(sent)
		if err != nil {
			return fmt.Errorf("the rules of nftables: %w", err)
		}
		if len(refused) == 0 {
			return nil
		}
		var rest []group
		at := 1
		for _, g := range list {
			kept := true
			for _, p := range g {
				if err := refused[at]; err != nil {
					c.refused(err, "%s", p.what)
					kept = false
				}
				at++
			}
			if kept {
				rest = append(rest, g)
			}
		}
		if len(rest) == len(list) { // the kernel refuses the whole
			for _, err := range refused {
				c.refused(err, "%s, with all of its transaction", list[0][0].what)
			}
			return nil
		}
		list = rest
	}
	return nil
}
