package zones

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"richwall/grammar"
)

// ConfFile is the text of firewalld.conf or richwall.conf, which keeps its comments and order when values change. It is
// immutable.
type ConfFile struct{ lines []string }

// ParseConfFile splits a file into lines; what they mean is for ReadConf and ReadOwnConf.
func ParseConfFile(data []byte) *ConfFile {
	text := strings.TrimSuffix(string(data), "\n")
	if text == "" {
		return &ConfFile{}
	}
	return &ConfFile{strings.Split(text, "\n")}
}

// Bytes is the file's content.
func (f *ConfFile) Bytes() []byte {
	if len(f.lines) == 0 {
		return nil
	}
	return []byte(strings.Join(f.lines, "\n") + "\n")
}

// splitSetting splits a line into key and value; ok is false for a comment, an empty line and one that is no setting.
func splitSetting(line string) (key, value string, ok bool) {
	line = strings.TrimSpace(line)
	if isComment(line) || strings.Count(line, "=") != 1 {
		return "", "", false
	}
	key, value, _ = strings.Cut(line, "=")
	return strings.TrimSpace(key), strings.TrimSpace(value), true
}

func isComment(line string) bool { return line == "" || line[0] == '#' || line[0] == ';' }

// empty tells whether a file holds nothing but comments.
func (f *ConfFile) empty() bool {
	return !slices.ContainsFunc(f.lines, func(line string) bool { return !isComment(strings.TrimSpace(line)) })
}

// deprecated tells whether a line, from 1, sets a key of firewalld.conf whose value changes nothing.
func (f *ConfFile) deprecated(line int) bool {
	key, value, ok := splitSetting(f.lines[line-1])
	i := slices.IndexFunc(confKeys, func(k confKey) bool { return k.name == key })
	return ok && value != "" && i >= 0 && confKeys[i].get == nil
}

// repeats tells whether a line, from 1, says once more what an earlier one says.
func (f *ConfFile) repeats(line int) bool {
	key, value, ok := splitSetting(f.lines[line-1])
	was, set := f.get(key)
	return ok && set && was == value && f.find(key) < line-1
}

// get is the value of a key, which is that of its first line with a value; ok is false when there is none.
func (f *ConfFile) get(key string) (value string, ok bool) {
	if i := f.find(key); i >= 0 {
		_, value, _ = splitSetting(f.lines[i])
		return value, true
	}
	return "", false
}

func (f *ConfFile) find(key string) int {
	return slices.IndexFunc(f.lines, func(line string) bool {
		k, value, ok := splitSetting(line)
		return ok && k == key && value != ""
	})
}

// Set is the file with another value for a key, in the line that has it or, if none has, at the end behind an empty line.
// The value may be one line without "=".
func (f *ConfFile) Set(key, value string) (*ConfFile, error) {
	if strings.ContainsAny(value, "\n\r=") || strings.TrimSpace(value) == "" {
		return nil, refuse(InvalidValue, "cannot set %s to %q: a value is one line that is not empty and has no =", key, value)
	}
	line := key + "=" + value
	next := slices.Clone(f.lines)
	i := f.find(key)
	switch {
	case i >= 0 && strings.TrimSpace(f.lines[i]) == line:
		return f, nil
	case i >= 0:
		next[i] = line
	default:
		if len(next) > 0 && strings.TrimSpace(next[len(next)-1]) != "" && isComment(strings.TrimSpace(next[len(next)-1])) {
			next = append(next, "")
		}
		next = append(next, line)
	}
	return &ConfFile{next}, nil
}

// confKey is a key of firewalld.conf (firewalld.conf(5)).
type confKey struct {
	name string
	confValue
}

// confValue reads and writes a value: set stores it, and says what it must be when it is not; get is nil for the deprecated
// keys, whose values change nothing.
type confValue struct {
	get func(c *Conf) string
	set func(c *Conf, value string) (mustBe string)
}

var confKeys = []confKey{
	{"DefaultZone", text(func(c *Conf) *string { return &c.DefaultZone })},
	{"CleanupOnExit", boolean(func(c *Conf) *bool { return &c.CleanupOnExit })},
	{"CleanupModulesOnExit", boolean(func(c *Conf) *bool { return &c.CleanupModulesOnExit })},
	{"IPv6_rpfilter", confValue{func(c *Conf) string { return c.IPv6RPFilter }, rpFilter}},
	{"IndividualCalls", boolean(func(c *Conf) *bool { return &c.IndividualCalls })},
	{"LogDenied", word(func(c *Conf) *string { return &c.LogDenied }, "all", "unicast", "broadcast", "multicast", "off")},
	{"FirewallBackend", word(func(c *Conf) *string { return &c.FirewallBackend }, "nftables", "iptables")},
	{"FlushAllOnReload", boolean(func(c *Conf) *bool { return &c.FlushAllOnReload })},
	{"ReloadPolicy", confValue{func(c *Conf) string { return c.ReloadPolicy }, reloadPolicy}},
	{"RFC3964_IPv4", boolean(func(c *Conf) *bool { return &c.RFC3964IPv4 })},
	{"StrictForwardPorts", unlessNo(func(c *Conf) *bool { return &c.StrictForwardPorts })},
	{"NftablesFlowtable", confValue{func(c *Conf) string { return c.NftablesFlowtable }, flowtable}},
	{"NftablesCounters", unlessNo(func(c *Conf) *bool { return &c.NftablesCounters })},
	{"NftablesTableOwner", unlessNo(func(c *Conf) *bool { return &c.NftablesTableOwner })},
	{"MinimalMark", confValue{set: deprecatedNumber}},
	{"AutomaticHelpers", confValue{set: word(func(*Conf) *string { return new(string) }, "yes", "no", "system").set}},
	{"AllowZoneDrifting", confValue{set: boolean(func(*Conf) *bool { return new(bool) }).set}},
	{"Lockdown", confValue{set: lockdown}},
}

// Value is the value of a key as the file has it, with yes and no for what is on or off; ok is false for a key that does not
// exist or has no effect.
func (c *Conf) Value(key string) (value string, ok bool) {
	i := slices.IndexFunc(confKeys, func(k confKey) bool { return k.name == key })
	if i < 0 || confKeys[i].get == nil {
		return "", false
	}
	return confKeys[i].get(c), true
}

// respelled are the keys that another configuration has other values for, or the same values written otherwise, such as True and yes.
func (c *Conf) respelled(other *Conf) []string {
	return keysWith(func(key string) bool { return c.Written(key) != other.Written(key) })
}

// differing are the keys whose values mean something else in another configuration, however they are written.
func (c *Conf) differing(other *Conf) []string {
	return keysWith(func(key string) bool {
		if key == "ReloadPolicy" {
			mine, _ := ParseReloadPolicy(c.ReloadPolicy)
			others, _ := ParseReloadPolicy(other.ReloadPolicy)
			return !maps.Equal(mine, others)
		}
		mine, _ := c.Value(key)
		others, _ := other.Value(key)
		return mine != others
	})
}

// keysWith are the keys with an effect of which something is true.
func keysWith(is func(key string) bool) []string {
	var keys []string
	for _, k := range confKeys {
		if k.get != nil && is(k.name) {
			keys = append(keys, k.name)
		}
	}
	return keys
}

func text(field func(*Conf) *string) confValue {
	return confValue{func(c *Conf) string { return *field(c) }, func(c *Conf, value string) string {
		*field(c) = value
		return ""
	}}
}

// truth reads yes, true, no and false in any case.
func truth(value string) (is, ok bool) {
	switch strings.ToLower(value) {
	case "yes", "true":
		return true, true
	case "no", "false":
		return false, true
	}
	return false, false
}

// yesNo is how a file says what is on or off.
func yesNo(field func(*Conf) *bool) func(*Conf) string {
	return func(c *Conf) string { return map[bool]string{true: "yes", false: "no"}[*field(c)] }
}

func boolean(field func(*Conf) *bool) confValue {
	return confValue{yesNo(field), func(c *Conf, value string) string {
		is, ok := truth(value)
		if !ok {
			return "yes or no" + hintValue(value, []string{"yes", "no"}).String()
		}
		*field(c) = is
		return ""
	}}
}

// unlessNo is on with any value but no and false, as in firewalld.
func unlessNo(field func(*Conf) *bool) confValue {
	return confValue{yesNo(field), func(c *Conf, value string) string {
		is, ok := truth(value)
		*field(c) = is || !ok
		return ""
	}}
}

func word(field func(*Conf) *string, words ...string) confValue {
	return confValue{func(c *Conf) string { return *field(c) }, func(c *Conf, value string) string {
		if !slices.Contains(words, value) {
			return oneOf(value, words)
		}
		*field(c) = value
		return ""
	}}
}

func oneOf(value string, words []string) string {
	return fmt.Sprintf("one of %s%s", strings.Join(words, ", "), hintValue(value, words))
}

func rpFilter(c *Conf, value string) string {
	words := []string{"strict", "loose", "strict-forward", "loose-forward", "yes", "true", "no", "false"}
	value = strings.ToLower(value)
	if is, ok := truth(value); ok {
		value = map[bool]string{true: "strict", false: "no"}[is]
	}
	if !slices.Contains(words, value) {
		return oneOf(value, words)
	}
	c.IPv6RPFilter = value
	return ""
}

// flowtable reads "off" or the names of devices.
func flowtable(c *Conf, value string) string {
	for name := range strings.FieldsSeq(value) {
		if CheckInterface(name) != nil {
			return "off, or names of interfaces with blanks between them"
		}
	}
	c.NftablesFlowtable = value
	return ""
}

func reloadPolicy(c *Conf, value string) string {
	if _, err := ParseReloadPolicy(value); err != nil {
		return "DROP, REJECT or ACCEPT, or a list such as INPUT:DROP,FORWARD:DROP,OUTPUT:ACCEPT"
	}
	c.ReloadPolicy = value
	return ""
}

// ParseReloadPolicy reads what happens to packets during a reload: the policies of the chains INPUT, FORWARD and OUTPUT, each
// DROP, REJECT or ACCEPT; a chain that is not named has DROP.
func ParseReloadPolicy(value string) (map[string]string, error) {
	verdicts := []string{"DROP", "REJECT", "ACCEPT"}
	policy := map[string]string{"INPUT": "DROP", "FORWARD": "DROP", "OUTPUT": "DROP"}
	value = strings.ToUpper(value)
	if all := strings.TrimSpace(value); slices.Contains(verdicts, all) {
		return map[string]string{"INPUT": all, "FORWARD": all, "OUTPUT": all}, nil
	}
	for item := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == ',' || c == ';' }) {
		chain, verdict, _ := strings.Cut(item, ":")
		chain, verdict = strings.TrimSpace(chain), strings.TrimSpace(verdict)
		if policy[chain] == "" || !slices.Contains(verdicts, verdict) {
			return nil, refuse(InvalidValue, "cannot use %q in ReloadPolicy: it must be INPUT, FORWARD or OUTPUT, a colon, and DROP, REJECT or ACCEPT", item)
		}
		policy[chain] = verdict
	}
	return policy, nil
}

func deprecatedNumber(_ *Conf, value string) string {
	if _, err := strconv.Atoi(value); err != nil {
		return "a whole number"
	}
	return ""
}

func lockdown(_ *Conf, value string) string {
	if is, ok := truth(value); is || !ok {
		return "no, or not there: the lockdown feature does not exist any more"
	}
	return ""
}

// CheckConf tells what is wrong with a value for a key of firewalld.conf, with code INVALID_OPTION or INVALID_VALUE.
func CheckConf(key, value string) error {
	return setConf(DefaultConf(), key, value)
}

func setConf(c *Conf, key, value string) error {
	i := slices.IndexFunc(confKeys, func(k confKey) bool { return k.name == key })
	if i < 0 {
		names := make([]string, len(confKeys))
		for i, k := range confKeys {
			names[i] = k.name
		}
		return refuse(InvalidOption, "unknown key %s%s", key, hintSetting(key, names))
	}
	if mustBe := confKeys[i].set(c, value); mustBe != "" {
		return refuse(InvalidValue, "cannot set %s to %s: it must be %s%s", key, value, mustBe, quotesIn(value)).worded("'%s' for %s", value, key)
	}
	c.keepWritten(key, value)
	return nil
}

// quotesIn says of a value in quotes that they are a part of it, as firewalld.conf has no quotes; "" for any other.
func quotesIn(value string) string {
	if last := len(value) - 1; last > 0 && strings.ContainsAny(value[:1], `"'`) && value[0] == value[last] {
		return ": the value has quotes in it, which do not belong there"
	}
	return ""
}

// ReadConf reads firewalld.conf. Lines that are not understood, and keys given a second time, are ignored with a warning. An
// error, with code INVALID_VALUE, is only what cannot go together.
func ReadConf(data []byte, path string) (*Conf, Problems) {
	c := DefaultConf()
	problems := readSettings(data, path, Warning, func(key, value string) error { return setConf(c, key, value) })
	lines := ParseConfFile(data).lines
	for _, p := range problems {
		p.Notice = confNotice(p.Code, strings.TrimSpace(lines[p.Line-1]))
	}
	if err := c.together(); err != nil {
		code, msg := codeOf(err, InvalidValue)
		problems = append(problems, &Problem{Path: path, Line: 1 + ParseConfFile(data).find("IPv6_rpfilter"), Code: code, Msg: msg})
	}
	problems.sort()
	return c, problems
}

// confNotice is what firewalld prints for a line of firewalld.conf that a problem of a code is about.
func confNotice(code grammar.Code, line string) string {
	key, value, _ := strings.Cut(line, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	switch {
	case code == ParseError && key != "":
		return fmt.Sprintf("ERROR: Invalid option definition: '%s'", line)
	case code == ParseError || code == InvalidOption:
		return fmt.Sprintf("ERROR: Invalid option: '%s'", line)
	case code == AlreadyEnabled:
		return fmt.Sprintf("ERROR: Duplicate option definition: '%s'", line)
	case value == "":
		return fmt.Sprintf("ERROR: Missing value: '%s'", line)
	case key == "Lockdown":
		return `WARNING: "Lockdown" option is deprecated and has no effect`
	case key == "LogDenied":
		return fmt.Sprintf("WARNING: LogDenied '%s' is invalid, using default value 'off'", value)
	}
	return fmt.Sprintf("WARNING: %s '%s' is not valid, using default value %s", key, value, confDefaults[key])
}

// confDefaults are the defaults of firewalld.conf as firewalld prints them.
var confDefaults = map[string]string{
	"CleanupOnExit": "True", "CleanupModulesOnExit": "False", "IPv6_rpfilter": "strict", "IndividualCalls": "False",
	"FirewallBackend": "nftables", "FlushAllOnReload": "True", "ReloadPolicy": "'INPUT:DROP,FORWARD:DROP,OUTPUT:DROP'", "RFC3964_IPv4": "True",
	"MinimalMark": "'100'", "AutomaticHelpers": "no", "AllowZoneDrifting": "False",
}

// together tells which values cannot go together.
func (c *Conf) together() error {
	if strings.HasSuffix(c.IPv6RPFilter, "-forward") && c.FirewallBackend == "iptables" {
		return refuse(InvalidValue, "cannot use IPv6_rpfilter=%s with FirewallBackend=iptables: iptables can filter before routing only", c.IPv6RPFilter)
	}
	return nil
}

// ownKey is a key of richwall.conf, whose value is one of a few words.
type ownKey struct {
	name  string
	field func(*OwnConf) *string
	words []string
}

var ownKeys = []ownKey{
	{"TCPMSSClamp", func(c *OwnConf) *string { return &c.TCPMSSClamp }, []string{"both", "initiator"}},
	{"IPNoPMTUDisc", func(c *OwnConf) *string { return &c.IPNoPMTUDisc }, []string{"keep", "yes", "no"}},
	{"RuleFolding", func(c *OwnConf) *string { return &c.RuleFolding }, []string{"auto", "no", "yes"}},
	{"OnForeignChange", func(c *OwnConf) *string { return &c.OnForeignChange }, []string{"repair", "warn"}},
}

// ReadOwnConf reads richwall.conf. What is wrong in it is an error, since no other program reads it.
func ReadOwnConf(data []byte, path string) (*OwnConf, Problems) {
	c := DefaultOwnConf()
	problems := readSettings(data, path, Error, func(key, value string) error {
		names := make([]string, len(ownKeys))
		for i, k := range ownKeys {
			names[i] = k.name
		}
		i := slices.Index(names, key)
		if i < 0 {
			return refuse(InvalidOption, "unknown key %s%s", key, hintSetting(key, names))
		}
		words := ownKeys[i].words
		if !slices.Contains(words, value) {
			first, last := words[:len(words)-1], words[len(words)-1]
			return refuse(InvalidValue, "cannot set %s to %s: it must be %s or %s%s", key, value, strings.Join(first, ", "), last, hintValue(value, words))
		}
		*ownKeys[i].field(c) = value
		return nil
	})
	return c, problems
}

// readSettings calls set for each key once, and collects what is wrong with the lines.
func readSettings(data []byte, path string, severity Severity, set func(key, value string) error) Problems {
	var problems keeper
	first := map[string]int{}
	for i, line := range ParseConfFile(data).lines {
		if isComment(strings.TrimSpace(line)) {
			continue
		}
		key, value, ok := splitSetting(line)
		var err error
		switch {
		case !ok || key == "":
			err = refuse(ParseError, "cannot read %q: a setting is a key, one =, and a value", strings.TrimSpace(line))
		case value == "":
			err = refuse(InvalidValue, "missing value of %s", key)
		case first[key] > 0:
			code := AlreadyEnabled
			if severity == Error { // that is no code of a refusal
				code = InvalidOption
			}
			err = refuse(code, "%s is set in line %d already: this one is ignored", key, first[key])
		default:
			first[key] = i + 1
			err = set(key, value)
		}
		if err != nil {
			code, msg := codeOf(err, UnknownError)
			column := len(line) - len(strings.TrimLeft(line, " \t")) + 1
			problems.keeps(&Problem{Path: path, Line: i + 1, Column: column, Code: code, Severity: severity, Msg: msg}, keptProblems)
		}
	}
	return problems.all(keptProblems, "from here on")
}
