package firewallcmd

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"richwall/internal/printable"
)

// show prints the result of a listing: value with --json, otherwise text.
func (s *session) show(value any, text string) error {
	if !s.has("json") {
		s.out.print(text)
		return nil
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := io.WriteString(s.out, printable.JSON(b.String()))
	return err
}

// listing is an object as --list-all and --info-… show it: its name, what is remarkable about it, and its settings.
type listing struct {
	kind     *kind
	name     string
	marks    []string // such as "default" and "active"
	settings settings
}

// text is the listing as lines of text.
func (l *listing) text(verbose bool) string {
	lines := []string{printable.Item(l.name)}
	if len(l.marks) > 0 {
		lines[0] += " (" + strings.Join(l.marks, ", ") + ")"
	}
	for _, key := range l.keys(verbose) {
		f := l.kind.field(key)
		lines = append(lines, "  "+f.label+": "+l.value(f))
	}
	return strings.Join(lines, "\n")
}

func (l *listing) keys(verbose bool) []string {
	if verbose {
		return append([]string{"short", "description"}, l.kind.listing...)
	}
	return l.kind.listing
}

// sortedInListing are the fields whose items a listing sorts; the others have the order of the configuration.
var sortedInListing = []string{"services", "protocols", "interfaces", "includes", "helpers"}

// linesInListing are the fields with a line for each item.
var linesInListing = []string{"forward_ports", "rich_rules"}

// value is a setting as a listing shows it.
func (l *listing) value(f *field) string {
	switch f.shape {
	case text:
		return l.settings.text(f.key)
	case flag:
		return yesNo(l.settings.flag(f.key))
	case integer:
		return strconv.Itoa(int(l.settings.integer(f.key)))
	case dict:
		separator := ":"
		if f.key == "options" {
			separator = "="
		}
		return joined(pairs(l.settings.dict(f.key), separator), " ")
	case words, ports, forwards:
	}
	items := l.items(f)
	if !slices.Contains(linesInListing, f.key) {
		return joined(items, " ")
	}
	var b strings.Builder
	for _, item := range items {
		b.WriteString("\n\t" + printable.Item(item))
	}
	return b.String()
}

// items are those of a field, in the order of a listing.
func (l *listing) items(f *field) []string {
	items := append([]string{}, l.settings.list(f.key)...)
	switch {
	case slices.Contains(sortedInListing, f.key) && (f.key != "protocols" || l.kind.name != "service"):
		slices.Sort(items)
	case f.key == "destinations" && len(items) == 0:
		return []string{"ipv4", "ipv6"}
	case f.key == "rich_rules":
		slices.SortStableFunc(items, func(a, b string) int { return priorityOf(a) - priorityOf(b) })
	}
	return items
}

// priorityOf is the priority of a rich rule as the firewall prints it.
func priorityOf(rule string) int {
	var n int
	if _, err := fmt.Sscanf(rule, `rule priority="%d"`, &n); err != nil {
		return 0 // rules of priority 0 do not say so
	}
	return n
}

// object is the listing as JSON: all settings by the keys that D-Bus has for them, with the name and the marks.
func (l *listing) object() map[string]any {
	m := map[string]any{"name": l.name}
	for _, mark := range l.marks {
		m[mark] = true
	}
	for i := range l.kind.fields {
		f := &l.kind.fields[i]
		switch value, ok := l.settings[f.key]; {
		case f.shape == words || f.shape == ports || f.shape == forwards:
			m[f.key] = l.items(f)
		case ok:
			m[f.key] = value
		default:
			m[f.key] = zero(f.shape)
		}
	}
	return m
}
