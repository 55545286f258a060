package zones

import (
	"slices"

	"richwall/grammar"
)

// rules is a list of rich rules in the order of grammar.Compare, so that one of many is found fast.
type rules[T any] struct{ slice func(*T) *[]RichRule }

func (s rules[T]) get(o *T) any {
	values := make([][]string, len(*s.slice(o)))
	for i, rule := range *s.slice(o) {
		values[i] = []string{rule.String()}
	}
	return values
}

// parse reads a rule, and the text by which messages show it.
func (s rules[T]) parse(e env, args []string) (rule RichRule, shown string, err error) {
	if err := arguments(args, 1, 1); err != nil {
		return RichRule{}, "", err
	}
	rule.Rule, err = grammar.Parse(args[0])
	if err != nil {
		return RichRule{}, "", err
	}
	if e.scope == Permanent {
		return rule, args[0], nil
	}
	return rule, rule.String(), nil
}

// find is the place of a rule or, when found is false, the place to put it.
func (s rules[T]) find(o *T, rule RichRule) (place int, found bool) {
	place, found = slices.BinarySearchFunc(*s.slice(o), rule, compareRules)
	if other := otherSpelling(rule.Rule); !found && other != nil {
		if at, ok := slices.BinarySearchFunc(*s.slice(o), RichRule{Rule: other}, compareRules); ok {
			return at, true
		}
	}
	return place, found
}

// otherSpelling is a clamp to the path MTU with the word pmtu if the rule has it without, and the other way round; nil for
// any other rule.
func otherSpelling(rule *grammar.Rule) *grammar.Rule {
	clamp, ok := rule.Element.(*grammar.TCPMSSClamp)
	if !ok || clamp.MTU != 0 || clamp.Value != "" && clamp.Value != "pmtu" {
		return nil
	}
	element, other := *clamp, *rule
	element.Value = map[string]string{"": "pmtu", "pmtu": ""}[clamp.Value]
	other.Element = &element
	return &other
}

func (s rules[T]) set(e env, o *T, value any) error {
	given, ok := value.([][]string)
	if !ok {
		return wrongType(value, "a list of rules")
	}
	var next []RichRule
	for _, args := range given {
		rule, _, err := s.parse(e, args)
		if err != nil {
			return err
		}
		next = append(next, rule)
	}
	sortRules(next)
	*s.slice(o) = slices.CompactFunc(next, func(a, b RichRule) bool { return compareRules(a, b) == 0 })
	return nil
}

func (s rules[T]) add(e env, o *T, args []string) error {
	rule, shown, err := s.parse(e, args)
	if err != nil {
		return err
	}
	i, found := s.find(o, rule)
	if found {
		return e.already(shown, 1)
	}
	if e.scope == Runtime {
		if err := e.refer(func(k *checker, r report) { k.rule(rule, r) }); err != nil {
			return err
		}
	}
	old := *s.slice(o)
	*s.slice(o) = slices.Concat(old[:i], []RichRule{rule}, old[i:])
	return nil
}

func (s rules[T]) remove(e env, o *T, args []string) error {
	rule, shown, err := s.parse(e, args)
	if err != nil {
		return err
	}
	i, found := s.find(o, rule)
	if !found {
		return e.missing(shown, 1)
	}
	*s.slice(o) = dropped(*s.slice(o), i)
	return nil
}

func (s rules[T]) has(e env, o *T, args []string) (bool, error) {
	rule, _, err := s.parse(e, args)
	if err != nil {
		return false, err
	}
	_, found := s.find(o, rule)
	return found, nil
}

func (s rules[T]) difference(old, next *T) (removed, added [][]string) {
	a, b := *s.slice(old), *s.slice(next)
	if sameSlice(a, b) {
		return nil, nil
	}
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		case a[0].Rule != b[0].Rule: // most are the very same, and need no look inside
			order = compareRules(a[0], b[0])
		}
		if order < 0 {
			removed = append(removed, []string{a[0].String()})
		}
		if order > 0 {
			added = append(added, []string{b[0].String()})
		}
		if order <= 0 {
			a = a[1:]
		}
		if order >= 0 {
			b = b[1:]
		}
	}
	return removed, added
}
