package zones

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"richwall/grammar"
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

// String is the problem and what it costs, in one line.
func (l Loss) String() string {
	o := l.Problem.Object
	what := fmt.Sprintf("%s %s", o.Kind, o.Name)
	switch {
	case l.Way == LeftOut:
		return l.Problem.String() + "; it is left out"
	case l.Way == Refuses:
		return fmt.Sprintf("%s; until it is mended, %s refuses everything", l.Problem, what)
	case o.Name == "" || l.Problem.Severity == Warning:
		return fmt.Sprintf("%s; because of it, packets may be let in that should not", l.Problem)
	}
	return fmt.Sprintf("%s; until it is mended, %s refuses everything, and what should come to it may be let in elsewhere", l.Problem, what)
}

// Rest is a configuration without what is broken in it.
type Rest struct {
	// Config passes Check. Whatever it lets in, the files let in as well, as far as they can be read, unless it is in Doubt.
	Config *Config
	// Losses is what the rest does without, one for each Problem of severity Error and for the Warnings that cost something; none means
	// that nothing is wrong.
	Losses []Loss
	// Problems is everything that is wrong, in order, as Load reports it.
	Problems Problems
	// NoConf is that firewalld.conf is not there, or sets nothing: it may be meant so, or be lost.
	NoConf bool
}

// Doubt tells whether the rest may let in what the files do not: because it is not known which zone or policy some packets
// belong to, or a part that may refuse something cannot be read. The last good configuration is better then, if there is one.
func (r *Rest) Doubt() bool {
	return slices.ContainsFunc(r.Losses, func(l Loss) bool { return l.Way == Doubtful })
}

// LoadRest reads a configuration as LoadAgain does, but without what is broken in it, whatever that is. What is left out or
// refuses is never written by Save: its file holds more.
func LoadRest(dirs Dirs, before *Config) *Rest {
	l := &loader{dirs: dirs, before: before, mends: true}
	c := l.read()
	for _, p := range l.passed {
		l.losses = append(l.losses, Loss{p, c.passedOver(p.Object)})
	}
	r := &Rest{Losses: l.losses, Problems: l.problems.report(), NoConf: l.noConf}
	r.Config = r.settle(c, dirs)
	r.Problems.sort()
	return r
}

// passedOver is what it costs that a part of an object was passed over. An ipset with fewer entries than are meant is a doubt where
// something refuses by it, or is bound to it; where it only lets in, less is let in.
func (c *Config) passedOver(o Object) Way {
	if o.Kind != KindIPSet || c.refusesBy(o.Name) {
		return Doubtful
	}
	return LeftOut
}

// refusesBy tells whether less may be refused when entries of an ipset are missing.
func (c *Config) refusesBy(set string) bool {
	rules := func(content *Content) bool {
		return slices.ContainsFunc(content.Rules, func(r RichRule) bool {
			from, to := r.Source != nil && r.Source.IPSet == set, r.Destination != nil && r.Destination.IPSet == set
			inverted := from && r.Source.Invert || to && r.Destination.Invert
			return (from || to) && (inverted || ruleCost(words(r.Rule)) > LeftOut)
		})
	}
	for _, z := range c.Zones {
		if slices.Contains(z.Sources, "ipset:"+set) || rules(&z.Content) {
			return true
		}
	}
	for _, p := range c.Policies {
		if rules(&p.Content) {
			return true
		}
	}
	return slices.ContainsFunc(c.Direct.Rules, func(r DirectRule) bool { return slices.Contains(r.Args, set) }) ||
		slices.ContainsFunc(c.Direct.Passthroughs, func(r DirectPassthrough) bool { return slices.Contains(r.Args, set) })
}

// The rounds that look at items, and those that are made at all: from then on whole objects are left out, and at last everything. One
// would do, but for what a rule or an object that is left out brings up.
const (
	itemRounds = 4
	allRounds  = 1000
)

// settle leaves out what Check refuses, until there is no such thing.
func (r *Rest) settle(c *Config, dirs Dirs) *Config {
	for round := range allRounds {
		problems := Check(c)
		r.Problems = append(r.Problems, problems...)
		errors := problems.errors()
		if len(errors) == 0 {
			return c
		}
		if round >= itemRounds {
			for _, p := range errors {
				p.item, p.rule, p.Line, p.Column = "", nil, 0, 0
			}
		}
		var losses []Loss
		c, losses = LeaveOut(c, errors)
		l := &loader{dirs: dirs, mends: true}
		l.defaultZone(c)
		r.Losses = append(append(r.Losses, losses...), l.losses...)
		r.Problems = append(r.Problems, l.problems.report()...)
	}
	r.Losses = append(r.Losses, Loss{&Problem{Path: dirs.System, Code: InvalidObject, Msg: "nothing of the configuration can be used"}, Doubtful})
	shipped, _ := Load(Dirs{})
	return shipped
}

// costs is what it costs to leave out an item of a zone, a policy or direct.xml, or a part of a rule, by the name of its element.
var costs = map[string]Way{
	"short": LeftOut, "description": LeftOut,
	"service": LeftOut, "port": LeftOut, "protocol": LeftOut, "source-port": LeftOut, "icmp-type": LeftOut,
	"masquerade": LeftOut, "forward": LeftOut, "tcp-mss-clamp": LeftOut, "tcp-mss": LeftOut,
	"log": LeftOut, "nflog": LeftOut, "audit": LeftOut, "accept": LeftOut,
	"interface": Doubtful, "source": Doubtful, "ingress-zone": Doubtful, "egress-zone": Doubtful,
	"chain": Doubtful, "passthrough": Doubtful,
	"forward-port": Refuses, // without it, the port is the machine's own
	"drop":         Refuses, "reject": Refuses, "mark": Refuses, "icmp-block": Refuses, "icmp-block-inversion": Refuses, "disable": Refuses,
}

// cost is what it costs to leave out an item. A word that is not known may be a misspelled interface.
func cost(word string) Way {
	if way, ok := costs[word]; ok {
		return way
	}
	return Doubtful
}

// ruleCost is what it costs to leave out a rule that has some parts: nothing if it accepts, and otherwise what the worst of
// its parts costs. What it matches does not count.
func ruleCost(words []string) Way {
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return slices.Contains([]string{"source", "destination", "limit"}, w) })
	refuses := slices.ContainsFunc(words, func(w string) bool { return w == "drop" || w == "reject" || w == "mark" })
	if slices.Contains(words, "accept") && !refuses {
		return LeftOut
	}
	worst := LeftOut
	for _, w := range words {
		worst = max(worst, cost(w))
	}
	return min(worst, Refuses)
}

// words are the parts of a rule by the names of their elements.
func words(r *grammar.Rule) []string {
	var list []string
	if r.Element != nil {
		list = append(list, r.Element.Keyword())
	}
	if r.Action != nil {
		list = append(list, r.Action.Keyword())
	}
	return list
}

// denies tells whether a policy may refuse something.
func denies(p *Policy) bool {
	return p.Target == TargetDrop || p.Target == PolicyReject || len(p.ICMPBlocks) > 0 ||
		slices.ContainsFunc(p.Rules, func(r RichRule) bool { return ruleCost(words(r.Rule)) > LeftOut })
}

// refusal is the only rule of a zone or policy that refuses everything: it is asked before all others, and before the policies
// that come behind the zone.
var refusal = RichRule{Rule: &grammar.Rule{Priority: grammar.MinPriority, Action: &grammar.Drop{}}}

// refusing is a zone that has what is bound to it, and drops all of that.
func refusing(z *Zone) *Zone {
	next := &Zone{Meta: z.Meta, Target: TargetDrop, IngressPriority: z.IngressPriority, EgressPriority: z.EgressPriority,
		Interfaces: z.Interfaces, Sources: z.Sources, Content: Content{Rules: []RichRule{refusal}}}
	next.lossy = true
	return next
}

// refusingPolicy is a policy that drops all that goes from and to its zones.
func refusingPolicy(p *Policy) *Policy {
	next := &Policy{Meta: p.Meta, Target: TargetDrop, Priority: p.Priority, IngressZones: p.IngressZones, EgressZones: p.EgressZones,
		Disable: p.Disable, Content: Content{Rules: []RichRule{refusal}}}
	if next.Priority == 0 {
		next.Priority = DefaultPolicyPriority
	}
	next.lossy = true
	return next
}

// refuses tells whether a zone or policy refuses everything already.
func (c *Content) refuses() bool { return len(c.Rules) > 0 && c.Rules[0].Rule == refusal.Rule }

// blankRounds is how often a file is read anew for errors that were not kept before.
const blankRounds = 10

// mended makes an object of a file with errors. Items in which something is wrong are blanked, and what is left is read again. A
// zone or policy stays, and refuses everything if what is lost may have refused something; another object is there if nothing but
// its descriptions was wrong, and otherwise nil.
func mended[T any](l *loader, m Meta, data []byte, problems Problems, k *objectKind[T]) *T {
	problems = problems.errors()
	left, ways := blankBroken(data, problems)
	worst := slices.Max(ways)
	object, again := k.read(m.Name, left, m.Origin.Path)
	for round := 0; object != nil && again.Err() != nil && round < blankRounds; round++ { // there were more than are kept
		var more []Way
		left, more = blankBroken(left, again.errors())
		worst = max(worst, slices.Max(more))
		object, again = k.read(m.Name, left, m.Origin.Path)
	}
	for _, p := range again {
		p.Object = Object{k.kind, m.Name}
	}
	if object == nil || again.Err() != nil {
		object, worst, ways = new(T), Doubtful, repeated(Doubtful, len(problems))
		*k.meta(object) = Meta{Name: m.Name}
	}
	k.meta(object).Origin, k.meta(object).lossy = m.Origin, true
	for i, p := range problems {
		if k.refusing == nil {
			ways[i] = LeftOut // what it costs comes out where others refer to it
		}
		l.losses = append(l.losses, Loss{p, ways[i]})
	}
	switch {
	case worst == LeftOut:
		l.pass(again)
		return object
	case k.refusing == nil:
		return nil
	}
	return k.refusing(object)
}

// blankBroken is a file with blanks in place of each item in which there is an error, and what each of the errors costs. What stands
// behind a place where the file is no XML is left out.
func blankBroken(data []byte, errors Problems) ([]byte, []Way) {
	r := newReader(schema{}, data, "")
	root := r.tree()
	left := slices.Clone(r.data)
	switch {
	case r.top == nil:
		return nil, repeated(Doubtful, len(errors))
	case root == nil:
		end := r.top.place
		if n := len(r.top.children); n > 0 {
			end = r.top.children[n-1].place
		}
		cut := offsetOf(left, end)
		return append(left[:cut:cut], "</"+r.top.name+">"...), repeated(Doubtful, len(errors))
	}
	ways := make([]Way, len(errors))
	for i, p := range errors {
		at, found := slices.BinarySearchFunc(root.children, place{p.Line, p.Column}, func(n *node, at place) int { return comparePlaces(n.place, at) })
		if !found {
			at--
		}
		ways[i] = rootCost(p)
		if at < 0 {
			blankAttr(left, root, p)
		} else {
			ways[i] = itemCost(root, root.children[at])
			start, end := offsetOf(left, root.children[at].place), bytes.LastIndex(left, []byte("</"))
			if at+1 < len(root.children) {
				end = offsetOf(left, root.children[at+1].place)
			}
			blank(left[start:max(start, end)])
		}
	}
	return left, ways
}

// blankAttr overwrites the attribute of the root element at which a problem stands, if it stands at one.
func blankAttr(data []byte, root *node, p *Problem) {
	for _, a := range root.attrs {
		if a.place != (place{p.Line, p.Column}) {
			continue
		}
		start := offsetOf(data, a.place)
		if first := bytes.IndexAny(data[start:], `"'`); first >= 0 {
			first += start
			if last := bytes.IndexByte(data[first+1:], data[first]); last >= 0 {
				blank(data[start : first+1+last+1])
			}
		}
	}
}

func repeated(w Way, n int) []Way { return slices.Repeat([]Way{w}, n) }

// rootCost is what an error in the root element costs: without a priority it is not known what a packet meets first.
func rootCost(p *Problem) Way {
	if p.Code == InvalidTarget {
		return Refuses
	}
	return Doubtful
}

// itemCost is what it costs to leave out an element below the root. Of what others refer to, all counts but its descriptions.
func itemCost(root, n *node) Way {
	switch {
	case root.name != "zone" && root.name != "policy" && root.name != "direct":
		if n.name == "short" || n.name == "description" {
			return LeftOut
		}
		return Refuses
	case n.name == "ingress-zone" || n.name == "egress-zone":
		if !mayRefuse(root) {
			return LeftOut
		}
	case n.name == "rule" && root.name == "direct":
		args, _ := SplitArgs(n.text)
		return argsCost(args)
	case n.name == "rule":
		var words []string
		for _, c := range n.children {
			words = append(words, c.name)
		}
		return ruleCost(words)
	}
	return cost(n.name)
}

// mayRefuse tells whether the file of a policy may refuse something, as denies does of a policy.
func mayRefuse(root *node) bool {
	allows := root.get("target") == TargetAccept || root.get("target") == TargetContinue
	for _, n := range root.children {
		switch {
		case n.name == "disable":
			return false
		case n.name != "ingress-zone" && n.name != "egress-zone" && itemCost(root, n) > LeftOut:
			allows = false
		}
	}
	return !allows
}

// argsCost is what it costs to leave out a rule of the direct interface.
func argsCost(args []string) Way {
	for i := range args[:max(0, len(args)-1)] {
		if (args[i] == "-j" || args[i] == "--jump") && args[i+1] == "ACCEPT" {
			return LeftOut
		}
	}
	return Doubtful
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
}

// offsetOf is the position of a place in a file.
func offsetOf(data []byte, at place) int {
	start := 0
	for range at.line - 1 {
		start += bytes.IndexByte(data[start:], '\n') + 1
	}
	return start + at.column - 1
}

// blank overwrites all but the ends of lines, so that everything else stays where it stands.
func blank(data []byte) {
	for i, c := range data {
		if c != '\n' {
			data[i] = ' '
		}
	}
}

// LeaveOut is a configuration without what its problems of severity Error are about, such as those of Check or of a compiler:
// the rule of the problem's Line, the item that Check found, or the whole Object. A problem without an Object costs nothing but
// for a zone that must be there. The losses are one for each of these problems; the configuration is the same if there are none.
func LeaveOut(c *Config, problems Problems) (*Config, []Loss) {
	var losses []Loss
	for _, p := range problems.errors() {
		var way Way
		c, way = leaveOut(c, p)
		losses = append(losses, Loss{p, way})
	}
	return c, losses
}

func leaveOut(c *Config, p *Problem) (*Config, Way) {
	name := p.Object.Name
	switch p.Object.Kind {
	case KindZone:
		return c.zoneWithout(p)
	case KindPolicy:
		return c.policyWithout(p)
	case KindService:
		return c.WithoutService(name), LeftOut
	case KindIPSet:
		return c.WithoutIPSet(name), LeftOut
	case KindICMPType:
		return c.WithoutICMPType(name), LeftOut
	case KindHelper:
		return c.WithoutHelper(name), LeftOut
	case KindDirect:
		return c.directWithout(p)
	case KindConf:
		return c.confWithout()
	}
	for _, z := range builtin().Zones {
		if c.Zones[z.Name] == nil {
			c = c.WithZone(z)
		}
	}
	return c, LeftOut
}

// confWithout is the configuration without the setting of firewalld.conf that a back end or the kernel is most likely to refuse: the
// flow table, whose devices may be missing. Where that is off already, all settings but the default zone and the back end are
// the defaults, which may let in more.
func (c *Config) confWithout() (*Config, Way) {
	defaults := DefaultConf()
	if c.Conf.NftablesFlowtable != defaults.NftablesFlowtable {
		conf := *c.Conf
		conf.NftablesFlowtable = defaults.NftablesFlowtable
		return c.WithConf(&conf), LeftOut
	}
	defaults.DefaultZone, defaults.FirewallBackend = c.Conf.DefaultZone, c.Conf.FirewallBackend
	return c.WithConf(defaults), Doubtful
}

// zoneWithout is the configuration with a zone that does without what a problem is about.
func (c *Config) zoneWithout(p *Problem) (*Config, Way) {
	name := p.Object.Name
	z := zoneFiles(c)[name]
	switch {
	case z == nil && c.Zones[name] != nil:
		return c.partsWithout(p)
	case z == nil:
		return c, LeftOut
	case p.Code == InvalidName || z.refuses() && p.item == "":
		return c.withoutZones(name), Doubtful
	}
	next := *z
	next.lossy = true
	way := next.Content.drop(p)
	if kind, text, _ := strings.Cut(p.item, " "); kind == "interface" || kind == "source" {
		list := &next.Interfaces
		if kind == "source" {
			list = &next.Sources
		}
		*list = dropItem(*list, text)
		way = Doubtful
	}
	if way > LeftOut {
		return c.WithZone(refusing(&next)), way
	}
	return c.WithZone(&next), way
}

// partsWithout is the configuration with a zone that refuses everything, as each part that makes it up does, or without a zone
// that does so already.
func (c *Config) partsWithout(p *Problem) (*Config, Way) {
	if p.Code == InvalidName || c.Zones[p.Object.Name].refuses() {
		return c.withoutZones(p.Object.Name), Doubtful
	}
	for name, part := range c.ZoneParts {
		if strings.HasPrefix(name, p.Object.Name+"/") {
			c = c.WithZone(refusing(part))
		}
	}
	return c, Refuses
}

// withoutZones is the configuration without a zone and the parts that make it up.
func (c *Config) withoutZones(name string) *Config {
	next := c.WithoutZone(name)
	for _, part := range Names(c.ZoneParts) {
		if strings.HasPrefix(part, name+"/") {
			next = next.WithoutZone(part)
		}
	}
	return next
}

// policyWithout is the configuration with a policy that does without what a problem is about.
func (c *Config) policyWithout(p *Problem) (*Config, Way) {
	o := c.Policies[p.Object.Name]
	switch {
	case o == nil:
		return c, LeftOut
	case p.Code == InvalidName || p.Code == NameConflict || o.refuses() && p.item == "":
		return c.WithoutPolicy(o.Name), weighPolicy(o, Doubtful)
	}
	next := *o
	next.lossy = true
	way := next.Content.drop(p)
	switch kind, text, _ := strings.Cut(p.item, " "); kind {
	case "ingress-zone":
		next.IngressZones, way = dropItem(next.IngressZones, text), weighPolicy(o, Doubtful)
	case "egress-zone":
		next.EgressZones, way = dropItem(next.EgressZones, text), weighPolicy(o, Doubtful)
	}
	if way > LeftOut {
		return c.WithPolicy(refusingPolicy(&next)), way
	}
	return c.WithPolicy(&next), way
}

// weighPolicy is what it costs that a policy is not asked about some packets: nothing if it refuses none, or is not asked at all.
func weighPolicy(p *Policy, way Way) Way {
	if way == Doubtful && p.Name != "" && (p.Disable || !denies(p)) {
		return LeftOut
	}
	return way
}

// drop takes what a problem is about out of a zone's or policy's content, and says what that costs.
func (c *Content) drop(p *Problem) Way {
	for i, rule := range c.Rules {
		if rule.Rule == p.rule || p.rule == nil && p.item == "" && p.Line > 0 && rule.Line == p.Line {
			c.Rules = slices.Delete(slices.Clone(c.Rules), i, i+1)
			return ruleCost(words(rule.Rule))
		}
	}
	kind, text, _ := strings.Cut(p.item, " ")
	switch kind {
	case "":
		return Refuses
	case "service":
		c.Services = dropItem(c.Services, text)
	case "masquerade":
		c.Masquerade = false
	case "forward-port":
		c.ForwardPorts = slices.DeleteFunc(slices.Clone(c.ForwardPorts), func(f ForwardPort) bool { return f.String() == text })
	}
	return cost(kind)
}

func dropItem(list []string, item string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == item })
}

// directWithout is the configuration without the direct rule or command of a problem's line, or without all of them.
func (c *Config) directWithout(p *Problem) (*Config, Way) {
	d, way := *c.Direct, Doubtful
	rules, passes := len(d.Rules), len(d.Passthroughs)
	d.Rules = slices.DeleteFunc(slices.Clone(d.Rules), func(r DirectRule) bool {
		if r.Line != p.Line || p.Line == 0 {
			return false
		}
		way = argsCost(r.Args)
		return true
	})
	d.Passthroughs = slices.DeleteFunc(slices.Clone(d.Passthroughs), func(r DirectPassthrough) bool { return r.Line == p.Line && p.Line > 0 })
	if len(d.Rules) == rules && len(d.Passthroughs) == passes {
		d.Chains, d.Rules, d.Passthroughs = nil, nil, nil
	}
	d.lossy = true
	return c.WithDirect(&d), way
}

// mendConf is firewalld.conf as a load reads it, with the strictest value in place of the one that cannot be used beside others. What a
// load passes over is a doubt: the line may have named the default zone, or turned on StrictForwardPorts. A line that sets a
// deprecated key costs nothing.
func mendConf(l *loader, data []byte, c *Conf, problems Problems) *Conf {
	if problems.Err() != nil {
		c.IPv6RPFilter = DefaultConf().IPv6RPFilter
	}
	file := ParseConfFile(data)
	l.noConf = file.empty()
	for _, p := range problems {
		way := LeftOut
		if p.Severity == Warning {
			if file.deprecated(p.Line) {
				continue
			}
			way = Doubtful
		}
		p.Object = Object{Kind: KindConf}
		l.losses = append(l.losses, Loss{p, way})
	}
	return c
}

// mendOwnConf is richwall.conf with the defaults in place of what cannot be read. None of them lets more in.
func mendOwnConf(l *loader, _ []byte, c *OwnConf, problems Problems) *OwnConf {
	for _, p := range problems.errors() {
		p.Object = Object{Kind: KindConf}
		l.losses = append(l.losses, Loss{p, LeftOut})
	}
	return c
}

// mendDirect is direct.xml without the elements in which something is wrong.
func mendDirect(l *loader, data []byte, d *Direct, problems Problems) *Direct {
	for _, p := range problems {
		p.Object = Object{Kind: KindDirect}
	}
	errors := problems.errors()
	if len(errors) == 0 {
		l.pass(problems)
		return d
	}
	left, ways := blankBroken(data, errors)
	d, again := ReadDirect(left, errors[0].Path)
	if d == nil || again.Err() != nil {
		d, ways = &Direct{Origin: Origin{Path: errors[0].Path}}, repeated(Doubtful, len(errors))
	}
	d.lossy = true
	for _, p := range again {
		p.Object = Object{Kind: KindDirect}
	}
	l.pass(again)
	for i, p := range errors {
		l.losses = append(l.losses, Loss{p, ways[i]})
	}
	return d
}
