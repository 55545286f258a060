package grammar

import (
	"strconv"
	"strings"
)

// String is the rule's canonical text: parts in the order of Rule's fields, values quoted, "NOT" before what is inverted,
// defaults left out. Two rules are equal when their canonical texts are, and Parse of it is an equal rule.
func (r *Rule) String() string {
	p := &printer{}
	p.word("rule")
	if r.Priority != 0 {
		p.attr("priority", strconv.Itoa(r.Priority))
	}
	p.attr("family", string(r.Family))
	if s := r.Source; s != nil {
		p.side("source", s.Invert, "address", s.Address, "mac", s.MAC, "ipset", s.IPSet)
	}
	if d := r.Destination; d != nil {
		p.side("destination", d.Invert, "address", d.Address, "ipset", d.IPSet)
	}
	if r.Element != nil {
		p.element(r.Element)
	}
	if r.Log != nil {
		p.log(r.Log)
	}
	if r.Audit != nil {
		p.word("audit")
		p.limit(r.Audit.Limit)
	}
	if r.Action != nil {
		p.action(r.Action)
	}
	return p.b.String()
}

// printer writes words with a blank between them.
type printer struct{ b strings.Builder }

func (p *printer) word(w string) {
	if p.b.Len() > 0 {
		p.b.WriteByte(' ')
	}
	p.b.WriteString(w)
}

// attrs writes name and value pairs.
func (p *printer) attrs(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		p.attr(pairs[i], pairs[i+1])
	}
}

// attr writes an attribute, and nothing when its value is "".
func (p *printer) attr(name, value string) {
	if value == "" {
		return
	}
	p.word(name)
	p.b.WriteString(`="`)
	p.b.WriteString(escape(value))
	p.b.WriteByte('"')
}

// number writes an attribute, and nothing when it is 0.
func (p *printer) number(name string, n int) {
	if n != 0 {
		p.attr(name, strconv.Itoa(n))
	}
}

// escape puts a backslash before each double quote, and before each backslash that would otherwise be read as escaping
// what follows it.
func escape(value string) string {
	if !strings.ContainsAny(value, `"\`) {
		return value
	}
	var b strings.Builder
	for i := range len(value) {
		last := i+1 == len(value)
		if value[i] == '"' || value[i] == '\\' && (last || value[i+1] == '"' || value[i+1] == '\\') {
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

func (p *printer) side(keyword string, invert bool, pairs ...string) {
	p.word(keyword)
	if invert {
		p.word("NOT")
	}
	p.attrs(pairs...)
}

func (p *printer) element(e Element) {
	p.word(e.Keyword())
	switch e := e.(type) {
	case *Service:
		p.attrs("name", e.Name)
	case *Port:
		p.attrs("port", e.Port, "protocol", e.Protocol)
	case *Protocol:
		p.attrs("value", e.Value)
	case *SourcePort:
		p.attrs("port", e.Port, "protocol", e.Protocol)
	case *ICMPBlock:
		p.attrs("name", e.Name)
	case *ICMPType:
		p.attrs("name", e.Name)
	case *Masquerade:
	case *ForwardPort:
		p.attrs("port", e.Port, "protocol", e.Protocol, "to-port", e.ToPort, "to-addr", e.ToAddr)
	case *TCPMSSClamp:
		p.clamp(e)
	case *TCPMSS:
		p.attrs("value", e.Value.String())
	}
}

func (p *printer) clamp(t *TCPMSSClamp) {
	p.attr("value", t.Value)
	p.number("mtu", t.MTU)
	if t.Range != nil {
		p.attr("range", t.Range.String())
	}
	if t.Raise {
		p.attr("raise", "yes")
	}
}

func (p *printer) log(l Logging) {
	p.word(l.Keyword())
	switch l := l.(type) {
	case *Log:
		p.attrs("prefix", l.Prefix, "level", l.Level)
	case *NFLog:
		p.number("group", l.Group)
		p.attr("prefix", l.Prefix)
		p.number("queue-size", l.QueueSize)
	}
	p.limit(loggingLimit(l))
}

func (p *printer) action(a Action) {
	p.word(a.Keyword())
	switch a := a.(type) {
	case *Reject:
		p.attr("type", a.Type)
	case *Mark:
		p.word("set=" + a.Set)
	case *Accept, *Drop:
	}
	p.limit(actionLimit(a))
}

// elementText is an element by itself.
func elementText(e Element) string {
	p := &printer{}
	p.element(e)
	return p.b.String()
}

// actionText is an action by itself.
func actionText(a Action) string {
	p := &printer{}
	p.action(a)
	return p.b.String()
}

func (p *printer) limit(l *Limit) {
	if l == nil {
		return
	}
	p.word("limit")
	p.attr("value", l.Value())
	if l.Burst != 0 {
		p.word("burst=" + strconv.Itoa(l.Burst))
	}
}
