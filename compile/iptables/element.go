package iptables

import (
	"strconv"
	"time"

	"richwall/compile/ir"
)

// AddElement appends the line of "ipset restore" that puts an element into a set, or renews its time if it is there. For one
// whose time has come there is none.
func AddElement(b []byte, set string, e ir.Element) []byte {
	left := time.Duration(0)
	if e.Until != nil {
		if left = time.Until(*e.Until); left <= 0 {
			return b
		}
	}
	b = append(append(append(append(append(b, "add "...), set...), ' '), e.Text...), " -exist"...)
	if left > 0 {
		b = strconv.AppendInt(append(b, " timeout "...), int64((left+time.Second-1)/time.Second), 10)
	}
	return append(b, '\n')
}
