package zones

import (
	"fmt"
	"strings"
	"testing"
)

// A file of many entries that are wrong in the same way costs no error for each: behind the warnings that are kept, another such entry
// takes no memory beyond the entry itself. All of them are counted, and right entries among them are kept.
func TestManyEqualWrongEntries(t *testing.T) {
	read := func(wrong int) func() {
		file := `<ipset type="hash:ip"><entry>10.0.0.1</entry>` + strings.Repeat("<entry>x</entry>", wrong) + "<entry>10.0.0.2</entry></ipset>"
		return func() {
			set, problems := ReadIPSet("sample", []byte(file), "sample.xml")
			if got := strings.Join(set.Entries, " "); got != "10.0.0.1 10.0.0.2" {
				t.Errorf("the entries are %q", got)
			}
			last := problems[len(problems)-1].String()
			if want := fmt.Sprintf("%d more", wrong-keptProblems); !strings.Contains(last, "INVALID_ENTRY") || !strings.Contains(last, want) {
				t.Errorf("of %d wrong entries it says at last: %s; want %s", wrong, last, want)
			}
		}
	}
	const few, many = 2 * keptProblems, 20 * keptProblems
	base, more := testing.AllocsPerRun(1, read(few)), testing.AllocsPerRun(1, read(many))
	if each := (more - base) / (many - few); each > 1 {
		t.Errorf("each wrong entry takes %.1f allocations", each)
	}
}
