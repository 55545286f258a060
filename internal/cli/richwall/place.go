package richwall

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"richwall/grammar"
	"richwall/internal/printable"
	"richwall/zones"
)

// place is the flags that say which zone or policy rules are put into.
type place struct {
	zone   string
	policy string
}

func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.zone, "zone", "", "put the rules into this `ZONE`; without it, into the default zone")
	cmd.Flags().StringVar(&p.policy, "policy", "", "put the rules into this `POLICY`")
	cmd.MarkFlagsMutuallyExclusive("zone", "policy")
	completeNames(cmd, "zone", func(cfg *zones.Config) []string { return zones.Names(cfg.Zones) })
	completeNames(cmd, "policy", func(cfg *zones.Config) []string { return zones.Names(cfg.Policies) })
}

// completeNames completes a flag with names of the configuration that the other flags choose.
func completeNames(cmd *cobra.Command, flag string, names func(*zones.Config) []string) {
	cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		var d directories
		d.config, _ = cmd.Flags().GetString("config")
		d.defaultConfig, _ = cmd.Flags().GetString("default-config")
		cfg, _ := zones.Load(d.dirs())
		if cfg == nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names(cfg), cobra.ShellCompDirectiveNoFileComp
	})
}

// parseRules reads rich rules from the command line.
func parseRules(texts []string) ([]*grammar.Rule, error) {
	rules := make([]*grammar.Rule, len(texts))
	for i, text := range texts {
		r, err := grammar.Parse(text)
		if err != nil {
			return nil, statusOf(ruleError{text, err})
		}
		rules[i] = r
	}
	return rules, nil
}

// ruleError shows each error of a rule under the place in its text.
type ruleError struct {
	text string
	err  error
}

func (e ruleError) Unwrap() error { return e.err }

func (e ruleError) Error() string {
	list, ok := e.err.(grammar.ErrorList)
	if !ok {
		return e.err.Error()
	}
	lines := strings.Split(e.text, "\n")
	var b strings.Builder
	for i, one := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		if one.Pos.Line == 0 || one.Pos.Line > len(lines) {
			fmt.Fprintf(&b, "%s\n%s", printable.Line(e.text, shownBefore+shownBehind), printable.Message(one.Error()))
			continue
		}
		line := lines[one.Pos.Line-1]
		at := min(one.Pos.Column-1, len(line))
		before := shownPart(line[:at])
		fmt.Fprintf(&b, "%s%s\n%s^ %s: %s", before, printable.Text(line[at:], shownBehind), strings.Repeat(" ", utf8.RuneCountInString(before)),
			one.Code, printable.Message(one.Msg))
	}
	return b.String()
}

// How much of a rule is shown before and behind the place of a mistake, in bytes.
const (
	shownBefore = 120
	shownBehind = 160
)

// shownPart is what stands before a mistake, without the beginning of what is very long.
func shownPart(text string) string {
	if cut := len(text) - shownBefore; cut > 0 {
		for cut < len(text) && !utf8.RuneStart(text[cut]) {
			cut++
		}
		return "…" + printable.Text(text[cut:], 0)
	}
	return printable.Line(text, 0)
}

// with is the configuration with the rules added where the flags say, checked.
func (p *place) with(cfg *zones.Config, rules []*grammar.Rule) (*zones.Config, error) {
	cfg, err := p.add(cfg, rules)
	if err != nil {
		return nil, err
	}
	if problems := zones.Check(cfg); problems.Err() != nil {
		return nil, statusOf(ofArguments(problems))
	}
	return cfg, nil
}

// ofArguments are problems of a configuration that had none before rules of the command line were added. Those rules are in no file.
func ofArguments(problems zones.Problems) zones.Problems {
	result := make(zones.Problems, len(problems))
	for i, p := range problems {
		own := *p
		if own.Line == 0 && own.Severity == zones.Error {
			own.Path = ""
		}
		result[i] = &own
	}
	return result
}

// add is the configuration with the rules added. The place is bound to an interface of its own if nothing else is, so
// that its chains are in the ruleset.
func (p *place) add(cfg *zones.Config, rules []*grammar.Rule) (*zones.Config, error) {
	if p.policy != "" {
		old := cfg.Policies[p.policy]
		if old == nil {
			return nil, statusOf(zones.Problems{{Code: zones.InvalidPolicy, Severity: zones.Error, Msg: notThere("policy", p.policy, zones.Names(cfg.Policies))}})
		}
		policy := *old
		policy.Disable = false
		policy.Rules = addRules(policy.Rules, rules)
		return used(cfg, append(slices.Clone(policy.IngressZones), policy.EgressZones...)).WithPolicy(&policy), nil
	}
	name := p.zoneName(cfg)
	old := cfg.Zones[name]
	if old == nil {
		return nil, statusOf(zones.Problems{{Code: zones.InvalidZone, Severity: zones.Error, Msg: notThere("zone", name, zones.Names(cfg.Zones))}})
	}
	cfg = used(cfg, []string{name})
	zone := *cfg.Zones[name]
	zone.Rules = addRules(zone.Rules, rules)
	return cfg.WithZone(&zone), nil
}

// zoneName is the zone that rules go to when they go to no policy.
func (p *place) zoneName(cfg *zones.Config) string {
	if p.zone != "" {
		return p.zone
	}
	return cfg.Conf.DefaultZone
}

func notThere(kind, name string, names []string) string {
	return fmt.Sprintf("there is no %s %q; there are %s", kind, name, strings.Join(names, ", "))
}

// used is the configuration with zones that nothing is bound to bound to an interface named after them.
func used(cfg *zones.Config, names []string) *zones.Config {
	for _, name := range names {
		old := cfg.Zones[name]
		if old == nil || name == cfg.Conf.DefaultZone || len(old.Interfaces)+len(old.Sources) > 0 {
			continue
		}
		zone := *old
		zone.Interfaces = []string{"x-" + name[:min(len(name), 13)]}
		cfg = cfg.WithZone(&zone)
	}
	return cfg
}

// addRules is a list of rules with others put where they belong.
func addRules(list []zones.RichRule, rules []*grammar.Rule) []zones.RichRule {
	list = slices.Clone(list)
	for _, r := range rules {
		list = append(list, zones.RichRule{Rule: r})
	}
	slices.SortStableFunc(list, func(a, b zones.RichRule) int { return grammar.Compare(a.Rule, b.Rule) })
	return list
}
