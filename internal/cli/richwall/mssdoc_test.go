package richwall

import (
	"flag"
	"os"
	"strings"
	"testing"

	"richwall/internal/lab"
)

var updateDocument = flag.Bool("update", false, "write into docs/mss.md what its commands print now")

const mssDocument = "../../../docs/mss.md"

// The commands in docs/mss.md print what stands below them. They run one after the other, in a network namespace and a
// folder of their own.
func TestMSSDocument(t *testing.T) {
	if missing := lab.Missing("sh", "ip", "nft"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	data, err := os.ReadFile(mssDocument)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	folder := t.TempDir()
	got := rerun(string(data), func(command string) string {
		out, err := ns.Run(t.Context(), "PATH=$PATH:/usr/sbin:/sbin\ncd '"+folder+"'\n"+command+"\n", "sh", "-e")
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
		return out
	})
	if *updateDocument {
		if err := os.WriteFile(mssDocument, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(data) {
		t.Errorf("docs/mss.md is out of date; go test ./internal/cli/richwall -run TestMSSDocument -update makes it:\n%s", got)
	}
}

// rerun is a document in which each command of a console block, a line that starts with "$ ", is followed by what run says
// of it, in place of what was there.
func rerun(document string, run func(command string) string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(document) {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console\n"
			b.WriteString(line)
		case !inside:
			b.WriteString(line)
		case isCommand:
			b.WriteString(line)
			b.WriteString(run(strings.TrimSpace(command)))
		}
	}
	return b.String()
}
