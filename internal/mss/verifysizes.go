package mss

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"richwall/internal/mss/clone"
)

// slack is what bridges and veths let through beyond their MTU, in bytes: a VLAN's tag (is_skb_forwardable).
const slack = 4

// sizes sends packets of several sizes through a clone in which tunnels go over the links below them, and compares what gets through by each path
// with what is said to fit.
func (v *verifier) sizes(ctx context.Context, reading *clone.Reading) error {
	v.bounds.Progress("cloning the machine with its tunnels")
	c, err := reading.Make(ctx, true)
	if err != nil {
		return err
	}
	defer c.Close()
	v.notCloned(c.Notes)
	for i := range v.result.Paths {
		one := &v.result.Paths[i]
		v.bounds.Progress(fmt.Sprintf("sizes: path %d of %d", i+1, len(v.result.Paths)))
		if why := v.unsized(c, one.path); why != "" {
			one.NotMeasured = append(one.NotMeasured, why)
			continue
		}
		for _, six := range one.path.families {
			if one.path.fits(six) == 0 || one.path.internet {
				continue
			}
			if err := v.size(ctx, c, one, six); err != nil {
				return err
			}
		}
	}
	return nil
}

// unsized says why a path's MTU cannot be measured, "" if it can.
func (v *verifier) unsized(c *clone.Clone, p *Path) string {
	if p.tunnel {
		return "The size of what IPsec encrypts is customary, and not measured."
	}
	i := slices.IndexFunc(v.machine.Links, func(l Link) bool { return l.Name == p.Interface })
	return v.notReal(c, v.machine.Links[i], map[int]bool{})
}

// notReal says why the clone does not show what a link carries, "" if it does.
func (v *verifier) notReal(c *clone.Clone, l Link, seen map[int]bool) string {
	if seen[l.Index] {
		return ""
	}
	seen[l.Index] = true
	if why := c.StandIn(l.Name); why != "" {
		return fmt.Sprintf("The MTU is not measured: %s is cloned as a plain link (%s).", l.Name, why)
	}
	if _, ok := v.machine.encrypts(l); ok {
		return fmt.Sprintf("The MTU is not measured: IPsec encrypts what %s sends.", l.Name)
	}
	var below []int
	for _, port := range v.machine.Ports(l) {
		below = append(below, port.Index)
	}
	if l.overhead() >= 0 {
		for _, h := range v.machine.below(l) {
			below = append(below, h.link)
		}
	} else if l.Parent != 0 {
		below = append(below, l.Parent)
	}
	for _, i := range below {
		if under, ok := v.machine.link(i); ok {
			if why := v.notReal(c, under, seen); why != "" {
				return why
			}
		}
	}
	return ""
}

// branches says whether what a link carries goes by one of several ways, of which the smallest is said, and another may be taken.
func (v *verifier) branches(l Link, seen map[int]bool) bool {
	if seen[l.Index] {
		return false
	}
	seen[l.Index] = true
	var below []hop
	if l.overhead() >= 0 {
		below = v.machine.below(l)
		if len(below) > 1 {
			return true
		}
	}
	for _, port := range v.machine.Ports(l) {
		below = append(below, hop{link: port.Index})
	}
	if l.Parent != 0 {
		below = append(below, hop{link: l.Parent})
	}
	for _, h := range below {
		if under, ok := v.machine.link(h.link); ok && v.branches(under, seen) {
			return true
		}
	}
	return false
}

// size measures what gets through by a path, with those connections that have gone by it.
func (v *verifier) size(ctx context.Context, c *clone.Clone, one *Verified, six bool) error {
	p := one.path
	i := slices.IndexFunc(v.machine.Links, func(l Link) bool { return l.Name == p.Interface })
	way, most, ok := v.wayFor(c, one, six)
	if !ok {
		return nil
	}
	measured, whole, err := v.largest(ctx, c, way, p.Fit.MTU, most)
	if err != nil || measured == 0 {
		return err
	}
	if one.MeasuredMTU == 0 || measured < one.MeasuredMTU {
		one.MeasuredMTU, one.OrMore = measured, !whole
	}
	switch {
	case measured < min(p.Fit.MTU, most):
		one.disagree("It says that %d bytes get through, and of what goes from %s to %s no more than %d do.", p.Fit.MTU, way.src, way.dst, measured)
	case measured > p.Fit.MTU && whole && !v.branches(v.machine.Links[i], map[int]bool{}):
		one.disagree("It says that no more than %d bytes get through, and of what goes from %s to %s %d do.", p.Fit.MTU, way.src, way.dst, measured)
	}
	return nil
}

// wayFor is a connection that has gone by a path and by no other one, from the link of the largest MTU, and that MTU in bytes.
func (v *verifier) wayFor(c *clone.Clone, one *Verified, six bool) (way connection, most int, ok bool) {
	for _, tried := range v.result.seen {
		if tried.syn == 0 || tried.out != one.Interface || tried.src.Is6() != six || !c.Reaches(tried.in) || tried.in == one.Interface {
			continue
		}
		if list := v.pathsTo(tried.out, tried.real); len(list) != 1 || list[0] != one {
			continue
		}
		i := slices.IndexFunc(v.machine.Links, func(l Link) bool { return l.Name == tried.in })
		mtu, _ := v.machine.Room(v.machine.Links[i])
		if mtu > most {
			way, most, ok = tried, mtu, true
		}
	}
	return way, min(most, 65535), ok
}

// largest is the largest packet of a connection that gets through, up to most bytes, 0 if none does. expected is tried first. whole is false if it
// is not known that a larger one would not.
func (v *verifier) largest(ctx context.Context, c *clone.Clone, way connection, expected, most int) (size int, whole bool, err error) {
	least := outerHeader(way.src.Is6()) + 24
	passes, err := v.through(ctx, c, way, []int{least, min(expected, most), min(expected+slack+1, most)})
	if err != nil || !passes[0] {
		return 0, false, err
	}
	switch {
	case passes[1] && most <= expected:
		return most, false, nil
	case passes[1] && expected+slack+1 <= most && !passes[2]:
		return expected, true, nil
	case passes[1] && expected+slack+1 > most:
		return expected, false, nil
	}
	low, high := least, most+1 // low gets through, high is not known to
	for low+1 < high {
		var list []int
		const points = 16
		for i := 1; i <= points; i++ {
			if n := low + (high-low)*i/(points+1); n > low && n < high && !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
		if list == nil {
			list = []int{low + 1}
		}
		if passes, err = v.through(ctx, c, way, list); err != nil {
			return 0, false, err
		}
		for i, n := range list {
			if passes[i] {
				low = max(low, n)
			}
		}
		for i, n := range list {
			if !passes[i] && n > low {
				high = min(high, n)
			}
		}
	}
	return low, low < most, nil
}

// through says which sizes of a connection's packets get through to each of the machine's own ports at which a small one is seen, not cut to pieces.
func (v *verifier) through(ctx context.Context, c *clone.Clone, way connection, sizes []int) ([]bool, error) {
	var list []clone.Segment
	for _, n := range append([]int{0}, sizes...) {
		list = append(list, clone.Segment{
			In: way.in, Src: netip.AddrPortFrom(way.src, v.nextPort()), Dst: netip.AddrPortFrom(way.dst, way.dport), MSS: 536, Size: n,
		})
	}
	got, err := c.Exchange(ctx, list)
	if err != nil {
		return nil, err
	}
	ports := slices.DeleteFunc(got[0], func(a clone.Arrival) bool { return c.Added(a.Port) || a.Out != "" && a.Out != way.out })
	passes := make([]bool, len(sizes))
	for i := range sizes {
		passes[i] = len(ports) > 0
		for _, small := range ports {
			passes[i] = passes[i] && slices.ContainsFunc(got[i+1], func(a clone.Arrival) bool { return a.Port == small.Port && !a.Cut })
		}
	}
	return passes, nil
}
