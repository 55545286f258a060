package observe

import (
	"slices"
	"strconv"

	"richwall/grammar"
)

// Wrapped is what one more IPv6 header takes of a packet, in bytes: the largest of the common tunnels that have no
// encryption (RFC 2473; DS-Lite, MAP-E). 6in4 takes 20, GRE 24, PPPoE 8.
const Wrapped = ipv6Header

// Advice is what the offers say about a clamp on the own offer. A clamp helps against paths that carry less than both
// ends believe. What an endpoint offers, its own link or somebody on the way has chosen: those that offer less than one
// tunnel over an Ethernet leaves have been told already, and their paths work; a clamp as low as theirs would cost
// everybody and help nobody. So the others are looked at, those that offer 1420 (IPv6: 1400) or more: a clamp suits a share
// of them if so many offer as much or more, as the others are likely to be on the same kinds of paths.
type Advice struct {
	IPv4         []Cover  `json:"ipv4"`
	IPv6         []Cover  `json:"ipv6"`
	Rules        []string `json:"rules"`
	Refusal      string   `json:"refusal"` // the rule against absurd sizes
	Refused      int      `json:"refused"` // how many endpoints it would have turned away
	RefusedShare float64  `json:"refused_share"`
}

// Cover is a clamp that suits a share of the endpoints that offer 1420 (IPv6: 1400) or more.
type Cover struct {
	Percent float64 `json:"percent"` // of them, that was asked for
	MSS     int     `json:"mss"`     // the largest value that so many offered, or more
	Clamp   int     `json:"clamp"`   // the value for a rule: MSS; 0 if it is what Ethernet offers anyway
	Share   float64 `json:"share"`   // of them, that offered MSS or more, 0 to 1
}

// refusal is the rule against absurd sizes.
const refusal = `rule tcp-mss value="0-500" drop`

// Advise adds advice to the report. The percents are the shares of endpoints that clamps are looked for, ascending.
func (r *Report) Advise(percents []float64) {
	a := &Advice{
		IPv4: r.IPv4.cover(percents, Plain4), IPv6: r.IPv6.cover(percents, Plain6), Rules: []string{},
		Refusal: refusal, Refused: r.All.AtMost500, RefusedShare: r.All.share(r.All.AtMost500),
	}
	for _, f := range []struct {
		family grammar.Family
		covers []Cover
	}{{grammar.IPv4, a.IPv4}, {grammar.IPv6, a.IPv6}} {
		if n := len(f.covers); n > 0 && f.covers[n-1].Clamp > 0 {
			rule := grammar.Rule{Family: f.family, Element: &grammar.TCPMSSClamp{Value: strconv.Itoa(f.covers[n-1].Clamp)}}
			a.Rules = append(a.Rules, rule.String())
		}
	}
	r.Advice = a
}

// cover finds the clamp for each of some shares, in percent. plain is what Ethernet offers.
func (d *Distribution) cover(percents []float64, plain int) []Cover {
	list, all := []Cover{}, 0
	for _, v := range d.Values {
		if v.MSS >= plain-Wrapped {
			all += v.Count
		}
	}
	if all == 0 {
		return list
	}
	for _, p := range percents {
		sum := 0
		for _, v := range slices.Backward(d.Values) {
			sum += v.Count
			if 100*float64(sum) < p*float64(all) {
				continue
			}
			c := Cover{Percent: p, MSS: v.MSS, Share: float64(sum) / float64(all)}
			if v.MSS < plain {
				c.Clamp = v.MSS
			}
			list = append(list, c)
			break
		}
	}
	return list
}

// below is the share of the endpoints that offer less than one tunnel over an Ethernet leaves, 0 to 1.
func (d *Distribution) below(plain int) float64 {
	n := 0
	for _, v := range d.Values {
		if v.MSS < plain-Wrapped {
			n += v.Count
		}
	}
	return d.share(n)
}
