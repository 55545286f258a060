package grammar

import (
	"math"
	"strings"
)

// ParseMark reads a packet mark of 32 bits, in decimal without leading zeros or after 0x, 0o or 0b, and the mask behind
// "/" if there is one: "0x10/0xff". The error is an *Error with InvalidMark.
func ParseMark(text string) (value, mask uint32, hasMask bool, err error) {
	valueText, maskText, hasMask := strings.Cut(text, "/")
	value, ok := parse32(valueText)
	if ok && hasMask {
		mask, ok = parse32(maskText)
	}
	if !ok {
		return 0, 0, false, newError(InvalidMark,
			"cannot set mark %s: it must be VALUE or VALUE/MASK, each 0 to 4294967295 or 0x0 to 0xffffffff, without leading zeros",
			quoteForMessage(text)).worded("%s", text)
	}
	return value, mask, hasMask, nil
}

func parse32(text string) (uint32, bool) {
	n, ok := parseBased(text)
	return uint32(n), ok && n >= 0 && n <= math.MaxUint32
}
