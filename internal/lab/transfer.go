package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Transfer is data that the kernels' own TCP carries over one connection, which the client opens to the server.
type Transfer struct {
	Family Family // "" means IPv4
	Upload bool   // from client to server; otherwise from server to client
	Port   int    // of the server, 1 to 65535
	Size   int    // in bytes, 1 or more
}

// Outcomes of a transfer.
const (
	Finished     = "finishes"
	Stalled      = "stalls"
	NotConnected = "no connection"
)

// TransferResult is what became of a transfer.
type TransferResult struct {
	Outcome string `json:"outcome"`          // Finished, Stalled or NotConnected
	Arrived int    `json:"arrived"`          // bytes
	Packet  int    `json:"packet,omitempty"` // length of the largest IP packets that the sender makes, in bytes
}

// stallAfter is how often in a row a kernel has sent the same segment again, without an answer, when a transfer is said to
// stall. That takes one or two seconds. The lab loses no packet by chance.
const stallAfter = 3

// transferPatience bounds how long a batch of transfers may take: usually a second, or a few where they stall.
const transferPatience = time.Minute

// Transfer carries data, all transfers at once, and returns a result for each, in the same order.
func (l *Lab) Transfer(ctx context.Context, transfers []Transfer) ([]TransferResult, error) {
	ctx, cancel := context.WithTimeout(ctx, transferPatience)
	defer cancel()
	under := make([]*transfer, len(transfers))
	for i, t := range transfers {
		if t.Size < 1 || t.Port < 1 || t.Port > 65535 {
			return nil, fmt.Errorf("cannot transfer %d bytes by port %d: a size is at least 1, a port from 1 to 65535", t.Size, t.Port)
		}
		under[i] = &transfer{Transfer: t, address: netip.AddrPortFrom(l.serverAddress(t.Family), uint16(t.Port))}
	}
	serving, stop := context.WithCancel(ctx)
	wait, err := l.serve(serving, under)
	defer wait()
	defer stop()
	if err != nil {
		return nil, err
	}
	results := make([]TransferResult, len(under))
	errs := make([]error, len(under))
	var all sync.WaitGroup
	for i, t := range under {
		all.Go(func() { results[i], errs[i] = t.run(ctx, l.namespaces[Client], byte(i)) })
	}
	all.Wait()
	drained := l.receive(func(Host, *packet) {}) // the taps have seen it all, and must have room again
	return results, errors.Join(append(errs, drained)...)
}

func (l *Lab) serverAddress(f Family) netip.Addr {
	own := l.linkOf(Server).ends[0].own
	if f == IPv6 {
		return own[1].Addr()
	}
	return own[0].Addr()
}

// transfer is a Transfer under way.
type transfer struct {
	Transfer
	address netip.AddrPort
	arrived atomic.Int64
	server  atomic.Pointer[net.TCPConn] // nil until it knows which transfer the connection is for
}

// serve opens the server's ports and serves the transfers until the context ends; wait returns when that is done. The first
// byte of a connection says which transfer it is, as addresses and ports may be rewritten on the way.
func (l *Lab) serve(ctx context.Context, under []*transfer) (wait func(), err error) {
	var all sync.WaitGroup
	seen := map[netip.AddrPort]bool{}
	err = l.namespaces[Server].Do(func() error {
		for _, t := range under {
			if seen[t.address] {
				continue
			}
			seen[t.address] = true
			listener, err := net.Listen("tcp", t.address.String())
			if err != nil {
				return fmt.Errorf("cannot open port %d on the %s: %w", t.Port, Server, err)
			}
			all.Add(1)
			context.AfterFunc(ctx, func() {
				defer all.Done()
				listener.Close()
			})
			all.Go(func() {
				for {
					c, err := listener.Accept()
					if err != nil {
						return // closed
					}
					all.Add(1)
					context.AfterFunc(ctx, func() {
						defer all.Done()
						abort(c.(*net.TCPConn))
					})
					all.Go(func() { serveOne(c.(*net.TCPConn), under) })
				}
			})
		}
		return nil
	})
	return all.Wait, err
}

func serveOne(c *net.TCPConn, under []*transfer) {
	var which [1]byte
	if _, err := io.ReadFull(c, which[:]); err != nil || int(which[0]) >= len(under) {
		return
	}
	t := under[which[0]]
	t.server.Store(c)
	if t.Upload {
		t.take(c)
	} else {
		t.give(c)
	}
}

// give sends the data. What goes wrong shows in what arrives.
func (t *transfer) give(c *net.TCPConn) { _, _ = io.CopyN(c, zeros{}, int64(t.Size)) }

// take receives the data.
func (t *transfer) take(c *net.TCPConn) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := c.Read(buffer)
		t.arrived.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// zeros is data without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// abort closes a connection and forgets what it still has to send.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// run is the client's part.
func (t *transfer) run(ctx context.Context, ns *Namespace, which byte) (TransferResult, error) {
	result := TransferResult{Outcome: NotConnected}
	client, err := t.connect(ctx, ns)
	if client == nil {
		return result, err
	}
	var moving sync.WaitGroup
	defer moving.Wait()
	defer abort(client)
	if _, err := client.Write([]byte{which}); err != nil {
		return result, nil // reset
	}
	moving.Go(func() {
		if t.Upload {
			t.give(client)
		} else {
			t.take(client)
		}
	})
	result.Outcome, err = t.wait(ctx, client)
	result.Arrived = int(t.arrived.Load())
	sender := client
	if server := t.server.Load(); !t.Upload && server != nil {
		sender = server
	}
	if info := tcpInfo(sender); info != nil {
		result.Packet = t.packet(info)
	}
	return result, err
}

// connect opens the connection; it is nil if rules do not let it. A SYN that is not answered is repeated once.
func (t *transfer) connect(ctx context.Context, ns *Namespace) (*net.TCPConn, error) {
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1) })
	}}
	var conn net.Conn
	err := ns.Do(func() (err error) {
		conn, err = dialer.DialContext(ctx, "tcp", t.address.String())
		return err
	})
	var refused *net.OpError
	switch {
	case err == nil:
		return conn.(*net.TCPConn), nil
	case ctx.Err() == nil && errors.As(err, &refused):
		return nil, nil
	}
	return nil, fmt.Errorf("cannot connect to port %d: %w", t.Port, err)
}

// wait returns when everything has arrived, or when one of the two kernels repeats itself.
func (t *transfer) wait(ctx context.Context, client *net.TCPConn) (outcome string, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return Stalled, fmt.Errorf("%d of %d bytes arrived, and then no more for a long time: %w", t.arrived.Load(), t.Size, ctx.Err())
		case <-tick.C:
		}
		if t.arrived.Load() >= int64(t.Size) {
			return Finished, nil
		}
		for _, c := range []*net.TCPConn{client, t.server.Load()} {
			if info := tcpInfo(c); info != nil && info.Retransmits >= stallAfter {
				return Stalled, nil
			}
		}
	}
}

// tcpInfo is what the kernel knows of a connection (tcp(7)); nil if nothing.
func tcpInfo(c *net.TCPConn) *unix.TCPInfo {
	if c == nil {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var info *unix.TCPInfo
	if raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }) != nil || err != nil {
		return nil
	}
	return info
}

// hasTimestamps is TCPI_OPT_TIMESTAMPS of linux/tcp.h.
const hasTimestamps = 1

// packet is the length of a full segment's packet: the data, what the option for timestamps takes (RFC 7323, appendix A),
// and the headers.
func (t *transfer) packet(info *unix.TCPInfo) int {
	n := int(info.Snd_mss) + ipv4Header + tcpHeader
	if t.Family == IPv6 {
		n += ipv6Header - ipv4Header
	}
	if info.Options&hasTimestamps != 0 {
		n += 12
	}
	return n
}
