package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Only a folder has names that can be waited for. Anything else is an error, and is not waited for.
func TestSyncFolder(t *testing.T) {
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{dir: nil, file: syscall.ENOTDIR, pipe: syscall.ENOTDIR, filepath.Join(dir, "nosuch"): fs.ErrNotExist} {
		if err := SyncFolder(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}
