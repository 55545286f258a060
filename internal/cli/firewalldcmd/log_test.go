package firewalldcmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestLogLines(t *testing.T) {
	var out bytes.Buffer
	log := logTo(&out)
	log.Debug("not seen")
	log.Info("told")
	log.Warn("ALREADY_ENABLED: 'ssh' already in 'public'")
	log.With("call", "addService").Error("INVALID_SERVICE: nosuch", "sender", ":1.5")
	want := regexp.MustCompile(`^DATE told
DATE WARNING: ALREADY_ENABLED: 'ssh' already in 'public'
DATE ERROR: INVALID_SERVICE: nosuch call=addService sender=:1.5
$`)
	date := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d `)
	if got := date.ReplaceAllString(out.String(), "DATE "); !want.MatchString(got) {
		t.Errorf("the log is\n%s", got)
	}
	out.Reset()
	newLogger(&sink{console: newTarget(printer(&out, false))}, true).Log(t.Context(), slog.LevelDebug, "seen")
	if !strings.Contains(out.String(), " DEBUG1: seen\n") {
		t.Errorf("the log is %s", out.String())
	}
}

// logTo returns a logger whose lines go to a buffer.
func logTo(out io.Writer) *slog.Logger {
	return newLogger(&sink{console: newTarget(printer(out, false))}, false)
}

func TestWhatStrangersWroteIsOneHarmlessLine(t *testing.T) {
	for _, text := range []string{
		"a\n2026-01-31 12:00:00 WARNING: forged", "a\r\nb", "\x1b[2J\x1b]0;title\x07", "\u009b31m", "\u202egnp.exe", "\u2066\u2028\u2029\u0085",
		"\xff\xfe\xc0\x80", "\x00\x08\x7f", "##[error]forged",
	} {
		var out bytes.Buffer
		log := logTo(&out)
		log.Error(text)
		log.Warn("message", "reason", fmt.Errorf("cannot: %s", text))
		log.With("call", text).Info("message", text, "value")
		lines := strings.SplitAfter(out.String(), "\n")
		if len(lines) != 4 || lines[3] != "" {
			t.Errorf("%q makes %d lines of three messages: %q", text, len(lines)-1, lines)
		}
		for _, line := range lines {
			clean := strings.TrimSuffix(line, "\n")
			if i := strings.IndexFunc(clean, func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 || !utf8.ValidString(clean) {
				t.Errorf("%q is logged as %q", text, line)
			}
			if strings.Contains(line, "##") {
				t.Errorf("a build server obeys %q", line)
			}
		}
	}
}

// An error that is several is one line, in which they are told apart.
func TestSeveralErrorsAreOneLine(t *testing.T) {
	var out bytes.Buffer
	logTo(&out).Error("cannot reload", "reason", errors.Join(errors.New("one"), errors.New("two")), "text", "a\nb")
	if got := out.String(); !strings.HasSuffix(got, "ERROR: cannot reload reason=one; two text=a\\nb\n") {
		t.Errorf("the log has %q", got)
	}
}

func TestALineIsShortHoweverMuchIsLogged(t *testing.T) {
	var out bytes.Buffer
	log := logTo(&out)
	long := strings.Repeat("5 MB of one call\n", 300_000)
	log.Error(long)
	log.Error("short", "a", long, "b", long, "c", long, "d", long, "e", long, "f", long)
	log.With("a", long, "b", long, "c", long, "d", long, "e", long).Error("short", long, long)
	const date, mark = len("2026-01-31 12:00:00 "), len("…\n")
	for line := range strings.Lines(out.String()) {
		if len(line) > date+maxLine+mark {
			t.Errorf("a line has %d bytes: %.100s…", len(line), line)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("three messages made %d lines", n)
	}
}

// A caller who is refused a million times fills neither the disk nor the log of the others.
func TestAFloodIsCutAndCounted(t *testing.T) {
	var out bytes.Buffer
	h := logTo(&out).Handler()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	const stranger, other = 1, 2
	write := func(place uintptr, text string) {
		t.Helper()
		if err := h.Handle(t.Context(), slog.NewRecord(now, slog.LevelError, text, place)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1_000_000 {
		write(stranger, fmt.Sprintf("INVALID_ZONE: %d", i))
	}
	if n := out.Len(); n > 2*budgetBurst {
		t.Errorf("a million messages at once made %d bytes", n)
	}
	write(other, "the message of another place")
	if got := out.String(); !strings.HasSuffix(got, "more of them are left out for a while\n2026-01-31 12:00:00 ERROR: the message of another place\n") {
		t.Errorf("the log ends with %q", got[len(got)-300:])
	}
	out.Reset()
	now = now.Add(2 * time.Minute)
	write(stranger, "INVALID_ZONE: after a while")
	if !regexp.MustCompile(`^2026-01-31 12:02:00 WARNING: 9\d{5} messages like the next one were left out
2026-01-31 12:02:00 ERROR: INVALID_ZONE: after a while
$`).MatchString(out.String()) {
		t.Errorf("the log goes on with %q", out.String())
	}
	out.Reset()
	for range 24 * 60 * 60 {
		now = now.Add(time.Second)
		write(stranger, strings.Repeat("x", maxMessage))
	}
	if n := out.Len(); n > 40<<20 {
		t.Errorf("a day of a message each second made %d MB", n>>20)
	}
}

// slow is a stream that takes nothing until it is told to.
type slow struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (s *slow) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(data)
}

func TestATargetThatHangsHoldsUpNobody(t *testing.T) {
	var hanging slow
	var file bytes.Buffer
	log := newLogger(&sink{file: newTarget(printer(&file, false)), console: newTarget(printer(&hanging, false))}, false)
	hanging.mu.Lock()
	const messages = 1000
	start := time.Now()
	for i := range messages {
		log.Info(fmt.Sprint("message ", i))
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the firewall waited %s for a log", took)
	}
	hanging.mu.Unlock()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		log.Info("again")
		hanging.mu.Lock()
		got := hanging.out.String()
		hanging.mu.Unlock()
		if strings.Contains(got, " messages were lost, as none could be written here for a while\n") && strings.Contains(got, "again") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a log that is read again has %q", got)
		}
	}
	if want := fmt.Sprint(" message ", messages-1, "\n"); !strings.Contains(file.String(), want) {
		t.Error("the file lacks messages, as another target hangs")
	}
}

func TestAPipeInPlaceOfTheLogFileIsNotWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSink(options{logTarget: "file", logFile: path}, io.Discard); err == nil {
		t.Error("a pipe that nobody reads takes messages")
	}
	var out bytes.Buffer
	s, err := openSink(options{logTarget: "mixed", logFile: path}, &out)
	if err != nil || s.file != nil {
		t.Fatalf("the other targets: %v, %+v", err, s)
	}
	newLogger(s, false).Info("told")
	if got := out.String(); !strings.Contains(got, " WARNING: messages go to the other targets alone reason=cannot write the log: ") || !strings.HasSuffix(got, " told\n") {
		t.Errorf("the console has %q", got)
	}
}

func TestTheJournalGetsPrioritiesAndEachLineOnce(t *testing.T) {
	journal, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	info, err := journal.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
	s, err := openSink(options{logTarget: "mixed", logFile: filepath.Join(t.TempDir(), "log")}, journal)
	if err != nil || s.syslog != nil || s.file == nil {
		t.Fatalf("mixed, in the journal: %v, %+v", err, s)
	}
	log := newLogger(s, true)
	log.Error("wrong")
	log.Warn("odd")
	log.Info("told")
	log.Debug("seen")
	got, err := os.ReadFile(journal.Name())
	if want := "<3>ERROR: wrong\n<4>WARNING: odd\n<6>told\n<7>DEBUG1: seen\n"; err != nil || string(got) != want {
		t.Errorf("the journal gets %q, %v, want %q", got, err, want)
	}
}
