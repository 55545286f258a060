package observe

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"maps"
	"strings"
	"testing"
)

// ngBlock is a block of pcapng.
func ngBlock(order binary.AppendByteOrder, kind uint32, body ...[]byte) []byte {
	content := join(body...)
	content = join(content, make([]byte, -len(content)&3))
	length := order.AppendUint32(nil, uint32(len(content)+12))
	return join(order.AppendUint32(nil, kind), length, content, length)
}

// ngSectionOf begins a section of pcapng of a version.
func ngSectionOf(order binary.AppendByteOrder, major, minor uint16) []byte {
	body := order.AppendUint16(order.AppendUint16(order.AppendUint32(nil, 0x1a2b3c4d), major), minor)
	return ngBlock(order, 0x0a0d0d0a, body, bytes.Repeat([]byte{0xff}, 8), []byte{0, 0, 0, 0})
}

// ngInterfaceOf describes an interface of a link type, captured up to so many bytes of each packet; 0 is all.
func ngInterfaceOf(order binary.AppendByteOrder, link uint16, longest uint32) []byte {
	return ngBlock(order, 1, order.AppendUint16(nil, link), []byte{0, 0}, order.AppendUint32(nil, longest))
}

// ngPacketOf is a packet of an interface, with options.
func ngPacketOf(order binary.AppendByteOrder, number uint32, data, options []byte) []byte {
	head := join(order.AppendUint32(nil, number), make([]byte, 8), order.AppendUint32(nil, uint32(len(data))), order.AppendUint32(nil, 1500))
	return ngBlock(order, 6, head, data, make([]byte, -len(data)&3), options)
}

// modifiedOf is a packet of modified pcap, with an extra header of a length, and the packet type in it.
func modifiedOf(extra int, kind byte, data []byte) []byte {
	head := binary.LittleEndian.AppendUint32(make([]byte, 8), uint32(len(data)))
	more := make([]byte, extra)
	more[6] = kind
	return join(binary.LittleEndian.AppendUint32(head, uint32(len(data))), more, data)
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// Each kind of file has a SYN of 1460 over IPv4 and one of 1440 over IPv6.
func TestKindsOfFiles(t *testing.T) {
	little, big := binary.LittleEndian, binary.BigEndian
	plain := captureOf(little, 101, v4, v6)
	nano, modified := bytes.Clone(plain), bytes.Clone(plain[:24])
	copy(nano, little.AppendUint32(nil, 0xa1b23c4d))
	copy(modified, little.AppendUint32(nil, 0xa1b2cd34))
	ng := func(order binary.AppendByteOrder, minor uint16) []byte {
		return join(ngSectionOf(order, 1, minor), ngInterfaceOf(order, 101, 0), ngBlock(order, 5, []byte("statistics")),
			ngPacketOf(order, 0, v4, nil), ngPacketOf(order, 0, v6, nil))
	}
	outbound := []byte{1, 0, 3, 0, 'a', 'b', 'c', 0, 2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0} // a comment, and the flags
	for name, c := range map[string]struct {
		file []byte
		sent int64
	}{
		"pcap":                          {plain, 0},
		"pcap of a big machine":         {captureOf(big, 101, v4, v6), 0},
		"pcap with nanoseconds":         {nano, 0},
		"pcap with a checksum's length": {join(plain[:23], []byte{0x40}, plain[24:]), 0},
		"modified pcap":                 {join(modified, modifiedOf(8, 0, v4), modifiedOf(8, 4, v6)), 1},
		"modified pcap of SuSE 6.3":     {join(modified, modifiedOf(12, 4, v4), modifiedOf(12, 4, v6)), 2},
		"pcapng":                        {ng(little, 0), 0},
		"pcapng of a big machine":       {ng(big, 0), 0},
		"pcapng 1.2":                    {ng(little, 2), 0},
		"pcapng in two sections":        {join(ngSectionOf(big, 1, 2), ngInterfaceOf(big, 101, 0), ngPacketOf(big, 0, v4, nil), ngSectionOf(little, 1, 0), ngInterfaceOf(little, 1, 0), ngPacketOf(little, 0, etherFrame(v6), nil)), 0},
		"pcapng with directions":        {join(ngSectionOf(little, 1, 0), ngInterfaceOf(little, 101, 0), ngPacketOf(little, 0, v4, outbound), ngPacketOf(little, 0, v6, nil)), 1},
		"pcapng, simple packets":        {join(ngSectionOf(little, 1, 0), ngInterfaceOf(little, 101, 60), ngBlock(little, 3, little.AppendUint32(nil, uint32(len(v4))), v4), ngBlock(little, 3, little.AppendUint32(nil, uint32(len(v6))), v6[:60])), 0},
		"pcapng, obsolete packets": {join(ngSectionOf(little, 1, 0), ngInterfaceOf(little, 101, 0),
			ngBlock(little, 2, []byte{0, 0, 9, 0}, make([]byte, 8), []byte{44, 0, 0, 0, 44, 0, 0, 0}, v4), ngPacketOf(little, 0, v6, nil)), 0},
		"pcap, packed":        {zipped(plain), 0},
		"pcapng, packed":      {zipped(ng(little, 0)), 0},
		"pcap, packed in two": {join(zipped(plain[:70]), zipped(plain[70:])), 0},
	} {
		counter, s, err := read(c.file)
		r := counter.Report("", s)
		truncated := int64(0)
		if name == "pcapng, simple packets" {
			truncated = 1 // the interface was captured up to 60 bytes of each packet
		}
		if err != nil || s.Packets != 2 || s.SYNs+s.Truncated != 2 || s.Truncated != truncated || s.Sent != c.sent || countsOf(r.IPv4)[1460] != 1 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if truncated == 0 && !maps.Equal(countsOf(r.IPv6), map[int]int{1440: 1}) {
			t.Errorf("%s: %v over IPv6", name, countsOf(r.IPv6))
		}
	}
}

// A file that cannot be read, or only in part, is an error that says why.
func TestFilesThatCannotBeRead(t *testing.T) {
	little := binary.LittleEndian
	start := join(ngSectionOf(little, 1, 0), ngInterfaceOf(little, 101, 0))
	plain := captureOf(little, 101, v4, v6)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"packed by zstd":                 {[]byte("\x28\xb5\x2f\xfd...."), "it is packed by zstd: unpack it first"},
		"packed twice":                   {zipped(zipped(plain)), "neither pcap nor pcapng"},
		"nothing, packed":                {zipped(nil), "shorter than the header"},
		"a packed file that is cut off":  {zipped(plain)[:60], "the file ends in the middle of"},
		"pcap 3.0":                       {join(plain[:4], []byte{3, 0, 0, 0}, plain[8:]), "it is pcap of version 3.0; richwall can read version 2"},
		"pcapng 2.0":                     {ngSectionOf(little, 2, 0), "pcapng of version 2.0; richwall can read 1.0 and 1.2"},
		"pcapng, then version 1.9":       {join(start, ngPacketOf(little, 0, v4, nil), ngSectionOf(little, 1, 9)), "cannot read packet 2: a section of the file is pcapng of version 1.9"},
		"pcapng without a byte order":    {join(start[:8], make([]byte, 20)), "has no byte order"},
		"pcapng, cut off":                {join(start, ngPacketOf(little, 0, v4, nil)[:40]), "the file ends in the middle of packet 1"},
		"pcapng, a length of 13":         {join(start, []byte{6, 0, 0, 0, 13, 0, 0, 0}), "an impossible length of 13 bytes"},
		"pcapng, a packet of 4 bytes":    {join(start, ngBlock(little, 6, make([]byte, 4))), "too short for a packet"},
		"pcapng, more than the block":    {join(start, ngBlock(little, 6, make([]byte, 12), []byte{255, 255, 255, 127}, make([]byte, 8))), "it claims to have 2147483647 bytes"},
		"pcapng, an interface of 4":      {join(start, ngBlock(little, 1, make([]byte, 4))), "description of an interface is too short"},
		"pcapng, too many interfaces":    {join(start, bytes.Repeat(ngInterfaceOf(little, 1, 0), 1<<16)), "more than 65536 interfaces"},
		"pcapng, a length of 2 thousand": {join(start, []byte{9, 0, 0, 0, 0, 8, 0, 0}), "the file ends in the middle of packet 1"},
	} {
		_, _, err := read(c.file)
		if !strings.Contains(errorText(err), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// A packet of an interface that the file does not describe is counted as not understood.
func TestUnknownInterface(t *testing.T) {
	little := binary.LittleEndian
	_, s, err := read(join(ngSectionOf(little, 1, 0), ngInterfaceOf(little, 101, 0), ngPacketOf(little, 7, v4, nil)))
	if err != nil || s.Packets != 1 || s.Unread[Unknown{Layer: "an interface that the file does not describe"}] != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}
