package mss

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// verify is what packets through a clone of the router show.
func (w *world) verify(connections int) *Verification {
	w.t.Helper()
	var v *Verification
	err := w.ns.Do(func() error {
		m, err := Read()
		if err != nil {
			return err
		}
		rules, notes := ReadRules(w.t.Context())
		v, err = Verify(w.t.Context(), m, Options{Rules: rules, RulesUnknown: notes != nil}, Bounds{Connections: connections})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// alike compares a clone with the router that it was made of: nothing disagrees, all was cloned, and what connections announce on their way out of the clone they
// announce on their way out of the router. It returns how many segments were compared.
func (d *drawn) alike() (compared int) {
	d.t.Helper()
	v := d.verify(400)
	for _, p := range v.Paths {
		for _, s := range p.Disagreements {
			d.t.Errorf("%s: %s", p.Name, s)
		}
	}
	if len(v.NotCloned) > 0 {
		d.t.Errorf("not cloned: %q", v.NotCloned)
	}
	d.wait = 300 * time.Millisecond
	lost := 0
	for _, c := range v.seen {
		at := d.endOf(c.in)
		tunnel := strings.HasSuffix(c.out, "vx") || strings.HasSuffix(c.back, "vx") // whose packets may not come anywhere
		if at == "" || c.syn == 0 && lost > 1 || onLink(c.src) || onLink(c.dst) || tunnel {
			continue
		}
		if c.syn == 0 {
			lost++
		}
		compared += d.same(at, c)
	}
	return compared
}

// onLink says whether an address is of a neighbour of the router, of which only gateways are there.
func onLink(a netip.Addr) bool {
	return netip.MustParsePrefix("10.200.0.0/16").Contains(a) || netip.MustParsePrefix("fd00:200::/32").Contains(a)
}

// endOf is where packets come to a link of the router, "" for nowhere.
func (d *drawn) endOf(link string) string {
	for name, e := range d.ends {
		if e.name == link {
			return name
		}
	}
	return ""
}

func (c connection) String() string {
	return fmt.Sprintf("from %s of %s:%d to %s:%d, offering %d: SYN by %s with %d, answer by %s with %d", c.in, c.src, c.sport, c.dst, c.dport, c.offer, c.out, c.syn, c.back, c.answer)
}

// same sends a connection that has gone through the clone through the router.
func (d *drawn) same(at string, c connection) (compared int) {
	d.t.Helper()
	from, to := netip.AddrPortFrom(c.src, c.sport), netip.AddrPortFrom(c.dst, c.dport)
	d.send(at, segmentOf(from, to, flagSYN, c.offer, 0))
	syn, ok := d.next(c.sport)
	switch {
	case !ok && c.syn == 0:
		return 1
	case !ok || syn.mss != c.syn || !syn.inside && d.ends[syn.at].name != c.out:
		d.t.Errorf("%s: the router sends the SYN by %s with %d (%v)", c, syn.at, syn.mss, ok)
		return 1
	case syn.inside:
		return 1
	}
	d.send(syn.at, segmentOf(syn.dst, syn.src, flagSYN|flagACK, c.offer, 0))
	answer, ok := d.next(syn.dst.Port())
	switch {
	case !ok && c.answer == 0, ok && answer.inside:
	case !ok || answer.mss != c.answer || d.ends[answer.at].name != c.back:
		d.t.Errorf("%s: the router sends the answer by %s with %d (%v)", c, answer.at, answer.mss, ok)
	}
	return 2
}
