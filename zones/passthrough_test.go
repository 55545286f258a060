package zones

import (
	"fmt"
	"strings"
	"testing"
)

// A passthrough is read as iptables reads its arguments, wherever they stand. What adds neither a rule nor a chain, and what the
// tool would refuse, cannot be used.
func TestPassthroughCommand(t *testing.T) {
	for _, c := range []struct{ ipv, text, want string }{
		{"ipv4", "-A INPUT -s 10.0.0.1 -j ACCEPT", "filter append INPUT 0: -s 10.0.0.1 -j ACCEPT"},
		{"ipv4", "-t nat -A POSTROUTING -j MASQUERADE", "nat append POSTROUTING 0: -j MASQUERADE"},
		{"ipv4", "-tnat -APOSTROUTING -j MASQUERADE", "nat append POSTROUTING 0: -j MASQUERADE"},
		{"ipv4", "--table=nat --append=POSTROUTING -j MASQUERADE", "nat append POSTROUTING 0: -j MASQUERADE"},
		{"ipv4", "-I INPUT -t mangle -j ACCEPT", "mangle insert INPUT 0: -j ACCEPT"},
		{"ipv4", "-j ACCEPT --insert INPUT 3", "filter insert INPUT 3: -j ACCEPT"},
		{"ipv4", "-I INPUT 1 ! -s 10.0.0.1 -j DROP", "filter insert INPUT 1: '!' -s 10.0.0.1 -j DROP"},
		{"ipv4", "-vw5 -A INPUT -j DROP", "filter append INPUT 0: -j DROP"},
		{"ipv4", "-w -A INPUT -j DROP", "filter append INPUT 0: -j DROP"},
		{"ipv4", "-w 5 -A INPUT -j DROP", "filter append INPUT 0: -j DROP"},
		{"ipv4", "--wait=5 -A INPUT -j DROP --wait", "filter append INPUT 0: -j DROP"},
		{"ipv4", "-A INPUT -c 1 2 -4 -n -j DROP", "filter append INPUT 0: -j DROP"},
		{"ipv4", "-A INPUT -ptcp --dport 22 -j DROP", "filter append INPUT 0: -p tcp --dport 22 -j DROP"},
		{"ipv4", "-A INPUT -m comment --comment -D -j DROP", "filter append INPUT 0: -m comment --comment -D -j DROP"},
		{"ipv4", `-A INPUT -m comment --comment "-t x" -j DROP`, "filter append INPUT 0: -m comment --comment '-t x' -j DROP"},
		{"ipv6", "-N mine", "filter new-chain mine 0: "},
		{"ipv6", "-6 -A INPUT -j DROP", "filter append INPUT 0: -j DROP"},
		{"ipv4", "-6 -A INPUT -j DROP", "INVALID_PASSTHROUGH: cannot use -6 in a passthrough for ipv4"},
		{"ipv4", "-P FORWARD DROP", "INVALID_PASSTHROUGH: cannot use -P in a passthrough: it adds neither"},
		{"ipv4", "-D INPUT -j DROP", "INVALID_PASSTHROUGH: cannot use -D"},
		{"ipv4", "-F", "INVALID_PASSTHROUGH: cannot use -F"},
		{"ipv4", "-X", "INVALID_PASSTHROUGH: cannot use -X"},
		{"ipv4", "-Z", "INVALID_PASSTHROUGH: cannot use -Z"},
		{"ipv4", "-nvL", "INVALID_PASSTHROUGH: cannot use -L"},
		{"ipv4", "-R INPUT 1 -j DROP", "INVALID_PASSTHROUGH: cannot use -R"},
		{"ipv4", "-C INPUT -j DROP", "INVALID_PASSTHROUGH: cannot use -C"},
		{"ipv4", "--delete-chain mine", "INVALID_PASSTHROUGH: cannot use --delete-chain"},
		{"ipv4", "-V", "INVALID_PASSTHROUGH: cannot use -V"},
		{"ipv4", "-j ACCEPT", "INVALID_PASSTHROUGH: cannot use a passthrough without"},
		{"ipv4", "-A", "INVALID_PASSTHROUGH: cannot use -A at the end"},
		{"ipv4", "-A INPUT -t", "INVALID_PASSTHROUGH: cannot use -t at the end"},
		{"ipv4", "-A INPUT -I INPUT -j DROP", "INVALID_PASSTHROUGH: cannot use -I beside --append"},
		{"ipv4", "-t foo -A INPUT -j DROP", `INVALID_PASSTHROUGH: cannot use table "foo"`},
		{"ipv4", "-I INPUT 0 -j DROP", "INVALID_PASSTHROUGH: cannot insert a rule as number 0"},
		{"ipv4", "-N INPUT", "INVALID_PASSTHROUGH: cannot make chain INPUT"},
		{"ipv4", "-N mine -j DROP", "INVALID_PASSTHROUGH: cannot use -j DROP beside -N"},
		{"ipv4", "-A ! -j DROP", `INVALID_PASSTHROUGH: cannot use chain "!"`},
		{"ipv4", "-N QUEUE", `INVALID_PASSTHROUGH: cannot use chain QUEUE: that is a verdict of iptables`},
		{"ipv6", "-A DROP -s ::1 -j RETURN", `INVALID_PASSTHROUGH: cannot use chain DROP: that is a verdict of iptables`},
		{"ipv4", "-A " + strings.Repeat("c", 29) + " -j DROP", "INVALID_PASSTHROUGH: cannot use chain"},
	} {
		args, err := SplitArgs(c.text)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if command, err := (DirectPassthrough{IPV: c.ipv, Args: args}).Command(); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprintf("%s %s %s %d: %s", command.Table, command.Kind, command.Chain, command.Number, JoinArgs(command.Rule))
		}
		if got != c.want && (!strings.HasPrefix(got, c.want) || strings.HasPrefix(c.want, "filter")) {
			t.Errorf("%s is read as\n\t%s\nnot as\n\t%s", c.text, got, c.want)
		}
	}
}

// What cannot be used in direct.xml is warned of with its line. It stays in the file, and is not part of what a daemon applies.
func TestUnusablePassthroughs(t *testing.T) {
	d, problems := ReadDirect([]byte(`<direct>
  <passthrough ipv="ipv4">-P FORWARD DROP</passthrough>
  <passthrough ipv="ipv4">-t foo -A INPUT -j DROP</passthrough>
  <passthrough ipv="ipv4"></passthrough>
  <passthrough ipv="ipv6">-A INPUT -j DROP</passthrough>
  <passthrough ipv="eb">-L</passthrough>
  <passthrough ipv="eb">-t nothing -A INPUT -j DROP</passthrough>
</direct>`), "direct.xml")
	if d == nil || len(d.Passthroughs) != 5 {
		t.Errorf("got %+v", d)
	}
	var lines []int
	for _, p := range problems {
		if p.Severity == Error || p.Path != "direct.xml" {
			t.Errorf("got %v", p)
		}
		lines = append(lines, p.Line)
	}
	if fmt.Sprint(lines) != "[2 3 4 6 7]" {
		t.Errorf("the lines are %v", lines)
	}
	applied := Config{Direct: d}.ForRuntime().Direct.Passthroughs
	if len(applied) != 1 || applied[0].Line != 5 {
		t.Errorf("applied is %+v", applied)
	}
}

// A permanent passthrough that no tool would take is refused when it is added, and not by the next reload. One that adds nothing is written, as
// by firewalld. Either that is in the file is found, and can be removed.
func TestUnusablePermanentPassthroughs(t *testing.T) {
	o := Object{KindDirect, ""}
	for text, want := range map[string]string{
		"ipv4:-t:FILTER:-A:INPUT:-j:DROP": "INVALID_PASSTHROUGH: ", "ipv6:-I:INPUT:0:-j:DROP": "INVALID_PASSTHROUGH: ", "eb:-t:nosuch:-A:INPUT:-j:DROP": "INVALID_PASSTHROUGH: ",
		"ipv4:-P:FORWARD:DROP": "", "eb:-L": "",
	} {
		if _, err := Apply(builtins(t), Add(Permanent, o, item("passthrough "+text))); !strings.HasPrefix(errorText(err), want) || (err == nil) != (want == "") {
			t.Errorf("%s: added: %v, want %q", text, err, want)
		}
		words := strings.Split(text, ":")
		d, _ := ReadDirect([]byte(`<direct><passthrough ipv="`+words[0]+`">`+JoinArgs(words[1:])+`</passthrough></direct>`), "direct.xml")
		c := builtins(t).WithDirect(d)
		if has, err := Has(c, Permanent, o, item("passthrough "+text)); err != nil || !has {
			t.Errorf("%s: is there: %v, %v", text, has, err)
		}
		if left, err := Apply(c, Remove(Permanent, o, item("passthrough "+text))); err != nil || len(left.Direct.Passthroughs) != 0 {
			t.Errorf("%s: removed: %v", text, err)
		}
	}
}
