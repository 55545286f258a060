package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// figures are what was done and found.
type figures struct {
	sessions, steps, states int
	ended                   map[string]int // how many sessions ended before their end, by the reason for the last difference
	explained               map[string]int // how often each reason was one
	used                    map[string]int // how often each option, method and property was used
	found                   map[string]int // how often each difference without a reason came, by its signature
	texts                   map[string]string
}

// runner plays sessions, and makes small the first of each kind that finds something.
type runner struct {
	*pair
	out     io.Writer
	shrink  int    // how many sessions may be tried to make one small
	backend string // as the command line says it
	load    int
	folder  string // where scenarios of what was found are written, or empty
	every   int    // after so many steps the states are compared
	figures
}

// play plays one session to its end, or to where the sides are no longer in the same state.
func (r *runner) play(ctx context.Context, s *session) error {
	if err := r.begin(s); err != nil {
		return err
	}
	r.sessions++
	if r.sessions%20 == 0 {
		fmt.Fprintf(r.out, "... %d steps in %d sessions\n", r.steps, r.sessions)
	}
	pending, timed := false, false // something was set in firewalld.conf since the last reload; something has a timeout
	for i, st := range s.steps {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pending = pending && !st.settles() || st.method == properties+".Set"
		timed = timed || st.times()
		got, err := r.do(st)
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i, st, err)
		}
		r.steps++
		for _, name := range st.uses() {
			r.used[name]++
		}
		d, differs := differ(s, i, got)
		reason := ""
		if differs {
			if reason = explain(d); reason != "" {
				r.explained[reason]++
			} else if err := r.report(ctx, s, d, false); err != nil || r.fresh(d) {
				return err
			}
		}
		// What one side has refused and the other has taken is told already; anything else leaves both in the same state.
		known := differs && ((got[0].Exit == 0) != (got[1].Exit == 0) || warnings(got[0]) != warnings(got[1]))
		if !known && got[0].Exit != 0 && st.reloads() {
			reason, known = "a reload that fails changes nothing", true
		}
		if !known && got[0].Exit != 0 && (strings.Contains(got[0].Stderr, "COMMAND_FAILED") || st.several() || st.replacesDirect()) {
			reason, known = "of a change that fails firewalld keeps a half", true
		}
		if !known && st.resets() && s.conf["FlushAllOnReload"] == "no" {
			reason, known = "a reset that flushes nothing keeps interfaces that firewalld has read from files which are gone then", true
		}
		if !known && pending && st.savesConf() {
			reason, known = "firewalld writes its firewalld.conf of the last reload over what was set since", true
		}
		if !known && timed && st.saves() {
			reason, known = "what has a timeout is not saved", true
		}
		if !differs && !known && i%r.every != r.every-1 && i != len(s.steps)-1 && !st.settles() {
			continue
		}
		again, err := r.states(ctx, s, i, known, got[1].Exit == 0)
		if err != nil {
			return err
		}
		if !again {
			r.ended[cmp.Or(reason, "a state")]++
			return nil
		}
	}
	return nil
}

// warnings is how many things of several a command has left out.
func warnings(o outcome) int { return strings.Count(o.Stderr, "Warning: ") }

// fresh is true of a difference that was made small just now: the sides are elsewhere since.
func (r *runner) fresh(d difference) bool { return r.found[d.signature()] == 1 && r.shrink > 0 }

// states compares the states, and is true where they are alike. known is true where they may differ for a reason that has been
// told already, and took whether richwall has taken the step.
func (r *runner) states(ctx context.Context, s *session, i int, known, took bool) (bool, error) {
	found, err := r.compareStates(s, i)
	if err != nil {
		return false, err
	}
	r.figures.states++
	alike := true
	for _, d := range found {
		reason := failed(d)
		if reason == "" {
			continue
		}
		r.explained[reason]++
		wrong, err := r.alone(s, i, took, d)
		if err == nil && wrong.what != "" {
			err = r.report(ctx, s, wrong, true)
		}
		return false, err
	}
	for _, d := range found {
		if reason := explain(d); reason != "" {
			r.explained[reason]++
			continue
		}
		alike = false
		if known {
			continue
		}
		if err := r.report(ctx, s, d, true); err != nil {
			return false, err
		}
		if r.fresh(d) {
			return false, nil
		}
	}
	return alike, nil
}

// compareStates is how the states differ after step i.
func (r *runner) compareStates(s *session, i int) ([]difference, error) {
	var states [2]state
	err := r.both(func(i int, side *side) (err error) {
		states[i], err = side.state()
		return err
	})
	if err != nil {
		return nil, err
	}
	settled := s.steps[i].settles() && s.conf["FlushAllOnReload"] != "no"
	states[0], states[1] = states[0].unordered(settled), states[1].unordered(settled)
	found := compare(states[0], states[1], r.definitions)
	if a, b := states[0][life], states[1][life]; a[0] == "FAILED" && b[0] == "FAILED" {
		found = []difference{{what: life, theirs: strings.Join(a, "\n"), ours: strings.Join(b, "\n")}}
	}
	for j := range found {
		found[j].step, found[j].scene = i, scene{s, s.steps[:i+1], states[0], states[1]}
	}
	return found, nil
}

// alone is what is wrong with richwall by itself after step i, where firewalld has failed (d) and there is nothing to compare it
// with. After a start or a reload that richwall took its files pass its check, and in effect is what one more reload makes of them.
// After one that it refused, or a start that failed, one more reload is refused and changes nothing; the check may pass, since what
// the kernel refuses only a reload tells. Nothing is wrong where the result is about nothing.
func (r *runner) alone(s *session, i int, took bool, d difference) (difference, error) {
	if d.what != life || !s.steps[i].settles() {
		return difference{}, nil
	}
	us := r.sides[1]
	check, err := us.run(append(slices.Clone(us.client), "--check-config")...)
	if err != nil {
		return difference{}, err
	}
	sound := took && strings.HasPrefix(d.ours, "RUNNING")
	found := difference{step: i, theirs: d.theirs, ours: d.ours + "\n" + check.text(), scene: d.scene}
	if sound && check.Exit != 0 {
		found.what = "richwall's own check, where firewalld has failed"
		return found, nil
	}
	before, err := us.state()
	if err != nil {
		return difference{}, err
	}
	reload, err := us.run(append(slices.Clone(us.client), "--reload")...)
	if err != nil {
		return difference{}, err
	}
	after, err := us.state()
	if err != nil {
		return difference{}, err
	}
	delete(before, life) // where it has failed that ends with what the log has said last
	delete(after, life)
	if again := compare(before, after, r.definitions); sound != (reload.Exit == 0) || len(again) > 0 {
		found.what, found.ours = "richwall before and after a reload, where firewalld has failed", reload.text()
		if len(again) > 0 {
			found.theirs, found.ours = again[0].what+"\n"+again[0].theirs, found.ours+"\n"+again[0].ours
		}
		return found, nil
	}
	return difference{}, nil
}

// differ is how the outcomes of step i of a session differ, if they do.
func differ(s *session, i int, got [2]outcome) (difference, bool) {
	st := s.steps[i]
	for j := range got {
		got[j].Stderr = withoutNotes(got[j].Stderr)
	}
	d := difference{step: i, what: st.String(), theirs: got[0].text(), ours: got[1].text(), shape: st.shape(), wrong: st.wrong, scene: scene{session: s, before: s.steps[:i+1]}}
	d.sorted = got[0].Exit == got[1].Exit && got[0].Stderr == got[1].Stderr && got[0].sorted == got[1].sorted
	return d, d.theirs != d.ours
}

// moduleTwice is what firewalld's commands say besides of a file whose modules it has written under two names.
var moduleTwice = regexp.MustCompile(`^WARNING: Module '.*' already set, ignoring\.`)

// ignored is what richwall's commands say besides of a passthrough in direct.xml that has no effect.
var ignored = regexp.MustCompile(`^WARNING: .*/direct\.xml:[0-9:]+ INVALID_PASSTHROUGH: .*[:.?] [iI]t is ignored`)

// withoutNotes is what a program has said on its error output, without what one side alone says there besides.
func withoutNotes(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "hint: ") && !moduleTwice.MatchString(line) && !ignored.MatchString(line) {
			out.WriteString(line)
		}
	}
	return out.String()
}

var plain = regexp.MustCompile(`'[^']*'|"[^"]*"|[0-9a-f.:/]*[0-9][0-9a-f.:/]*`)

// signature is what a difference has in common with others that are likely the same.
func (d difference) signature() string {
	first := func(text string) string {
		lines := strings.SplitN(text, "\n", 3)
		if len(lines) > 2 {
			lines = lines[:2]
		}
		line := plain.ReplaceAllString(strings.Join(lines, " "), "#")
		for _, m := range code.FindAllStringSubmatch(text, 3) { // on the bus it is in the quotes
			line = m[1] + " " + line
		}
		return line[:min(len(line), 90)]
	}
	what := d.shape
	if what == "" {
		what = plain.ReplaceAllString(d.what, "#")
	}
	return what + " | " + first(d.theirs) + " | " + first(d.ours)
}

// report counts a difference, and if it is the first of its kind makes its session small and tells of it.
func (r *runner) report(ctx context.Context, s *session, d difference, ofState bool) error {
	signature := d.signature()
	r.found[signature]++
	if r.found[signature] > 1 {
		return nil
	}
	small, last, tries := &session{}, d, 0
	*small = *s
	small.steps = s.steps[:d.step+1]
	if r.shrink > 0 {
		var err error
		if small, last, tries, err = r.small(ctx, small, d, ofState); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("# seed %d: %s\n%s", s.seed, oneLine(last.what), small.scenario())
	fmt.Fprintf(r.out, "\nDIFFERENCE %d (seed %d, %s, load level %d, %d steps, after %d tries)\n%s  %s\n  reference:\n%s  richwall:\n%s\n",
		len(r.found), s.seed, s.backend, small.level, len(small.steps), tries, indent(text), last.what, indent(last.theirs), indent(last.ours))
	r.texts[signature] = text
	if r.folder == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(r.folder, fmt.Sprintf("random-%d-%d.txt", s.seed, len(r.found))), []byte(text), 0o644)
}

func oneLine(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "\t", " ")
}

func indent(text string) string {
	text = strings.TrimRight(text, "\n")
	if len(text) > 3000 {
		text = text[:3000] + " …"
	}
	return "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"
}

// small is a session of as few steps as can be found in which the same difference still comes.
func (r *runner) small(ctx context.Context, s *session, d difference, ofState bool) (*session, difference, int, error) {
	tries, last := 0, d
	var failure error
	test := func(candidate *session) bool {
		if failure != nil || tries >= r.shrink || ctx.Err() != nil {
			return false
		}
		tries++
		got, ok, err := r.again(candidate, d, ofState)
		failure = err
		if ok {
			last = got
		}
		return ok
	}
	with := func(steps []step) *session {
		c := *s
		c.steps = steps
		return &c
	}
	if s.level > 0 {
		c := *s
		c.level = 0
		if test(&c) {
			s = &c
		}
	}
	if len(s.conf) > 0 {
		c := *s
		c.conf = nil
		if test(&c) {
			s = &c
		}
	}
	steps, end := s.steps[:len(s.steps)-1], s.steps[len(s.steps)-1]
	whole := func(some []step) []step { return append(append([]step{}, some...), end) }
	switch changing := changes(steps); {
	case test(with(whole(nil))):
		steps = nil
	case len(changing) < len(steps) && test(with(whole(changing))):
		steps = changing
	}
	for size := (len(steps) + 1) / 2; size > 0 && len(steps) > 0; {
		lost := false
		for at := len(steps); at > 0; at -= size {
			rest := append(append([]step{}, steps[:max(0, at-size)]...), steps[at:]...)
			if test(with(whole(rest))) {
				steps, lost = rest, true
				at = min(at, len(steps)+size)
			}
		}
		if size == 1 && !lost {
			break
		}
		if !lost || size > len(steps) {
			size = max(1, size/2)
		}
		if tries >= r.shrink {
			break
		}
	}
	if len(steps) > 0 && ofState && test(with(steps)) { // without the last one, which may only have been where it was noticed
		return with(steps), last, tries, failure
	}
	return with(whole(steps)), last, tries, failure
}

// changes are the steps that change something, as far as one can tell by looking at them.
func changes(steps []step) (out []step) {
	for _, st := range steps {
		text := st.String()
		if !strings.Contains(text, "--list") && !strings.Contains(text, "--query") && !strings.Contains(text, "--get") && !strings.Contains(text, "--info") &&
			!strings.Contains(text, ".query") && !strings.Contains(text, ".get") && !strings.Contains(text, ".list") && !strings.Contains(text, "Properties.Get") {
			out = append(out, st)
		}
	}
	return out
}

// again plays a session for a difference of the same signature at its end, which has no reason either.
func (r *runner) again(s *session, d difference, ofState bool) (difference, bool, error) {
	if err := r.begin(s); err != nil {
		return d, false, err
	}
	for i, st := range s.steps {
		got, err := r.do(st)
		if err != nil {
			return d, false, err
		}
		if i == len(s.steps)-1 && !ofState {
			have, differs := differ(s, i, got)
			return have, differs && have.signature() == d.signature() && explain(have) == "", nil
		}
	}
	found, err := r.compareStates(s, len(s.steps)-1)
	if err != nil {
		return d, false, err
	}
	for _, have := range found {
		if have.signature() == d.signature() {
			return have, true, nil
		}
	}
	return d, false, nil
}

// summary prints the figures.
func (r *runner) summary(began time.Time) {
	fmt.Fprintf(r.out, "\n%d steps in %d sessions, states compared %d times, back end %s, load %d, in %v\n", r.steps, r.sessions, r.figures.states, r.backend, r.load, time.Since(began).Round(time.Second))
	for _, verb := range []string{"$", "offline", "dbus"} {
		kinds, times := 0, 0
		for name, n := range r.used {
			if strings.HasPrefix(name, verb+" ") {
				kinds, times = kinds+1, times+n
			}
		}
		fmt.Fprintf(r.out, "%s: %d different ones, %d times\n", map[string]string{"$": "options of firewall-cmd", "offline": "options of firewall-offline-cmd", "dbus": "methods and properties"}[verb], kinds, times)
	}
	for _, s := range r.sides {
		fmt.Fprintf(r.out, "%s:", s.name)
		for _, what := range slices.Sorted(keysOf(s.spent)) {
			fmt.Fprintf(r.out, " %s %v", what, s.spent[what].Round(time.Second/10))
		}
		fmt.Fprintln(r.out)
	}
	for _, reason := range sortedByCount(r.explained) {
		fmt.Fprintf(r.out, "%6d explained: %s\n", r.explained[reason], reason)
	}
	for _, reason := range sortedByCount(r.ended) {
		fmt.Fprintf(r.out, "%6d sessions ended: %s\n", r.ended[reason], reason)
	}
	for _, signature := range sortedByCount(r.found) {
		fmt.Fprintf(r.out, "%6d NOT EXPLAINED: %s\n", r.found[signature], signature)
	}
}
