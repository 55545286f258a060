package mss

import (
	"slices"
	"strconv"
	"strings"
)

// ParseIPTables reads what iptables-save prints, or ip6tables-save if six is set.
func ParseIPTables(text string, six bool) *Rules {
	p := iptablesParser{rules: &Rules{chains: map[string][]rule{}}, tool: "iptables", families: only4}
	if six {
		p.tool, p.families = "ip6tables", only6
	}
	for line := range strings.Lines(text) {
		p.line(strings.TrimSpace(line))
	}
	return p.rules
}

type iptablesParser struct {
	rules    *Rules
	tool     string
	families carries
	table    string
}

// iptablesPriorities are those of tables (netfilter_ipv4.h); nat decides nothing about segments that concerns the MSS.
var iptablesPriorities = map[string]int{"raw": -300, "mangle": -150, "filter": 0, "security": 50}

func (p *iptablesParser) line(line string) {
	switch {
	case strings.HasPrefix(line, "*"):
		p.table = line[1:]
	case strings.HasPrefix(line, ":"):
		name, _, _ := strings.Cut(line[1:], " ")
		priority, known := iptablesPriorities[p.table]
		if hook := strings.ToLower(name); known && name == strings.ToUpper(name) && slices.Contains(hooks, hook) {
			p.rules.bases = append(p.rules.bases, base{chain: p.key(name), hook: hook, priority: priority, families: p.families})
		}
	case strings.HasPrefix(line, "-A "):
		words := shellWords(line)
		if len(words) < 2 {
			return
		}
		key := p.key(words[1])
		if r, ok := p.parse(words[2:]); ok {
			r.text = p.tool + ": -t " + p.table + " " + line
			p.rules.chains[key] = append(p.rules.chains[key], r)
		}
	}
}

func (p *iptablesParser) key(chain string) string { return p.tool + " " + p.table + " " + chain }

// parse reads a rule; false if it does nothing but count.
func (p *iptablesParser) parse(words []string) (rule, bool) {
	var r rule
	acts := false
	for len(words) > 0 {
		not := words[0] == "!"
		if not {
			words = words[1:]
		}
		n := 1
		for n < len(words) && !strings.HasPrefix(words[n], "-") && words[n] != "!" {
			n++
		}
		if len(words) == 0 {
			break
		}
		option, values := words[0], words[1:n]
		words = words[n:]
		switch {
		case option == "-j" || option == "-g":
			acts = true
			p.act(&r, option, first(values))
		case option == "--set-mss":
			r.size, _ = strconv.Atoi(first(values))
		case option == "--notrack": // of the target CT
			r.action = untrack
		case option == "--mss":
			p.size(&r, first(values), not)
		case option == "-m" || acts && r.action == clamp: // what follows TCPMSS
		default:
			c := iptablesCondition(option, values)
			if not {
				c = inverted(c)
			}
			r.conditions = append(r.conditions, c)
		}
	}
	return r, acts
}

// size adds a condition on the MSS: a number, or a first and a last one with a colon between.
func (p *iptablesParser) size(r *rule, text string, not bool) {
	low, high, isRange := strings.Cut(text, ":")
	if !isRange {
		high = low
	}
	from, errFrom := strconv.Atoi(low)
	to, errTo := strconv.Atoi(high)
	if errFrom != nil || errTo != nil {
		r.conditions = append(r.conditions, depends)
		return
	}
	bounds := sizes{ranges: [][2]int{{from, to}}, not: not}
	r.sizes = append(r.sizes, bounds)
	p.rules.sizes = append(p.rules.sizes, bounds.edges()...)
}

// act sets what a rule does. Targets that let a segment go on, such as LOG, are chains without rules here.
func (p *iptablesParser) act(r *rule, option, target string) {
	switch target {
	case "TCPMSS":
		r.action = clamp
	case "NOTRACK":
		r.action = untrack
	case "MARK", "CONNMARK":
		p.rules.marks = true
		r.action, r.target = jump, p.key(target)
	case "ACCEPT", "DROP", "REJECT", "QUEUE", "NFQUEUE":
		r.action = end
	case "RETURN":
		r.action = back
	default:
		r.action, r.target = jump, p.key(target)
		if option == "-g" {
			r.action = descend
		}
	}
}

// iptablesCondition is a match (iptables(8), iptables-extensions(8)).
func iptablesCondition(option string, values []string) condition {
	switch option {
	case "-i":
		return named(false, values, "+")
	case "-o":
		return named(true, values, "+")
	case "-s", "-d":
		if p, ok := parsePrefix(first(values)); ok {
			return within(option == "-d", p)
		}
	case "-p":
		return protocol(values)
	case "--syn":
		return flags([]string{"FIN", "SYN", "RST", "ACK"}, []string{"SYN"}, false)
	case "--tcp-flags":
		if len(values) == 2 {
			return flags(strings.Split(values[0], ","), strings.Split(values[1], ","), false)
		}
	case "--ctstate", "--state":
		return state(strings.Split(first(values), ","))
	case "--ctdir":
		return direction(first(values) == "REPLY")
	case "--comment":
		return func(segment) answer { return yes }
	}
	return depends
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// shellWords splits a line at blanks, but not within double quotes.
func shellWords(line string) []string {
	var words []string
	var b strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				words = append(words, b.String())
			}
			b.Reset()
			begun = false
		default:
			b.WriteByte(c)
			begun = true
		}
	}
	if begun {
		words = append(words, b.String())
	}
	return words
}
