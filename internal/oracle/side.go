package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// What firewalld has on the bus.
const (
	busName   = "org.fedoraproject.FirewallD1"
	busPath   = "/org/fedoraproject/FirewallD1"
	stateName = "org.freedesktop.DBus.Properties.Get"
)

// longest is how long one step may take. It is far longer than the slowest of the reference, so that nothing hangs.
const longest = 5 * time.Minute

//go:embed agent.py
var agent []byte

// busConfig is a bus on which everybody may do everything. DIR is the folder of its socket.
const busConfig = `<busconfig><type>system</type><listen>unix:path=DIR/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
<allow send_type="method_return"/><allow send_type="error"/><allow receive_type="method_call"/><allow receive_type="signal"/>
<allow receive_type="method_return"/><allow receive_type="error"/></policy></busconfig>`

// setup makes the namespaces that it runs in one side's: its folder $1 appears as $2, which is the same on both sides, so that
// both name the same paths. Nothing may load or unload modules of the machine's kernel.
const setup = `set -e
mount --make-rprivate /
mkdir -p "$2"
mount --bind "$1" "$2"
mount -t tmpfs tmpfs /run
for program in modprobe rmmod; do for folder in /sbin /usr/sbin /bin /usr/bin; do
	[ ! -e $folder/$program ] || mount --bind /bin/true $folder/$program
done; done
ip link set lo up
dbus-daemon --config-file="$2/bus.conf" --fork
shift 2
exec python3 "$@"`

// programs are one implementation's: each the words before its arguments.
type programs struct {
	name                    string
	daemon, client, offline []string
	scripts                 []string // those of them that are written in Python
	environment             []string
	own                     string // its richwall.conf, or empty
}

// side is one implementation at work: namespaces, a bus, a configuration folder, and at most one daemon.
type side struct {
	programs
	outside string // the folder of its files
	inside  string // the same folder, as the programs see it
	agent   *exec.Cmd
	output  bytes.Buffer // of the agent
	conn    *dbus.Conn
	pid     int                      // of the daemon, 0 if none runs
	spent   map[string]time.Duration // on what
}

// clock begins to measure the time that something takes, until what it returns is called.
func (s *side) clock(what string) func() {
	began := time.Now()
	return func() { s.spent[what] += time.Since(began) }
}

// newSide makes a side in a folder that it makes; inside is where its programs see it.
func newSide(ctx context.Context, p programs, outside, inside string) (*side, error) {
	s := &side{programs: p, outside: outside, inside: inside, spent: map[string]time.Duration{}}
	for name, text := range map[string]string{"agent.py": string(agent), "bus.conf": strings.ReplaceAll(busConfig, "DIR", inside)} {
		if err := os.MkdirAll(outside, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(outside, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	words := []string{"--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "sh", "-c", setup, "sh", outside, inside,
		inside + "/agent.py", inside + "/agent"}
	s.agent = exec.CommandContext(ctx, "unshare", append(words, p.scripts...)...)
	s.agent.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+inside+"/bus")
	s.agent.Env = append(s.agent.Env, p.environment...)
	s.agent.Stdout, s.agent.Stderr = &s.output, &s.output
	s.agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := s.agent.Start(); err != nil {
		return nil, err
	}
	err := poll(time.Minute, func() error {
		if _, err := os.Stat(outside + "/agent"); err != nil {
			return err
		}
		conn, err := dbus.Connect("unix:path=" + outside + "/bus")
		s.conn = conn
		return err
	})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("cannot make the namespaces of %s: %w\n%s", p.name, err, s.output.String())
	}
	return s, nil
}

// poll tries until there is no error or so long has passed.
func poll(long time.Duration, try func() error) error {
	for until := time.Now().Add(long); ; time.Sleep(5 * time.Millisecond) {
		err := try()
		if err == nil || time.Now().After(until) {
			return err
		}
	}
}

// close ends everything in the namespaces, and them.
func (s *side) close() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.agent.Process.Kill()
	s.agent.Wait()
}

// ask sends a request to the agent.
func (s *side) ask(request map[string]any) (answer struct {
	Exit           *int
	Pid            int
	Stdout, Stderr string
}, err error) {
	conn, err := net.Dial("unix", s.outside+"/agent")
	if err != nil {
		return answer, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(longest))
	text, err := json.Marshal(request)
	if err != nil {
		return answer, err
	}
	if _, err := conn.Write(append(text, '\n')); err != nil {
		return answer, err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return answer, fmt.Errorf("%s does not end within %v: %v: %w", s.name, longest, request, err)
	}
	return answer, json.Unmarshal(line, &answer)
}

// outcome is what came of a step: lines that both sides should have alike.
type outcome struct {
	Exit           int
	Stdout, Stderr string
	sorted         string // the output with what has no order in one
}

// run runs a program and waits for its end.
func (s *side) run(words ...string) (outcome, error) {
	answer, err := s.ask(map[string]any{"argv": words, "dir": s.inside})
	if err != nil {
		return outcome{}, err
	}
	return outcome{*answer.Exit, answer.Stdout, answer.Stderr, sortedListing(words, answer.Stdout)}, nil
}

// start starts the daemon and waits until it says that it runs, or has failed.
func (s *side) start() error {
	defer s.clock("start")()
	etc := s.inside + "/etc"
	words := append(append([]string{}, s.daemon...), "--nofork", "--nopid", "--system-config", etc, "--log-file", s.inside+"/log", "--log-target", "file")
	answer, err := s.ask(map[string]any{"argv": words, "dir": "/", "out": s.inside + "/output"})
	if err != nil {
		return err
	}
	s.pid = answer.Pid
	err = poll(longest, func() error {
		ended, err := s.ask(map[string]any{"wait": s.pid})
		if err != nil || ended.Exit != nil {
			s.pid = 0
			return nil
		}
		var state string
		if err := s.conn.Object(busName, busPath).Call(stateName, 0, busName, "state").Store(&state); err != nil {
			return err
		}
		if state != "RUNNING" && state != "FAILED" {
			return fmt.Errorf("its state is %s", state)
		}
		return nil
	})
	if s.pid == 0 {
		return fmt.Errorf("the daemon of %s has ended:\n%s", s.name, s.tail("output"))
	}
	return err
}

// tail is the end of a file, for an error.
func (s *side) tail(name string) string {
	text, _ := os.ReadFile(filepath.Join(s.outside, name)) // none says nothing
	return string(text[max(0, len(text)-2000):])
}

// stop ends the daemon, if one runs.
func (s *side) stop() error {
	if s.pid == 0 {
		return nil
	}
	pid := s.pid
	s.pid = 0
	answer, err := s.ask(map[string]any{"wait": pid, "signal": int(unix.SIGTERM), "seconds": 60})
	if err == nil && answer.Exit == nil {
		_, err = s.ask(map[string]any{"wait": pid, "signal": int(unix.SIGKILL), "seconds": 60})
		err = errors.Join(err, fmt.Errorf("the daemon of %s did not end on SIGTERM", s.name))
	}
	return err
}

// clean puts the kernel's settings back to what a new namespace has. iptables is nftables' here, and goes with its rules.
const clean = `nft flush ruleset
ipset destroy
for family in ipv4/conf/all/rp_filter=0 ipv4/ip_forward=0 ipv6/conf/all/forwarding=0 ipv4/ip_no_pmtu_disc=0; do echo ${family#*=} >/proc/sys/net/${family%=*}; done
for link in $(ip -o link show type veth | sed 's/[^ ]* \([^@:]*\).*/\1/'); do ip link del $link 2>/dev/null; done
for link in $*; do ip link add $link type veth peer name peer-$link; ip link set $link up; done`

// folders are those of the kinds of objects, all of which a configuration has.
var folders = []string{"zones", "policies", "services", "ipsets", "helpers", "icmptypes"}

// reset ends the daemon, and begins again with these files, and with these links.
func (s *side) reset(files map[string]string, links []string) error {
	defer s.clock("reset")()
	if err := s.stop(); err != nil {
		return err
	}
	for _, name := range []string{"etc", "state", "log", "output"} {
		if err := os.RemoveAll(filepath.Join(s.outside, name)); err != nil {
			return err
		}
	}
	if got, err := s.run(append([]string{"sh", "-c", clean, "sh"}, links...)...); err != nil || got.Exit != 0 && !strings.Contains(got.Stderr, "No such") {
		return errors.Join(err, fmt.Errorf("cannot clean the namespace: %s", got.Stderr))
	}
	for _, folder := range folders {
		if err := os.MkdirAll(filepath.Join(s.outside, "etc", folder), 0o755); err != nil {
			return err
		}
	}
	if s.own != "" {
		if err := os.WriteFile(filepath.Join(s.outside, "etc/richwall.conf"), []byte(s.own), 0o644); err != nil {
			return err
		}
	}
	for name, text := range files {
		mode := fs.FileMode(0o644)
		if name == "firewalld.conf" {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(s.outside, "etc", name), []byte(text), mode); err != nil {
			return err
		}
	}
	return nil
}

// files are the configuration's files and their modes; what is kept of earlier ones does not count.
func (s *side) files(into map[string][]string) error {
	root := filepath.Join(s.outside, "etc")
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if ext := filepath.Ext(name); ext == ".old" || ext == ".bak" || name == "richwall.conf" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		into["file "+name] = elementsOf(strings.Split(strings.TrimRight(string(text), "\n"), "\n"))
		into["mode "+name] = []string{info.Mode().String()}
		return nil
	})
}
