package grammar

import (
	_ "embed" // the table of names
	"sync"
)

// Lines of "number name…", after IANA's registry of protocol numbers as Debian's /etc/protocols has it.
//
//go:embed protocols.txt
var protocolsText string

var protocolNames = sync.OnceValue(func() *nameTable { return readNames(protocolsText) })

// The highest number of an IP protocol: the field of the header is 8 bits.
const maxProtocol = 255

// ParseProtocol reads an IP protocol: a number from 0 to 255, or a name in the case it is registered in ("gre" and "GRE").
// The error is an *Error with InvalidProtocol.
func ParseProtocol(text string) (number int, err error) {
	n, isNumber := parseInteger(text)
	switch {
	case isNumber && (n < 0 || n > maxProtocol):
		return 0, newError(InvalidProtocol, "cannot use protocol %s: numbers of IP protocols are 0 to %d", quoteForMessage(text), maxProtocol).worded("%s", text)
	case isNumber:
		return n, nil
	}
	if n, ok := protocolNames().numbers[text]; ok {
		return n, nil
	}
	hint := didYouMean(text, protocolNames().names)
	if text == "icmpv6" || text == "icmp6" {
		hint = ", did you mean ipv6-icmp?"
	}
	return 0, newError(InvalidProtocol, "cannot use protocol %s: it is no number, and no IP protocol has that name%s",
		quoteForMessage(text), hint).worded("%s", text)
}

// ProtocolName is the usual name of an IP protocol, such as "tcp" for 6; "" when it has none.
func ProtocolName(number int) string { return protocolNames().first[number] }
