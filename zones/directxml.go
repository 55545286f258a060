package zones

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"richwall/grammar"
	"richwall/internal/printable"
)

var directSchema = schema{root: "direct", broken: InvalidType, elements: map[string]shape{
	"direct":      {parent: true},
	"chain":       {required: []string{"ipv", "table", "chain"}},
	"rule":        {required: []string{"ipv", "table", "chain", "priority"}, text: true},
	"passthrough": {required: []string{"ipv"}, text: true},
}}

// ipTables are the tables of iptables and ip6tables.
var ipTables = []string{"filter", "nat", "mangle", "raw", "security"}

// directTables are the IP versions of the direct interface, and their tables; eb is ebtables, for bridges.
var directTables = map[string][]string{"ipv4": ipTables, "ipv6": ipTables, "eb": {"broute", "nat", "filter"}}

// CheckDirect tells what is wrong with the IP version and the table of a chain or rule of the direct interface, with code
// INVALID_IPV or INVALID_TABLE.
func CheckDirect(ipv, table string) error {
	if err := checkDirectIPV(ipv); err != nil {
		return err
	}
	if tables := directTables[ipv]; !slices.Contains(tables, table) {
		return refuse(InvalidTable, "cannot use table %q: %s has %s%s", table, ipv, strings.Join(tables, ", "), hint(table, tables))
	}
	return nil
}

// checkDirectIPV tells what is wrong with the IP version of something of the direct interface, with code INVALID_IPV.
func checkDirectIPV(ipv string) error {
	if _, ok := directTables[ipv]; ok {
		return nil
	}
	return refuse(InvalidIPV, "cannot use ipv %q: it is ipv4, ipv6 or eb%s", ipv, hint(ipv, Names(directTables))).
		worded("'%s' not in '['ipv4', 'ipv6', 'eb']'", ipv)
}

// maxChainName is how many bytes the name of a chain has (XT_EXTENSION_MAXNAMELEN of linux/netfilter/x_tables.h, less the NUL).
const maxChainName = 28

// verdicts are the names that iptables takes for no chain: a jump to one of them is a verdict (iptables(8)).
var verdicts = []string{"ACCEPT", "DROP", "RETURN", "QUEUE"}

// CheckChain tells what is wrong with the name of a chain of the direct interface, with code INVALID_CHAIN: what iptables-restore
// would read as something else, or not at all. ebtables makes chains with the names of verdicts.
func CheckChain(ipv, name string) error {
	switch {
	case name == "":
		return refuse(InvalidChain, "cannot use a chain without a name")
	case len(name) > maxChainName:
		return refuse(InvalidChain, "cannot use chain %s: a name has at most %d bytes", printable.Text(name, printable.Value), maxChainName)
	case strings.ContainsAny(name, " \"'\\") || !isPlain(name) || name[0] == '-' || name[0] == '!':
		return refuse(InvalidChain, "cannot use chain %q: a name holds no blank, no control character and none of \" ' \\, and does not begin with - or !", name)
	case ipv != "eb" && slices.Contains(verdicts, name):
		return refuse(InvalidChain, "cannot use chain %s: that is a verdict of iptables", name)
	}
	return nil
}

// ReadDirect reads direct.xml, in the same way as ReadZone. What is given twice, or without arguments, is left out with a
// warning.
func ReadDirect(data []byte, path string) (*Direct, Problems) {
	r := newReader(directSchema, data, path)
	root := r.parse()
	if root == nil {
		return nil, r.report()
	}
	d := &Direct{Origin: Origin{Path: path}}
	r.each(root, func(n *node) {
		ipv, table, chain := r.share(n.get("ipv")), r.share(n.get("table")), r.share(n.get("chain"))
		err := checkDirectIPV(ipv)
		if n.name != "passthrough" {
			err = CheckDirect(ipv, table)
		}
		if err != nil {
			attr := "ipv"
			if code, _ := codeOf(err, ""); code == InvalidTable {
				attr = "table"
			}
			r.failWith(n, attr, InvalidIPV, err)
			return
		}
		if n.name != "passthrough" {
			if err := CheckChain(ipv, chain); err != nil {
				r.failWith(n, "chain", InvalidChain, err)
				return
			}
		}
		switch n.name {
		case "chain":
			if r.once(n, fmt.Sprintf("chain %s %s %s", ipv, table, chain)) {
				d.Chains = append(d.Chains, DirectChain{ipv, table, chain, int(n.line)})
			}
		case "rule":
			priority := r.number(n, "priority", grammar.InvalidPriority, math.MinInt32, math.MaxInt32)
			args := r.args(n)
			if args != nil && r.once(n, fmt.Sprintf("rule %s %s %s %d %s", ipv, table, chain, priority, JoinArgs(args))) {
				d.Rules = append(d.Rules, DirectRule{ipv, table, chain, priority, args, int(n.line)})
			}
		case "passthrough":
			p := DirectPassthrough{ipv, r.args(n), int(n.line)}
			if p.Args == nil {
				return
			}
			if err := p.Check(); err != nil {
				code, why := codeOf(err, InvalidPass)
				r.lose(n.place, code, "%s", why)
				r.latest.Then, r.latest.stays = "it is ignored", true
			}
			if r.once(n, fmt.Sprintf("passthrough %s %s", ipv, JoinArgs(p.Args))) {
				d.Passthroughs = append(d.Passthroughs, p)
			}
		}
	})
	list := r.report()
	d.passed = list.lose()
	d.Chains, d.Rules, d.Passthroughs = chainOrder(d.Chains), ruleOrder(d.Rules), passOrder(d.Passthroughs)
	return d, list
}

// args reads the text of an element as arguments, nil with a problem when there are none.
func (r *reader) args(n *node) []string {
	args, err := SplitArgs(n.text)
	switch {
	case err != nil:
		r.fail(n, grammar.InvalidRule, "cannot read %q: %s", n.text, err)
	case len(args) == 0 && n.name == "passthrough": // such a line does nothing, in firewalld either: nothing is lost with it
		r.warn(n, ParseError, "<%s> has no arguments", n.name)
		r.latest.Then = "it is ignored"
	case len(args) == 0:
		r.lose(n.place, ParseError, "<%s> has no arguments", n.name)
		r.latest.Then = "it is ignored"
	default:
		for i := range args {
			args[i] = r.share(args[i])
		}
		return args
	}
	return nil
}

// SplitArgs splits a command line into arguments as a shell does (POSIX, 2.2): blanks separate, '…' is literal, in "…" a
// backslash stands before " and \, elsewhere before any character. Nothing is expanded.
func SplitArgs(text string) ([]string, error) {
	var args []string
	for {
		text = strings.TrimLeft(text, " \t\r\n")
		if text == "" {
			return args, nil
		}
		arg, rest, err := splitArg(text)
		if err != nil {
			return nil, err
		}
		args, text = append(args, arg), rest
	}
}

// splitArg reads one argument from the start of a text.
func splitArg(text string) (arg, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
			return b.String(), text[i:], nil
		case '\'':
			end := strings.IndexByte(text[i+1:], '\'')
			if end < 0 {
				return "", "", errors.New("the quote ' is not closed")
			}
			b.WriteString(text[i+1 : i+1+end])
			i += end + 1
		case '"':
			length, ok := doubleQuoted(&b, text[i+1:])
			if !ok {
				return "", "", errors.New(`the quote " is not closed`)
			}
			i += length
		case '\\':
			if i++; i == len(text) {
				return "", "", errors.New(`there is nothing behind the last \`)
			}
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}

// doubleQuoted reads up to a closing quote, and returns the number of bytes up to and with it.
func doubleQuoted(b *strings.Builder, text string) (length int, closed bool) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1, true
		case c == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\'):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return 0, false
}

// JoinArgs is a command line that SplitArgs splits into the arguments: those with characters that mean something to a
// shell are in single quotes.
func JoinArgs(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		if arg == "" || strings.ContainsFunc(arg, special) {
			arg = "'" + strings.ReplaceAll(arg, "'", `'"'"'`) + "'"
		}
		quoted[i] = arg
	}
	return strings.Join(quoted, " ")
}

// special tells whether a character needs quotes.
func special(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return !strings.ContainsRune("_@%+=:,./-", c)
}
