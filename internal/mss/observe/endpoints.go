package observe

import (
	"crypto/sha256"
	"encoding/binary"
)

// DefaultLimit is how many endpoints are remembered at most if nothing else is said. They need some 14 bytes each for
// IPv4 and 30 for IPv6.
const DefaultLimit = 1 << 23

// Counter remembers what each endpoint offered first.
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

// kept is an endpoint's first offer.
type kept struct {
	mss    uint16
	none   bool // there was no MSS option
	varied bool // a later offer was another
}

// NewCounter returns a Counter of at most limit endpoints, which is at least 1.
func NewCounter(limit int) *Counter {
	return &Counter{limit: max(limit, 1), four: map[[4]byte]kept{}, six: map[[16]byte]kept{}}
}

// Add counts an offer, unless its endpoint is known already.
func (c *Counter) Add(o Offer) {
	k := kept{mss: uint16(max(o.MSS, 0)), none: o.MSS == None}
	if o.From.Is4() {
		addTo(c, c.four, o.From.As4(), k)
	} else {
		addTo(c, c.six, o.From.As16(), k)
	}
}

func addTo[K address](c *Counter, m map[K]kept, from K, k kept) {
	if first, known := m[from]; known {
		if (first.mss != k.mss || first.none != k.none) && !first.varied {
			first.varied = true
			m[from] = first
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
