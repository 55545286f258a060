package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"richwall/internal/lab"
)

// Addresses of the lab. Those of the client and the servers are unknown to their kernels, which therefore answer nothing.
var (
	clientAddress   = netip.MustParseAddr("10.1.0.2")
	serverAddress   = netip.MustParseAddr("10.2.0.2")
	dmzAddress      = netip.MustParseAddr("10.3.0.2")
	firewallAddress = netip.MustParseAddr("10.1.0.1")
)

// closedPort is lower than the port of any rich rule.
const closedPort = 7

// ephemeralPorts are how many source ports connections come from in turn, and firstEphemeral the lowest.
const (
	firstEphemeral = 1024
	ephemeralPorts = 60000
)

// synLength is that of an IPv4 header and a TCP header without options.
const synLength = 20 + 20

// sender sends SYNs over IPv4, each of a connection of its own.
type sender struct {
	socket int
	to     unix.SockaddrInet4
	packet [synLength]byte
	sum    uint32 // of the pseudo header and the segment, with neither source port nor checksum
	sent   int
}

// newSender makes a sender in a namespace.
func newSender(ns *lab.Namespace, from, to netip.Addr, port uint16) (*sender, error) {
	s := &sender{to: unix.SockaddrInet4{Addr: to.As4()}}
	ip, tcp, put := s.packet[:20], s.packet[20:], binary.BigEndian
	ip[0] = 0x45 // version 4, five words (RFC 791, 3.1); the kernel adds length and checksum (raw(7))
	ip[8], ip[9] = 64, unix.IPPROTO_TCP
	copy(ip[12:], from.AsSlice())
	copy(ip[16:], to.AsSlice())
	put.PutUint16(tcp[2:], port)
	tcp[12], tcp[13] = 5<<4, 2 // five words, SYN (RFC 9293, 3.1)
	put.PutUint16(tcp[14:], 1000)
	for i := 12; i < synLength; i += 2 {
		s.sum += uint32(put.Uint16(s.packet[i:]))
	}
	s.sum += unix.IPPROTO_TCP + 20
	return s, ns.Do(func() (err error) {
		s.socket, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
}

func (s *sender) close() { unix.Close(s.socket) }

// send sends the SYN of the next connection.
func (s *sender) send() error {
	port := uint32(firstEphemeral + s.sent%ephemeralPorts)
	s.sent++
	sum := s.sum + port
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(s.packet[20:], uint16(port))
	binary.BigEndian.PutUint16(s.packet[36:], ^uint16(sum))
	return unix.Sendto(s.socket, s.packet[:], 0, &s.to)
}

// batch sends so many SYNs and returns the nanoseconds that each took, with all that becomes of it: on virtual links a
// packet is at its end when the call that sends it returns.
func (s *sender) batch(n int) (float64, error) {
	began := time.Now()
	for range n {
		if err := s.send(); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began).Nanoseconds()) / float64(n), nil
}

// packetCost is the nanoseconds that the first packet of a connection to the firewall takes when no rule matches it, with
// its sending: that of the fastest of many small batches, since what else the machine does only adds to it.
func packetCost(ctx context.Context, l *lab.Lab) (float64, error) {
	const batches, batchTime, fewest, most = 300, 3 * time.Millisecond, 4, 5000
	s, err := newSender(l.Namespace(lab.Client), clientAddress, firewallAddress, closedPort)
	if err != nil {
		return 0, fmt.Errorf("cannot send packets: %w", err)
	}
	defer s.close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	warmUp, err := s.batch(100) // tells how many take long enough to measure, too
	if err != nil {
		return 0, fmt.Errorf("cannot send packets: %w", err)
	}
	size := min(most, max(fewest, int(float64(batchTime.Nanoseconds())/warmUp)))
	least := math.Inf(1)
	for range batches {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		cost, err := s.batch(size)
		if err != nil {
			return 0, fmt.Errorf("cannot send packets: %w", err)
		}
		least = min(least, cost)
	}
	return least, nil
}

// longestGap is the longest time in which no new connection gets through the firewall, from the server to the second
// server, while happen runs, and for a while before and after it. One is tried every half millisecond, or as often as the
// machine lets one.
func longestGap(l *lab.Lab, happen func() error) (time.Duration, error) {
	const around, every = 500 * time.Millisecond, 500 * time.Microsecond
	s, err := newSender(l.Namespace(lab.Server), serverAddress, dmzAddress, 80)
	if err != nil {
		return 0, fmt.Errorf("cannot send packets: %w", err)
	}
	defer s.close()
	w, err := newWatcher(l.Namespace(lab.DMZ))
	if err != nil {
		return 0, fmt.Errorf("cannot receive packets: %w", err)
	}
	defer w.close()
	happened := make(chan error, 1)
	go func() {
		time.Sleep(around)
		err := happen()
		time.Sleep(around)
		happened <- err
	}()
	w.last = time.Now()
	for {
		if err := errors.Join(s.send(), w.look()); err != nil {
			return 0, err
		}
		select {
		case err := <-happened:
			if err == nil && w.arrived == 0 {
				err = errors.New("no new connection gets through the firewall at any time")
			}
			return max(w.gap, time.Since(w.last)), err
		case <-time.After(every):
		}
	}
}

// watcher notes when SYNs arrive on a link.
type watcher struct {
	socket  int
	arrived int
	last    time.Time     // of the last arrival, or the beginning
	gap     time.Duration // the longest so far
}

// newWatcher makes a watcher of all that arrives in a namespace.
func newWatcher(ns *lab.Namespace) (*watcher, error) {
	w := &watcher{}
	return w, ns.Do(func() (err error) {
		allIPv4 := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP)))
		w.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, allIPv4)
		if err != nil {
			return err
		}
		return unix.SetsockoptInt(w.socket, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
}

func (w *watcher) close() { unix.Close(w.socket) }

// look takes what has arrived since the last look, with the kernel's time of each.
func (w *watcher) look() error {
	packet, control := make([]byte, synLength), make([]byte, 128)
	for {
		_, length, _, _, err := unix.Recvmsg(w.socket, packet, control, 0)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot receive packets: %w", err)
		}
		messages, err := unix.ParseSocketControlMessage(control[:length])
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
				at := time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
				w.gap = max(w.gap, at.Sub(w.last))
				w.last = at
				w.arrived++
			}
		}
	}
}
