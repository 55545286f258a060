package grammar

import (
	"cmp"
	"strings"
)

// Compare puts rules in order: negative when a comes before b, 0 when they are equal, positive when b comes first. It
// compares priority, family, source, destination, element, log, audit and action; what is absent comes before what is
// present, kinds come in the order of their keywords, and equal kinds are compared by their fields in the order of their
// declaration. Texts are compared byte by byte.
func Compare(a, b *Rule) int {
	return cmp.Or(
		cmp.Compare(a.Priority, b.Priority),
		cmp.Compare(a.Family, b.Family),
		pointers(a.Source, b.Source, compareSources),
		pointers(a.Destination, b.Destination, compareDestinations),
		compareElements(a.Element, b.Element),
		compareLogs(a.Log, b.Log),
		pointers(a.Audit, b.Audit, func(a, b *Audit) int { return compareLimits(a.Limit, b.Limit) }),
		compareActions(a.Action, b.Action),
	)
}

// Equal says whether two rules are the same: whether Compare gives 0.
func (r *Rule) Equal(other *Rule) bool { return Compare(r, other) == 0 }

// pointers puts nil first.
func pointers[T any](a, b *T, compare func(a, b *T) int) int {
	if a == nil || b == nil {
		return bools(a != nil, b != nil)
	}
	return compare(a, b)
}

// bools puts false first.
func bools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// texts compares pairs of texts until two differ.
func texts(pairs ...string) int {
	for i := 0; i < len(pairs); i += 2 {
		if c := strings.Compare(pairs[i], pairs[i+1]); c != 0 {
			return c
		}
	}
	return 0
}

func compareSources(a, b *Source) int {
	return cmp.Or(texts(a.Address, b.Address, a.MAC, b.MAC, a.IPSet, b.IPSet), bools(a.Invert, b.Invert))
}

func compareDestinations(a, b *Destination) int {
	return cmp.Or(texts(a.Address, b.Address, a.IPSet, b.IPSet), bools(a.Invert, b.Invert))
}

// keyworded is a node of which there are several kinds.
type keyworded interface {
	comparable
	Keyword() string
}

// compareKinds compares nil-ness and keywords.
func compareKinds[T keyworded](a, b T) int {
	var none T
	if a == none || b == none {
		return bools(a != none, b != none)
	}
	return strings.Compare(a.Keyword(), b.Keyword())
}

func compareElements(a, b Element) int {
	if c := compareKinds(a, b); c != 0 || a == nil {
		return c
	}
	switch a := a.(type) {
	case *Service:
		return texts(a.Name, b.(*Service).Name)
	case *Port:
		return texts(a.Port, b.(*Port).Port, a.Protocol, b.(*Port).Protocol)
	case *Protocol:
		return texts(a.Value, b.(*Protocol).Value)
	case *SourcePort:
		return texts(a.Port, b.(*SourcePort).Port, a.Protocol, b.(*SourcePort).Protocol)
	case *ICMPBlock:
		return texts(a.Name, b.(*ICMPBlock).Name)
	case *ICMPType:
		return texts(a.Name, b.(*ICMPType).Name)
	case *ForwardPort:
		b := b.(*ForwardPort)
		return texts(a.Port, b.Port, a.Protocol, b.Protocol, a.ToPort, b.ToPort, a.ToAddr, b.ToAddr)
	case *TCPMSSClamp:
		return compareClamps(a, b.(*TCPMSSClamp))
	case *TCPMSS:
		return compareRanges(&a.Value, &b.(*TCPMSS).Value)
	case *Masquerade:
	}
	return 0
}

func compareClamps(a, b *TCPMSSClamp) int {
	return cmp.Or(texts(a.Value, b.Value), cmp.Compare(a.MTU, b.MTU), pointers(a.Range, b.Range, compareRanges), bools(a.Raise, b.Raise))
}

func compareRanges(a, b *MSSRange) int {
	return cmp.Or(cmp.Compare(a.Low, b.Low), cmp.Compare(a.High, b.High))
}

func compareLogs(a, b Logging) int {
	if c := compareKinds(a, b); c != 0 || a == nil {
		return c
	}
	switch a := a.(type) {
	case *Log:
		b := b.(*Log)
		return cmp.Or(texts(a.Prefix, b.Prefix, a.Level, b.Level), compareLimits(a.Limit, b.Limit))
	case *NFLog:
		b := b.(*NFLog)
		return cmp.Or(cmp.Compare(a.Group, b.Group), texts(a.Prefix, b.Prefix), cmp.Compare(a.QueueSize, b.QueueSize),
			compareLimits(a.Limit, b.Limit))
	}
	return 0
}

func compareActions(a, b Action) int {
	if c := compareKinds(a, b); c != 0 || a == nil {
		return c
	}
	what := 0
	switch a := a.(type) {
	case *Reject:
		what = texts(a.Type, b.(*Reject).Type)
	case *Mark:
		what = texts(a.Set, b.(*Mark).Set)
	case *Accept, *Drop:
	}
	return cmp.Or(what, compareLimits(actionLimit(a), actionLimit(b)))
}

// compareLimits compares the burst first, then the rate, then the unit's letter.
func compareLimits(a, b *Limit) int {
	return pointers(a, b, func(a, b *Limit) int {
		return cmp.Or(cmp.Compare(a.Burst, b.Burst), cmp.Compare(a.Rate, b.Rate), cmp.Compare(a.Unit, b.Unit))
	})
}
