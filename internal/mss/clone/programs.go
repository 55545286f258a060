package clone

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"richwall/internal/mss/nlattr"

	"golang.org/x/sys/unix"
)

// What the kernel does not list in messages: the rules of the older iptables, and the sets of ipset, whose programs both list and restore them.

// legacies are the programs of the older iptables, without -save and -restore.
var legacies = []string{"iptables-legacy", "ip6tables-legacy", "ebtables-legacy", "arptables-legacy"}

// anyRule is a rule, or a chain that refuses, as the -save programs print them.
var anyRule = regexp.MustCompile(`(?m)^-A |^:\S+ (DROP|REJECT)`)

// readPrograms reads what programs list.
func (r *Reading) readPrograms(ctx context.Context) {
	for _, name := range legacies {
		text, err := list(ctx, name+"-save")
		switch {
		case err != nil:
			note(&r.Notes, "The rules of %s cannot be read: %v.", name, err)
		case !anyRule.MatchString(text):
		case strings.HasPrefix(name, "ip"):
			r.legacy[name] = text
		default:
			note(&r.Notes, "The rules of %s are not cloned.", name)
		}
	}
	sets, err := list(ctx, "ipset", "save")
	if err != nil {
		note(&r.Notes, "The sets of ipset cannot be read: %v.", err)
	}
	r.sets, r.setIndex = sets, setIndices(sets)
	if out, err := list(ctx, "tc", "filter", "show"); err == nil && strings.TrimSpace(out) != "" {
		note(&r.Notes, "The filters of tc are not cloned.")
	}
}

// list is what a program prints; "" if it is not installed.
func list(ctx context.Context, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} { // not in the PATH of every user
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		return "", nil
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n"); err != nil && line != "" {
		err = errors.New(strings.TrimSuffix(line, "."))
	}
	return string(out), err
}

// loadPrograms restores the rules that programs have listed.
func (c *Clone) loadPrograms(ctx context.Context, r *Reading) error {
	for _, name := range legacies {
		if text := r.legacy[name]; text != "" {
			_, err := c.router.Run(ctx, text, name+"-restore")
			c.refused(err, "the rules of %s", name)
		}
	}
	return ctx.Err()
}

// loadSets restores the sets of ipset, and finds out by which numbers the rules of nf_tables that have them are to name them now. It is called in
// the router's namespace.
func (c *Clone) loadSets(ctx context.Context, r *Reading) error {
	if r.sets == "" {
		return nil
	}
	_, err := c.router.Run(ctx, r.sets, "ipset", "restore")
	c.refused(err, "the sets of ipset")
	now := setIndices(r.sets)
	for name, then := range r.setIndex {
		if n, ok := now[name]; ok && n != then {
			if c.setIndex == nil {
				c.setIndex = map[uint16]uint16{}
			}
			c.setIndex[then] = n
		}
	}
	return ctx.Err()
}

// Messages and attributes of ipset (ip_set.h).
const (
	setByName                          = 14
	setProtocol, setName, setNumber    = 1, 2, 11
	setProtocolVersion, setSubsystemID = 7, 6
)

var created = regexp.MustCompile(`(?m)^create (\S+) `)

// setIndices are the numbers that the kernel has for sets, in the calling thread's namespace; none where it does not say.
func setIndices(saved string) map[string]uint16 {
	indices := map[string]uint16{}
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return indices
	}
	defer c.close()
	for _, m := range created.FindAllStringSubmatch(saved, -1) {
		request := putText(put(genmsg(unix.AF_INET, 0), setProtocol, []byte{setProtocolVersion}), setName, m[1])
		answer, err := c.ask(setSubsystemID<<8|setByName, request)
		if o, ok := newObjectOf(answer.body); err == nil && ok && len(o.get(setNumber)) >= 2 {
			indices[m[1]] = binary.BigEndian.Uint16(o.get(setNumber))
		}
	}
	return indices
}

// renumbered is a rule in which extensions of iptables name the sets of ipset by the numbers that they have in the clone (xt_set.h).
func (c *Clone) renumbered(o object) object {
	if len(c.setIndex) == 0 {
		return o
	}
	rename := func(info []byte, at int) {
		if len(info) < at+2 {
			return
		}
		if n, ok := c.setIndex[binary.NativeEndian.Uint16(info[at:])]; ok {
			binary.NativeEndian.PutUint16(info[at:], n)
		}
	}
	next := object{family: o.family}
	for _, a := range o.attrs {
		a.value = bytes.Clone(a.value)
		next.attrs = append(next.attrs, a)
	}
	eachExpression(next.get(ruleExpressions), func(name string, data []byte) {
		var extension string
		nlattr.Each(data, func(kind uint16, value []byte) {
			switch {
			case kind == 1:
				extension = text(value)
			case kind == 3 && extension == "set":
				rename(value, 0)
			case kind == 3 && extension == "SET":
				for _, at := range []int{0, 4, 8} { // add, del, map
					rename(value, at)
				}
			}
		})
	})
	return next
}
