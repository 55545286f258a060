package ir

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// Dump writes the ruleset as text, one line a chain, rule, set or helper, for people and for comparing two rulesets.
// It holds everything that decides about packets, and each rule's origin behind a "#".
func (rs *Ruleset) Dump(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "ruleset %s", rs.Backend)
	if rs.Owner {
		b.WriteString(" owner")
	}
	if rs.Counters {
		b.WriteString(" counters")
	}
	if rs.Links {
		b.WriteString(" links")
	}
	b.WriteByte('\n')
	if rs.Flowtable != nil {
		fmt.Fprintf(&b, "flowtable %s\n", strings.Join(rs.Flowtable, " "))
	}
	for _, h := range rs.Helpers {
		fmt.Fprintf(&b, "helper %s type=%s protocol=%s\n", h.Name, h.Type, h.Protocol)
	}
	for _, s := range rs.Sets {
		kind := "set"
		if s.Sizes {
			kind = "sizes"
		}
		fmt.Fprintf(&b, "%s %s type=%s family=%s%s%s%s%s\n", kind, s.Name, s.Type, s.Family,
			option("timeout", s.Timeout), option("maxelem", s.MaxElem), option("hashsize", s.HashSize), option("sides", s.sides()))
		for _, e := range s.Elements {
			b.WriteString("\t" + e.Text)
			if e.Verdict() != nil {
				b.WriteString(" → " + dumpValue(e.Verdict()))
			}
			if e.Size() != 0 {
				b.WriteString(" → " + strconv.Itoa(e.Size()))
			}
			b.WriteByte('\n')
		}
	}
	for _, c := range rs.Chains {
		b.WriteString("chain ")
		if c.Table != "" {
			b.WriteString(c.Table + " ")
		}
		b.WriteString(c.Name)
		if c.Hook != nil {
			fmt.Fprintf(&b, " type=%s hook=%s priority=%d", c.Hook.Type, c.Hook.Hook, c.Hook.Priority)
		}
		if c.Families != Both {
			fmt.Fprintf(&b, " family=%s", c.Families)
		}
		if c.Shared {
			b.WriteString(" shared")
		}
		if c.Declared {
			b.WriteString(" declared")
		}
		b.WriteByte('\n')
		for _, r := range c.Rules {
			b.WriteByte('\t')
			b.WriteString(r.String())
			if r.Origin != nil {
				b.WriteString("  # " + r.Origin.String())
			}
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func option(name, value string) string {
	if value == "" {
		return ""
	}
	return " " + name + "=" + value
}

// String is the set of IP versions as the configuration spells them.
func (f Families) String() string {
	switch f {
	case V4:
		return "ipv4"
	case V6:
		return "ipv6"
	case Both:
		return "any"
	}
	return "none"
}

// String is where a rule comes from, for a person: the object, the file and line, and the text.
func (o *Origin) String() string {
	var parts []string
	if o.Object != "" {
		parts = append(parts, o.Object)
	}
	if o.Path != "" {
		at := o.Path
		if o.Line > 0 {
			at = fmt.Sprintf("%s:%d", o.Path, o.Line)
		}
		parts = append(parts, at)
	}
	if said := o.Said(); said != "" {
		parts = append(parts, said)
	}
	return strings.Join(parts, ": ")
}

// Said is what in the object a rule comes from: the rich rule's canonical text, or an entry; it may be empty.
func (o *Origin) Said() string {
	if o.Rule != nil {
		return o.Rule.String()
	}
	return o.Text
}

// String is the rule without its origin.
func (r *Rule) String() string {
	if r.Families != Both {
		return "family=" + r.Families.String() + " " + r.Effect()
	}
	return r.Effect()
}

// Effect is the rule's matches and actions.
func (r *Rule) Effect() string { return string(r.AppendEffect(make([]byte, 0, 128))) }

// AppendEffect appends Effect.
func (r *Rule) AppendEffect(b []byte) []byte {
	for _, m := range r.Matches {
		b = append(appendValue(b, m), ' ')
	}
	b = append(b, "→"...)
	for _, a := range r.Actions {
		b = appendValue(append(b, ' '), a)
	}
	return b
}

// appendValue is dumpValue, quick for what large rulesets are made of.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case Addr:
		b = append(b, "Addr("...)
		if v.Side == Dest {
			b = append(b, "side=dest "...)
		}
		b = v.Prefix.AppendTo(append(b, "prefix="...))
		if v.Invert {
			b = append(b, " invert=yes"...)
		}
		return append(b, ')')
	case Port:
		b = append(b, "Port("...)
		if v.Side == Dest {
			b = append(b, "side=dest "...)
		}
		b = strconv.AppendQuote(append(b, "protocol="...), v.Protocol)
		if v.Low != 0 {
			b = strconv.AppendInt(append(b, " low="...), int64(v.Low), 10)
		}
		if v.High != 0 {
			b = strconv.AppendInt(append(b, " high="...), int64(v.High), 10)
		}
		return append(b, ')')
	case NFProto:
		return append(append(append(b, "NFProto(family="...), v.Family.String()...), ')')
	case Verdict:
		return append(b, v...)
	}
	return append(b, dumpValue(v)...)
}

// sides says where the fields of a folded set are taken from; empty for one that is not folded.
func (s *Set) sides() string {
	var list []string
	for _, side := range s.Sides {
		list = append(list, dumpField(side))
	}
	return strings.Join(list, ",")
}

// dumpValue prints a match or an action as its type's name and its fields that are not zero.
func dumpValue(v any) string {
	switch v := v.(type) {
	case Verdict:
		return string(v)
	case Lookup: // the set's name stands for the set
		return dumpFields("Lookup", []string{"Side", "Set", "Invert"}, []any{v.Side, v.Set.Name, v.Invert})
	case Decide:
		return dumpFields("Decide", []string{"Map"}, []any{v.Map.Name})
	}
	rv := reflect.ValueOf(v)
	var names []string
	var values []any
	for i := range rv.NumField() {
		names = append(names, rv.Type().Field(i).Name)
		values = append(values, rv.Field(i).Interface())
	}
	return dumpFields(rv.Type().Name(), names, values)
}

func dumpFields(name string, fields []string, values []any) string {
	var b strings.Builder
	b.WriteString(name)
	sep := "("
	for i, v := range values {
		if rv := reflect.ValueOf(v); rv.IsZero() {
			continue
		}
		b.WriteString(sep + strings.ToLower(fields[i]) + "=" + dumpField(v))
		sep = " "
	}
	if sep == " " {
		b.WriteByte(')')
	}
	return b.String()
}

func dumpField(v any) string {
	switch v := v.(type) {
	case Side:
		return [...]string{"source", "dest"}[v]
	case string:
		return fmt.Sprintf("%q", v)
	case byte:
		return string(rune(v))
	case bool:
		return "yes"
	}
	return fmt.Sprint(v)
}
