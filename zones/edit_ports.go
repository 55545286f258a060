package zones

import (
	"cmp"
	"slices"
	"strings"

	"richwall/grammar"
)

// ranges are the ports of a zone or policy: numbers, of which those that overlap are one range.
type ranges[T any] struct{ slice func(*T) *[]Port }

func (s ranges[T]) get(o *T) any {
	values := make([][]string, len(*s.slice(o)))
	for i, p := range *s.slice(o) {
		values[i] = []string{p.Port, p.Protocol}
	}
	return values
}

// numbers are the ports that an object has.
func (s ranges[T]) numbers(o *T) []portRange { return numbersOf(s.get(o).([][]string)) }

// numbersOf are ports in numbers, which were checked when they came to the object that has them.
func numbersOf(rows [][]string) []portRange {
	var list []portRange
	for _, row := range rows {
		if low, high, err := grammar.ParsePort(row[0]); err == nil {
			list = append(list, portRange{low, high, row[1]})
		}
	}
	return list
}

func (s ranges[T]) parse(e env, args []string) (portRange, error) {
	if err := arguments(args, 2, 2); err != nil {
		return portRange{}, err
	}
	if args[1] == "" && e.scope == Runtime {
		return portRange{}, refuse(MissingProtocol, "missing protocol of port %s: it is tcp, udp, sctp or dccp", args[0]).worded("")
	}
	low, high, err := grammar.ParsePort(args[0])
	if err != nil {
		return portRange{}, err
	}
	return portRange{low, high, args[1]}, checkPortProtocol(args[1])
}

func (s ranges[T]) set(e env, o *T, value any) error {
	given, ok := value.([][]string)
	if !ok {
		return wrongType(value, "a list of ports and protocols")
	}
	var set portSet
	for _, args := range given {
		p, err := s.parse(e, args)
		if err != nil {
			return err
		}
		set.add(p)
	}
	*s.slice(o) = set.ports()
	return nil
}

func (s ranges[T]) add(e env, o *T, args []string) error {
	p, err := s.parse(e, args)
	if err != nil {
		return err
	}
	list, changed := mergeRange(s.numbers(o), p)
	if !changed {
		return e.already(strings.Join(args, ":"), 2)
	}
	*s.slice(o) = portList(list)
	return nil
}

// covers tells whether a range of the same protocol holds all of another one.
func (p portRange) covers(o portRange) bool {
	return p.protocol == o.protocol && p.low <= o.low && o.high <= p.high
}

// remove takes a range out of the one that holds all of it. What is left of that goes to the end.
func (s ranges[T]) remove(e env, o *T, args []string) error {
	p, err := s.parse(e, args)
	if err != nil {
		return notThere(e, args, err)
	}
	list := s.numbers(o)
	i := slices.IndexFunc(list, func(other portRange) bool { return other.covers(p) })
	if i < 0 {
		return e.missing(strings.Join(args, ":"), 2)
	}
	rest := minus(list[i], p)
	*s.slice(o) = portList(append(slices.Delete(list, i, i+1), rest...))
	return nil
}

// minus is what is left of a range without another one that it holds: none, one or two ranges.
func minus(p, without portRange) []portRange {
	var rest []portRange
	if p.low < without.low {
		rest = append(rest, portRange{p.low, without.low - 1, p.protocol})
	}
	if without.high < p.high {
		rest = append(rest, portRange{without.high + 1, p.high, p.protocol})
	}
	return rest
}

func (s ranges[T]) has(e env, o *T, args []string) (bool, error) {
	p, err := s.parse(e, args)
	if err != nil {
		if code, _ := CodeOf(err); code == grammar.InvalidProtocol {
			return false, nil
		}
		return false, unknown(e, err)
	}
	return slices.ContainsFunc(s.numbers(o), func(other portRange) bool { return other.covers(p) }), nil
}

// difference is the ports that one object has and the other has not, however they are divided into ranges.
func (s ranges[T]) difference(old, next *T) (removed, added [][]string) {
	a, b := s.numbers(old), s.numbers(next)
	return outside(a, b), outside(b, a)
}

// outside is what ranges have that others have not, in the order of the first.
func outside(list, others []portRange) [][]string {
	var result [][]string
	others = disjoint(others)
	for _, p := range list {
		add := func(low, high int) {
			if low <= high {
				result = append(result, []string{rangeText(low, high), p.protocol})
			}
		}
		i, _ := slices.BinarySearchFunc(others, p, func(o, p portRange) int {
			return cmp.Or(strings.Compare(o.protocol, p.protocol), cmp.Compare(o.high, p.low))
		})
		low := p.low
		for ; i < len(others) && others[i].protocol == p.protocol && others[i].low <= p.high; i++ {
			add(low, others[i].low-1)
			low = others[i].high + 1
		}
		add(low, p.high)
	}
	return result
}

// disjoint is ranges by protocol and number, those that overlap as one.
func disjoint(list []portRange) []portRange {
	list = slices.SortedFunc(slices.Values(list), func(a, b portRange) int {
		return cmp.Or(strings.Compare(a.protocol, b.protocol), cmp.Compare(a.low, b.low))
	})
	next := list[:0]
	for _, p := range list {
		if last := len(next) - 1; last >= 0 && next[last].protocol == p.protocol && p.low <= next[last].high {
			next[last].high = max(next[last].high, p.high)
		} else {
			next = append(next, p)
		}
	}
	return next
}

// exactPorts are the ports of a service or helper, which stay as they are written.
func exactPorts[T any](slice func(*T) *[]Port, check func(Port) error) list[T, Port] {
	return list[T, Port]{
		slice: slice, same: func(a, b Port) bool { return a == b },
		args: func(p Port) []string { return []string{p.Port, p.Protocol} },
		parse: func(_ env, _ *T, args []string) (Port, error) {
			if err := arguments(args, 2, 2); err != nil {
				return Port{}, err
			}
			p := Port{args[0], args[1]}
			return p, check(p)
		},
	}
}

// checkServicePort takes an empty port for the whole protocol.
func checkServicePort(p Port) error {
	if p.Port == "" {
		return checkPortProtocol(p.Protocol)
	}
	return CheckPort(p)
}

// forwardPorts are kept in numbers, as they are read from files.
func forwardPorts[T any](slice func(*T) *[]ForwardPort) list[T, ForwardPort] {
	return list[T, ForwardPort]{
		slice: slice, same: func(a, b ForwardPort) bool { return a == b },
		args: func(f ForwardPort) []string { return []string{f.Port, f.Protocol, f.ToPort, f.ToAddr} },
		parse: func(_ env, _ *T, args []string) (ForwardPort, error) {
			if err := arguments(args, 4, 4); err != nil {
				return ForwardPort{}, err
			}
			return parseForward(args)
		},
	}
}

// parseForward reads the four parts of a forwarding: port, protocol, to-port, to-addr.
func parseForward(args []string) (ForwardPort, error) {
	low, high, err := grammar.ParsePort(args[0])
	if err != nil {
		return ForwardPort{}, err
	}
	f := ForwardPort{Port: rangeText(low, high), Protocol: args[1], ToAddr: args[3]}
	if err := checkPortProtocol(f.Protocol); err != nil {
		return f, err
	}
	if args[2] != "" {
		if low, high, err = grammar.ParsePort(args[2]); err != nil {
			return f, err
		}
		f.ToPort = rangeText(low, high)
	}
	if f.ToAddr != "" {
		if err := CheckForwardAddr(f.ToAddr); err != nil {
			return f, err
		}
	}
	if f.ToPort == "" && f.ToAddr == "" {
		return f, refuse(InvalidForward, "cannot forward port %s: it has neither a port nor an address to go to", f.Port).
			worded("port-forwarding is missing to-port AND to-addr")
	}
	return f, nil
}
