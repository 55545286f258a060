package richwall

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var updateManual = flag.Bool("update-manual", false, "write the manual page anew")

// TestManual keeps the manual page of richwall, which is made from what --help prints, up to date.
func TestManual(t *testing.T) {
	const page = "../../../packaging/man/richwall.1"
	want := manual(newRoot())
	if *updateManual {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Error("packaging/man/richwall.1 is not what --help says; to make it so, run: go test ./internal/cli/richwall -run TestManual -update-manual")
	}
}

// manual is the page of a command and of all below it.
func manual(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintln(&b, `.\" made from the texts of --help; change those, and run: go test ./internal/cli/richwall -run TestManual -update-manual`)
	fmt.Fprintln(&b, `.TH RICHWALL 1 "" "richwall" ""`)
	fmt.Fprintf(&b, ".SH NAME\nrichwall \\- %s\n", troff(root.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B richwall\n.I COMMAND\n[\\fIFLAG\\fR ...] [\\fIARGUMENT\\fR ...]\n")
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s", verbatim(root.Long))
	fmt.Fprintf(&b, ".SH EXAMPLES\n%s", verbatim(root.Example))
	fmt.Fprintln(&b, ".SH COMMANDS")
	for _, cmd := range root.Commands() {
		manualOf(&b, cmd)
	}
	fmt.Fprintln(&b, ".SH EXIT STATUS\n0 for success, 1 where a command says that something is not as it should be, 2 for a command line or a configuration that "+
		"makes no sense. Where firewalld has a number for the error it is that number.")
	fmt.Fprintln(&b, `.SH SEE ALSO`+"\n"+`firewall\-cmd(1), firewall\-offline\-cmd(1)`)
	return b.String()
}

// manualOf is the part of a page that is about a command, and the parts about those below it.
func manualOf(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return
	}
	fmt.Fprintf(b, ".SS %s\n", troff(cmd.UseLine()))
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	b.WriteString(verbatim(text))
	if cmd.HasExample() {
		fmt.Fprintf(b, ".PP\nExamples:\n%s", verbatim(cmd.Example))
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", troff(strings.TrimSpace(name+" "+value)), troff(usage))
	})
	for _, sub := range cmd.Commands() {
		manualOf(b, sub)
	}
}

// verbatim is a text whose lines stay as they are.
func verbatim(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = troff(line)
	}
	return ".PP\n.nf\n" + strings.Join(lines, "\n") + "\n.fi\n"
}

// troff is a line for troff (groff_man(7)): backslashes and dashes have a meaning of their own, and so has a dot or a quote that comes first.
func troff(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "─", `\-`).Replace(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		line = `\&` + line
	}
	return line
}
