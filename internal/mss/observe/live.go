package observe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Listener hears the SYNs that other machines send to this one or through it. What this machine sends itself is left out.
type Listener struct{ socket int }

// receiveBuffer is the size of the socket's buffer in bytes: some 10,000 SYNs that come at once.
const receiveBuffer = 8 << 20

// Listen opens a packet socket on an interface, or on all of them if the name is empty. From here on SYNs are kept for Run.
// It needs root, or the capability CAP_NET_RAW.
func Listen(device string) (*Listener, error) {
	index := 0
	if device != "" {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %w", device, unknownDevice(err))
		}
		index = link.Index
	}
	// Without a protocol nothing comes before the filter is there.
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) {
		return nil, errors.New("cannot listen: that needs root, or the capability CAP_NET_RAW; a file that tcpdump wrote can be read without")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	l := &Listener{socket}
	if err := l.prepare(index); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	return l, nil
}

// unknownDevice names the interfaces that there are.
func unknownDevice(err error) error {
	list, listErr := net.Interfaces()
	if listErr != nil {
		return err
	}
	names := ""
	for i, link := range list {
		if i > 0 {
			names += ", "
		}
		names += link.Name
	}
	return fmt.Errorf("there is no such interface; there are %s", names)
}

func (l *Listener) prepare(index int) error {
	filter, err := assembled()
	if err != nil {
		return err
	}
	if err := unix.SetsockoptSockFprog(l.socket, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, filter); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(l.socket, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return err
	}
	if unix.SetsockoptInt(l.socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		// Without CAP_NET_ADMIN there is what net.core.rmem_max allows.
		if err := unix.SetsockoptInt(l.socket, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return err
		}
	}
	return unix.Bind(l.socket, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index})
}

// networkOrder turns a number of this machine's byte order into one of the network's, and the other way round.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// Close ends listening.
func (l *Listener) Close() { unix.Close(l.socket) }

// Run counts what comes in until the context ends, which is no error. progress, if it is not nil, is called several times
// a second.
func (l *Listener) Run(ctx context.Context, c *Counter, progress func(Stats)) (Stats, error) {
	const wait = 100 * time.Millisecond
	d := decoder{counter: c}
	for ctx.Err() == nil {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(l.socket), Events: unix.POLLIN}}, int(wait.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return d.stats, fmt.Errorf("cannot wait for packets: %w", err)
		}
		if ready > 0 {
			if err := l.drain(&d); err != nil {
				return d.stats, err
			}
		}
		if progress != nil {
			progress(d.stats)
		}
	}
	err := l.drain(&d) // what came before the end
	if stats, statsErr := unix.GetsockoptTpacketStats(l.socket, unix.SOL_PACKET, unix.PACKET_STATISTICS); statsErr == nil {
		d.stats.Lost = int64(stats.Drops)
	}
	return d.stats, err
}

// drained is how many packets are read at most before the context is asked again: more than the buffer holds.
const drained = 1 << 16

// controlSize is room for what the kernel says beside a packet, in bytes.
const controlSize = 128

// networkHeader is where the packet starts behind its link layer, as the kernel says it beside the packet. A socket that
// gets packets without the link layer (SOCK_DGRAM) would not do: below a second VLAN tag newer kernels tell the type of
// what is below that tag, and hand the tag over before it (vlan_get_protocol_dgram of net/packet/af_packet.c).
func networkHeader(control []byte) int {
	const offset, size = 14, 2 // of tp_net in struct tpacket_auxdata of linux/if_packet.h
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= offset+size {
			return int(binary.NativeEndian.Uint16(m.Data[offset:]))
		}
	}
	return 0
}

// drain reads what the socket holds.
func (l *Listener) drain(d *decoder) error {
	var buffer [captured]byte
	var control [controlSize]byte
	for range drained {
		n, size, _, from, err := unix.Recvmsg(l.socket, buffer[:], control[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENETDOWN):
			continue // the interface went down; it may come back
		case err != nil:
			return fmt.Errorf("cannot read packets: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		d.begin(false)
		d.payload(networkOrder(link.Protocol), buffer[min(networkHeader(control[:size]), n):n])
	}
	return nil
}
