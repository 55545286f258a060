package richwall

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"richwall/grammar"
)

type fmtOptions struct{ tree, json bool }

func newFmt() *cobra.Command {
	var o fmtOptions
	cmd := &cobra.Command{
		Use:   "fmt [RULE…]",
		Short: "Print rich rules in their canonical form",
		Long: `Prints rich rules as firewall-cmd lists them, one a line: parts in their order, values
in quotes, defaults left out. Two rules are the same if this text is. Without a rule,
or for -, they are read from standard input, a rule in each line; empty lines and
those that start with # are left out.

What is wrong with a rule stands below it, at its place; the exit status is the number
of the first error's code, as of firewall-cmd (122 for INVALID_RULE).`,
		Example: `  richwall fmt 'rule port protocol=tcp port=22 accept'
  richwall fmt --tree 'rule family=ipv4 source NOT address=192.0.2.0/24 drop'
  firewall-cmd --zone=public --list-rich-rules | richwall fmt --json`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	cmd.Flags().BoolVar(&o.tree, "tree", false, "print how each rule was split into words and pairs, with line and column")
	cmd.Flags().BoolVar(&o.json, "json", false, "print a JSON object for each rule: its text, and its parts in order")
	cmd.MarkFlagsMutuallyExclusive("tree", "json")
	return cmd
}

func (o *fmtOptions) run(cmd *cobra.Command, args []string) error {
	rules, err := ruleTexts(cmd.InOrStdin(), args)
	if err != nil {
		return err
	}
	var first error
	for _, r := range rules {
		err := o.print(cmd.OutOrStdout(), r.text)
		if err == nil {
			continue
		}
		err = statusOf(ruleError{r.text, err})
		if first == nil {
			first = err
		}
		if r.line > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "line %d:\n", r.line)
		}
		fmt.Fprintln(cmd.ErrOrStderr(), err)
	}
	if exit, ok := first.(exitError); ok {
		return exitError{status: exit.status} // it was printed
	}
	return first
}

// ruleText is the text of a rule, and the line of standard input that it was read from; 0 if it was an argument.
type ruleText struct {
	text string
	line int
}

// ruleTexts are the rules given as arguments or, without one and for "-", in the lines of in.
func ruleTexts(in io.Reader, args []string) ([]ruleText, error) {
	if len(args) == 0 {
		args = []string{"-"}
	}
	var list []ruleText
	for _, arg := range args {
		if arg != "-" {
			list = append(list, ruleText{text: arg})
			continue
		}
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 1<<20)
		for n := 1; lines.Scan(); n++ {
			text := strings.TrimSpace(lines.Text())
			if text != "" && text[0] != '#' {
				list = append(list, ruleText{lines.Text(), n})
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("cannot read rules from standard input: %w", err)
		}
	}
	return list, nil
}

// print prints one rule. The tree of a rule that is wrong is printed too.
func (o *fmtOptions) print(w io.Writer, text string) error {
	if o.tree {
		tree, err := grammar.ParseTree(text)
		if err != nil {
			return err
		}
		fmt.Fprint(w, tree)
	}
	r, err := grammar.Parse(text)
	switch {
	case err != nil:
		return err
	case o.tree:
		return nil
	case o.json:
		return printJSON(w, newRuleJSON(r))
	}
	_, err = fmt.Fprintln(w, r)
	return err
}

// ruleJSON is a rule as it is printed in JSON.
type ruleJSON struct {
	Text  string     `json:"text"`
	Parts []partJSON `json:"parts"`
}

// partJSON is a word of a rule and the pairs behind it. A limit is a part that comes after what it limits.
type partJSON struct {
	Word   string            `json:"word"`
	Not    bool              `json:"not,omitempty"`
	Values map[string]string `json:"values,omitempty"`
}

func newRuleJSON(r *grammar.Rule) ruleJSON {
	out := ruleJSON{Text: r.String()}
	tree, err := grammar.ParseTree(out.Text)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	for _, w := range tree.Words {
		last := len(out.Parts) - 1
		switch {
		case w.Key != "":
			if out.Parts[last].Values == nil {
				out.Parts[last].Values = map[string]string{}
			}
			out.Parts[last].Values[w.Key] = w.Value
		case w.Name == "NOT":
			out.Parts[last].Not = true
		default:
			out.Parts = append(out.Parts, partJSON{Word: w.Name})
		}
	}
	return out
}
