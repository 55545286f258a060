package firewallcmd

import (
	goflag "flag"
	"os"
	"path/filepath"
	"testing"
)

var update = goflag.Bool("update", false, "write the manual pages and completions that the table of options makes")

// generated compares a file of packaging with what it should be, or writes it with -update.
func generated(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join("..", "..", "..", "packaging", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; to make it, run: go test ./internal/cli/firewallcmd -update", err)
	}
	if string(have) != want {
		t.Errorf("packaging/%s is not what the table of options says; to make it so, run: go test ./internal/cli/firewallcmd -update", name)
	}
}
