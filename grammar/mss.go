package grammar

import (
	"strconv"
	"strings"
)

// LinkMSS is what ParseMSS returns for the MTU of the links that a packet comes in and goes out by.
const LinkMSS = -1

// ParseMSS reads the value of tcp-mss-clamp: "" and "pmtu" are 0, which stands for the path's MTU, "link" is LinkMSS; otherwise
// bytes, MinMSS to MaxMSS, in decimal even with leading zeros. The error is an *Error with InvalidRule.
func ParseMSS(text string) (int, error) {
	switch text {
	case "", "pmtu":
		return 0, nil
	case "link":
		return LinkMSS, nil
	}
	n, isNumber := parseDigits(text)
	const wording = `tcp-mss-clamp value="%s"` // for what firewalld refuses as well
	switch {
	case text == "None":
		return 0, newError(InvalidRule, "cannot clamp to None: write value=pmtu, or leave value out")
	case !isNumber:
		return 0, newError(InvalidRule, "cannot clamp to %s: a value is pmtu or a number of bytes from %d to %d, or link for the MTU of the links%s",
			quoteForMessage(text), MinMSS, MaxMSS, didYouMean(text, []string{"pmtu", "link"})).worded(wording, text)
	case n < MinMSS:
		return 0, newError(InvalidRule, "cannot clamp to %s: the lowest value is %d bytes, which every IPv4 host takes", text, MinMSS).
			worded(wording, text)
	case n > MaxMSS:
		return 0, newError(InvalidRule, "cannot clamp to %s: the highest value is %d bytes, the most that iptables can set", text, MaxMSS)
	}
	return n, nil
}

// ParseMSSRange reads a range of sizes in bytes, such as "1361-1536", or one size; 0 to 65535, the lower one first. The
// error is an *Error with InvalidRule.
func ParseMSSRange(text string) (MSSRange, error) {
	lowText, highText, isRange := strings.Cut(text, "-")
	low, ok := parseDigits(lowText)
	high := low
	if ok && isRange {
		high, ok = parseDigits(highText)
	}
	if !ok {
		return MSSRange{}, newError(InvalidRule, "cannot use range %s: it must be LOW-HIGH in bytes, as in 1361-1536", quoteForMessage(text))
	}
	r := MSSRange{low, high}
	if err := r.check(); err != nil {
		return MSSRange{}, err
	}
	return r, nil
}

// String is the range as it stands in a rule: "1361-1536", or "1460" when both ends are the same.
func (r MSSRange) String() string {
	if r.Low == r.High {
		return strconv.Itoa(r.Low)
	}
	return strconv.Itoa(r.Low) + "-" + strconv.Itoa(r.High)
}

// check is nil when all is well.
func (r MSSRange) check() *Error {
	const highest = 65535 // the option has 16 bits: RFC 9293, 3.2
	switch {
	case r.Low > r.High:
		return newError(InvalidRule, "cannot use range %s: the lower end comes first, as in %d-%d", r, r.High, r.Low)
	case r.Low < 0 || r.High > highest:
		return newError(InvalidRule, "cannot use range %s: sizes are 0 to %d bytes", r, highest)
	}
	return nil
}

// parseDigits reads a number of ASCII digits and nothing else. One too large for an int is the largest int.
func parseDigits(text string) (int, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return int(^uint(0) >> 1), true
	}
	return n, true
}
