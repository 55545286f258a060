package zones

import (
	"fmt"
	"slices"
)

// Way is what becomes of something that cannot be used. A higher one costs more.
type Way int

// The ways.
const (
	LeftOut  Way = iota // it is not there: less is let in for that
	Refuses             // its zone or policy drops everything that it is asked about
	Doubtful            // as Refuses; besides, some packets may meet another zone or policy than the one that is meant for them
)

// Loss is what one Problem costs: one of severity Error, or a Warning about what a load passes over although it may be damaged.
type Loss struct {
	Problem *Problem // what is wrong and where; its Object is the one that it costs something
	Way     Way
}

// InDoubt tells whether what is left may let in what the files do not: because it is not known which zone or policy some packets belong
// to, or a part that may refuse something cannot be read. The last good configuration is better then, if there is one.
func InDoubt(losses []Loss) bool {
	return slices.ContainsFunc(losses, func(l Loss) bool { return l.Way == Doubtful })
}

// String is the problem and what it costs, in one line.
func (l Loss) String() string {
	return followed(l.Problem.Cause(), "; ", l.cost())
}

// cost is what becomes of the object, and of packets.
func (l Loss) cost() string {
	o := l.Problem.Object
	refuses := fmt.Sprintf("until it is mended, %s %s refuses everything", o.Kind, o.Name)
	switch {
	case l.Way == LeftOut:
		return "it is left out"
	case l.Way == Refuses:
		return refuses
	case o.Name == "" || l.Problem.Severity == Warning:
		return "because of it, packets may be let in that should not"
	}
	return refuses + ", and what should come to it may be let in elsewhere"
}

// Rest is a configuration without what is broken in it.
type Rest struct {
	// Config passes Check. Whatever it lets in, the files let in as well, as far as they can be read, unless its losses are InDoubt.
	Config *Config
	// Files is what the files hold, as far as each of them can be read by itself, with what Check refuses: for edits, which mend that.
	// What Save would lose of a file that cannot be read as a whole, it refuses to write.
	Files *Config
	// Losses is what the rest does without, one for each Problem of severity Error and for the Warnings that cost something; none means
	// that nothing is wrong.
	Losses []Loss
	// Problems is everything that is wrong, in order, as Load reports it.
	Problems Problems
	// NoConf is that firewalld.conf is not there, or sets nothing: it may be meant so, or be lost.
	NoConf bool

	conf *ConfFile // firewalld.conf
}

// LoadRest reads a configuration as LoadAgain does, but without what is broken in it, whatever that is. What is left out or
// refuses is never written by Save: its file holds more.
func LoadRest(dirs Dirs, before *Config) *Rest {
	l := &loader{dirs: dirs, before: before, mends: true, conf: &ConfFile{}}
	c := l.read()
	for _, p := range l.passed {
		l.losses = append(l.losses, Loss{p, c.passedOver(p.Object)})
	}
	r := &Rest{Files: c, Losses: l.losses, Problems: l.problems.report(), NoConf: l.noConf, conf: l.conf}
	r.Config = r.settle(c, dirs)
	r.Problems.sort()
	return r
}

// The rounds that look at items, and those that are made at all: from then on whole objects are left out, and at last everything. One
// would do, but for what a rule or an object that is left out brings up.
const (
	itemRounds = 4
	allRounds  = 1000
)

// settle leaves out what Check refuses, until there is no such thing. A default zone that is not there is another one.
func (r *Rest) settle(c *Config, dirs Dirs) *Config {
	for round := range allRounds {
		l, own := &loader{dirs: dirs, mends: true}, *c
		c = &own
		l.defaultZone(c)
		problems := Check(c)
		r.Losses = append(r.Losses, l.losses...)
		r.Problems = append(append(r.Problems, l.problems.report()...), problems...)
		errors := problems.errors()
		if len(errors) == 0 {
			return c
		}
		about := errors
		if round >= itemRounds {
			about = whole(errors)
		}
		next, losses := c.without(about)
		if len(losses) == 0 {
			break
		}
		for i := range losses {
			losses[i].Problem = errors[i]
		}
		c, r.Losses = next, append(r.Losses, losses...)
	}
	r.Losses = append(r.Losses, Loss{&Problem{Path: dirs.System, Code: InvalidObject, Msg: "nothing of the configuration can be used"}, Doubtful})
	return Closed(c.Conf.FirewallBackend)
}

// whole are problems that are about the whole of their objects.
func whole(problems Problems) Problems {
	list := make(Problems, len(problems))
	for i, p := range problems {
		list[i] = &Problem{Object: p.Object, Code: p.Code}
	}
	return list
}
