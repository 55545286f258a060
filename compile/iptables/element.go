package iptables

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"richwall/compile/ir"
)

// WriteSets prints the sets for "ipset restore". It can be loaded over sets that are there and in use. What ipset has no words for
// is an error that names where in the configuration it comes from, and nothing is printed then.
func WriteSets(w io.Writer, rs *ir.Ruleset) error {
	var errs []error
	for _, set := range rs.Sets {
		if err := CheckSet(set); err != nil {
			if set.Origin != nil {
				err = fmt.Errorf("%s: %w", set.Origin, err)
			}
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	b := bufio.NewWriter(w)
	var line []byte
	for _, set := range rs.Sets {
		fmt.Fprintf(b, "create %s %s -exist", set.Name, set.Type)
		if set.Type == portSet {
			b.WriteString(" range 0-65535")
		}
		if set.Family != ir.Both {
			fmt.Fprintf(b, " family %s", map[ir.Families]string{ir.V4: "inet", ir.V6: "inet6"}[set.Family])
		}
		for _, o := range options(set) {
			if o.value != "" {
				fmt.Fprintf(b, " %s %s", o.name, o.value)
			}
		}
		fmt.Fprintf(b, "\nflush %s\n", set.Name)
		for _, e := range set.Elements {
			line = AddElement(line[:0], set.Name, e)
			b.Write(line)
		}
	}
	return b.Flush()
}

// portSet is the type of sets that have ports alone.
const portSet = "bitmap:port"

// setTypes are the types of ipset (man ipset) that there are rules for.
var setTypes = []string{"hash:ip", "hash:ip,mark", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net", "hash:mac", "hash:net",
	"hash:net,iface", "hash:net,net", "hash:net,port", "hash:net,port,net", portSet}

type setOption struct {
	name, value string
	highest     int
}

// maxTimeout is the longest timeout of ipset, in seconds: it counts milliseconds in 32 bits (ip_set.h, IPSET_MAX_TIMEOUT).
const maxTimeout = math.MaxUint32 / 1000 >> 1

func options(set *ir.Set) []setOption {
	return []setOption{{"hashsize", set.HashSize, math.MaxUint32}, {"maxelem", set.MaxElem, math.MaxUint32}, {"timeout", set.Timeout, maxTimeout}}
}

// checkSet says why ipset cannot have a set, whatever its elements.
func checkSet(set *ir.Set) error {
	if err := ir.CheckName("the name of the set", set.Name, maxSet); err != nil {
		return err
	}
	ports := set.Type == portSet
	switch {
	case strings.HasPrefix(set.Name, "-"):
		return fmt.Errorf("the name of the set %q begins with -, which ipset reads as an option", set.Name)
	case !slices.Contains(setTypes, set.Type):
		return fmt.Errorf("cannot make set %s: ipset has no sets of type %q", set.Name, set.Type)
	case set.Verdicts:
		return fmt.Errorf("cannot make set %s: ipset has no verdict maps", set.Name)
	case set.Sizes:
		return fmt.Errorf("cannot make set %s: ipset has no maps of segment sizes", set.Name)
	case set.Family == 0 || set.Family&^ir.Both != 0 || (set.Family == ir.Both) != (ports || set.Type == "hash:mac"):
		return fmt.Errorf("cannot make set %s: one of type %s is not of IP version %s", set.Name, set.Type, set.Family)
	case set.Sides != nil && len(set.Sides) != strings.Count(set.Type, ",")+1:
		return fmt.Errorf("cannot make set %s: its type %s has other fields than the %d that are said where to take from", set.Name, set.Type, len(set.Sides))
	}
	for _, o := range options(set) {
		if o.value == "" {
			continue
		}
		n, err := strconv.ParseUint(o.value, 10, 64)
		if err != nil || n > uint64(o.highest) {
			return fmt.Errorf("cannot make set %s: %s %q is no number from 0 to %d", set.Name, o.name, o.value, o.highest)
		}
	}
	return nil
}

// CheckSet says why ipset cannot have a set with its elements.
func CheckSet(set *ir.Set) error {
	if err := checkSet(set); err != nil {
		return err
	}
	for i := range set.Elements {
		if err := checkElement(set.Elements[i].Text); err != nil {
			return fmt.Errorf("cannot put %q into set %s: %w", set.Elements[i].Text, set.Name, err)
		}
	}
	return nil
}

// checkElement says why a text is no element: elements of ipset are letters, digits and marks between them, and begin with none
// that begins an option.
func checkElement(text string) error {
	if text == "" || text[0] == '-' {
		return errors.New("an element has at least one character, and does not begin with -")
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\'' || c == '\\' {
			return fmt.Errorf("no element has the character %q", c)
		}
	}
	return nil
}

// AddElement appends the line of "ipset restore" that puts an element into a set, or renews its time if it is there. For one
// whose time has come there is none. The set must have passed CheckSet.
func AddElement(b []byte, set string, e ir.Element) []byte {
	left, ended := e.Left()
	if ended {
		return b
	}
	b = append(append(append(append(append(b, "add "...), set...), ' '), e.Text...), " -exist"...)
	if left > 0 {
		b = strconv.AppendInt(append(b, " timeout "...), int64((left+time.Second-1)/time.Second), 10)
	}
	return append(b, '\n')
}
