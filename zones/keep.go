package zones

import "fmt"

// The most errors, and the most warnings, that are kept about one file or one object, and about all of them; and how many of one file
// are shown to a person. The others are counted.
const (
	keptProblems  = 100
	keptInAll     = 2000
	shownProblems = 20
)

// Shown is what a person is shown: of each file the first twenty problems of each severity, and how many more there are.
func (l Problems) Shown() Problems {
	type file struct {
		path     string
		severity Severity
	}
	shown := map[file]int{}
	more := map[file]*Problem{}
	var list Problems
	for _, p := range l {
		f := file{p.Path, p.Severity}
		switch shown[f]++; {
		case shown[f] <= shownProblems || p.Path == "":
			list = append(list, p)
		case more[f] == nil:
			last := *p
			more[f] = &last
			list = append(list, more[f])
		}
	}
	for f, last := range more {
		if n := shown[f] - shownProblems; n > 1 {
			last.Msg, last.Then = fmt.Sprintf("and %d more from here on", n), ""
		}
	}
	return list
}

// keeper keeps the first problems of each severity, and counts the others.
type keeper struct {
	list  Problems
	found [2]int     // by severity
	next  [2]Problem // the first that was not kept, by severity
}

// keeps keeps a problem, whose message may not be made yet, or counts it and is false.
func (k *keeper) keeps(p *Problem, most int) bool {
	n := &k.found[p.Severity]
	switch *n++; {
	case *n <= most:
		k.list = append(k.list, p)
		return true
	case *n == most+1:
		k.next[p.Severity] = *p
	default:
		k.next[p.Severity].lost = k.next[p.Severity].lost || p.lost
	}
	return false
}

// all is what was kept, in order, and a problem for the others of each severity.
func (k *keeper) all(most int, where string) Problems {
	for severity, n := range k.found {
		if more := n - most; more > 0 {
			p := k.next[severity]
			p.Msg, p.Then, p.Wording, p.others = fmt.Sprintf("and %d more %s", more, where), "", nil, true
			k.list = append(k.list, &p)
		}
	}
	k.list.sort()
	return k.list
}

// report is what is wrong with one file.
func (r *reader) report() Problems { return r.problems.all(keptProblems, "from here on") }

// collector keeps problems of many objects, of each as many as a keeper does.
type collector struct {
	keeper
	objects map[Object]*keeper
	order   []Object // in which they were found
}

func (c *collector) add(p *Problem) {
	of := c.objects[p.Object]
	if of == nil {
		of = &keeper{}
		if c.objects == nil {
			c.objects = map[Object]*keeper{}
		}
		c.objects[p.Object] = of
		c.order = append(c.order, p.Object)
	}
	if of.found[p.Severity] >= keptProblems {
		of.keeps(p, keptProblems)
	} else if c.keeps(p, keptInAll) {
		of.keeps(p, keptProblems)
	}
}

// report is what was found about all objects, in order.
func (c *collector) report() Problems {
	c.list = nil
	for _, o := range c.order {
		c.list = append(c.list, c.objects[o].all(keptProblems, "about the same")...)
	}
	for i := range c.next {
		c.next[i].Path, c.next[i].Line, c.next[i].Column, c.next[i].Object = "", 0, 0, Object{}
	}
	return c.all(keptInAll, "elsewhere")
}
