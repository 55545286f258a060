// Package nlattr reads the attributes of netlink messages (rtnetlink(7)), which are too many here for a library that makes objects of them.
package nlattr

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Each calls f with each attribute of a message, without its length and type. What is cut off is left out.
func Each(data []byte, f func(kind uint16, value []byte)) {
	for len(data) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(data))
		if n < unix.SizeofRtAttr || n > len(data) {
			return
		}
		f(binary.NativeEndian.Uint16(data[2:])&^uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), data[unix.SizeofRtAttr:n])
		data = data[min((n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(data)):]
	}
}
