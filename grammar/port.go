package grammar

import (
	_ "embed" // the tables of names
	"strconv"
	"strings"
	"sync"
)

// Lines of "port name…", after IANA's registry of service names as Debian's /etc/services has it. The first name of a
// port is its usual one.
//
//go:embed services.txt
var servicesText string

var serviceNames = sync.OnceValue(func() *nameTable { return readNames(servicesText) })

// nameTable is a list of numbers with their names.
type nameTable struct {
	numbers map[string]int
	names   []string       // in the order of the numbers
	first   map[int]string // a number's usual name
}

func readNames(text string) *nameTable {
	t := &nameTable{numbers: map[string]int{}, first: map[int]string{}}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		number, err := strconv.Atoi(fields[0])
		if err != nil {
			panic("internal error: " + err.Error())
		}
		for _, name := range fields[1:] {
			t.numbers[name] = number
			t.names = append(t.names, name)
		}
		if t.first[number] == "" {
			t.first[number] = fields[1]
		}
	}
	return t
}

// longestRange is far more bytes than any range of names has. It bounds the time that a text of nothing but "-" can take.
const longestRange = 256

// ParsePort reads a port (0 to 65535), a name such as "http", or a range of either, such as "1024-2048"; a range may stand
// either way round. Low is at most high, and they are equal for a single port. The error is an *Error with InvalidPort.
func ParsePort(text string) (low, high int, err error) {
	if port, ok := onePort(text); ok {
		return port, port, nil
	}
	for i := range min(len(text), longestRange) {
		if text[i] != '-' {
			continue
		}
		low, okLow := onePort(text[:i])
		high, okHigh := onePort(text[i+1:])
		if okLow && okHigh {
			return min(low, high), max(low, high), nil
		}
	}
	return 0, 0, portError(text).worded("%s", text)
}

// onePort reads a number or a name.
func onePort(text string) (int, bool) {
	if n, isNumber := parseInteger(text); isNumber {
		return n, n >= 0 && n <= MaxPort
	}
	n, ok := serviceNames().numbers[text]
	return n, ok
}

// portError is what is wrong with a text that is neither a port nor a range.
func portError(text string) *Error {
	low, high, isRange := strings.Cut(text, "-")
	_, okLow := onePort(low)
	_, okHigh := onePort(high)
	switch {
	case !isRange || low == "" && okHigh || strings.Contains(high, "-"):
		return onePortError(text)
	case low == "" || high == "":
		return newError(InvalidPort, "cannot use port range %s: it needs both ends, as in 1024-65535", quoteForMessage(text))
	case okLow:
		return onePortError(high)
	case okHigh:
		return onePortError(low)
	}
	return onePortError(text)
}

func onePortError(text string) *Error {
	n, isNumber := parseInteger(text)
	switch {
	case isNumber && n < 0:
		return newError(InvalidPort, "cannot use port %s: the lowest port is 0", quoteForMessage(text))
	case isNumber:
		return newError(InvalidPort, "cannot use port %s: the highest port is %d", quoteForMessage(text), MaxPort)
	}
	return newError(InvalidPort, "cannot use port %s: it is no number, and no port has that name%s",
		quoteForMessage(text), didYouMean(text, serviceNames().names))
}
