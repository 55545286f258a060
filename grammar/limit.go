package grammar

import (
	"fmt"
	"strings"
)

// The fastest rate that firewalld takes is 10000 packets a second, the slowest two a day: xt_limit counts in units of a
// ten thousandth of a second in 32 bits.
const (
	maxRatePerSecond = 10000
	minRatePerDay    = 2
)

// unitSeconds is how long a unit of a limit is.
var unitSeconds = map[byte]int{'s': 1, 'm': 60, 'h': 3600, 'd': 86400}

// unitNames are the spellings of the units.
var unitNames = map[string]byte{
	"s": 's', "second": 's', "m": 'm', "minute": 'm', "h": 'h', "hour": 'h', "d": 'd', "day": 'd',
}

// ParseLimit makes a Limit of a value such as "3/m" or "3/minute" and a burst in packets, 0 when there is none. The
// error is an *Error with InvalidLimit.
func ParseLimit(value string, burst int) (*Limit, error) {
	rateText, unitText, _ := strings.Cut(value, "/")
	unit, known := unitNames[strings.TrimSpace(unitText)]
	rate, isNumber := parseInteger(rateText)
	if !known || !isNumber {
		return nil, newError(InvalidLimit,
			"cannot limit to %s: a limit is RATE/UNIT, as in 3/m, with unit s, m, h, d, second, minute, hour or day", quoteForMessage(value)).
			worded("%s", value)
	}
	limit := &Limit{Rate: rate, Unit: unit, Burst: burst}
	if err := limit.check(); err != nil {
		return nil, err
	}
	return limit, nil
}

// Value is the rate and its unit, such as "3/m".
func (l *Limit) Value() string { return fmt.Sprintf("%d/%c", l.Rate, l.Unit) }

// check is nil when all is well.
func (l *Limit) check() *Error {
	seconds, known := unitSeconds[l.Unit]
	switch {
	case !known:
		return newError(InvalidLimit, "cannot limit by unit %q: it must be s, m, h or d", l.Unit).worded("%s", l.Value())
	case l.Rate < 1:
		return newError(InvalidLimit, "cannot limit to %s: the rate must be at least 1", l.Value()).worded("%s", l.Value())
	case l.Rate > maxRatePerSecond*seconds:
		return newError(InvalidLimit, "cannot limit to %s: the highest rate is %d/%c", l.Value(), maxRatePerSecond*seconds, l.Unit).
			worded("%s too fast", l.Value())
	case l.Unit == 'd' && l.Rate < minRatePerDay:
		return newError(InvalidLimit, "cannot limit to %s: the lowest rate is %d/d", l.Value(), minRatePerDay).worded("%s too slow", l.Value())
	case l.Burst < 0 || l.Burst > maxBurst:
		return newError(InvalidLimit, "cannot limit with burst %d: a burst is 0 to %d", l.Burst, maxBurst).worded("%d", l.Burst)
	}
	return nil
}
