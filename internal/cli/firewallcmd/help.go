package firewallcmd

import (
	"fmt"
	"strings"

	"richwall/internal/cli/release"
)

func (s *session) version() error {
	text := release.Compatible
	if s.program == online {
		value, err := s.daemon.property("version")
		if err != nil {
			return err
		}
		text = fmt.Sprint(value)
	}
	return s.show(text, text)
}

// example is a command line, with what it is for.
type example struct{ command, why string }

// about is what the help and the manual say of a program before they list its options.
var about = map[program]struct {
	summary  string
	text     []string // paragraphs
	examples []example
}{
	online: {
		summary: "ask and tell the running firewall",
		text: []string{
			"firewall-cmd speaks to the daemon firewalld. What it changes is in effect at once and forgotten with the next reload or start. With --permanent it changes the files in place of that: they come into effect with --reload.",
			"An option may be shortened as long as it stays unambiguous. Options with a value may be given several times where that makes sense: the exit status is 0 if at least one value was taken.",
		},
		examples: []example{
			{"firewall-cmd --add-service=http", "let web traffic into the default zone, until the next reload"},
			{"firewall-cmd --permanent --add-service=http", "the same from the next reload on"},
			{"firewall-cmd --runtime-to-permanent", "or: try it first, then keep everything that is in effect"},
			{"firewall-cmd --add-port=8080/tcp --timeout=10m", "open a port for ten minutes"},
			{"firewall-cmd --zone=internal --change-interface=eth1", "bind an interface to another zone"},
			{"firewall-cmd --add-rich-rule='rule family=ipv4 source address=192.0.2.0/24 drop'", "a rule in the rich language"},
			{"firewall-cmd --list-all", "what the default zone does now"},
			{"firewall-cmd --list-all --json", "the same for a program"},
		},
	},
	offline: {
		summary: "change the firewall's files without the daemon",
		text: []string{
			"firewall-offline-cmd reads and writes the files in /etc/firewalld itself. It is for installers and images, and for when the daemon does not run: a running one says in its log what was changed, and uses it after firewall-cmd --reload.",
			"What a command changes is checked and compiled before it is written: either all of the command is done, or nothing. Errors that the files had before stay, so that they can be mended one by one.",
		},
		examples: []example{
			{"firewall-offline-cmd --add-service=http", "let web traffic into the default zone"},
			{"firewall-offline-cmd --zone=work --add-interface=eth0", "bind an interface"},
			{"firewall-offline-cmd --system-config=image/etc/firewalld --add-port=22/tcp", "change the files of an image"},
			{"firewall-offline-cmd --check-config", "look for errors"},
		},
	},
}

// legend explains the marks behind an option in the help.
var legend = map[program]string{
	online:  "[P] also with --permanent, [P only] only so, [Z] with --zone, [O] with --policy, [T] with --timeout",
	offline: "[Z] with --zone, [O] with --policy",
}

func (s *session) help() error {
	s.out.print(helpText(s.program))
	return nil
}

// helpText is the help of a program.
func helpText(p program) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage: %s OPTION…\n", p, about[p].summary, p)
	for _, paragraph := range about[p].text {
		fmt.Fprintf(&b, "\n%s\n", wrap(paragraph, 0))
	}
	b.WriteString("\nExamples\n")
	for _, e := range about[p].examples {
		fmt.Fprintf(&b, "  %s\n      %s\n", e.command, e.why)
	}
	fmt.Fprintf(&b, "\nMarks: %s\n", wrap(legend[p], 7))
	for _, s := range sections {
		b.WriteString(s.help(p))
	}
	return strings.TrimRight(b.String(), "\n")
}

// visible are the options of a section that a program has and shows.
func (s *section) visible(p program) []*option {
	var list []*option
	for i := range s.options {
		if o := &s.options[i]; o.in(p) && !o.use.has(hidden) {
			list = append(list, o)
		}
	}
	return list
}

// help is a section of the help; "" if the program has none of its options.
func (s *section) help(p program) string {
	list := s.visible(p)
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", s.title)
	if s.intro != "" {
		fmt.Fprintf(&b, "  %s\n", s.intro)
	}
	for _, o := range list {
		head := "  " + o.usage()
		if o.short != 0 {
			head = fmt.Sprintf("  -%c, %s", o.short, o.usage())
		}
		if len(head) > column-2 {
			fmt.Fprintf(&b, "%s\n%s", head, strings.Repeat(" ", column))
		} else {
			fmt.Fprintf(&b, "%-*s", column, head)
		}
		b.WriteString(wrap(strings.TrimSpace(o.help+" "+o.marks(p)), column) + "\n")
	}
	return b.String()
}

// Where the explanations of the help begin, and how wide it is, in characters.
const (
	column = 32
	width  = 100
)

// marks are what an option can be combined with, as in the legend.
func (o *option) marks(p program) string {
	var marks []string
	switch {
	case p == offline || o.use.has(alone):
	case o.use.has(permanent) && o.use.has(runtime):
		marks = append(marks, "[P]")
	case o.use.has(permanent):
		marks = append(marks, "[P only]")
	}
	if o.use.has(forZone) {
		marks = append(marks, "[Z]")
	}
	if o.use.has(forPolicy) {
		marks = append(marks, "[O]")
	}
	if p == online && o.use.has(timed) {
		marks = append(marks, "[T]")
	}
	return strings.Join(marks, " ")
}

// wrap breaks a text into lines, of which those after the first are indented.
func wrap(text string, indent int) string {
	var b strings.Builder
	at := indent
	for i, word := range strings.Fields(text) {
		if i > 0 {
			if at+1+len(word) > width {
				b.WriteString("\n" + strings.Repeat(" ", indent))
				at = indent
			} else {
				b.WriteByte(' ')
				at++
			}
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String()
}
