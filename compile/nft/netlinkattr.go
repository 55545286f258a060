package nft

import "encoding/binary"

// attributes are netlink attributes, one behind the other, each filled up to a multiple of 4 bytes. Numbers are in network
// order, as nf_tables has them. (netlink.MarshalAttributes wraps lengths above 65535 without a word.)
type attributes []byte

const (
	attributeHeader = 4       // bytes: length and type
	nestedFlag      = 1 << 15 // NLA_F_NESTED
)

func (a attributes) bytes(kind uint16, value []byte) attributes {
	length := attributeHeader + len(value)
	if length > maxAttribute {
		panic("internal error: an attribute of more than 65535 bytes")
	}
	a = binary.NativeEndian.AppendUint16(a, uint16(length))
	a = binary.NativeEndian.AppendUint16(a, kind)
	a = append(a, value...)
	for len(a)%4 != 0 {
		a = append(a, 0)
	}
	return a
}

func (a attributes) nested(kind uint16, inner attributes) attributes {
	return a.bytes(kind|nestedFlag, inner)
}

// text is a string with a zero byte behind it.
func (a attributes) text(kind uint16, s string) attributes {
	return a.bytes(kind, append([]byte(s), 0))
}

func (a attributes) u8(kind uint16, v uint8) attributes { return a.bytes(kind, []byte{v}) }

func (a attributes) u16(kind uint16, v uint16) attributes {
	return a.bytes(kind, binary.BigEndian.AppendUint16(nil, v))
}

func (a attributes) u32(kind uint16, v uint32) attributes {
	return a.bytes(kind, binary.BigEndian.AppendUint32(nil, v))
}

func (a attributes) u64(kind uint16, v uint64) attributes {
	return a.bytes(kind, binary.BigEndian.AppendUint64(nil, v))
}

// open begins an attribute around those that follow, until close is told where it began.
func (a attributes) open(kind uint16) (inner attributes, at int) {
	at = len(a)
	return binary.NativeEndian.AppendUint16(append(a, 0, 0), kind|nestedFlag), at
}

func (a attributes) close(at int) {
	length := len(a) - at
	if length > maxAttribute {
		panic("internal error: an attribute of more than 65535 bytes")
	}
	binary.NativeEndian.PutUint16(a[at:], uint16(length))
}
