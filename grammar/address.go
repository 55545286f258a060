package grammar

import (
	"net"
	"net/netip"
	"strings"
)

// ParseAddress reads an address or a prefix: "192.0.2.1", "192.0.2.0/24", "192.0.2.0/255.255.255.0", "2001:db8::/32",
// "[2001:db8::1]". A single address becomes a prefix of its whole length, and bits behind the prefix are kept. With
// AnyFamily either kind is taken. The error is an *Error with InvalidAddr.
func ParseAddress(family Family, text string) (netip.Prefix, error) {
	host, mask, hasMask := strings.Cut(text, "/")
	bare := host
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		bare = host[1 : len(host)-1]
	}
	address, err := netip.ParseAddr(bare)
	switch {
	case err != nil || address.Zone() != "" || bare != host && address.Is4():
		return netip.Prefix{}, newError(InvalidAddr, "cannot use address %s: it is no %s address", quoteForMessage(text), familyName(family)).worded("%s", text)
	case family == IPv4 && !address.Is4():
		return netip.Prefix{}, newError(InvalidAddr, "cannot use address %s: it is IPv6, and the family is ipv4", quoteForMessage(text)).worded("%s", text)
	case family == IPv6 && address.Is4():
		return netip.Prefix{}, newError(InvalidAddr, "cannot use address %s: it is IPv4, and the family is ipv6", quoteForMessage(text)).worded("%s", text)
	case !hasMask:
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	bits, ok := parseInteger(mask)
	if !ok && address.Is4() {
		bits, ok = dottedMask(mask)
	}
	if !ok || bits < 0 || bits > address.BitLen() {
		return netip.Prefix{}, newError(InvalidAddr, "cannot use /%s in address %s: it must be %s",
			mask, quoteForMessage(text), maskForms(address.Is4())).worded("%s", text)
	}
	return netip.PrefixFrom(address, bits), nil
}

// dottedMask is the length of a mask such as 255.255.255.0, whose ones all stand before its zeros.
func dottedMask(text string) (bits int, ok bool) {
	mask, err := netip.ParseAddr(text)
	if err != nil || !mask.Is4() {
		return 0, false
	}
	bits, size := net.IPMask(mask.AsSlice()).Size()
	return bits, size > 0
}

func maskForms(is4 bool) string {
	if is4 {
		return "a prefix length of 0 to 32, or a mask such as 255.255.255.0 with all its ones before its zeros"
	}
	return "a prefix length of 0 to 128"
}

func familyName(family Family) string {
	switch family {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	case AnyFamily:
	}
	return "IP"
}

// ParseMAC reads an Ethernet address of six pairs of hexadecimal digits with ":" between them. The error is an *Error with
// InvalidMAC.
func ParseMAC(text string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(text) != len("00:11:22:33:44:55") || len(mac) != 6 || strings.Contains(text, "-") {
		return nil, newError(InvalidMAC, "cannot use MAC address %s: it must be six pairs of hexadecimal digits, as in 00:11:22:33:44:55",
			quoteForMessage(text)).worded("%s", text)
	}
	return mac, nil
}
