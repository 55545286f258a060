package lab

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Each test that is to run apart runs once: those that measure time before the others, and with nothing beside them. Of the lines of success
// there is one, the last; and the exit code is that of a test that failed.
func TestApart(t *testing.T) {
	for _, fails := range []bool{false, true} {
		var mu sync.Mutex
		var ran []string
		running := 0
		run := func(name string) ([]byte, int) {
			mu.Lock()
			defer mu.Unlock()
			ran = append(ran, name)
			if running++; strings.HasPrefix(name, "TestTime") && running > 1 {
				t.Errorf("%s is not alone", name)
			}
			mu.Unlock()
			mu.Lock()
			running--
			if fails && name == "TestB" {
				return []byte("--- FAIL: TestB\nFAIL\n"), 3
			}
			return []byte("--- PASS: " + name + "\n\x16PASS\n"), 0
		}
		var printed bytes.Buffer
		code := runApart([]string{"TestA", "TestTime1", "TestB", "TestC", "TestTime2", "TestD", "TestE"}, []string{"TestTime2", "TestTime1"}, run, &printed)
		if len(ran) != 7 || !slices.Equal(ran[:2], []string{"TestTime1", "TestTime2"}) || len(slices.Compact(slices.Sorted(slices.Values(ran)))) != 7 {
			t.Errorf("these ran: %v", ran)
		}
		text := printed.String()
		if fails && (code != 3 || !strings.Contains(text, "\nFAIL\n") || strings.Contains(text, "\x16PASS\n")) ||
			!fails && (code != 0 || !strings.HasSuffix(text, "\n\x16PASS\n") || strings.Count(text, "\x16PASS\n") != 1) ||
			strings.Count(text, "--- ") != 7 {
			t.Errorf("the exit code is %d, and printed is %q", code, text)
		}
	}
}

// toFail is a variable of the environment that makes TestToldToFail fail.
const toFail = "RICHWALL_LAB_FAIL"

// TestToldToFail is what TestApartProcess runs.
func TestToldToFail(t *testing.T) {
	t.Log("told to fail:", os.Getenv(toFail))
	if os.Getenv(toFail) != "" {
		t.Fail()
	}
}

// The process of a test runs that one alone, with the arguments that all get, and its output and exit code say how that went.
func TestApartProcess(t *testing.T) {
	for want, told := range map[string]string{"PASS": "", "FAIL": "yes"} {
		t.Setenv(toFail, told)
		output, code := apart("TestToldToFail", []string{"-test.v=true"})
		if text := string(output); !strings.Contains(text, "--- "+want+": TestToldToFail") || strings.Count(text, "=== RUN") != 1 || (code == 0) != (want == "PASS") {
			t.Errorf("the exit code is %d, and printed is %q", code, text)
		}
	}
}

// Of the arguments of go test, those that say how tests run hold for each of them. One that chooses tests, or asks for a profile, has all
// run as usual.
func TestArgumentsOfTestsApart(t *testing.T) {
	for line, want := range map[string]string{
		"-test.v=test2json -test.count=3 -test.testlogfile=/x -test.timeout=1m": "-test.count=3 -test.timeout=1m -test.v=test2json",
		"-test.v=true -test.run=TestA":                                          "usual", "-test.cpuprofile=/x": "usual", "": "",
	} {
		given := flag.NewFlagSet("", flag.ContinueOnError)
		for _, name := range []string{"v", "count", "testlogfile", "timeout", "run", "cpuprofile"} {
			given.String("test."+name, "", "")
		}
		if err := given.Parse(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
		args, usual := forEach(given)
		if got := strings.Join(args, " "); usual != (want == "usual") || !usual && got != want {
			t.Errorf("of %q each gets %q; all run as usual: %v", line, got, usual)
		}
	}
	if names, err := listApart(); err != nil || !slices.Contains(names, "TestArgumentsOfTestsApart") {
		t.Errorf("the tests are %v, %v", names, err)
	}
}
