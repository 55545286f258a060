package observe

import (
	"cmp"
	"maps"
	"slices"

	"richwall/grammar"
)

// Bounds of the rows of a report, in bytes.
const (
	Absurd      = 500  // or less is what the advice on CVE-2019-11477, 11478 and 11479 refuses
	Plain4      = 1460 // Ethernet's MTU of 1500 over IPv4
	Plain6      = 1440 // the same over IPv6
	LowestPlain = 1220 // what IPv6's smallest MTU of 1280 leaves
)

// Report is what was seen.
type Report struct {
	Source string        `json:"source"` // an interface, a file, or "all interfaces"
	Stats  Stats         `json:"stats"`
	Sample int           `json:"sample"` // one endpoint in so many is counted; 1 means all are
	All    *Distribution `json:"all"`
	IPv4   *Distribution `json:"ipv4"`
	IPv6   *Distribution `json:"ipv6"`
}

// Distribution is the offers of the endpoints of one or both families. Shares are of Offered.
type Distribution struct {
	Endpoints int     `json:"endpoints"`
	Offered   int     `json:"offered"` // with the option; the rest are without it
	Varied    int     `json:"varied"`  // of Endpoints: made another offer later, which is not counted
	AtMost500 int     `json:"at_most_500"`
	Above1460 int     `json:"above_1460"`
	Usual     int     `json:"from_1220_to_1460"`
	Lowered   int     `json:"lowered"`  // from 1220 up, but below Ethernet's 1460 (IPv6: 1440): a tunnel, or clamped somewhere
	Smallest  int     `json:"smallest"` // bytes; 0 if there is no offer
	Largest   int     `json:"largest"`
	Values    []Value `json:"values"` // by MSS, ascending
	Covers    []Cover `json:"covers,omitempty"`
}

// Value is how many endpoints offered an MSS.
type Value struct {
	MSS   int     `json:"mss"` // bytes
	Count int     `json:"count"`
	Share float64 `json:"share"` // 0 to 1
}

// Cover is a clamp that suits a share of the endpoints.
type Cover struct {
	Percent float64 `json:"percent"` // of the endpoints with an offer, that was asked for
	MSS     int     `json:"mss"`     // the largest value that so many offered, or more
	Clamp   int     `json:"clamp"`   // the value for a rule: MSS, but at least 536 (IPv6: 1220); 0 if it is what Ethernet offers anyway
	Share   float64 `json:"share"`   // of the endpoints that offered MSS or more, 0 to 1
}

// Report makes the report of what was counted. covers are the shares, in percent, that a clamp is looked for.
func (c *Counter) Report(source string, stats Stats, covers []float64) *Report {
	four, six := tally(c.four), tally(c.six)
	r := &Report{Source: source, Stats: stats, Sample: c.Sample()}
	r.IPv4 = four.distribution(Plain4)
	r.IPv6 = six.distribution(Plain6)
	r.All = four.plus(six).distribution(Plain4)
	r.All.Lowered = r.IPv4.Lowered + r.IPv6.Lowered
	r.IPv4.cover(covers, grammar.MinMSS, Plain4)
	r.IPv6.cover(covers, LowestPlain, Plain6)
	return r
}

// histogram is how many endpoints offered each MSS.
type histogram struct {
	counts       map[int]int // by MSS
	none, varied int
}

func tally[K address](m map[K]kept) *histogram {
	h := &histogram{counts: map[int]int{}}
	for _, k := range m {
		if k.none {
			h.none++
		} else {
			h.counts[int(k.mss)]++
		}
		if k.varied {
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

// share is a number of endpoints as a share of those with an offer, 0 to 1.
func (d *Distribution) share(n int) float64 {
	if d.Offered == 0 {
		return 0
	}
	return float64(n) / float64(d.Offered)
}

// Top is the n most common values, the most common first, and of equal ones the larger.
func (d *Distribution) Top(n int) []Value {
	list := slices.Clone(d.Values)
	slices.SortFunc(list, func(a, b Value) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(b.MSS, a.MSS))
	})
	return list[:min(n, len(list))]
}

// cover finds the clamp for each of some shares, in percent. What an endpoint offers is the most that it, or somebody on the
// way, believes in. Those that offer too much cannot be told from the others, but are likely to be on the same kinds of
// paths; so a clamp suits those whose like offers as much or more.
func (d *Distribution) cover(percents []float64, lowest, plain int) {
	if d.Offered == 0 {
		return
	}
	for _, p := range percents {
		sum := 0
		for _, v := range slices.Backward(d.Values) {
			sum += v.Count
			if 100*float64(sum) >= p*float64(d.Offered) {
				c := Cover{Percent: p, MSS: v.MSS, Share: d.share(sum)}
				if v.MSS < plain {
					c.Clamp = max(v.MSS, lowest)
				}
				d.Covers = append(d.Covers, c)
				break
			}
		}
	}
}
