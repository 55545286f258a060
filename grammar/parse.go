package grammar

import (
	"fmt"
	"slices"
	"strings"
)

// Parse reads the text of a rich rule. The error is an ErrorList with everything that is wrong, each with its place; the
// first entry is the one that decides the code.
func Parse(text string) (*Rule, error) {
	tree, err := ParseTree(text)
	if err != nil {
		return nil, err
	}
	b := &builder{rule: &Rule{}}
	b.places = b.place
	b.read(tree.Words)
	if !b.vague {
		b.whole(b.rule)
	}
	if err := b.errs.first().Err(); err != nil {
		return nil, err
	}
	return b.rule, nil
}

// builder makes a Rule of words. It reads them in order, and keeps the part that is open: the one that takes attributes.
type builder struct {
	checker
	rule    *Rule
	parts   [slots]*part
	open    *part // nil between parts
	waiting *part // a limit that stands before what it limits; nil when there is none
	// vague: some words could not be understood, so the rule as a whole cannot be judged.
	vague bool
}

// part is a keyword and what follows it.
type part struct {
	word    *Word
	keyword *keyword // nil when the word is not understood: such a part takes everything
	attrs   []*Word  // pairs, and the bare words "limit" and "not", as given
	inLimit bool     // the limit is open: value and burst are its
	spoiled bool     // an attribute was not understood, so what is missing cannot be told
}

// get is the last word of a name, nil when there is none.
func (p *part) get(name string) *Word {
	for _, w := range slices.Backward(p.attrs) {
		if w.Key == name || w.Name == name {
			return w
		}
	}
	return nil
}

// text is the value of an attribute, "" when it is not given.
func (p *part) text(attr string) string {
	if w := p.get(attr); w != nil {
		return w.Value
	}
	return ""
}

// place is where a part's attribute stands, or its keyword, or the rule's first word.
func (b *builder) place(s slot, attr string) Pos {
	for _, s := range []slot{s, inRule} {
		if p := b.parts[s]; p != nil {
			if w := p.get(attr); attr != "" && w != nil {
				return toPos(w.Pos)
			}
			return toPos(p.word.Pos)
		}
	}
	return Pos{Line: 1, Column: 1}
}

// failAt adds an error about a word.
func (b *builder) failAt(w *Word, code Code, format string, args ...any) *Error {
	err := newError(code, format, args...)
	err.Pos = toPos(w.Pos)
	b.errs = append(b.errs, err)
	return err
}

// read takes all words of a rule.
func (b *builder) read(all []*Word) {
	for _, w := range all {
		if why := w.malformed(); why != "" {
			b.failAt(w, InvalidRule, "%s", why)
		}
	}
	for _, w := range b.head(all) {
		switch {
		case w.malformed() != "":
			b.spoil()
		case w.isPair():
			b.pair(w)
		default:
			b.bare(w)
		}
	}
	b.close()
	b.rejectWaiting()
}

// head takes the word "rule" and returns those behind it.
func (b *builder) head(all []*Word) []*Word {
	if len(all) == 0 {
		b.vague = true
		b.add(inRule, "", InvalidRule, `cannot read an empty rule: a rule starts with the word "rule"`).worded("empty rule")
		return nil
	}
	first := all[0]
	b.parts[inRule] = &part{word: first}
	if first.Name == "rule" {
		return all[1:]
	}
	b.vague = true
	if first.malformed() != "" {
		return all[1:]
	}
	b.failAt(first, InvalidRule, `cannot start a rule with %s: a rule starts with the word "rule"`, quoteForMessage(first.Name+first.Key))
	if slices.ContainsFunc(all, func(w *Word) bool { return w.Name == "rule" }) {
		return nil
	}
	if !first.isPair() && !slices.Contains(knownWords, first.Name) {
		return all[1:]
	}
	return all
}

// bare takes a word without a value.
func (b *builder) bare(w *Word) {
	if k := keywords[w.Name]; k != nil {
		b.close()
		b.start(w, k)
		return
	}
	switch w.Name {
	case "limit":
		b.limit(w)
	case "not", "NOT":
		b.not(w)
	case "rule":
		b.vague = true
		b.close()
		b.failAt(w, InvalidRule, "cannot start a second rule: one text is one rule")
	default:
		b.unknown(w)
	}
}

// spoil notes that an attribute of the open part, if there is one, was not understood.
func (b *builder) spoil() {
	b.vague = true
	if b.open != nil {
		b.open.spoiled = true
	}
}

// unknown takes a word that the language does not have.
func (b *builder) unknown(w *Word) {
	if slices.Contains(knownAttrs, w.Name) {
		b.failAt(w, InvalidRule, "cannot read %s without a value: write %s=VALUE", w.Name, w.Name).worded("unknown element %s", w.Name)
		b.spoil()
		return
	}
	b.vague = true
	b.failAt(w, InvalidRule, "cannot read %s: it is no word of the language%s", quoteForMessage(w.Name), didYouMean(w.Name, knownWords)).
		worded("unknown element %s", w.Name)
	b.close()
	b.open = &part{word: w}
}

// start opens a part.
func (b *builder) start(w *Word, k *keyword) {
	p := &part{word: w, keyword: k}
	if b.waiting != nil {
		switch {
		case k.limit:
			p.attrs = b.waiting.attrs
			b.waiting = nil
		case !k.once:
			b.rejectWaiting()
		}
	}
	if earlier := b.parts[k.slot]; earlier != nil {
		b.vague = true
		b.failAt(w, InvalidRule, "cannot add %s: the rule has %s already, and a rule has one %s", w.Name, earlier.word.Name, k.slot.name()).
			worded("%s", b.second(w.Name, k.slot))
		b.open = &part{word: w}
		return
	}
	b.parts[k.slot], b.open = p, p
}

// second is what firewalld says of a second part for a slot.
func (b *builder) second(word string, s slot) string {
	switch both := "There cannot be both '%s' and '%s' in one rule."; {
	case s == inLog:
		return "more than one logging element"
	case s == inElement && b.rule.Element != nil:
		return fmt.Sprintf("more than one element. "+both, word, elementText(b.rule.Element))
	case s == inAction && b.rule.Action != nil:
		return fmt.Sprintf("more than one 'action' element. "+both, word, actionText(b.rule.Action))
	}
	return fmt.Sprintf("more than one '%s' element", s.name())
}

// close ends the open part: no more attributes belong to it.
func (b *builder) close() {
	p := b.open
	b.open = nil
	if p != nil && p.keyword != nil && !p.spoiled {
		p.keyword.build(b, p)
	}
}

// limit takes the word "limit". Where no part is open that can have one, it waits for the next that can.
func (b *builder) limit(w *Word) {
	p := b.open
	if p == nil || p.keyword != nil && !p.keyword.limit {
		b.close()
		p = &part{word: w, keyword: &keyword{limit: true, build: func(*builder, *part) {}}}
		b.open, b.waiting = p, p
	}
	p.attrs = slices.DeleteFunc(p.attrs, func(a *Word) bool { return slices.Contains(limitAttrs, a.Key) || a.Name == "limit" })
	p.attrs = append(p.attrs, w)
	p.inLimit = true
}

// rejectWaiting is for a limit that nothing can take.
func (b *builder) rejectWaiting() {
	if b.waiting != nil {
		b.readLimit(b.waiting)
		b.failAt(b.waiting.word, InvalidRule, "cannot tell what this limit is for: write it behind the log, nflog, audit or action it limits")
		b.waiting = nil
	}
}

// not takes the word "not".
func (b *builder) not(w *Word) {
	p := b.open
	if p != nil && (p.keyword == nil || p.keyword.not) {
		p.attrs = append(p.attrs, &Word{Pos: w.Pos, Name: "not"})
		return
	}
	b.close()
	b.failAt(w, InvalidRule, "cannot use %s here: it follows source or destination, as in source not address=192.0.2.1", w.Name)
}

// pair takes an attribute.
func (b *builder) pair(w *Word) {
	p := b.open
	switch {
	case !slices.Contains(knownAttrs, w.Key):
		b.spoil()
		b.failAt(w, InvalidRule, "cannot read %s=: the language has no such attribute%s", w.Key, didYouMean(w.Key, b.expected())).
			worded("bad attribute '%s'", w.Key)
	case p != nil && p.takes(w.Key):
		p.attrs = append(p.attrs, w)
	default:
		b.close()
		b.ruleAttr(w, p)
	}
}

// takes says whether an attribute belongs to the part, and ends its limit when it belongs to the part but not to that.
func (p *part) takes(attr string) bool {
	switch {
	case p.keyword == nil:
		return true
	case p.inLimit && slices.Contains(limitAttrs, attr):
		return true
	case p.keyword.once && len(p.attrs) > 0:
		return false
	}
	p.inLimit = false
	return slices.Contains(p.keyword.attrs, attr)
}

// expected are the attributes that may come next: those of the open part, or all when it has none.
func (b *builder) expected() []string {
	if b.open != nil && b.open.keyword != nil && len(b.open.keyword.attrs) > 0 {
		return slices.Concat(b.open.keyword.attrs, ruleAttrs)
	}
	return knownAttrs
}

// ruleAttr takes an attribute that belongs to no part; before is the part it stands behind, nil when there is none.
func (b *builder) ruleAttr(w *Word, before *part) {
	switch w.Key {
	case "family":
		b.family(w)
	case "priority":
		b.priority(w)
	default:
		b.failAt(w, InvalidRule, "cannot use %s= here: %s", w.Key, whereAllowed(w.Key, before))
	}
	if rule := b.parts[inRule]; slices.Contains(ruleAttrs, w.Key) {
		rule.attrs = append(rule.attrs, w)
	}
}

// whereAllowed says where an attribute may stand.
func whereAllowed(attr string, before *part) string {
	if before != nil && before.keyword.once && slices.Contains(before.keyword.attrs, attr) {
		return before.word.Name + " takes one"
	}
	var owners []string
	for _, name := range knownWords {
		if k := keywords[name]; k != nil && slices.Contains(k.attrs, attr) {
			owners = append(owners, name)
		}
	}
	if slices.Contains(limitAttrs, attr) {
		owners = append(owners, "limit")
	}
	return fmt.Sprintf("it must directly follow %s", oneOf(owners))
}

func (b *builder) family(w *Word) {
	b.rule.Family = Family(w.Value)
	if known := []string{string(IPv4), string(IPv6)}; !slices.Contains(known, w.Value) {
		b.vague = true
		b.failAt(w, InvalidRule, "%s", unknownWord("family", w.Value, known)).
			worded("'family' attribute cannot have '%s' value. Use 'ipv4' or 'ipv6' instead.", w.Value)
	}
}

func (b *builder) priority(w *Word) {
	n, ok := parseInteger(w.Value)
	if !ok {
		b.vague = true
		b.failAt(w, InvalidPriority, "cannot use priority %s: it must be a whole number from %d to %d",
			quoteForMessage(w.Value), MinPriority, MaxPriority).worded("invalid 'priority' attribute value '%s'.", w.Value)
	}
	b.rule.Priority = n
}

// yes reads a switch; false when the attribute is not there or has a bad value, which is an error.
func (b *builder) yes(p *part, attr string) bool {
	w := p.get(attr)
	if w == nil {
		return false
	}
	switch strings.ToLower(w.Value) {
	case "yes", "true":
		return true
	case "no", "false":
		return false
	}
	b.failAt(w, InvalidRule, "cannot set %s to %s: it must be yes or no", attr, quoteForMessage(w.Value))
	return false
}
