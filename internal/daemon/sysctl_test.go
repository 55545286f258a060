package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/zones"
)

// setting is net.ipv4.ip_no_pmtu_disc of no machine.
type setting struct {
	value  string
	refuse error
}

func (s *setting) sysctl(name, value string) (string, error) {
	was := s.value
	if name != "net.ipv4.ip_no_pmtu_disc" {
		return "", errors.New("nothing asks for " + name)
	}
	if value != "" && s.refuse != nil {
		return "", s.refuse
	}
	if value != "" {
		s.value = value
	}
	return was, nil
}

// startWith starts a daemon that finds a value of the setting.
func startWith(t *testing.T, s *setting, files map[string]string) *bed {
	return startOn(t, s.sysctl, files)
}

// startOn starts a daemon over a kernel's settings.
func startOn(t *testing.T, sysctl func(name, value string) (string, error), files map[string]string) *bed {
	t.Helper()
	b := &bed{kernel: &fakeKernel{}, dir: t.TempDir()}
	b.write(t, files)
	b.Daemon = New(Options{
		Dirs: zones.Dirs{System: b.dir}, Log: slog.New(slog.NewTextHandler(&b.log, nil)), Sysctl: sysctl,
		Kernel: func(ir.Backend) (kernel.Kernel, error) { return b.kernel, nil },
	})
	if err := b.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return b
}

// own is a folder with one setting in richwall.conf.
func own(value string) map[string]string {
	return map[string]string{"richwall.conf": "IPNoPMTUDisc=" + value + "\n"}
}

// IPNoPMTUDisc holds while the daemon runs, over reloads that change it, and leaves what was there.
func TestIPNoPMTUDisc(t *testing.T) {
	for _, before := range []string{"0", "1", "3"} {
		s := &setting{value: before}
		b := startWith(t, s, own("keep"))
		got := []string{s.value}
		for _, value := range []string{"yes", "no", "keep", "yes", "keep", "no", "yes"} {
			b.write(t, own(value))
			if err := b.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
			got = append(got, s.value)
		}
		if want := []string{before, "1", "0", before, "1", before, "0", "1"}; !slices.Equal(got, want) {
			t.Errorf("at first %s: got %v, want %v", before, got, want)
		}
		if err := b.Stop(context.Background()); err != nil || s.value != before {
			t.Errorf("after the end it is %s, want %s; %v", s.value, before, err)
		}
	}
}

// A configuration that does not come into the kernel does not change its settings either.
func TestIPNoPMTUDiscNeedsACommit(t *testing.T) {
	s := &setting{value: "0"}
	b := startWith(t, s, own("keep"))
	b.write(t, own("yes"))
	b.kernel.refuse = errors.New("no memory")
	if b.Reload(context.Background()) == nil || s.value != "0" {
		t.Errorf("the setting is %s", s.value)
	}
}

// A setting that cannot be made leaves the firewall as the configuration has it, and nothing to put back.
func TestIPNoPMTUDiscRefused(t *testing.T) {
	s := &setting{value: "0", refuse: errors.New("read-only")}
	b := startWith(t, s, own("yes"))
	if b.Snapshot().State != Running || b.kernel.commits != 1 {
		t.Error("the firewall is not in the kernel")
	}
	s.refuse = nil
	if err := b.Reload(context.Background()); err != nil || s.value != "1" {
		t.Errorf("the next reload leaves it at %s; %v", s.value, err)
	}
	s.value = "2"
	if err := b.Stop(context.Background()); err != nil || s.value != "2" {
		t.Errorf("what somebody else has set since is %s, want 2; %v", s.value, err)
	}
}
