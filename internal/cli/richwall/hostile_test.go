package richwall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"richwall/internal/irgen"
)

// What a command may take for a folder that a stranger wrote, whatever is in it. Time is that of the processor, so that it does
// not matter what else the machine does; a command that waits is found out after some minutes.
const (
	mostTime   = slower * 5 * time.Second
	mostMemory = slower * 256 << 20
	mostWait   = slower * 3 * time.Minute
)

// secret is in files outside of the folders, and in the environment.
const secret = "the-secret-of-the-machine"

// Whatever a folder holds that somebody else wrote, check, compile, explain and lab end within bounds of time and memory, read and write
// nothing outside of it, and print nothing that a terminal or a build server would obey. RICHWALL_FOLDERS is how many there are,
// RICHWALL_SEED repeats a run.
func TestHostileFolders(t *testing.T) {
	seed := irgen.Seed(t)
	t.Setenv("SECRET", secret)
	outside := t.TempDir()
	for _, name := range []string{"secret.xml", "secret.conf", "zones/x.xml"} {
		write(t, filepath.Join(outside, name), `<zone><service name="`+secret+`"/></zone>`+"\n"+secret+"="+secret+"\n")
	}
	before := contents(t, outside)
	var slowest time.Duration
	var largest int64
	for i := range irgen.Setting(t, "RICHWALL_FOLDERS", 30) {
		dir := filepath.Join(t.TempDir(), "etc")
		made, err := exec.Command("make-hostile-folder", dir, outside, fmt.Sprint(seed), fmt.Sprint(i)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, made)
		}
		for _, args := range [][]string{
			{"check", dir},
			{"compile", "--config", dir, "--to", "nft", "--origins"},
			{"compile", "--config", dir, "--to", "iptables"},
			{"explain", "--config", dir, "--in", "eth0", "--source", "192.0.2.1", "tcp", "22"},
			{"lab", "--config", dir, "rule tcp-mss-clamp value=1360"},
		} {
			spent, memory, problem := attempt(args)
			slowest, largest = max(slowest, spent), max(largest, memory)
			if problem != "" {
				t.Errorf("seed %d, folder %d of %s: richwall %s: %s", seed, i, made, strings.Join(args, " "), problem)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if now := contents(t, outside); now != before {
			t.Fatalf("seed %d, folder %d of %s: outside of it there is now\n%s", seed, i, made, now)
		}
	}
	t.Logf("the most time is %v, the most memory %d MB", slowest, largest>>20)
}

// contents is what the files of a folder hold.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %v %q\n", path, info.Mode(), data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// attempt runs a command, and says what is wrong with what it took or printed; "" if nothing is.
func attempt(args []string) (spent time.Duration, memory int64, problem string) {
	ctx, stop := context.WithTimeout(context.Background(), mostWait)
	defer stop()
	cmd := exec.CommandContext(ctx, "richwall", args...)
	var out lines
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return 0, 0, fmt.Sprintf("it did not end: %v", err)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	spent, memory = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), usage.Maxrss<<10
	switch {
	case spent > mostTime:
		problem = fmt.Sprintf("it took %v", spent)
	case memory > mostMemory:
		problem = fmt.Sprintf("it took %d MB", memory>>20)
	case cmd.ProcessState.ExitCode() < 0 || bytes.Contains(out.head, []byte("goroutine ")):
		problem = fmt.Sprintf("it crashed: %v\n%s", err, out.head)
	default:
		problem = out.problem
	}
	return spent, memory, problem
}

// lines looks at what is printed, and keeps the beginning.
type lines struct {
	head, rest []byte
	problem    string
}

var obeyed = regexp.MustCompile(`^\s*::[^:]*::|##\[|##vso\[`)

func (l *lines) Write(data []byte) (int, error) {
	l.head = append(l.head, data[:min(len(data), max(0, 4096-len(l.head)))]...)
	l.rest = append(l.rest, data...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(data), nil
		}
		l.rest = rest
		text := string(line)
		switch {
		case l.problem != "":
		case !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return c != '\t' && !unicode.IsPrint(c) }):
			l.problem = fmt.Sprintf("it prints %.300q", text)
		case obeyed.MatchString(text):
			l.problem = fmt.Sprintf("a build server obeys %.300q", text)
		case strings.Contains(text, secret):
			l.problem = fmt.Sprintf("it tells what is outside: %.300q", text)
		}
	}
}

// makeHostileFolder is the command that makes a folder, of the arguments folder, outside, seed and number, and prints what is in
// it. It is a process of its own since what a process takes counts for those that it starts as well.
func makeHostileFolder() {
	seed, err := strconv.ParseUint(os.Args[3], 10, 64)
	number, err2 := strconv.ParseUint(os.Args[4], 10, 64)
	if err := errors.Join(err, err2); err != nil {
		panic(err)
	}
	h := &hostile{Rand: rand.New(rand.NewPCG(seed, number)), dir: os.Args[1], outside: os.Args[2]}
	h.build()
	fmt.Print(strings.Join(h.made, ", "))
}

// hostile makes a folder.
type hostile struct {
	*rand.Rand
	dir, outside string
	made         []string
}

// ingredients are what hostile folders are made of.
var ingredients = []struct {
	name string
	add  func(*hostile)
}{
	{"links out", (*hostile).linksOut}, {"links in circles", (*hostile).linksInCircles}, {"special files", (*hostile).specialFiles},
	{"huge files", (*hostile).hugeFiles}, {"deep folders", (*hostile).deepFolders}, {"many files", (*hostile).manyFiles},
	{"hostile names", (*hostile).hostileNames}, {"hostile values", (*hostile).hostileValues}, {"many elements", (*hostile).manyElements},
	{"many attributes", (*hostile).manyAttributes}, {"many ports", (*hostile).manyPorts}, {"includes", (*hostile).includes},
	{"many rules", (*hostile).manyRules}, {"zones and policies", (*hostile).zonesAndPolicies}, {"settings", (*hostile).settings},
	{"sets", (*hostile).sets}, {"direct rules", (*hostile).directRules}, {"broken bytes", (*hostile).brokenBytes}, {"pieces of text", (*hostile).pieces},
	{"zones of parts", (*hostile).parts}, {"forged journals", (*hostile).forgedJournal}, {"large services", (*hostile).largeServices}, {"sources", (*hostile).manySources},
}

func (h *hostile) build() {
	if err := os.MkdirAll(filepath.Join(h.dir, "zones"), 0o755); err != nil {
		panic(err)
	}
	for range 1 + h.IntN(3) {
		i := ingredients[h.IntN(len(ingredients))]
		h.made = append(h.made, i.name)
		i.add(h)
	}
}

func (h *hostile) pick(list ...string) string { return list[h.IntN(len(list))] }

// file writes a file below the folder, if nothing is in its way, such as a link out that was made before.
func (h *hostile) file(name, content string) {
	root, err := os.OpenRoot(h.dir)
	if err != nil {
		return
	}
	defer root.Close()
	if root.MkdirAll(filepath.Dir(name), 0o755) != nil {
		return
	}
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return
	}
	root.WriteFile(name, []byte(content), 0o644)
}

// place is where something can be put that is read.
func (h *hostile) place() string {
	name := h.pick("firewalld.conf", "richwall.conf", "direct.xml", "zones/x.xml", "services/x.xml", "policies/x.xml", "ipsets/x.xml", "zones/f/x.xml",
		"helpers", "icmptypes", "zones/public.xml")
	path := filepath.Join(h.dir, name)
	os.MkdirAll(filepath.Dir(path), 0o755)
	return path
}

func (h *hostile) linksOut() {
	for range 1 + h.IntN(4) {
		os.Symlink(h.pick(h.outside+"/secret.xml", h.outside+"/secret.conf", h.outside+"/zones", h.outside, "/proc/self/environ", "/proc/self/mem", "/dev/zero",
			"/dev/stdin", "/proc/kmsg", "/proc/self/root/etc/passwd", "/proc/self/cwd", strings.Repeat("../", 12)+h.outside[1:]+"/secret.xml"), h.place())
	}
}

// forgedJournal looks like the rest of a change that was cut off, which would write outside if it were taken back.
func (h *hostile) forgedJournal() {
	const data = `"Data":"Zm9yZ2VkCg==","Mode":493,"UID":-1,"GID":-1,"Exists":true}`
	path := h.pick(h.outside+"/secret.conf", "../../"+filepath.Base(h.outside)+"/secret.conf", "zones/out.xml")
	os.Symlink(h.outside+"/secret.xml", filepath.Join(h.dir, "zones/out.xml"))
	h.file(".unfinished-change", "")
	folder, _ := os.Stat(h.dir)
	journal, err := os.Lstat(filepath.Join(h.dir, ".unfinished-change"))
	if err != nil {
		panic(err)
	}
	origin := fmt.Sprintf(`{"Folder":%d,"Journal":%d}`, folder.Sys().(*syscall.Stat_t).Ino, journal.Sys().(*syscall.Stat_t).Ino)
	h.file(".unfinished-change", h.pick("", origin+"\n")+fmt.Sprintf(`{"Path":%q,"Linked":%t,%s`+"\n", path, h.IntN(2) == 0, data))
}

func (h *hostile) linksInCircles() {
	path := h.place()
	os.Symlink(filepath.Base(path), path)
	os.Symlink("b", filepath.Join(h.dir, "a"))
	os.Symlink("a", filepath.Join(h.dir, "b"))
	os.Symlink("../a", filepath.Join(h.dir, "zones/loop.xml"))
	os.Symlink("../zones", filepath.Join(h.dir, "zones/zones.xml"))
	os.Symlink(".", filepath.Join(h.dir, "policies"))
}

func (h *hostile) specialFiles() {
	syscall.Mknod(h.place(), syscall.S_IFIFO|0o644, 0)
	if l, err := net.Listen("unix", h.place()); err == nil {
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
	}
	if os.Getuid() == 0 {
		for _, minor := range []uint32{5, 8} { // zero and random
			syscall.Mknod(h.place(), syscall.S_IFCHR|0o644, int(unix.Mkdev(1, minor)))
		}
	}
}

func (h *hostile) hugeFiles() {
	root, err := os.OpenRoot(h.dir) // links that were made before lead out
	if err != nil {
		return
	}
	defer root.Close()
	for range 1 + h.IntN(3) {
		name, err := filepath.Rel(h.dir, h.place())
		if err != nil {
			continue
		}
		if f, err := root.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NONBLOCK, 0o644); err == nil {
			f.Truncate(int64(1) << (18 + h.IntN(24)))
			f.Close()
		}
	}
}

func (h *hostile) deepFolders() {
	path := filepath.Join(h.dir, h.pick("zones", "services"))
	for range 100 {
		path = filepath.Join(path, h.pick("a", "zones", "x.xml"))
	}
	os.MkdirAll(path, 0o755)
	h.file("services/x.xml", strings.Repeat("<service>", 100_000))
}

func (h *hostile) manyFiles() {
	kind := h.pick("zone", "service", "policy", "ipset", "icmptype", "helper")
	folder := map[string]string{"policy": "policies"}[kind]
	if folder == "" {
		folder = kind + "s"
	}
	content := h.pick("<"+kind+"/>", "", "<"+kind+` target="ACCEPT" type="hash:ip"/>`, "<"+kind+"><service name='sss'/></"+kind+">")
	for i := range 500 + h.IntN(1+h.IntN(11_000)) {
		h.file(fmt.Sprintf("%s/n%d.xml", folder, i), content)
	}
}

// hostileTexts are what terminals, logs, build servers, files, nft and shells would obey.
var hostileTexts = []string{
	"\x1b[2J\x1b]0;x\x07", "\u009b2J", "\u202etxt", "\u2066x\u2069", "a\nb", "a\r\n::error::x", "::error file=x::y", "##[error]x", "##vso[task.complete]", "section_start:1:x\r\x1b[0K",
	"\xff\xfe", "\";accept;#", "'; DROP", "`id`", "$(id)", "-j ACCEPT", "%s%s%n", "x y", "..", ".", "\u2028", "\u0085", "{", "}", "\\", "\ufeff", "\U000e0001", "\x7f", "\t",
	strings.Repeat("A", 300), "ä", "#",
}

func (h *hostile) hostileNames() {
	for range 20 {
		name := strings.NewReplacer("/", "_", "\x00", "").Replace(h.pick(hostileTexts...) + h.pick("", "x", hostileTexts[h.IntN(len(hostileTexts))]))
		h.file(h.pick("zones/", "services/", "ipsets/", "policies/", "zones/f/", "zones/"+name+"/")+name+".xml", h.pick("<zone/>", "<service/>", "<", "", "<policy target='ACCEPT'/>"))
	}
}

// value is the text of a hostile value in XML: as characters or, where XML has no way to hold them, near them.
func (h *hostile) value() string {
	text := h.pick(hostileTexts...)
	if h.IntN(20) == 0 {
		text = strings.Repeat(text, 100_000/len(text))
	}
	var b strings.Builder
	for _, c := range text {
		switch {
		case c < ' ' && c != '\n' && c != '\t' && h.IntN(4) > 0:
		case c < ' ' || strings.ContainsRune(`<>&"'`, c) || h.IntN(3) == 0:
			fmt.Fprintf(&b, "&#x%x;", c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func (h *hostile) hostileValues() {
	var b strings.Builder
	b.WriteString("<zone>\n")
	for range 1 + h.IntN(40) {
		v := h.value()
		b.WriteString(h.pick(
			`<interface name="`+v+`"/>`, `<service name="`+v+`"/>`, `<source address="`+v+`"/>`, `<source ipset="`+v+`"/>`, `<port port="`+v+`" protocol="tcp"/>`,
			`<rule><log prefix="`+v+`"/><service name="ssh"/><accept/></rule>`, `<rule><nflog prefix="`+v+`" group="1"/><service name="ssh"/></rule>`,
			`<rule family="ipv4"><source address="`+v+`"/><accept/></rule>`, `<icmp-block name="`+v+`"/>`, `<protocol value="`+v+`"/>`, `<short>`+v+`</short>`,
			`<rule family="`+v+`"><service name="`+v+`"/><reject type="`+v+`"/></rule>`, `<x`+v+`/>`, v, `<service nam`+v+`="ssh"/>`) + "\n")
	}
	b.WriteString("</zone>")
	h.file("zones/public.xml", b.String())
	h.file("helpers/h.xml", `<helper module="nf_conntrack_`+h.value()+`"/>`)
	h.file("services/s.xml", `<service><helper name="`+h.value()+`"/><module name="`+h.value()+`"/><include service="`+h.value()+`"/></service>`)
	h.file("ipsets/i.xml", `<ipset type="hash:net,iface"><option name="`+h.value()+`" value="`+h.value()+`"/><entry>192.0.2.1,`+h.value()+`</entry></ipset>`)
}

func (h *hostile) manyElements() {
	element := h.pick("<a/>", "<entry/>", "<service name='s%d'/>", "<entry>%d</entry>", "<rule/>", "<port/>", "<interface name='i%d'/>", "<source ipset='s%d'/>",
		"<rule><accept/></rule>", "<short>x</short>", "<icmp-block name='x%d'/>", "<rule><service name='s%d'/><accept/></rule>", "<include service='s%d'/>")
	root := h.pick("zone", "ipset type='hash:ip'", "service", "policy target='ACCEPT'")
	name, _, _ := strings.Cut(root, " ")
	folder := map[string]string{"zone": "zones", "ipset": "ipsets", "service": "services", "policy": "policies"}[name]
	var b strings.Builder
	b.WriteString("<" + root + ">")
	for i := range 1000 << h.IntN(11) {
		fmt.Fprintf(&b, strings.ReplaceAll(element, "%d", "%[1]d")+"%.0[1]s", i)
	}
	b.WriteString("</" + name + ">")
	h.file(folder+"/x.xml", b.String())
}

func (h *hostile) manyAttributes() {
	var b strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&b, " a%d='%d'", i, i)
	}
	h.file("zones/x.xml", "<zone"+b.String()+"/>")
	h.file("services/x.xml", "<service>"+strings.Repeat("<port"+b.String()[:300]+"/>", 10_000)+"</service>")
}

func (h *hostile) manyPorts() {
	var b strings.Builder
	kind := h.IntN(4)
	for i := range 400_000 {
		switch kind {
		case 0:
			fmt.Fprintf(&b, `<port port="x%d" protocol="tcp"/>`, i)
		case 1:
			fmt.Fprintf(&b, `<port port="%d" protocol="%s"/>`, 2*i%65536, h.pick("tcp", "udp", "sctp", "dccp"))
		case 2:
			fmt.Fprintf(&b, `<port port="%d-%d" protocol="tcp"/>`, h.IntN(30000), 30000+h.IntN(30000))
		case 3:
			fmt.Fprintf(&b, `<source-port port="%d" protocol="tc%d"/>`, i%65536, i)
		}
	}
	h.file("zones/public.xml", "<zone>"+b.String()+"</zone>")
}

func (h *hostile) includes() {
	n := 1000 + h.IntN(4000)
	kind := h.IntN(4)
	for i := range n {
		var list []int
		switch kind {
		case 0: // each has all that follow the next ten
			for j := i + 1; j < min(n, i+10); j++ {
				list = append(list, j)
			}
		case 1: // a circle
			list = []int{(i + 1) % n}
		case 2: // each has the same two
			list = []int{i + 1, i + 1, i + 2}
		case 3:
			for range 20 {
				list = append(list, h.IntN(n))
			}
		}
		var b strings.Builder
		for _, j := range list {
			fmt.Fprintf(&b, `<include service="i%d"/>`, j)
		}
		h.file(fmt.Sprintf("services/i%d.xml", i), "<service>"+b.String()+`<port port="`+strconv.Itoa(i)+`" protocol="tcp"/></service>`)
	}
	h.file("zones/public.xml", `<zone><service name="i0"/><rule><service name="i0"/><drop/></rule></zone>`)
}

func (h *hostile) manyRules() {
	var b strings.Builder
	n := 1000 << h.IntN(6)
	kind := h.IntN(6)
	for i := range n {
		address := fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
		switch kind {
		case 0:
			fmt.Fprintf(&b, `<rule family="ipv4"><source address="%s"/><service name="ssh"/><accept/></rule>`, address)
		case 1:
			fmt.Fprintf(&b, `<rule priority="%d"><port port="%d" protocol="tcp"/><log prefix="%d"/><drop/></rule>`, i%30000, i%65536, i)
		case 2:
			fmt.Fprintf(&b, `<rule family="ipv4"><source address="%s"/>%s<accept/></rule>`, address, strings.Repeat("<service name='x'/>", 20))
		case 3:
			fmt.Fprintf(&b, `<rule family="ipv4"><source address="%s" invert="yes"/><destination address="%s/%d"/><reject/></rule>`, address, address, 8+i%24)
		case 4:
			fmt.Fprintf(&b, `<rule family="ipv4"><source address="%s"/><tcp-mss-clamp value="%d"/></rule>`, address, 536+i%900)
		case 5:
			fmt.Fprintf(&b, `<rule><port port="%d-%d" protocol="tcp"/><accept/></rule>`, i%1000, 65535-i%64000)
		}
	}
	h.file(h.pick("zones/public.xml", "zones/x.xml"), "<zone>"+b.String()+"</zone>")
}

func (h *hostile) zonesAndPolicies() {
	zones, policies := 50+h.IntN(1+h.IntN(1000)), 10+h.IntN(1+h.IntN(400))
	var names strings.Builder
	for i := range zones {
		h.file(fmt.Sprintf("zones/z%d.xml", i), fmt.Sprintf(`<zone><interface name="i%d"/><source address="10.0.%d.%d"/><service name="ssh"/></zone>`, i, i>>8, i&255))
		fmt.Fprintf(&names, `<ingress-zone name="z%d"/>`, i)
	}
	for i := range policies {
		ingress, egress := `<ingress-zone name="ANY"/>`, `<egress-zone name="ANY"/>`
		if h.IntN(2) == 0 {
			ingress = names.String()
		}
		if h.IntN(2) == 0 {
			egress = strings.ReplaceAll(names.String(), "ingress", "egress")
		}
		h.file(fmt.Sprintf("policies/p%d.xml", i), `<policy target="ACCEPT" priority="`+strconv.Itoa(i+1)+`">`+ingress+egress+`<service name="http"/></policy>`)
	}
}

func (h *hostile) settings() {
	var b strings.Builder
	for i := range 1000 << h.IntN(8) {
		b.WriteString(h.pick("x", "=", "a=b=c", "DefaultZone="+h.pick(hostileTexts...), "LogDenied=\x1b[2J", fmt.Sprintf("Key%d=%d", i, i), "::error::x", "##[error]", "NftablesFlowtable=e\"; accept") + "\n")
	}
	h.file(h.pick("firewalld.conf", "richwall.conf"), b.String())
}

func (h *hostile) sets() {
	var b strings.Builder
	kind := h.pick("hash:ip", "hash:net", "hash:net,port,net", "hash:ip,port", "hash:net,iface", "hash:mac", "hash:ip,mark", "hash:net,net")
	for i := range 1000 << h.IntN(9) {
		net := fmt.Sprintf("%d.%d.%d.%d/%d", 1+h.IntN(200), i>>16, i>>8&255, i&255, h.IntN(33))
		ip := strings.Split(net, "/")[0]
		b.WriteString("<entry>" + map[string]string{"hash:ip": ip, "hash:net": net, "hash:net,port,net": net + "," + strconv.Itoa(i%65536) + "-65535," + net, "hash:ip,port": ip + ",tcp:1-" + strconv.Itoa(1+i%65535),
			"hash:net,iface": net + ",i" + strconv.Itoa(i), "hash:mac": fmt.Sprintf("02:00:%02x:%02x:%02x:01", i>>16, i>>8&255, i&255), "hash:ip,mark": ip + ",0x" + strconv.Itoa(i), "hash:net,net": net + "," + net}[kind] + "</entry>")
	}
	h.file("ipsets/x.xml", `<ipset type="`+kind+`">`+b.String()+`</ipset>`)
	h.file("zones/x.xml", `<zone><source ipset="x"/></zone>`)
}

func (h *hostile) directRules() {
	var b strings.Builder
	for i := range 100 << h.IntN(9) {
		fmt.Fprintf(&b, `<%s ipv="%s" table="filter" chain="%s" priority="%d">-j %s -m comment --comment %s</%[1]s>`, h.pick("rule", "passthrough", "chain"), h.pick("ipv4", "ipv6", "eb", "x"),
			h.pick("INPUT", "c"+strconv.Itoa(i), h.value()), i, h.pick("ACCEPT", "DROP", h.value()), h.value())
	}
	h.file("direct.xml", "<direct>"+b.String()+"</direct>")
	if h.IntN(2) == 0 {
		h.file("firewalld.conf", "FirewallBackend=iptables\n")
	}
}

func (h *hostile) brokenBytes() {
	whole := `<?xml version="1.0" encoding="utf-8"?><zone target="DROP"><interface name="eth0"/><rule family="ipv4" priority="-5"><source address="192.0.2.0/24"/><log prefix="x"/><drop/></rule></zone>`
	for i := range 30 {
		data := []byte(whole)
		for range 1 + h.IntN(4) {
			data[h.IntN(len(data))] = byte(h.IntN(256))
		}
		h.file(fmt.Sprintf("zones/b%d.xml", i), string(data[:len(data)-h.IntN(20)*h.IntN(2)]))
	}
	random := make([]byte, 1<<h.IntN(20))
	for i := range random {
		random[i] = byte(h.Uint32())
	}
	h.file("policies/x.xml", string(random))
	h.file("firewalld.conf", string(random))
}

func (h *hostile) pieces() {
	piece := h.pick("x<!---->", "x<![CDATA[y]]>", "<?x?>x", "&#65;", "&lt;", "<!-- -->", "<!DOCTYPE a [<!ENTITY b '&b;&b;'>]>", "\n")
	h.file("zones/x.xml", "<zone><description>"+strings.Repeat(piece, 100_000<<h.IntN(4))+"</description></zone>")
	h.file("services/x.xml", "<service>"+strings.Repeat(piece, 100_000)+"</service>")
}

func (h *hostile) parts() {
	for i := range 100 + h.IntN(3000) {
		h.file(fmt.Sprintf("zones/%s/p%d.xml", h.pick("f", "f", "g"), i), fmt.Sprintf(`<zone><service name="%s"/><port port="%d" protocol="tcp"/><source address="10.0.%d.%d"/>%s</zone>`,
			h.pick("ssh", "nope", "http"), i, i>>8, i&255, strings.Repeat(fmt.Sprintf(`<rule priority="%d"><service name="ssh"/><drop/></rule>`, i), h.IntN(20))))
	}
}

func (h *hostile) largeServices() {
	var ports, rules strings.Builder
	for i := range 1000 << h.IntN(6) {
		fmt.Fprintf(&ports, `<port port="%d" protocol="%s"/>`, i%65536, h.pick("tcp", "udp"))
	}
	for i := range 1000 << h.IntN(5) {
		fmt.Fprintf(&rules, `<rule priority="%d"><service name="large"/><%s/></rule>`, i%30000, h.pick("accept", "drop"))
	}
	h.file("services/large.xml", "<service>"+ports.String()+"</service>")
	h.file("zones/public.xml", "<zone>"+rules.String()+"</zone>")
}

func (h *hostile) manySources() {
	for i := range 200 + h.IntN(800) {
		var b strings.Builder
		for j := range 1 + h.IntN(50) {
			fmt.Fprintf(&b, `<source address="10.%d.0.0/%d"/><interface name="i%d"/>`, j, 8+h.IntN(17), h.IntN(1000))
		}
		h.file(fmt.Sprintf("zones/s%d.xml", i), "<zone>"+b.String()+"</zone>")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The command ends at once with a signal, whatever it waits for or works on.
func TestSignals(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd := exec.Command("richwall", "fmt")
		cmd.Stdin = in
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in.Close()
		if _, err := io.WriteString(out, "rule service name=ssh accept\n"); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-done:
			if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() {
				t.Errorf("%v: it ended with %v", signal, status)
			}
		case <-time.After(mostWait):
			cmd.Process.Kill()
			t.Errorf("it is deaf to %v", signal)
		}
	}
}
