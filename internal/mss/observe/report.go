package observe

import (
	"cmp"
	"maps"
	"slices"
)

// Bounds of the rows of a report, in bytes.
const (
	Absurd      = 500  // or less is what the advice on CVE-2019-11477, 11478 and 11479 refuses
	Plain4      = 1460 // Ethernet's MTU of 1500 over IPv4
	Plain6      = 1440 // the same over IPv6
	LowestPlain = 1220 // what IPv6's smallest MTU of 1280 leaves

	// From LowestSet to HighestSet somebody has most likely set the size on purpose: it is neither Ethernet's nor the
	// smallest, and there are few links in between that come by themselves.
	LowestSet  = 1260
	HighestSet = 1440
)

// Report is what was seen.
type Report struct {
	Source string `json:"source"` // an interface, a file, or "all interfaces"
	Stats  Stats  `json:"stats"`
	Sample int    `json:"sample"` // one endpoint in so many is counted; 1 means all are
	Families
	SYN     Families      `json:"syn"`     // of the endpoints that opened connections: their first SYN
	SYNACK  Families      `json:"syn_ack"` // of those that answered: their first SYN/ACK
	Origins []OriginTable `json:"origins,omitempty"`
	Who     *Who          `json:"who,omitempty"`
	Advice  *Advice       `json:"advice,omitempty"`
}

// Families is the offers over both families, and over each.
type Families struct {
	All  *Distribution `json:"all"`
	IPv4 *Distribution `json:"ipv4"`
	IPv6 *Distribution `json:"ipv6"`
}

// Distribution is the offers of the endpoints of one or both families. Shares are of Offered.
type Distribution struct {
	Endpoints int     `json:"endpoints"`
	Offered   int     `json:"offered"` // with the option; the rest are without it
	Varied    int     `json:"varied"`  // of Endpoints: made another offer later in the same role, which is not counted
	AtMost500 int     `json:"at_most_500"`
	Above1460 int     `json:"above_1460"`
	Usual     int     `json:"from_1220_to_1460"`
	Below1460 int     `json:"from_1220_to_1459"`
	Set       int     `json:"from_1260_to_1440"`
	Lowered   int     `json:"lowered"`  // from 1220 up, but below Ethernet's 1460 (IPv6: 1440): a tunnel, or clamped somewhere
	Smallest  int     `json:"smallest"` // bytes; 0 if there is no offer
	Largest   int     `json:"largest"`
	Values    []Value `json:"values"` // by MSS, ascending
}

// Value is how many endpoints offered an MSS.
type Value struct {
	MSS   int     `json:"mss"` // bytes
	Count int     `json:"count"`
	Share float64 `json:"share"` // 0 to 1
}

// Report makes the report of what was counted. source is where it came from.
func (c *Counter) Report(source string, stats Stats) *Report {
	r := &Report{Source: source, Stats: stats, Sample: c.Sample()}
	r.Families = families(c, func(k kept) (int, bool) { return k.first(), true })
	r.SYN = families(c, func(k kept) (int, bool) { return k.offer(opened) })
	r.SYNACK = families(c, func(k kept) (int, bool) { return k.offer(answered) })
	return r
}

// families counts one offer of each endpoint; of some there is none.
func families(c *Counter, offer func(kept) (mss int, known bool)) Families {
	four, six := tally(c.four, offer), tally(c.six, offer)
	f := Families{four.plus(six).distribution(Plain4), four.distribution(Plain4), six.distribution(Plain6)}
	f.All.Lowered = f.IPv4.Lowered + f.IPv6.Lowered
	return f
}

// histogram is how many endpoints offered each MSS.
type histogram struct {
	counts       map[int]int // by MSS
	none, varied int
}

func tally[K address](m map[K]kept, offer func(kept) (mss int, known bool)) *histogram {
	h := &histogram{counts: map[int]int{}}
	for _, k := range m {
		switch mss, known := offer(k); {
		case !known:
			continue
		case mss == None:
			h.none++
		default:
			h.counts[mss]++
		}
		if k.is&isVariable != 0 {
			h.varied++
		}
	}
	return h
}

func (h *histogram) plus(other *histogram) *histogram {
	sum := &histogram{maps.Clone(h.counts), h.none + other.none, h.varied + other.varied}
	for mss, n := range other.counts {
		sum.counts[mss] += n
	}
	return sum
}

// distribution counts the rows; plain is what Ethernet offers.
func (h *histogram) distribution(plain int) *Distribution {
	d := &Distribution{Endpoints: h.none, Varied: h.varied, Values: []Value{}}
	for _, mss := range slices.Sorted(maps.Keys(h.counts)) {
		n := h.counts[mss]
		d.Values = append(d.Values, Value{MSS: mss, Count: n})
		d.Offered += n
		if mss <= Absurd {
			d.AtMost500 += n
		}
		if mss > Plain4 {
			d.Above1460 += n
		}
		if mss >= LowestPlain && mss <= Plain4 {
			d.Usual += n
		}
		if mss >= LowestPlain && mss < Plain4 {
			d.Below1460 += n
		}
		if mss >= LowestSet && mss <= HighestSet {
			d.Set += n
		}
		if mss >= LowestPlain && mss < plain {
			d.Lowered += n
		}
	}
	d.Endpoints += d.Offered
	for i := range d.Values {
		d.Values[i].Share = d.share(d.Values[i].Count)
	}
	if d.Offered > 0 {
		d.Smallest, d.Largest = d.Values[0].MSS, d.Values[len(d.Values)-1].MSS
	}
	return d
}

// count is how many endpoints offered an MSS.
func (d *Distribution) count(mss int) int {
	i, found := slices.BinarySearchFunc(d.Values, mss, func(v Value, mss int) int { return v.MSS - mss })
	if !found {
		return 0
	}
	return d.Values[i].Count
}

// share is a number of endpoints as a share of those with an offer, 0 to 1.
func (d *Distribution) share(n int) float64 { return share(n, d.Offered) }

// share is a part of a whole, 0 to 1; 0 of nothing.
func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Top is the n most common values from a lowest to a highest MSS, the most common first, and of equal ones the larger.
func (d *Distribution) Top(n, lowest, highest int) []Value {
	list := slices.DeleteFunc(slices.Clone(d.Values), func(v Value) bool { return v.MSS < lowest || v.MSS > highest })
	slices.SortFunc(list, func(a, b Value) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(b.MSS, a.MSS))
	})
	return list[:min(n, len(list))]
}
