package grammar

import "strconv"

// The functions here make nodes of parts. What is missing is left to the checks; what is no number is an error at once,
// and leaves the field at its zero.

func buildSource(b *builder, p *part) {
	b.rule.Source = &Source{
		Invert: b.invert(p), Address: p.text("address"), MAC: p.text("mac"), IPSet: p.text("ipset"),
	}
	b.source(b.rule.Source)
}

func buildDestination(b *builder, p *part) {
	b.rule.Destination = &Destination{Invert: b.invert(p), Address: p.text("address"), IPSet: p.text("ipset")}
	b.destination(b.rule.Destination)
}

func (b *builder) invert(p *part) bool { return p.get("not") != nil || b.yes(p, "invert") }

// setElement puts an element into the rule and checks it.
func (b *builder) setElement(e Element) {
	b.rule.Element = e
	b.element(e)
}

func buildService(b *builder, p *part)   { b.setElement(&Service{p.text("name")}) }
func buildPort(b *builder, p *part)      { b.setElement(&Port{p.text("port"), p.text("protocol")}) }
func buildProtocol(b *builder, p *part)  { b.setElement(&Protocol{p.text("value")}) }
func buildICMPBlock(b *builder, p *part) { b.setElement(&ICMPBlock{p.text("name")}) }
func buildICMPType(b *builder, p *part)  { b.setElement(&ICMPType{p.text("name")}) }
func buildMasquerade(b *builder, _ *part) {
	b.setElement(&Masquerade{})
}

func buildSourcePort(b *builder, p *part) {
	b.setElement(&SourcePort{p.text("port"), p.text("protocol")})
}

func buildForwardPort(b *builder, p *part) {
	b.setElement(&ForwardPort{p.text("port"), p.text("protocol"), p.text("to-port"), p.text("to-addr")})
}

func buildTCPMSSClamp(b *builder, p *part) {
	clamp := &TCPMSSClamp{Value: p.text("value"), Raise: b.yes(p, "raise")}
	if n, err := ParseMSS(clamp.Value); err == nil && n > 0 {
		clamp.Value = strconv.Itoa(n) // tools read leading zeros as octal
	}
	if w := p.get("mtu"); w != nil {
		n, ok := parseDigits(w.Value)
		if !ok || n == 0 {
			b.failAt(w, InvalidRule, "cannot clamp to MTU %s: it must be a number of bytes from %d to %d",
				quoteForMessage(w.Value), MinMTU, MaxMTU)
			n = 0
		}
		clamp.MTU = n
	}
	if w := p.get("range"); w != nil {
		r, err := ParseMSSRange(w.Value)
		b.value(inElement, "range", err)
		clamp.Range = &r
	}
	b.setElement(clamp)
}

func buildTCPMSS(b *builder, p *part) {
	w := p.get("value")
	if w == nil {
		b.add(inElement, "", InvalidRule, "cannot match tcp-mss without a value: write value=LOW-HIGH in bytes, as in value=0-500")
		b.rule.Element = &TCPMSS{}
		return
	}
	r, err := ParseMSSRange(w.Value)
	b.value(inElement, "value", err)
	b.setElement(&TCPMSS{r})
}

func buildLog(b *builder, p *part) {
	limit := b.readLimit(p)
	log := &Log{Prefix: p.text("prefix"), Level: p.text("level"), Limit: limit}
	b.rule.Log = log
	b.log(log)
}

func buildNFLog(b *builder, p *part) {
	limit := b.readLimit(p)
	nflog := &NFLog{
		Group: b.small(p, "group", InvalidNFLogGroup, maxGroup), Prefix: p.text("prefix"),
		QueueSize: b.small(p, "queue-size", InvalidNFLogQueue, maxQueue), Limit: limit,
	}
	b.rule.Log = nflog
	b.log(nflog)
}

// small reads a number that may be hexadecimal, octal or binary; 0 when it is not given or bad, which is an error.
func (b *builder) small(p *part, attr string, code Code, highest int) int {
	w := p.get(attr)
	if w == nil {
		return 0
	}
	n, ok := parseBased(w.Value)
	if !ok || n < 0 || n > highest {
		b.failAt(w, code, "cannot use %s %s: it must be a whole number from 0 to %d", attr, quoteForMessage(w.Value), highest)
		return 0
	}
	return n
}

func buildAudit(b *builder, p *part) { b.rule.Audit = &Audit{b.readLimit(p)} }

func buildAccept(b *builder, p *part) { b.rule.Action = &Accept{b.readLimit(p)} }
func buildDrop(b *builder, p *part)   { b.rule.Action = &Drop{b.readLimit(p)} }
func buildReject(b *builder, p *part) { b.rule.Action = &Reject{p.text("type"), b.readLimit(p)} }

func buildMark(b *builder, p *part) {
	limit := b.readLimit(p)
	mark := &Mark{p.text("set"), limit}
	b.rule.Action = mark
	b.action(mark)
}

// readLimit makes a part's limit; nil when there is none or it is bad, which is an error.
func (b *builder) readLimit(p *part) *Limit {
	word := p.get("limit")
	if word == nil {
		return nil
	}
	value := p.get("value")
	if value == nil {
		b.failAt(word, InvalidRule, "cannot limit without a rate: write limit value=RATE/UNIT, as in limit value=3/m").
			worded("invalid 'limit' element")
		return nil
	}
	limit, err := ParseLimit(value.Value, 0)
	b.valueAt(toPos(value.Pos), err)
	burst := p.get("burst")
	if burst == nil {
		return limit
	}
	n, ok := parseInteger(burst.Value)
	if !ok || n < 0 || n > maxBurst {
		b.failAt(burst, InvalidLimit, "cannot limit with burst %s: a burst is a whole number from 0 to %d", quoteForMessage(burst.Value), maxBurst).
			worded("%s", burst.Value)
		return nil
	}
	if limit != nil {
		limit.Burst = n
	}
	return limit
}
