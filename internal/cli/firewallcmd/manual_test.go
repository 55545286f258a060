package firewallcmd

import (
	"fmt"
	"strings"
	"testing"

	"richwall/grammar"
	"richwall/zones"
)

// TestManual keeps the manual pages, which are made from the table of options, up to date.
func TestManual(t *testing.T) {
	for _, p := range []program{online, offline} {
		generated(t, fmt.Sprintf("man/%s.1", p), manual(p))
	}
}

// escape is a text for troff (groff_man(7)): backslashes and dashes have a meaning of their own.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// manual is the page of a program.
func manual(p program) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(`.\" made from the table of options; change that, and run: go test ./internal/cli/firewallcmd -update`)
	line(`.TH %s 1 "" "richwall" ""`, strings.ToUpper(string(p)))
	line(".SH NAME\n%s \\- %s", escape(string(p)), escape(about[p].summary))
	line(".SH SYNOPSIS\n.B %s\n.I OPTION\n\\&...", escape(string(p)))
	line(".SH DESCRIPTION")
	for _, paragraph := range about[p].text {
		line(".PP\n%s", escape(paragraph))
	}
	line(".SH OPTIONS\nThe marks behind an option say what it can be combined with: %s.", escape(legend[p]))
	for i := range sections {
		b.WriteString(sections[i].manual(p))
	}
	line(".SH EXAMPLES")
	for _, e := range about[p].examples {
		line(".TP\n.B %s\n%s", escape(e.command), escape(e.why))
	}
	line(".SH EXIT STATUS")
	line("0 for success, 1 for a question answered with no, 2 for a command line that makes no sense. Otherwise the number of the error, whose name is printed:")
	for _, code := range codes() {
		line(".TP\n%d\n%s", zones.CodeNumber(code), escape(string(code)))
	}
	line(".PP\nALREADY_ENABLED, NOT_ENABLED, ZONE_ALREADY_SET and ALREADY_SET are warnings: what was asked for is so already.")
	line(".SH SEE ALSO\n%s", escape("firewalld(1), firewalld.richlanguage(5), firewalld.zone(5), firewalld.policy(5), firewalld.conf(5)"))
	return b.String()
}

// manual is a section of the page; "" if the program has none of its options.
func (s *section) manual(p program) string {
	list := s.visible(p)
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, ".SS %s\n", escape(s.title))
	if s.intro != "" {
		fmt.Fprintf(&b, "%s\n", escape(s.intro))
	}
	for _, o := range list {
		short := ""
		if o.short != 0 {
			short = fmt.Sprintf("-%c, ", o.short)
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escape(short+o.usage()), escape(strings.TrimSpace(sentence(o.help)+" "+o.marks(p))))
	}
	return b.String()
}

// sentence ends a text with a full stop, unless it is a question.
func sentence(text string) string {
	if strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

// codes are the errors that scripts see most.
func codes() []grammar.Code {
	return []grammar.Code{
		"ALREADY_ENABLED", "NOT_ENABLED", "COMMAND_FAILED", "PANIC_MODE", "ZONE_ALREADY_SET", "UNKNOWN_INTERFACE",
		"ZONE_CONFLICT", "BUILTIN_ZONE", "NAME_CONFLICT", "RT_TO_PERM_FAILED", "IPSET_WITH_TIMEOUT", "ALREADY_SET",
		"DBUS_ERROR", "INVALID_SERVICE", "INVALID_PORT", "INVALID_PROTOCOL", "INVALID_INTERFACE", "INVALID_ADDR",
		"INVALID_FORWARD", "INVALID_ICMPTYPE", "INVALID_ZONE", "INVALID_NAME", "INVALID_RULE", "INVALID_IPSET",
		"INVALID_ENTRY", "INVALID_HELPER", "INVALID_PRIORITY", "INVALID_POLICY", "RUNNING_BUT_FAILED", "NOT_RUNNING",
		"NOT_AUTHORIZED", "UNKNOWN_ERROR",
	}
}
