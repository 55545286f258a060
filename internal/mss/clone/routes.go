package clone

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"richwall/internal/mss/nlattr"

	"golang.org/x/sys/unix"
)

// Attributes of routes that package unix has no names for (rtnetlink.h).
const (
	routeVia       = 18
	routeNexthopID = 30
)

// several is how many routes are sent at a time.
const several = 500

// routes makes the routes of all tables, those first by whose links the gateways of others are reached.
func (c *Clone) routes(ctx context.Context, route *conn, r *Reading) error {
	list := r.routes
	var again [][]byte
	for _, direct := range []bool{true, false} {
		err := c.sendRoutes(ctx, route, func(f func([]byte)) { list.each(f) }, func(body []byte) bool { return throughGateway(body) != direct }, func(body []byte, _ error) {
			again = append(again, slices.Clone(body))
		})
		if err != nil {
			return err
		}
		if direct {
			c.nextHops(route, r.nexthops)
		}
	}
	refused := 0
	var why error
	err := c.sendRoutes(ctx, route, func(f func([]byte)) {
		for _, body := range again { // whose gateways the machine has found at another time
			binary.NativeEndian.PutUint32(body[8:], number(body[8:])|unix.RTNH_F_ONLINK)
			f(body)
		}
	}, func([]byte) bool { return true }, func(_ []byte, err error) {
		refused++
		why = err
	})
	if refused > 0 {
		note(&c.Notes, "What cannot be cloned is %d of the %d routes: %v.", refused, list.count, why)
	}
	return err
}

// sendRoutes sends those of some routes that a condition holds for.
func (c *Clone) sendRoutes(ctx context.Context, route *conn, each func(func([]byte)), which func([]byte) bool, refused func([]byte, error)) error {
	var sent []message
	var bodies [][]byte
	var failed error
	flush := func() {
		if failed = ctx.Err(); failed != nil || len(sent) == 0 {
			return
		}
		errs, err := route.send(sent)
		if failed = err; err != nil {
			return
		}
		for i, err := range errs {
			refused(bodies[i], err)
		}
		sent, bodies = sent[:0], bodies[:0]
	}
	each(func(body []byte) {
		if failed != nil || !which(body) {
			return
		}
		m, ok := c.route(body)
		if !ok {
			return
		}
		if sent, bodies = append(sent, m), append(bodies, body); len(sent) == several {
			flush()
		}
	})
	if failed == nil {
		flush()
	}
	if failed != nil {
		return fmt.Errorf("the routes: %w", failed)
	}
	return nil
}

// throughGateway says whether a route has a gateway.
func throughGateway(body []byte) bool {
	found := false
	nlattr.Each(body[unix.SizeofRtMsg:], func(kind uint16, _ []byte) {
		switch kind {
		case unix.RTA_GATEWAY, unix.RTA_MULTIPATH, routeVia, routeNexthopID:
			found = true
		}
	})
	return found
}

// route is the message that makes a route; false for those that the kernel makes by itself, and for links that are not in the clone.
func (c *Clone) route(body []byte) (message, bool) {
	kind := body[7]
	if body[0] != unix.AF_INET && body[0] != unix.AF_INET6 || kind == unix.RTN_LOCAL || kind == unix.RTN_BROADCAST || kind == unix.RTN_ANYCAST || kind == unix.RTN_MULTICAST {
		return message{}, false
	}
	b := make([]byte, unix.SizeofRtMsg, len(body)+8)
	copy(b, body)
	binary.NativeEndian.PutUint32(b[8:], number(b[8:])&unix.RTNH_F_ONLINK)
	there, byObject := true, false
	nlattr.Each(body[unix.SizeofRtMsg:], func(kind uint16, _ []byte) { byObject = byObject || kind == routeNexthopID })
	nlattr.Each(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_CACHEINFO:
			return
		case unix.RTA_OIF, unix.RTA_GATEWAY, routeVia, unix.RTA_MULTIPATH:
			if byObject {
				return // the kernel says what the object is
			}
		}
		switch kind {
		case unix.RTA_OIF:
			i := int(number(value))
			p := c.plan[i]
			there = there && p != nil && p.role != absent
			value = binary.NativeEndian.AppendUint32(nil, uint32(c.index(i)))
		case unix.RTA_MULTIPATH:
			value = c.hops(value)
			there = there && len(value) > 0
		}
		b = put(b, kind, value)
	})
	return message{unix.RTM_NEWROUTE, unix.NLM_F_CREATE | unix.NLM_F_APPEND, b}, there
}

// hops are the next hops of a route (struct rtnexthop).
func (c *Clone) hops(value []byte) []byte {
	var list []byte
	for len(value) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(value))
		if n < unix.SizeofRtNexthop || n > len(value) {
			break
		}
		hop := slices.Clone(value[:n])
		i := int(number(hop[4:]))
		if p := c.plan[i]; p != nil && p.role != absent {
			hop[2] &= unix.RTNH_F_ONLINK
			binary.NativeEndian.PutUint32(hop[4:], uint32(c.index(i)))
			list = append(list, pad(hop)...)
		}
		value = value[min((n+3)&^3, len(value)):]
	}
	return list
}
