package kernel

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"richwall/compile/nft"
)

// socket is a netlink socket for nf_tables. A table that has an owner belongs to the socket it was made by, so that one must
// last as long as the daemon. Goroutines that share one take turns: commit, dump and generation wait for one another.
type socket struct {
	conn   *netlink.Conn
	mu     sync.Mutex
	seq    uint32 // of the last message that was sent
	buffer int    // bytes that the socket takes at once
	room   int    // bytes of answers that were made room for
}

const (
	receiveBuffer = 8 << 20  // bytes: room for an error message for each of some thousand rules
	messageBuffer = 64 << 10 // bytes: the kernel puts less than that into one piece
)

func openSocket(enter func(func() error) error) (*socket, error) {
	s := &socket{}
	err := enter(func() (err error) {
		s.conn, err = netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{MessageBufferSize: messageBuffer})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open a netlink socket: %w", err)
	}
	if err := s.makeRoom(nil); err != nil {
		s.conn.Close()
		return nil, err
	}
	if s.buffer, err = s.conn.WriteBuffer(); err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("cannot read the size of a netlink socket's send buffer: %w", err)
	}
	return s, nil
}

// request is a message with the next sequence number.
func (s *socket) request(kind netlink.HeaderType, flags netlink.HeaderFlags, body []byte) netlink.Message {
	s.seq++
	return netlink.Message{Header: netlink.Header{
		Type: kind, Flags: netlink.Request | flags, Sequence: s.seq, PID: s.conn.PID(),
	}, Data: body}
}

// tablesMessage is a type of message as nf_tables counts them, among all of netfilter's.
func tablesMessage(kind uint8) netlink.HeaderType {
	return unix.NFNL_SUBSYS_NFTABLES<<8 | netlink.HeaderType(kind)
}

// send sends messages in one piece. There is one copy of that in memory, which for some 100,000 entries of a set is 10 MB.
func (s *socket) send(messages []netlink.Message) error {
	size := 0
	for _, m := range messages {
		size += aligned(unix.SizeofNlMsghdr + len(m.Data))
	}
	if size > s.buffer {
		// The kernel doubles what is asked for, and counts its own overhead against it.
		if err := s.conn.SetWriteBuffer(size); err != nil {
			return fmt.Errorf("cannot send %d bytes to the kernel at once: %w", size, err)
		}
		if n, err := s.conn.WriteBuffer(); err == nil {
			s.buffer = n
		}
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	piece := marshal(messages, size)
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), piece, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	if errors.Is(failed, unix.EMSGSIZE) {
		return fmt.Errorf("cannot send %d bytes to the kernel at once: the socket takes %d, as net.core.wmem_max says", size, s.buffer)
	}
	return cmp.Or(err, failed)
}

// marshal puts messages one behind the other, each with its header (struct nlmsghdr of linux/netlink.h), into so many bytes.
func marshal(messages []netlink.Message, size int) []byte {
	b := make([]byte, 0, size)
	for _, m := range messages {
		end := len(b) + aligned(unix.SizeofNlMsghdr+len(m.Data))
		b = binary.NativeEndian.AppendUint32(b, uint32(end-len(b)))
		b = binary.NativeEndian.AppendUint16(b, uint16(m.Header.Type))
		b = binary.NativeEndian.AppendUint16(b, uint16(m.Header.Flags))
		b = binary.NativeEndian.AppendUint32(b, m.Header.Sequence)
		b = binary.NativeEndian.AppendUint32(b, m.Header.PID)
		b = append(b, m.Data...)
		b = b[:end] // what was made is zero up to its end
	}
	return b
}

// aligned is a length as messages and attributes are padded to.
func aligned(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// generation is the number of commits that there were in the namespace, by any program.
func (s *socket) generation() (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drain(func(netlink.Message, *netlink.OpError) {})
}

// drain asks for the generation and receives until the answer to that. The lock is held. The kernel answers in order, so all answers to what
// was sent before are handed to each: a message, or an error with the sequence number of what it is about.
func (s *socket) drain(each func(netlink.Message, *netlink.OpError)) (generation uint32, err error) {
	ask := func() error {
		return s.send([]netlink.Message{s.request(tablesMessage(unix.NFT_MSG_GETGEN), 0, []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0})})
	}
	if err := ask(); err != nil {
		return 0, err
	}
	for {
		messages, err := s.conn.Receive()
		var refused *netlink.OpError
		switch {
		case errors.Is(err, unix.ENOBUFS): // some answers were lost, perhaps the one that is waited for
			if err := ask(); err != nil {
				return 0, err
			}
		case errors.As(err, &refused) && refused.Sequence != 0 && refused.Sequence != s.seq:
			each(netlink.Message{}, refused)
		case err != nil:
			return 0, err
		}
		for _, m := range messages {
			if m.Header.Sequence != s.seq || m.Header.Type != tablesMessage(unix.NFT_MSG_NEWGEN) {
				each(m, nil)
				continue
			}
			id := attribute(m.Data, unix.NFTA_GEN_ID)
			if len(id) != 4 {
				return 0, errors.New("the kernel did not tell its generation")
			}
			return binary.BigEndian.Uint32(id), nil
		}
	}
}

const nfgenHeader = 4 // bytes of struct nfgenmsg, which stand before the attributes

// attribute is the value of an attribute behind a struct nfgenmsg; nil if it is not there.
func attribute(body []byte, kind uint16) (value []byte) {
	if len(body) < nfgenHeader {
		return nil
	}
	eachAttribute(body[nfgenHeader:], func(k uint16, v []byte) {
		if k == kind {
			value = v
		}
	})
	return value
}

// eachAttribute calls f with each attribute of a list, as far as that is well-formed.
func eachAttribute(list []byte, f func(kind uint16, value []byte)) {
	const (
		header   = unix.SizeofNlAttr
		typeMask = 1<<14 - 1 // without the flags (linux/netlink.h)
	)
	for len(list) >= header {
		length := int(binary.NativeEndian.Uint16(list))
		if length < header || length > len(list) {
			return
		}
		f(binary.NativeEndian.Uint16(list[2:])&typeMask, list[header:length])
		list = list[min((length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(list)):]
	}
}

// refusal is one message of a batch that the kernel refuses.
type refusal struct {
	index int // in the batch; −1 if it is about the batch as a whole
	err   error
}

// answer is what the kernel says to a batch. If anything was refused, nothing was changed.
type answer struct {
	refused []refusal        // in the order of the batch
	made    map[int]liveRule // the rules that were made with NLM_F_ECHO, and the handles of such tables, by their index in the batch
}

// errLost says that it is not known what became of a batch.
var errLost = errors.New("the kernel did not say what became of the changes")

// commit makes changes as one transaction, whatever other programs have committed before it: the kernel can bind a batch to
// a generation, but then a program that commits all the time keeps all others from it. On an error it is not known whether
// anything was changed.
func (s *socket) commit(changes []nft.Message) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transact(0, changes)
}

// commitAt is commit, of a batch that the kernel takes only while nobody has committed anything since a generation. Else it is refused with
// ERESTART (net/netfilter/nfnetlink.c).
func (s *socket) commitAt(generation uint32, changes []nft.Message) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transact(generation, changes)
}

// commitLast commits, and closes the socket before anybody else uses it.
func (s *socket) commitLast(changes []nft.Message) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.transact(0, changes)
	return a, errors.Join(err, s.conn.Close())
}

// inKernel counts the transactions that the kernel is carrying out for this process.
var inKernel atomic.Int32

// Busy tells whether the kernel is carrying out a transaction of nftables for this process, which nothing can break off: the process cannot
// even end before that.
func Busy() bool { return inKernel.Load() > 0 }

// transact is commitAt, or, with 0 for the generation, commit. The lock is held.
func (s *socket) transact(generation uint32, changes []nft.Message) (*answer, error) {
	inKernel.Add(1)
	defer inKernel.Add(-1)
	messages := s.batch(generation, changes)
	if err := s.makeRoom(changes); err != nil {
		return nil, err
	}
	first, last := messages[1].Header.Sequence, messages[len(messages)-2].Header.Sequence
	if err := s.send(messages); err != nil {
		return nil, err
	}
	a := &answer{made: map[int]liveRule{}}
	acknowledged := false
	_, err := s.drain(func(m netlink.Message, refused *netlink.OpError) {
		switch {
		case refused != nil:
			a.refused = append(a.refused, refusal{index: int(int32(refused.Sequence - first)), err: refused.Err})
		case m.Header.Type == netlink.Error && m.Header.Sequence == last:
			acknowledged = true
		case m.Header.Type == tablesMessage(unix.NFT_MSG_NEWRULE):
			a.made[int(int32(m.Header.Sequence-first))] = ruleOf(m.Data)
		case m.Header.Type == tablesMessage(unix.NFT_MSG_NEWTABLE):
			a.made[int(int32(m.Header.Sequence-first))] = liveRule{handle: number64(attribute(m.Data, tableHandle))}
		}
	})
	switch {
	case err != nil:
		return nil, err
	case len(a.refused) == 0 && !acknowledged:
		return nil, errLost
	}
	return a, nil
}

// makeRoom makes the receive buffer large enough for the rules that the kernel sends back. They wait there until all is
// done. Without the right to, the buffer stays small, and answers are lost.
func (s *socket) makeRoom(changes []nft.Message) error {
	const overhead = 3 // what the kernel counts for a byte, at most
	size := receiveBuffer
	for _, c := range changes {
		if c.Flags&unix.NLM_F_ECHO != 0 {
			size += overhead * (len(c.Body) + unix.SizeofNlMsghdr)
		}
	}
	if size <= s.room {
		return nil
	}
	s.room = size
	if err := s.conn.SetReadBuffer(size); err != nil {
		return fmt.Errorf("cannot set a netlink socket's receive buffer to %d bytes: %w", size, err)
	}
	return nil
}

// genID is the head of an attribute NFNL_BATCH_GENID with a number of 32 bits (linux/netfilter/nfnetlink.h).
var genID = binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, 8), 1)

// batch puts changes between the messages that begin and end a transaction. The last change asks for an acknowledgement:
// older kernels do not acknowledge the end. (linux/netfilter/nfnetlink.h)
func (s *socket) batch(generation uint32, changes []nft.Message) []netlink.Message {
	const begin, end = unix.NFNL_MSG_BATCH_BEGIN, unix.NFNL_MSG_BATCH_END
	mark := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	messages := make([]netlink.Message, 0, len(changes)+2)
	first := mark
	if generation != 0 {
		first = binary.BigEndian.AppendUint32(append(slices.Clone(mark), genID...), generation)
	}
	messages = append(messages, s.request(begin, 0, first))
	for i, c := range changes {
		flags := netlink.HeaderFlags(c.Flags)
		if i == len(changes)-1 {
			flags |= netlink.Acknowledge
		}
		messages = append(messages, s.request(tablesMessage(c.Type), flags, c.Body))
	}
	return append(messages, s.request(end, 0, mark))
}
