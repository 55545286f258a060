package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// state is all that a session leaves behind: lines under a name for each thing.
type state map[string][]string

// calls are what the daemon is asked for in a state: methods of the main object, under the names of their interfaces.
var calls = []string{".getDefaultZone", ".queryPanicMode", ".getLogDenied", ".listServices", ".listIcmpTypes", ".getHelpers", ".zone.getActiveZones", ".policy.getActivePolicies",
	".ipset.getIPSets", ".direct.getAllChains", ".direct.getAllRules", ".direct.getAllPassthroughs"}

// each are the methods that show one object of a list.
var each = []struct{ list, show string }{
	{".zone.getZones", ".zone.getZoneSettings2"}, {".policy.getPolicies", ".policy.getPolicySettings"}, {".ipset.getIPSets", ".ipset.getIPSetSettings"},
}

// configCalls are what the permanent configuration is asked for.
var configCalls = []string{".config.getZoneNames", ".config.getPolicyNames", ".config.getServiceNames", ".config.getIPSetNames", ".config.getIcmpTypeNames", ".config.getHelperNames",
	".config.direct.getAllChains", ".config.direct.getAllRules", ".config.direct.getAllPassthroughs"}

// state asks the daemon, the files and the kernel.
func (s *side) state() (state, error) {
	defer s.clock("state")()
	out := state{}
	ask := func(object, method string, args ...any) *dbus.Call {
		call := s.conn.Object(busName, dbus.ObjectPath(object)).Call(busName+method, 0, args...)
		lines := []string{"error"}
		if call.Err == nil {
			lines = asLines(call.Body, unordered(method))
		}
		out[strings.TrimSpace("bus "+strings.TrimPrefix(method, ".")+" "+strings.Trim(fmt.Sprintln(args...), "\n"))] = lines
		return call
	}
	for _, method := range calls {
		ask(busPath, method)
	}
	for _, method := range configCalls {
		ask(busPath+"/config", method)
	}
	for _, e := range each {
		var names []string
		if call := ask(busPath, e.list); call.Err == nil {
			if err := call.Store(&names); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			ask(busPath, e.show, name)
		}
	}
	if err := s.alive(out); err != nil {
		return nil, err
	}
	var all map[string]dbus.Variant
	if err := s.conn.Object(busName, busPath+"/config").Call(properties+".GetAll", 0, busName+".config").Store(&all); err == nil {
		out["bus properties of config"] = asLines([]any{all}, 0)
	}
	if err := s.files(out); err != nil {
		return nil, err
	}
	return out, s.kernel(out)
}

// life is the name of the daemon's own state among the things of a state.
const life = "bus state"

// alive is the daemon's own state, and if that is FAILED what its log says last.
func (s *side) alive(out state) error {
	var is string
	if err := s.conn.Object(busName, busPath).Call(stateName, 0, busName, "state").Store(&is); err != nil {
		return fmt.Errorf("the daemon of %s does not answer: %w\n%s", s.name, err, s.tail("log"))
	}
	out[life] = []string{is}
	if is != "FAILED" {
		return nil
	}
	log, _ := os.ReadFile(filepath.Join(s.outside, "log")) // without it there is nothing to tell
	for line := range strings.Lines(string(log)) {
		if _, message, ok := strings.Cut(line, "ERROR: "); ok && !strings.Contains(message, "Failed to") && !strings.Contains(message, "ALREADY_") {
			out[life] = []string{is, strings.TrimSpace(message)}
		}
	}
	return nil
}

// asLines are values as lines: one for each setting, or element of a list. levels of lists have no order.
func asLines(body []any, levels int) []string {
	var out []string
	for _, v := range body {
		switch v := v.(type) {
		case map[string]dbus.Variant:
			for name, value := range v {
				out = append(out, name+": "+render(value, levels))
			}
		case map[string]map[string][]string:
			for name, value := range v {
				out = append(out, name+": "+render(value, levels))
			}
		case []string:
			out = append(out, rendered(v, levels-1)...)
		case [][]any:
			out = append(out, rendered(v, levels-1)...)
		default:
			out = append(out, render(v, levels))
		}
	}
	slices.Sort(out)
	return out
}

// kernelCommands show what is in the kernel.
const kernelCommands = `echo '== nft'; nft list ruleset
for tool in iptables-save ip6tables-save ebtables-save; do echo "== $tool"; $tool 2>/dev/null; done
echo '== ipset'; ipset save
echo '== sysctl'; sysctl -e net.ipv4.ip_forward net.ipv4.conf.all.forwarding net.ipv6.conf.all.forwarding net.ipv4.conf.all.rp_filter net.ipv4.ip_no_pmtu_disc`

var (
	tableHead = regexp.MustCompile(`^table (\w+ \S+) \{`)
	counters  = regexp.MustCompile(`counter packets \d+ bytes \d+| # handle \d+| initval 0x\w+| hashsize \d+| bucketsize \d+|\[\d+:\d+\]`)
	timeLeft  = regexp.MustCompile(` expires \w+| timeout \d+$`)
)

// kernel is what the kernel has, by chain and set.
func (s *side) kernel(out state) error {
	got, err := s.run("sh", "-c", kernelCommands)
	if err != nil {
		return err
	}
	section, table, block := "", "", ""
	for _, line := range strings.Split(got.Stdout, "\n") {
		line = strings.TrimRight(counters.ReplaceAllString(line, ""), " ")
		if name, ok := strings.CutPrefix(line, "== "); ok {
			section, table, block = name, "", ""
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		switch {
		case section == "nft":
			if m := tableHead.FindStringSubmatch(line); m != nil {
				table, block = m[1], ""
			} else if strings.Contains(table, "firewalld") {
				if strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "\t\t") && line != "\t}" {
					block = "nft "
					if strings.HasPrefix(table, "bridge ") {
						block += table + " "
					}
					block += strings.TrimSuffix(strings.TrimSpace(line), " {")
					out[block] = nil
				} else if line != "\t}" && line != "}" {
					out[block] = append(out[block], strings.TrimSpace(timeLeft.ReplaceAllString(line, "")))
				}
			}
		case section == "sysctl":
			out["sysctl"] = append(out["sysctl"], line)
		case section == "ipset":
			key := "ipset " + strings.Fields(line)[1]
			out[key] = append(out[key], line)
		case line[0] == '*':
			table = line[1:]
		case line[0] == ':':
			words := strings.Fields(line[1:])
			block = section + " " + table + " " + words[0]
			out[block] = append(out[block], words[1])
		case strings.HasPrefix(line, "-A"):
			key := section + " " + table + " " + strings.Fields(line)[1]
			out[key] = append(out[key], line)
		}
	}
	for key, lines := range out {
		if strings.HasPrefix(key, "nft set") || strings.HasPrefix(key, "nft map") {
			out[key] = elements(lines)
		}
		if strings.HasPrefix(key, "ipset ") {
			slices.Sort(lines)
		}
	}
	out.bridges()
	return nil
}

// elements are the lines of a set, with one for each element, in order.
func elements(lines []string) []string {
	words := strings.FieldsFunc(strings.Join(lines, " "), func(r rune) bool { return r == ',' || r == '{' || r == '}' })
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	slices.Sort(words)
	return words
}

// unordered is a state in which unless settled the order does not count of what is in the kernel, where firewalld puts what was
// added since the last reload behind the rest.
func (s state) unordered(settled bool) state {
	out := state{}
	for key, lines := range s {
		if key != life && !strings.HasPrefix(key, "file ") && !strings.HasPrefix(key, "bus ") && !settled {
			lines = slices.Clone(lines)
			slices.Sort(lines)
		}
		out[key] = lines
	}
	return out
}

// difference is one thing that is not alike.
type difference struct {
	step         int    // which step of the session it came at
	what         string // the step's text, or the name of a thing of the state
	shape        string // of the step, or empty
	theirs, ours string
	sorted       bool     // the outcomes say the same in another order
	lost, more   []string // of a state: the lines that are only theirs, and only ours; gone for a thing that is not there
	reason       string   // why both say the same in other words; empty where they do not
	wrong        int      // how many of the step's values are not valid
	shipped      bool     // a file of the reference alone that says what the shipped one does
	scene
}

// scene is what a difference stands in.
type scene struct {
	session      *session
	before       []step // up to the step it came at
	theirs, ours state  // of the sides, where states are compared
}

// gone is the line of a thing that is not there.
const gone = "(not there)"

// compare is how two states differ, thing by thing.
//
// shipped is the folder of the shipped definitions.
func compare(theirs, ours state, shipped string) (out []difference) {
	keys := map[string]bool{}
	for key := range theirs {
		keys[key] = true
	}
	for key := range ours {
		keys[key] = true
	}
	for key := range keys {
		a, inA := theirs[key]
		b, inB := ours[key]
		if inA == inB && slices.Equal(a, b) {
			continue
		}
		if strings.HasPrefix(key, "mode ") && (!inA || !inB) { // which the file itself tells
			continue
		}
		d := difference{what: key, lost: onlyIn(a, b), more: onlyIn(b, a), reason: same(key, a, b)}
		if name, isFile := strings.CutPrefix(key, "file "); isFile && !inB {
			d.shipped = sameTags(theirs["file "+name], filepath.Join(shipped, name))
		}
		switch {
		case !inA:
			d.lost = []string{gone}
		case !inB:
			d.more = []string{gone}
		}
		d.theirs, d.ours = strings.Join(d.lost, "\n"), strings.Join(d.more, "\n")
		if inA && inB && len(d.lost)+len(d.more) == 0 {
			d.theirs, d.ours = "(order) "+strings.Join(a, "\n"), "(order) "+strings.Join(b, "\n")
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b difference) int { return strings.Compare(a.what, b.what) })
	return out
}

// onlyIn are the lines of a that b has not as often.
func onlyIn(a, b []string) (out []string) {
	count := map[string]int{}
	for _, line := range b {
		count[line]++
	}
	for _, line := range a {
		if count[line]--; count[line] < 0 {
			out = append(out, line)
		}
	}
	return out
}

// oldProtocol is how older files of services say a protocol, which firewalld writes as such.
var oldProtocol = regexp.MustCompile(`<port protocol="(\w+)" port=""/>`)

// notFor is a family that an ICMP type is not for, which firewalld does not write.
var notFor = regexp.MustCompile(` ipv[46]="no"`)

// neither is what is left of the family that an ICMP type is not for, where it has an element of its own.
var neither = regexp.MustCompile(`<destination */>`)

var tag = regexp.MustCompile(`<[a-z/][^>]*>`)

// sameTags is true of lines of XML that have the same tags as a file, in any order.
func sameTags(lines []string, file string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	sorted := func(text string) []string {
		text = neither.ReplaceAllString(notFor.ReplaceAllString(oldProtocol.ReplaceAllString(text, `<protocol value="$1"/>`), ""), "")
		tags := tag.FindAllString(regexp.MustCompile(`(?s)<!--.*?-->`).ReplaceAllString(text, ""), -1)
		for i := range tags {
			words := strings.Fields(strings.NewReplacer("/>", " />", ">", " >", "<", "< ").Replace(tags[i]))
			slices.Sort(words)
			tags[i] = strings.Join(words, " ")
		}
		slices.Sort(tags)
		return tags
	}
	return slices.Equal(sorted(strings.Join(lines, "\n")), sorted(string(text)))
}
