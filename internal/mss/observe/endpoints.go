package observe

import (
	"crypto/sha256"
	"encoding/binary"
)

// DefaultLimit is how many endpoints are remembered at most if nothing else is said. They need 16 to 25 bytes each for
// IPv4 and 33 to 50 for IPv6.
const DefaultLimit = 1 << 23

// Counter remembers what each endpoint offered first, as it opened connections and as it answered.
//
// Every address is kept as it is, so up to the limit the counts are exact. Beyond it the Counter goes on with a sample:
// it forgets half of the endpoints and counts only the like of the others, chosen by a hash of the address, and again
// whenever the limit is passed. So memory stays the same for any number of packets, and each endpoint is as likely to be
// in the sample as any other, whenever it comes and however often. The hash has no secret: the same packets give the
// same figures.
type Counter struct {
	limit  int
	halved int // how often; one endpoint in 2^halved is counted
	four   map[[4]byte]kept
	six    map[[16]byte]kept
}

// kept is an endpoint's first offers: with a SYN, and with a SYN/ACK.
type kept struct {
	mss [2]uint16 // by role
	is  uint8     // bits of is…
}

// role is what an endpoint did: 0 opened a connection by a SYN, 1 answered by a SYN/ACK.
type role int

const (
	opened role = iota
	answered
)

// What is known of an endpoint. The first two are shifted by the role.
const (
	isKnown    = 1 << 0 // it made an offer in this role
	isWithout  = 1 << 2 // its offer had no MSS option
	isAnswer   = 1 << 4 // its first offer was a SYN/ACK
	isVariable = 1 << 5 // a later offer in the same role was another
)

// keep is an offer as it is kept.
func keep(o Offer) (kept, role) {
	as := opened
	var k kept
	if o.ACK {
		as, k.is = answered, isAnswer
	}
	k.mss[as] = uint16(max(o.MSS, 0))
	k.is |= isKnown << as
	if o.MSS == None {
		k.is |= isWithout << as
	}
	return k, as
}

// offer is what was offered in a role: an MSS, or None; known is false if there was no offer.
func (k kept) offer(as role) (mss int, known bool) {
	if k.is&(isWithout<<as) != 0 {
		return None, true
	}
	return int(k.mss[as]), k.is&(isKnown<<as) != 0
}

// first is the first offer of all.
func (k kept) first() int {
	as := opened
	if k.is&isAnswer != 0 {
		as = answered
	}
	mss, _ := k.offer(as)
	return mss
}

// with is what is known after a later offer in a role.
func (k kept) with(later kept, as role) kept {
	before, known := k.offer(as)
	now, _ := later.offer(as)
	switch {
	case !known:
		k.mss[as] = later.mss[as]
		k.is |= later.is &^ isAnswer
	case before != now:
		k.is |= isVariable
	}
	return k
}

// NewCounter returns a Counter of at most limit endpoints, which is at least 1.
func NewCounter(limit int) *Counter {
	return &Counter{limit: max(limit, 1), four: map[[4]byte]kept{}, six: map[[16]byte]kept{}}
}

// Add counts an offer, unless its endpoint has made one of its kind already, a SYN or a SYN/ACK.
func (c *Counter) Add(o Offer) {
	k, as := keep(o)
	if o.From.Is4() {
		addTo(c, c.four, o.From.As4(), k, as)
	} else {
		addTo(c, c.six, o.From.As16(), k, as)
	}
}

func addTo[K address](c *Counter, m map[K]kept, from K, k kept, as role) {
	if before, known := m[from]; known {
		if after := before.with(k, as); after != before {
			m[from] = after
		}
		return
	}
	if !counts(c, from) {
		return
	}
	m[from] = k
	for len(c.four)+len(c.six) > c.limit {
		c.halved++
		thin(c, c.four)
		thin(c, c.six)
	}
}

// address is an IPv4 or IPv6 address.
type address interface{ [4]byte | [16]byte }

// counts says whether an endpoint is in the sample.
func counts[K address](c *Counter, from K) bool {
	if c.halved == 0 {
		return true
	}
	var bytes [16]byte
	for i := range len(from) {
		bytes[i] = from[i]
	}
	hash := sha256.Sum256(bytes[:])
	return binary.LittleEndian.Uint64(hash[:])&(1<<min(c.halved, 63)-1) == 0
}

// thin forgets what is not in the sample any more.
func thin[K address](c *Counter, m map[K]kept) {
	for from := range m {
		if !counts(c, from) {
			delete(m, from)
		}
	}
}

// Endpoints is how many endpoints are counted.
func (c *Counter) Endpoints() int { return len(c.four) + len(c.six) }

// Sample is n if one endpoint in n is counted: 1 unless there were more than the limit.
func (c *Counter) Sample() int { return 1 << min(c.halved, 62) }
