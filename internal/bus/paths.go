package bus

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"richwall/zones"
)

// paths numbers the permanent objects, as in …/config/zone/3. Numbers count from 0 in the order of the names when the daemon
// starts, and go on for objects that come later. A name keeps its number, over reloads too, and a renamed object keeps that
// of its former name.
type paths struct {
	mu      sync.Mutex
	synced  *zones.Config
	byName  map[target]string // path
	byPath  map[string]target
	next    map[*kind]int
	renamed map[target]string // what an object that is just being renamed is called now
}

func newPaths() *paths {
	return &paths{byName: map[target]string{}, byPath: map[string]target{}, next: map[*kind]int{}, renamed: map[target]string{}}
}

// sync numbers the objects of a configuration that have no number yet. Those that are gone keep theirs: a name that comes
// back is the same object.
func (p *paths) sync(cfg *zones.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cfg == nil || cfg == p.synced {
		return
	}
	for to, was := range p.renamed {
		former := target{to.kind, was}
		if p.synced != nil && !holds(p.synced, to) && holds(p.synced, former) && holds(cfg, to) && !holds(cfg, former) {
			p.move(former, to)
		}
	}
	p.synced = cfg
	for _, k := range kinds {
		for _, name := range k.objects.names(cfg) {
			p.number(target{k, name})
		}
	}
}

// holds tells whether an object is in a configuration.
func holds(cfg *zones.Config, t target) bool { return t.kind.objects.meta(cfg, t.name) != nil }

// move gives the path of an object that was renamed to its new name, whatever had that before. The lock is held.
func (p *paths) move(former, to target) {
	path := p.byName[former]
	delete(p.byPath, p.byName[to])
	delete(p.byName, former)
	p.byName[to], p.byPath[path] = path, to
}

// number gives a path to an object that has none. The lock is held.
func (p *paths) number(t target) {
	if p.byName[t] != "" {
		return
	}
	path := root + "/config/" + t.kind.name + "/" + strconv.Itoa(p.next[t.kind])
	p.next[t.kind]++
	p.byName[t], p.byPath[path] = path, t
}

// rename does what renames an object, which then keeps its path.
func (p *paths) rename(t target, name string, do func() error) error {
	p.mu.Lock()
	p.renamed[target{t.kind, name}] = t.name
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.renamed, target{t.kind, name})
	}()
	return do()
}

// former is what an object that is just being renamed was called before.
func (p *paths) former(t target) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, ok := p.renamed[t]
	return name, ok
}

// of is the path of an object.
func (p *paths) of(t target) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byName[t]
}

// find is the object of a configuration at a path.
func (p *paths) find(cfg *zones.Config, path string) (target, bool) {
	p.mu.Lock()
	t, ok := p.byPath[path]
	p.mu.Unlock()
	return t, ok && holds(cfg, t)
}

// all are the paths of all objects of a configuration.
func (p *paths) all(cfg *zones.Config) []string {
	var list []string
	for _, k := range kinds {
		list = append(list, p.list(k, cfg)...)
	}
	return list
}

// list is the paths of all objects of a kind, in the order of their numbers.
func (p *paths) list(k *kind, cfg *zones.Config) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []string{}
	for _, name := range k.objects.names(cfg) {
		list = append(list, p.byName[target{k, name}])
	}
	slices.SortFunc(list, natural)
	return list
}

// natural compares names so that numbers at their ends count as numbers.
func natural(a, b string) int {
	headA, headB := strings.TrimRight(a, "0123456789"), strings.TrimRight(b, "0123456789")
	if headA != headB || len(a) == len(b) {
		return strings.Compare(a, b)
	}
	return len(a) - len(b)
}
