package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Wanted is what a Listener listens to.
type Wanted struct {
	Device string // the interface; "" for all
	IP     Block  // which IP packets; the rest stays in the kernel
	Sent   bool   // what this machine sends and forwards too, as it leaves
	Merged bool   // of packets that the kernel handles as one (GRO, GSO), Decoder.Segment tells the size
}

// Listener hears the packets that come to this machine, and perhaps those that leave it.
type Listener struct {
	socket int
	Wanted
}

// receiveBuffer is the size of the socket's buffer in bytes: some 10,000 packets that come at once.
const receiveBuffer = 8 << 20

// Listen opens a packet socket. From here on packets are kept for Run. It needs root, or the capability CAP_NET_RAW.
func Listen(w Wanted) (*Listener, error) {
	index := 0
	if w.Device != "" {
		link, err := net.InterfaceByName(w.Device)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %w", w.Device, unknownDevice(err))
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
	l := &Listener{socket, w}
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
	filter, err := assembled(Filter(l.IP))
	if err != nil {
		return err
	}
	if err := unix.SetsockoptSockFprog(l.socket, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, filter); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(l.socket, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(l.socket, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return err
	}
	if l.Merged {
		if err := unix.SetsockoptInt(l.socket, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
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

// Run gives the decoder what comes until the context ends, which is no error. now and then, several times a second, whether
// anything came or not, it calls tick.
func (l *Listener) Run(ctx context.Context, d *Decoder, tick func()) error {
	const wait = 100 * time.Millisecond
	b := newBatch()
	for ctx.Err() == nil {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(l.socket), Events: unix.POLLIN}}, int(wait.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("cannot wait for packets: %w", err)
		}
		if ready > 0 {
			if err := l.drain(d, b); err != nil {
				return err
			}
		}
		if tick != nil {
			tick()
		}
	}
	err := l.drain(d, b) // what came before the end
	l.Count(d)
	return err
}

// Count notes how many packets were lost since it was asked last.
func (l *Listener) Count(d *Decoder) {
	if stats, err := unix.GetsockoptTpacketStats(l.socket, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		d.Stats.Lost += int64(stats.Drops)
	}
}

// drained is how many packets are read at most before the context is asked again: more than the buffer holds.
const drained = 1 << 16

// Lengths in bytes of what the kernel puts before a packet (struct virtio_net_hdr of linux/virtio_net.h), and of the room for
// what it says beside it.
const mergedHeader, controlSize = 10, 128

// batchSize is how many packets one call of the kernel hands over at most.
const batchSize = 64

// batch is room for as many packets, and the kernel's description of it.
type batch struct {
	heads    [batchSize]messageHead
	parts    [batchSize]unix.Iovec
	from     [batchSize]unix.RawSockaddrLinklayer
	controls [batchSize][controlSize]byte
	data     [batchSize][mergedHeader + Captured]byte
}

// messageHead is struct mmsghdr of recvmmsg(2).
type messageHead struct {
	unix.Msghdr
	length uint32
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.heads {
		b.parts[i].Base = &b.data[i][0]
		b.parts[i].SetLen(len(b.data[i]))
		b.heads[i].Iov = &b.parts[i]
		b.heads[i].SetIovlen(1)
		b.heads[i].Name = (*byte)(unsafe.Pointer(&b.from[i]))
		b.heads[i].Control = &b.controls[i][0]
	}
	return b
}

// receive fills the room, and says how many packets there are now.
func (b *batch) receive(socket int) (int, syscall.Errno) {
	for i := range b.heads {
		b.heads[i].Namelen = unix.SizeofSockaddrLinklayer
		b.heads[i].SetControllen(controlSize)
	}
	n, _, err := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(socket), uintptr(unsafe.Pointer(&b.heads[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	return int(n), err
}

// drain reads what the socket holds.
func (l *Listener) drain(d *Decoder, b *batch) error {
	for done := 0; done < drained; {
		n, err := b.receive(l.socket)
		switch err {
		case 0:
		case unix.EAGAIN:
			return nil
		case unix.EINTR:
			continue
		case unix.ENETDOWN: // the interface went down; it may come back
			continue
		case unix.EINVAL: // a merged packet that the kernel cannot describe
			if d.Stats.Packets++; l.Merged {
				d.Stats.unknown("a packet that the kernel cannot describe", 0)
				continue
			}
			return fmt.Errorf("cannot read packets: %w", err)
		default:
			return fmt.Errorf("cannot read packets: %w", err)
		}
		for i := range n {
			l.one(d, b, i)
		}
		done += n
		if n < batchSize {
			return nil
		}
	}
	return nil
}

// one gives the decoder a packet of the batch.
func (l *Listener) one(d *Decoder, b *batch, i int) {
	from := &b.from[i]
	sent := from.Pkttype == unix.PACKET_OUTGOING
	if sent && !l.Sent {
		return
	}
	h := &b.heads[i]
	data := b.data[i][:min(int(h.length), len(b.data[i]))]
	d.begin(sent)
	d.Segment = 0
	if l.Merged {
		if len(data) < mergedHeader {
			return
		}
		if data[1] != 0 { // gso_type; gso_size
			d.Segment = int(binary.NativeEndian.Uint16(data[4:]))
		}
		data = data[mergedHeader:]
	}
	says := beside(b.controls[i][:min(int(h.Controllen), controlSize)])
	d.Time, d.Interface, d.Whole = says.time, int(from.Ifindex), max(says.whole-says.network, 0)
	d.payload(networkOrder(from.Protocol), data[min(says.network, len(data)):])
}

// control is what the kernel says beside a packet.
type control struct {
	network, whole int   // where it starts behind its link layer, and how long it is with that, in bytes
	time           int64 // when it was seen, in nanoseconds since 1970
}

// beside reads what the kernel says beside a packet. A socket that gets packets without the link layer (SOCK_DGRAM) would not
// do: below a second VLAN tag newer kernels tell the type of what is below that tag, and hand the tag over before it
// (vlan_get_protocol_dgram of net/packet/af_packet.c).
func beside(messages []byte) (c control) {
	const length, offset, size = 4, 14, 20 // of tp_len and tp_net in struct tpacket_auxdata of linux/if_packet.h, and its size
	for len(messages) >= unix.CmsgLen(0) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&messages[0]))
		all := int(h.Len)
		if all < unix.CmsgLen(0) || all > len(messages) {
			break
		}
		data := messages[unix.CmsgLen(0):all]
		switch {
		case h.Level == unix.SOL_PACKET && h.Type == unix.PACKET_AUXDATA && len(data) >= size:
			c.network, c.whole = int(binary.NativeEndian.Uint16(data[offset:])), int(binary.NativeEndian.Uint32(data[length:]))
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			c.time = (*unix.Timespec)(unsafe.Pointer(&data[0])).Nano()
		}
		messages = messages[min(unix.CmsgSpace(len(data)), len(messages)):]
	}
	return c
}
