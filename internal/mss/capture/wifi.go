package capture

import "encoding/binary"

// Bits of IEEE 802.11 frames (9.2.4.1), in the two bytes of frame control as they stand in memory.
const (
	wifiKind      = 0x0c // of the first byte
	wifiData      = 0x08
	wifiNoData    = 0x40 // a data frame without data, such as one that says that a station sleeps
	wifiQoS       = 0x80
	wifiToDS      = 0x01 // of the second byte
	wifiFromDS    = 0x02
	wifiEncrypted = 0x40
	wifiOrder     = 0x80 // with QoS: four bytes of HT control follow
	wifiSeveral   = 0x80 // of QoS control: an A-MSDU, several packets in one frame
)

// Lengths in bytes.
const (
	wifiHeader    = 24
	wifiAddress   = 6 // the fourth, if there is one
	wifiQoSField  = 2
	wifiHTControl = 4
	wifiSubframe  = 14 // two addresses and a length
)

// radiotap is a frame of IEEE 802.11 below what the receiver says of it (https://www.radiotap.org).
func (d *Decoder) radiotap(data []byte) {
	if !d.has(data, 8) {
		return
	}
	length := int(binary.LittleEndian.Uint16(data[2:]))
	if length < 8 {
		d.Stats.unknown("a radiotap header of %d bytes", length)
		return
	}
	if d.has(data, length) {
		d.wifiFrame(data[length:], radiotapPads(data[:length]))
	}
}

// radiotapPads tells whether the frame's header is filled up to a multiple of four bytes.
func radiotapPads(header []byte) bool {
	const (
		hasTime, hasFlags, more = 1 << 0, 1 << 1, 1 << 31
		timeSize                = 8
		flagPadded              = 0x20
	)
	present := binary.LittleEndian.Uint32(header[4:])
	at := 8
	for word := present; word&more != 0; at += 4 {
		if at+4 > len(header) {
			return false
		}
		word = binary.LittleEndian.Uint32(header[at:])
	}
	if present&hasTime != 0 {
		at = (at+timeSize-1)&^(timeSize-1) + timeSize
	}
	return present&hasFlags != 0 && at < len(header) && header[at]&flagPadded != 0
}

// wifi is a frame of IEEE 802.11. A frame check sequence at its end does no harm: the IP packet has its own length.
func (d *Decoder) wifi(data []byte) { d.wifiFrame(data, false) }

func (d *Decoder) wifiFrame(data []byte, padded bool) {
	if !d.has(data, 2) || data[0]&wifiKind != wifiData || data[0]&wifiNoData != 0 {
		return
	}
	length, qos := wifiHeader, data[0]&wifiQoS != 0
	if data[1]&(wifiToDS|wifiFromDS) == wifiToDS|wifiFromDS {
		length += wifiAddress
	}
	several := false
	if qos {
		if !d.has(data, length+wifiQoSField) {
			return
		}
		several = data[length]&wifiSeveral != 0
		length += wifiQoSField
		if data[1]&wifiOrder != 0 {
			length += wifiHTControl
		}
	}
	if padded {
		length = (length + 3) &^ 3
	}
	switch {
	case data[1]&wifiEncrypted != 0:
		d.Stats.unknown("an 802.11 frame that is encrypted", 0)
	case !d.has(data, length), data[22]&0x0f != 0: // a later fragment
	case several:
		d.subframes(data[length:])
	default:
		d.llc(data[length:])
	}
}

// subframes are the packets of an A-MSDU, each filled up to a multiple of four bytes but the last.
func (d *Decoder) subframes(data []byte) {
	for len(data) >= wifiSubframe {
		length := int(binary.BigEndian.Uint16(data[12:]))
		if length == 0 {
			return
		}
		body := data[wifiSubframe:]
		d.depth = 0
		d.llc(body[:min(length, len(body))])
		data = data[min((wifiSubframe+length+3)&^3, len(data)):]
	}
}
