package capture

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

// Record is a packet as a capture file has it.
type Record struct {
	Link int    // https://www.tcpdump.org/linktypes.html
	Data []byte // valid until the next record is read
	Sent bool   // the file says that the machine which captured it sent it
	Time int64  // nanoseconds since 1970; 0 if the file does not say
}

// File reads a file packet after packet; behind the last is io.EOF. What breaks off in the middle of a packet ends in
// io.ErrUnexpectedEOF.
type File interface{ Next() (Record, error) }

// largest is how many bytes of a packet are looked at: the most that tcpdump captures (MAXIMUM_SNAPLEN of its
// netdissect.h). A file that says it has more is believed only if its header does too, and the rest is passed over.
const largest = 262144

// First bytes of files that others have packed. What gzip packed is unpacked here.
var packers = map[string]string{"\x28\xb5\x2f\xfd": "zstd", "\xfd7zX": "xz", "BZh": "bzip2", "\x04\x22\x4d\x18": "lz4", "PK\x03\x04": "zip"}

const gzipMagic = "\x1f\x8b" // RFC 1952, 2.3.1

// Open recognizes a file by its first bytes.
func Open(r *bufio.Reader) (File, error) {
	if start, _ := r.Peek(len(gzipMagic)); string(start) == gzipMagic {
		unpacked, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("cannot unpack it: %w", err)
		}
		r = bufio.NewReaderSize(unpacked, Buffered)
	}
	start, err := r.Peek(4)
	if err != nil {
		if !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, errors.New("it is no capture: it is shorter than the header of one")
	}
	for magic, name := range packers {
		if string(start[:len(magic)]) == magic {
			return nil, fmt.Errorf("it is packed by %s: unpack it first, and pipe it to --read -", name)
		}
	}
	if binary.BigEndian.Uint32(start) == ngSection {
		return &nextGeneration{r: r}, nil
	}
	return openClassic(r)
}

// Buffered is how many bytes are read at once. It is more than two records of a usual capture.
const Buffered = 1 << 16

// Magic numbers of pcap (draft-ietf-opsawg-pcap, 4), and that of Alexey Kuznetsov's modified one, whose records have a
// longer header (libpcap's sf-pcap.c).
const (
	pcapMicroseconds = 0xa1b2c3d4
	pcapNanoseconds  = 0xa1b23c4d
	pcapModified     = 0xa1b2cd34
)

// Lengths in pcap, in bytes.
const (
	pcapHeader       = 24
	pcapRecord       = 16
	modifiedExtra    = 8  // interface, protocol, packet type and a byte of padding
	modifiedSS990915 = 12 // the same with two more numbers, as SuSE 6.3 had it
)

// classic is a pcap file.
type classic struct {
	r       *bufio.Reader
	order   binary.ByteOrder
	link    int
	longest uint32 // that a record may be, in bytes
	extra   int    // bytes of a record's header behind the usual
	unit    int64  // of the fractions of a second, in nanoseconds
	head    [pcapRecord + modifiedSS990915]byte
	data    []byte
}

func openClassic(r *bufio.Reader) (*classic, error) {
	var header [pcapHeader]byte
	start, _ := r.Peek(4)
	c := &classic{r: r, order: binary.LittleEndian, unit: 1000}
	if start[0] == byte(pcapMicroseconds>>24) {
		c.order = binary.BigEndian
	}
	magic := c.order.Uint32(start)
	if magic != pcapMicroseconds && magic != pcapNanoseconds && magic != pcapModified {
		return nil, errors.New("it is neither pcap nor pcapng")
	}
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, errors.New("the file ends in the middle of its header")
	}
	if major := c.order.Uint16(header[4:]); major != 2 {
		return nil, fmt.Errorf("it is pcap of version %d.%d; richwall can read version 2", major, c.order.Uint16(header[6:]))
	}
	c.longest = max(largest, c.order.Uint32(header[16:]))
	c.link = int(c.order.Uint32(header[20:])) & 0xffff // above it is the length of a frame check sequence
	if magic == pcapNanoseconds {
		c.unit = 1
	}
	if magic == pcapModified {
		c.extra = c.modified()
	}
	return c, nil
}

// modified tells which of the two longer headers the records have: the one that another record, or the file's end, stands
// behind the first.
func (c *classic) modified() int {
	for _, extra := range []int{modifiedExtra, modifiedSS990915} {
		first, err := c.r.Peek(pcapRecord)
		if err != nil {
			break
		}
		length := c.order.Uint32(first[8:])
		if length > Buffered-3*pcapRecord-modifiedSS990915 {
			break // farther than can be looked ahead
		}
		end := pcapRecord + extra + int(length)
		ahead, _ := c.r.Peek(end + pcapRecord)
		if len(ahead) == end {
			return extra
		}
		if len(ahead) < end+pcapRecord {
			continue
		}
		captured, whole := c.order.Uint32(ahead[end+8:]), c.order.Uint32(ahead[end+12:])
		if captured > 0 && captured <= whole && captured <= c.longest {
			return extra
		}
	}
	return modifiedExtra
}

func (c *classic) Next() (Record, error) {
	head := c.head[:pcapRecord+c.extra]
	if _, err := io.ReadFull(c.r, head); err != nil {
		return Record{}, err
	}
	n := c.order.Uint32(head[8:])
	if n > c.longest {
		return Record{}, fmt.Errorf("it claims to have %d bytes, and none has more than %d", n, c.longest)
	}
	var err error
	c.data, err = readPart(c.r, c.data, int64(n))
	sent := c.extra > 0 && head[pcapRecord+6] == packetOutgoing
	at := int64(c.order.Uint32(head))*nanoseconds + int64(c.order.Uint32(head[4:]))*c.unit
	return Record{c.link, c.data, sent, at}, err
}

// readPart reads n bytes, of which it keeps at most the largest number that is looked at. It takes a buffer, and returns
// it with the bytes.
func readPart(r *bufio.Reader, buffer []byte, n int64) ([]byte, error) {
	keep := int(min(n, largest))
	if cap(buffer) < keep {
		buffer = make([]byte, keep)
	}
	buffer = buffer[:keep]
	if _, err := io.ReadFull(r, buffer); err != nil {
		return nil, cutShort(err)
	}
	return buffer, passOver(r, n-int64(keep))
}

func passOver(r *bufio.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, r, n)
	return cutShort(err)
}

// cutShort is the error for an end where there should be none.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Block types of pcapng (draft-ietf-opsawg-pcapng, 4), and what is in them.
const (
	ngSection         = 0x0a0d0d0a // the same in either byte order
	ngInterface       = 1
	ngObsoletePacket  = 2
	ngSimplePacket    = 3
	ngPacket          = 6
	ngByteOrder       = 0x1a2b3c4d
	ngFrame           = 12 // bytes of a block beside its body: its type, and its length at both ends
	ngPacketHead      = 20 // bytes of a packet's body before its data
	ngFlags           = 2  // the option that tells the direction
	ngOutbound        = 2  // in the two lowest bits of the flags
	ngClock           = 9  // the option of an interface that tells how fine its time is
	ngLongestOptions  = 1 << 14
	ngMostInterfaces  = 1 << 16
	ngFixedOfSection  = 8 // bytes of its body before the section's length: byte order and version
	ngSimpleHead      = 4
	ngDescriptionHead = 8
)

const (
	nanoseconds  = 1_000_000_000 // in a second
	microseconds = 6             // how fine the time is if nothing says it: a negative power of ten
	binaryClock  = 0x80          // the bit that says that the power is one of two
)

// nextGeneration is a pcapng file.
type nextGeneration struct {
	r          *bufio.Reader
	order      binary.ByteOrder
	interfaces []described // of this section, by number
	head       [ngPacketHead]byte
	data       []byte
	options    []byte
}

// described is what a file says of an interface.
type described struct {
	link    int
	longest int64 // bytes captured of each packet; 0 is no limit
	clock   uint8 // how fine its time is: the negative power of ten of a second, or with the highest bit of two
}

// noInterface is the link type of a packet whose interface was not described.
const noInterface = -1

func (n *nextGeneration) Next() (Record, error) {
	for {
		kind, body, err := n.block()
		if err != nil {
			return Record{}, err
		}
		var packet *Record
		left := body
		switch kind {
		case ngInterface:
			left, err = n.describe(body)
		case ngPacket, ngObsoletePacket:
			packet, left, err = n.packet(kind, body)
		case ngSimplePacket:
			packet, left, err = n.simple(body)
		}
		if err == nil {
			err = n.end(left)
		}
		if err != nil {
			return Record{}, cutShort(err)
		}
		if packet != nil {
			return *packet, nil
		}
	}
}

// block reads the start of a block, and all that matters of a section's header. It returns the type, and how many bytes
// of the body are to come.
func (n *nextGeneration) block() (kind uint32, body int64, err error) {
	head := n.head[:8]
	if _, err := io.ReadFull(n.r, head); err != nil {
		return 0, 0, err
	}
	section := binary.BigEndian.Uint32(head) == ngSection
	read := 0
	if section {
		if err := n.section(); err != nil {
			return 0, 0, cutShort(err)
		}
		read = ngFixedOfSection
	}
	kind = n.order.Uint32(head)
	length := int64(n.order.Uint32(head[4:]))
	if length < ngFrame+int64(read) || length%4 != 0 {
		return 0, 0, fmt.Errorf("a block has an impossible length of %d bytes", length)
	}
	// What is behind the first bytes of a section's header is options, which nothing here asks for.
	return kind, length - ngFrame - int64(read), nil
}

// section reads the first bytes of a section's header: the byte order, and the version. 1.2 is what some wrote for 1.0
// (draft-ietf-opsawg-pcapng, 4.1).
func (n *nextGeneration) section() error {
	var fixed [ngFixedOfSection]byte
	if _, err := io.ReadFull(n.r, fixed[:]); err != nil {
		return err
	}
	n.order = binary.LittleEndian
	if binary.BigEndian.Uint32(fixed[:]) == ngByteOrder {
		n.order = binary.BigEndian
	} else if binary.LittleEndian.Uint32(fixed[:]) != ngByteOrder {
		return errors.New("a section of the file has no byte order")
	}
	major, minor := n.order.Uint16(fixed[4:]), n.order.Uint16(fixed[6:])
	if major != 1 || minor != 0 && minor != 2 {
		return fmt.Errorf("a section of the file is pcapng of version %d.%d; richwall can read 1.0 and 1.2", major, minor)
	}
	n.interfaces = n.interfaces[:0]
	return nil
}

// describe notes the next interface. It returns how much of the body is left, as do the others that read bodies.
func (n *nextGeneration) describe(body int64) (int64, error) {
	head := n.head[:ngDescriptionHead]
	if body < ngDescriptionHead {
		return 0, errors.New("the description of an interface is too short")
	}
	if len(n.interfaces) == ngMostInterfaces {
		return 0, fmt.Errorf("the file describes more than %d interfaces", ngMostInterfaces)
	}
	if _, err := io.ReadFull(n.r, head); err != nil {
		return 0, err
	}
	one := described{int(n.order.Uint16(head)), int64(n.order.Uint32(head[4:])), microseconds}
	left := body - ngDescriptionHead
	if left > 0 && left <= ngLongestOptions {
		var err error
		if n.options, err = readPart(n.r, n.options, left); err != nil {
			return 0, err
		}
		if value := n.option(n.options, ngClock); len(value) == 1 {
			one.clock = value[0]
		}
		left = 0
	}
	n.interfaces = append(n.interfaces, one)
	return left, nil
}

// time is a packet's time in nanoseconds since 1970, of so many units of its interface's clock; 0 if it does not fit.
func (n *nextGeneration) time(number uint32, units uint64) int64 {
	if uint64(number) >= uint64(len(n.interfaces)) {
		return 0
	}
	clock := n.interfaces[number].clock
	power := uint(clock &^ binaryClock)
	second := uint64(1)
	switch {
	case clock&binaryClock != 0 && power < 64:
		second = 1 << power
	case clock&binaryClock == 0 && power < 20:
		for range power {
			second *= 10
		}
	default:
		return 0
	}
	high, low := bits.Mul64(units%second, nanoseconds)
	fraction, _ := bits.Div64(high, low, second)
	if units/second > math.MaxInt64/nanoseconds-1 {
		return 0
	}
	return int64(units/second)*nanoseconds + int64(fraction)
}

func (n *nextGeneration) packet(kind uint32, body int64) (*Record, int64, error) {
	if body < ngPacketHead {
		return nil, 0, errors.New("a block is too short for a packet")
	}
	if _, err := io.ReadFull(n.r, n.head[:]); err != nil {
		return nil, 0, err
	}
	number := n.order.Uint32(n.head[:])
	if kind == ngObsoletePacket {
		number = uint32(n.order.Uint16(n.head[:])) // behind it is how many were dropped
	}
	length := int64(n.order.Uint32(n.head[12:]))
	padded := (length + 3) &^ 3
	left := body - ngPacketHead - padded
	if left < 0 {
		return nil, 0, fmt.Errorf("it claims to have %d bytes, and its block has %d", length, body)
	}
	p := &Record{Link: n.link(number), Time: n.time(number, uint64(n.order.Uint32(n.head[4:]))<<32|uint64(n.order.Uint32(n.head[8:])))}
	var err error
	if n.data, err = readPart(n.r, n.data, length); err != nil {
		return nil, 0, err
	}
	p.Data = n.data
	if err := passOver(n.r, padded-length); err != nil {
		return nil, 0, err
	}
	if left == 0 || left > ngLongestOptions {
		return p, left, nil
	}
	if n.options, err = readPart(n.r, n.options, left); err != nil {
		return nil, 0, err
	}
	p.Sent = n.outbound(n.options)
	return p, 0, nil
}

func (n *nextGeneration) simple(body int64) (*Record, int64, error) {
	head := n.head[:ngSimpleHead]
	if body < ngSimpleHead {
		return nil, 0, errors.New("a block is too short for a packet")
	}
	if _, err := io.ReadFull(n.r, head); err != nil {
		return nil, 0, err
	}
	length := min(int64(n.order.Uint32(head)), body-ngSimpleHead)
	if len(n.interfaces) > 0 && n.interfaces[0].longest > 0 {
		length = min(length, n.interfaces[0].longest)
	}
	var err error
	n.data, err = readPart(n.r, n.data, length)
	return &Record{Link: n.link(0), Data: n.data}, body - ngSimpleHead - length, err
}

func (n *nextGeneration) link(number uint32) int {
	if uint64(number) >= uint64(len(n.interfaces)) {
		return noInterface
	}
	return n.interfaces[number].link
}

// outbound looks for the direction among a packet's options.
func (n *nextGeneration) outbound(options []byte) bool {
	value := n.option(options, ngFlags)
	return len(value) == 4 && n.order.Uint32(value)&3 == ngOutbound
}

// option is the value of an option, nil if it is not there.
func (n *nextGeneration) option(options []byte, code uint16) []byte {
	for len(options) >= 4 {
		has, length := n.order.Uint16(options), int(n.order.Uint16(options[2:]))
		if options = options[4:]; has == 0 || length > len(options) {
			return nil
		}
		if has == code {
			return options[:length]
		}
		options = options[min((length+3)&^3, len(options)):]
	}
	return nil
}

// end passes over what is left of a block's body, and reads the length that stands behind it.
func (n *nextGeneration) end(left int64) error {
	if err := passOver(n.r, left); err != nil {
		return err
	}
	_, err := io.ReadFull(n.r, n.head[:4])
	return err
}
