package observe

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
)

// Size is an MSS in bytes, or None.
type Size int

func (s Size) String() string {
	if s == None {
		return "none"
	}
	return strconv.Itoa(int(s))
}

// MarshalJSON writes a number, or null for None.
func (s Size) MarshalJSON() ([]byte, error) {
	if s == None {
		return []byte("null"), nil
	}
	return json.Marshal(int(s))
}

// Range is sizes from a lowest to a highest, both among them.
type Range struct{ Low, High int }

// Who is whose offers were seen, with addresses.
type Who struct {
	SYN    Whose `json:"syn"`
	SYNACK Whose `json:"syn_ack"`
}

// Whose is the endpoints of one role. Both lists end somewhere; the counts are of all.
type Whose struct {
	Prefixes     []PrefixOffers  `json:"prefixes"` // the most endpoints first
	PrefixCount  int             `json:"prefix_count"`
	Endpoints    []EndpointOffer `json:"endpoints"` // the smallest MSS first, none before all
	EndpointsAll int             `json:"endpoint_count"`
}

// PrefixOffers is how many endpoints of a prefix, a /24 or of IPv6 a /48, offered an MSS.
type PrefixOffers struct {
	Prefix    netip.Prefix `json:"prefix"`
	MSS       Size         `json:"mss"`
	Endpoints int          `json:"endpoints"`
}

// EndpointOffer is what an endpoint offered.
type EndpointOffer struct {
	Address netip.Addr `json:"address"`
	MSS     Size       `json:"mss"`
}

// Prefix lengths in bits: what one owner has at least, as a rule.
const prefixIPv4, prefixIPv6 = 24, 48

// Who lists the endpoints and prefixes of some sizes, all if there are no ranges, at most so many each for SYN and for
// SYN/ACK.
func (c *Counter) Who(ranges []Range, most int) *Who {
	return &Who{SYN: c.whose(opened, ranges, most), SYNACK: c.whose(answered, ranges, most)}
}

func (c *Counter) whose(as role, ranges []Range, most int) Whose {
	endpoints := best[EndpointOffer]{most: most, compare: func(a, b EndpointOffer) int {
		return cmp.Or(cmp.Compare(a.MSS, b.MSS), a.Address.Compare(b.Address))
	}}
	prefixes := best[PrefixOffers]{most: most, compare: func(a, b PrefixOffers) int {
		return cmp.Or(cmp.Compare(b.Endpoints, a.Endpoints), cmp.Compare(a.MSS, b.MSS), a.Prefix.Compare(b.Prefix))
	}}
	of := func(k kept) (Size, bool) {
		mss, known := k.offer(as)
		return Size(mss), known && within(ranges, mss)
	}
	counted := make([]prefixed, 0, len(c.four))
	for a, k := range c.four {
		if mss, ok := of(k); ok {
			endpoints.add(EndpointOffer{netip.AddrFrom4(a), mss})
			counted = append(counted, prefixed{uint64(binary.BigEndian.Uint32(a[:]) >> (32 - prefixIPv4)), int32(mss)})
		}
	}
	count(counted, &prefixes, func(n uint64) netip.Prefix {
		a := [4]byte(binary.BigEndian.AppendUint32(nil, uint32(n<<(32-prefixIPv4))))
		return netip.PrefixFrom(netip.AddrFrom4(a), prefixIPv4)
	})
	counted = counted[:0]
	for a, k := range c.six {
		if mss, ok := of(k); ok {
			endpoints.add(EndpointOffer{netip.AddrFrom16(a), mss})
			counted = append(counted, prefixed{binary.BigEndian.Uint64(a[:]) >> (64 - prefixIPv6), int32(mss)})
		}
	}
	count(counted, &prefixes, func(n uint64) netip.Prefix {
		var a [16]byte
		binary.BigEndian.PutUint64(a[:], n<<(64-prefixIPv6))
		return netip.PrefixFrom(netip.AddrFrom16(a), prefixIPv6)
	})
	return Whose{prefixes.sorted(), prefixes.all, endpoints.sorted(), endpoints.all}
}

func within(ranges []Range, mss int) bool {
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(r Range) bool { return mss >= r.Low && mss <= r.High })
}

// prefixed is an endpoint's offer with the leading bits of its address. A list of them takes less memory than a map.
type prefixed struct {
	prefix uint64
	mss    int32
}

// count adds up what is equal.
func count(list []prefixed, to *best[PrefixOffers], prefix func(uint64) netip.Prefix) {
	slices.SortFunc(list, func(a, b prefixed) int { return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.mss, b.mss)) })
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n] == list[0] {
			n++
		}
		to.add(PrefixOffers{prefix(list[0].prefix), Size(list[0].mss), n})
		list = list[n:]
	}
}

// best keeps the first of many things in an order, in memory for twice as many.
type best[T any] struct {
	most    int
	compare func(a, b T) int
	list    []T
	all     int
}

func (b *best[T]) add(t T) {
	b.all++
	if b.list = append(b.list, t); len(b.list) >= 2*b.most+1000 {
		b.sorted()
	}
}

// sorted is what is kept, in order.
func (b *best[T]) sorted() []T {
	slices.SortFunc(b.list, b.compare)
	b.list = b.list[:min(b.most, len(b.list))]
	return append([]T{}, b.list...)
}
