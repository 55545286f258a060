package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"richwall/internal/fault"
)

// Link is a network interface, as far as it tells which packets it carries.
type Link struct {
	Name     string
	Index    int
	Master   int // index of the bridge, bond or VRF that it is a part of; 0 for none
	MTU      int // bytes
	MTU6     int // bytes, of IPv6, which may be less; MTU where the link has no IPv6
	Up       bool
	Loopback bool
}

// Links follows the links of a network namespace.
type Links struct {
	log     *slog.Logger
	enter   func(func() error) error
	changed func([]Link)
	wake    chan struct{} // has a token when the links may have changed
	done    chan struct{} // closed by Close

	mu      sync.Mutex
	heard   *netlink.Conn // what the kernel tells; nil after Close
	known   []Link        // as of the last reading
	reading bool          // there is another one under way
	closed  sync.Once
}

const (
	// gatherLinks is how long changes of links are gathered before the links are read: a link that comes is told of several times.
	gatherLinks = 5 * time.Millisecond
	// linksAgain is how soon following links is tried again that has failed.
	linksAgain = time.Second
)

// linksBuffer is room for messages about some thousand links, in bytes; what has no room is not missed, as all links are read then. It is a
// variable for tests.
var linksBuffer = 1 << 20

// FollowLinks reads the links, and from then on calls changed with all of them whenever they have become others, until Close. It calls it from
// a goroutine of its own, one call after the other. The kernel's messages say no more than that something has changed: then all links are read anew.
// So a message that was lost, because the socket had no room for it, is a change like any other, and none is believed that is older than what was read.
func FollowLinks(o Options, changed func([]Link)) (*Links, []Link, error) {
	o = o.withDefaults()
	l := &Links{log: o.Log, enter: o.Enter, changed: changed, wake: make(chan struct{}, 1), done: make(chan struct{})}
	conn, err := l.listen()
	if err != nil {
		return nil, nil, err
	}
	l.heard = conn
	if l.known, err = l.read(); err != nil {
		conn.Close()
		return nil, nil, err
	}
	now := l.known
	go l.hear()
	go l.look()
	return l, now, nil
}

// Close ends it. No call of changed begins after that.
func (l *Links) Close() error {
	var err error
	l.closed.Do(func() {
		close(l.done)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.heard != nil {
			err = l.heard.Close()
			l.heard = nil
		}
	})
	return err
}

// listen opens a socket that hears of links. IPv6 tells of its MTUs in a group of its own.
func (l *Links) listen() (*netlink.Conn, error) {
	var conn *netlink.Conn
	err := l.enter(func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV6_IFINFO-1), MessageBufferSize: messageBuffer})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot listen for changes of links: %w", err)
	}
	if err := conn.SetReadBuffer(linksBuffer); err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot listen for changes of links: %w", err)
	}
	return conn, nil
}

// hear hears of links until Close. A socket that fails is replaced.
func (l *Links) hear() {
	for {
		l.mu.Lock()
		conn := l.heard
		l.mu.Unlock()
		if conn == nil {
			return
		}
		err := fault.Call("following links", func() error { return l.receive(conn) })
		if errors.Is(err, unix.ENOBUFS) {
			l.wakeUp()
			continue
		}
		if err != nil && !l.replace(conn, err) {
			return
		}
	}
}

// receive takes what the kernel tells, once it tells something, and has the links read if it is news.
func (l *Links) receive(conn *netlink.Conn) error {
	messages, err := conn.Receive()
	if slices.ContainsFunc(messages, l.isNews) {
		l.wakeUp()
	}
	return err
}

// isNews says whether a message is of what the links were not when they were read last. What is told while they are read is, in any case.
func (l *Links) isNews(m netlink.Message) bool {
	if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return false
	}
	if m.Data[0] != unix.AF_UNSPEC { // of IPv6, or of a bridge's port, in another form
		return m.Data[0] == unix.AF_INET6
	}
	told, err := linkOf(m.Data)
	l.mu.Lock()
	defer l.mu.Unlock()
	return err != nil || l.reading || m.Header.Type == unix.RTM_DELLINK || !slices.Contains(l.known, told)
}

// replace opens another socket in the place of one that has failed; false after Close.
func (l *Links) replace(conn *netlink.Conn, reason error) bool {
	select {
	case <-l.done:
		return false
	default:
	}
	l.log.Error("links are not followed for a moment", "reason", reason)
	conn.Close()
	for {
		next, err := l.listen()
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			select {
			case <-l.done:
				next.Close()
				return false
			default:
			}
			l.heard = next
			l.wakeUp()
			return true
		}
		if !l.wait(linksAgain) {
			return false
		}
	}
}

// wait waits; false if Close comes first.
func (l *Links) wait(d time.Duration) bool {
	select {
	case <-l.done:
		return false
	case <-time.After(d):
		return true
	}
}

func (l *Links) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// look reads the links whenever they may have changed, until Close.
func (l *Links) look() {
	for {
		select {
		case <-l.done:
			return
		case <-l.wake:
		}
		if !l.wait(gatherLinks) {
			return
		}
		if err := fault.Call("following links", l.lookNow); err != nil {
			l.log.Error("the links cannot be read; it is tried again soon", "reason", err)
			if !l.wait(linksAgain) {
				return
			}
			l.wakeUp()
		}
	}
}

func (l *Links) lookNow() error {
	l.mu.Lock()
	l.reading = true
	l.mu.Unlock()
	now, err := l.read()
	l.mu.Lock()
	same := err != nil || slices.Equal(now, l.known)
	if err == nil {
		l.known = now
	}
	l.reading = false
	l.mu.Unlock()
	if !same {
		l.changed(now)
	}
	return err
}

// read asks the kernel for all links, in the order of their indices. A listing during which links have changed is made anew.
func (l *Links) read() (list []Link, err error) {
	const attempts = 10
	for range attempts {
		var whole bool
		if list, whole, err = l.dump(); err != nil {
			return nil, fmt.Errorf("cannot read the links: %w", err)
		}
		if whole {
			break
		}
	}
	slices.SortFunc(list, func(a, b Link) int { return a.Index - b.Index })
	return list, nil // of one that is not whole, the kernel tells what has changed
}

// dump is one listing of all links; whole is false if they have changed meanwhile.
func (l *Links) dump() (list []Link, whole bool, err error) {
	const extMask, skipStats = 29, 8 // IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS (linux/if_link.h, linux/rtnetlink.h)
	var conn *netlink.Conn
	err = l.enter(func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{MessageBufferSize: messageBuffer})
		return err
	})
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	mask, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: extMask, Data: binary.NativeEndian.AppendUint32(nil, skipStats)}})
	if err != nil {
		return nil, false, err
	}
	messages, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump}, Data: append(make([]byte, unix.SizeofIfInfomsg), mask...),
	})
	if err != nil {
		return nil, false, err
	}
	whole = true
	for _, m := range messages {
		whole = whole && m.Header.Flags&netlink.DumpInterrupted == 0
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		one, err := linkOf(m.Data)
		if err != nil {
			return nil, false, err
		}
		list = append(list, one)
	}
	return list, whole, nil
}

// linkOf reads struct ifinfomsg and what follows it (linux/rtnetlink.h, linux/if_link.h).
func linkOf(body []byte) (Link, error) {
	const (
		inet6Conf = 2 // IFLA_INET6_CONF: settings of 4 bytes each (linux/if_link.h)
		mtu6      = 2 // DEVCONF_MTU6 (linux/ipv6.h)
	)
	flags := binary.NativeEndian.Uint32(body[8:])
	l := Link{Index: int(int32(binary.NativeEndian.Uint32(body[4:]))), Up: flags&unix.IFF_UP != 0, Loopback: flags&unix.IFF_LOOPBACK != 0}
	d, err := netlink.NewAttributeDecoder(body[unix.SizeofIfInfomsg:])
	if err != nil {
		return l, err
	}
	for d.Next() {
		switch d.Type() {
		case unix.IFLA_IFNAME:
			l.Name = d.String()
		case unix.IFLA_MTU:
			l.MTU = int(d.Uint32())
		case unix.IFLA_MASTER:
			l.Master = int(d.Uint32())
		case unix.IFLA_AF_SPEC:
			settings := nestedAttribute(d.Bytes(), unix.AF_INET6, inet6Conf)
			if len(settings) >= 4*(mtu6+1) {
				l.MTU6 = int(binary.NativeEndian.Uint32(settings[4*mtu6:]))
			}
		}
	}
	if l.MTU6 == 0 || l.MTU6 > l.MTU {
		l.MTU6 = l.MTU
	}
	return l, d.Err()
}

// nestedAttribute is the value of an attribute in an attribute; nil if there is none.
func nestedAttribute(list []byte, outer, inner uint16) (value []byte) {
	eachAttribute(list, func(kind uint16, v []byte) {
		if kind == outer {
			eachAttribute(v, func(kind uint16, v []byte) {
				if kind == inner {
					value = v
				}
			})
		}
	})
	return value
}
