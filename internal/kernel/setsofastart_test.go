package kernel_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/lab"
)

// heldBySets are the lines of "ipset save" that say what sets hold, in order.
func heldBySets(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	lines := regexp.MustCompile(`(?m)^add .*$`).FindAllString(run(t, ns, "", "ipset", "save"), -1)
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// blockedBy is a configuration with a direct rule that drops what a set has, with the set's type and entries, and another set with
// one entry unless that is "".
func blockedBy(conf, kind, other string, entries ...string) map[string]string {
	entry := func(list ...string) string { return "<entry>" + strings.Join(list, "</entry><entry>") + "</entry>" }
	files := map[string]string{"zones/public.xml": "<zone/>", "firewalld.conf": conf,
		"direct.xml":         `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-m set --match-set blocked src -j DROP</rule></direct>`,
		"ipsets/blocked.xml": `<ipset type="` + kind + `">` + entry(entries...) + `</ipset>`}
	if other != "" {
		files["ipsets/other.xml"] = `<ipset type="hash:ip">` + entry(other) + `</ipset>`
	}
	return files
}

// refusedLater is a configuration that nftables refuses, and nobody before it.
const refusedLater = "NftablesFlowtable=nosuch0\n"

// Where nftables refuses the rules of a start, sets have what they had before it: those of an earlier process, whose rules are in force still,
// and one of the same name that another program has made. What is taken then has what it says, and no set for a while stays.
func TestSetsBehindAStartThatIsRefused(t *testing.T) {
	ours := func(t *testing.T, ns *lab.Namespace, store *disk) {
		k, _, killed := process(t, ns, ir.NFTables, store)
		commit(t, k, desired(t, blockedBy("", "hash:ip", "", "192.0.2.1", "192.0.2.2"), ir.NFTables, false))
		killed()
	}
	others := func(t *testing.T, ns *lab.Namespace, _ *disk) {
		run(t, ns, "create blocked hash:ip\nadd blocked 192.0.2.1\nadd blocked 192.0.2.2\n", "ipset", "restore")
		run(t, ns, "", "iptables", "-A", "INPUT", "-m", "set", "--match-set", "blocked", "src", "-j", "DROP")
	}
	for _, c := range []struct {
		whose, kind string
		entries     []string
		make        func(*testing.T, *lab.Namespace, *disk)
	}{
		{"of an earlier process", "hash:ip", []string{"192.0.2.9"}, ours},
		{"of an earlier process, with another type", "hash:net", []string{"192.0.2.0/24"}, ours},
		{"of another program", "hash:ip", []string{"192.0.2.9"}, others},
	} {
		t.Run(c.whose, func(t *testing.T) {
			ns, store := namespace(t), &disk{}
			c.make(t, ns, store)
			held := heldBySets(t, ns)
			rules := run(t, ns, "", "iptables-save", "-t", "filter")
			k, _, killed := process(t, ns, ir.NFTables, store)
			defer killed()
			if err := refuses(t, k, desired(t, blockedBy(refusedLater, c.kind, "", c.entries...), ir.NFTables, false)); err != nil {
				t.Fatal(err)
			}
			if got := heldBySets(t, ns); got != held {
				t.Errorf("behind a start that was refused sets have\n%s\nand before it\n%s", got, held)
			}
			if got := run(t, ns, "", "iptables-save", "-t", "filter"); rulesIn(got) != rulesIn(rules) {
				t.Errorf("behind a start that was refused the rules are\n%s\nand before it\n%s", got, rules)
			}
			commit(t, k, desired(t, blockedBy("", c.kind, "", c.entries...), ir.NFTables, false))
			want := "add blocked " + c.entries[0]
			if got := heldBySets(t, ns); got != want || strings.Contains(run(t, ns, "", "ipset", "save"), "_richwall_") {
				t.Errorf("behind a start that was taken sets have\n%s\nand not\n%s", got, want)
			}
		})
	}
}

// rulesIn are the rules of what iptables-save prints, without the times and counters of it.
func rulesIn(saved string) string {
	return strings.Join(regexp.MustCompile(`(?m)^-A .*$`).FindAllString(saved, -1), "\n")
}

// The same holds of a change: a set that the change takes out, and one that it makes anew, as its hash has another size.
func TestSetsThatGoStayBehindARefusal(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	sized := func(files map[string]string) map[string]string {
		files["ipsets/blocked.xml"] = strings.Replace(files["ipsets/blocked.xml"], "<entry>", `<option name="hashsize" value="2048"/><entry>`, 1)
		return files
	}
	commit(t, k, desired(t, blockedBy("", "hash:ip", "198.51.100.1", "192.0.2.1"), ir.NFTables, false))
	held := heldBySets(t, ns)
	for range 2 { // the first attempt changes nothing for the second one
		if err := refuses(t, k, desired(t, sized(blockedBy(refusedLater, "hash:ip", "", "192.0.2.9")), ir.NFTables, false)); err != nil {
			t.Fatal(err)
		}
		if got := heldBySets(t, ns); got != held {
			t.Fatalf("behind a change that was refused sets have\n%s\nand before it\n%s", got, held)
		}
	}
	commit(t, k, desired(t, sized(blockedBy("", "hash:ip", "", "192.0.2.9")), ir.NFTables, false))
	if got := heldBySets(t, ns); got != "add blocked 192.0.2.9" {
		t.Errorf("behind a change that was taken sets have\n%s", got)
	}
}
