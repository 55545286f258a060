package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"richwall/internal/fault"
)

// Writer is a program that has committed something to nf_tables.
type Writer struct {
	PID  int    // as the machine counts processes, which a container does not
	Name string // the first 15 bytes of the program's name
}

func (w Writer) String() string { return fmt.Sprintf("%s (pid %d)", w.Name, w.PID) }

// part is a piece of a table that a message of nf_tables can be about.
type part struct {
	family uint8 // NFPROTO_…
	table  string
	kind   partKind
	name   string // empty for the table itself
}

type partKind uint8

const (
	tablePart partKind = iota
	chainPart
	setPart
	elementPart // of the set with the name
	otherPart
	dormantPart // that the table is dormant
)

// parts are the types of events, with the attribute that has the name of what they are about (linux/netfilter/nf_tables.h).
var parts = map[uint8]struct {
	kind partKind
	name uint16
}{
	unix.NFT_MSG_NEWTABLE: {kind: tablePart}, unix.NFT_MSG_DELTABLE: {kind: tablePart},
	unix.NFT_MSG_NEWCHAIN: {chainPart, unix.NFTA_CHAIN_NAME}, unix.NFT_MSG_DELCHAIN: {chainPart, unix.NFTA_CHAIN_NAME},
	unix.NFT_MSG_NEWRULE: {chainPart, unix.NFTA_RULE_CHAIN}, unix.NFT_MSG_DELRULE: {chainPart, unix.NFTA_RULE_CHAIN},
	unix.NFT_MSG_NEWSET: {setPart, unix.NFTA_SET_NAME}, unix.NFT_MSG_DELSET: {setPart, unix.NFTA_SET_NAME},
	unix.NFT_MSG_NEWSETELEM: {elementPart, unix.NFTA_SET_ELEM_LIST_SET}, unix.NFT_MSG_DELSETELEM: {elementPart, unix.NFTA_SET_ELEM_LIST_SET},
	unix.NFT_MSG_NEWOBJ: {otherPart, unix.NFTA_OBJ_NAME}, unix.NFT_MSG_DELOBJ: {otherPart, unix.NFTA_OBJ_NAME},
	unix.NFT_MSG_NEWFLOWTABLE: {otherPart, flowtableName}, unix.NFT_MSG_DELFLOWTABLE: {otherPart, flowtableName},
}

const (
	tableName     = 1 // NFTA_TABLE_NAME, and the same of what is in tables
	flowtableName = 2 // NFTA_FLOWTABLE_NAME, which unix lacks
)

// transaction is what a commit of somebody else's was about, as far as it is watched.
type transaction struct {
	generation uint32 // that it made
	by         Writer
	port       uint32              // of the socket: a program's first one has its process's id (netlink(7))
	parts      map[part][]liveRule // with the rules that it made there
}

// touched says whether a transaction was about a chain, or about its table.
func (t transaction) touched(chain part) bool {
	for p := range t.parts {
		if p == chain || (p.kind == tablePart || p.kind == dormantPart) && p.family == chain.family && p.table == chain.table {
			return true
		}
	}
	return false
}

// news is what was heard since somebody asked last.
type news struct {
	list []transaction
	lost bool // more was told than the socket could hold
}

// monitor hears of every commit to nf_tables in a namespace. The kernel tells what a transaction changed, message by message,
// and then its generation with the program. What one socket changes is left out, so that only its generations are heard of.
type monitor struct {
	log     *slog.Logger
	conn    *netlink.Conn
	watched func(part) bool
	wake    chan struct{} // has a token when there is news
	done    chan struct{} // closed when nothing is heard any more

	mu       sync.Mutex
	seen     uint32              // the newest generation that was heard of
	advanced chan struct{}       // closed when there is a newer one, or messages were lost
	open     map[part][]liveRule // of the transaction whose end was not heard yet
	news     news
	closed   bool
	waited   time.Duration // how long reached has waited, all in all
}

// eventBuffer is room for what a program says that loads some ten thousand rules at once, in bytes.
var eventBuffer = 32 << 20

const (
	// patience is how long the kernel may take to tell of a commit that it has made.
	patience = 300 * time.Millisecond
	// maxNews is how many transactions are kept; of more than that it is only known that there were some.
	maxNews = 200
)

// newMonitor listens for what others do to tables. own is the port of the socket whose commits are not told of: 0 for none.
func newMonitor(log *slog.Logger, enter func(func() error) error, own uint32, watched func(part) bool) (*monitor, error) {
	m := &monitor{log: log, watched: watched, wake: make(chan struct{}, 1), done: make(chan struct{}), advanced: make(chan struct{}), open: map[part][]liveRule{}}
	err := enter(func() (err error) {
		m.conn, err = netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{MessageBufferSize: messageBuffer})
		return err
	})
	if err == nil {
		err = m.join(own)
	}
	if err != nil {
		if m.conn != nil {
			m.conn.Close()
		}
		return nil, fmt.Errorf("cannot listen for changes by other programs: %w", err)
	}
	go m.run()
	return m, nil
}

func (m *monitor) join(own uint32) error {
	if err := m.conn.SetReadBuffer(eventBuffer); err != nil {
		return err
	}
	if own != 0 {
		filter, err := bpf.Assemble(without(own))
		if err != nil {
			return err
		}
		if err := m.conn.SetBPF(filter); err != nil {
			return err
		}
	}
	return m.conn.JoinGroup(unix.NFNLGRP_NFTABLES)
}

// without is a filter for messages that are not of one port, and for generations of all. The kernel puts messages of one
// transaction alone together, and its generation into a piece of its own.
func without(port uint32) []bpf.Instruction {
	const typeOffset, portOffset = 4, 12 // of nlmsg_type and nlmsg_pid in struct nlmsghdr
	asRead := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, port))
	generation := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, uint16(tablesMessage(unix.NFT_MSG_NEWGEN))))
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: portOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: asRead, SkipFalse: 3},
		bpf.LoadAbsolute{Off: typeOffset, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(generation), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1<<32 - 1},
	}
}

// close ends the monitor.
func (m *monitor) close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return m.conn.Close()
}

// run hears until the socket is closed. If it fails for another reason, nothing can be relied upon any more.
func (m *monitor) run() {
	defer close(m.done)
	for {
		var err error
		if fault := fault.Guard(m.log, "listening for changes by other programs", func() { err = m.receive() }); fault != nil {
			err = fault
		}
		switch {
		case errors.Is(err, unix.ENOBUFS):
			m.lose()
		case err != nil:
			m.lose()
			m.mu.Lock()
			m.closed = true
			m.mu.Unlock()
			return
		}
	}
}

// receive hears what there is to be heard, once there is something.
func (m *monitor) receive() (err error) {
	for message, problem := range m.conn.ReceiveIter() {
		if err = problem; err == nil {
			m.hear(message)
		}
	}
	return err
}

// lose notes that some messages are missing.
func (m *monitor) lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.news.lost, m.open = true, map[part][]liveRule{}
	m.advance()
}

// advance wakes whoever waits. The lock is held.
func (m *monitor) advance() {
	close(m.advanced)
	m.advanced = make(chan struct{})
	m.wakeUp()
}

func (m *monitor) wakeUp() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *monitor) hear(message netlink.Message) {
	if message.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(message.Data) < nfgenHeader {
		return
	}
	kind := uint8(message.Header.Type)
	m.mu.Lock()
	defer m.mu.Unlock()
	if kind == unix.NFT_MSG_NEWGEN {
		m.end(message.Header.PID, message.Data)
		return
	}
	if p, ok := m.about(kind, message.Data); ok {
		made := m.open[p]
		if kind == unix.NFT_MSG_NEWRULE {
			made = append(made, ruleOf(message.Data))
		}
		m.open[p] = made
	}
}

// about is what a message is about; ok is false if that is not watched.
func (m *monitor) about(kind uint8, body []byte) (p part, ok bool) {
	known, ok := parts[kind]
	if !ok {
		return p, false
	}
	p = part{family: body[0], table: text(attribute(body, tableName)), kind: known.kind}
	switch {
	case p.kind != tablePart:
		p.name = text(attribute(body, known.name))
	case number32(attribute(body, unix.NFTA_TABLE_FLAGS))&dormant != 0:
		p.kind = dormantPart
	}
	return p, m.watched(p)
}

// end ends a transaction that the socket with a port has made. The lock is held.
func (m *monitor) end(port uint32, body []byte) {
	id, pid := attribute(body, unix.NFTA_GEN_ID), attribute(body, unix.NFTA_GEN_PROC_PID)
	if len(id) != 4 || len(pid) != 4 {
		m.news.lost = true
		m.advance()
		return
	}
	m.seen = binary.BigEndian.Uint32(id)
	if len(m.open) > 0 {
		t := transaction{generation: m.seen, port: port, parts: m.open,
			by: Writer{PID: int(binary.BigEndian.Uint32(pid)), Name: text(attribute(body, unix.NFTA_GEN_PROC_NAME))}}
		if len(m.news.list) < maxNews {
			m.news.list = append(m.news.list, t)
		} else {
			m.news.lost = true
		}
		m.open = map[part][]liveRule{}
		m.wakeUp()
	}
	close(m.advanced)
	m.advanced = make(chan struct{})
}

// reached waits until all was heard up to a generation, for as long as patience. It is false if that is not so, or not known.
func (m *monitor) reached(generation uint32) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	defer m.noteWaiting(time.Now())
	for {
		m.mu.Lock()
		lost, there, advanced := m.news.lost || m.closed, !later(generation, m.seen), m.advanced
		m.mu.Unlock()
		switch {
		case lost:
			return false
		case there:
			return true
		}
		select {
		case <-advanced:
		case <-timer.C:
			return false
		}
	}
}

// noteWaiting adds the time since a moment to what reached has waited.
func (m *monitor) noteWaiting(since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waited += time.Since(since)
}

// waitedFor is how long reached has waited, all in all.
func (m *monitor) waitedFor() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waited
}

// take is what was heard since the last call.
func (m *monitor) take() news {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.news
	n.lost = n.lost || m.closed
	m.news = news{}
	return n
}

// still says that all was heard up to a generation, and nothing that is watched in transactions behind another one.
func (m *monitor) still(since, until uint32) bool {
	if !m.reached(until) {
		return false
	}
	return len(m.between(since, until)) == 0
}

// between is what was heard of the transactions behind a generation, up to another one. It stays news.
func (m *monitor) between(since, until uint32) []transaction {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.news.list), func(t transaction) bool { return !later(t.generation, since) || later(t.generation, until) })
}

// later says whether a generation comes behind another one; they are counted with 32 bits, around and around.
func later(a, b uint32) bool { return int32(a-b) > 0 }

// text is a string as the kernel has it, without the zero byte at its end.
func text(b []byte) string { return strings.TrimRight(string(b), "\x00") }

// ended says whether nothing is heard any more.
func (m *monitor) ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}
