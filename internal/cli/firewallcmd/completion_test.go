package firewallcmd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCompletions keeps the completions of shells, which are made from the table of options, up to date.
func TestCompletions(t *testing.T) {
	for _, p := range []program{online, offline} {
		generated(t, fmt.Sprintf("completions/bash/%s", p), bash(p))
		generated(t, fmt.Sprintf("completions/zsh/_%s", p), zsh(p))
		generated(t, fmt.Sprintf("completions/fish/%s.fish", p), fish(p))
	}
}

// TestCompletionSyntax has each shell that is installed read its completions.
func TestCompletionSyntax(t *testing.T) {
	for shell, script := range map[string]func(program) string{"bash": bash, "zsh": zsh, "fish": fish} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		for _, p := range []program{online, offline} {
			command := exec.Command(path, "-n")
			command.Stdin = strings.NewReader(script(p))
			if out, err := command.CombinedOutput(); err != nil {
				t.Errorf("%s does not understand the completions of %s: %v\n%s", shell, p, err, out)
			}
		}
	}
}

// TestBashRunsNoName completes the name of a zone where one is a command.
func TestBashRunsNoName(t *testing.T) {
	dir := t.TempDir()
	fake := "#!/bin/sh\necho 'public pu-$(touch ran) pu`touch ran` work'\n"
	if err := os.WriteFile(filepath.Join(dir, "firewall-cmd"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("bash", "-c", bash(online)+`
		_init_completion() { prev=--zone cur=pu; }
		_firewall_cmd
		echo "${COMPREPLY[@]}"`)
	command.Dir, command.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := command.CombinedOutput()
	if err != nil || string(out) != "public\n" {
		t.Errorf("pu is completed to %q, %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("the name of a zone was run as a command")
	}
}

// listsOf are the options that list what a value can be, by what the table calls it.
var listsOf = map[string]string{
	"ZONE": "--get-zones", "ZONE|HOST|ANY": "--get-zones", "POLICY": "--get-policies", "SERVICE": "--get-services",
	"ICMPTYPE": "--get-icmptypes", "IPSET": "--get-ipsets", "HELPER": "--get-helpers", "TYPE": "--get-ipset-types",
}

// candidates says how a shell finds the values of an option: by asking the program (ask), from a list of words, or among
// the files, folders or network interfaces of the machine.
func (o *option) candidates(p program) (ask string, words []string, files string) {
	ask = listsOf[o.arg]
	if !slices.ContainsFunc(optionsOf(p), func(other *option) bool { return other.flag() == ask }) {
		ask = ""
	}
	switch {
	case o.arg == "ZONE|HOST|ANY":
		words = []string{"HOST", "ANY"}
	case o.arg == "FILE", o.arg == "DIR", o.arg == "INTERFACE":
		files = o.arg
	case o.arg == "TARGET":
		words = []string{"default", "ACCEPT", "DROP", "REJECT", "CONTINUE"}
	case o.arg == strings.ToLower(o.arg) && strings.Contains(o.arg, "|"):
		words = strings.Split(strings.Trim(o.arg, "|"), "|")
	}
	return ask, words, files
}

// asking is the command that lists candidates. One that waits for a daemon that does not run would hold up the shell.
func asking(p program, ask string) string {
	if p == online {
		return fmt.Sprintf("timeout 1 %s %s 2>/dev/null", p, ask)
	}
	return fmt.Sprintf("%s %s 2>/dev/null", p, ask)
}

const header = "# made from the table of options; change that, and run: go test ./internal/cli/firewallcmd -update\n"

// shown are the options of a program that completions offer.
func shownOptions(p program) []*option {
	return slices.DeleteFunc(optionsOf(p), func(o *option) bool { return o.use.has(hidden) })
}

// bash is the completion of a program for bash, with the help of the package bash-completion.
func bash(p program) string {
	byCandidates := map[string][]string{}
	var order, all []string
	for _, o := range shownOptions(p) {
		end := ""
		if o.takes == one || o.takes == many {
			end = "="
		}
		all = append(all, o.flag()+end)
		if action := o.bash(p); action != "" {
			if byCandidates[action] == nil {
				order = append(order, action)
			}
			byCandidates[action] = append(byCandidates[action], o.flag())
		}
	}
	name := strings.ReplaceAll(string(p), "-", "_")
	var b strings.Builder
	fmt.Fprintf(&b, "%s_%s() {\n    local cur prev words cword split\n    _init_completion -s || return\n    case $prev in\n", header, name)
	for _, action := range order {
		fmt.Fprintf(&b, "    %s)\n        %s\n        return ;;\n", strings.Join(byCandidates[action], "|"), action)
	}
	fmt.Fprintf(&b, "    esac\n    $split && return\n    COMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n", strings.Join(all, " "))
	fmt.Fprintf(&b, "    [[ ${COMPREPLY-} == *= ]] && compopt -o nospace\n}\ncomplete -F _%s %s\n", name, p)
	return b.String()
}

// plainWords leaves out what is more than a plain word: compgen expands its words as the shell does, and so it would run a zone named
// $(reboot). The other shells take candidates as they are.
const plainWords = ` | tr ' ' '\n' | grep -E '^[[:alnum:]_.,:/+-]+$'`

// bash is what completes the value of an option; "" if nothing does.
func (o *option) bash(p program) string {
	ask, words, files := o.candidates(p)
	switch {
	case files == "INTERFACE":
		return "_available_interfaces"
	case files == "FILE":
		return "_filedir"
	case files == "DIR":
		return "_filedir -d"
	case ask != "":
		list := strings.Join(append(words, "$("+asking(p, ask)+plainWords+")"), " ")
		return fmt.Sprintf(`COMPREPLY=($(compgen -W "%s" -- "$cur"))`, list)
	case words != nil:
		return fmt.Sprintf(`COMPREPLY=($(compgen -W "%s" -- "$cur"))`, strings.Join(words, " "))
	}
	return ""
}

// zsh is the completion of a program for zsh.
func zsh(p program) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n%s_arguments -s \\\n", p, header)
	quote := strings.NewReplacer("'", `'\''`, "[", `\[`, "]", `\]`, ":", `\:`)
	for _, o := range shownOptions(p) {
		fmt.Fprintf(&b, "  '*--%s", o.name)
		if o.takes == one || o.takes == many {
			b.WriteByte('=')
		}
		fmt.Fprintf(&b, "[%s]", quote.Replace(o.help))
		if o.takes == one || o.takes == many {
			fmt.Fprintf(&b, ":%s:%s", quote.Replace(o.arg), o.zsh(p))
		}
		b.WriteString("' \\\n")
	}
	return strings.TrimSuffix(b.String(), " \\\n") + "\n"
}

func (o *option) zsh(p program) string {
	ask, words, files := o.candidates(p)
	switch {
	case files == "INTERFACE":
		return "_net_interfaces"
	case files == "FILE":
		return "_files"
	case files == "DIR":
		return "_files -/"
	case ask != "":
		return fmt.Sprintf("(%s)", strings.Join(append(words, "$("+asking(p, ask)+")"), " "))
	case words != nil:
		return fmt.Sprintf("(%s)", strings.Join(words, " "))
	}
	return " "
}

// fish is the completion of a program for fish.
func fish(p program) string {
	var b strings.Builder
	b.WriteString(header)
	quote := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	for _, o := range shownOptions(p) {
		fmt.Fprintf(&b, "complete -c %s -l %s", p, o.name)
		if o.short != 0 {
			fmt.Fprintf(&b, " -s %c", o.short)
		}
		b.WriteString(o.fish(p))
		fmt.Fprintf(&b, " -d '%s'\n", quote.Replace(o.help))
	}
	return b.String()
}

func (o *option) fish(p program) string {
	if o.takes == nothing {
		return " -f"
	}
	ask, words, files := o.candidates(p)
	switch {
	case files == "INTERFACE":
		return " -x -a '(__fish_print_interfaces)'"
	case files == "FILE":
		return " -r -F"
	case files == "DIR":
		return " -x -a '(__fish_complete_directories)'"
	case ask != "":
		return fmt.Sprintf(" -x -a '%s'", strings.Join(append(words, "("+asking(p, ask)+` | string split " ")`), " "))
	case words != nil:
		return fmt.Sprintf(" -x -a '%s'", strings.Join(words, " "))
	}
	return " -x"
}
