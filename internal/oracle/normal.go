package main

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// spelling is a deviation in the way of saying something: both sides are told in one way, and everything else has to be equal.
// what is a regular expression of the names of things of a state, or of the texts of steps.
type spelling struct {
	what   string
	same   func([]string) []string
	reason string
}

var spellings = []spelling{
	{"^file services/", modulesOnce, "modules of a service are written by the names of helpers"},
	{"^file (services|icmptypes)/", anew(`<destination (ipv6="[^"]*") (ipv4="[^"]*")/>`, func(m []string) string { return "<destination " + m[2] + " " + m[1] + "/>" }),
		"the attributes of an element have no order"},
	{"^file ", anew(`\b((?:to-)?port)="([^"]+)"`, func(m []string) string { return m[1] + `="` + portRange(m[2]) + `"` }),
		"a port is written as a number, without blanks around it, and a range from its lower end"},
	{"^bus |^dbus |^sh gdbus ", anew(`"2000-1000"`, func([]string) string { return `"1000-2000"` }), "a range that is given backwards is written from its lower end"},
	{"^file (zones|policies)/", joinedPorts, "ports that overlap are one range at once"},
	{"^nft chain mangle_", anew(`meta mark set meta mark & 0x[0-9a-f]+ \^ 0x`, func([]string) string { return "meta mark set meta mark & MASK ^ 0x" }),
		"a mark keeps the bits that are not in the mask of the rule"},
	{"^nft chain nat_PRE|^ip6?tables-save nat", anew(`(dnat (?:ip6? )?to \S+|--to-destination \S+|redirect)(?: to )?:0$`, func(m []string) string { return m[1] }),
		"a forward port to port 0 leaves the port as it is"},
	{"^dbus |^sh gdbus ", anew(`^(/org/fedoraproject/FirewallD1/config/\w+)/\d+$`, func(m []string) string { return m[1] }),
		"the number of a path is the daemon's to choose"},
	{"--query-forward-port|--forward-port=", anew(`\b(toport|toaddr)=None|:None to`, func(m []string) string {
		if m[1] == "" {
			return ": to"
		}
		return m[1] + "="
	}), "an empty port is shown as None"},
}

var moduleElement = regexp.MustCompile(`^ *<module name="([^"]*)"/>$`)

// modulesOnce are the lines of a service with the names of its modules as those of helpers, each once.
func modulesOnce(lines []string) (out []string) {
	had := map[string]bool{}
	for _, line := range lines {
		if m := moduleElement.FindStringSubmatch(line); m != nil {
			line = `  <module name="` + strings.ReplaceAll(strings.TrimPrefix(m[1], "nf_conntrack_"), "_", "-") + `"/>`
			if had[line] {
				continue
			}
			had[line] = true
		}
		out = append(out, line)
	}
	return out
}

// anew is a function that writes every match of a regular expression in lines anew; it gets the match and its groups.
func anew(pattern string, write func([]string) string) func([]string) []string {
	expression := regexp.MustCompile("(?m)" + pattern)
	return func(lines []string) []string {
		out := make([]string, len(lines))
		for i, line := range lines {
			out[i] = expression.ReplaceAllStringFunc(line, func(match string) string { return write(expression.FindStringSubmatch(match)) })
		}
		return out
	}
}

// ports are the names of ports that the sessions have.
var ports = map[string]int{"http": 80, "ssh": 22}

// ends are the ends of a range of ports, from the lower to the upper one; ok is false for what is no range.
func ends(text string) (low, high int, ok bool) {
	number := func(text string) int {
		text = strings.TrimSpace(text)
		if n, ok := ports[text]; ok {
			return n
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return -1
		}
		return n
	}
	first, last, ranged := strings.Cut(text, "-")
	low, high = number(first), number(first)
	if ranged {
		high = number(last)
	}
	return min(low, high), max(low, high), low >= 0 && high >= 0
}

// portRange is a range of ports in numbers.
func portRange(text string) string {
	low, high, ok := ends(text)
	switch {
	case !ok:
		return text
	case low == high:
		return strconv.Itoa(low)
	}
	return strconv.Itoa(low) + "-" + strconv.Itoa(high)
}

var portElement = regexp.MustCompile(`^  <(source-port|port) port="([^"]*)" protocol="([^"]*)"/>$`)

// joinedPorts are the lines of a zone or policy with ranges of ports joined that overlap or touch, behind the rest.
func joinedPorts(lines []string) (out []string) {
	type span struct{ low, high int }
	spans := map[string][]span{}
	for _, line := range lines {
		m := portElement.FindStringSubmatch(line)
		low, high, ok := 0, 0, false
		if m != nil {
			low, high, ok = ends(m[2])
		}
		if !ok {
			out = append(out, line)
			continue
		}
		spans[m[1]+" "+m[3]] = append(spans[m[1]+" "+m[3]], span{low, high})
	}
	for _, kind := range slices.Sorted(keysOf(spans)) {
		list := spans[kind]
		slices.SortFunc(list, func(a, b span) int { return cmp.Or(a.low-b.low, a.high-b.high) })
		joined := list[:1]
		for _, next := range list[1:] {
			if last := &joined[len(joined)-1]; next.low <= last.high+1 {
				last.high = max(last.high, next.high)
			} else {
				joined = append(joined, next)
			}
		}
		for _, s := range joined {
			out = append(out, kind+" "+portRange(strconv.Itoa(s.low)+"-"+strconv.Itoa(s.high)))
		}
	}
	return out
}

var spelled = func() (out []*regexp.Regexp) {
	for _, s := range spellings {
		out = append(out, regexp.MustCompile(s.what))
	}
	return out
}()

// same is the reason for which two lists of lines are told differently and say the same; none if they do not.
func same(what string, a, b []string) string {
	var reasons []string
	for i, s := range spellings {
		if !spelled[i].MatchString(what) {
			continue
		}
		nextA, nextB := s.same(a), s.same(b)
		if !slices.Equal(nextA, a) || !slices.Equal(nextB, b) {
			reasons = append(reasons, s.reason)
		}
		a, b = nextA, nextB
	}
	if len(reasons) == 0 || len(onlyIn(a, b))+len(onlyIn(b, a)) > 0 {
		return ""
	}
	return strings.Join(reasons, "; ")
}

// elementsOf are the lines of a file of XML, in which an element of the second level is one line with all that is in it.
func elementsOf(lines []string) (out []string) {
	var inside []string
	for _, line := range lines {
		opens := strings.HasPrefix(line, "  <") && !strings.HasPrefix(line, "  </") && !strings.HasSuffix(line, "/>") && !strings.Contains(line, "</")
		switch {
		case inside == nil && !opens:
			out = append(out, line)
		case strings.HasPrefix(line, "  </") || inside != nil && strings.Contains(line, "</") && !strings.HasPrefix(line, "   "):
			out = append(out, strings.Join(append(inside, line), "\n"))
			inside = nil
		default:
			inside = append(inside, line)
		}
	}
	return append(out, inside...)
}

// bridged is a chain of ebtables in a state.
var bridged = regexp.MustCompile(`^ebtables-save (\w+) (\S+)$`)

// own are the kernel's own chains of the tables of ebtables.
var own = map[string][]string{"filter": {"INPUT", "FORWARD", "OUTPUT"}, "nat": {"PREROUTING", "OUTPUT", "POSTROUTING"}, "broute": {"BROUTING"}}

// bridges tells the chains of ebtables in one way. A chain that ends in a rule that returns has the policy RETURN instead, since
// richwall gives it that, behind which rules of others act. The chains that firewalld makes at each start, NAME_direct, are
// there only if they have rules, and so are the jumps to them and chains of the kernel that only accept.
func (s state) bridges() {
	for key, lines := range s {
		if m := bridged.FindStringSubmatch(key); m != nil && !slices.Contains(own[m[1]], m[2]) && len(lines) > 1 && lines[0] == "ACCEPT" && lines[len(lines)-1] == "-A "+m[2]+" -j RETURN" {
			s[key] = append([]string{"RETURN"}, lines[1:len(lines)-1]...)
		}
	}
	for key, lines := range s {
		m := bridged.FindStringSubmatch(key)
		if m == nil || !strings.HasSuffix(m[2], "_direct") || len(lines) != 1 || lines[0] != "RETURN" && lines[0] != "ACCEPT" {
			continue
		}
		delete(s, key)
		from := strings.TrimSuffix(m[2], "_direct")
		caller := "ebtables-save " + m[1] + " " + from
		s[caller] = slices.DeleteFunc(slices.Clone(s[caller]), func(line string) bool { return line == "-A "+from+" -j "+m[2] })
	}
	for key, lines := range s {
		if m := bridged.FindStringSubmatch(key); m != nil && slices.Contains(own[m[1]], m[2]) && (len(lines) == 0 || len(lines) == 1 && lines[0] == "ACCEPT") {
			delete(s, key)
		}
	}
}

// listed are options that print words in one line, in no order; sets are the keys of a listing whose values are such words.
var (
	listed = regexp.MustCompile(`^--(list-(services|ports|protocols|source-ports|icmp-blocks|interfaces|sources|forward-ports|ingress-zones|egress-zones)` +
		`|get-(zones|policies|services|icmptypes|helpers|ipsets|ipset-types|ports|protocols|source-ports|modules|service-helpers|includes|destinations|chains))$`)
	sets = regexp.MustCompile(`^(\s*(?:services|ports|protocols|source-ports|icmp-blocks|interfaces|sources|ingress-zones|egress-zones|modules|includes|helpers|destination|options|entries)): (.*)$`)
)

// sortedListing is what a command has printed, with what has no order in one: the words of a list, the lines below a key, and
// the objects of a listing, each with all its lines.
func sortedListing(words []string, text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) == 1 && slices.ContainsFunc(words, listed.MatchString) {
		return sortedWords(lines[0])
	}
	for i, line := range lines {
		if m := sets.FindStringSubmatch(line); m != nil {
			lines[i] = m[1] + ": " + sortedWords(m[2])
		}
	}
	return strings.Join(sortedBlocks(lines, 0), "\n")
}

func sortedWords(line string) string {
	words := strings.Fields(line)
	slices.Sort(words)
	return strings.Join(words, " ")
}

// sortedBlocks are lines in order, each with those behind it that are indented further than depth.
func sortedBlocks(lines []string, depth int) []string {
	var blocks [][]string
	for _, line := range lines {
		indented := len(line) - len(strings.TrimLeft(line, " \t"))
		if indented > depth && len(blocks) > 0 {
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], line)
		} else {
			blocks = append(blocks, []string{line})
		}
	}
	out := make([]string, len(blocks))
	for i, block := range blocks {
		out[i] = block[0]
		if rest := block[1:]; len(rest) > 0 {
			first := len(rest[0]) - len(strings.TrimLeft(rest[0], " \t"))
			out[i] += "\n" + strings.Join(sortedBlocks(rest, first), "\n")
		}
	}
	slices.Sort(out)
	return out
}
