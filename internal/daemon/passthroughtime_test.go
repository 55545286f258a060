package daemon

import (
	"context"
	"testing"
	"time"
)

// A passthrough has its whole minute, however long another change has kept it from beginning.
func TestPassthroughHasItsTimeBehindAnotherChange(t *testing.T) {
	d, _, _ := startWatched(t, "")
	deadlines := make(chan time.Time, 1)
	d.opt.Passthrough = func(ctx context.Context, _ string, _ []string, _ func(pid int)) (string, error) {
		deadline, _ := ctx.Deadline()
		deadlines <- deadline
		return "", nil
	}
	d.mu.Lock() // another change
	done := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		close(begun)
		_, err := d.Passthrough(context.Background(), "ipv4", []string{"-S"})
		done <- err
	}()
	<-begun
	time.Sleep(200 * time.Millisecond) // so that it waits for the other change
	ended := time.Now()
	d.mu.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if deadline := <-deadlines; deadline.Before(ended.Add(passthroughTime)) {
		t.Errorf("it has %v from the end of the other change, want %v", deadline.Sub(ended), passthroughTime)
	}
}
