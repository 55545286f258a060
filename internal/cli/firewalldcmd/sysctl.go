package firewalldcmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sysctlDir is where the kernel has its settings as files.
const sysctlDir = "/proc/sys"

// sysctl sets a kernel's setting under a folder, such as net.ipv4.ip_forward, and returns the value before; "" for a value
// only reads. A setting that has the value is not written.
func sysctl(dir, name, value string) (was string, err error) {
	path := filepath.Join(dir, strings.ReplaceAll(name, ".", "/"))
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", name, err)
	}
	was = strings.TrimSpace(string(data))
	if value == "" || value == was {
		return was, nil
	}
	if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("cannot set %s to %s: %w", name, value, err)
	}
	return was, nil
}
