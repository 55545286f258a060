package richwall

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"richwall/compile"
	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/grammar"
)

// form is how a ruleset can be printed. An addition is a ruleset of nothing but some rules.
type form struct {
	name    string
	backend ir.Backend // empty: what the configuration says
	print   func(w io.Writer, rs *ir.Ruleset, addition, origins bool) (notes []string, err error)
}

var forms = []form{
	{"nft", ir.NFTables, func(w io.Writer, rs *ir.Ruleset, addition, origins bool) ([]string, error) {
		return nft.Write(w, rs, nft.Options{Origins: origins, Addition: addition})
	}},
	{"iptables", ir.IPTables, iptablesForm(ir.V4)},
	{"ip6tables", ir.IPTables, iptablesForm(ir.V6)},
	{"ipset", ir.IPTables, func(w io.Writer, rs *ir.Ruleset, _, _ bool) ([]string, error) {
		return nil, iptables.WriteSets(w, rs)
	}},
	{"ir", "", func(w io.Writer, rs *ir.Ruleset, _, _ bool) ([]string, error) { return nil, rs.Dump(w) }},
	{"json", "", func(w io.Writer, rs *ir.Ruleset, _, _ bool) ([]string, error) { return nil, printJSON(w, rs) }},
}

func iptablesForm(family ir.Families) func(io.Writer, *ir.Ruleset, bool, bool) ([]string, error) {
	return func(w io.Writer, rs *ir.Ruleset, addition, origins bool) ([]string, error) {
		return nil, iptables.Write(w, rs, family, iptables.Options{Origins: origins, Addition: addition})
	}
}

// printJSON prints a value as indented JSON, with escapes for what is not printable.
func printJSON(w io.Writer, v any) error { return writeJSON(w, v, "  ") }

// writeJSON does it with an indent; without one it prints a line.
func writeJSON(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	last := rune(0)
	for _, c := range b.String() {
		if c != '\n' && !unicode.IsPrint(c) || c == '#' && last == '#' {
			for _, unit := range utf16.Encode([]rune{c}) {
				fmt.Fprintf(out, `\u%04x`, unit)
			}
		} else {
			out.WriteRune(c)
		}
		last = c
	}
	return out.Flush()
}

func formNamed(name string) (form, error) {
	for _, f := range forms {
		if f.name == name {
			return f, nil
		}
	}
	return form{}, fmt.Errorf("there is no form %q to print; say nft, iptables, ip6tables, ipset, ir or json", name)
}

type compileOptions struct {
	directories
	place
	to      string
	origins bool
}

func newCompile() *cobra.Command {
	var o compileOptions
	cmd := &cobra.Command{
		Use:   "compile [RULE…]",
		Short: "Show the rules that rich rules or a configuration mean",
		Long: `Prints what rich rules mean, in the chains they land in; or, without a rule, the
ruleset of a whole configuration.

A whole ruleset can be loaded as it is: "nft" by nft -f -, where it takes the
place of table inet firewalld in one transaction, "iptables" and "ip6tables" by
iptables-restore and ip6tables-restore, "ipset", which must come before those,
by ipset restore. What rules alone mean is printed as an addition to it.`,
		Example: `  richwall compile 'rule tcp-mss-clamp value=1360'
  richwall compile --policy allow-host-ipv6 --to ip6tables 'rule port port=22 protocol=tcp accept'
  richwall compile --config /etc/firewalld --to nft >firewall.nft
  richwall compile --config ./firewalld --to json | jq '.chains[].name'`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.directories.flags(cmd)
	o.place.flags(cmd)
	names := make([]string, len(forms))
	for i, f := range forms {
		names[i] = f.name
	}
	cmd.Flags().StringVar(&o.to, "to", "nft", "`FORM` to print: nft, iptables, ip6tables, ipset, ir (the intermediate form) or json (the same)")
	cmd.Flags().BoolVar(&o.origins, "origins", false, "say before rules what of the configuration they come from")
	cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *compileOptions) run(cmd *cobra.Command, args []string) error {
	f, err := formNamed(o.to)
	if err != nil {
		return err
	}
	rules, err := parseRules(args)
	if err != nil {
		return err
	}
	if len(rules) == 0 && (o.zone != "" || o.policy != "") {
		return errors.New("--zone and --policy say where rules go, and there is no rule")
	}
	cfg, err := o.load(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if len(rules) > 0 {
		if cfg, err = o.with(cfg, rules); err != nil {
			return err
		}
	}
	if f.backend == "" {
		f.backend = ir.Backend(cfg.Conf.FirewallBackend)
	}
	rs, err := compile.Compile(cfg, f.backend)
	if err != nil {
		return statusOf(err)
	}
	if len(rules) > 0 {
		rs = rs.Only(fromRules(rules))
	}
	notes, err := f.print(cmd.OutOrStdout(), rs, len(rules) > 0, o.origins)
	if rs.Links && f.name != "ir" && f.name != "json" {
		notes = append(notes, "value=link clamps nothing until the daemon has put in the links of the machine")
	}
	for _, n := range slices.Concat(rs.Notes, notes) {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", n)
	}
	return err
}

// fromRules tells the compiled rules that come from rich rules of the command line.
func fromRules(rules []*grammar.Rule) func(*ir.Rule) bool {
	texts := map[string]bool{}
	for _, r := range rules {
		texts[r.String()] = true
	}
	return func(r *ir.Rule) bool { return r.Origin != nil && r.Origin.Line == 0 && texts[r.Origin.Said()] }
}
